//! `ringmesh events`, `why` and `kick` against a server, found by its directory.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::command::{self, Following, check_failure};
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::until;

/// Where commands find the server: the apps are `app_a` and `app_b`.
fn server(shards: u16) -> Server {
    Setup::new(shards)
        .set("store.data_dir", r#""ringmesh-data""#)
        .start()
}

fn command(server: &Server, words: &str) -> Command {
    let mut command = ringmesh();
    command
        .args(words.split_whitespace())
        .current_dir(server.dir());
    command
}

fn run(server: &Server, words: &str) -> Output {
    command(server, words).output().unwrap()
}

/// What a command that succeeds prints.
#[track_caller]
fn told(server: &Server, words: &str) -> String {
    command::told(command(server, words))
}

#[test]
fn what_happened_is_a_line_and_the_story_is_told() {
    let server = server(2);
    let mut alice = server.peer("alice");
    alice.subscribe("room");
    assert_eq!(server.attempt("/v1?key=pk_live_wrong", "").status, 401);
    let connected = told(&server, "why alice --app app_a");
    assert!(
        connected.starts_with("alice is connected now, 1 time.\n"),
        "{connected}"
    );

    let closed = told(&server, "kick alice --app app_a --yes");
    assert_eq!(closed, "closed 1 connection of alice\n");
    alice.read_until_close(4020);
    check_failure(
        &run(&server, "kick alice --app app_a --yes"),
        4,
        "alice is not connected to app_a; ringmesh why alice says since when",
    );
    until("the end of the connection", || {
        let answer = told(&server, "events --peer alice --kind closed --json");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["events"][0]["code"] == 4020
    });

    let lines = told(&server, "events --kind refused,closed");
    let line = lines
        .lines()
        .find(|line| line.contains(" refused "))
        .unwrap();
    assert!(line.contains("127.0.0.1"), "{line}");
    let line = lines
        .lines()
        .find(|line| line.contains(" closed "))
        .unwrap();
    assert!(line.contains("alice") && line.contains("4020"), "{line}");
    let lines = told(&server, "events --kind -refused,-node");
    assert!(
        lines.contains("room") && !lines.contains(" refused "),
        "{lines}"
    );
    // A script sees all of it, whatever the terminal.
    assert!(!lines.contains('\u{1b}'), "{lines}");

    let story = told(&server, "why alice --app app_a");
    for part in [
        "alice is not connected.\n",
        "\n\n",
        ": alice closed 4020: ",
        "\nIt had been connected for ",
        " from 127.0.0.1 with sk_id_a of app_a.\n",
        "\nWhat to do: ",
        "\nIn the minute before:\n",
        " subscribed ",
    ] {
        assert!(story.contains(part), "{part:?}: {story}");
    }
    // Without an app all are looked at.
    let story: Value = serde_json::from_str(&told(&server, "why alice --json")).unwrap();
    assert_eq!(story["stories"][0]["end"]["code"], 4020);
    let nobody = told(&server, "why nobody --app app_a");
    assert!(
        nobody.contains("No end and no refusal of nobody is known since "),
        "{nobody}"
    );
}

#[test]
fn one_connection_of_a_peer_is_closed_and_the_others_stay() {
    let server = server(2);
    let mut alice: Vec<_> = (0..2).map(|_| server.peer("alice")).collect();
    let opened = told(&server, "events --kind opened --peer alice --json");
    let opened: Value = serde_json::from_str(&opened).unwrap();
    let opened = opened["events"].as_array().unwrap();
    let before: Vec<_> = opened
        .iter()
        .map(|it| it["connection"].as_str().unwrap())
        .collect();
    assert_eq!(before.len(), 2);
    let kick = format!("kick alice --app app_a --yes --connection {}", before[0]);
    assert_eq!(told(&server, &kick), "closed 1 connection of alice\n");
    let left = told(&server, "why alice --app app_a --json");
    let left: Value = serde_json::from_str(&left).unwrap();
    assert_eq!(left["connected"], 1);
    check_failure(&run(&server, &kick), 4, "alice has no connection ");
    let other = kick
        .replace("kick alice", "kick bob")
        .replace(before[0], before[1]);
    check_failure(&run(&server, &other), 4, "bob has no connection ");
    let kicked = told(&server, "events --kind kicked --json");
    let kicked: Value = serde_json::from_str(&kicked).unwrap();
    let event = &kicked["events"][0];
    assert_eq!(event["connection"], before[0], "{event}");
    assert_eq!(
        (&event["by"], &event["closed"]),
        (&"admin_token".into(), &1.into())
    );
    assert_eq!(event["address"], "127.0.0.1", "{event}");
    // The other still works.
    let alive = alice.iter_mut().filter_map(|client| {
        client.send(r#"{"type":"ping"}"#);
        client.next_message().is_text().then_some(())
    });
    assert_eq!(alive.count(), 1);
}

#[test]
fn what_is_asked_wrongly_is_refused_in_the_words_of_the_command() {
    let server = server(1);
    for (words, exit_code, part) in [
        (
            "events --kind closd",
            2,
            "--kind: there is no \"closd\" (HTTP 400); did you mean closed?",
        ),
        (
            "events --kind closd --follow",
            2,
            "--kind: there is no \"closd\"",
        ),
        ("events --cause kiked", 2, "did you mean kicked?"),
        ("events --since never", 2, "--since: "),
        ("events --limit 0", 2, "--limit: a number from 1 to 1000"),
        ("events --address x", 2, "--address: "),
        ("why", 2, "<PEER>"),
        ("kick", 2, "<PEER>"),
        (
            "kick alice",
            2,
            "there are 2 apps; name one with --app: app_a, app_b",
        ),
        (
            "kick alice --app app_c --yes",
            4,
            "there is no app \"app_c\"",
        ),
        (
            "kick é --app app_a --yes",
            2,
            "PEER: must be 1 to 128 printable ASCII",
        ),
        (
            "stats --watch soon",
            2,
            "a whole number of seconds from 1 to 3600",
        ),
        (
            "kick bob --app app_a --yes",
            4,
            "bob is not connected to app_a",
        ),
        (
            "kick bob --app app_a --yes --connection 7",
            2,
            "--connection: must be three numbers with dots between them",
        ),
    ] {
        check_failure(&run(&server, words), exit_code, part);
    }
    let output = run(&server, "events --kind closed");
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(note.starts_with("no such events; "), "{note}");
}

/// A `ringmesh events --follow`.
fn tail(server: &Server, words: &str) -> Following {
    Following::start(command(server, &format!("events --follow {words}")))
}

#[test]
fn a_tail_goes_on_after_a_restart() {
    let mut server = server(1);
    let json = tail(&server, "--json --kind opened");
    let lines = tail(&server, "--kind opened");
    let peer = server.peer("alice");
    let event = json
        .lines
        .find("an event", |line| serde_json::from_str::<Value>(line).ok());
    assert_eq!(event["peer"], "alice");
    lines
        .lines
        .find("an event", |line| line.contains("alice").then_some(()));
    server.kill_and_restart();
    drop(peer);
    json.notes.find("the loss", |line| {
        line.ends_with("; connecting again").then_some(())
    });
    let peer = server.peer("bob");
    until("an event of the next process", || {
        json.lines
            .so_far()
            .iter()
            .any(|line| line.contains("\"bob\""))
    });
    drop(peer);
}

#[test]
fn a_reader_who_leaves_ends_the_tail() {
    let server = server(1);
    let mut tailing = tail(&server, "--json --kind opened");
    let mut peers = vec![server.peer("alice")];
    tailing
        .lines
        .find("an event", |line| line.contains("alice").then_some(()));
    // Its output is closed: the next event finds nobody.
    let mut quiet = command(&server, "events --follow --kind opened")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(quiet.stdout.take());
    until("its end", || {
        peers.push(server.peer("bob"));
        quiet.try_wait().unwrap().is_some()
    });
    assert!(quiet.wait().unwrap().success());
    assert!(tailing.child.try_wait().unwrap().is_none());
}
