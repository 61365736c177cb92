//! What a server says that cannot start: one line with cause and remedy, and the exit code.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::server::{Server, ringmesh};
use crate::support::setup::{Setup, signer};

/// The command fails with this code. Returns the one line it wrote to standard error, logs of
/// its start aside.
#[track_caller]
fn failure(mut command: Command, code: i32) -> String {
    let output = command
        .env("RUST_BACKTRACE", "full")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(output.stdout.is_empty(), "{errors}");
    for trace in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
        assert!(!errors.contains(trace), "{errors}");
    }
    let lines: Vec<&str> = errors
        .lines()
        .filter(|line| !line.starts_with('{'))
        .collect();
    let [line] = lines[..] else {
        panic!("not one line: {errors}");
    };
    line.strip_prefix("ringmesh: ")
        .unwrap_or_else(|| panic!("{line}"))
        .to_owned()
}

fn serve(setup: &Setup) -> Command {
    let mut command = ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    command
}

#[track_caller]
fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[test]
fn a_configuration_is_refused_with_file_line_and_key() {
    for (text, place, parts) in [
        (
            "[limits]\nmesage_rate = 1\n",
            ":2: limits.mesage_rate: ",
            &["message_rate"][..],
        ),
        ("[limitz]\n", ":1: limitz: ", &["limits"]),
        (
            "\n\nserver.shards = \"many\"\n",
            ":3: server.shards: ",
            &["auto", "many"],
        ),
        (
            "[server]\nlisten = 8080\n",
            ":2: server.listen: ",
            &["address"],
        ),
        ("[server]\nshards = 0\n", ":2: server.shards: ", &["1"]),
        (
            "[limits]\nping_after_ms = -5\n",
            ":2: limits.ping_after_ms: ",
            &["-5"],
        ),
        (
            "[limits]\nping_after_ms = 500\ndrop_after_ms = 400\n",
            ": limits.",
            &["drop_after_ms", "400", "500"],
        ),
        ("[server]\nlisten = [\n", ":", &["not TOML"]),
        (
            "[[apps]]\nid = \"a\"\n[[apps.keys]]\nid = \"pk_live_x\"\n\
             channel_patterns = [\"a\\\\\"]\nactions = []\n",
            ":5: apps.keys.channel_patterns: ",
            &[],
        ),
    ] {
        let setup = Setup::new(1);
        let path = setup.dir().join("bad.toml");
        std::fs::write(&path, text).unwrap();
        let mut command = ringmesh();
        command.arg("serve").arg("--config").arg(&path);
        let line = failure(command, 2);
        let (file, _) = line.split_at(path.as_os_str().len());
        assert_eq!(file, path.to_str().unwrap(), "{line}");
        assert_says(&line, &[place]);
        assert_says(&line, parts);
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let mut command = ringmesh();
    command.args(["serve", "--config", "/nonexistent/ringmesh.toml"]);
    assert_says(
        &failure(command, 2),
        &["/nonexistent/ringmesh.toml", "permissions"],
    );
    let setup = Setup::new(1);
    let mut command = serve(&setup);
    command.env("RINGMESH_LIMITS__MESSAGE_RATE", "fast");
    assert_says(
        &failure(command, 2),
        &["RINGMESH_LIMITS__MESSAGE_RATE", "fast"],
    );
}

#[test]
fn a_variable_that_is_spelled_wrong_is_named() {
    let setup = Setup::new(1);
    let mut command = serve(&setup);
    command.env("RINGMESH_SERVER_SHARDS", "2");
    assert_says(
        &failure(command, 2),
        &["RINGMESH_SERVER_SHARDS", "RINGMESH_SERVER__SHARDS"],
    );
    let mut command = serve(&setup);
    command.env("RINGMESH_SERVER_SHRADS", "2");
    let server = Server::start(command, setup);
    server.log.find("the warning", |line| {
        let names = ["RINGMESH_SERVER_SHRADS", "RINGMESH_SERVER__SHARDS?"];
        names.iter().all(|name| line.contains(name)).then_some(())
    });
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for shards in [1, 2] {
        let setup = Setup::new(shards).set("server.listen", format!("[{address:?}]"));
        assert_says(&failure(serve(&setup), 1), &[&address, "server.listen"]);
    }
    let setup = Setup::new(1).set("admin.listen", format!("{address:?}"));
    assert_says(&failure(serve(&setup), 1), &[&address, "admin.listen"]);
    // Another ringmesh on the port is another program, although its listeners can be shared.
    let other = Setup::new(2).start();
    let address = other.public.to_string();
    let setup = Setup::new(2).set("server.listen", format!("[{address:?}]"));
    assert_says(&failure(serve(&setup), 1), &[&address]);
    other.anonymous();
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let setup = Setup::new(1).set("server.listen", r#"["192.0.2.1:8080"]"#);
    assert_says(
        &failure(serve(&setup), 1),
        &["192.0.2.1:8080", "server.listen"],
    );
}

#[test]
fn too_little_memlock_is_told_with_what_is_needed() {
    let setup = Setup::new(1);
    // What root locks is not counted, unless it has given up the right to that.
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    command.args(["-c", "ulimit -l 64 && exec \"$0\" serve --config \"$1\""]);
    command
        .arg(env!("CARGO_BIN_EXE_ringmesh"))
        .arg(setup.config());
    assert_says(
        &failure(command, 1),
        &["64 KiB", "ulimit -l", "LimitMEMLOCK"],
    );
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    // Below a file nobody can make a directory, not even root.
    let setup = Setup::new(1).set("store.data_dir", r#""signing.secret/data""#);
    assert_says(
        &failure(serve(&setup), 1),
        &["signing.secret/data", "store.data_dir"],
    );
    let setup = Setup::new(1)
        .write("file", "")
        .set("store.data_dir", r#""file""#);
    assert_says(&failure(serve(&setup), 1), &["/file", "store.data_dir"]);
}

#[test]
fn a_store_is_opened_once() {
    let server = Setup::new(1).start();
    let data = server.dir().join("data");
    let setup = Setup::new(1).set("store.data_dir", format!("{data:?}"));
    let line = failure(serve(&setup), 1);
    assert_says(&line, &[data.to_str().unwrap(), "in use", "store.data_dir"]);
    server.anonymous();
}

#[test]
fn a_history_is_opened_once_whatever_leads_to_it() {
    let kept = |setup: Setup| {
        let rule = r#"history = [{ pattern = "d/**", store = "disk" }]"#;
        setup.app(&format!("app_h\n{rule}"), &[signer("sk_id_h")])
    };
    let mut server = kept(Setup::new(1)).start();
    let setup = kept(Setup::new(1));
    let data = setup.dir().join("data");
    std::fs::create_dir(&data).unwrap();
    let link = data.join("history");
    symlink(server.dir().join("data/history"), &link).unwrap();
    let line = failure(serve(&setup), 1);
    assert_says(
        &line,
        &[link.to_str().unwrap(), "in use by another ringmesh process"],
    );
    // Whoever was killed has let go of it.
    server.signal(Signal::KILL);
    server.exit_status();
    setup.start();
}

#[test]
fn a_damaged_store_is_refused_and_left_alone() {
    let setup = Setup::new(1);
    let data = setup.dir().join("data");
    std::fs::create_dir(&data).unwrap();
    let store = data.join("store.redb");
    for content in [&b""[..], b"not a store", &[0; 8_192]] {
        std::fs::write(&store, content).unwrap();
        assert_says(
            &failure(serve(&setup), 1),
            &["store.redb", "damaged", "backup"],
        );
        assert_eq!(std::fs::read(&store).unwrap(), content);
    }
}

#[test]
fn secrets_that_are_not_there_are_named() {
    let setup = Setup::new(1);
    std::fs::remove_file(setup.dir().join("signing.secret")).unwrap();
    assert_says(
        &failure(serve(&setup), 2),
        &["signing_secret_file", "signing.secret"],
    );
}

#[test]
fn cores_that_may_not_be_used_are_named() {
    let setup = Setup::new(1).set("server.cores", "[1023]");
    assert_says(&failure(serve(&setup), 2), &["server.cores", "1023"]);
}

#[test]
fn bad_usage_is_one_line() {
    for (arguments, parts) in [
        (&["app"][..], &["subcommand", "--help"][..]),
        (&["sevre"], &["sevre", "serve"]),
        (&["dev", "--shards", "none"], &["--shards", "none"]),
        (&["dev", "--listen", "nowhere"], &["--listen", "nowhere"]),
        (&["token", "mint"], &["<PEER>"]),
        (
            &["token", "mint", "--key-id", "sk_id_a", "--sub", "a"],
            &["RINGMESH_SECRET"],
        ),
        (
            &[
                "token",
                "mint",
                "--key-id",
                "pk_live_a",
                "--sub",
                "a",
                "--secret",
                "x",
            ],
            &["sk_id_"],
        ),
        (
            &[
                "token",
                "mint",
                "--key-id",
                "sk_id_a",
                "--sub",
                "é",
                "--secret",
                "0123456789abcdefghijklmnopqrstuv",
            ],
            &["refuse such a token"],
        ),
    ] {
        let mut command = ringmesh();
        command.args(arguments);
        assert_says(&failure(command, 2), parts);
    }
}

/// `ringmesh dev` in that directory, with its log as JSON.
fn dev(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = ringmesh();
    command.args(["dev", "--shards", "1"]).args(arguments);
    command.envs(variables.iter().copied());
    command.env("RINGMESH_LOG__FORMAT", "json").current_dir(dir);
    command
}

/// It has no file: what it says names its arguments, and variables for the rest.
#[test]
fn dev_names_what_it_has() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let setup = Setup::new(1).write("file", "");
    let any = "127.0.0.1:0";
    for (code, arguments, expected) in [
        (
            1,
            &["--listen", &taken, "--admin", any][..],
            "choose another address with --listen",
        ),
        (1, &["--listen", any, "--admin", &taken], "set --admin "),
        (
            1,
            &["--listen", any, "--admin", any, "--data-dir", "file"],
            "set --data-dir ",
        ),
        (2, &["--listen", "127.0.0.1:7464"], "--admin: beside"),
        (2, &["--listen", "x"], "the default, 127.0.0.1:8080"),
    ] {
        let line = failure(dev(setup.dir(), arguments, &[]), code);
        assert_says(&line, &[expected]);
        assert!(
            !line.contains("store.") && !line.contains("listen."),
            "{line}"
        );
    }
    let server = Server::start(
        dev(
            setup.dir(),
            &["--listen", any, "--admin", any],
            &[("RINGMESH_REST__ACCEPT_BARE_KEY_ID", "true")],
        ),
        setup,
    );
    server.log.find("the warning", |line| {
        line.contains("RINGMESH_REST__ACCEPT_BARE_KEY_ID is on")
            .then_some(())
    });
}

#[test]
fn dev_names_variables() {
    let setup = Setup::new(1).write("file", "");
    for (code, variables, expected) in [
        (
            2,
            &[("RINGMESH_LIMITS__DROP_AFTER_MS", "100")][..],
            "more than RINGMESH_LIMITS__PING_AFTER_MS",
        ),
        (
            2,
            &[("RINGMESH_SERVER__PROXY_PROTOCOL", "true")],
            "RINGMESH_SERVER__TRUSTED_PROXIES",
        ),
        (
            2,
            &[("RINGMESH_SERVER__CORES", "1023")],
            "RINGMESH_SERVER__CORES: ",
        ),
        (
            1,
            &[
                ("RINGMESH_TLS__CERT", "file"),
                ("RINGMESH_TLS__KEY", "file"),
            ],
            "RINGMESH_TLS__CERT must name",
        ),
    ] {
        let any = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let line = failure(dev(setup.dir(), &any, variables), code);
        assert_says(&line, &[expected]);
        assert!(
            !line.contains("limits.") && !line.contains("server."),
            "{line}"
        );
    }
}

#[test]
fn more_shards_than_cores_are_a_warning() {
    let server = Setup::new(4).set("server.cores", "[0]").start();
    server.log.find("the warning", |line| {
        line.contains("4 shards share 1 cores").then_some(())
    });
    server.anonymous();
}

/// Nothing is written for a start that cannot be.
#[test]
fn dev_writes_nothing_before_its_ports_are_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0";
    for arguments in [
        ["--listen", &taken, "--admin", any],
        ["--listen", any, "--admin", &taken],
    ] {
        failure(dev(dir.path(), &arguments, &[]), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_second_dev_names_the_first() {
    let setup = Setup::new(1);
    let dir = setup.dir().to_owned();
    let any = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let server = Server::start(dev(&dir, &any, &[]), setup);
    let line = failure(dev(&dir, &any, &[]), 1);
    let pid = format!("pid {}", server.pid().as_raw_nonzero());
    let url = format!("ws://{}", server.public);
    assert_says(&line, &[&pid, &url, "--data-dir"]);
}

/// Two that nobody gave a port to run side by side.
#[test]
fn a_default_port_that_is_taken_moves() {
    let start = || {
        let setup = Setup::new(1);
        let command = dev(setup.dir(), &[], &[]);
        Server::start(command, setup)
    };
    let (first, second) = (start(), start());
    assert_ne!(first.public.port(), second.public.port());
    assert_ne!(first.admin_address().port(), second.admin_address().port());
    let text = second.log.find("what has moved", |line| {
        line.strip_prefix("ringmesh: port ").map(str::to_owned)
    });
    assert!(text.contains(" is taken, so it is "), "{text}");
}
