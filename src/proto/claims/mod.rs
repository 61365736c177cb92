//! Connect tokens: a JWT (RFC 7519) to what its bearer may do, and back.
//!
//! Stands between the credential of an upgrade request and a session. The signature is the
//! library's business; which claims count and what they must look like is decided here. It
//! looks up no key and reads no clock: keys, their rights and the time are arguments.
//!
//! Always holds: claims come out only of a token whose signature, types, caps, times and grants
//! are all good, and no error and no `Debug` text contains a token or a secret.

mod claim_set;
mod error;
mod mint;
mod secret;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::limits::{TOKEN_LEEWAY_SEC, TOKEN_LIFETIME_SEC_MAX};
use crate::proto::actions::Actions;
use crate::proto::pattern::{CompiledPatterns, Pattern, all_contained};
use crate::proto::wire::name::validate_peer_id;
use claim_set::ClaimSet;

pub use error::{Claim, TokenError};
pub use mint::{ISSUER, MintRequest, mint};
pub use secret::Secret;

/// Bytes of a token. One with every claim at its cap has about 51,000; the limit of the request
/// head is the one that clients meet first.
pub const TOKEN_BYTES_MAX: usize = 64 * 1_024;

/// What a good token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// `sub`: the peer id.
    pub sub: Box<str>,
    /// The effective expiry in Unix milliseconds: `exp`, or 24 hours after `iat` (after now,
    /// without `iat`) when that comes first.
    pub expires_at_unix_ms: u64,
    /// The channels it opens; `None` leaves that to the key.
    pub channels: Option<Box<[Pattern]>>,
    /// The actions that it allows; `None` leaves that to the key.
    pub permissions: Option<Actions>,
    /// The JSON object for the peer itself, byte for byte as in the token.
    pub metadata: Option<Box<str>>,
    /// The JSON object for other peers, byte for byte as in the token.
    pub peer_metadata: Option<Box<str>>,
}

impl Claims {
    /// The effective expiry in whole Unix seconds, rounded down.
    #[must_use]
    pub fn expires_at_unix_sec(&self) -> u64 {
        self.expires_at_unix_ms / 1_000
    }

    /// Whether the key that signed the token may grant what it claims: each pattern contained
    /// in one of the key's, each action one of the key's.
    ///
    /// # Errors
    /// [`TokenError::ChannelsNotGranted`] or [`TokenError::PermissionsNotGranted`].
    pub fn within(&self, patterns: &CompiledPatterns, actions: Actions) -> Result<(), TokenError> {
        if !self
            .channels
            .as_ref()
            .is_none_or(|channels| all_contained(channels, patterns))
        {
            return Err(TokenError::ChannelsNotGranted);
        }
        if !self
            .permissions
            .is_none_or(|permissions| actions.contains_all(permissions))
        {
            return Err(TokenError::PermissionsNotGranted);
        }
        Ok(())
    }
}

/// A token of which only the form and the header have been looked at: it names a key, which
/// anybody can write into it.
pub struct UnverifiedToken<'t> {
    /// What is signed: header and payload with the dot between them.
    message: &'t str,
    payload: &'t str,
    signature: &'t str,
    key_id: String,
}

/// The members of the JOSE header that count (RFC 7515, section 4.1).
///
/// The library's header type knows every member there is and collects the rest in a map. That
/// takes twelve times as long for a header that a stranger has filled up, so it is not used.
#[derive(Deserialize)]
struct JoseHeader<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    alg: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    kid: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    crit: Option<&'a RawValue>,
}

impl<'t> UnverifiedToken<'t> {
    /// Splits a token and reads its header. Costs time linear in the token and keeps nothing
    /// but the key id: it is done for anybody.
    ///
    /// # Errors
    /// [`TokenError`]: too long, not of a JWT's form, not HS256, no `kid`, or an extension that
    /// the issuer calls critical.
    pub fn parse(token: &'t str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let header = decode(header)?;
        let header: JoseHeader<'_> = object(&header)?;
        if header.alg.and_then(string).as_deref() != Some("HS256") {
            return Err(TokenError::Algorithm);
        }
        if header.crit.is_some() {
            return Err(TokenError::CriticalExtension);
        }
        let key_id = header.kid.and_then(string).ok_or(TokenError::KeyId)?;
        Ok(Self {
            message,
            payload,
            signature,
            key_id,
        })
    }

    /// The id of the key that the token claims to be signed with.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Returns the peer id that the token claims, which anybody can write into it: for telling
    /// whom a refusal may be about, and for nothing else.
    #[must_use]
    pub fn claimed_peer(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Subject {
            sub: String,
        }
        let payload = decode(self.payload).ok()?;
        let Subject { sub } = serde_json::from_str(&payload).ok()?;
        validate_peer_id(&sub).is_ok().then_some(sub)
    }

    /// Verifies the signature with the secrets of the key in turn (the current one first, the
    /// previous one while its grace window lasts), and then all that the token says, `patterns`
    /// and `actions` being the rights of the key.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::Expired`] only when nothing else is wrong with the token.
    pub fn verify<'s>(
        &self,
        secrets: impl IntoIterator<Item = &'s Secret>,
        patterns: &CompiledPatterns,
        actions: Actions,
        now_unix_ms: u64,
    ) -> Result<Claims, TokenError> {
        let good = |secret: &Secret| secret.verifies(self.message, self.signature);
        if !secrets.into_iter().any(good) {
            return Err(TokenError::Signature);
        }
        let payload = decode(self.payload)?;
        let claim_set = ClaimSet::parse(&payload)?;

        let latest_ms = now_unix_ms.saturating_add(TOKEN_LEEWAY_SEC * 1_000);
        if claim_set.iat_ms.is_some_and(|iat_ms| iat_ms > latest_ms) {
            return Err(TokenError::IssuedInFuture);
        }
        if claim_set.nbf_ms.is_some_and(|nbf_ms| nbf_ms > latest_ms) {
            return Err(TokenError::NotYetValid);
        }
        let claims = claim_set.into_claims(now_unix_ms);
        claims.within(patterns, actions)?;
        // "On or after" the expiry (RFC 7519, section 4.1.4).
        if claims.expires_at_unix_ms <= now_unix_ms {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

/// When a token ends, in Unix milliseconds.
fn effective_expiry_ms(exp_ms: u64, iat_ms: Option<u64>, now_unix_ms: u64) -> u64 {
    let begin_ms = iat_ms.unwrap_or(now_unix_ms);
    exp_ms.min(begin_ms.saturating_add(TOKEN_LIFETIME_SEC_MAX * 1_000))
}

/// The text of one part of a token (RFC 7515, section 2: base64url without padding).
fn decode(part: &str) -> Result<String, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)?;
    String::from_utf8(bytes).map_err(|_| TokenError::Malformed)
}

/// A JSON object's known members. A member given twice is refused (RFC 7519, section 4, leaves
/// that or taking the last one); unknown ones decide nothing and are skipped.
fn object<'j, T: Deserialize<'j>>(json: &'j str) -> Result<T, TokenError> {
    // serde would take an array as well, member by member.
    if !json
        .trim_start_matches([' ', '\t', '\r', '\n'])
        .starts_with('{')
    {
        return Err(TokenError::Malformed);
    }
    serde_json::from_str(json).map_err(|_| TokenError::Malformed)
}

/// For an optional member that is not taken as absent when it is `null`.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The string that a JSON value is, if it is one.
fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests;
