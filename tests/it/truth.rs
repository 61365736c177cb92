//! Whoever floods a server does not wash away what it knows of others; what is counted is what is
//! recorded; and nothing is recorded that should not be.

use std::io::{Read, Write};
use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::admin::Api;
use crate::support::raw::handshake;
use crate::support::server::Server;
use crate::support::setup::{Setup, signer};
use crate::support::token::token;
use crate::support::{PATIENCE, until};

const A: &str = "/api/internal/v1";

/// Everything that a query finds, page after page.
fn all(api: &Api, query: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut page = api.get(&format!("{A}/events?since=1d&limit=1000&{query}"));
    assert_eq!(page["lost"], 0);
    // The newest come first; this is all of them as long as they are fewer.
    assert!(page["events"].as_array().unwrap().len() < 1_000);
    while let Some(events) = page["events"].as_array().filter(|it| !it.is_empty()) {
        found.extend(events.iter().cloned());
        let cursor = page["cursor"].as_str().unwrap();
        page = api.get(&format!("{A}/events?after={cursor}&limit=1000&{query}"));
    }
    found
}

fn sum(events: &[Value]) -> u64 {
    let own = events.iter().filter(|it| it["summary"] != true);
    own.map(|it| it["count"].as_u64().unwrap()).sum()
}

/// The sum of a counter over all shards, of that cause.
fn counted(api: &Api, name: &str, label: &str) -> u64 {
    let page = api.call("GET", "/metrics", None).body;
    let lines = page
        .lines()
        .filter(|line| line.starts_with(&format!("ringmesh_{name}{{")) && line.contains(label));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum::<f64>() as u64
}

/// Shows a key that is not there, from that address.
fn strange_connect(server: &Server, from: [u8; 4]) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&server.public.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream: std::net::TcpStream = socket.into();
    stream
        .write_all(handshake("/v1?key=pk_live_nobody", "").as_bytes())
        .unwrap();
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).unwrap();
}

#[test]
fn a_flood_from_many_addresses_is_counted_and_washes_nothing_away() {
    const ADDRESSES: u8 = 150;
    let server = Setup::new(2)
        .set("events.memory_per_shard", 1 << 20)
        .start();
    let api = server.admin();
    let alice = server.peer("alice");
    alice.close(Some(1_000));
    for round in 0..3 {
        for address in 0..ADDRESSES {
            strange_connect(&server, [127, 0, 1 + round % 2, 1 + address]);
        }
    }
    for _ in 0..60 {
        assert_eq!(server.attempt("/v1?token=rubbish", "").status, 101 + 300);
        assert_eq!(server.peer("ben").close(Some(1_000)), 1_000);
    }
    let refused = 3 * u64::from(ADDRESSES);
    until("the sums of a second", || {
        sum(&all(&api, "kind=refused&cause=unknown_key")) == refused
    });
    let name = "handshakes_refused_total";
    assert_eq!(counted(&api, name, "cause=\"unknown_key\""), refused);
    until("the sums of the others", || {
        sum(&all(&api, "kind=refused&cause=token_malformed")) == 60
    });
    assert_eq!(counted(&api, name, "cause=\"token_invalid\""), 60);
    until("the ends", || sum(&all(&api, "kind=closed")) == 61);
    assert_eq!(counted(&api, "handshakes_total", ""), 61);
    // Nobody is blamed for what others did.
    let events = all(&api, "kind=refused&cause=unknown_key");
    for address in 0..ADDRESSES {
        let of = |net: u8| json!(format!("127.0.{net}.{}", 1 + address));
        for (net, did) in [(1, 2), (2, 1)] {
            let told = events.iter().filter(|it| it["address"] == of(net));
            let told: u64 = told.map(|it| it["count"].as_u64().unwrap()).sum();
            assert!(told <= did, "{net} {address}: {told}");
        }
    }
    // Who was there before is told of.
    let why = api.get(&format!("{A}/why?peer=alice"));
    assert_eq!(why["stories"][0]["end"]["cause"], "client_close", "{why}");
}

/// A tenant's backend kicks peers that are not there, as often as it may.
#[test]
fn kicks_of_nobody_wash_nothing_away() {
    let secret = "api_secret_file = \"api.secret\"\n";
    let server = Setup::new(1)
        .set("events.memory_per_shard", 1 << 20)
        .app("app_rest", &[signer("sk_id_rest") + secret])
        .start();
    let api = server.admin();
    server.peer("alice").close(Some(1_000));
    let rest = Api {
        address: server.public,
        bearer: "sk_live_declared_0123456789".into(),
    };
    let long = "n".repeat(120);
    for number in 0..300 {
        let path = format!("/v1/peers/{long}{number}");
        assert_eq!(rest.done(200, "DELETE", &path, None)["closed"], 0);
    }
    until("the sums", || sum(&all(&api, "kind=kicked")) == 300);
    let events = all(&api, "kind=kicked");
    assert!(events.len() < 200, "{}", events.len());
    assert!(events.iter().all(|it| it["peer"].is_null()));
    // None of them says that somebody was kicked.
    let text = "a kick by key sk_id_rest found nobody connected";
    for event in &events {
        assert_eq!(
            (&event["cause"], &event["text"]),
            (&json!("peer_not_found"), &json!(text))
        );
    }
    let kick = |peer: &str| api.delete(&format!("{A}/apps/app_a/peer?id={peer}"))["closed"].clone();
    let _bob = server.peer("bob");
    assert_eq!((kick("nobody"), kick("bob")), (json!(0), json!(1)));
    until("both", || sum(&all(&api, "kind=kicked")) == 302);
    assert_eq!(sum(&all(&api, "kind=kicked&cause=-peer_not_found")), 1);
}

#[test]
fn what_is_off_is_nowhere_to_be_read() {
    for (addresses, shown) in [("masked", json!("127.0.0.0")), ("off", Value::Null)] {
        let server = Setup::new(1)
            .set("events.addresses", format!("\"{addresses}\""))
            .set("events.peers", "\"hashed\"")
            .set("log.events", "\"all\"")
            .start();
        let api = server.admin();
        let mut alice = server.peer("alice-wonder");
        alice.subscribe("room");
        alice.ask_refused(
            json!({"type": "send", "to": "bob-marley", "data": 1}),
            "peer_not_found",
        );
        let expired = token("sk_id_a", json!({"sub": "alice-wonder", "exp": 1}));
        server.attempt(&format!("/v1?token={expired}"), "");
        let kicked = api.delete(&format!("{A}/apps/app_a/peer?id=alice-wonder"));
        assert_eq!(kicked["closed"], 1);
        alice.read_until_close(4_020);
        let mut events = Vec::new();
        until("the end", || {
            events = all(&api, "peer=alice-wonder");
            events.iter().any(|it| it["kind"] == "closed")
        });
        let kinds = [
            "opened",
            "subscribed",
            "error",
            "refused",
            "kicked",
            "closed",
        ];
        for kind in kinds {
            let event = events.iter().find(|it| it["kind"] == kind);
            let event = event.unwrap_or_else(|| panic!("{kind}: {events:?}"));
            let hash = event["peer"].as_str().unwrap();
            assert_eq!(hash.len(), 16, "{event}");
            if kind != "kicked" {
                assert_eq!(event["address"], shown, "{event}");
            }
        }
        let error = events.iter().find(|it| it["kind"] == "error").unwrap();
        assert_eq!(error["to"].as_str().unwrap().len(), 16, "{error}");
        let why = api.get(&format!("{A}/why?peer=alice-wonder&app=app_a"));
        assert_eq!(why["stories"][0]["end"]["kind"], "closed", "{why}");
        let told = [
            api.get(&format!("{A}/events?limit=1000")).to_string(),
            why.to_string(),
            api.get(&format!("{A}/warnings")).to_string(),
        ];
        let mut told = told.join("\n");
        server.log.find("the end in the log", |line| {
            line.contains("\"message\":\"closed\"").then_some(())
        });
        let logged = server.log.so_far();
        let logged = logged.iter().filter(|line| line.contains("\"event\":"));
        told += &logged.cloned().collect::<Vec<_>>().join("\n");
        for hidden in ["alice", "bob-", "127.0.0.1"] {
            assert!(!told.contains(hidden), "{hidden}: {told}");
        }
    }
}

/// What an operator can read about Ann, and about the server.
fn all_that_is_told(api: &Api, server: &Server) -> String {
    let told = [
        api.get(&format!("{A}/events?limit=1000&since=1d"))
            .to_string(),
        api.get(&format!("{A}/why?peer=ann")).to_string(),
        api.get(&format!("{A}/warnings")).to_string(),
        api.get(&format!("{A}/node")).to_string(),
        server.log.so_far().join("\n"),
    ];
    told.join("\n")
}

#[test]
fn no_secret_is_in_anything_that_is_told() {
    let server = Setup::new(2).set("log.events", "\"all\"").start();
    let api = server.admin();
    let good = token(
        "sk_id_a",
        json!({
            "sub": "ann", "metadata": {"x": "hidden-metadata"},
            "peerMetadata": {"y": "hidden-peer-metadata"},
        }),
    );
    let bad = token("sk_id_a", json!({"sub": "ann", "exp": 1}));
    let mut ann = server.connect(&format!("?token={good}&more=hidden-query"));
    ann.publish("room", json!("hidden-payload"));
    ann.ask_refused(
        json!({"type": "send", "to": "nobody", "data": "hidden-data"}),
        "peer_not_found",
    );
    let headers = "X-Hidden: hidden-header\r\nUser-Agent: hidden-agent\r\n";
    for shown in [
        format!("/v1?token={bad}"),
        "/v1?key=pk_live_hidden_key".to_owned(),
        "/v1?key=sk_live_hidden_secret".to_owned(),
    ] {
        server.attempt(&shown, headers);
    }
    let rest = Api {
        address: server.public,
        bearer: "sk_live_hidden_bearer".into(),
    };
    assert_eq!(rest.call("GET", "/v1/usage", None).status, 401);
    let wrong = Api {
        bearer: "hidden-admin-token".into(),
        ..api.clone()
    };
    assert_eq!(wrong.call("GET", &format!("{A}/apps"), None).status, 401);
    for checked in [&good, &bad] {
        let body = json!({"token": checked});
        api.done(200, "POST", &format!("{A}/tokens/inspect"), Some(&body));
    }
    let body = json!({"peerId": "minted", "metadata": {"z": "hidden-minted"}});
    let path = format!("{A}/signalling/keys/sk_id_a/tokens");
    let minted = api.done(200, "POST", &path, Some(&body));
    ann.close(Some(1_000));
    until("the last event", || !all(&api, "kind=closed").is_empty());
    assert_eq!(sum(&all(&api, "kind=admin&cause=token_minted")), 1);
    let told = all_that_is_told(&api, &server);
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let minted = minted["token"].as_str().unwrap();
    let secrets = [
        "hidden".to_owned(),
        "pk_live_a".to_owned(),
        signature(&good),
        signature(&bad),
        signature(minted),
        api.bearer.clone(),
    ];
    for secret in secrets {
        let events = told
            .lines()
            .filter(|line| !line.contains("\"level\":\"DEBUG\""));
        let found = events.filter(|line| line.contains(&secret));
        let found: Vec<_> = found.collect();
        assert!(found.is_empty(), "{secret}: {found:?}");
    }
}

#[test]
fn causes_that_need_a_setting_or_the_end_are_found_too() {
    let mut server = Setup::new(1)
        .set("limits.connects_per_address", 2)
        .set("limits.connects_window_sec", 60)
        .set("limits.ping_after_ms", 200)
        .set("limits.drop_after_ms", 1_200)
        .set("log.events", "\"all\"")
        .start();
    let api = server.admin();
    let mut silent = server.raw();
    let query = token("sk_id_a", json!({"sub": "silent"}));
    silent.write(handshake(&format!("/v1?token={query}"), ""));
    assert_eq!(silent.response().status, 101);
    let stays = server.quiet_peer("stays");
    let found = |query: &str| {
        let mut events = Vec::new();
        until(query, || {
            events = all(&api, query);
            !events.is_empty()
        });
        assert!(!events[0]["remedy"].as_str().unwrap().is_empty());
        events.remove(0)
    };
    assert_eq!(server.attempt("/v1?key=pk_live_a", "").status, 429);
    found("kind=refused&cause=connect_rate&address=127.0.0.1");
    let event = found("kind=closed&peer=silent");
    assert_eq!(event["cause"], "ping_timeout");
    drop(stays);
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
}
