//! `ringmesh token`: tokens that a server signs, and what is said of good and bad ones.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::server::{Server, ringmesh};
use crate::support::setup::{ALL_ACTIONS, Setup, key, secret_key};
use crate::support::token::{SECRET, now_sec, sign, token, token_of};

fn run(server: &Server, words: &[&str], input: &str) -> Output {
    let admin = server.admin();
    let mut command = ringmesh();
    command
        .args(words)
        .arg("--admin-url")
        .arg(admin.address.to_string())
        .env("RINGMESH_ADMIN_TOKEN", admin.bearer)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn printed(server: &Server, words: &[&str]) -> String {
    let output = run(server, words, "");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What the server says of a token, and the exit code.
#[track_caller]
fn judged(server: &Server, token: &str, more: &[&str]) -> (Value, i32) {
    let words = [&["token", "check", "-", "--json"], more].concat();
    let output = run(server, &words, token);
    let answer = serde_json::from_slice(&output.stdout);
    let answer = answer.unwrap_or_else(|_| panic!("{output:?}"));
    (answer, output.status.code().unwrap())
}

#[test]
fn the_server_signs_what_its_key_may() {
    let keys = [
        key("pk_live_a", &["**"], ALL_ACTIONS),
        secret_key("sk_id_a", &["room-*"], &["subscribe", "publish"]),
    ];
    let server = Setup::new(2).no_apps().app("app_a", &keys).start();
    // With one secret key there is nothing to name.
    let mint = [
        "token",
        "mint",
        "alice",
        "--channels",
        "room-1",
        "--metadata",
        r#"{"b": 1, "a": 2}"#,
    ];
    let token = printed(&server, &mint);
    let client = server.connect(&format!("?token={}", token.trim_end()));
    assert_eq!(client.peer_id, "alice");
    let welcome: Value = serde_json::from_str(&client.welcome).unwrap();
    assert_eq!(welcome["metadata"], json!({"a": 2, "b": 1}));
    for (words, exit_code, expected) in [
        (&["--key", "sk_id_b"][..], 4, "there is no key \"sk_id_b\""),
        (
            &["--key", "pk_live_a"],
            2,
            "a publishable key signs nothing",
        ),
        (
            &["--channels", "news"],
            2,
            "--channels: one of them is not contained",
        ),
        (
            &["--permissions", "send"],
            2,
            "--permissions: the key does not have all",
        ),
        (&["--permissions", "fly"], 2, "--permissions: "),
        (
            &["--expires", "2h"],
            2,
            "--expires: the server signs for 1 to 3600 seconds",
        ),
        (&["--metadata", "[]"], 2, "metadata"),
    ] {
        let words = [&["token", "mint", "bob"], words].concat();
        let output = run(&server, &words, "");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit_code), "{words:?}: {text}");
        assert!(
            text.contains(expected) && text.lines().count() == 1,
            "{text}"
        );
    }
}

#[test]
fn a_good_token_is_said_to_be_good_for_what_it_is() {
    let server = Setup::new(1).start();
    let good = token("sk_id_a", json!({"sub": "alice", "channels": ["room-*"]}));
    let (answer, code) = judged(&server, &good, &[]);
    assert_eq!((&answer["verdict"], code), (&json!("good"), 0), "{answer}");
    assert_eq!(answer["key"]["appId"], "app_a");
    assert_eq!(answer["effective"]["channels"], json!(["room-*"]));
    let actions = answer["effective"]["actions"].as_array().unwrap();
    assert_eq!(actions.len(), 4);
    assert!(
        answer["checks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|check| check["ok"] == true)
    );
    for (channel, may, expected) in [("room-1", true, 0), ("news", false, 1)] {
        let asked = ["--channel", channel, "--action", "publish"];
        let (answer, code) = judged(&server, &good, &asked);
        assert_eq!((&answer["may"], code), (&json!(may), expected), "{channel}");
    }
    let text = printed(&server, &["token", "check", &good]);
    assert!(
        text.starts_with("good: ") && text.contains("peer      alice"),
        "{text}"
    );
    // What is said is what a connect is told.
    server.connect(&format!("?token={good}"));
}

#[test]
fn a_bad_token_is_said_to_be_bad_for_its_cause() {
    let server = Setup::new(1).start();
    let now = now_sec();
    let header = json!({"alg": "HS256", "typ": "JWT", "kid": "sk_id_a"}).to_string();
    let claims = json!({"sub": "alice", "exp": now + 60}).to_string();
    let forged = sign(
        &header,
        &claims,
        "another_secret_of_thirty_two_bytes_and_more",
    );
    let none = sign(&header.replace("HS256", "none"), &claims, "x");
    let crit = header.replace("{", r#"{"crit":["x"],"#);
    for (token, cause) in [
        (
            token("sk_id_a", json!({"sub": "alice", "exp": now - 60})),
            "token_expired",
        ),
        (token("sk_id_x", json!({"sub": "alice"})), "unknown_key"),
        (token("pk_live_a", json!({"sub": "alice"})), "unknown_key"),
        (forged, "token_signature"),
        (none, "token_alg"),
        (sign(&crit, &claims, SECRET), "token_crit"),
        (token_of("sk_id_a", "{}"), "token_claim"),
        (
            token("sk_id_a", json!({"sub": "a", "nbf": now + 600})),
            "token_nbf",
        ),
        (
            token("sk_id_a", json!({"sub": "a", "iat": now + 600})),
            "token_iat_future",
        ),
        ("sk_live_0123456789".to_owned(), "wrong_kind"),
        ("not.a.token".to_owned(), "token_malformed"),
    ] {
        let (answer, code) = judged(&server, &token, &[]);
        assert_eq!(answer["cause"], cause, "{answer}");
        assert_eq!(
            (&answer["verdict"], code),
            (&json!("refused"), 1),
            "{answer}"
        );
        let last = answer["checks"].as_array().unwrap().last().unwrap();
        assert_eq!(last["ok"], false, "{answer}");
        assert_eq!(
            server.attempt(&format!("/v1?token={token}"), "").status,
            401,
            "{cause}"
        );
    }
}

#[test]
fn a_token_is_judged_without_a_server_too() {
    let server = Setup::new(1).start();
    let good = token("sk_id_a", json!({"sub": "alice"}));
    let secret = server.dir().join("signing.secret");
    let check = |token: &str| {
        let output = ringmesh()
            .args(["token", "check", token, "--secret-file"])
            .arg(&secret)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, text) = check(&good);
    assert!(code == 0 && text.starts_with("good: "), "{text}");
    let (code, text) = check(&token("sk_id_a", json!({"sub": "alice", "exp": 1})));
    assert!(code == 1 && text.starts_with("refused: "), "{text}");
}
