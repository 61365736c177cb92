//! Every error code, in the order in which a command is checked; the connection stays open.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::setup::{ALL_ACTIONS, Setup, key, secret_key};

const ID: &str = r#""requestId":"q""#;

/// The message is answered by this error, with this request id or none.
#[track_caller]
fn check(client: &mut Client, text: &str, code: &str, request_id: Option<&str>) {
    client.send(text);
    let answer: Value = serde_json::from_str(&client.next()).unwrap();
    let shown = &text[..text.len().min(200)];
    assert_eq!(answer["type"], "error", "{shown}: {answer}");
    assert_eq!(answer["code"], code, "{shown}: {answer}");
    assert_eq!(answer["requestId"], json!(request_id), "{shown}: {answer}");
    assert!(answer["message"].is_string(), "{shown}: {answer}");
    assert_eq!(
        answer.get("requestId").is_some(),
        request_id.is_some(),
        "{shown}"
    );
}

fn nested(levels: usize) -> String {
    let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
    format!(r#"{{"type":"ping","data":{open}{close}}}"#)
}

#[test]
fn what_is_no_message() {
    let server = Setup::new(1).start();
    let mut client = server.anonymous();
    let long = "x".repeat(129);
    for (text, request_id) in [
        ("", None),
        ("ping", None),
        ("[]", None),
        (r#""ping""#, None),
        ("null", None),
        ("{}", None),
        (r#"{"type":"ping"} x"#, None),
        (r#"{"type":"ping",}"#, None),
        (r#"{"type":"ping","data":NaN}"#, None),
        ("\u{feff}{\"type\":\"ping\"}", None),
        (r#"{"type":7,"requestId":"q"}"#, Some("q")),
        (r#"{"requestId":"q"}"#, Some("q")),
        (r#"{"type":"ping","requestId":""}"#, None),
        (r#"{"type":"ping","requestId":7}"#, None),
        (r#"{"type":"ping","requestId":null}"#, None),
        (r#"{"type":"ping","requestId":"\ud800"}"#, None),
        (&format!(r#"{{"type":"ping","requestId":"{long}"}}"#), None),
        (r#"{"type":"ping","requestId":"a","requestId":7}"#, None),
        (
            r#"{"type":"subscribe","channel":"a","includeSenderMetadata":1,"requestId":"q"}"#,
            Some("q"),
        ),
        (&nested(129), None),
    ] {
        check(&mut client, text, "malformed_message", request_id);
    }
    client.send(nested(128));
    client.expect(r#"{"type":"pong"}"#);
    let longest = "x".repeat(128);
    client.send(format!(r#"{{"type":"ping","requestId":"{longest}"}}"#));
    client.expect(&format!(r#"{{"type":"pong","requestId":"{longest}"}}"#));
    client.send(
        r#" { "x" : {} , "requestId" : "first" , "requestId" : "\u0061\"" , "type" : "ping" } "#,
    );
    client.expect(r#"{"type":"pong","requestId":"\u0061\""}"#);
}

#[test]
fn names_that_are_none() {
    let server = Setup::new(1).start();
    let mut client = server.anonymous();
    let (channel, peer) = ("c".repeat(257), "p".repeat(129));
    for bad in [
        "7",
        "null",
        "[]",
        r#""""#,
        r#""a\u0000""#,
        r#""\u001f""#,
        r#""\u007f""#,
        r#""\u009f""#,
        r#""\ud800""#,
        &format!("{channel:?}"),
        r#""é""#,
    ] {
        let is_channel = bad == r#""é""#;
        if !is_channel {
            for kind in ["subscribe", "unsubscribe", "publish"] {
                let text = format!(r#"{{"type":"{kind}","channel":{bad},"data":1,{ID}}}"#);
                check(&mut client, &text, "invalid_channel", Some("q"));
            }
        }
        let text = format!(r#"{{"type":"send","to":{bad},"data":1,{ID}}}"#);
        check(&mut client, &text, "invalid_peer_id", Some("q"));
    }
    for kind in ["subscribe", "unsubscribe", "publish"] {
        let text = format!(r#"{{"type":"{kind}","data":1,{ID}}}"#);
        check(&mut client, &text, "invalid_channel", Some("q"));
    }
    check(
        &mut client,
        &format!(r#"{{"type":"send","data":1,{ID}}}"#),
        "invalid_peer_id",
        Some("q"),
    );
    let text = format!(r#"{{"type":"send","to":"{peer}","data":1,{ID}}}"#);
    check(&mut client, &text, "invalid_peer_id", Some("q"));
    for reserved in ["_metered/x", "_Internal/", "_SYSTEM/a"] {
        let text = format!(r#"{{"type":"subscribe","channel":"{reserved}",{ID}}}"#);
        check(&mut client, &text, "channel_reserved", Some("q"));
    }
    for good in ["_metered", "_systems/x", "é 中 ~", &channel[1..]] {
        client.ask(json!({"type": "unsubscribe", "channel": good}));
    }
}

#[test]
fn of_several_faults_the_first_of_the_table_counts() {
    let keys = [
        secret_key("sk_id_c", &["room-*"], &["subscribe"]),
        key("pk_live_c", &["**"], ALL_ACTIONS),
    ];
    let setup = Setup::new(2).app("app_c\nplan.max_messages_per_period = 1", &keys);
    let server = setup.set("limits.channels_per_connection", 2).start();
    let token = crate::support::token::token("sk_id_c", json!({"sub": "a"}));
    let mut client = server.connect(&format!("?token={token}"));
    for (fields, code) in [
        (
            r#""type":"fly","channel":"","includeSenderMetadata":1"#,
            "malformed_message",
        ),
        (r#""type":"fly","channel":"","to":"""#, "unknown_type"),
        (r#""type":"publish","channel":"""#, "invalid_channel"),
        (r#""type":"send","to":"""#, "invalid_peer_id"),
        (
            r#""type":"publish","channel":"_System/a""#,
            "channel_reserved",
        ),
        (r#""type":"publish","channel":"elsewhere""#, "missing_data"),
        (r#""type":"send","to":"nobody""#, "missing_data"),
        (
            r#""type":"publish","channel":"elsewhere","data":1"#,
            "action_not_permitted",
        ),
        (
            r#""type":"send","to":"nobody","data":1"#,
            "action_not_permitted",
        ),
    ] {
        check(&mut client, &format!("{{{fields},{ID}}}"), code, Some("q"));
        check(&mut client, &format!("{{{fields}}}"), code, None);
    }
    client.subscribe("room-1");
    client.subscribe("room-2");
    client.ask_refused(
        json!({"type": "subscribe", "channel": "elsewhere"}),
        "channel_not_authorized",
    );
    client.ask_refused(
        json!({"type": "subscribe", "channel": "room-3"}),
        "channel_limit_exceeded",
    );
    // Repeating is no third channel, and leaving one makes room.
    client.subscribe("room-2");
    client.ask(json!({"type": "unsubscribe", "channel": "room-1"}));
    client.subscribe("room-3");
    client.ask_refused(
        json!({"type": "subscribe", "channel": "room-1"}),
        "channel_limit_exceeded",
    );
}

#[test]
fn nobody_can_be_told_what_is_not_there() {
    let server = Setup::new(2).start();
    let mut client = server.anonymous();
    let to_itself = client.peer_id.clone();
    for to in ["nobody", &to_itself] {
        client.ask_refused(
            json!({"type": "send", "to": to, "data": 1}),
            "peer_not_found",
        );
    }
    client.send(r#"{"type":"send","to":"nobody","data":1}"#);
    let answer = client.next();
    assert!(
        answer.starts_with(r#"{"type":"error","code":"peer_not_found","message":"#),
        "{answer}"
    );
    // Leaving what one is not in is done, whatever one may do.
    client.ask(json!({"type": "unsubscribe", "channel": "never/joined"}));
}

#[test]
fn an_error_is_written_in_the_documented_order() {
    let server = Setup::new(1).start();
    let mut client = server.anonymous();
    client.send(r#"{"type":"fly","requestId":"q\u0022"}"#);
    let answer = client.next();
    let start = r#"{"type":"error","requestId":"q\u0022","code":"unknown_type","message":""#;
    assert!(
        answer.starts_with(start) && answer.ends_with("\"}"),
        "{answer}"
    );
}

#[test]
fn success_without_a_request_id_is_silent() {
    let server = Setup::new(2).start();
    let mut client = server.quiet_peer("a");
    client.send(r#"{"type":"subscribe","channel":"a"}"#);
    client.send(r#"{"type":"publish","channel":"a","data":1}"#);
    client.send(r#"{"type":"unsubscribe","channel":"a"}"#);
    client.ask(json!({"type": "unsubscribe", "channel": "a"}));
    client.expect_nothing_queued();
}
