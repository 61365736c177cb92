//! Credentials: what a client or a backend shows, judged by the rights that hold.
//!
//! Both doors are here. A connect shows a publishable key or a token, a REST request one of the
//! secrets of a secret key. Nothing is counted, answered or closed in this file, and who shows a
//! credential learns only that it is not good: the fault is for the log.
//!
//! Whatever is wrong with the credential of a request, the same work is done: its hash is looked
//! up as an API secret, the key it may name is looked up, and two secrets are compared, strangers
//! standing in for those that a key does not have.

use std::fmt;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};

use crate::domain::rights::{Key, KeyKind, Rights, SecretHash, SigningMaterial};
use crate::domain::time::Now;
use crate::metrics::label;
use crate::proto::claims::{Claims, Secret, TokenError, UnverifiedToken};
use crate::proto::http::error::{ApiError, RequestError};
use crate::proto::http::head::{Authorization, RequestHead};
use crate::proto::http::target::Target;
use crate::proto::origin;
use crate::proto::ws::close::CloseCode;

/// Compared with where there is nothing to compare with. As long as generated secrets, because
/// a comparison tells whether lengths are equal.
static STRANGER: LazyLock<Secret> =
    LazyLock::new(|| Secret::new(b"sk_secret_0000000000000000000000000000000000000000"));

/// A credential of a connect that was found good.
pub(in crate::shard) struct Credential {
    /// The key that was shown, or that signed the token.
    pub key: Arc<Key>,
    /// What the token says; `None` for a publishable key.
    pub claims: Option<Claims>,
}

/// Why a credential was not found good.
#[derive(Debug)]
pub(in crate::shard) enum CredentialFault {
    /// None, or more than one, or not readable.
    NotOneCredential,
    /// No such key, or it was revoked, or it is of the other type.
    UnknownKey,
    /// The publishable key does not allow this Origin.
    Origin,
    /// The token is not good.
    Token(TokenError),
    /// The key's secret cannot be read.
    KeyUnreadable,
}

impl fmt::Display for CredentialFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOneCredential => f.write_str("not exactly one readable credential"),
            Self::UnknownKey => f.write_str("unknown or revoked key, or one of the wrong type"),
            Self::Origin => f.write_str("the key does not allow the Origin"),
            Self::Token(error) => error.fmt(f),
            Self::KeyUnreadable => f.write_str("the key's signing secret cannot be decrypted"),
        }
    }
}

impl CredentialFault {
    /// What metrics call it.
    pub(in crate::shard) fn label(&self) -> label::HandshakeRefused {
        match self {
            Self::NotOneCredential => label::HandshakeRefused::NotOneCredential,
            Self::UnknownKey => label::HandshakeRefused::UnknownKey,
            Self::Origin => label::HandshakeRefused::Origin,
            Self::Token(TokenError::Expired) => label::HandshakeRefused::TokenExpired,
            Self::Token(_) => label::HandshakeRefused::TokenInvalid,
            Self::KeyUnreadable => label::HandshakeRefused::KeyUnreadable,
        }
    }

    /// The answer over HTTP: one for every fault that is the credential's.
    pub(in crate::shard) const fn answer(&self) -> (ApiError, &'static str) {
        match self {
            Self::KeyUnreadable => (
                ApiError::InternalError,
                "the key cannot be checked at the moment",
            ),
            _ => (ApiError::Unauthorized, "missing or invalid credential"),
        }
    }

    /// The close code for a fault that is the credential's.
    pub(in crate::shard) fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::KeyUnreadable => None,
            Self::Token(TokenError::Expired) => Some(CloseCode::EXPIRED_TOKEN),
            _ => Some(CloseCode::INVALID_TOKEN),
        }
    }
}

impl From<TokenError> for CredentialFault {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<RequestError> for CredentialFault {
    fn from(_: RequestError) -> Self {
        Self::NotOneCredential
    }
}

/// What the credential of a connect proves.
///
/// # Errors
/// The credential's fault, or the server's where the signing secret cannot be read.
pub(in crate::shard) fn of_connect(
    rights: &Rights,
    head: &RequestHead<'_>,
    target: &Target<'_>,
    now: Now,
) -> Result<Credential, CredentialFault> {
    let publishable = target.query_value("key")?;
    let token = target.query_value("token")?;
    match (publishable, token, head.authorization()) {
        (Some(key), None, Authorization::Absent) => {
            let origin = head.header("origin")?;
            of_publishable_key(rights, &key, origin)
        }
        (None, Some(token), Authorization::Absent) => of_token(rights, &token, now),
        (None, None, Authorization::Bearer(token)) => of_token(rights, token, now),
        _ => Err(CredentialFault::NotOneCredential),
    }
}

fn of_publishable_key(
    rights: &Rights,
    id: &str,
    origin: Option<&[u8]>,
) -> Result<Credential, CredentialFault> {
    let key = rights.key(id).ok_or(CredentialFault::UnknownKey)?;
    let KeyKind::Publishable { allowed_origins } = &key.kind else {
        return Err(CredentialFault::UnknownKey);
    };
    // An Origin that is no text equals no entry.
    let origin = origin.map(|bytes| str::from_utf8(bytes).unwrap_or_default());
    if !origin::allows(allowed_origins, origin) {
        return Err(CredentialFault::Origin);
    }
    Ok(Credential {
        key: key.clone(),
        claims: None,
    })
}

fn of_token(rights: &Rights, token: &str, now: Now) -> Result<Credential, CredentialFault> {
    let unverified = UnverifiedToken::parse(token)?;
    let (key, material) =
        secret_key(rights, unverified.key_id()).ok_or(CredentialFault::UnknownKey)?;
    let secrets = secrets_at(material, now);
    if secrets[0].is_none() {
        return Err(CredentialFault::KeyUnreadable);
    }
    let secrets = secrets.into_iter().flatten();
    let claims = unverified.verify(secrets, &key.patterns, key.actions, now.unix_ms)?;
    Ok(Credential {
        key: key.clone(),
        claims: Some(claims),
    })
}

/// The secret key that the credential of a request proves.
///
/// # Errors
/// The credential's fault, or the server's where the secret to compare with cannot be read.
pub(in crate::shard) fn of_request(
    rights: &Rights,
    authorization: Authorization<'_>,
    accept_bare_key_id: bool,
    now: Now,
) -> Result<Arc<Key>, CredentialFault> {
    let credential = match authorization {
        Authorization::Bearer(credential) => credential,
        Authorization::Absent | Authorization::Unusable => "",
    };
    let by_api_secret = rights.key_by_api_secret(&hash(credential), now.unix_ms);
    let (key_id, secret) = match credential.split_once(':') {
        Some((key_id, secret)) => (key_id, Some(secret)),
        None => (credential, None),
    };
    let named = secret_key(rights, key_id);
    let secrets = named.map_or([None; 2], |(_, material)| secrets_at(material, now));
    let by_signing_secret = any_matches(secrets, secret.unwrap_or_default());
    let by_bare_id = accept_bare_key_id && secret.is_none();
    let is_secret = |key: &&Arc<Key>| matches!(key.kind, KeyKind::Secret(_));
    if let Some(key) = by_api_secret.filter(is_secret) {
        return Ok(key.clone());
    }
    match named {
        Some((key, _)) if by_signing_secret || by_bare_id => Ok(key.clone()),
        Some((_, SigningMaterial::Unreadable)) if secret.is_some() => {
            Err(CredentialFault::KeyUnreadable)
        }
        _ => Err(CredentialFault::UnknownKey),
    }
}

/// A secret key, and what it signs with.
fn secret_key<'r>(rights: &'r Rights, id: &str) -> Option<(&'r Arc<Key>, &'r SigningMaterial)> {
    let key = rights.key(id)?;
    match &key.kind {
        KeyKind::Secret(material) => Some((key, material)),
        KeyKind::Publishable { .. } => None,
    }
}

/// The signing secret, unless it cannot be read, and the one before it within its grace window.
fn secrets_at(material: &SigningMaterial, now: Now) -> [Option<&Secret>; 2] {
    let current = match material {
        SigningMaterial::Ready { current, .. } => Some(&**current),
        SigningMaterial::Unreadable => None,
    };
    [current, material.previous_at(now.unix_ms)]
}

/// Whether one of the secrets is the candidate. All are compared, always: the time must not tell
/// which of them it was.
fn any_matches(secrets: [Option<&Secret>; 2], candidate: &str) -> bool {
    secrets.into_iter().fold(false, |is_known, secret| {
        let is_equal = secret.unwrap_or(&STRANGER).matches(candidate.as_bytes());
        is_known | (is_equal & secret.is_some())
    })
}

#[expect(clippy::expect_used, reason = "SHA-256 has 32 bytes")]
fn hash(credential: &str) -> SecretHash {
    digest(&SHA256, credential.as_bytes())
        .as_ref()
        .try_into()
        .expect("32 bytes")
}
