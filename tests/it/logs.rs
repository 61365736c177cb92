//! The log tells operators why, and never a credential or a query string.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::raw::handshake;
use crate::support::setup::Setup;
use crate::support::token::{SECRET, now_sec, token};

#[test]
fn no_credential_and_no_query_is_logged_at_any_level() {
    let mut server = Setup::new(2).set("log.level", "\"trace\"").start();
    let good = token("sk_id_a", json!({"sub": "a"}));
    let expired = token("sk_id_a", json!({"sub": "a", "exp": now_sec() - 60}));
    let forged = format!("{good}x");
    for token in [&good, &expired, &forged] {
        server.attempt(&format!("/v1?token={token}&marker=in-the-query"), "");
        server.attempt("/v1", &format!("Authorization: Bearer {token}\r\n"));
        server.attempt(&format!("/elsewhere?token={token}"), "");
        server.attempt(&format!("/v1/{token}"), "");
        let mut broken = server.raw();
        broken.write(format!("GET /v1?token={token} NONSENSE\r\n\r\n"));
        broken.response();
    }
    server.attempt("/v1?key=pk_live_wrong_one&marker=in-the-query", "");
    let mut raw = server.raw();
    raw.write(handshake(&format!("/v1?key={SECRET}\n"), ""));
    raw.response();
    server.admin().get("/api/internal/v1/apps");
    let mut admin = server.admin();
    let admin_token = std::mem::replace(&mut admin.bearer, "a-wrong-admin-token".into());
    admin
        .call("GET", "/api/internal/v1/apps?marker=in-the-query", None)
        .is_error(401, "unauthorized");
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
    let log = server.log.all();
    assert!(log.contains("listening"), "{log}");
    let (_, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = good.split_once('.').unwrap();
    for secret in [
        signature,
        head,
        &expired,
        SECRET,
        &admin_token,
        "pk_live_wrong_one",
        "in-the-query",
        "a-wrong-admin-token",
        "sk_live_declared",
    ] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[test]
fn each_refused_connect_is_logged_with_its_real_cause() {
    let server = Setup::new(2).start();
    let expired = token("sk_id_a", json!({"sub": "a", "exp": now_sec() - 60}));
    let forged = token("sk_id_a", json!({"sub": "a"})) + "x";
    for (target, cause) in [
        (
            "/v1?key=pk_live_unknown".to_owned(),
            "unknown or revoked key",
        ),
        ("/v1".to_owned(), "not exactly one"),
        (format!("/v1?token={expired}"), "expired"),
        (format!("/v1?token={forged}"), "not signed"),
    ] {
        server.attempt(&target, "").is_error(401, "unauthorized");
        server.log.find(cause, |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            let told = event["cause"].as_str()?.contains(cause);
            (told && event["level"] == "DEBUG" && event["remote"] == "127.0.0.1").then_some(())
        });
    }
}

#[test]
fn lines_are_json_or_text_as_asked() {
    let setup = Setup::new(1)
        .set("log.format", "\"text\"")
        .set("log.level", "\"info\"");
    let mut command = crate::support::server::ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    // The variable goes before the file.
    command.env("RINGMESH_LOG__FORMAT", "json");
    let mut server = crate::support::server::Server::start(command, setup);
    server.attempt("/v1?key=pk_live_unknown", "");
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
    for line in server.log.all().lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            event["timestamp"].as_str().unwrap().ends_with('Z'),
            "{line}"
        );
        assert!(
            ["INFO", "WARN"].contains(&event["level"].as_str().unwrap()),
            "{line}"
        );
    }
}
