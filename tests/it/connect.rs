//! Every way in which a connect can end, from `welcome` to each refusal.

use serde_json::{Value, json};
use std::time::{Duration, Instant};

use crate::support::client::{self, Client};
use crate::support::raw::{Raw, Response, handshake};
use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup, key, signer};
use crate::support::token::{now_sec, token, token_of};
use crate::support::{on_shards, until};

const PLAIN_GET: &str = "GET /v1?key=pk_live_a HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_publishable_key_is_welcomed_as_a_random_peer() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let (first, second) = (server.anonymous(), server.anonymous());
        let id = &first.peer_id;
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
        assert_ne!(*id, second.peer_id);
        let welcome: Value = serde_json::from_str(&first.welcome).unwrap();
        let time = welcome["serverTime"].as_u64().unwrap();
        assert!(time.abs_diff(now_sec()) <= 30, "{time}");
        let expected =
            format!(r#"{{"type":"welcome","peerId":"{id}","expiresAt":null,"serverTime":{time},"#)
                + r#""maxMessageSize":65536}"#;
        assert_eq!(first.welcome, expected);
    });
}

#[test]
fn a_token_says_who_one_is_wherever_it_stands() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let exp = now_sec() + 600;
        let metadata = r#"{ "plan":"gold", "n":1.50e2,"u":"\u0041" }"#;
        let payload = format!(r#"{{"sub":"a ~\u0021","exp":{exp},"metadata":{metadata}}}"#);
        let token = token_of("sk_id_a", &payload);
        let escaped: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let bearer = format!("Bearer {token}");
        let connects = [
            (format!("?token={token}"), vec![]),
            (format!("?utm=x&token={token}&&y=%20&z"), vec![]),
            (format!("?token={escaped}"), vec![]),
            (String::new(), vec![("Authorization", bearer.as_str())]),
            ("?key2=x".into(), vec![("Authorization", bearer.as_str())]),
        ];
        for (query, headers) in connects {
            let client = Client::connect(server.public, &query, &headers);
            let welcome: Value = serde_json::from_str(&client.welcome).unwrap();
            assert_eq!(client.peer_id, "a ~!", "{query}");
            assert_eq!(welcome["expiresAt"], exp, "{query}");
            assert!(
                client
                    .welcome
                    .ends_with(&format!(r#","metadata":{metadata}}}"#)),
                "{query}"
            );
        }
    });
}

#[test]
fn an_expiry_is_a_day_after_the_issue_at_most() {
    let server = Setup::new(1).start();
    let issued = now_sec() - 1_000;
    for (claims, expected) in [
        (
            json!({"sub": "a", "iat": issued, "exp": issued + 999_999}),
            issued + 86_400,
        ),
        (
            json!({"sub": "a", "iat": issued, "exp": issued + 2_000}),
            issued + 2_000,
        ),
    ] {
        let welcome = server.with_claims(claims).welcome;
        assert!(
            welcome.contains(&format!(r#""expiresAt":{expected},"#)),
            "{welcome}"
        );
    }
}

#[test]
fn no_subprotocol_and_no_extension_is_selected() {
    let server = Setup::new(1).start();
    let offer = "Sec-WebSocket-Protocol: chat\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let response = server.attempt("/v1?key=pk_live_a", offer);
    assert_eq!(response.status, 101);
    // The example of RFC 6455, section 1.3.
    let accept = response.header("sec-websocket-accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert_eq!(response.header("sec-websocket-protocol"), None);
    assert_eq!(response.header("sec-websocket-extensions"), None);
}

#[test]
fn other_paths_are_not_found() {
    let server = Setup::new(1).start();
    for path in ["/", "/v2", "/v1//", "/v1x", "/V1", "/v1/../v1", "//v1"] {
        let target = format!("{path}?key=pk_live_a");
        server.attempt(&target, "").is_error(404, "not_found");
    }
}

#[test]
fn a_broken_upgrade_is_refused() {
    let server = Setup::new(1).start();
    let sound = handshake("/v1?key=pk_live_a", "");
    let broken = [
        ("GET ", "POST "),
        ("HTTP/1.1", "HTTP/1.0"),
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "X: y"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ="),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSBu"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "not base64 at all!!!!!=="),
        ("Host: localhost\r\n", ""),
        ("Host: localhost", "Host: a\r\nHost: b"),
        ("Host: localhost", "Host: localhost\r\nContent-Length: 3"),
        ("Host: localhost", "Host: localhost\r\nbad header"),
        ("/v1", "http"),
    ];
    for (from, to) in broken {
        let mut raw = server.raw();
        raw.write(sound.replace(from, to));
        let response = raw.response();
        assert_eq!(response.status, 400, "{to:?}: {response:?}");
        response.is_error(400, "invalid_request");
        raw.ends();
    }
}

#[test]
fn what_is_no_upgrade_to_version_13_is_told_what_is() {
    let server = Setup::new(1).start();
    let mut raw = server.raw();
    raw.write(PLAIN_GET);
    let response = raw.response();
    response.is_error(426, "invalid_request");
    assert_eq!(response.header("upgrade"), Some("websocket"));
    for version in ["12", "8", "", "x"] {
        let mut raw = server.raw();
        let sound = handshake("/v1?key=pk_live_a", "");
        raw.write(sound.replace("Version: 13", &format!("Version: {version}")));
        let response = raw.response();
        response.is_error(426, "invalid_request");
        assert_eq!(
            response.header("sec-websocket-version"),
            Some("13"),
            "{version:?}"
        );
    }
}

#[test]
fn connects_of_an_address_are_limited_exactly_across_shards() {
    on_shards(|shards| {
        let setup = Setup::new(shards).set("limits.connects_per_address", 9);
        let server = setup.set("limits.connects_window_sec", 600).start();
        let start = Instant::now();
        for attempt in 0..9 {
            // What is no upgrade does not count; what is one does, refused or not.
            let mut raw = server.raw();
            raw.write(PLAIN_GET);
            assert_eq!(raw.response().status, 426);
            let (key, status) = [("pk_live_a", 101), ("nobody", 401)][attempt % 2];
            let response = server.attempt(&format!("/v1?key={key}"), "");
            assert_eq!(response.status, status, "attempt {attempt}");
        }
        for _ in 0..3 * shards {
            let response = server.attempt("/v1?key=pk_live_a", "");
            response.is_error(429, "rate_limited");
            let wait_sec: u64 = response.header("retry-after").unwrap().parse().unwrap();
            let least = 600 - start.elapsed().as_secs_f64().ceil() as u64;
            assert!((least..=600).contains(&wait_sec), "{least} {wait_sec}");
        }
    });
}

#[test]
fn the_connect_window_slides() {
    let setup = Setup::new(2).set("limits.connects_per_address", 2);
    let server = setup.set("limits.connects_window_sec", 1).start();
    let start = Instant::now();
    for _ in 0..2 {
        assert_eq!(server.attempt("/v1?key=pk_live_a", "").status, 101);
    }
    let response = server.attempt("/v1?key=pk_live_a", "");
    assert!(
        response.status == 429 || start.elapsed() >= Duration::from_secs(1),
        "{response:?}"
    );
    until("the next attempt is let in", || {
        server.attempt("/v1?key=pk_live_a", "").status == 101
    });
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "before the window had passed"
    );
}

#[test]
fn a_head_must_be_short_and_come_in_time() {
    let server = Setup::new(1).set("limits.head_timeout_ms", 300).start();
    let long = "x".repeat(24 * 1_024);
    server
        .attempt(&format!("/v1?key={long}"), "")
        .is_error(431, "invalid_request");
    // Twelve kilobytes of metadata fit.
    let metadata = json!({"m": "x".repeat(8_000)});
    let peer_metadata = json!({"m": "x".repeat(4_000)});
    let claims = json!({"sub": "a", "metadata": metadata, "peerMetadata": peer_metadata});
    server.with_claims(claims);
    for beginning in ["", "GET /v1?key=pk_live_a HTTP/1.1\r\nHost: lo"] {
        let mut raw = server.raw();
        raw.write(beginning);
        raw.response().is_error(408, "invalid_request");
        raw.ends();
    }
}

#[test]
fn a_connect_in_the_middle_of_a_shutdown_is_refused() {
    let mut server = Setup::new(1).set("shutdown.drain_ms", 60_000).start();
    let mut witness = server.anonymous();
    let mut raw = server.raw();
    let upgrade = handshake("/v1?key=pk_live_a", "");
    let (first, rest) = upgrade.split_at(30);
    raw.write(format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n{first}"
    ));
    assert_eq!(raw.response().status, 200);
    server.signal(rustix::process::Signal::TERM);
    assert!(witness.next().contains("going_away"));
    raw.write(rest);
    raw.response().is_error(503, "internal_error");
    server.signal(rustix::process::Signal::TERM);
    assert!(server.exit_status().success());
}

#[test]
fn an_app_has_as_many_connections_as_its_plan() {
    on_shards(|shards| {
        let app = "app_c\nplan.max_concurrent_connections = 5";
        let keys = [key("pk_live_c", &["**"], ALL_ACTIONS)];
        let server = Setup::new(shards).app(app, &keys).start();
        let mut clients: Vec<Client> = (0..5).map(|_| server.connect("?key=pk_live_c")).collect();
        for _ in 0..2 * shards {
            let mut refused = client::upgrade(server.public, "?key=pk_live_c", &[]);
            client::expect_close(&mut refused, 4010, "the sixth");
        }
        // Another app is not concerned.
        server.anonymous();
        assert_eq!(clients.pop().unwrap().close(Some(1000)), 1000);
        until("a place is free again", || {
            let mut socket = client::upgrade(server.public, "?key=pk_live_c", &[]);
            matches!(socket.read(), Ok(tungstenite::Message::Text(_)))
        });
    });
}

#[test]
fn overages_let_more_connections_in() {
    let app = "app_c\nplan.max_concurrent_connections = 1\nplan.overages_allowed = true\n\
               plan.overages_enabled = true";
    let keys = [key("pk_live_c", &["**"], ALL_ACTIONS)];
    let server = Setup::new(1).app(app, &keys).start();
    let _clients: Vec<Client> = (0..3).map(|_| server.connect("?key=pk_live_c")).collect();
}

#[test]
fn a_suspended_app_takes_nobody() {
    let keys = [key("pk_live_c", &["**"], ALL_ACTIONS), signer("sk_id_c")];
    let server = Setup::new(2)
        .app("app_c\nstatus = \"suspended\"", &keys)
        .start();
    for query in [
        "?key=pk_live_c".to_owned(),
        format!("?token={}", token("sk_id_c", json!({"sub": "a"}))),
    ] {
        let mut socket = client::upgrade(server.public, &query, &[]);
        client::expect_close(&mut socket, 4012, "a peer of a suspended app");
    }
    // A bad credential is not told about the suspension.
    server
        .attempt("/v1?key=pk_live_cc", "")
        .is_error(401, "unauthorized");
}

#[test]
fn a_refusal_can_be_a_close() {
    let server = Setup::new(2).set("auth.reject_with", "\"close\"").start();
    let expired = token("sk_id_a", json!({"sub": "a", "exp": now_sec() - 60}));
    let forged = token("sk_id_a", json!({"sub": "a"})) + "A";
    for (query, code) in [
        (String::new(), 4001),
        ("?key=pk_live_nobody".into(), 4001),
        (format!("?token={forged}"), 4001),
        (format!("?token={expired}A"), 4001),
        (format!("?token={expired}"), 4002),
    ] {
        let mut socket = client::upgrade(server.public, &query, &[]);
        client::expect_close(&mut socket, code, &query);
    }
    server.anonymous();
    // A broken upgrade has no frames to close with.
    server.attempt("/v2", "").is_error(404, "not_found");
}

#[test]
fn probes_are_answered_beside_the_protocol() {
    let server = Setup::new(1).start();
    let mut raw: Raw = server.raw();
    raw.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3));
    let responses: Vec<Response> = (0..3).map(|_| raw.response()).collect();
    assert!(responses.iter().all(|it| it.status == 200), "{responses:?}");
    let ready = |server: &Server| {
        let mut raw = Raw::open(server.admin_address());
        raw.write("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        raw.response().status
    };
    assert_eq!(ready(&server), 200);
}
