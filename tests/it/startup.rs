//! What a server says that cannot start: one line with cause and remedy, and the exit code.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;

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
        (&[][..], &["subcommand", "--help"][..]),
        (&["sevre"], &["sevre", "serve"]),
        (&["serve"], &["--config"]),
        (&["dev", "--shards", "none"], &["--shards", "none"]),
        (&["dev", "--listen", "nowhere"], &["--listen", "nowhere"]),
        (&["token", "mint"], &["--key-id"]),
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
                "token", "mint", "--key-id", "sk_id_a", "--sub", "é", "--secret", "x",
            ],
            &["refuse such a token"],
        ),
    ] {
        let mut command = ringmesh();
        command.args(arguments);
        assert_says(&failure(command, 2), parts);
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
