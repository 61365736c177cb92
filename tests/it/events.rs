//! Why somebody was turned away or disconnected, as an operator finds it: each cause that can be
//! provoked from outside is an event, with what to do about it, and the peer's story tells it.

use std::net::Shutdown;

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::client::Client;
use crate::support::raw::{Raw, frame, handshake, header, text_frame};
use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup, key, secret_key, signer};
use crate::support::token::{SECRET, now_sec, sign, token, token_of};
use crate::support::until;

const A: &str = "/api/internal/v1";

/// A server on which everything that follows can happen.
fn server(shards: u16) -> Server {
    let api = "api_secret_file = \"api.secret\"\n";
    Setup::new(shards)
        .set("limits.outbound_queue_bytes", 200_000)
        .set("limits.message_rate", 50)
        .set("limits.message_burst", 60)
        .set("limits.channels_per_connection", 3)
        .set("auth.explain", true)
        .app(
            "app_narrow",
            &[
                secret_key("sk_id_narrow", &["room/*"], &["subscribe"]),
                key("pk_live_origin", &["**"], ALL_ACTIONS)
                    + "allowed_origins = [\"https://shop.example\"]\n",
            ],
        )
        .app("app_off\nstatus = \"suspended\"", &[signer("sk_id_off")])
        .app("app_rest", &[signer("sk_id_rest") + api])
        .app(
            "app_one",
            &[signer("sk_id_one") + "[apps.plan]\nmax_concurrent_connections = 1\n"],
        )
        .start()
}

/// The events that a query finds, when there are any.
#[track_caller]
fn found(api: &Api, query: &str) -> Vec<Value> {
    let mut events = Vec::new();
    until(&format!("events of {query}"), || {
        let answer = api.get(&format!("{A}/events?{query}"));
        events = answer["events"].as_array().unwrap().clone();
        !events.is_empty()
    });
    events
}

/// What a refused connect showed, and the cause and claim by which it is found.
pub(crate) struct Refusal {
    shown: String,
    headers: &'static str,
    pub cause: &'static str,
    claim: Option<&'static str>,
}

fn of(shown: String, cause: &'static str) -> Refusal {
    Refusal {
        shown,
        headers: "",
        cause,
        claim: None,
    }
}

fn with_token(key_id: &str, claims: Value) -> String {
    format!("?token={}", token(key_id, claims))
}

/// A token of which only the header is not as it should be.
fn with_header(header: &Value, secret: &str) -> String {
    let claims = json!({"sub": "alice", "exp": now_sec() + 600}).to_string();
    format!("?token={}", sign(&header.to_string(), &claims, secret))
}

/// Credentials that are wrong as a whole.
pub(crate) fn refused_credentials() -> Vec<Refusal> {
    let kid = json!({"alg": "HS256", "kid": "sk_id_a"});
    vec![
        of(String::new(), "not_one_credential"),
        of("?key=pk_live_nobody".into(), "unknown_key"),
        of(
            with_token("sk_id_nobody", json!({"sub": "alice"})),
            "unknown_key",
        ),
        of("?key=sk_live_declared_0123456789".into(), "wrong_kind"),
        of(format!("?token={SECRET}"), "wrong_kind"),
        Refusal {
            headers: "Origin: https://elsewhere.example\r\n",
            ..of("?key=pk_live_origin".into(), "origin")
        },
        of(
            with_token("sk_id_a", json!({"sub": "alice", "exp": now_sec() - 60})),
            "token_expired",
        ),
        of(
            with_header(&kid, "another secret of 32 bytes or so"),
            "token_signature",
        ),
    ]
}

/// Tokens of which one rule is broken.
pub(crate) fn refused_tokens() -> Vec<Refusal> {
    vec![
        of(with_header(&json!({"alg": "HS256"}), SECRET), "token_kid"),
        of(
            with_header(&json!({"alg": "HS384", "kid": "sk_id_a"}), SECRET),
            "token_alg",
        ),
        of(
            with_header(
                &json!({"alg": "HS256", "kid": "sk_id_a", "crit": ["x"]}),
                SECRET,
            ),
            "token_crit",
        ),
        Refusal {
            claim: Some("sub"),
            ..of(
                with_token("sk_id_a", json!({"exp": now_sec() + 60})),
                "token_claim",
            )
        },
        Refusal {
            claim: Some("channels"),
            ..of(
                with_token("sk_id_a", json!({"sub": "alice", "channels": 1})),
                "token_claim",
            )
        },
        of(
            with_token("sk_id_a", json!({"sub": "alice", "iat": now_sec() + 600})),
            "token_iat_future",
        ),
        of(
            with_token("sk_id_a", json!({"sub": "alice", "nbf": now_sec() + 600})),
            "token_nbf",
        ),
        of(
            with_token(
                "sk_id_narrow",
                json!({"sub": "alice", "channels": ["hall"]}),
            ),
            "token_channels",
        ),
        of(
            with_token(
                "sk_id_narrow",
                json!({"sub": "alice", "permissions": ["send"]}),
            ),
            "token_permissions",
        ),
        of(
            format!("?token={}", token_of("sk_id_a", "x")),
            "token_malformed",
        ),
        of("?token=rubbish".into(), "token_malformed"),
        of(
            with_token("sk_id_off", json!({"sub": "alice"})),
            "app_suspended",
        ),
    ]
}

#[test]
fn each_refused_connect_is_found_by_its_cause_with_a_remedy() {
    let server = server(1);
    let api = server.admin();
    for Refusal {
        shown,
        headers,
        cause,
        claim,
    } in refused_credentials().into_iter().chain(refused_tokens())
    {
        let before = api.get(&format!("{A}/events?limit=1"));
        let cursor = before["cursor"].as_str().unwrap();
        let answer = server.attempt(&format!("/v1{shown}"), headers);
        let status = if cause == "app_suspended" { 101 } else { 401 };
        assert_eq!(answer.status, status, "{cause}: {answer:?}");
        let events = found(&api, &format!("kind=refused&cause={cause}"));
        let event = events.last().unwrap();
        assert_eq!(event["door"], "connect", "{event}");
        assert_eq!(event["address"], "127.0.0.1", "{event}");
        assert!(!event["remedy"].as_str().unwrap().is_empty(), "{event}");
        assert_eq!(event["claim"].as_str(), claim, "{event}");
        // What was shown is nowhere in it.
        let secret = shown.split_once('=').map_or("", |(_, value)| value);
        assert!(
            secret.is_empty() || !event.to_string().contains(secret),
            "{event}"
        );
        if status == 401 {
            // With `auth.explain` the client is told the same.
            let told = answer.json()["message"].as_str().unwrap().to_owned();
            let text = event["text"].as_str().unwrap();
            let (_, what) = told.split_once(": ").unwrap();
            assert!(text.contains(what), "{told} and {text}");
        }
        let after = api.get(&format!("{A}/events?after={cursor}&kind=closed"));
        assert_eq!(after["events"], json!([]), "nobody was opened: {cause}");
    }
    let why = api.get(&format!("{A}/why?peer=alice"));
    let stories = why["stories"].as_array().unwrap();
    assert_eq!(stories.len(), 5, "{why}");
    assert!(
        stories
            .iter()
            .all(|story| story["end"]["kind"] == "refused")
    );
}

#[test]
fn refusals_that_need_a_state_are_found_too() {
    let server = server(1);
    let api = server.admin();
    let _one = server.connect(&format!(
        "?token={}",
        token("sk_id_one", json!({"sub": "one"}))
    ));
    let full = format!("/v1?token={}", token("sk_id_one", json!({"sub": "two"})));
    assert_eq!(server.attempt(&full, "").status, 101);
    let event = &found(&api, "cause=connection_limit")[0];
    assert_eq!(
        (&event["peer"], &event["code"]),
        (&json!("two"), &json!(4010))
    );
    let quota = &found(&api, "kind=quota")[0];
    assert_eq!(
        (&quota["used"], &quota["limit"]),
        (&json!(1), &json!("connections"))
    );

    let mut raw = server.raw();
    raw.write("GET /v1?key=pk_live_a HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(raw.response().status, 400);
    assert_eq!(found(&api, "cause=bad_upgrade")[0]["status"], 400);

    let rest = Api {
        address: server.public,
        bearer: "sk_live_wrong_0123456789".into(),
    };
    for (bearer, cause) in [
        ("sk_live_wrong_0123456789", "unknown_key"),
        ("pk_live_a", "wrong_kind"),
    ] {
        let rest = Api {
            bearer: bearer.into(),
            ..rest.clone()
        };
        assert_eq!(rest.call("GET", "/v1/usage", None).status, 401);
        let event = &found(&api, &format!("kind=refused&cause={cause}"))[0];
        assert_eq!(
            (&event["door"], &event["status"]),
            (&json!("rest"), &json!(401))
        );
    }
}

/// A connection of a peer, as bytes, behind its `welcome`.
fn welcomed(server: &Server, peer: &str) -> Raw {
    let mut raw = server.raw();
    let token = token("sk_id_rest", json!({"sub": peer}));
    raw.write(handshake(&format!("/v1?token={token}"), ""));
    assert_eq!(raw.response().status, 101);
    assert_eq!(raw.frame().0, 1);
    raw
}

/// Ends a connection of a peer for one cause.
pub(crate) type Provoke = fn(&Server, &Api, &str);

pub(crate) const CLOSES: &[(&str, u16, &str, Provoke)] = &[
    ("client_close", 1_000, "client", |server, _, peer| {
        let mut raw = welcomed(server, peer);
        raw.write(frame(0x88, &1_000_u16.to_be_bytes()));
        assert_eq!(raw.frame().0, 8);
        raw.ends();
    }),
    ("client_gone", 1_006, "client", |server, _, peer| {
        let raw = welcomed(server, peer);
        raw.stream.shutdown(Shutdown::Write).unwrap();
    }),
    ("reset", 1_006, "network", |server, _, peer| {
        let raw = welcomed(server, peer);
        set_socket_linger(&raw.stream, Some(std::time::Duration::ZERO)).unwrap();
    }),
    ("protocol_error", 1_002, "server", |server, _, peer| {
        welcomed(server, peer).write(frame(0x83, b""));
    }),
    ("binary", 1_003, "server", |server, _, peer| {
        welcomed(server, peer).write(frame(0x82, b"{}"));
    }),
    ("bad_utf8", 1_007, "server", |server, _, peer| {
        welcomed(server, peer).write(frame(0x81, b"{\"\xFF\"}"));
    }),
    ("too_big", 1_009, "server", |server, _, peer| {
        welcomed(server, peer).write(header(0x81, 1 << 20));
    }),
    ("message_rate", 4_011, "server", |server, _, peer| {
        let ping = text_frame(r#"{"type":"ping"}"#);
        welcomed(server, peer).write_while_taken(ping.repeat(200));
    }),
    ("token_expired", 4_002, "server", |server, _, peer| {
        let claims = json!({"sub": peer, "exp": now_sec() + 5});
        let query = format!("?token={}", token("sk_id_rest", claims));
        server.connect(&query).expect_close(4_002);
    }),
    ("kicked", 4_020, "server", |server, _, peer| {
        let mut raw = welcomed(server, peer);
        let rest = Api {
            address: server.public,
            bearer: "sk_live_declared_0123456789".into(),
        };
        let kicked = rest.done(200, "DELETE", &format!("/v1/peers/{peer}"), None);
        assert_eq!(kicked["closed"], 1);
        assert_eq!(raw.frame().0, 8);
    }),
    ("slow_consumer", 1_013, "server", |server, _, peer| {
        let mut raw = welcomed(server, peer);
        raw.write(text_frame(
            r#"{"type":"subscribe","channel":"wide","requestId":"1"}"#,
        ));
        assert!(raw.frame().1.starts_with(br#"{"type":"ack""#));
        let rest = Api {
            address: server.public,
            bearer: "sk_live_declared_0123456789".into(),
        };
        // More than the kernel's buffers and the limit take.
        let body = json!({"data": "x".repeat(30_000)});
        for _ in 0..400 {
            rest.done(200, "POST", "/v1/channels/wide/publish", Some(&body));
        }
    }),
    ("key_revoked", 4_001, "server", |server, api, peer| {
        let mut client = of_new_key(server, api, peer);
        let (key_id, client) = (&client.0, &mut client.1);
        api.delete(&format!("{A}/signalling/keys/{key_id}"));
        client.expect_close(4_001);
    }),
    ("app_suspended", 4_012, "server", |server, api, peer| {
        let (_, mut client) = of_new_key(server, api, peer);
        api.patch(
            &format!("{A}/apps/app_{peer}"),
            &json!({"status": "suspended"}),
        );
        client.expect_close(4_012);
    }),
    ("app_deleted", 4_001, "server", |server, api, peer| {
        let (_, mut client) = of_new_key(server, api, peer);
        api.delete(&format!("{A}/apps/app_{peer}"));
        client.expect_close(4_001);
    }),
];

/// A client with a token of a key that was made for it, in an app of its own.
fn of_new_key(server: &Server, api: &Api, peer: &str) -> (String, Client) {
    let app_id = format!("app_{peer}");
    api.create(&format!("{A}/apps"), &json!({"appId": app_id}));
    let body = json!({
        "type": "secret", "channelPatterns": ["**"], "actions": ["publish", "subscribe"],
    });
    let made = api.create(&format!("{A}/apps/{app_id}/keys"), &body);
    let key_id = made["keyId"].as_str().unwrap().to_owned();
    let header = json!({"alg": "HS256", "kid": key_id});
    let payload = json!({"sub": peer, "exp": now_sec() + 600});
    let secret = made["signingSecret"].as_str().unwrap();
    let token = sign(&header.to_string(), &payload.to_string(), secret);
    (key_id, server.connect(&format!("?token={token}")))
}

#[test]
fn each_end_of_a_connection_is_found_by_its_cause_and_its_story_tells_it() {
    let server = server(2);
    let api = server.admin();
    for (cause, code, by, provoke) in CLOSES {
        let peer = cause.replace('_', "-");
        provoke(&server, &api, &peer);
        let events = found(&api, &format!("kind=closed&peer={peer}"));
        assert_eq!(events.len(), 1, "{cause}: {events:?}");
        let event = &events[0];
        assert_eq!(
            (&event["cause"], &event["code"], &event["by"]),
            (&json!(cause), &json!(code), &json!(by)),
            "{event}"
        );
        assert!(!event["remedy"].as_str().unwrap().is_empty(), "{event}");
        assert!(event["bytesOut"].as_u64().unwrap() > 0, "{event}");
        let why = api.get(&format!("{A}/why?peer={peer}"));
        let story = &why["stories"][0];
        assert_eq!(story["end"]["id"], event["id"], "{why}");
        assert_eq!(story["before"][0]["kind"], "opened", "{why}");
    }
    let kicked = &found(&api, "kind=kicked")[0];
    assert_eq!(
        (&kicked["peer"], &kicked["closed"], &kicked["by"]),
        (&json!("kicked"), &json!(1), &json!("key"))
    );
    assert_eq!(kicked["key"], "sk_id_rest");
    let rights = &found(&api, "kind=rights&cause=revoked")[0];
    assert!(rights["object"].as_str().unwrap().starts_with("sk_id_"));
    assert_eq!(
        (&rights["closed"], &rights["by"], &rights["address"]),
        (&json!(1), &json!("admin_token"), &json!("127.0.0.1"))
    );
    let deleted = &found(&api, "kind=rights&cause=deleted")[0];
    assert_eq!(deleted["closed"], 1);
    assert_eq!(
        found(&api, "kind=rights&cause=changed")[0]["changed"],
        "status"
    );
}

#[test]
fn an_operator_disconnects_a_peer_and_the_event_says_so() {
    let server = server(2);
    let api = server.admin();
    let mut ann = [server.peer("a/b c"), server.peer("a/b c")];
    let path = format!("{A}/apps/app_a/peer");
    assert_eq!(
        api.delete(&format!("{path}?id=a%2Fb%20c")),
        json!({"closed": 2})
    );
    ann.iter_mut().for_each(|client| {
        client.expect_close(4_020);
    });
    assert_eq!(api.delete(&format!("{path}?id=nobody"))["closed"], 0);
    let events = found(&api, "kind=kicked&peer=a%2Fb%20c");
    assert_eq!(
        (&events[0]["by"], &events[0]["closed"], &events[0]["app"]),
        (&json!("admin_token"), &json!(2), &json!("app_a"))
    );
    for (query, status) in [
        ("app_a/peer", 400),
        ("app_a/peer?id=", 400),
        ("app_a/peer?peer=a", 400),
        ("app_a/peer?id=a&x=1", 400),
        ("app_none/peer?id=a", 404),
        ("app_a/connection", 400),
        ("app_a/connection?id=1.2", 400),
        ("app_a/connection?id=1.2.3&peer=", 400),
        ("app_a/connection?id=1.2.3&id=1.2.3", 400),
        ("app_none/connection?id=1.2.3", 404),
    ] {
        let path = format!("{A}/apps/{query}");
        assert_eq!(api.call("DELETE", &path, None).status, status, "{query}");
    }
}

#[test]
fn commands_that_are_refused_and_what_goes_on_are_events() {
    let server = server(2);
    let api = server.admin();
    let mut client = server.peer("ann");
    client.subscribe("room-1");
    client.ask(json!({"type": "unsubscribe", "channel": "room-1"}));
    let narrow = json!({"sub": "ben", "permissions": ["subscribe"], "channels": ["room/*"]});
    let mut ben = server.with_claims(narrow);
    for (command, code) in [
        (
            json!({"type": "publish", "channel": "room/1", "data": 1}),
            "action_not_permitted",
        ),
        (
            json!({"type": "subscribe", "channel": "hall"}),
            "channel_not_authorized",
        ),
        (json!({"type": "wave"}), "unknown_type"),
        (
            json!({"type": "subscribe", "channel": ""}),
            "invalid_channel",
        ),
    ] {
        ben.ask_refused(command, code);
        let event = &found(&api, &format!("kind=error&code={code}"))[0];
        assert_eq!(event["peer"], "ben", "{event}");
        assert!(!event["remedy"].as_str().unwrap().is_empty(), "{event}");
    }
    client.ask_refused(
        json!({"type": "send", "to": "nobody", "data": 1}),
        "peer_not_found",
    );
    let error = &found(&api, "kind=error&code=peer_not_found")[0];
    // `to` is there where the receiver's owner is the sender's own shard.
    assert_eq!(
        (&error["peer"], &error["channel"]),
        (&json!("ann"), &Value::Null)
    );
    assert_eq!(found(&api, "kind=error&channel=hall")[0]["peer"], "ben");
    let story: Vec<_> = found(&api, "peer=ann&kind=opened,subscribed,unsubscribed");
    let kinds: Vec<_> = story
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["opened", "subscribed", "unsubscribed"]);
    assert_eq!(story[1]["channel"], "room-1");
    assert_eq!(
        api.get(&format!("{A}/why?app=app_a&peer=ann"))["connected"],
        1
    );
    let ready = found(&api, "kind=node&cause=ready&since=1d");
    assert_eq!(ready.len(), 1);
}

#[test]
fn without_memory_for_events_there_are_none() {
    let server = Setup::new(1).set("events.memory_per_shard", 0).start();
    let _client = server.peer("ann");
    let answer = server.admin().call("GET", &format!("{A}/events"), None);
    answer.is_error(404, "invalid_request");
}
