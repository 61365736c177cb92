//! What somebody has shown who is turned away: looked at only then, and nothing of it is kept but
//! what it is, which live key it names, and which peer it claims to be.

use std::borrow::Cow;
use std::sync::Arc;

use crate::domain::rights::{Key, Rights};
use crate::events::kind::{Cause, CredentialKind};
use crate::proto::claims::UnverifiedToken;
use crate::proto::http::head::{Authorization, RequestHead};
use crate::proto::http::target::Target;
use crate::shard::connection::credential::CredentialFault;
use crate::shard::recording::{Refused, cause_of_token};

/// How secrets begin, which no client should have.
const SECRETS: [&str; 2] = ["sk_live_", "sk_secret_"];

/// See the top of this file.
#[derive(Debug, Default)]
pub(in crate::shard) struct Shown {
    text: String,
    key: Option<Arc<Key>>,
    peer: Option<String>,
    is_key_of_url: bool,
}

impl Shown {
    /// What the request of a connect has shown.
    pub(in crate::shard) fn of_connect(
        rights: &Rights,
        head: &RequestHead<'_>,
        target: &Target<'_>,
    ) -> Self {
        let value = |name| target.query_value(name).ok().flatten();
        let authorization = match head.authorization() {
            Authorization::Bearer(text) => Some(Cow::Borrowed(text)),
            Authorization::Absent | Authorization::Unusable => None,
        };
        match (value("key"), value("token"), authorization) {
            (Some(key), None, None) => Self {
                key: rights.key(&key).cloned(),
                text: key.into_owned(),
                is_key_of_url: true,
                ..Self::default()
            },
            (None, Some(token), None) | (None, None, Some(token)) => Self::of_token(rights, &token),
            _ => Self::default(),
        }
    }

    /// What is known of a token.
    pub(in crate::shard) fn of_token(rights: &Rights, token: &str) -> Self {
        let unverified = UnverifiedToken::parse(token).ok();
        let unverified = unverified.as_ref();
        Self {
            key: unverified.and_then(|it| rights.key(it.key_id()).cloned()),
            peer: unverified.and_then(UnverifiedToken::claimed_peer),
            text: token.to_owned(),
            is_key_of_url: false,
        }
    }

    /// What a REST request has shown.
    pub(in crate::shard) fn of_request(rights: &Rights, head: &RequestHead<'_>) -> Self {
        match head.authorization() {
            Authorization::Bearer(text) => {
                let key_id = text.split_once(':').map_or(text, |(key_id, _)| key_id);
                Self {
                    key: rights.key(key_id).cloned(),
                    text: text.to_owned(),
                    ..Self::default()
                }
            }
            Authorization::Absent | Authorization::Unusable => Self::default(),
        }
    }

    fn is_secret(&self) -> bool {
        SECRETS.iter().any(|secret| self.text.starts_with(secret))
    }

    fn kind(&self) -> CredentialKind {
        match self.text.as_str() {
            "" => CredentialKind::None,
            _ if self.is_secret() => CredentialKind::Secret,
            text if self.is_key_of_url || text.starts_with("pk_live_") => {
                CredentialKind::Publishable
            }
            text if text.starts_with("sk_id_") => CredentialKind::Secret,
            _ => CredentialKind::Token,
        }
    }

    /// Why a connect with this is refused, for the events.
    pub(in crate::shard) fn refused(&self, fault: &CredentialFault, code: u16) -> Refused<'_> {
        let (cause, claim) = match fault {
            CredentialFault::NotOneCredential => (Cause::NotOneCredential, 0),
            _ if self.is_secret() => (Cause::WrongKind, 0),
            CredentialFault::UnknownKey => (Cause::UnknownKey, 0),
            CredentialFault::Origin => (Cause::Origin, 0),
            CredentialFault::Token(error) => cause_of_token(*error),
            CredentialFault::KeyUnreadable => (Cause::KeyUnreadable, 0),
        };
        self.refused_for(cause, claim, code)
    }

    /// Why a request with this is refused.
    pub(in crate::shard) fn refused_request(&self, code: u16) -> Refused<'_> {
        let cause = match self.kind() {
            CredentialKind::None => Cause::NotOneCredential,
            CredentialKind::Publishable | CredentialKind::Token => Cause::WrongKind,
            CredentialKind::Secret => Cause::UnknownKey,
        };
        self.refused_for(cause, 0, code)
    }

    fn refused_for(&self, cause: Cause, claim: u8, code: u16) -> Refused<'_> {
        Refused {
            claim,
            shown: self.kind(),
            key: self.key.as_deref(),
            peer: self.peer.as_deref().unwrap_or_default(),
            ..Refused::stranger(cause, code)
        }
    }
}
