//! Signs connect tokens: the other end of [`UnverifiedToken`](super::UnverifiedToken).

use jsonwebtoken::{Algorithm, Header};
use serde::Serialize;
use serde_json::value::RawValue;

use super::claim_set::{is_object_up_to, is_peer_id};
use super::{Claim, Secret, TokenError};
use crate::limits::{PEER_METADATA_BYTES_MAX, TOKEN_METADATA_BYTES_MAX, TOKEN_PATTERNS_MAX};
use crate::proto::actions::Actions;
use crate::proto::pattern::Pattern;

/// The `iss` of tokens made here.
pub const ISSUER: &str = "ringmesh";

/// What a token shall say. What is `None` is left out of it.
#[derive(Clone, Copy, Debug)]
pub struct MintRequest<'a> {
    /// The id of the key that signs it.
    pub key_id: &'a str,
    /// The peer id that the bearer will have.
    pub sub: &'a str,
    /// When the token is made, in Unix seconds.
    pub issued_at_unix: u64,
    /// When it ends, in Unix seconds.
    pub expires_at_unix: u64,
    /// The channels it opens.
    pub channels: Option<&'a [Pattern]>,
    /// The actions that it allows.
    pub permissions: Option<Actions>,
    /// A JSON object for the peer itself, passed on as written.
    pub metadata: Option<&'a RawValue>,
    /// A JSON object for other peers, passed on as written.
    pub peer_metadata: Option<&'a RawValue>,
}

/// The payload, in the order in which it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_metadata: Option<&'a RawValue>,
}

/// Signs a token. What the key may grant and for how long is the caller's to check.
///
/// # Errors
/// [`TokenError::Invalid`] for a claim that would make the token bad.
pub fn mint(request: &MintRequest<'_>, secret: &Secret) -> Result<String, TokenError> {
    check(request)?;
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(request.key_id.to_owned());
    let payload = Payload {
        sub: request.sub,
        iat: request.issued_at_unix,
        exp: request.expires_at_unix,
        iss: ISSUER,
        channels: request
            .channels
            .map(|list| list.iter().map(Pattern::as_str).collect()),
        permissions: request.permissions.map(|actions| actions.names().collect()),
        metadata: request.metadata,
        peer_metadata: request.peer_metadata,
    };
    #[expect(
        clippy::expect_used,
        reason = "fails only for a key of another algorithm or values that JSON cannot hold"
    )]
    let token = jsonwebtoken::encode(&header, &payload, &secret.signing)
        .expect("an HMAC key signs HS256, and strings and numbers are JSON");
    Ok(token)
}

fn check(request: &MintRequest<'_>) -> Result<(), TokenError> {
    let fits = |bytes_max, value: Option<&RawValue>| {
        value.is_none_or(|value| is_object_up_to(bytes_max, value))
    };
    let rules = [
        (Claim::Sub, is_peer_id(request.sub)),
        (
            Claim::Channels,
            request
                .channels
                .is_none_or(|list| list.len() <= TOKEN_PATTERNS_MAX),
        ),
        (
            Claim::Metadata,
            fits(TOKEN_METADATA_BYTES_MAX, request.metadata),
        ),
        (
            Claim::PeerMetadata,
            fits(PEER_METADATA_BYTES_MAX, request.peer_metadata),
        ),
    ];
    match rules.into_iter().find(|(_, kept)| !kept) {
        Some((claim, _)) => Err(TokenError::Invalid(claim)),
        None => Ok(()),
    }
}
