//! Connect tokens against jsonwebtoken: whoever is let in has a token that the library takes,
//! too, and is who it says.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use ringmesh::proto::actions::Actions;
use ringmesh::proto::claims::{Secret, UnverifiedToken};
use ringmesh::proto::pattern::{CompiledPatterns, Pattern};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Bytes;

const SECRET: &[u8] = b"a signing secret of 32 bytes....";
const NOW_SEC: u64 = 1_800_000_000;

pub(crate) fn run(bytes: &[u8]) {
    let mut script = Bytes(bytes);
    let shape = script.byte();
    let rest = String::from_utf8_lossy(script.0).into_owned();
    // A header and a payload in two lines, signed; or a token as it is.
    let token = match shape & 3 {
        0 => rest,
        kind => {
            let (header, payload) = rest.split_once('\n').unwrap_or((&rest, ""));
            let header = match kind {
                1 => r#"{"alg":"HS256","kid":"k"}"#,
                _ => header,
            };
            signed(header, payload)
        }
    };
    let secret = Secret::new(SECRET);
    let everything: CompiledPatterns = Pattern::parse("**").into_iter().collect();
    let Ok(unverified) = UnverifiedToken::parse(&token) else {
        return;
    };
    let now_ms = NOW_SEC * 1_000;
    let Ok(claims) = unverified.verify([&secret], &everything, Actions::ALL, now_ms) else {
        return;
    };
    let Some(theirs) = theirs(&token) else {
        // The library reads each member of the header that it knows, and times as integers of 64
        // bits. Here a member without a meaning is skipped, and every token ends within a day.
        let (message, signature) = token.rsplit_once('.').expect("a token");
        let (header, payload) = message.split_once('.').expect("a token");
        if jsonwebtoken::decode_header(&token).is_err() {
            return skipped_members(header, message, signature, unverified.key_id());
        }
        return assert!(has_far_time(payload), "the library refuses it");
    };
    let header = jsonwebtoken::decode_header(&token).expect("a header");
    assert_eq!(header.kid.as_deref(), Some(unverified.key_id()));
    assert_eq!(*theirs.sub, *claims.sub);
    let expires: f64 = theirs.exp.get().parse().expect("a number");
    assert!(expires > NOW_SEC as f64 - 1.0, "not expired");
    assert!(claims.expires_at_unix_ms > now_ms);
    assert!(
        claims.expires_at_unix_ms <= now_ms + 86_400_000 + 5_000,
        "within a day"
    );
    let other = Secret::new(b"another secret of 32 bytes......");
    let refused = unverified.verify([&other], &everything, Actions::ALL, now_ms);
    assert!(refused.is_err(), "another secret");
    let narrow: CompiledPatterns = Pattern::parse("narrow").into_iter().collect();
    if let Some(channels) = &claims.channels
        && channels.iter().any(|it| it.matches("elsewhere"))
    {
        let refused = unverified.verify([&secret], &narrow, Actions::ALL, now_ms);
        assert!(refused.is_err(), "more than the key may grant");
    }
}

/// Judges a token whose header the library does not read: its meaning and its signature hold.
fn skipped_members(header: &str, message: &str, signature: &str, key_id: &str) {
    let json = URL_SAFE_NO_PAD.decode(header).expect("base64");
    let header: BTreeMap<String, &RawValue> = serde_json::from_slice(&json).expect("an object");
    let member = |name: &str| serde_json::from_str::<String>(header.get(name)?.get()).ok();
    assert_eq!(member("alg").as_deref(), Some("HS256"));
    assert_eq!(member("kid").as_deref(), Some(key_id));
    assert!(!header.contains_key("crit"), "an extension");
    let key = DecodingKey::from_secret(SECRET);
    let is_signed =
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256);
    assert!(is_signed.expect("HS256 is known"), "not signed");
}

/// Whether one of the times is beyond what 64 bits hold.
fn has_far_time(payload: &str) -> bool {
    let json = URL_SAFE_NO_PAD.decode(payload).expect("base64");
    let claims: BTreeMap<String, &RawValue> = serde_json::from_slice(&json).expect("JSON");
    let times = ["exp", "nbf", "iat"].map(|name| claims.get(name)?.get().parse::<f64>().ok());
    times
        .into_iter()
        .flatten()
        .any(|it| it.abs() >= u64::MAX as f64)
}

fn signed(header: &str, payload: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(header), part(payload));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.unwrap())
}

/// The claims that are compared. A number in another one may be beyond what serde_json reads.
#[derive(Deserialize)]
struct Theirs {
    sub: String,
    exp: Box<RawValue>,
}

/// The claims by the library, which compares no time here: its clock is the system's.
fn theirs(token: &str) -> Option<Theirs> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_secret(SECRET);
    let decoded = jsonwebtoken::decode(token, &key, &validation);
    decoded.ok().map(|data| data.claims)
}
