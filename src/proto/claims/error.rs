//! Why a token was refused. Clients are told one thing for all of it; the log says which.

use std::fmt;

use crate::limits::{
    PATTERN_BYTES_MAX, PEER_ID_BYTES_MAX, PEER_METADATA_BYTES_MAX, TOKEN_LEEWAY_SEC,
    TOKEN_METADATA_BYTES_MAX, TOKEN_PATTERNS_MAX, TOKEN_PERMISSIONS_MAX,
};

use super::TOKEN_BYTES_MAX;

/// Why a token was refused: always a fault of the token, never of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// More than [`TOKEN_BYTES_MAX`] bytes.
    TooLong,
    /// Not three base64url parts of which the first two are JSON objects with unique members.
    Malformed,
    /// Its `alg` is not HS256.
    Algorithm,
    /// Its header has `crit`, and no extension is known here (RFC 7515, section 4.1.11).
    CriticalExtension,
    /// It names no key.
    KeyId,
    /// None of the key's secrets signed it.
    Signature,
    /// It lacks a claim it must have.
    Missing(Claim),
    /// A claim has a wrong type or is over its cap.
    Invalid(Claim),
    /// Its `iat` is in the future.
    IssuedInFuture,
    /// Its `nbf` is in the future.
    NotYetValid,
    /// It claims channels that its key does not have.
    ChannelsNotGranted,
    /// It claims actions that its key does not have.
    PermissionsNotGranted,
    /// It was good, and its time is over.
    Expired,
}

/// A claim with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `sub`: the peer id.
    Sub,
    /// `exp`: when the token ends.
    Exp,
    /// `nbf`: when the token begins to be good.
    Nbf,
    /// `iat`: when the token was made.
    Iat,
    /// `channels`: the patterns of the channels that it opens.
    Channels,
    /// `permissions`: the actions that it allows.
    Permissions,
    /// `metadata`: an object for the peer itself.
    Metadata,
    /// `peerMetadata`: an object for the other peers.
    PeerMetadata,
}

impl Claim {
    /// Returns the claim's name in a token.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sub => "sub",
            Self::Exp => "exp",
            Self::Nbf => "nbf",
            Self::Iat => "iat",
            Self::Channels => "channels",
            Self::Permissions => "permissions",
            Self::Metadata => "metadata",
            Self::PeerMetadata => "peerMetadata",
        }
    }

    /// Completes "`name` must be".
    fn write_rule(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sub => {
                write!(
                    f,
                    "a string of 1 to {PEER_ID_BYTES_MAX} printable ASCII characters"
                )
            }
            Self::Exp | Self::Nbf | Self::Iat => f.write_str("a number: a time in Unix seconds"),
            Self::Channels => write!(
                f,
                "an array of at most {TOKEN_PATTERNS_MAX} channel patterns \
                 of at most {PATTERN_BYTES_MAX} bytes"
            ),
            Self::Permissions => write!(
                f,
                "an array of at most {TOKEN_PERMISSIONS_MAX} \
                 of publish, subscribe, presence, send"
            ),
            Self::Metadata => {
                write!(
                    f,
                    "a JSON object of at most {TOKEN_METADATA_BYTES_MAX} bytes"
                )
            }
            Self::PeerMetadata => {
                write!(
                    f,
                    "a JSON object of at most {PEER_METADATA_BYTES_MAX} bytes"
                )
            }
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the token is longer than {TOKEN_BYTES_MAX} bytes"),
            Self::Malformed => f.write_str(
                "the token is no JWT: three base64url parts without padding, the first two of \
                 them JSON objects in which nothing occurs twice",
            ),
            Self::Algorithm => f.write_str("the token's alg must be HS256"),
            Self::CriticalExtension => {
                f.write_str("the token's header has crit, and no extension is supported")
            }
            Self::KeyId => f.write_str("the token's header must have a kid, a string"),
            Self::Signature => {
                f.write_str("the token is not signed with a current secret of its key")
            }
            Self::Missing(claim) => write!(f, "the token must have the claim {}", claim.name()),
            Self::Invalid(claim) => {
                write!(f, "the token's claim {} must be ", claim.name())?;
                claim.write_rule(f)
            }
            Self::IssuedInFuture => write!(
                f,
                "the token's iat is more than {TOKEN_LEEWAY_SEC} s in the future: \
                 compare the clocks"
            ),
            Self::NotYetValid => {
                write!(
                    f,
                    "the token's nbf is more than {TOKEN_LEEWAY_SEC} s in the future"
                )
            }
            Self::ChannelsNotGranted => {
                f.write_str("the token claims channels that its key does not have")
            }
            Self::PermissionsNotGranted => {
                f.write_str("the token claims permissions that its key does not have")
            }
            Self::Expired => f.write_str("the token has expired"),
        }
    }
}

impl std::error::Error for TokenError {}
