//! Credentials of the REST API, where a part of the admin API takes them.

use std::sync::Arc;

use super::secret::sha256;
use crate::domain::rights::{Key, KeyKind, Rights, SigningMaterial};

/// The secret key that a credential proves: its API secret, or its id and its signing secret with a
/// colon between. A key id alone is none.
#[must_use]
pub(super) fn secret_key<'r>(
    rights: &'r Rights,
    credential: &str,
    now_unix_ms: u64,
) -> Option<&'r Arc<Key>> {
    let by_api_secret = rights.key_by_api_secret(&sha256(credential.as_bytes()), now_unix_ms);
    let (id, secret) = credential.split_once(':').unwrap_or((credential, ""));
    let named = rights.key(id).filter(|key| match &key.kind {
        KeyKind::Secret(material) => signs(material, secret, now_unix_ms),
        KeyKind::Publishable { .. } => false,
    });
    by_api_secret.or(named)
}

/// Whether that is one of the secrets that tokens are signed with. All are compared.
fn signs(material: &SigningMaterial, secret: &str, now_unix_ms: u64) -> bool {
    let SigningMaterial::Ready { current, .. } = material else {
        return false;
    };
    let is_current = current.matches(secret.as_bytes());
    let previous = material.previous_at(now_unix_ms);
    let is_previous = previous.is_some_and(|it| it.matches(secret.as_bytes()));
    !secret.is_empty() && (is_current | is_previous)
}
