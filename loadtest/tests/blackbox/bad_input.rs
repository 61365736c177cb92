//! Everything that may be wrong around a run: one line that says so, an exit code, no figures and
//! no files.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;

use crate::support::{Fault, harness, serve, serve_tls, url};

/// Files that a run is asked to write.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("temporary folder"))
    }

    fn path(&self, name: &str) -> String {
        let path = self.0.path().join(name);
        path.to_str().expect("UTF-8").to_owned()
    }

    fn arguments(&self) -> [String; 4] {
        let (json, report) = (self.path("r.json"), self.path("r.html"));
        ["--json".into(), json, "--report".into(), report]
    }

    fn exist(&self) -> bool {
        ["r.json", "r.html"]
            .iter()
            .any(|name| Path::new(&self.path(name)).exists())
    }
}

/// One line with `cause` on standard error, this exit code, no file.
fn check_output(output: &Output, files: &Files, code: i32, cause: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{cause}: {errors}");
    assert!(errors.contains(cause), "{cause}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(!files.exist(), "{cause}: a broken run left a file");
}

/// The same for a run with these arguments, which must print no figures either.
fn check(arguments: &[&str], code: i32, cause: &str) {
    let files = Files::new();
    let mut command = harness();
    command
        .args(["--duration", "0.3", "--warmup", "0"])
        .args(arguments)
        .args(files.arguments());
    let output = command.output().expect("the executable runs");
    check_output(&output, &files, code, cause);
    assert!(
        output.stdout.is_empty(),
        "{cause}: a broken run printed figures"
    );
}

/// A port that refuses connections as long as the socket lives: bound, and not listening.
fn refusing_port() -> (OwnedFd, u16) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    bind(&socket, &any).expect("a free port");
    let address = getsockname(&socket).expect("bound");
    let address = SocketAddr::try_from(address).expect("an internet address");
    (socket, address.port())
}

/// A web server that knows nothing: it answers 404 with a page of several lines.
fn web_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepted");
            let _ = stream.read(&mut [0; 2048]);
            let page = "<html>\r\n<h1>Not here</h1>\r\n</html>\r\n";
            let bytes = page.len();
            let _ = write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Length: {bytes}\r\n\r\n{page}"
            );
        }
    });
    port
}

/// A server with a fresh self-signed certificate, and the file that holds it.
fn tls_server(files: &Files) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".into()]);
    let made = made.expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of the provider")
        .with_no_client_auth();
    let config = builder
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they fit");
    let file = files.path("cert.pem");
    std::fs::write(&file, made.cert.pem()).expect("written");
    (serve_tls(Arc::new(config)).port, file)
}

#[test]
fn a_wrong_url_is_named() {
    check(
        &["--url", "http://127.0.0.1", "fanout"],
        2,
        "the scheme must be ws or wss",
    );
    check(
        &["--url", "ws://no-such-host.invalid", "fanout"],
        1,
        "no-such-host.invalid:80",
    );
    let (_socket, port) = refusing_port();
    check(
        &["--url", &url("ws", port), "fanout"],
        1,
        "Connection refused",
    );
    let web = url("ws", web_server());
    check(
        &["--url", &web, "fanout"],
        1,
        "HTTP 404: <html> <h1>Not here</h1> </html>; check the",
    );
    check(&["--url", &web, "--api-secret", "x", "rest"], 1, "HTTP 404");
}

#[test]
fn a_mix_up_of_tls_and_plain_is_named() {
    let files = Files::new();
    let plain = serve(Fault::None).port;
    check(
        &["--url", &url("wss", plain), "--insecure", "fanout"],
        1,
        "its answer is not TLS",
    );
    let (port, _) = tls_server(&files);
    check(
        &["--url", &url("ws", port), "fanout"],
        1,
        "it speaks TLS; use wss://",
    );
}

#[test]
fn a_certificate_is_believed_only_as_told() {
    let files = Files::new();
    let (port, certificate) = tls_server(&files);
    let wss = url("wss", port);
    check(&["--url", &wss, "fanout"], 1, "certificate is not trusted");
    let absent = files.path("absent.pem");
    check(
        &["--url", &wss, "--insecure-ca", &absent, "fanout"],
        1,
        "No such file",
    );
    let others = Files::new();
    let (_, other) = tls_server(&others);
    let wrong = ["--url", &wss, "--insecure-ca", &other, "fanout"];
    check(&wrong, 1, "certificate is not trusted");
    for trust in [&["--insecure"][..], &["--insecure-ca", &certificate]] {
        let small = ["fanout", "--subscribers", "3", "--rate", "50"];
        let output = harness()
            .args(["--duration", "0.3", "--warmup", "0", "--url", &wss])
            .args(trust)
            .args(small)
            .output()
            .expect("the executable runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{trust:?}: {errors}");
    }
}

#[test]
fn a_credential_that_is_missing_or_refused_is_named() {
    let refusing = url("ws", serve(Fault::Refuses).port);
    check(&["--url", &refusing, "fanout"], 1, "HTTP 401");
    let output = Command::new(env!("CARGO_BIN_EXE_ringmesh-loadtest"))
        .env_remove("RINGMESH_KEY")
        .env_remove("RINGMESH_TOKEN_SECRET")
        .args(["--url", &refusing, "fanout"])
        .output()
        .expect("the executable runs");
    check_output(&output, &Files::new(), 2, "give --key PK or --token-secret");
    check(&["--url", &refusing, "rest"], 2, "--api-secret");
}

#[test]
fn too_few_descriptors_are_counted() {
    let files = Files::new();
    let script = "ulimit -n 64; exec \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_ringmesh-loadtest")])
        .args([
            "--quiet",
            "--key",
            "pk_live_test",
            "fanout",
            "--subscribers",
            "10",
        ])
        .args(files.arguments())
        .output()
        .expect("a shell");
    check_output(
        &output,
        &files,
        1,
        "needs 75 file descriptors and the hard limit is 64",
    );
}

#[test]
fn a_wrong_scenario_is_named_with_its_file() {
    let files = Files::new();
    let path = files.path("s.toml");
    let scenario = ["--scenario", &path];
    check(&scenario, 1, "s.toml: No such file");
    std::fs::write(
        &path,
        "[[run]]\nname = 'a'\nworkload = 'idle'\nconections = 3\n",
    )
    .expect("disk");
    check(
        &scenario,
        1,
        "s.toml: run \"a\": unexpected argument '--conections'",
    );
    std::fs::write(&path, "title = 't'\n[[run]\n").expect("disk");
    check(&scenario, 1, "s.toml: line 2");
}

#[test]
fn impossible_options_are_named() {
    check(&["fanout", "--channels", "0"], 2, "at least one channel");
    check(&["fanout", "--subscribers", "x"], 2, "'x'");
    check(&["fanuot"], 2, "'fanuot'");
    let absurd = [
        "fanout",
        "--channels",
        "4000000000",
        "--publishers",
        "4000000000",
    ];
    check(&absurd, 1, "file descriptors");
    check(&["--cores", "99999", "fanout"], 2, "--cores 99999");
    check(
        &["--server-pid", "4294967294", "fanout"],
        1,
        "no such process",
    );
}

/// Found out before the run, not after an hour of it.
#[test]
fn a_file_that_cannot_be_written_is_named_before_the_run() {
    let output = harness()
        .args(["fanout", "--json", "/no-such-folder/r.json"])
        .output()
        .expect("the executable runs");
    check_output(
        &output,
        &Files::new(),
        1,
        "/no-such-folder/r.json: No such file",
    );
}

/// Runs until the server tells, then does `what` with the pid of the harness.
fn interfere(
    fault: Fault,
    extra: &[&str],
    code: i32,
    cause: &str,
    what: impl FnOnce(Pid),
) -> String {
    let files = Files::new();
    let server = serve(fault);
    let child = harness()
        .args([
            "--duration",
            "600",
            "--warmup",
            "0",
            "--url",
            &url("ws", server.port),
        ])
        .args(["fanout", "--subscribers", "10", "--rate", "200"])
        .args(extra)
        .args(files.arguments())
        .spawn()
        .expect("the executable runs");
    server.reached.recv().expect("the load began");
    what(Pid::from_child(&child));
    let output = child.wait_with_output().expect("it ends");
    check_output(&output, &files, code, cause);
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn an_interrupted_measurement_is_shown_as_such_and_leaves_no_file() {
    for signal in [Signal::INT, Signal::TERM] {
        let interrupt = |pid| kill_process(pid, signal).expect("it runs");
        let shown = interfere(
            Fault::None,
            &[],
            130,
            "interrupted: the figures above",
            interrupt,
        );
        assert!(shown.contains("note: interrupted after"), "{shown}");
        assert!(shown.contains("each once, in order"), "{shown}");
    }
}

#[test]
fn an_interrupted_setup_shows_nothing() {
    let interrupt = |pid| kill_process(pid, Signal::INT).expect("it runs");
    let cause = "interrupted: nothing had been measured";
    let shown = interfere(Fault::Ignores, &[], 130, cause, interrupt);
    assert_eq!(shown, "");
}

#[test]
fn a_server_process_that_is_killed_ends_the_run() {
    let mut server = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep");
    let pid = server.id().to_string();
    let kill = |_| {
        server.kill().expect("it runs");
        server.wait().expect("it ends");
    };
    let cause = format!("--server-pid {pid}: ");
    let shown = interfere(Fault::None, &["--server-pid", &pid], 1, &cause, kill);
    assert_eq!(shown, "");
}
