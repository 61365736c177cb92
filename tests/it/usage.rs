//! Bad usage, of every command: exit code 2, one line, and no secret, no file without an end and no
//! word of another that a terminal would obey.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::json;

use crate::support::command::check_failure;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;

/// Commands that act at once on what somebody uses.
const DESTRUCTIVE: [&str; 7] = [
    "app delete app_x",
    "app suspend app_x",
    "app update app_x --status suspended",
    "key revoke KEY",
    "key rotate KEY --grace 0",
    "kick alice --app app_x",
    "kick alice --app app_x --connection 0.1.1",
];

fn command(words: &str) -> Command {
    let mut command = ringmesh();
    command.args(words.split_whitespace());
    command.stdin(Stdio::null());
    command
}

/// Runs `ringmesh` with these words, and a server that nobody is at.
fn run(words: &str) -> Output {
    let mut command = command(words);
    command.args(["--admin-url", "http://127.0.0.1:1"]);
    command.env("RINGMESH_ADMIN_TOKEN", "t").output().unwrap()
}

fn run_for(server: &Server, words: &str) -> Output {
    let admin = server.admin();
    let mut command = command(words);
    command.arg("--admin-url");
    command.arg(format!("http://{}", admin.address));
    command.env("RINGMESH_ADMIN_TOKEN", &admin.bearer);
    command.output().unwrap()
}

#[test]
fn what_cannot_be_taken_back_is_not_done_unless_somebody_is_sure() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    let apps = "/api/internal/v1/apps";
    admin.create(apps, &json!({"appId": "app_x"}));
    let body = json!({"type": "secret", "channelPatterns": ["**"], "actions": ["publish"]});
    let made = admin.create(&format!("{apps}/app_x/keys"), &body);
    let key = made["keyId"].as_str().unwrap();
    let before = (admin.get(apps), admin.get(&format!("{apps}/app_x/keys")));
    for words in DESTRUCTIVE {
        let words = words.replace("KEY", key);
        check_failure(&run_for(&server, &words), 2, "give --yes");
    }
    let after = (admin.get(apps), admin.get(&format!("{apps}/app_x/keys")));
    assert_eq!(before, after);
    let output = run_for(&server, "app delete app_x --yes");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_secret_in_the_wrong_place_is_not_told_and_not_sent() {
    let server = Setup::new(1).start();
    let secret = "sk_live_0123456789abcdefghijklmn";
    let token = format!(
        "eyJ{}.eyJ{}.{}",
        "a".repeat(40),
        "b".repeat(40),
        "c".repeat(43)
    );
    for words in [
        "token mint alice --key SECRET",
        "token mint alice --key-id SECRET --secret-file /nonexistent",
        "token mint alice --key-id sk_id_a --secret SECRET",
        "token mint alice --key-id sk_id_a --secret-file SECRET",
        "token mint alice --expires SECRET",
        "key show SECRET",
        "key revoke SECRET --yes",
        "key rotate SECRET",
        "key list SECRET",
        "app show SECRET",
        "events --key SECRET",
        "events --kind SECRET",
        "why SECRET",
        "kick alice --app SECRET --yes",
        "pub room hi --key SECRET --url ws://127.0.0.1:1",
        "pub room hi --token-file SECRET --url ws://127.0.0.1:1",
        "app list --context SECRET",
        "app list --admin-url SECRET/x",
        "app list --admin-token-file SECRET",
        "app list SECRET",
        "SECRET",
        "restore SECRET",
        "check --config SECRET",
        "serve --config SECRET",
    ] {
        for secret in [secret, &token] {
            let output = run_for(&server, &words.replace("SECRET", secret));
            let text =
                String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
            assert!(!text.contains(&secret[..20]), "{words}: {text}");
        }
    }
    for (variable, words) in [
        ("RINGMESH_SERVER__LISTEN", "serve --config ringmesh.toml"),
        ("RINGMESH_LIMITS__MESSAGE_RATE", "check ringmesh.toml"),
        ("RINGMESH_ADMIN_URL", "app list"),
        ("RINGMESH_CONTEXT", "app list"),
        ("RINGMESH_SECRET", "token mint alice --key-id sk_id_a"),
    ] {
        let mut command = command(words);
        let output = command.env(variable, secret).current_dir(server.dir());
        let output = output.output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{variable}: {text}");
        assert!(!text.contains(&secret[..20]), "{variable}: {text}");
    }
}

#[test]
fn a_file_without_an_end_is_refused_wherever_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        "serve --config FILE",
        "check FILE",
        "check --config FILE",
        "doctor --config FILE",
        "restore FILE --check",
        "restore FILE --data-dir DIR/data",
        "token mint alice --key-id sk_id_a --secret-file FILE",
        "token check t --secret-file FILE",
        "app update a --turn-secret-file FILE",
        "app list --admin-token-file FILE",
        "app list --admin-url https://127.0.0.1:1 --ca FILE",
        "pub room hi --url ws://127.0.0.1:1 --token-file FILE",
    ] {
        let words = words.replace("DIR", dir.path().to_str().unwrap());
        for (file, part) in [
            ("/dev/zero", "no regular file"),
            ("/", "no regular file"),
            ("/nonexistent", ""),
        ] {
            let words = words.replace("FILE", file);
            let mut command = command(&words);
            if !words.contains("--admin-url") {
                command.args(["--admin-url", "http://127.0.0.1:1"]);
            }
            let output = command.output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            assert_eq!(output.status.code(), Some(2), "{words}: {text}");
            assert!(text.contains(part), "{words}: {text}");
        }
    }
}

#[test]
fn bad_usage_is_exit_code_two() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("there"), "").unwrap();
    for words in [
        "backup there",
        "restore",
        "restore absent",
        "man no such",
        "completions basic",
        "context add ../x",
        "context add a",
        "context use absent",
        "context show absent",
        "context remove absent",
        "stats --watch 0",
        "token mint alice --key-id pk_live_a",
        "token mint alice --key-id sk_id_a",
        "token check --channel a --secret-file b",
        "pub a b --url ftp://a",
        "sub",
        "events --admin-url ftp://a",
        "trace",
        "kick",
        "why",
        "app update a",
        "key create --type public",
        "init new --listen nowhere",
        "openapi --adm",
        "version x",
        "reload x",
        "console x",
        "config",
    ] {
        let mut command = command(words);
        command.current_dir(dir.path()).env("HOME", dir.path());
        command.env_remove("XDG_CONFIG_HOME");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words}: {output:?}");
        check_failure(&output, 2, "");
    }
}

/// A server that answers every request so, and a command that asks it.
fn answered_with((status, body): (&str, &str), words: &str) -> Output {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    let answer = format!("{head}\r\n{body}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let mut command = command(words);
    command.arg("--admin-url").arg(format!("http://{address}"));
    command.env("RINGMESH_ADMIN_TOKEN", "t").output().unwrap()
}

#[test]
fn a_terminal_obeys_no_server() {
    const FAULT: (&str, &str) = (
        "403 Forbidden",
        r#"{"error":"forbidden","message":"\u001b[2J\u009b31m\u202e sk_live_0123456789"}"#,
    );
    const GOOD: (&str, &str) = ("200 OK", r#"{"apps":[],"a\u001b[2J":"\u001b[2J\u009b31m"}"#);
    for (answer, words) in [
        (FAULT, "app list"),
        (FAULT, "events --follow"),
        (FAULT, "backup /nonexistent/copy"),
        (FAULT, "stats --json"),
        (GOOD, "app show a --json"),
        (GOOD, "config show --json"),
        (GOOD, "stats"),
        (GOOD, "key show k"),
        (GOOD, "token check t"),
        (GOOD, "why alice --app a --json"),
    ] {
        let output = answered_with(answer, words);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        let is_obeyed = |char: char| char != '\n' && (char.is_control() || char == '\u{202e}');
        assert!(
            !text.is_empty() && !text.contains(is_obeyed),
            "{words}: {text:?}"
        );
        assert!(!text.contains("sk_live_0"), "{words}: {text}");
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = command("stats");
    command.arg("--admin-url").arg(format!("http://{address}"));
    let output = command.env("RINGMESH_ADMIN_TOKEN", "t").output().unwrap();
    check_failure(&output, 3, "takes connections and says nothing, for 8 s");
}

#[test]
fn an_answer_of_bad_request_is_bad_usage() {
    let server = Setup::new(1).start();
    for words in [
        "app create bad!id",
        "events --since never",
        "kick é --app app_a --yes",
    ] {
        check_failure(&run_for(&server, words), 2, "(HTTP 400)");
    }
    check_failure(&run("app list"), 3, "no answer from");
}
