//! The error table, row by row.

use std::sync::Arc;

use super::{cluster, outcome, request, with_key};
use crate::domain::request_rate::{RequestLimits, RequestRates};
use crate::domain::rights::App;
use crate::domain::token_bucket::BucketLimits;
use crate::proto::forwarded::TrustedProxies;
use crate::shard::testing::{Cluster, UNLIMITED, app, rights};

const PUBLISH: &str = "/v1/channels/room%2Fa/publish";

#[track_caller]
fn check(request: &[u8], status: u16, code: &str) {
    for shard_count in [1, 3] {
        let response = cluster(shard_count).request(0, request);
        assert_eq!(
            outcome(&response),
            (status, code.into()),
            "{}",
            str::from_utf8(request).unwrap()
        );
        let length = format!("Content-Length: {}", response.body.len());
        assert!(response.head.contains(&length));
        assert!(response.head.contains("Content-Type: application/json"));
        assert!(
            response
                .head
                .contains("Date: Tue, 14 Nov 2023 22:13:20 GMT")
        );
    }
}

#[track_caller]
fn check_body(path: &str, body: &str, status: u16, code: &str) {
    check(&with_key("POST", path, body), status, code);
}

#[test]
fn bodies_that_are_not_what_they_should_be() {
    for body in ["{", "[]", "null", r#"{"peerId":"a"}x"#, "{\"a\"}"] {
        check_body("/v1/tokens", body, 400, "invalid_request");
        check_body(PUBLISH, body, 400, "invalid_request");
    }
    check(&with_key("POST", "/v1/tokens", ""), 400, "invalid_request");
    check_body("/v1/tokens", r#"{"peerId":7}"#, 400, "invalid_request");
    check_body(
        "/v1/tokens",
        r#"{"peerId":"a","expiresInSec":0}"#,
        400,
        "invalid_request",
    );
    check_body(PUBLISH, r#"{"from":"a"}"#, 400, "invalid_request");
    let message = cluster(1).request(0, &with_key("POST", "/v1/tokens", "{}"));
    assert!(
        message.json()["message"]
            .as_str()
            .unwrap()
            .contains("'peerId'")
    );
}

#[test]
fn names_that_are_none() {
    for name in ["", "%zz", "%", "a%00b", "%ff", &"x".repeat(257), "a%0A"] {
        let path = format!("/v1/channels/{name}/publish");
        check_body(&path, r#"{"data":1}"#, 400, "invalid_request");
        let path = format!("/v1/channels/{name}/peers");
        check(&with_key("GET", &path, ""), 400, "invalid_request");
    }
    for name in ["", "%zz", "%C3%A9", &"x".repeat(129), "a%09"] {
        let path = format!("/v1/peers/{name}");
        check(&with_key("DELETE", &path, ""), 400, "invalid_request");
    }
    for name in ["_metered/a", "_SYSTEM%2Fa", "_internal/"] {
        let path = format!("/v1/channels/{name}/publish");
        check_body(&path, r#"{"data":1}"#, 400, "channel_reserved");
        let path = format!("/v1/channels/{name}/peers");
        check(&with_key("GET", &path, ""), 400, "channel_reserved");
    }
}

#[test]
fn credentials_that_are_not_good_get_one_answer_whatever_they_ask() {
    let bearer = |credential: &str| format!("Authorization: Bearer {credential}\r\n");
    let mut answers = Vec::new();
    for lines in [
        String::new(),
        bearer("sk_live_none"),
        bearer("pk_live_test"),
        bearer("sk_id_full"),
        bearer("sk_id_full:"),
        bearer("sk_id_full:sk_secret_none"),
        bearer("sk_id_none:sk_secret_full"),
        bearer("pk_live_test:sk_secret_full"),
        bearer("sk_id_full:sk_live_full"),
        bearer(":"),
        "Authorization: Basic c2tfbGl2ZV9mdWxs\r\n".into(),
        bearer("sk_live_full") + &bearer("sk_live_full"),
    ] {
        for (method, path, body) in [
            ("POST", "/v1/tokens", "{"),
            ("PUT", "/v1/tokens", ""),
            ("GET", "/v1/channels/%zz/peers", ""),
            ("GET", "/v1/channels/nothing", ""),
            ("DELETE", "/v1/peers/a", ""),
            ("GET", "/v1/usage", ""),
            ("GET", "/v1/usage/more", ""),
        ] {
            let response = cluster(1).request(0, &request(method, path, &lines, body));
            assert_eq!(response.status, 401, "{lines} {path}");
            answers.push((response.head, response.body));
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers[0].0.contains("WWW-Authenticate: Bearer"));
}

#[test]
fn credentials_that_are_good() {
    let usage = |cluster: &mut Cluster, credential: &str| {
        let lines = format!("Authorization: Bearer {credential}\r\n");
        let response = cluster.request(0, &request("GET", "/v1/usage", &lines, ""));
        response.status
    };
    let mut cluster = cluster(1);
    assert_eq!(usage(&mut cluster, "sk_live_full"), 200);
    assert_eq!(usage(&mut cluster, "sk_live_sealed"), 200);
    assert_eq!(usage(&mut cluster, "sk_id_full:sk_secret_full"), 200);
    assert_eq!(usage(&mut cluster, "sk_id_full:sk_secret_old"), 200);
    assert_eq!(usage(&mut cluster, "sk_id_narrow:sk_secret_narrow"), 200);
    cluster.now.unix_ms += 10_000;
    assert_eq!(usage(&mut cluster, "sk_id_full:sk_secret_full"), 200);
    assert_eq!(usage(&mut cluster, "sk_id_full:sk_secret_old"), 401);
    let mut bare = Cluster::with(1, rights(app()), |config| {
        config.accept_bare_key_id = true;
    });
    assert_eq!(usage(&mut bare, "sk_id_full"), 200);
    assert_eq!(usage(&mut bare, "sk_id_full:"), 401);
    assert_eq!(usage(&mut bare, "pk_live_test"), 401);
    assert_eq!(usage(&mut bare, "sk_id_none"), 401);
}

#[test]
fn keys_may_do_what_they_may() {
    let as_key = |key: &str, method: &str, path: &str, body: &str| {
        let lines = format!("Authorization: Bearer sk_live_{key}\r\n");
        request(method, path, &lines, body)
    };
    let data = r#"{"data":1}"#;
    for (key, path, code) in [
        (
            "rooms",
            "/v1/channels/hall/publish",
            "channel_not_authorized",
        ),
        (
            "narrow",
            "/v1/channels/room/a/publish",
            "action_not_permitted",
        ),
    ] {
        check(&as_key(key, "POST", path, data), 403, code);
        let path = path.replace("publish", "peers");
        check(&as_key(key, "GET", &path, ""), 403, code);
    }
    for (member, code) in [
        (r#""channels":["**"]"#, "channel_not_authorized"),
        (r#""channels":["room/a","hall"]"#, "channel_not_authorized"),
        (r#""permissions":["publish"]"#, "action_not_permitted"),
        (r#""permissions":["fly"]"#, "action_not_permitted"),
    ] {
        let body = format!(r#"{{"peerId":"a",{member}}}"#);
        check(&as_key("narrow", "POST", "/v1/tokens", &body), 403, code);
    }
}

#[test]
fn paths_and_methods() {
    check(&with_key("GET", "/", ""), 404, "not_found");
    check(&with_key("GET", "/v2/usage", ""), 404, "not_found");
    check(&with_key("GET", "/v1/channels/a/b", ""), 404, "not_found");
    check(&with_key("GET", "/../../etc/passwd", ""), 404, "not_found");
    for (method, path, allow) in [
        ("GET", "/v1/tokens", "Allow: POST"),
        ("POST", "/v1/usage", "Allow: GET, HEAD"),
        ("PATCH", "/v1/peers/a", "Allow: DELETE"),
        ("DELETE", "/healthz", "Allow: GET, HEAD"),
        ("OPTIONS", "/v1/openapi.json", "Allow: GET, HEAD"),
    ] {
        check(&with_key(method, path, ""), 405, "invalid_request");
        let response = cluster(1).request(0, &with_key(method, path, ""));
        assert!(response.head.contains(allow), "{}", response.head);
    }
}

#[test]
fn content_types_and_expectations() {
    let with = |line: &str| {
        format!(
            "POST {PUBLISH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_live_full\r\n\
             Content-Length: 10\r\n{line}\r\n\r\n{{\"data\":1}}"
        )
    };
    for value in ["text/plain", "application/x-www-form-urlencoded"] {
        let request = with(&format!("Content-Type: {value}"));
        check(request.as_bytes(), 415, "invalid_request");
    }
    check(with("Expect: magic").as_bytes(), 417, "invalid_request");
    assert_eq!(cluster(1).request(0, with("A: b").as_bytes()).status, 200);
}

#[test]
fn heads_over_their_limit() {
    let lines = format!("A: {}\r\n", "x".repeat(24 * 1_024));
    check(
        &request("GET", "/v1/usage", &lines, ""),
        431,
        "invalid_request",
    );
}

#[test]
fn refused_requests_for_an_upgrade_end_the_connection() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for path in ["/v1/usage", "/v2", "/v1/tokens"] {
        let mut cluster = cluster(1);
        let client = cluster.accept(0);
        cluster.send(client, &request("GET", path, upgrade, ""));
        assert!(matches!(cluster.responses(client)[0].status, 401 | 404));
        assert!(!cluster.is_open(client), "{path}");
    }
}

#[test]
fn key_material_that_cannot_be_read() {
    let as_sealed = |credential: &str| {
        let lines = format!("Authorization: Bearer {credential}\r\n");
        request("POST", "/v1/tokens", &lines, r#"{"peerId":"a"}"#)
    };
    check(&as_sealed("sk_live_sealed"), 503, "internal_error");
    check(&as_sealed("sk_id_sealed:any"), 503, "internal_error");
}

#[test]
fn rates_hold_over_all_shards() {
    let limits = BucketLimits {
        rate_per_sec: 1,
        burst: 3,
    };
    for (per_key, per_address) in [(limits, UNLIMITED), (UNLIMITED, limits)] {
        let mut cluster = limited(RequestLimits {
            per_key,
            per_address,
            ..RequestLimits::NONE
        });
        let usage = with_key("GET", "/v1/usage", "");
        for at in 0..3 {
            assert_eq!(cluster.request(at % 2, &usage).status, 200);
        }
        for shard in 0..2 {
            let response = cluster.request(shard, &usage);
            assert_eq!(outcome(&response), (429, "rate_limited".into()));
            assert!(response.head.contains("Retry-After: 1"));
        }
        assert_eq!(
            cluster
                .request(0, &request("GET", "/healthz", "", ""))
                .status,
            200
        );
        cluster.wait(1_000);
        assert_eq!(cluster.request(0, &usage).status, 200);
    }
}

fn limited(limits: RequestLimits) -> Cluster {
    Cluster::with(2, rights(app()), |config| {
        config.trusted_proxies = TrustedProxies::new(&["127.0.0.0/8".parse().unwrap()]);
        config.request_rates = Arc::new(RequestRates::new(&limits, &config.hasher));
    })
}

/// Whatever is asked for without a good credential counts for its address, and for nobody else.
#[test]
fn requests_that_prove_no_key_have_a_rate_per_address() {
    let bad = "Authorization: Bearer sk_live_wrong\r\n";
    let publishable = "Authorization: Bearer pk_live_test\r\n";
    for (method, path, lines, status) in [
        ("GET", "/healthz", "", 200),
        ("GET", "/v1/openapi.json", "", 200),
        ("GET", "/nothing", "", 404),
        ("POST", "/healthz", "", 405),
        ("GET", "/v1/usage", "", 401),
        ("GET", "/v1/usage", bad, 401),
        ("GET", "/v1/usage", publishable, 401),
        ("GET", "/v1", "", 426),
    ] {
        let mut cluster = limited(RequestLimits {
            without_key: BucketLimits {
                rate_per_sec: 1,
                burst: 3,
            },
            ..RequestLimits::NONE
        });
        let from = |address: &str, lines: &str| {
            let lines = format!("X-Forwarded-For: {address}\r\n{lines}");
            request(method, path, &lines, "")
        };
        let asked = from("192.0.2.1", lines);
        for at in 0..3 {
            assert_eq!(cluster.request(at % 2, &asked).status, status, "{path}");
        }
        for shard in 0..2 {
            let client = cluster.accept(shard);
            cluster.send(client, &[&asked[..], &asked[..]].concat());
            let responses = cluster.responses(client);
            assert_eq!(responses.len(), 1, "{path}: not answered on and on");
            assert_eq!(outcome(&responses[0]), (429, "rate_limited".into()));
            assert!(responses[0].head.contains("Retry-After: 1"), "{path}");
            assert!(!cluster.is_open(client), "{path}");
        }
        assert_eq!(cluster.request(0, &from("192.0.2.2", lines)).status, status);
        // Who shows a good key is served, from the same address too.
        let lines = "X-Forwarded-For: 192.0.2.1\r\nAuthorization: Bearer sk_live_full\r\n";
        for _ in 0..5 {
            let usage = request("GET", "/v1/usage", lines, "");
            assert_eq!(cluster.request(1, &usage).status, 200);
        }
        cluster.wait(1_000);
        assert_eq!(cluster.request(0, &asked).status, status, "{path}");
    }
}

#[test]
fn quotas() {
    let publish = with_key("POST", PUBLISH, r#"{"data":1}"#);
    for (overages, last) in [(false, 429), (true, 200)] {
        let mut cluster = Cluster::new(
            3,
            rights(App {
                messages_max: Some(5),
                overages,
                ..app()
            }),
        );
        for at in 0..5 {
            assert_eq!(cluster.request(at % 3, &publish).status, 200, "{at}");
        }
        let response = cluster.request(2, &publish);
        assert_eq!(response.status, last);
        if !overages {
            assert_eq!(outcome(&response).1, "over_message_quota");
        }
        cluster.wait(1_000);
        let messages: u64 = cluster.usage.iter().map(|delta| delta.messages).sum();
        let over: u64 = cluster.usage.iter().map(|it| it.overage_messages).sum();
        assert_eq!((messages, over), (6, u64::from(overages)));
    }
}
