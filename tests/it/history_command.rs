//! `ringmesh history` and the rules of `ringmesh app` against a server, found by its directory.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::client::Client;
use crate::support::command::{self, Following, check_failure};
use crate::support::on_shards;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::{ALL_ACTIONS, Setup, key, signer};
use crate::support::until;

const HISTORY: &str = "/api/internal/v1/apps/app_a/channel/history";

/// Five publications are kept of each channel below `room/`, and none of others.
fn server(shards: u16) -> Server {
    let rules = r#"history = [
        { pattern = "news" }, { pattern = "room/*", messages = 5, ttl_sec = 5400 },
    ]"#;
    let keys = [key("pk_live_a", &["**"], ALL_ACTIONS), signer("sk_id_a")];
    Setup::new(shards)
        .no_apps()
        .app(&format!("app_a\n{}", rules.replace('\n', " ")), &keys)
        .app("app_b", &[signer("sk_id_b")])
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

fn admin(server: &Server) -> Api {
    let token = server.dir().join("ringmesh-data/admin.token");
    Api {
        address: server.admin_address(),
        bearer: std::fs::read_to_string(token).unwrap().trim().to_owned(),
    }
}

fn run(server: &Server, words: &str) -> Output {
    command(server, words).output().unwrap()
}

/// What a command that succeeds prints.
#[track_caller]
fn told(server: &Server, words: &str) -> String {
    command::told(command(server, words))
}

#[track_caller]
fn told_json(server: &Server, words: &str) -> Value {
    serde_json::from_str(&told(server, &format!("{words} --json"))).unwrap()
}

/// Publishes text that is JSON, as it is, and waits for the ack.
fn publish_raw(client: &mut Client, channel: &str, data: &str) {
    client.send(format!(
        r#"{{"type":"publish","channel":"{channel}","data":{data},"requestId":"1"}}"#
    ));
    let answer: Value = serde_json::from_str(&client.next()).unwrap();
    assert_eq!(answer["type"], "ack", "{data}: {answer}");
}

fn numbers(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().unwrap().iter();
    messages.map(|it| it["seq"].as_u64().unwrap()).collect()
}

#[test]
fn what_is_kept_is_shown_with_its_rule() {
    on_shards(|shards| {
        let server = server(shards);
        let mut alice = server.quiet_peer("alice");
        for at in 1..=7 {
            alice.publish("room/1", json!({"text": format!("number {at}")}));
        }
        let page = told_json(&server, "history room/1 --app app_a");
        let epoch = page["epoch"].as_str().unwrap();
        assert_eq!(
            page["rule"],
            json!({
                "place": 2, "pattern": "room/*", "messages": 5, "bytes": 1_048_576,
                "ttlSec": 5_400, "store": "memory",
            })
        );
        assert_eq!(numbers(&page), [3, 4, 5, 6, 7]);
        assert_eq!((&page["first"], &page["count"]), (&json!(3), &json!(5)));

        let text = told(&server, "history room/1 --app app_a");
        let (head, rows) = text.split_once("\n\n").unwrap();
        let bytes = page["bytes"].as_u64().unwrap();
        assert_eq!(
            head,
            format!(
                "app      app_a\nchannel  room/1\nepoch    {epoch}\nseq      7\noldest   3\n\
                 count    5 of 5\nbytes    {bytes} of 1048576\nttl      90m\nstore    memory\n\
                 rule     room/* (rule 2 of the app)"
            )
        );
        let rows: Vec<_> = rows.lines().collect();
        assert!(rows[0].starts_with("TIME (UTC)  "), "{text}");
        assert!(
            rows[1].ends_with(r#"    3  alice     19  {"text":"number 3"}"#),
            "{text}"
        );
        assert_eq!(rows.len(), 6);

        for (words, expected) in [
            ("--limit 2", &[3, 4][..]),
            ("--reverse --limit 2", &[7, 6]),
            ("--order desc --limit 1", &[7]),
            ("--since 5", &[6, 7]),
            ("--since 2", &[3, 4, 5, 6, 7]),
            ("--since 7", &[]),
            ("--since EPOCH:6", &[7]),
        ] {
            let words = words.replace("EPOCH", epoch);
            let page = told_json(&server, &format!("history room/1 --app app_a {words}"));
            assert_eq!(numbers(&page), expected, "{words}");
        }
        // What is behind a page is named, to go on with.
        let output = run(&server, "history room/1 --app app_a --limit 2");
        let note = String::from_utf8(output.stderr).unwrap();
        assert_eq!(note, format!("there is more: --since {epoch}:4 goes on\n"));
    });
}

/// What is typed, and how it is refused.
const REFUSED: &[(&str, i32, &str)] = &[
    ("history", 2, "<CHANNEL>"),
    (
        "history room/1",
        2,
        "there are 2 apps; name one with --app: app_a, app_b",
    ),
    (
        "history room/1 --app app_c",
        4,
        "there is no app \"app_c\" (HTTP 404); did you mean app_",
    ),
    (
        "history room/1 --app app_b",
        4,
        "app_b keeps nothing of the channel \"room/1\": it has no history rules",
    ),
    (
        "history hall --app app_a",
        4,
        "none of its history rules matches; ringmesh app show app_a",
    ),
    (
        "history room/2 --app app_a",
        4,
        "nothing is kept of the channel \"room/2\": nothing was published",
    ),
    (
        "history room/2 --app app_a --since 4",
        4,
        "nothing is kept of the channel \"room/2\"",
    ),
    ("history room/1 --app app_a --since abcdefgh:3", 4, "since"),
    (
        "history room/1 --app app_a --since 1",
        4,
        "3 to 7 are kept (HTTP 410)",
    ),
    (
        "history room/1 --app app_a --since 8",
        4,
        "the last number 7",
    ),
    (
        "history room/1 --app app_a --since 99999999999999999999",
        4,
        "(HTTP 410)",
    ),
    (
        "history room/1 --app app_a --since=-1",
        2,
        "--since: must be <epoch>:<seq>, or <seq>",
    ),
    ("history room/1 --app app_a --since now", 2, "--since: "),
    ("history room/1 --app app_a --since a:b:c", 2, "--since: "),
    (
        "history room/1 --app app_a --limit 0",
        2,
        "--limit: must be a number from 1 to 1000",
    ),
    ("history room/1 --app app_a --limit 1001", 2, "--limit: "),
    ("history room/1 --app app_a --limit -5", 2, "--limit: "),
    (
        "history room/1 --app app_a --order up",
        2,
        "possible values: asc, desc",
    ),
    (
        "history room/1 --app app_a --forget --limit 1",
        2,
        "cannot be used with",
    ),
    (
        "history room/1 --app app_a --forget",
        2,
        "nothing was changed",
    ),
    (
        "history hall --app app_a --forget --yes",
        4,
        "none of its history rules matches",
    ),
];

#[test]
fn what_cannot_be_shown_is_one_line_that_says_why() {
    let server = server(2);
    let mut alice = server.quiet_peer("alice");
    for at in 1..=7 {
        alice.publish("room/1", json!(at));
    }
    let mut bob = server.connect(&format!(
        "?token={}",
        crate::support::token::token("sk_id_b", json!({"sub": "bob"}))
    ));
    bob.publish("room/1", json!(1));
    for (words, exit_code, part) in REFUSED {
        check_failure(&run(&server, words), *exit_code, part);
    }
    let mut long = command(&server, "history --app app_a");
    long.arg("x".repeat(257));
    check_failure(
        &long.output().unwrap(),
        2,
        "CHANNEL: must have 1 to 256 bytes",
    );
    // The API says the same with a code of its own.
    let admin = admin(&server);
    let lost = admin.call(
        "GET",
        &format!("{HISTORY}?name=room/1&since=abcdefgh:3"),
        None,
    );
    lost.is_error(410, "history_lost");
    for query in [
        "",
        "?name=",
        "?name=room/1&since=",
        "?name=room/1&order=",
        "?name=room/1&x=1",
    ] {
        let answer = admin.call("GET", &format!("{HISTORY}{query}"), None);
        answer.is_error(400, "invalid_request");
    }
    let answer = admin.call("DELETE", &format!("{HISTORY}?name=room/1&limit=1"), None);
    answer.is_error(400, "invalid_request");
}

#[test]
fn what_clients_publish_neither_commands_the_terminal_nor_breaks_the_page() {
    let server = server(2);
    let mut alice = server.quiet_peer("alice");
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    for data in [
        r#""\u001b[2J\u009b31m""#,
        "\"\u{9b}31m\u{202e}txet\"",
        "{\"a\" :\t1e400,\n \"b\": 12345678901234567890123}",
        r#""\ud800""#,
        &deep,
    ] {
        publish_raw(&mut alice, "room/1", data);
    }
    let text = told(&server, "history room/1 --app app_a");
    let obeyed = |char: char| char != '\n' && (char.is_control() || char == '\u{202e}');
    assert!(!text.contains(obeyed), "{text:?}");
    assert!(
        text.contains(r#"{"a":1e400,"b":12345678901234567890123}"#),
        "{text}"
    );
    let page = told(&server, "history room/1 --app app_a --json");
    assert!(!page.contains(obeyed), "{page:?}");
    for part in [
        r#""\u009b31m\u202etxet""#,
        r#"{"a":1e400,"b":12345678901234567890123}"#,
        r#""\ud800""#,
        &deep,
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // On a terminal of 60 columns nothing is wider.
    let mut narrow = command(&server, "history room/1 --app app_a");
    narrow.env("COLUMNS", "60");
    let text = command::told(narrow);
    assert!(
        text.lines().all(|line| line.chars().count() <= 60),
        "{text}"
    );
}

#[test]
fn forgetting_begins_another_numbering_and_is_told() {
    on_shards(|shards| {
        let server = server(shards);
        let mut alice = server.quiet_peer("alice");
        for at in 1..=3 {
            alice.publish("room/1", json!(at));
        }
        let before = told_json(&server, "history room/1 --app app_a");
        let forgotten = told(&server, "history room/1 --app app_a --forget --yes");
        assert_eq!(forgotten, "forgot 3 publications of room/1\n");
        let since = format!("--since {}:3", before["epoch"].as_str().unwrap());
        let words = format!("history room/1 --app app_a {since}");
        check_failure(
            &run(&server, &words),
            4,
            "the last number 0, and none is kept",
        );
        let after = told(&server, "history room/1 --app app_a");
        assert!(
            after.contains("\nseq      0\noldest   -\ncount    0 of 5\n"),
            "{after}"
        );
        let again = told_json(&server, "history room/1 --app app_a --forget --yes");
        assert_eq!(again, json!({"channel": "room/1", "deleted": 0}));
        let mut events = Value::Null;
        until("the event of the first", || {
            let path = "/api/internal/v1/events?kind=admin&cause=history_forgotten";
            events = admin(&server).get(path)["events"].clone();
            events[0].is_object()
        });
        assert_eq!(
            (&events[0]["detail"], &events[0]["by"]),
            (
                &json!("channel room/1 of app_a: 3 publications"),
                &json!("admin_token")
            )
        );
    });
}

#[test]
fn who_follows_sees_what_is_published_and_where_something_is_missing() {
    let server = server(2);
    let mut alice = server.quiet_peer("alice");
    for at in 1..=3 {
        alice.publish("room/1", json!(at));
    }
    let words = "history room/1 --app app_a --follow --limit 2 --json";
    let follower = Following::start(command(&server, words));
    let shown = |data: u64| {
        move |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            (line["data"] == data).then(|| line["seq"].clone())
        }
    };
    assert_eq!(follower.lines.find("the newest", shown(3)), 3);
    alice.publish("room/1", json!(4));
    assert_eq!(follower.lines.find("what came", shown(4)), 4);
    assert_eq!(
        follower.lines.so_far().len(),
        3,
        "the oldest was not asked for"
    );
    told(&server, "history room/1 --app app_a --forget --yes");
    follower.notes.find("what is missing", |line| {
        line.starts_with("here something is missing: ")
            .then_some(())
    });
    alice.publish("room/1", json!(5));
    assert_eq!(follower.lines.find("what came behind it", shown(5)), 1);
}

#[test]
fn rules_are_set_shown_and_taken_away() {
    let server = Setup::new(1)
        .no_apps()
        .set("store.data_dir", r#""ringmesh-data""#)
        .start();
    let text = told(
        &server,
        "app create shop --history chat/*=messages:2,ttl:1h",
    );
    let line = "history                        chat/*=messages:2,bytes:1MiB,ttl:1h,store:memory";
    let shown = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("history "));
        lines
            .map(|line| line["history ".len()..].trim().to_owned())
            .collect()
    };
    assert_eq!(shown(&text), [line["history ".len()..].trim()]);
    let text = told(
        &server,
        "app update --history chat/vip=bytes:64KiB,store:disk --history chat/**",
    );
    let rules = [
        "chat/vip=messages:1000,bytes:64KiB,ttl:1h,store:disk",
        "chat/**=messages:1000,bytes:1MiB,ttl:1h,store:memory",
    ];
    assert_eq!(shown(&text), rules);
    assert_eq!(shown(&told(&server, "app show shop")), rules);
    let app = told_json(&server, "app show shop");
    assert_eq!(app["history"][0]["bytes"], 65_536);
    // What stands there is not touched by anything else.
    told(&server, "app update shop --name Shop");
    assert_eq!(shown(&told(&server, "app show shop")), rules);
    for (words, part) in [
        (
            "--history chat/**=messages:0",
            "messages: must be 1 to 100000",
        ),
        ("--history chat/**=size:9", "there is no setting 'size'"),
        (
            "--history chat/**=store:tape",
            "store: expected memory or disk",
        ),
        (
            "--history =messages:1",
            "pattern: a channel pattern must not be empty",
        ),
        ("--history * --no-history", "cannot be used with"),
        (
            "--history chat/** --history chat/vip",
            "--history, item 2, pattern: an earlier rule",
        ),
    ] {
        check_failure(&run(&server, &format!("app update shop {words}")), 2, part);
    }
    assert_eq!(shown(&told(&server, "app update shop --no-history")), ["-"]);
    assert_eq!(told_json(&server, "app show shop")["history"], json!([]));
    check_failure(
        &run(&server, "history chat/1"),
        4,
        "ringmesh app update shop --history",
    );
}
