//! Tokens made by hand and by the library's own `encode`: form, header, signature.

mod mint;
mod rules;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::proto::pattern::CompiledPatterns;

const SECRET: &[u8] = b"sk_secret_0123456789abcdef";
const NOW_SEC: u64 = 1_800_000_000;
const NOW_MS: u64 = NOW_SEC * 1_000;
const HEADER: &str = r#"{"typ":"JWT","alg":"HS256","kid":"sk_id_1"}"#;
const DAY_SEC: u64 = 86_400;

/// Signs any two texts as header and payload.
fn signed(header: &str, payload: &str, secret: &[u8]) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(header), part(payload));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.unwrap())
}

/// Claims that are good at `NOW_MS`, with some of them replaced; `null` removes one.
fn with(changes: Value) -> String {
    let mut claims = json!({"sub": "ada", "exp": NOW_SEC + 60});
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims
                .as_object_mut()
                .unwrap()
                .insert(name.clone(), value.clone()),
        };
    }
    claims.to_string()
}

/// The rights of a key that may grant anything.
fn everything() -> CompiledPatterns {
    Pattern::parse("**").into_iter().collect()
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    let secret = Secret::new(SECRET);
    UnverifiedToken::parse(token)?.verify([&secret], &everything(), Actions::ALL, NOW_MS)
}

fn verify_claims(payload: &str) -> Result<Claims, TokenError> {
    verify(&signed(HEADER, payload, SECRET))
}

#[track_caller]
fn check(payload: &str, expected: Result<(), TokenError>) {
    assert_eq!(verify_claims(payload).map(|_| ()), expected, "{payload}");
}

#[track_caller]
fn check_header(header: &str, expected: Result<&str, TokenError>) {
    let token = signed(header, &with(json!({})), SECRET);
    let parsed = UnverifiedToken::parse(&token);
    let key_id = parsed
        .as_ref()
        .map(UnverifiedToken::key_id)
        .map_err(|error| *error);
    assert_eq!(key_id, expected, "{header}");
}

#[test]
fn the_header_must_be_hs256_with_a_key_id() {
    check_header(HEADER, Ok("sk_id_1"));
    check_header(r#" {"alg":"HS256","kid":"a","cty":5,"x":[{}]} "#, Ok("a"));
    check_header(r#"{"alg":"\u0048S256","kid":""}"#, Ok(""));
    for alg in [
        "none", "None", "HS384", "HS512", "RS256", "hs256", "HS256 ", "",
    ] {
        let header = json!({"alg": alg, "kid": "sk_id_1"}).to_string();
        check_header(&header, Err(TokenError::Algorithm));
    }
    check_header(r#"{"kid":"a"}"#, Err(TokenError::Algorithm));
    check_header(r#"{"alg":null,"kid":"a"}"#, Err(TokenError::Algorithm));
    check_header(r#"{"alg":["HS256"],"kid":"a"}"#, Err(TokenError::Algorithm));
    check_header(r#"{"alg":"HS256"}"#, Err(TokenError::KeyId));
    check_header(r#"{"alg":"HS256","kid":null}"#, Err(TokenError::KeyId));
    check_header(r#"{"alg":"HS256","kid":1}"#, Err(TokenError::KeyId));
    for crit in [r#"["b64"]"#, "[]", "null"] {
        let header = format!(r#"{{"alg":"HS256","kid":"a","crit":{crit}}}"#);
        check_header(&header, Err(TokenError::CriticalExtension));
    }
    check_header(
        r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
        Err(TokenError::Malformed),
    );
    check_header(r#"["HS256","a"]"#, Err(TokenError::Malformed));
    check_header("", Err(TokenError::Malformed));
    check_header(r#"{"alg":"HS256","kid":"a"} x"#, Err(TokenError::Malformed));
}

#[test]
fn what_is_no_token_at_all() {
    let good = signed(HEADER, &with(json!({})), SECRET);
    assert!(verify(&good).is_ok());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    for token in ["", ".", "..", "a.b", message, "é.é.é", " . . "] {
        assert_eq!(verify(token), Err(TokenError::Malformed), "{token}");
    }
    let not_utf8 = URL_SAFE_NO_PAD.encode([b'{', 0xFF, b'}']);
    assert_eq!(
        verify(&format!("{not_utf8}.{payload}.{signature}")),
        Err(TokenError::Malformed)
    );
    for token in [
        format!("{good}.{signature}"),
        format!("{good}="),
        format!("{good} "),
        format!("{message}."),
        format!("{header}..{signature}"),
        format!("{header}.{payload}..{signature}"),
    ] {
        assert_eq!(verify(&token), Err(TokenError::Signature), "{token}");
    }
}

#[test]
fn every_prefix_of_a_token_is_refused() {
    let good = signed(HEADER, &with(json!({"metadata": {"a": [1, 2]}})), SECRET);
    for end in 0..good.len() {
        assert!(verify(&good[..end]).is_err(), "{end}");
    }
}

#[test]
fn a_token_has_a_greatest_length() {
    let token = |bytes: usize| {
        let padded = format!(
            r#"{{"sub":"ada","exp":{},"x":"{}"}}"#,
            NOW_SEC + 60,
            "x".repeat(bytes)
        );
        signed(HEADER, &padded, SECRET)
    };
    let mut bytes = TOKEN_BYTES_MAX * 3 / 4 - 200;
    while token(bytes + 1).len() <= TOKEN_BYTES_MAX {
        bytes += 1;
    }
    assert!(verify(&token(bytes)).is_ok());
    assert_eq!(verify(&token(bytes + 1)), Err(TokenError::TooLong));
}

#[test]
fn secrets_are_tried_in_turn() {
    let (current, previous) = (Secret::new(b"current"), Secret::new(b"previous"));
    let verify = |signed_with: &[u8], secrets: &[&Secret]| {
        let token = signed(HEADER, &with(json!({})), signed_with);
        let token = UnverifiedToken::parse(&token)?;
        token
            .verify(secrets.iter().copied(), &everything(), Actions::ALL, NOW_MS)
            .map(|_| ())
    };
    assert_eq!(verify(b"current", &[&current, &previous]), Ok(()));
    assert_eq!(verify(b"previous", &[&current, &previous]), Ok(()));
    assert_eq!(verify(b"previous", &[&current]), Err(TokenError::Signature));
    assert_eq!(
        verify(b"other", &[&current, &previous]),
        Err(TokenError::Signature)
    );
    assert_eq!(verify(b"current", &[]), Err(TokenError::Signature));
}

#[test]
fn another_hmac_of_the_same_secret_is_refused() {
    let mut header = Header::new(Algorithm::HS512);
    header.kid = Some("sk_id_1".into());
    let claims: Value = serde_json::from_str(&with(json!({}))).unwrap();
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(verify(&token), Err(TokenError::Algorithm));
    // The same signature under a header that says HS256.
    let (message, signature) = token.rsplit_once('.').unwrap();
    let payload = message.split_once('.').unwrap().1;
    let forged = format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(HEADER));
    assert_eq!(verify(&forged), Err(TokenError::Signature));
}

#[test]
fn a_secret_matches_itself_only_and_shows_nothing() {
    let secret = Secret::new(SECRET);
    assert!(secret.matches(SECRET));
    assert!(!secret.matches(&SECRET[1..]) && !secret.matches(b""));
    let mut other = SECRET.to_vec();
    *other.last_mut().unwrap() ^= 1;
    assert!(!secret.matches(&other));
    assert_eq!(format!("{secret:?}"), "Secret(…)");
}

/// A change of one character either breaks a token or leaves what it says as it was.
#[test]
fn no_change_of_one_character_makes_another_token() {
    let payload = with(json!({"channels": ["a/*"], "metadata": {"n": 1}}));
    let good = signed(HEADER, &payload, SECRET);
    let claims = verify(&good).unwrap();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";
    for at in 0..good.len() {
        for &byte in alphabet {
            let mut changed = good.clone().into_bytes();
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            if changed != good {
                assert!(verify(&changed).is_err(), "{changed}");
            }
        }
        let shorter = format!("{}{}", &good[..at], &good[at + 1..]);
        assert!(verify(&shorter).is_err(), "{shorter}");
    }
    assert_eq!(verify(&good), Ok(claims));
}

proptest! {
    /// Tokens from the library's own encoder.
    #[test]
    fn tokens_of_another_issuer_verify(
        sub in "[ -~]{1,128}",
        life_sec in 1_u64..200_000,
        age_sec in 0_u64..1_000,
        rooms in proptest::collection::vec("[a-z]{1,20}[*]{0,2}", 0..100),
        permissions in proptest::sample::subsequence(vec!["publish", "send", "presence"], 0..=3),
        text in ".{0,500}",
    ) {
        let metadata = json!({"text": text, "list": [null, 1.5, {"é": true}]});
        let payload = json!({
            "sub": sub, "iat": NOW_SEC - age_sec, "exp": NOW_SEC + life_sec, "aud": "x",
            "channels": rooms, "permissions": permissions, "metadata": metadata,
        });
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("sk_id_1".into());
        let key = EncodingKey::from_secret(SECRET);
        let token = jsonwebtoken::encode(&header, &payload, &key).unwrap();
        let claims = verify(&token).unwrap();
        prop_assert_eq!(&*claims.sub, &sub);
        let expiry_sec = NOW_SEC + life_sec.min(DAY_SEC - age_sec);
        prop_assert_eq!(claims.expires_at_unix_ms, expiry_sec * 1_000);
        let channels = claims.channels.unwrap();
        prop_assert_eq!(channels.iter().map(Pattern::as_str).collect::<Vec<_>>(), rooms);
        prop_assert_eq!(claims.permissions, Some(Actions::parse(permissions).unwrap()));
        prop_assert_eq!(claims.metadata, Some(metadata.to_string().into()));
    }

    /// Nothing that is fed in panics.
    #[test]
    fn any_text_is_refused_or_taken(
        token in "\\PC{0,200}",
        header in ".{0,80}",
        payload in ".{0,80}",
    ) {
        let _ = verify(&token);
        let _ = verify(&signed(&header, &payload, SECRET));
        let _ = verify_claims(&payload);
    }
}
