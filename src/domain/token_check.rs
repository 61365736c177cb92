//! Whether a connect token is good by the rights that hold. A connect and the inspector of the
//! admin API ask the same.

use std::sync::Arc;

use crate::domain::rights::{Key, KeyKind, SigningMaterial};
use crate::proto::claims::{Claims, Secret, TokenError, UnverifiedToken};

/// Why a token is not good.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// There is no secret key of the id that it names.
    UnknownKey,
    /// The key's signing secret cannot be read.
    KeyUnreadable,
    /// A rule of tokens.
    Rule(TokenError),
}

impl From<TokenError> for TokenFault {
    fn from(error: TokenError) -> Self {
        Self::Rule(error)
    }
}

/// Verifies a token; `key_of` looks keys up.
///
/// # Errors
/// The token's fault, or the server's where the signing secret cannot be read.
pub fn verify<'k>(
    token: &str,
    key_of: impl FnOnce(&str) -> Option<&'k Arc<Key>>,
    now_unix_ms: u64,
) -> Result<(&'k Arc<Key>, Claims), TokenFault> {
    let unverified = UnverifiedToken::parse(token)?;
    let key = key_of(unverified.key_id()).ok_or(TokenFault::UnknownKey)?;
    let material = signing_material(key).ok_or(TokenFault::UnknownKey)?;
    let secrets = secrets_at(material, now_unix_ms);
    if secrets[0].is_none() {
        return Err(TokenFault::KeyUnreadable);
    }
    let secrets = secrets.into_iter().flatten();
    let claims = unverified.verify(secrets, &key.patterns, key.actions, now_unix_ms)?;
    Ok((key, claims))
}

/// What a secret key signs with; `None` for a key of another type.
#[must_use]
pub fn signing_material(key: &Key) -> Option<&SigningMaterial> {
    match &key.kind {
        KeyKind::Secret(material) => Some(material),
        KeyKind::Publishable { .. } => None,
    }
}

/// The signing secret, unless it cannot be read, and the one before it within its grace window.
#[must_use]
pub fn secrets_at(material: &SigningMaterial, now_unix_ms: u64) -> [Option<&Secret>; 2] {
    let current = match material {
        SigningMaterial::Ready { current, .. } => Some(&**current),
        SigningMaterial::Unreadable => None,
    };
    [current, material.previous_at(now_unix_ms)]
}
