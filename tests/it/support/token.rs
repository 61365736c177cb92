//! Connect tokens made by hand (RFC 7515), good ones and bad ones.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// What every declared key signs with.
pub(crate) const SECRET: &str = "sk_secret_of_all_declared_keys_0123456789abcdef";

/// A token of these claims for an hour, unless they say otherwise.
pub(crate) fn token(key_id: &str, mut claims: Value) -> String {
    let fields = claims.as_object_mut().unwrap();
    fields
        .entry("exp")
        .or_insert_with(|| json!(now_sec() + 3_600));
    token_of(key_id, &claims.to_string())
}

/// A token of this payload, byte for byte.
pub(crate) fn token_of(key_id: &str, payload: &str) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT", "kid": key_id});
    sign(&header.to_string(), payload, SECRET)
}

/// A token of this header and payload.
pub(crate) fn sign(header: &str, payload: &str, secret: &str) -> String {
    let signed = [header, payload]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

pub(crate) fn now_sec() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
