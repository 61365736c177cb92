//! What stands in front of a server: proxies that are set up for it, and proxies that are not.

use serde_json::Value;

use crate::support::own_port;
use crate::support::raw::{Raw, Response, handshake};
use crate::support::server::Server;
use crate::support::setup::Setup;
use crate::support::token::token;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// What is answered behind these bytes.
fn behind(server: &Server, header: &[u8], request: &str) -> Response {
    let mut raw = server.raw();
    raw.write([header, request.as_bytes()].concat());
    raw.response()
}

/// The first warning with this text, as JSON.
fn warning(server: &Server, text: &str) -> Value {
    server.log.find(text, |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        let told = event["message"].as_str()?.contains(text) && event["level"] == "WARN";
        told.then_some(event)
    })
}

/// A line of the metrics page.
fn refused_by(server: &Server, cause: &str) -> f64 {
    let page = server.admin().call("GET", "/metrics", None).body;
    let lines = page.lines().filter(|line| {
        line.starts_with("ringmesh_handshakes_refused_total")
            && line.contains(&format!("cause=\"{cause}\""))
    });
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

fn proxied() -> Server {
    Setup::new(2)
        .set("server.trusted_proxies", r#"["127.0.0.0/8"]"#)
        .set("server.proxy_protocol", true)
        .set("limits.connects_per_address", 2)
        .start()
}

#[test]
fn a_proxy_may_speak_either_version() {
    let server = proxied();
    let from = |client: &str| {
        let header = format!("PROXY TCP4 {client} 127.0.0.1 4660 443\r\n");
        behind(
            &server,
            header.as_bytes(),
            &handshake("/v1?key=pk_live_a", ""),
        )
        .status
    };
    assert_eq!(from("203.0.113.1"), 101);
    assert_eq!(from("203.0.113.1"), 101);
    assert_eq!(from("203.0.113.1"), 429);
    assert_eq!(from("203.0.113.2"), 101);
    for header in [
        &b"PROXY TCP6 2001:db8::7 ::1 4660 443\r\n"[..],
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x05\x7f\0\0\x01\x12\x34\x01\xbb",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ] {
        assert_eq!(behind(&server, header, HEALTH).status, 200, "{header:?}");
    }
    // In any pieces.
    let mut raw = server.raw();
    for byte in [
        b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n",
        HEALTH.as_bytes(),
    ]
    .concat()
    {
        raw.write([byte]);
    }
    assert_eq!(raw.response().status, 200);
}

#[test]
fn a_proxy_without_its_header_is_told_once_and_counted() {
    let server = proxied();
    for bytes in [HEALTH, "PROXY TCP9 a b c d\r\n", "\x16\x03\x01"] {
        let mut raw = server.raw();
        raw.write(bytes);
        raw.ends();
    }
    let told = warning(&server, "did not begin with a PROXY protocol header");
    assert_eq!(
        (&told["address"], &told["connections"]),
        (&"127.0.0.1".into(), &1.into())
    );
    assert_eq!(refused_by(&server, "proxy_header"), 3.0);
    assert_eq!(refused_by(&server, "transport"), 0.0);
    assert_eq!(warnings(server, "did not begin with"), 1);
}

#[test]
fn a_header_that_is_not_expected_is_named() {
    let server = Setup::new(1).start();
    for header in [
        &b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 443\r\n"[..],
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x05\x7f\0\0\x01\x12\x34\x01\xbb",
    ] {
        let response = behind(&server, header, HEALTH);
        response.is_error(400, "invalid_request");
        assert!(
            response.body.contains("server.proxy_protocol"),
            "{}",
            response.body
        );
    }
    let told = warning(&server, "sends PROXY protocol headers");
    assert_eq!(told["address"], "127.0.0.1");
    assert_eq!(warnings(server, "sends PROXY protocol headers"), 1);
}

/// How many warnings had this text, up to the end of the server.
fn warnings(mut server: Server, text: &str) -> usize {
    server.signal(rustix::process::Signal::TERM);
    assert!(server.exit_status().success());
    let log = server.log.all();
    log.lines()
        .filter(|line| line.contains("\"WARN\"") && line.contains(text))
        .count()
}

#[test]
fn a_proxy_that_is_not_trusted_is_named_once() {
    let server = Setup::new(2).start();
    for at in 0..5 {
        let headers = format!("X-Forwarded-For: 203.0.113.{at}\r\n");
        assert_eq!(server.attempt("/v1?key=pk_live_a", &headers).status, 101);
        let request = HEALTH.replacen("\r\n\r\n", &format!("\r\n{headers}\r\n"), 1);
        assert_eq!(behind(&server, b"", &request).status, 200);
    }
    let told = warning(&server, "is not in server.trusted_proxies");
    assert_eq!(
        (&told["address"], &told["header"]),
        (&"127.0.0.1".into(), &"X-Forwarded-For".into())
    );
    assert_eq!(warnings(server, "is not in server.trusted_proxies"), 1);
}

#[test]
fn a_header_that_is_not_read_is_named() {
    let trusted = Setup::new(1).set("server.trusted_proxies", r#"["127.0.0.1/32"]"#);
    let server = trusted.start();
    let forwarded = "Forwarded: for=203.0.113.9\r\n";
    assert_eq!(server.attempt("/v1?key=pk_live_a", forwarded).status, 101);
    warning(&server, "names its clients in Forwarded, which is not read");
    let server = Setup::new(1).start();
    assert_eq!(server.attempt("/v1?key=pk_live_a", forwarded).status, 101);
    let told = warning(&server, "is not in server.trusted_proxies");
    assert_eq!(told["header"], "Forwarded");
}

#[test]
fn a_password_for_a_proxy_is_none_of_our_business() {
    let server = Setup::new(1).start();
    let good = token("sk_id_a", serde_json::json!({"sub": "a"}));
    let basic = "Authorization: Basic dXNlcjpwYXNz\r\n";
    for (target, headers) in [
        ("/v1?key=pk_live_a".to_owned(), basic.to_owned()),
        (format!("/v1?token={good}"), basic.to_owned()),
        (
            format!("/v1?token={good}"),
            "Authorization: Digest a=\"b\"\r\n".to_owned(),
        ),
        (
            "/v1".to_owned(),
            format!("{basic}Authorization: Bearer {good}\r\n"),
        ),
    ] {
        assert_eq!(
            server.attempt(&target, &headers).status,
            101,
            "{target} {headers}"
        );
    }
    let request = format!("GET /v1/usage HTTP/1.1\r\nHost: x\r\n{basic}\r\n");
    behind(&server, b"", &request).is_error(401, "unauthorized");
}

#[test]
fn a_slash_behind_the_path_changes_nothing() {
    let server = Setup::new(1).start();
    assert_eq!(server.attempt("/v1/?key=pk_live_a", "").status, 101);
    assert_eq!(server.attempt("/v1/?key=wrong", "").status, 401);
    let plain = "GET /v1/ HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(behind(&server, b"", plain).status, 426);
}

#[test]
fn one_port_serves_both_kinds_of_addresses() {
    let port = own_port();
    let both = format!("[\"0.0.0.0:{port}\", \"[::]:{port}\"]");
    let alone = format!("[\"[::]:{port}\"]");
    for listen in [both, alone] {
        let _server = Setup::new(2).set("server.listen", &listen).start();
        for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            let mut raw = Raw::open(address.parse().unwrap());
            raw.write(HEALTH);
            assert_eq!(raw.response().status, 200, "{address} {listen}");
        }
    }
}
