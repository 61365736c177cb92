//! `ringmesh pub` and `ringmesh sub` against a server, found by its directory.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::command::{Following, check_failure, told};
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::until;

fn command(directory: &Path, words: &[&str]) -> Command {
    let mut command = ringmesh();
    command.args(words).current_dir(directory);
    command
}

/// A `ringmesh sub` that has subscribed.
#[track_caller]
fn subscriber(directory: &Path, words: &[&str]) -> Following {
    let sub = Following::start(command(directory, &[&["sub"], words].concat()));
    sub.notes.find("the subscription", |line| {
        line.starts_with("subscribed to ").then_some(())
    });
    sub
}

/// What a `ringmesh pub` that succeeds prints.
#[track_caller]
fn published(directory: &Path, words: &[&str]) -> String {
    told(command(directory, &[&["pub"], words].concat()))
}

#[test]
fn what_is_published_is_what_a_subscriber_gets() {
    let server = Server::dev();
    let at = server.dir();
    let sub = subscriber(at, &["room", "other", "--count", "6", "--json"]);
    for words in [
        &[
            "room",
            r#"{"b": 12345678901234567890123, "a": 1}"#,
            "--as",
            "alice",
        ][..],
        &["room", "no JSON"],
        &["room", "7", "--raw"],
        &["other", "-1"],
    ] {
        let text = published(at, words);
        assert!(
            text.starts_with("acked after ") && text.ends_with(" ms\n"),
            "{text}"
        );
    }
    let mut from_input = command(at, &["pub", "room", "--json", "--count", "2"]);
    from_input.args(["--interval", "1ms"]).stdin(Stdio::piped());
    let mut child = from_input.stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"[null]\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let acks = String::from_utf8(output.stdout).unwrap();
    assert_eq!(acks.lines().count(), 2, "{acks}");
    let ack: Value = serde_json::from_str(acks.lines().next().unwrap()).unwrap();
    assert_eq!(ack["channel"], "room");
    assert!(ack["ackMs"].as_f64().unwrap() > 0.0);

    let (exit_code, lines) = sub.ended();
    assert_eq!(exit_code, Some(0));
    let first = lines.lines().next().unwrap();
    assert!(
        first.contains(r#"{"b": 12345678901234567890123, "a": 1}"#),
        "{first}"
    );
    let frames: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let data: Vec<_> = frames[1..]
        .iter()
        .map(|frame| frame["data"].clone())
        .collect();
    let expected = [
        json!("no JSON"),
        json!("7"),
        json!(-1),
        json!([null]),
        json!([null]),
    ];
    assert_eq!(data, expected);
    let from: Vec<_> = frames
        .iter()
        .map(|frame| frame["from"].as_str().unwrap())
        .collect();
    assert_eq!(from, ["alice", "cli", "cli", "cli", "cli", "cli"]);
}

#[test]
fn presence_metadata_and_frames_are_shown() {
    let server = Setup::new(1)
        .set("store.data_dir", r#""ringmesh-data""#)
        .start();
    let at = server.dir();
    let key = ["room", "--key", "sk_id_a"];
    let sub = subscriber(
        at,
        &[
            &key[..],
            &["--presence", "--metadata", "--count", "1", "--as", "eve"],
        ]
        .concat(),
    );
    sub.lines.find("the snapshot", |line| {
        (line == "room  nobody else is here").then_some(())
    });
    // Without `presence` it is told of nobody.
    let claims = json!({
        "sub": "bob", "peerMetadata": {"name": "Bob"}, "permissions": ["publish", "subscribe"],
    });
    let mut bob = server.with_claims(claims);
    bob.subscribe("room");
    sub.lines
        .find("the join", |line| (line == "room  here: bob").then_some(()));
    bob.publish("room", json!("hello"));
    let (exit_code, lines) = sub.ended();
    assert_eq!(exit_code, Some(0));
    assert!(
        lines.ends_with("room  bob {\"name\":\"Bob\"}  \"hello\""),
        "{lines}"
    );

    let frames = subscriber(at, &[&key[..], &["--frames", "--count", "1"]].concat());
    bob.publish("room", json!(1));
    let (_, lines) = frames.ended();
    for part in [
        "< {\"type\":\"welcome\",\"peerId\":\"cli\"",
        "\n> {\"channel\":\"room\",\"requestId\":\"0\",\"type\":\"subscribe\"}",
        "\n< {\"type\":\"ack\",\"requestId\":\"0\"}",
        "\n< {\"type\":\"message\",\"channel\":\"room\",\"from\":\"bob\",\"data\":1}",
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
}

#[test]
fn a_subscriber_comes_back_after_a_restart_and_says_so() {
    let mut server = Setup::new(1)
        .set("store.data_dir", r#""ringmesh-data""#)
        .start();
    let directory = server.dir().to_owned();
    let sub = subscriber(&directory, &["room", "--key", "sk_id_a", "--count", "1"]);
    server.kill_and_restart();
    sub.notes.find("the loss", |line| {
        line.ends_with("; connecting again").then_some(())
    });
    until("another subscription", || {
        let notes = sub.notes.so_far();
        notes
            .iter()
            .filter(|line| *line == "subscribed to room")
            .count()
            == 2
    });
    published(&directory, &["room", "1", "--key", "sk_id_a"]);
    assert_eq!(sub.ended(), (Some(0), "room  cli  1".to_owned()));
}

#[test]
fn refusals_are_one_line() {
    let server = Server::dev();
    let at = server.dir();
    let key = server.output.find("the key", |line| {
        let mut words = line.split_whitespace();
        words
            .find(|word| word.starts_with("pk_live_"))
            .map(str::to_owned)
    });
    for (words, exit_code, part) in [
        (&["pub", "_system/a", "1"][..], 4, "channel_reserved: "),
        (
            &["pub", "room", "1", "--key", "pk_live_no"],
            4,
            "refuses the connection: 4001 ",
        ),
        (
            &["pub", "room", "1", "--key", "sk_id_no"],
            4,
            "there is no key",
        ),
        (
            &["pub", "room", "1", "--key", "sk_live_x"],
            2,
            "--key: that is a secret",
        ),
        (
            &["pub", "room", "1", "--key", &key, "--as", "a"],
            2,
            "leave out --as",
        ),
        (
            &["sub", "room", "--url", "ws://127.0.0.1:1"],
            3,
            "no answer from ws://127.0.0.1:1",
        ),
        (
            &["sub", "room", "--url", "ftp://a"],
            2,
            "give one such as ws://",
        ),
        (
            &["sub", "room", "--token-file", "none"],
            2,
            "--token-file: none: ",
        ),
        (
            &["sub", "room", "--timeout", "50ms"],
            1,
            "nothing came in time",
        ),
        (&["pub", "room", "1", "--interval", "soon"], 2, "--interval"),
        (&["sub"], 2, "<CHANNEL>"),
        (&["pub", "room", "1", "--as", "é"], 2, "--as: a peer id has"),
    ] {
        let output = command(at, &[words, &["--quiet"]].concat())
            .output()
            .unwrap();
        check_failure(&output, exit_code, part);
    }
    std::fs::write(at.join("token"), "no.token.at.all\n").unwrap();
    let words = ["sub", "room", "--token-file", "token"];
    let output = command(at, &words).output().unwrap();
    check_failure(&output, 4, "refuses the connection: 4001 ");
}
