//! Who asks: a REST credential to its key.
//!
//! Whatever is wrong with a credential, the same work is done and the same answer given: its
//! hash is looked up as an API secret, the key it may name is looked up, and two secrets are
//! compared, strangers standing in for those that a key does not have.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};

use crate::domain::rights::{Key, KeyKind, Rights, SecretHash, SigningMaterial};
use crate::domain::time::Now;
use crate::proto::claims::Secret;
use crate::proto::http::error::ApiError;
use crate::proto::http::head::Authorization;
use crate::shard::rest::refusal::Refusal;

/// Compared with where there is nothing to compare with. As long as generated secrets, because
/// a comparison tells whether lengths are equal.
static STRANGER: LazyLock<Secret> =
    LazyLock::new(|| Secret::new(b"sk_secret_0000000000000000000000000000000000000000"));

/// The key that a credential proves.
///
/// # Errors
/// 401, or 503 where the secret to compare with cannot be read.
pub(in crate::shard) fn prove(
    rights: &Rights,
    authorization: Authorization<'_>,
    accept_bare_key_id: bool,
    now: Now,
) -> Result<Arc<Key>, Refusal> {
    let credential = match authorization {
        Authorization::Bearer(credential) => credential,
        Authorization::Absent | Authorization::Unusable => "",
    };
    let by_api_secret = rights.key_by_api_secret(&hash(credential), now.unix_ms);
    let (key_id, secret) = match credential.split_once(':') {
        Some((key_id, secret)) => (key_id, Some(secret)),
        None => (credential, None),
    };
    let named = rights.key(key_id).filter(|key| is_secret(key));
    let material = named.and_then(|key| match &key.kind {
        KeyKind::Secret(material) => Some(material),
        KeyKind::Publishable { .. } => None,
    });
    let by_signing_secret = signs(material, secret.unwrap_or_default(), now);
    let by_bare_id = accept_bare_key_id && secret.is_none();
    if let Some(key) = by_api_secret.filter(|key| is_secret(key)) {
        return Ok(key.clone());
    }
    match (named, material) {
        (Some(key), _) if by_signing_secret || by_bare_id => Ok(key.clone()),
        (Some(_), Some(SigningMaterial::Unreadable)) if secret.is_some() => Err(Refusal::new(
            ApiError::InternalError,
            "the key cannot be checked at the moment",
        )),
        _ => Err(Refusal::UNAUTHORIZED),
    }
}

fn is_secret(key: &Key) -> bool {
    matches!(key.kind, KeyKind::Secret(_))
}

/// Whether this is the key's signing secret, or its previous one within its grace window.
fn signs(material: Option<&SigningMaterial>, candidate: &str, now: Now) -> bool {
    let current = material.and_then(|material| match material {
        SigningMaterial::Ready { current, .. } => Some(&**current),
        SigningMaterial::Unreadable => None,
    });
    let previous = material.and_then(|material| material.previous_at(now.unix_ms));
    let matches = |secret: Option<&Secret>| {
        let equal = secret.unwrap_or(&STRANGER).matches(candidate.as_bytes());
        equal & secret.is_some()
    };
    // Both, always: the time must not tell which of them it was.
    matches(current) | matches(previous)
}

#[expect(clippy::expect_used, reason = "SHA-256 has 32 bytes")]
fn hash(credential: &str) -> SecretHash {
    digest(&SHA256, credential.as_bytes())
        .as_ref()
        .try_into()
        .expect("32 bytes")
}
