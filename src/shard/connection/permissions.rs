//! Whether a message or request is allowed: the rights of a key, what a token grants of them, and
//! the quota of the app, asked in this order for WebSockets and REST alike.

use crate::domain::rights::Key;
use crate::domain::time::Now;
use crate::limits::TOKEN_EXPIRY_LEAD_MS;
use crate::proto::actions::{Action, Actions};
use crate::proto::claims::Claims;
use crate::proto::http::error::ApiError;
use crate::proto::pattern::Pattern;
use crate::proto::wire::error::ErrorCode;
use crate::shard::connection::refusal::Refusal;
use crate::shard::questions::Caller;

/// What a key allows, and of that what a token grants.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Permissions<'a> {
    /// The key, with its present rights.
    pub key: &'a Key,
    /// `None` leaves everything to the key.
    pub grant: Option<&'a Grant>,
}

/// Why something is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Denied {
    /// Not this action.
    Action,
    /// Not in this channel.
    Channel,
    /// Not within the app's quota.
    Quota,
}

impl Permissions<'_> {
    /// Whether that action is allowed.
    pub(in crate::shard) fn may(self, action: Action) -> bool {
        let granted = self.grant.and_then(|grant| grant.actions);
        self.key.actions.contains(action) && granted.is_none_or(|own| own.contains(action))
    }

    /// Whether that channel is allowed.
    fn may_use(self, channel: &str) -> bool {
        let own = self.grant.and_then(|grant| grant.patterns.as_deref());
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(channel));
        self.key.patterns.any_matches(channel) && own.is_none_or(any)
    }

    /// Whether that action is allowed, in that channel if it is about one.
    pub(in crate::shard) fn check(
        self,
        action: Action,
        channel: Option<&str>,
    ) -> Result<(), Denied> {
        if !self.may(action) {
            return Err(Denied::Action);
        }
        if channel.is_some_and(|channel| !self.may_use(channel)) {
            return Err(Denied::Channel);
        }
        Ok(())
    }
}

impl From<Denied> for ErrorCode {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Action => Self::ActionNotPermitted,
            Denied::Channel => Self::ChannelNotAuthorized,
            Denied::Quota => Self::OverMessageQuota,
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Action => Self::new(
                ApiError::ActionNotPermitted,
                "the key does not permit this action",
            ),
            Denied::Channel => Self::new(
                ApiError::ChannelNotAuthorized,
                "no channel pattern of the key matches the channel",
            ),
            Denied::Quota => Self::new(
                ApiError::OverMessageQuota,
                ErrorCode::OverMessageQuota.message(),
            ),
        }
    }
}

/// What a token grants, on top of which the key's rights hold.
#[derive(Debug)]
pub(in crate::shard) struct Grant {
    /// Its own patterns, if it names any.
    pub patterns: Option<Box<[Pattern]>>,
    /// Its own actions, if it names any.
    pub actions: Option<Actions>,
    /// Its effective expiry, Unix seconds.
    pub expires_sec: u64,
    /// When the connection is closed for it, on the monotonic clock.
    pub closes_ms: u64,
    /// `metadata` for its own `welcome`, until that is sent.
    pub metadata: Option<Box<str>>,
}

impl Grant {
    /// What these claims grant from now on.
    pub(in crate::shard) fn new(claims: Claims, now: Now) -> Self {
        let closes_unix_ms = claims
            .expires_at_unix_ms
            .saturating_sub(TOKEN_EXPIRY_LEAD_MS);
        Self {
            expires_sec: claims.expires_at_unix_sec(),
            patterns: claims.channels,
            actions: claims.permissions,
            closes_ms: now.mono_at_unix_ms(closes_unix_ms),
            metadata: claims.metadata,
        }
    }
}

impl Caller {
    pub(in crate::shard) fn permissions(&self) -> Permissions<'_> {
        Permissions {
            key: &self.key,
            grant: None,
        }
    }
}
