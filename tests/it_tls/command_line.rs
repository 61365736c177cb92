//! Commands over TLS: to the public listener, and to the admin API behind a proxy.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::support::{Server, Site};

const CONFIGURATION: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\nshards = 1\n\
    [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
    [admin]\nlisten = \"127.0.0.1:0\"\n[store]\ndata_dir = \"ringmesh-data\"\n\
    [[apps]]\nid = \"app\"\n[[apps.keys]]\nid = \"pk_live_app\"\n\
    channel_patterns = [\"**\"]\nactions = [\"subscribe\", \"publish\"]\n";

fn ringmesh(directory: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmesh"));
    command
        .args(words.split_whitespace())
        .current_dir(directory)
        .env("HOME", directory)
        .env_remove("XDG_CONFIG_HOME");
    command
}

fn run(directory: &Path, words: &str) -> Output {
    ringmesh(directory, words).output().unwrap()
}

/// The command failed with this code, and one line that has these parts.
#[track_caller]
fn check_failure(output: &Output, exit_code: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit_code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

fn site_for(names: &[&str]) -> (Site, Server) {
    let mut site = Site::new(&PKCS_ECDSA_P256_SHA256);
    site.renew_for(names, &PKCS_ECDSA_P256_SHA256);
    site.write("ringmesh.toml", CONFIGURATION);
    let mut command = ringmesh(site.dir.path(), "serve");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let server = Server::start(command);
    (site, server)
}

#[test]
fn pub_and_sub_speak_tls() {
    let (site, server) = site_for(&["127.0.0.1", "localhost"]);
    let at = site.dir.path();
    let mut sub = ringmesh(
        at,
        "sub room --key pk_live_app --ca cert.pem --count 1 --json",
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut note = String::new();
    let mut notes = BufReader::new(sub.stderr.take().unwrap());
    notes.read_line(&mut note).unwrap();
    assert_eq!(note, "subscribed to room\n");
    let url = format!("wss://localhost:{}", server.address.port());
    let publish = format!("pub room it-works --key pk_live_app --ca cert.pem --url {url}");
    let output = run(at, &publish);
    assert!(output.status.success(), "{output:?}");
    let output = sub.wait_with_output().unwrap();
    let message: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(message["data"], "it-works");
}

#[test]
fn certificates_that_are_not_good_are_refused_with_a_remedy() {
    let (site, server) = site_for(&["rt.example"]);
    let at = site.dir.path();
    let to_itself = "pub room 1 --key pk_live_app";
    // That of another site.
    let other = Site::new(&PKCS_ECDSA_P256_SHA256);
    let ca = other.dir.path().join("cert.pem");
    let output = run(at, &format!("{to_itself} --ca {}", ca.display()));
    check_failure(
        &output,
        1,
        &["is not trusted: none of the certificates in ", " with --ca"],
    );
    let output = run(at, &format!("{to_itself} --ca cert.pem"));
    check_failure(&output, 1, &["is not trusted: ", "set server.public_url"]);
    let plain = format!("ws://{}", server.address);
    let output = run(at, &format!("{to_itself} --url {plain}"));
    check_failure(&output, 4, &["if it speaks TLS, say wss://"]);
    let output = run(at, &format!("{to_itself} --ca key.pem"));
    check_failure(&output, 2, &["--ca: key.pem: "]);
    let output = run(at, &format!("{to_itself} --ca none.pem"));
    check_failure(&output, 2, &["--ca: none.pem: "]);
}

#[test]
fn the_public_url_is_where_clients_are_told_to_connect() {
    let mut site = Site::new(&PKCS_ECDSA_P256_SHA256);
    site.renew_for(&["rt.example"], &PKCS_ECDSA_P256_SHA256);
    let at = site.dir.path().to_owned();
    let write = |url: &str| {
        let set = format!("[server]\npublic_url = {url:?}\n");
        site.write(
            "ringmesh.toml",
            &CONFIGURATION.replacen("[server]\n", &set, 1),
        );
    };
    for (url, expected) in [
        (
            "wss://rt.example",
            "it is for rt.example, where clients connect",
        ),
        (
            "https://other.example",
            "it is not for other.example, the host of server.public_url",
        ),
        ("ws://rt.example", "ws://rt.example is without TLS"),
    ] {
        write(url);
        let output = run(&at, "check");
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(report.contains(expected), "{report}");
        let is_good = expected.starts_with("it is for");
        assert_eq!(
            output.status.code(),
            Some(if is_good { 0 } else { 2 }),
            "{report}"
        );
    }
    write("wss://rt.example/v1");
    check_failure(
        &run(&at, "serve -q"),
        2,
        &["server.public_url", "such as wss://rt.example.com"],
    );
    write("https://rt.example:8443");
    let mut command = ringmesh(&at, "serve");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let _server = Server::start(command);
    let told = String::from_utf8(run(&at, "stats -v").stderr).unwrap();
    assert!(
        told.contains("its clients connect to wss://rt.example:8443\n"),
        "{told}"
    );
}

#[test]
fn the_admin_api_is_spoken_to_behind_a_proxy_with_tls() {
    let (site, _server) = site_for(&["127.0.0.1"]);
    let at = site.dir.path();
    let run_file = fs::read(at.join("ringmesh-data/run.json")).unwrap();
    let run_file: Value = serde_json::from_slice(&run_file).unwrap();
    let admin = run_file["adminUrl"].as_str().unwrap();
    let admin = admin.strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = proxy(at, admin);
    let words = "app list --admin-token-file ringmesh-data/admin.token";
    let words = format!("{words} --admin-url https://{proxy}");
    let output = run(at, &format!("{words} --json --ca cert.pem"));
    assert!(output.status.success(), "{output:?}");
    let apps: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(apps["apps"][0]["appId"], "app");

    let other = Site::new(&PKCS_ECDSA_P256_SHA256);
    let ca = other.dir.path().join("cert.pem");
    let output = run(at, &format!("{words} --ca {}", ca.display()));
    check_failure(&output, 1, &["is not trusted: ", " with --ca"]);
}

/// A proxy with the certificate of that directory, for one request a connection.
fn proxy(directory: &Path, to: SocketAddr) -> SocketAddr {
    let chain = CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A client that does not trust it goes away.
            let _ = pass_on(client, to, &config);
        }
    });
    address
}

fn pass_on(client: TcpStream, to: SocketAddr, config: &Arc<ServerConfig>) -> std::io::Result<()> {
    let connection = ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
    let mut client = BufReader::new(StreamOwned::new(connection, client));
    let mut server = TcpStream::connect(to)?;
    let mut line = String::new();
    // A GET has a head only. Its end asks for the end of the connection.
    while client.read_line(&mut line)? > 2 {
        server.write_all(line.as_bytes())?;
        line.clear();
    }
    server.write_all(b"Connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    client.get_mut().write_all(&answer)?;
    client.get_mut().flush()
}

/// What `openssl req -x509` makes: it signs itself, and is marked as that of a CA.
#[test]
fn a_certificate_that_is_marked_as_a_ca_is_refused_in_words() {
    let mut site = Site::new(&PKCS_ECDSA_P256_SHA256);
    site.renew_as_ca(&["127.0.0.1"], &PKCS_ECDSA_P256_SHA256);
    site.write("ringmesh.toml", CONFIGURATION);
    let at = site.dir.path();
    let mut command = ringmesh(at, "serve");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let _server = Server::start(command);
    for ca in ["--ca cert.pem", ""] {
        let output = run(at, &format!("pub room 1 --key pk_live_app {ca}"));
        let parts = [
            "it is marked as that of a CA",
            "basicConstraints=critical,CA:FALSE",
        ];
        check_failure(&output, 1, &parts);
    }
}
