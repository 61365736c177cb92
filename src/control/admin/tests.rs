//! The admin API as its clients see it: over HTTP, on a listener of its own.

mod bounds;
mod events;
mod sessions;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::testing::{Server, exchange, options, scratch};

const APPS: &str = "/api/internal/v1/apps";
const KEYS: &str = "/api/internal/v1/signalling/keys";

fn secret_key() -> Value {
    json!({"type": "secret", "channelPatterns": ["a/**"], "actions": ["publish", "presence"]})
}

/// Sends a request with the token and checks the status, the error's body and its code.
fn check_error(server: &Server, request: &str, status: u16, code: &str, part: &str) {
    let authorization = format!("Authorization: Bearer {}\r\n\r\n", server.token);
    let request = request.replacen("\r\n\r\n", &format!("\r\n{authorization}"), 1);
    let answer = exchange(server.admin, request.as_bytes());
    assert_eq!(answer.status, status, "{request}: {}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).expect("a JSON body");
    assert_eq!(body["error"], code, "{request}: {body}");
    assert!(
        body["message"].as_str().unwrap().contains(part),
        "{request}: {body}"
    );
    assert!(
        answer.head.contains("content-type: application/json"),
        "{}",
        answer.head
    );
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

#[test]
fn an_apps_life() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let body = json!({"appId": "shop", "plan": {"maxMessagesPerPeriod": 5}});
    let app = server.expect(201, "POST", APPS, Some(body));
    assert_eq!(
        server.expect(200, "GET", "/api/internal/v1/apps/shop", None),
        app
    );
    assert_eq!(
        server.expect(200, "GET", APPS, None),
        json!({"apps": [app]})
    );
    server.expect(409, "POST", APPS, Some(json!({"appId": "shop"})));

    let patch = json!({"status": "suspended", "plan": {"name": "pro"}});
    let app = server.expect(200, "PATCH", "/api/internal/v1/apps/shop", Some(patch));
    assert_eq!(
        (&app["status"], &app["plan"]["maxMessagesPerPeriod"]),
        (&json!("suspended"), &json!(5))
    );
    assert!(server.shards.rights().apps().next().unwrap().suspended);

    let usage = server.expect(200, "GET", "/api/internal/v1/apps/shop/usage", None);
    assert_eq!(
        (&usage["appId"], &usage["plan"]["name"]),
        (&json!("shop"), &json!("pro"))
    );
    assert_eq!(
        server.expect(200, "DELETE", "/api/internal/v1/apps/shop", None),
        app
    );
    for (method, path) in [
        ("GET", "/api/internal/v1/apps/shop"),
        ("DELETE", "/api/internal/v1/apps/shop"),
        ("GET", "/api/internal/v1/apps/shop/keys"),
        ("GET", "/api/internal/v1/apps/shop/usage"),
    ] {
        let error = server.expect(404, method, path, None);
        assert_eq!(error["error"], "not_found", "{method} {path}");
    }
    server.running.shutdown();
}

#[test]
fn a_keys_life() {
    let dir = scratch();
    let server = Server::start(dir.path());
    server.expect(201, "POST", APPS, Some(json!({"appId": "shop"})));
    let keys = format!("{APPS}/shop/keys");
    let made = server.expect(201, "POST", &keys, Some(secret_key()));
    let path = format!("{KEYS}/{}", made["keyId"].as_str().unwrap());
    let shown = server.expect(200, "GET", &path, None);
    assert_eq!(
        (shown.get("signingSecret"), shown.get("apiSecret")),
        (None, None)
    );
    assert_eq!(
        server.expect(200, "GET", &keys, None),
        json!({"keys": [shown]})
    );

    let patched = server.expect(200, "PATCH", &path, Some(json!({"actions": ["send"]})));
    assert_eq!(patched["actions"], json!(["send"]));
    let rotate = format!("{path}/rotate");
    let rotated = server.expect(200, "POST", &rotate, None);
    assert_eq!(rotated["previousValidUntil"], 1_767_312_000 + 86_400);
    let again = server.expect(200, "POST", &rotate, Some(json!({"graceSeconds": 60})));
    assert_eq!(again["droppedPrevious"], true);
    assert_ne!(again["apiSecret"], rotated["apiSecret"]);
    server.expect(400, "POST", &rotate, Some(json!({"graceSeconds": -1})));

    assert_eq!(
        server.expect(200, "DELETE", &path, None)["keyId"],
        made["keyId"]
    );
    server.expect(404, "GET", &path, None);
    server.running.shutdown();
}

#[test]
fn nothing_but_the_probes_is_told_without_the_token() {
    let dir = scratch();
    let server = Server::start(dir.path());
    for path in [
        APPS,
        "/api/internal/v1/apps/x",
        "/api/nothing",
        "/nothing",
        "/",
    ] {
        for authorization in [
            "",
            "Authorization: Bearer wrong\r\n",
            "Authorization: Basic eA==\r\n",
        ] {
            let request = get(path).replacen("\r\n", &format!("\r\n{authorization}"), 1);
            let answer = exchange(server.admin, request.as_bytes());
            assert_eq!(answer.status, 401, "{path} {authorization}");
            assert!(
                answer.head.contains("www-authenticate: bearer"),
                "{}",
                answer.head
            );
            assert!(
                answer
                    .body
                    .contains(r#"{"error":"unauthorized","message":"#)
            );
        }
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            exchange(server.admin, get(path).as_bytes()).status,
            200,
            "{path}"
        );
    }
    server.running.shutdown();
}

#[test]
fn metrics_are_text_and_can_be_protected() {
    let dir = scratch();
    let mut options = options(dir.path());
    options.admin.as_mut().unwrap().protect_metrics = true;
    let server = Server::with(options).unwrap();
    server.expect(201, "POST", APPS, Some(json!({})));
    assert_eq!(
        exchange(server.admin, get("/metrics").as_bytes()).status,
        401
    );
    let request = get("/metrics").replacen(
        "\r\n\r\n",
        &format!("\r\nAuthorization: Bearer {}\r\n\r\n", server.token),
        1,
    );
    let answer = exchange(server.admin, request.as_bytes());
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        answer.head
    );
    assert!(
        answer
            .body
            .starts_with("ringmesh_connections{shard=\"0\"} 3\n"),
        "{}",
        answer.body
    );
    assert!(
        answer.body.contains("\nringmesh_store_writes_total 1\n"),
        "{}",
        answer.body
    );
    server.running.shutdown();
}

#[test]
fn readiness_and_stats_are_those_of_the_shards() {
    let dir = scratch();
    let server = Server::start(dir.path());
    assert_eq!(
        server.expect(200, "GET", "/readyz", None),
        json!({"status": "ready"})
    );
    server.shards.unready.store(true, Ordering::Relaxed);
    let error = server.expect(503, "GET", "/readyz", None);
    assert_eq!(error["message"], "not ready: shard 1 does not accept yet");
    assert_eq!(
        server.expect(200, "GET", "/healthz", None),
        json!({"status": "ok"})
    );
    let stats = server.expect(200, "GET", "/api/internal/v1/stats", None);
    assert_eq!(stats["shards"][0]["connections"], 3);
    server.running.shutdown();
}

#[test]
fn every_fault_of_a_request_has_its_status_and_a_json_body() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let check = |request: &str, status, code, part: &str| {
        check_error(&server, request, status, code, part);
    };
    check(
        &get("/api/internal/v1/nothing"),
        404,
        "not_found",
        "nothing at this path",
    );
    check(
        &get("/api/internal/v1/apps/%ff"),
        400,
        "invalid_request",
        "percent escape",
    );
    check(
        &post(APPS, "", "{\"appId\":"),
        400,
        "invalid_request",
        "not JSON",
    );
    check(&post(APPS, "", "{} {}"), 400, "invalid_request", "not JSON");
    check(
        &post(APPS, "", "[]"),
        400,
        "invalid_request",
        "must be a JSON object",
    );
    check(&post(APPS, "", ""), 400, "invalid_request", "not JSON");
    check(&post(APPS, "", "\u{1}"), 400, "invalid_request", "not JSON");
    check(
        &post(APPS, "", &"[".repeat(10_000)),
        400,
        "invalid_request",
        "not JSON",
    );
    check(
        &post(APPS, "", r#"{"nmae":1}"#),
        400,
        "invalid_request",
        "nmae: there is no such field; did you mean name?",
    );
    check(
        &post(APPS, "Content-Type: text/plain\r\n", "{}"),
        415,
        "invalid_request",
        "application/json",
    );
    let json = "Content-Type: Application/JSON; charset=utf-8\r\n";
    check(
        &post(APPS, json, r#"{"appId":""}"#),
        400,
        "invalid_request",
        "appId",
    );
    let chunked = format!(
        "POST {APPS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n40001\r\n{}\r\n0\r\n\r\n",
        " ".repeat(0x40001)
    );
    check(&chunked, 413, "invalid_request", "more than 262144 bytes");
    let announced = format!(
        "POST {APPS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: 52428800\r\n\r\n"
    );
    check(&announced, 413, "invalid_request", "more than 262144 bytes");
    server.running.shutdown();
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let bearer = format!("Authorization: Bearer {}\r\n", server.token);
    for (path, allowed) in [
        (APPS.to_owned(), "get,head,post"),
        (format!("{APPS}/x"), "get,head,patch,delete"),
        (format!("{KEYS}/x/rotate"), "post"),
        ("/healthz".to_owned(), "get,head"),
    ] {
        let request = format!(
            "PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer}\
             Content-Length: 0\r\n\r\n"
        );
        let answer = exchange(server.admin, request.as_bytes());
        assert_eq!(answer.status, 405, "{path}: {}", answer.body);
        assert!(
            answer.head.contains(&format!("allow: {allowed}\r\n")),
            "{}",
            answer.head
        );
        assert!(
            answer.body.starts_with(r#"{"error":"invalid_request""#),
            "{}",
            answer.body
        );
    }
    server.running.shutdown();
}

#[test]
fn silent_clients_take_no_place_from_others_for_long_and_do_not_hold_up_the_end() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let mut silent: Vec<_> = (0..32)
        .map(|_| TcpStream::connect(server.admin).unwrap())
        .collect();
    silent[0].write_all(b"GET /healthz HTTP/1.1\r\nHo").unwrap();
    assert_eq!(
        server.expect(200, "GET", "/healthz", None),
        json!({"status": "ok"})
    );
    server.running.shutdown();
    silent[0]
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    assert_eq!(silent[0].read(&mut [0; 1]).unwrap_or(0), 0, "closed");
}

#[test]
fn keep_alive_and_pipelining_work() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let one = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
    let answer = exchange(server.admin, (one.repeat(3) + &get("/healthz")).as_bytes());
    let all = format!("{}\r\n\r\n{}", answer.head, answer.body);
    assert_eq!(all.matches("{\"status\":\"ok\"}").count(), 4, "{all}");
    server.running.shutdown();
}

#[test]
fn a_history_that_no_shard_tells_is_told_to_be_unavailable() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let body = json!({"appId": "shop", "history": [{"pattern": "chat/*"}]});
    server.expect(201, "POST", APPS, Some(body));
    let history = |query: &str| get(&format!("{APPS}/shop/channel/history{query}"));
    for query in [
        "?name=chat/1",
        "?name=chat/1&since=4",
        "?name=chat/1&limit=1",
    ] {
        let part = "a shard did not answer in time";
        check_error(&server, &history(query), 503, "internal_error", part);
    }
    // What is wrong with a request is told without asking any.
    for (query, status, code, part) in [
        (
            "?name=room",
            404,
            "not_found",
            "none of its history rules matches",
        ),
        (
            "?name=chat/1&limit=0",
            400,
            "invalid_request",
            "limit: must be",
        ),
        (
            "?name=chat/1&since=x",
            400,
            "invalid_request",
            "since: must be",
        ),
        ("?name=chat/1&name=chat/2", 400, "invalid_request", "name"),
        (
            "?name=",
            400,
            "invalid_request",
            "name: must be the name of a channel",
        ),
    ] {
        check_error(&server, &history(query), status, code, part);
    }
    server.running.shutdown();
}
