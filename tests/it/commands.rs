//! The commands that an operator types first: `--help`, `dev`, `token mint`, and SIGHUP.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::server::{Server, ringmesh};
use crate::support::setup::{ALL_ACTIONS, Setup, key};
use crate::support::token::SECRET;
use crate::support::until;

/// Standard output of a command that succeeds without a word on standard error.
#[track_caller]
fn output(arguments: &[&str]) -> String {
    let output = ringmesh().args(arguments).output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_shows_an_example() {
    for arguments in [
        &["--help"][..],
        &["dev", "--help"],
        &["serve", "--help"],
        &["token", "mint", "--help"],
    ] {
        let text = output(arguments);
        assert!(
            text.contains("Usage: ringmesh") && text.contains("Examples:\n"),
            "{text}"
        );
        assert!(
            text.starts_with(|first: char| first.is_uppercase()),
            "{text}"
        );
    }
    assert_eq!(
        output(&["--version"]),
        format!("ringmesh {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_minted_token_connects() {
    let server = Setup::new(2).start();
    let token = output(&[
        "token",
        "mint",
        "--key-id",
        "sk_id_a",
        "--secret",
        SECRET,
        "--sub",
        "alice",
        "--channels",
        "room-*,chat/**",
        "--permissions",
        "publish,subscribe",
        "--expires",
        "10m",
        "--metadata",
        r#"{"plan": "gold"}"#,
        "--peer-metadata",
        r#"{"name":"Alice"}"#,
    ]);
    let mut client = server.connect(&format!("?token={}", token.trim_end()));
    assert_eq!(client.peer_id, "alice");
    assert!(
        client.welcome.ends_with(r#","metadata":{"plan": "gold"}}"#),
        "{}",
        client.welcome
    );
    client.subscribe("chat/x");
    let subscribe = |channel: &str| json!({"type": "subscribe", "channel": channel});
    client.ask_refused(subscribe("elsewhere"), "channel_not_authorized");
    client.ask_refused(
        json!({"type": "send", "to": "x", "data": 1}),
        "action_not_permitted",
    );
    // The secret may come from where other users cannot see it.
    let file = server.dir().join("signing.secret");
    let by_file = [
        "token",
        "mint",
        "--key-id",
        "sk_id_a",
        "--sub",
        "b",
        "--secret-file",
    ];
    let token = output(&[&by_file[..], &[file.to_str().unwrap()]].concat());
    assert_eq!(
        server
            .connect(&format!("?token={}", token.trim_end()))
            .peer_id,
        "b"
    );
}

fn dev(setup: Setup) -> Server {
    let mut command = ringmesh();
    command.args([
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--shards",
        "2",
    ]);
    command
        .env("RINGMESH_LOG__FORMAT", "json")
        .current_dir(setup.dir());
    Server::start(command, setup)
}

/// What `dev` prints behind this label.
fn printed(server: &Server, label: &str) -> String {
    server.output.find(label, |line| {
        Some(line.trim().strip_prefix(label)?.trim().to_owned())
    })
}

#[test]
fn dev_works_at_once_and_remembers_its_keys() {
    const LABELS: [&str; 4] = [
        "publishable key",
        "secret key id",
        "signing secret",
        "API secret",
    ];
    let setup = Setup::new(2);
    let mut server = dev(setup);
    let first = LABELS.map(|label| printed(&server, label));
    assert_eq!(
        printed(&server, "clients"),
        format!("ws://{}/v1", server.public)
    );
    server.output.find("a curl line", |line| {
        line.contains("curl -X POST").then_some(())
    });
    server.output.find("JavaScript", |line| {
        line.contains("new SignallingClient(").then_some(())
    });
    assert_eq!(
        printed(&server, "admin token"),
        "in ringmesh-data/admin.token"
    );
    let [publishable, key_id, signing_secret, _] = &first;
    // The connect limit is off.
    for _ in 0..70 {
        server.connect(&format!("?key={publishable}"));
    }
    let mint = [
        "token",
        "mint",
        "--key-id",
        key_id,
        "--sub",
        "a",
        "--secret",
        signing_secret,
    ];
    let mut peer = server.connect(&format!("?token={}", output(&mint).trim_end()));
    assert_eq!(peer.subscribe_for_presence("anything/at all").len(), 0);
    let file = server.dir().join("ringmesh-data/dev.json");
    assert_eq!(
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    server.signal(Signal::INT);
    peer.read_until_close(1001);
    assert!(server.exit_status().success());
    let server = dev(server.into_setup());
    assert_eq!(LABELS.map(|label| printed(&server, label)), first);
    server.connect(&format!("?key={publishable}"));
}

#[test]
fn hangup_takes_declared_apps_in_and_keeps_serving() {
    let mut server = Setup::new(2).start();
    let mut client = server.anonymous();
    client.subscribe_for_presence("a");
    server.reconfigure(|setup| setup.app("app_c", &[key("pk_live_c", &["**"], ALL_ACTIONS)]));
    server.signal(Signal::HUP);
    until("the new key connects", || {
        server.attempt("/v1?key=pk_live_c", "").status == 101
    });
    client.expect_nothing_queued();
    // A bad file changes nothing and is logged.
    std::fs::write(server.dir().join("ringmesh.toml"), "[server]\nlisten = 7\n").unwrap();
    server.signal(Signal::HUP);
    let error = server.log.find("what is wrong", |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["level"] == "ERROR").then(|| event["message"].to_string())
    });
    assert!(error.contains("ringmesh.toml:2: server.listen"), "{error}");
    assert_eq!(server.attempt("/v1?key=pk_live_c", "").status, 101);
    client.expect_nothing_queued();
    // What is declared no longer is revoked.
    server.reconfigure(|setup| setup.no_apps());
    server.signal(Signal::HUP);
    client.expect_close(4001);
    server
        .attempt("/v1?key=pk_live_a", "")
        .is_error(401, "unauthorized");
}
