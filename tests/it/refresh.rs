//! `refresh`: an open connection goes on with another token, and what that does not allow ends.

use serde_json::{Value, json};

use crate::support::setup::{Setup, secret_key};
use crate::support::token::{now_sec, token};
use crate::support::until;

fn refresh(claims: Value) -> Value {
    json!({"type": "refresh", "token": token("sk_id_a", claims)})
}

#[test]
fn what_a_new_token_does_not_allow_ends_for_all_to_see() {
    for shards in [1, 2, 4] {
        let server = Setup::new(shards).start();
        let mut alice = server.peer("alice");
        alice.subscribe_for_presence("room/a");
        alice.subscribe_for_presence("room/b");
        let mut bob = server.peer("bob");
        assert_eq!(bob.subscribe_for_presence("room/b"), ["alice"]);
        assert_eq!(alice.presence("room/b").0, ["bob"]);

        let exp = now_sec() + 600;
        let claims = json!({"sub": "alice", "exp": exp, "channels": ["room/a"]});
        let id = alice.request(refresh(claims));
        alice.expect(&format!(
            r#"{{"type":"ack","requestId":"{id}","expiresAt":{exp}}}"#
        ));
        let ended: Value = serde_json::from_str(&alice.next()).unwrap();
        assert_eq!(
            (&ended["type"], &ended["code"], &ended["channel"]),
            (
                &json!("error"),
                &json!("channel_not_authorized"),
                &json!("room/b")
            )
        );
        assert_eq!(ended.get("requestId"), None, "{ended}");
        assert_eq!(bob.presence("room/b").1, ["alice"]);

        let publish = |channel: &str| json!({"type": "publish", "channel": channel, "data": 1});
        alice.ask_refused(publish("room/b"), "channel_not_authorized");
        bob.ask(publish("room/b"));
        bob.ask(publish("room/a"));
        alice.expect(r#"{"type":"message","channel":"room/a","from":"bob","data":1}"#);
        alice.expect_nothing_queued();
    }
}

#[test]
fn a_token_is_judged_as_at_a_connect() {
    let server = Setup::new(2)
        .app(
            "app_c",
            &[secret_key("sk_id_c", &["room/*"], &["subscribe"])],
        )
        .start();
    let mut alice = server.quiet_peer("alice");
    let past = now_sec() - 60;
    for claims in [
        json!({"sub": "alice", "exp": past}),
        json!({"sub": "alice", "channels": [7]}),
        json!({"sub": "alice", "iat": now_sec() + 600}),
    ] {
        alice.ask_refused(refresh(claims), "invalid_token");
    }
    for token in [json!("a.b.c"), json!(""), json!(null), json!({})] {
        alice.ask_refused(json!({"type": "refresh", "token": token}), "invalid_token");
    }
    alice.ask_refused(json!({"type": "refresh"}), "invalid_token");
    alice.ask_refused(refresh(json!({"sub": "bob"})), "peer_mismatch");
    let other_app = token("sk_id_b", json!({"sub": "alice"}));
    let other_app = json!({"type": "refresh", "token": other_app});
    alice.ask_refused(other_app, "peer_mismatch");
    let mut guest = server.anonymous();
    guest.ask_refused(refresh(json!({"sub": "alice"})), "action_not_permitted");
    // All of that has changed nothing.
    alice.subscribe("anything");

    let mut carol = server.connect(&format!("?token={}", token("sk_id_c", json!({"sub": "c"}))));
    let more = json!({"sub": "c", "channels": ["hall"]});
    let more = json!({"type": "refresh", "token": token("sk_id_c", more)});
    carol.ask_refused(more, "invalid_token");
}

#[test]
fn the_end_of_the_new_token_is_that_of_the_connection() {
    let server = Setup::new(1).start();
    let mut alice = server.quiet_peer("alice");
    let soon = json!({"sub": "alice", "exp": now_sec() + 2});
    let id = alice.request(refresh(soon));
    assert!(
        alice
            .next()
            .starts_with(&format!(r#"{{"type":"ack","requestId":"{id}""#))
    );
    alice.read_until_close(4002);
}

#[test]
fn an_operator_sees_who_has_shown_what() {
    const A: &str = "/api/internal/v1";
    let server = Setup::new(2).start();
    let mut alice = server.quiet_peer("alice");
    alice.subscribe("room");
    let exp = now_sec() + 600;
    alice.ask_refused(refresh(json!({"sub": "alice", "exp": 1})), "invalid_token");
    alice.request(refresh(
        json!({"sub": "alice", "exp": exp, "channels": ["hall"]}),
    ));
    let admin = server.admin();
    let found = |query: &str| {
        let mut event = Value::Null;
        until(query, || {
            let answer = admin.get(&format!("{A}/events?peer=alice&{query}"));
            event = answer["events"][0].clone();
            event.is_object()
        });
        event
    };
    let refreshed = found("kind=refreshed");
    assert_eq!(refreshed["expiresAt"], exp, "{refreshed}");
    let ended = found("kind=unsubscribed&cause=refresh");
    assert_eq!(ended["channel"], "room", "{ended}");
    let refused = found("kind=error&code=token_expired");
    assert!(
        refused["remedy"].as_str().unwrap().contains("mint"),
        "{refused}"
    );
}
