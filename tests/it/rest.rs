//! The REST control plane: tokens, publications, peers, usage, whichever shard answers.

use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::client::Client;
use crate::support::on_shards;
use crate::support::raw::Raw;
use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup, key, secret_key};
use crate::support::token::{SECRET, now_sec};

const API_SECRET: &str = "sk_live_declared_0123456789";
const TOKENS: &str = "/v1/tokens";

/// A server with an app for REST: `sk_id_r` has all rights and an API secret, `sk_id_n` few.
fn start(shards: u16) -> Server {
    start_with("app_r", shards)
}

fn start_with(app: &str, shards: u16) -> Server {
    let keys = [
        key("pk_live_r", &["**"], ALL_ACTIONS),
        secret_key("sk_id_r", &["**"], ALL_ACTIONS) + "api_secret_file = \"api.secret\"\n",
        secret_key("sk_id_n", &["room-*"], &["subscribe"]),
    ];
    Setup::new(shards).app(app, &keys).start()
}

fn api(server: &Server) -> Api {
    Api {
        address: server.public,
        bearer: API_SECRET.into(),
    }
}

fn narrow(server: &Server) -> Api {
    Api {
        address: server.public,
        bearer: format!("sk_id_n:{SECRET}"),
    }
}

/// A client with a token from the API; without presence, to hear publications only.
fn minted(server: &Server, peer_id: &str) -> Client {
    let permissions = ["publish", "subscribe", "send"];
    let body = json!({"peerId": peer_id, "permissions": permissions});
    let answer = api(server).done(200, "POST", TOKENS, Some(&body));
    server.connect(&format!("?token={}", answer["token"].as_str().unwrap()))
}

#[test]
fn requests_without_a_key_have_a_limit_and_those_with_one_have_none() {
    on_shards(|shards| {
        let keys = [
            key("pk_live_r", &["**"], ALL_ACTIONS),
            secret_key("sk_id_r", &["**"], ALL_ACTIONS) + "api_secret_file = \"api.secret\"\n",
        ];
        let server = Setup::new(shards)
            .set("rest.unauthenticated_rate_per_address", 1)
            .set("rest.unauthenticated_burst_per_address", 20)
            .app("app_r", &keys)
            .start();
        let asked = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        // However long these take, they come faster than one a second.
        let limited = (0..200).find_map(|_| {
            let mut raw = Raw::open(server.public);
            raw.write(asked);
            let response = raw.response();
            (response.status != 200).then_some((raw, response))
        });
        let (mut raw, response) = limited.expect("a limit");
        response.is_error(429, "rate_limited");
        assert_eq!(response.header("retry-after"), Some("1"));
        raw.ends();
        for _ in 0..30 {
            api(&server).done(200, "GET", "/v1/usage", None);
        }
        server
            .connect("?key=pk_live_r")
            .ask(json!({"type": "unsubscribe", "channel": "a"}));
    });
}

#[test]
fn a_minted_token_connects_with_what_it_says() {
    on_shards(|shards| {
        let server = start(shards);
        for credential in [API_SECRET.to_owned(), format!("sk_id_r:{SECRET}")] {
            let api = Api {
                address: server.public,
                bearer: credential,
            };
            let answer = api.done(
                200,
                "POST",
                TOKENS,
                Some(&json!({
                    "peerId": "alice", "channels": ["room-*"], "permissions": ["subscribe"],
                    "expiresInSec": 600, "metadata": {"plan": "gold"}, "peerMetadata": {"n": 1},
                })),
            );
            let expires_at = answer["expiresAt"].as_u64().unwrap();
            assert!(expires_at.abs_diff(now_sec() + 600) <= 30, "{answer}");
            let token = answer["token"].as_str().unwrap();
            let mut client = server.connect(&format!("?token={token}"));
            assert_eq!(client.peer_id, "alice");
            let tail = format!(r#""expiresAt":{expires_at},"serverTime":"#);
            assert!(client.welcome.contains(&tail), "{}", client.welcome);
            assert!(client.welcome.ends_with(r#""metadata":{"plan":"gold"}}"#));
            client.subscribe("room-1");
            let publish = json!({"type": "publish", "channel": "room-1", "data": 1});
            client.ask_refused(publish, "action_not_permitted");
        }
    });
}

#[test]
fn a_publication_reaches_every_subscriber_in_the_channels_order() {
    on_shards(|shards| {
        let server = start(shards);
        let mut peers: Vec<Client> = (0..6)
            .map(|number| minted(&server, &format!("p{number}")))
            .collect();
        peers.iter_mut().for_each(|peer| peer.subscribe("room/é"));
        let api = api(&server);
        let path = "/v1/channels/room%2F%C3%A9/publish";
        // Byte for byte, on a connection of its own.
        let mut raw = Raw::open(server.public);
        let data = r#"{ "a" : 1e400 , "b":"\ud800"}"#;
        let body = format!(r#"{{"data": {data} }}"#);
        raw.write(api.request("POST", path, None).replace(
            "Content-Length: 0\r\nConnection: close\r\n\r\n",
            &format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        ));
        let answer = raw.response();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json(), json!({"channel": "room/é", "delivered": 6}));
        let message = |from: &str, data: &str| {
            format!(r#"{{"type":"message","channel":"room/é","from":"{from}","data":{data}}}"#)
        };
        peers
            .iter_mut()
            .for_each(|peer| peer.expect(&message("server", data)));
        // The answer means that it has its place: what is published later comes later.
        for number in 0..10 {
            api.done(
                200,
                "POST",
                path,
                Some(&json!({"data": number, "from": "cron"})),
            );
            peers[0].expect(&message("cron", &number.to_string()));
            peers[0].publish("room/é", json!(-number));
            for peer in &mut peers[1..] {
                peer.expect(&message("cron", &number.to_string()));
                peer.expect(&message("p0", &(-number).to_string()));
            }
        }
        let empty = api.done(
            200,
            "POST",
            "/v1/channels/empty/publish",
            Some(&json!({"data": null})),
        );
        assert_eq!(empty["delivered"], 0);
    });
}

#[test]
fn peers_are_listed_once_each_and_sorted() {
    on_shards(|shards| {
        let server = start(shards);
        let api = api(&server);
        let peers = || api.get("/v1/channels/room-1/peers");
        assert_eq!(peers(), json!({"channel": "room-1", "peers": []}));
        let mut clients: Vec<Client> = ["c", "a", "b", "a", "a"]
            .iter()
            .map(|id| minted(&server, id))
            .collect();
        clients
            .iter_mut()
            .for_each(|client| client.subscribe("room-1"));
        let ids = |ids: &[&str]| {
            let peers: Vec<Value> = ids.iter().map(|id| json!({"peerId": id})).collect();
            json!({"channel": "room-1", "peers": peers})
        };
        assert_eq!(peers(), ids(&["a", "b", "c"]));
        clients[0].ask(json!({"type": "unsubscribe", "channel": "room-1"}));
        assert_eq!(peers(), ids(&["a", "b"]));
    });
}

#[test]
fn a_kicked_peer_is_gone_when_the_answer_comes() {
    on_shards(|shards| {
        let server = start(shards);
        let api = api(&server);
        let mut watcher = server.connect("?key=pk_live_r");
        watcher.subscribe_for_presence("room-1");
        let mut tabs: Vec<Client> = (0..4).map(|_| minted(&server, "a /b")).collect();
        tabs.iter_mut().for_each(|tab| tab.subscribe("room-1"));
        assert_eq!(watcher.presence("room-1").0, ["a /b"]);
        // The same peer id in another app is another peer.
        let mut other_app = server.peer("a /b");
        let kicked = api.delete("/v1/peers/a%20/b");
        assert_eq!(kicked, json!({"peerId": "a /b", "closed": 4}));
        let listed = api.get("/v1/channels/room-1/peers");
        assert_eq!(listed["peers"].as_array().unwrap().len(), 1, "{listed}");
        tabs.iter_mut().for_each(|tab| drop(tab.expect_close(4020)));
        assert_eq!(watcher.presence("room-1").1, ["a /b"]);
        assert_eq!(api.delete("/v1/peers/a%20/b")["closed"], 0);
        other_app.expect_nothing_queued();
    });
}

#[test]
fn usage_counts_attempts_and_drops_what_is_over_the_quota() {
    on_shards(|shards| {
        let server = start_with("app_r\nplan.max_messages_per_period = 6", shards);
        let api = api(&server);
        let (mut a, mut b) = (minted(&server, "a"), minted(&server, "b"));
        a.subscribe("room-1");
        let path = "/v1/channels/room-1/publish";
        for number in 0..2 {
            api.done(200, "POST", path, Some(&json!({"data": number})));
            b.publish("room-1", json!(number));
            b.ask(json!({"type": "send", "to": "a", "data": number}));
        }
        let over = api.call("POST", path, Some(&json!({"data": "over"})));
        over.is_error(429, "over_message_quota");
        let publish = json!({"type": "publish", "channel": "room-1", "data": "over"});
        b.ask_refused(publish, "over_message_quota");
        // The quota is looked at before the peer.
        let send = json!({"type": "send", "to": "nobody", "data": "over"});
        b.ask_refused(send, "over_message_quota");
        for _ in 0..6 {
            assert!(!a.next().contains("over"));
        }
        a.expect_nothing_queued();
        crate::support::until("the count is told", || {
            let usage = api.get("/v1/usage");
            assert_eq!(usage["appId"], "app_r");
            assert_eq!(usage["concurrentNow"], 2);
            usage["messagesUsed"] == 9
        });
    });
}

#[test]
fn rights_of_the_key_hold() {
    let server = start(2);
    let narrow = narrow(&server);
    let data = json!({"data": 1});
    for (method, path, body, code) in [
        (
            "POST",
            "/v1/channels/room-1/publish",
            Some(&data),
            "action_not_permitted",
        ),
        (
            "GET",
            "/v1/channels/room-1/peers",
            None,
            "action_not_permitted",
        ),
        (
            "POST",
            TOKENS,
            Some(&json!({"peerId": "a", "permissions": ["publish"]})),
            "action_not_permitted",
        ),
        (
            "POST",
            TOKENS,
            Some(&json!({"peerId": "a", "channels": ["**"]})),
            "channel_not_authorized",
        ),
    ] {
        narrow.call(method, path, body).is_error(403, code);
    }
    let claims = json!({"peerId": "a", "channels": ["room-4*"], "permissions": ["subscribe"]});
    narrow.done(200, "POST", TOKENS, Some(&claims));
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let server = start(2);
    let api = api(&server);
    let publish = |channel: &str| format!("/v1/channels/{channel}/publish");
    let (data, mint) = (json!({"data": 1}), json!({"peerId": "a"}));
    let with = |field: &str, value: Value| {
        let mut body = if field == "from" {
            data.clone()
        } else {
            mint.clone()
        };
        body[field] = value;
        body
    };
    for (path, body) in [
        (TOKENS, json!({})),
        (TOKENS, json!([])),
        (TOKENS, with("peerId", json!("é"))),
        (TOKENS, with("expiresInSec", json!(0))),
        (TOKENS, with("expiresInSec", json!(86_401))),
        (TOKENS, with("expiresInSec", json!("1h"))),
        (TOKENS, with("channels", json!("room"))),
        (TOKENS, with("metadata", json!([]))),
        (TOKENS, with("chanels", json!(["room-1"]))),
        (
            TOKENS,
            with("peerMetadata", json!({"m": "x".repeat(4_096)})),
        ),
        (&publish("a"), json!({})),
        (&publish("a"), with("from", json!(""))),
        (&publish("a%00b"), data.clone()),
        (&publish("a%zz"), data.clone()),
        (&publish("a%f"), data.clone()),
        (&publish(&"x".repeat(257)), data.clone()),
    ] {
        let response = api.call("POST", path, Some(&body));
        assert_eq!(response.status, 400, "{path} {body}: {response:?}");
        response.is_error(400, "invalid_request");
    }
    api.call("POST", &publish("_Metered%2Fx"), Some(&data))
        .is_error(400, "channel_reserved");
    for (method, path, status) in [
        ("GET", TOKENS, 405),
        ("POST", "/v1/usage", 405),
        ("GET", "/v1/channels/a/publish", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/channels/a", 404),
    ] {
        let response = api.call(method, path, None);
        assert_eq!(response.status, status, "{method} {path}: {response:?}");
        assert_eq!(
            response.header("allow").is_some(),
            status == 405,
            "{response:?}"
        );
    }
    let sent = |from: &str, to: &str| {
        let request = api.request("POST", TOKENS, Some(&mint));
        let mut raw = Raw::open(server.public);
        raw.write(request.replace(from, to));
        raw.response()
    };
    sent("application/json", "text/plain").is_error(415, "invalid_request");
    sent("application/json", "Application/JSON; charset=utf-8");
    sent("Content-Length: 14", "Content-Length: 52428800").is_error(413, "invalid_request");
    sent("Content-Length: 14", "Content-Length: 13").is_error(400, "invalid_request");
    sent("\"a\"}", "\"a\"!").is_error(400, "invalid_request");
}

#[test]
fn without_a_good_credential_nothing_is_told() {
    let server = start(2);
    let mut api = api(&server);
    let mut bodies = Vec::new();
    for bearer in [
        "",
        "sk_live_wrong",
        "sk_id_r",
        "pk_live_r",
        "sk_id_r:wrong",
        &format!("sk_id_unknown:{SECRET}"),
        &format!("pk_live_r:{SECRET}"),
        &format!("{API_SECRET}x"),
        SECRET,
    ] {
        api.bearer = bearer.into();
        for (method, path) in [
            ("POST", TOKENS),
            ("GET", "/v1/channels/a/peers"),
            ("POST", "/v1/channels/_system%2F/publish"),
            ("DELETE", "/v1/peers/%zz"),
            ("GET", "/v1/usage"),
        ] {
            let response = api.call(method, path, None);
            assert_eq!(
                response.status, 401,
                "{bearer:?} {method} {path}: {response:?}"
            );
            response.is_error(401, "unauthorized");
            bodies.push(response.body);
        }
    }
    assert!(
        bodies.windows(2).all(|pair| pair[0] == pair[1]),
        "{bodies:?}"
    );
}

#[test]
fn connections_are_kept_and_requests_may_be_pipelined_and_chunked() {
    let server = start(2);
    let api = api(&server);
    let publish = "/v1/channels/a/publish";
    let kept = api
        .request("POST", publish, Some(&json!({"data": 1})))
        .replace("Connection: close\r\n", "");
    let mut raw = Raw::open(server.public);
    raw.write(kept.repeat(20));
    for _ in 0..20 {
        assert_eq!(raw.response().status, 200);
    }
    let chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"dat\r\n5;x=y\r\na\":1}\r\n0\r\n\r\n";
    raw.write(kept.replace("Content-Length: 10\r\n\r\n{\"data\":1}", chunked));
    assert_eq!(raw.response().status, 200);
    let (head, body) = kept.split_once("\r\n\r\n").unwrap();
    raw.write(format!("{head}\r\nExpect: 100-continue\r\n\r\n"));
    assert_eq!(raw.response().status, 100);
    raw.write(body);
    assert_eq!(raw.response().status, 200);
    raw.write(api.request("GET", "/v1/openapi.json", None));
    assert_eq!(
        raw.response().json()["openapi"]
            .as_str()
            .unwrap()
            .split_at(3)
            .0,
        "3.1"
    );
    raw.ends();
}

#[test]
fn an_encoded_body_is_refused_and_told_what_is_taken() {
    let server = start(1);
    let api = api(&server);
    let send = |coding: &str| {
        let request = api.request("POST", "/v1/channels/a/publish", Some(&json!({"data": 1})));
        let mut raw = Raw::open(server.public);
        raw.write(request.replacen(
            "\r\n\r\n",
            &format!("\r\nContent-Encoding: {coding}\r\n\r\n"),
            1,
        ));
        raw.response()
    };
    assert_eq!(send("identity").status, 200);
    for coding in ["gzip", "br", "x-unknown", "identity, gzip"] {
        let response = send(coding);
        response.is_error(415, "invalid_request");
        assert_eq!(response.header("accept-encoding"), Some("identity"));
        assert!(response.body.contains("Content-Encoding"), "{response:?}");
    }
}

#[test]
fn a_token_that_could_never_connect_is_not_minted() {
    let server = start(1);
    let api = api(&server);
    let mint = |patterns: usize| {
        let channels = vec!["c".repeat(203); patterns];
        api.call(
            "POST",
            TOKENS,
            Some(&json!({"peerId": "ann", "channels": channels})),
        )
    };
    let refused = mint(100);
    refused.is_error(400, "invalid_request");
    assert!(
        refused.body.contains("the token would have 2"),
        "{refused:?}"
    );
    assert!(
        refused.body.contains("no more than 22528 can connect"),
        "{refused:?}"
    );
    // The longest that is minted connects.
    let longest = (60..100)
        .rev()
        .map(mint)
        .find(|minted| minted.status == 200);
    let token = longest.unwrap().json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(token.len() > 22_000, "{}", token.len());
    assert_eq!(
        server.attempt(&format!("/v1?token={token}"), "").status,
        101
    );
}

#[test]
fn pages_of_any_site_may_read_what_anybody_may() {
    let server = start(1);
    let api = api(&server);
    for path in ["/healthz", "/v1/openapi.json"] {
        let response = api.call("GET", path, None);
        assert_eq!(
            response.header("access-control-allow-origin"),
            Some("*"),
            "{path}"
        );
    }
    let response = api.call("GET", "/v1/usage", None);
    assert_eq!(response.header("access-control-allow-origin"), None);
}
