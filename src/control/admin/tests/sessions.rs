//! Browsers: how they sign in, what they need for each request, and which pages get nothing.

use std::borrow::Cow;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::http::HeaderValue;
use serde_json::{Value, json};

use super::APPS;
use crate::control::testing::{Answer, Server, exchange, options, scratch};
use crate::control::{Page, Shards, Site};

const SESSION: &str = "/api/internal/v1/session";
/// An upper bound, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const OWN: &str = "Origin: http://localhost:7464\r\n";

/// Sends a request for `localhost:7464` with these headers.
fn send(server: &Server, method: &str, path: &str, headers: &str, body: &Value) -> Answer {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:7464\r\n{headers}\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    exchange(server.admin, request.as_bytes())
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).expect("a JSON body")
}

/// A session as a browser has it.
struct Browser {
    cookie: String,
    half: String,
}

impl Browser {
    fn sign_in(server: &Server, credential: &Value) -> Self {
        let answer = send(server, "POST", SESSION, OWN, credential);
        assert_eq!(answer.status, 201, "{}", answer.body);
        let begun = json_of(&answer);
        // The head is in lower case, the halves are not.
        let cookie = answer.cookie.expect("a cookie");
        let (cookie, rules) = cookie.split_once("; ").unwrap();
        let port = server.admin.port();
        assert!(cookie.starts_with(&format!("ringmesh_{port}=")), "{cookie}");
        assert_eq!(rules, "HttpOnly; SameSite=Strict; Path=/api/internal/v1");
        assert_eq!(begun["expiresAt"], 1_767_312_000 + 12 * 3_600);
        Self {
            cookie: cookie.to_owned(),
            half: begun["half"].as_str().unwrap().to_owned(),
        }
    }

    /// Its headers, and others.
    fn headers(&self, more: &str) -> String {
        let Self { cookie, half } = self;
        format!("Cookie: other=1; {cookie}\r\nX-Ringmesh-Session: {half}\r\n{more}")
    }

    fn send(&self, server: &Server, method: &str, path: &str, more: &str) -> Answer {
        let body = match method {
            "POST" => json!({"appId": "shop"}),
            _ => Value::Null,
        };
        send(server, method, path, &self.headers(more), &body)
    }
}

#[test]
fn a_browser_signs_in_with_the_token_or_a_code_and_signs_out() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let token = Browser::sign_in(&server, &json!({"token": server.token}));
    let path = format!("{SESSION}/code");
    let code = server.expect(201, "POST", &path, None)["code"].clone();
    let browser = Browser::sign_in(&server, &json!({"code": code}));
    let again = send(&server, "POST", SESSION, OWN, &json!({"code": code}));
    assert_eq!(again.status, 401);
    let code = server.handle.sign_in_code().unwrap();
    let third = Browser::sign_in(&server, &json!({"code": &*code}));

    let shown = json_of(&browser.send(&server, "GET", SESSION, ""));
    assert_eq!(
        (&shown["role"], &shown["sessions"]),
        (&json!("admin"), &json!(3))
    );
    assert_eq!(browser.send(&server, "POST", APPS, OWN).status, 201);
    let out = browser.send(&server, "DELETE", SESSION, OWN);
    assert_eq!(json_of(&out), json!({"ended": 1}));
    assert_eq!(browser.send(&server, "GET", APPS, "").status, 401);
    assert_eq!(third.send(&server, "GET", APPS, "").status, 200);
    let all = format!("{SESSION}?all=true");
    assert_eq!(
        json_of(&token.send(&server, "DELETE", &all, OWN)),
        json!({"ended": 2})
    );
    assert_eq!(third.send(&server, "GET", APPS, "").status, 401);
    let events = "/api/internal/v1/events?kind=admin&cause=sign_in";
    let found = server.expect(200, "GET", events, None);
    assert_eq!(found["events"].as_array().unwrap().len(), 3, "{found}");
    assert_eq!(found["events"][0]["address"], "127.0.0.1");
    server.running.shutdown();
}

#[test]
fn a_stream_ends_with_the_session_that_it_was_asked_for_with() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let browser = Browser::sign_in(&server, &json!({"token": server.token}));
    let streams = Arc::clone(&server.shards.events().streams);
    let all = streams.available_permits();
    let (ended, heard) = mpsc::channel();
    let headers = browser.headers("Accept: text/event-stream\r\n");
    let admin = server.admin;
    std::thread::spawn(move || {
        let request = format!(
            "GET /api/internal/v1/events HTTP/1.1\r\nHost: localhost\r\n{headers}\
             Connection: close\r\n\r\n"
        );
        let _ = ended.send(exchange(admin, request.as_bytes()).status);
    });
    while streams.available_permits() == all {
        std::thread::yield_now();
    }
    let out = browser.send(&server, "DELETE", SESSION, OWN);
    assert_eq!(json_of(&out), json!({"ended": 1}));
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(200));
    server.running.shutdown();
}

#[test]
fn both_halves_are_needed_and_a_page_of_this_listener() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let browser = Browser::sign_in(&server, &json!({"token": server.token}));
    let Browser { cookie, half } = &browser;
    for headers in [
        format!("Cookie: {cookie}\r\n"),
        format!("X-Ringmesh-Session: {half}\r\n"),
        format!("Cookie: {cookie}\r\nX-Ringmesh-Session: x{half}\r\n"),
        format!("Cookie: {cookie}x\r\nX-Ringmesh-Session: {half}\r\n"),
        format!("Cookie: ringmesh_1={half}\r\nX-Ringmesh-Session: {half}\r\n"),
    ] {
        assert_eq!(
            send(&server, "GET", APPS, &headers, &Value::Null).status,
            401
        );
    }
    // Pages of other origins, of other ports on this host, and of other sites.
    for (method, more, status) in [
        ("GET", "", 200),
        ("GET", "Sec-Fetch-Site: same-origin\r\n", 200),
        ("GET", "Sec-Fetch-Site: same-site\r\n", 403),
        ("GET", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("GET", "Sec-Fetch-Site: none\r\n", 403),
        ("POST", "", 403),
        // The listener speaks plain HTTP, and no proxy's name is configured.
        ("POST", "Origin: https://localhost:7464\r\n", 403),
        ("POST", "Origin: null\r\n", 403),
        ("POST", "Origin: http://localhost:8080\r\n", 403),
        ("POST", "Origin: http://localhost\r\n", 403),
        ("POST", "Origin: http://evil.example:7464\r\n", 403),
        ("POST", "Origin: ftp://localhost:7464\r\n", 403),
        ("POST", &format!("{OWN}Sec-Fetch-Site: same-site\r\n"), 403),
        (
            "POST",
            &format!("{OWN}Sec-Fetch-Site: same-origin\r\n"),
            201,
        ),
    ] {
        let answer = browser.send(&server, method, APPS, more);
        assert_eq!(answer.status, status, "{method} {more}{}", answer.body);
    }
    // A page whose own name leads here (DNS rebinding) is asked for by that name.
    let request = format!(
        "GET {APPS} HTTP/1.1\r\nHost: evil.example:7464\r\nConnection: close\r\n{}\r\n",
        browser.headers("")
    );
    assert_eq!(exchange(server.admin, request.as_bytes()).status, 421);
    // The same pages cannot sign in.
    for headers in [
        "",
        "Origin: http://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        let body = json!({"token": server.token});
        assert_eq!(send(&server, "POST", SESSION, headers, &body).status, 403);
    }
    server.running.shutdown();
}

#[test]
fn a_sign_in_that_is_refused_is_an_event_and_ten_a_minute_are_answered() {
    let dir = scratch();
    let server = Server::start(dir.path());
    for (body, status) in [
        (json!({"token": "wrong"}), 401),
        (json!({"code": "wrong"}), 401),
        (json!({"token": 1}), 400),
        (json!({"token": "a", "code": "b"}), 400),
        (json!({"token": "a", "more": "b"}), 400),
        (json!({}), 400),
        (json!([]), 400),
        (json!({"token": ""}), 401),
        (json!({"token": "wrong"}), 401),
        (json!({"token": "wrong"}), 401),
        (json!({"token": server.token}), 429),
    ] {
        let answer = send(&server, "POST", SESSION, OWN, &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(!answer.body.contains("half") && answer.cookie.is_none());
    }
    let events = "/api/internal/v1/events?kind=admin&cause=sign_in_refused";
    let found = server.expect(200, "GET", events, None);
    assert_eq!(found["events"][0]["address"], "127.0.0.1");
    server.running.shutdown();
}

#[test]
fn a_reader_changes_nothing() {
    let dir = scratch();
    let file = dir.path().join("read.token");
    std::fs::write(&file, "read_0123456789abcdef\n").unwrap();
    let mut options = options(dir.path());
    options.admin.as_mut().unwrap().read_token_file = Some(file);
    let server = Server::with(options).unwrap();
    let browser = Browser::sign_in(&server, &json!({"token": "read_0123456789abcdef"}));
    assert_eq!(
        json_of(&browser.send(&server, "GET", SESSION, ""))["role"],
        "reader"
    );
    for (method, path, status) in [
        ("GET", APPS, 200),
        ("POST", APPS, 403),
        ("GET", "/api/internal/v1/backup", 403),
        (
            "GET",
            "/api/internal/v1/apps/shop/channel/history?name=a",
            403,
        ),
        ("GET", "/api/internal/v1/apps/shop/channel?name=a", 404),
        ("GET", "/api/internal/v1/stats/history", 200),
        ("POST", "/api/internal/v1/reload", 403),
        ("POST", "/api/internal/v1/session/code", 403),
        ("DELETE", "/api/internal/v1/apps/shop", 403),
        ("DELETE", "/api/internal/v1/session?all=true", 403),
        ("POST", "/api/internal/v1/tokens/inspect", 400),
        ("DELETE", SESSION, 200),
    ] {
        let answer = browser.send(&server, method, path, OWN);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    }
    let bearer = "Authorization: Bearer read_0123456789abcdef\r\n";
    for (method, status) in [("GET", 200), ("POST", 403)] {
        assert_eq!(
            send(&server, method, APPS, bearer, &Value::Null).status,
            status
        );
    }
    server.running.shutdown();
}

#[test]
fn a_backup_is_for_the_bearer_of_the_admin_token() {
    const BACKUP: &str = "/api/internal/v1/backup";
    let dir = scratch();
    let file = dir.path().join("read.token");
    std::fs::write(&file, "read_0123456789abcdef\n").unwrap();
    let mut options = options(dir.path());
    options.admin.as_mut().unwrap().read_token_file = Some(file);
    let server = Server::with(options).unwrap();
    let admin = Browser::sign_in(&server, &json!({"token": server.token}));
    let reader = Browser::sign_in(&server, &json!({"token": "read_0123456789abcdef"}));
    let halved = Browser {
        cookie: admin.cookie.clone(),
        half: reader.half.clone(),
    };
    for (browser, status) in [(&admin, 403), (&reader, 403), (&halved, 401)] {
        let answer = browser.send(&server, "GET", BACKUP, OWN);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(!answer.body.contains("manifest"), "{}", answer.body);
    }
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for (headers, status) in [
        (String::new(), 401),
        (bearer("wrong"), 401),
        (bearer("read_0123456789abcdef"), 403),
        (bearer(&server.token), 200),
    ] {
        let answer = send(&server, "GET", BACKUP, &headers, &Value::Null);
        assert_eq!(answer.status, status, "{headers}{}", answer.body);
    }
    server.running.shutdown();
}

#[test]
fn pages_are_for_anybody_and_may_do_little() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let page = |path: &'static str, is_immutable| Page {
        path: path.into(),
        content_type: "text/plain",
        body: Cow::Borrowed(path.as_bytes()),
        is_immutable,
    };
    server.handle.show(Site {
        prefix: "/",
        security_policy: HeaderValue::from_static("connect-src ws://{host}:1"),
        pages: vec![page("/", false), page("/console/1/app.js", true)],
    });
    for (path, kept) in [
        ("/", "no-store"),
        ("/console/1/app.js", "public, max-age=31536000, immutable"),
    ] {
        let answer = send(
            &server,
            "GET",
            path,
            "Sec-Fetch-Site: cross-site\r\n",
            &Value::Null,
        );
        assert_eq!((answer.status, &*answer.body), (200, path));
        for header in [
            "content-security-policy: connect-src ws://localhost:1",
            &format!("cache-control: {kept}"),
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(answer.head.contains(header), "{}", answer.head);
        }
    }
    assert_eq!(
        send(&server, "GET", "/console/2/app.js", "", &Value::Null).status,
        401
    );
    assert_eq!(send(&server, "POST", "/", "", &Value::Null).status, 401);
    server.running.shutdown();
}
