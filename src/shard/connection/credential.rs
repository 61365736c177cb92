//! Credentials: what a client or a backend shows, judged by the rights that hold.
//!
//! Both doors are here. A connect shows a publishable key or a token, a REST request one of the
//! secrets of a secret key; and a session may show another token. Nothing is counted, answered or
//! closed in this file, and who shows a credential learns only that it is not good: the fault is
//! for the log.
//!
//! Whatever is wrong with the credential of a request, the same work is done: its hash is looked
//! up as an API secret, the key it may name is looked up, and two secrets are compared, strangers
//! standing in for those that a key does not have.

use std::fmt;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};

use crate::domain::rights::{Key, KeyKind, Rights, SecretHash, SigningMaterial};
use crate::domain::time::Now;
use crate::domain::token_check::{self, TokenFault, secrets_at, signing_material};
use crate::proto::claims::{Claims, Secret, TokenError};
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
    /// There is no key of that id (any more), or it is of the other type.
    UnknownKey,
    /// The publishable key does not allow this Origin.
    Origin,
    /// The token is not good.
    Token(TokenError),
    /// The key's secret cannot be read.
    KeyUnreadable,
}

/// How a connect with a credential that is not good is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Answered {
    /// With a close frame after the handshake.
    Close(CloseCode),
    /// With an error, in place of the handshake.
    Http((ApiError, &'static str)),
}

impl Answered {
    /// The close code or HTTP status.
    pub(in crate::shard) const fn code(self) -> u16 {
        match self {
            Self::Close(code) => code.get(),
            Self::Http((error, _)) => error.status().code(),
        }
    }
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
    /// How a connect is answered, with a close frame where that is wished for and possible.
    pub(in crate::shard) fn answered(&self, with_close: bool) -> Answered {
        match self.close_code() {
            Some(close) if with_close => Answered::Close(close),
            _ => Answered::Http(self.answer()),
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
    fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::KeyUnreadable => None,
            Self::Token(TokenError::Expired) => Some(CloseCode::EXPIRED_TOKEN),
            _ => Some(CloseCode::INVALID_TOKEN),
        }
    }
}

impl From<TokenFault> for CredentialFault {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::UnknownKey => Self::UnknownKey,
            TokenFault::KeyUnreadable => Self::KeyUnreadable,
            TokenFault::Rule(error) => Self::Token(error),
        }
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

/// What a token proves.
///
/// # Errors
/// The token's fault, or the server's where the signing secret cannot be read.
pub(in crate::shard) fn of_token(
    rights: &Rights,
    token: &str,
    now: Now,
) -> Result<Credential, CredentialFault> {
    let (key, claims) = token_check::verify(token, |id| rights.key(id), now.unix_ms)?;
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
    let secrets = named.map_or([None; 2], |(_, material)| secrets_at(material, now.unix_ms));
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
    Some((key, signing_material(key)?))
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
