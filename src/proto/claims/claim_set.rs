//! The payload of a token to typed claims: each one's type and cap, and nothing about the time.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Claim, Claims, TokenError, effective_expiry_ms, object, present, string};
use crate::limits::{
    PEER_ID_BYTES_MAX, PEER_METADATA_BYTES_MAX, TOKEN_METADATA_BYTES_MAX, TOKEN_PATTERNS_MAX,
    TOKEN_PERMISSIONS_MAX,
};
use crate::proto::actions::Actions;
use crate::proto::pattern::Pattern;

/// Claims that are well formed, each by itself.
pub(super) struct ClaimSet {
    sub: Box<str>,
    exp_ms: u64,
    pub(super) nbf_ms: Option<u64>,
    pub(super) iat_ms: Option<u64>,
    channels: Option<Box<[Pattern]>>,
    permissions: Option<Actions>,
    metadata: Option<Box<str>>,
    peer_metadata: Option<Box<str>>,
}

/// The claims that count, as written. `iss` and unknown ones are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    sub: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    exp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    nbf: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    iat: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    channels: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    permissions: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    peer_metadata: Option<&'a RawValue>,
}

impl ClaimSet {
    pub(super) fn parse(payload: &str) -> Result<Self, TokenError> {
        let written: Written<'_> = object(payload)?;
        let metadata = |value| object_up_to(TOKEN_METADATA_BYTES_MAX, value);
        let peer_metadata = |value| object_up_to(PEER_METADATA_BYTES_MAX, value);
        Ok(Self {
            sub: required(Claim::Sub, written.sub, peer_id)?,
            exp_ms: required(Claim::Exp, written.exp, numeric_date_ms)?,
            nbf_ms: optional(Claim::Nbf, written.nbf, numeric_date_ms)?,
            iat_ms: optional(Claim::Iat, written.iat, numeric_date_ms)?,
            channels: optional(Claim::Channels, written.channels, patterns)?,
            permissions: optional(Claim::Permissions, written.permissions, actions)?,
            metadata: optional(Claim::Metadata, written.metadata, metadata)?,
            peer_metadata: optional(Claim::PeerMetadata, written.peer_metadata, peer_metadata)?,
        })
    }

    pub(super) fn into_claims(self, now_unix_ms: u64) -> Claims {
        Claims {
            sub: self.sub,
            expires_at_unix_ms: effective_expiry_ms(self.exp_ms, self.iat_ms, now_unix_ms),
            channels: self.channels,
            permissions: self.permissions,
            metadata: self.metadata,
            peer_metadata: self.peer_metadata,
        }
    }
}

fn required<'a, T>(
    claim: Claim,
    value: Option<&'a RawValue>,
    parse: impl FnOnce(&'a RawValue) -> Option<T>,
) -> Result<T, TokenError> {
    optional(claim, value, parse)?.ok_or(TokenError::Missing(claim))
}

fn optional<'a, T>(
    claim: Claim,
    value: Option<&'a RawValue>,
    parse: impl FnOnce(&'a RawValue) -> Option<T>,
) -> Result<Option<T>, TokenError> {
    value
        .map(|value| parse(value).ok_or(TokenError::Invalid(claim)))
        .transpose()
}

/// Whether a string may be a peer id.
pub(super) fn is_peer_id(text: &str) -> bool {
    (1..=PEER_ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn peer_id(value: &RawValue) -> Option<Box<str>> {
    string(value)
        .filter(|text| is_peer_id(text))
        .map(String::into_boxed_str)
}

/// A NumericDate (RFC 7519, section 2) in milliseconds. Integers are exact, fractions go to the
/// nearest millisecond, times before 1970 become 1970 (all of them are over), and those beyond
/// the range become its end (the cap on a token's life, or the leeway, decides about them).
fn numeric_date_ms(value: &RawValue) -> Option<u64> {
    let text = value.get();
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    match text.parse::<u64>() {
        Ok(seconds) => Some(seconds.saturating_mul(1_000)),
        // A float to an integer saturates, and a JSON number is never NaN.
        Err(_) => text
            .parse::<f64>()
            .ok()
            .map(|seconds| (seconds * 1_000.0).round() as u64),
    }
}

fn patterns(value: &RawValue) -> Option<Box<[Pattern]>> {
    let sources: Vec<String> = serde_json::from_str(value.get()).ok()?;
    if sources.len() > TOKEN_PATTERNS_MAX {
        return None;
    }
    sources
        .iter()
        .map(|source| Pattern::parse(source).ok())
        .collect()
}

fn actions(value: &RawValue) -> Option<Actions> {
    let names: Vec<String> = serde_json::from_str(value.get()).ok()?;
    if names.len() > TOKEN_PERMISSIONS_MAX {
        return None;
    }
    Actions::parse(names).ok()
}

/// Whether a JSON value is an object that takes at most so many bytes as it is written.
pub(super) fn is_object_up_to(bytes_max: usize, value: &RawValue) -> bool {
    value.get().starts_with('{') && value.get().len() <= bytes_max
}

fn object_up_to(bytes_max: usize, value: &RawValue) -> Option<Box<str>> {
    is_object_up_to(bytes_max, value).then(|| value.get().into())
}
