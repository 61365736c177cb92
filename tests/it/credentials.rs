//! Bad credentials are refused, all of them with the same bytes; origins are held to the key's.

use serde_json::{Value, json};

use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup, key, secret_key};
use crate::support::token::{SECRET, now_sec, sign, token, token_of};

/// A server with a key that signs for `room-*` and two actions only.
fn server() -> Server {
    let keys = [
        key("pk_live_c", &["**"], ALL_ACTIONS),
        secret_key("sk_id_c", &["room-*", "chat/**"], &["subscribe", "publish"]),
    ];
    Setup::new(2).app("app_c", &keys).start()
}

/// The whole answer to a connect with this query and these header lines.
fn answer(server: &Server, query: &str, headers: &str) -> String {
    let response = server.attempt(&format!("/v1{query}"), headers);
    let stable = response
        .head
        .lines()
        .filter(|line| !line.to_lowercase().starts_with("date:"));
    stable
        .chain([response.body.as_str()])
        .collect::<Vec<_>>()
        .join("\n")
}

/// Each query is refused, with the bytes that a connect without any credential gets.
#[track_caller]
fn check_refused(server: &Server, queries: &[String]) {
    let nothing = answer(server, "", "");
    assert!(nothing.starts_with("HTTP/1.1 401 "), "{nothing}");
    for query in queries {
        assert_eq!(answer(server, query, ""), nothing, "{query}");
    }
}

fn claims(change: Value) -> Value {
    let mut claims = json!({"sub": "a", "exp": now_sec() + 600});
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::String(gone) if gone == "(absent)" => {
                claims.as_object_mut().unwrap().remove(name)
            }
            value => claims
                .as_object_mut()
                .unwrap()
                .insert(name.clone(), value.clone()),
        };
    }
    claims
}

#[test]
fn what_is_no_single_known_credential() {
    let server = server();
    let good = token("sk_id_c", json!({"sub": "a"}));
    let queries = [
        "?".into(),
        "?key".into(),
        "?key=".into(),
        "?token=".into(),
        "?KEY=pk_live_c".into(),
        "?key=pk_live_unknown".into(),
        "?key=pk_live_c%00".into(),
        "?key=pk_live_c&key=pk_live_c".into(),
        format!("?key=pk_live_c&token={good}"),
        "?key=%zz".into(),
        "?key=pk_live_c%".into(),
        "?key=%ff%fe".into(),
        "?key=sk_id_c".into(),
        format!("?key={SECRET}"),
        format!("?key={good}"),
        "?token=pk_live_c".into(),
        "?token=sk_id_c".into(),
        format!("?token={SECRET}"),
    ];
    check_refused(&server, &queries);
    let nothing = answer(&server, "", "");
    for (query, headers) in [
        (
            "?key=pk_live_c",
            format!("Authorization: Bearer {good}\r\n"),
        ),
        (
            "",
            format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"),
        ),
        ("", format!("Authorization: Basic {good}\r\n")),
        (
            "?key=pk_live_unknown",
            "Authorization: Basic YTpi\r\n".into(),
        ),
        ("", "Authorization: Bearer pk_live_c\r\n".into()),
        ("", "Authorization: Bearer\r\n".into()),
    ] {
        assert_eq!(
            answer(&server, query, &headers),
            nothing,
            "{query} {headers}"
        );
    }
    assert_eq!(server.attempt(&format!("/v1?token={good}"), "").status, 101);
}

#[test]
fn tokens_that_are_not_signed_as_they_must_be() {
    let server = server();
    let payload = claims(json!({})).to_string();
    let signed = |header: Value| sign(&header.to_string(), &payload, SECRET);
    let good = signed(json!({"alg": "HS256", "kid": "sk_id_c"}));
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    let tokens = [
        signed(json!({"alg": "none", "kid": "sk_id_c"})),
        signed(json!({"alg": "HS512", "kid": "sk_id_c"})),
        signed(json!({"alg": "RS256", "kid": "sk_id_c"})),
        signed(json!({"alg": "hs256", "kid": "sk_id_c"})),
        signed(json!({"kid": "sk_id_c"})),
        signed(json!({"alg": "HS256"})),
        signed(json!({"alg": "HS256", "kid": "sk_id_unknown"})),
        signed(json!({"alg": "HS256", "kid": "pk_live_c"})),
        signed(json!({"alg": "HS256", "kid": 7})),
        sign(
            r#"{"alg":"HS256","kid":"sk_id_c"}"#,
            &payload,
            "another secret",
        ),
        sign("not json", &payload, SECRET),
        sign(r#"{"alg":"HS256","kid":"sk_id_c"}"#, "not json", SECRET),
        sign(r#"{"alg":"HS256","kid":"sk_id_c"}"#, "[]", SECRET),
        unsigned.to_owned(),
        format!("{unsigned}."),
        format!("{good}="),
        format!("{good}.x"),
        good.replace('.', ""),
        format!("{}!{}", &good[..10], &good[11..]),
        "..".into(),
    ];
    let queries: Vec<String> = tokens
        .iter()
        .map(|token| format!("?token={token}"))
        .collect();
    check_refused(&server, &queries);
    assert_eq!(server.attempt(&format!("/v1?token={good}"), "").status, 101);
}

#[test]
fn tokens_whose_claims_are_not_good() {
    let server = server();
    let now = now_sec();
    let patterns: Vec<String> = (0..101).map(|number| format!("room-{number}")).collect();
    let permissions = vec!["publish"; 17];
    let bad = [
        json!({"sub": "(absent)"}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": "a\u{7f}"}),
        json!({"sub": "é"}),
        json!({"sub": "x".repeat(129)}),
        json!({"exp": "(absent)"}),
        json!({"exp": "soon"}),
        json!({"exp": now - 1}),
        json!({"iat": now - 90_000}),
        json!({"iat": now + 60}),
        json!({"nbf": now + 60}),
        json!({"nbf": "now"}),
        json!({"channels": "room-1"}),
        json!({"channels": [1]}),
        json!({"channels": ["room/1"]}),
        json!({"channels": ["room-1", "**"]}),
        json!({"channels": ["room-**"]}),
        json!({"channels": ["room-\\"]}),
        json!({"channels": [""]}),
        json!({"channels": patterns}),
        json!({"permissions": ["send"]}),
        json!({"permissions": ["fly"]}),
        json!({"permissions": "publish"}),
        json!({"permissions": permissions}),
        json!({"metadata": []}),
        json!({"metadata": {"m": "x".repeat(8 * 1_024)}}),
        json!({"peerMetadata": "x"}),
        json!({"peerMetadata": {"m": "x".repeat(4 * 1_024)}}),
    ];
    let queries: Vec<String> = bad
        .into_iter()
        .map(|change| {
            format!(
                "?token={}",
                token_of("sk_id_c", &claims(change).to_string())
            )
        })
        .collect();
    check_refused(&server, &queries);
    let good = [
        json!({"sub": "x".repeat(128)}),
        json!({"iat": now + 3, "nbf": now + 3}),
        json!({"iss": 7, "aud": [], "unknown": {}}),
        json!({"channels": ["room-1", "room-*", "chat/a/**", "chat/*"]}),
        json!({"permissions": ["publish", "subscribe"]}),
        json!({"channels": [], "permissions": []}),
    ];
    for change in good {
        let query = format!(
            "?token={}",
            token_of("sk_id_c", &claims(change).to_string())
        );
        server.connect(&query);
    }
}

#[test]
fn a_key_with_origins_takes_connects_from_those() {
    let origins = "allowed_origins = [\"https://app.example\", \"http://localhost:3000\", \
                   \"https://*.shop.example:8443\"]\n";
    let keys = [key("pk_live_c", &["**"], ALL_ACTIONS) + origins];
    let server = Setup::new(2).app("app_c", &keys).start();
    for (origin, status) in [
        ("https://app.example", 101),
        ("https://APP.example:443", 101),
        ("http://localhost:3000", 101),
        ("https://eu.shop.example:8443", 101),
        ("http://app.example", 401),
        ("https://app.example:444", 401),
        ("https://app.example.evil", 401),
        ("http://localhost", 401),
        ("https://shop.example:8443", 401),
        ("https://a.b.shop.example:8443", 401),
        ("https://eu.shop.example", 401),
        ("null", 401),
        ("", 401),
    ] {
        let header = format!("Origin: {origin}\r\n");
        let response = server.attempt("/v1?key=pk_live_c", &header);
        assert_eq!(response.status, status, "{origin}");
    }
    assert_eq!(
        answer(&server, "?key=pk_live_c", ""),
        answer(&server, "", "")
    );
    let twice = "Origin: https://app.example\r\nOrigin: https://evil.example\r\n";
    assert_eq!(server.attempt("/v1?key=pk_live_c", twice).status, 401);
    // Keys without a list take any origin, or none.
    let anywhere = server.attempt("/v1?key=pk_live_a", "Origin: https://evil.example\r\n");
    assert_eq!(anywhere.status, 101);
}
