//! A trace: what one peer or channel publishes and sends is told for some minutes, and never what
//! it says.

use serde_json::{Value, json};

use crate::support::server::ringmesh;
use crate::support::setup::Setup;
use crate::support::until;

const TRACE: &str = "/api/internal/v1/trace";

#[test]
fn the_messages_of_one_peer_are_told_without_what_they_say() {
    let server = Setup::new(2).start();
    let admin = server.admin();
    let mut alice = server.quiet_peer("alice");
    let mut bob = server.quiet_peer("bob");
    bob.subscribe("room");
    alice.publish("room", json!("before"));
    let body = json!({"app": "app_a", "peer": "alice", "minutes": 1});
    assert_eq!(admin.done(200, "POST", TRACE, Some(&body))["minutes"], 1);
    alice.publish("room", json!("a secret"));
    alice.ask(json!({"type": "send", "to": "bob", "data": "a secret"}));
    let mut events = Value::Null;
    until("the traced messages", || {
        events = admin.get("/api/internal/v1/events?kind=traced&peer=alice")["events"].clone();
        events.as_array().unwrap().len() == 2
    });
    let [published, sent] = [0, 1].map(|at| {
        let causes = ["published", "sent"];
        let mut events = events.as_array().unwrap().iter();
        events.find(|it| it["cause"] == causes[at]).unwrap().clone()
    });
    assert_eq!(published["channel"], "room");
    assert_eq!(published["members"], 1);
    assert_eq!(published["app"], "app_a");
    assert_eq!(sent["to"], "bob");
    let text = published["text"].as_str().unwrap();
    assert!(text.starts_with("alice published to room: "), "{text}");
    assert!(!events.to_string().contains("secret"));

    let mut command = ringmesh();
    let command = command
        .args("trace alice --app app_a --minutes 0 --json".split(' '))
        .arg("--admin-url")
        .arg(format!("http://{}", admin.address))
        .env("RINGMESH_ADMIN_TOKEN", &admin.bearer);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let ended: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ended["minutes"], 0);
    alice.publish("room", json!("after"));
    let all = admin.get("/api/internal/v1/events?kind=traced");
    assert_eq!(all["events"].as_array().unwrap().len(), 2);
}

#[test]
fn the_event_of_a_trace_says_who_is_traced_and_nobody_ends_anothers() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    let trace =
        |peer: &str, minutes: u64| json!({"app": "app_a", "peer": peer, "minutes": minutes});
    admin.done(200, "POST", TRACE, Some(&trace("nobody", 0)));
    admin.done(200, "POST", TRACE, Some(&trace("alice", 5)));
    let answer = admin.call("POST", TRACE, Some(&trace("bob", 0)));
    answer.is_error(409, "conflict");
    admin.done(200, "POST", TRACE, Some(&trace("bob", 5)));
    admin.done(200, "POST", TRACE, Some(&trace("bob", 0)));
    let room = json!({"app": "app_a", "channel": "room", "minutes": 1});
    admin.done(200, "POST", TRACE, Some(&room));
    let mut details = Vec::new();
    until("the events of the traces", || {
        let events = admin.get("/api/internal/v1/events?kind=admin&cause=trace");
        let events = events["events"].as_array().unwrap().clone();
        details = events
            .iter()
            .map(|it| {
                assert_eq!(
                    (&it["by"], &it["app"]),
                    (&json!("admin_token"), &json!("app_a"))
                );
                it["detail"].as_str().unwrap().to_owned()
            })
            .collect();
        details.len() == 5
    });
    assert_eq!(
        details,
        [
            "peer nobody of app_a, no longer",
            "peer alice of app_a, for 5 min",
            "peer bob of app_a, for 5 min, in place of peer alice of app_a",
            "peer bob of app_a, no longer",
            "channel room of app_a, for 1 min",
        ]
    );
}

#[test]
fn what_is_wrong_with_a_trace_is_named() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    for (body, field) in [
        (
            json!({"app": "app_a", "peer": "a", "minutes": "x"}),
            "minutes: ",
        ),
        (
            json!({"app": "app_a", "peer": "a", "minutes": 11}),
            "minutes: ",
        ),
        (json!({"app": 5, "peer": "a"}), "app: "),
        (json!({"peer": "a"}), "app: is required"),
        (json!({"app": "app_a", "channel": 5}), "channel: "),
        (json!({"app": "app_a"}), "peer: "),
    ] {
        let answer = admin.call("POST", TRACE, Some(&body));
        answer.is_error(400, "invalid_request");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(field), "{body}: {message}");
    }
}

#[test]
fn what_is_named_twice_or_on_no_shard_is_refused_at_once() {
    let server = Setup::new(2).start();
    let admin = server.admin();
    let base = "/api/internal/v1";
    for path in [
        "events?kind=closed&kind=opened",
        "events?limit=1&limit=2",
        "why?app=app_a&peer=a&peer=b",
        "apps?limit=1&limit=2",
        "stats/history?seconds=1&seconds=2",
        "apps/app_a/channels?limit=1&limit=1",
    ] {
        let answer = admin.call("GET", &format!("{base}/{path}"), None);
        answer.is_error(400, "invalid_request");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.ends_with(": it may be there once"),
            "{path}: {message}"
        );
    }
    let path = format!("{base}/apps/app_a/connection?id=2.1.1");
    admin.call("DELETE", &path, None).is_error(404, "not_found");
    let path = format!("{base}/apps/app_a/connection?id=1.1.1");
    assert_eq!(admin.call("DELETE", &path, None).status, 200);
    let path = format!("{base}/apps/app_a/connection?id=1.1.1&id=1.1.1");
    admin
        .call("DELETE", &path, None)
        .is_error(400, "invalid_request");
}

#[test]
fn a_trace_names_one_peer_or_one_channel_of_an_app_for_ten_minutes_at_most() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    for body in [
        json!({"app": "app_a"}),
        json!({"app": "app_a", "peer": "a", "channel": "b"}),
        json!({"app": "app_a", "peer": ""}),
        json!({"app": "app_a", "channel": 5}),
        json!({"app": "app_a", "peer": "a", "minutes": 11}),
        json!({"app": "app_a", "peer": "a", "minutes": -1}),
        json!({"app": "app_a", "peer": "a", "hours": 1}),
        json!({"peer": "a"}),
    ] {
        let answer = admin.call("POST", TRACE, Some(&body));
        answer.is_error(400, "invalid_request");
    }
    let body = json!({"app": "app_x", "peer": "a"});
    admin
        .call("POST", TRACE, Some(&body))
        .is_error(404, "not_found");
}
