//! What the shard records of what happens: the one place where a metric and its event are counted.
//!
//! Times are those of the present input. Texts are for whoever reads the events: nothing is
//! formatted here.

use std::net::IpAddr;

use crate::domain::rights::{App, Key};
use crate::events::author::Author;
use crate::events::kind::{AuthorKind, Cause, CredentialKind, Door, Kind};
use crate::events::record::{Detail, Record, UNKNOWN};
use crate::events::text::said;
use crate::ids::{ConnectionId, ShardId};
use crate::metrics::label::{AcceptPause, HandshakeRefused};
use crate::proto::claims::{Claim, TokenError};
use crate::proto::wire::error::ErrorCode;
use crate::shard::context::Context;

const NS_PER_MS: u64 = 1_000_000;

/// What is known of somebody who is turned away.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Refused<'a> {
    /// Why.
    pub cause: Cause,
    /// HTTP status or close code; 0: neither was sent.
    pub code: u16,
    /// What was shown.
    pub shown: CredentialKind,
    /// Which of [`CLAIMS`](crate::events::kind::CLAIMS) it is about; 0 for none.
    pub claim: u8,
    /// The key that was named, if it is a live one.
    pub key: Option<&'a Key>,
    /// The peer id that was claimed.
    pub peer: &'a str,
}

impl Refused<'_> {
    /// What is wrong, in words: for clients of developers, see `auth.explain`.
    pub(in crate::shard) fn explained(&self) -> Option<&'static str> {
        said(Kind::Refused, self.cause).map(|(what, _)| what)
    }

    /// Somebody of whom nothing is known.
    pub(in crate::shard) const fn stranger(cause: Cause, code: u16) -> Self {
        Self {
            cause,
            code,
            shown: CredentialKind::None,
            claim: 0,
            key: None,
            peer: "",
        }
    }
}

impl Context {
    /// The time of the present input, in nanoseconds on the monotonic clock.
    #[inline]
    pub(in crate::shard) fn event_ns(&self) -> u64 {
        self.stamp_ns.max(self.now.mono_ms * NS_PER_MS)
    }

    /// Records an event by itself.
    #[inline(always)]
    pub(in crate::shard) fn record(&mut self, record: &Record<'_>) {
        self.events.record(record, self.event_ns());
    }

    /// When sums of events are due, on the clock.
    #[inline]
    pub(in crate::shard) fn next_sums_ms(&self) -> Option<u64> {
        Some(self.events.due_ns()?.div_ceil(NS_PER_MS))
    }

    /// Writes down the sums of events that are due.
    pub(in crate::shard) fn end_sums(&mut self) {
        self.events.end_sums(self.event_ns(), false);
    }

    /// Counts and records a connect that was turned away.
    pub(in crate::shard) fn refused(
        &mut self,
        id: ConnectionId,
        address: IpAddr,
        refused: &Refused<'_>,
    ) {
        let label = label_of(refused.cause);
        self.metrics.counters.handshakes_refused.add(label);
        self.record_refused(Door::Connect, id, address, refused);
    }

    /// Records a credential that was not found good.
    pub(in crate::shard) fn record_refused(
        &mut self,
        door: Door,
        id: ConnectionId,
        address: IpAddr,
        refused: &Refused<'_>,
    ) {
        let record = Record {
            detail: Detail::Shown(door, refused.shown, refused.claim),
            code: refused.code,
            connection: Some(id),
            app: refused.key.map(|key| key.app.index),
            key: refused.key.map(|key| key.index),
            address: Some(address),
            first: refused.peer,
            ..Record::new(Kind::Refused, refused.cause)
        };
        self.events.record_of_address(&record, self.event_ns());
    }

    /// Records that an app has passed a part of what it may use.
    pub(in crate::shard) fn record_connections(&mut self, app: &App, connections: u64) {
        let Some(allowed) = app.connections_max else {
            return;
        };
        let Some(cause) = passed_with(connections, allowed) else {
            return;
        };
        let numbers = [connections, allowed];
        let record = Record {
            app: Some(app.index),
            numbers: &numbers,
            first: "connections",
            ..Record::new(Kind::Quota, cause)
        };
        self.events.record_of_app(&record, self.event_ns());
    }

    /// Records that the holder of a key, at that address, has disconnected a peer.
    pub(in crate::shard) fn record_kicked_with_key(
        &mut self,
        (key, address): (&Key, Option<IpAddr>),
        peer: &str,
        closed: u64,
    ) {
        let author = Author {
            address,
            ..Author::local(AuthorKind::Key)
        };
        let record = Record {
            app: Some(key.app.index),
            key: Some(key.index),
            first: peer,
            ..Record::new(Kind::Kicked, Cause::None)
        };
        self.record_kicked(record, &author, closed);
    }

    /// Records that somebody has disconnected a peer, or one connection of it.
    pub(in crate::shard) fn record_kicked(
        &mut self,
        kicked: Record<'_>,
        author: &Author,
        closed: u64,
    ) {
        let numbers = [closed, author.session_number()];
        let record = Record {
            numbers: &numbers,
            ..kicked.by(author)
        };
        if closed == 0 {
            // A backend could fill a ring with kicks of nobody.
            let nobody = Record {
                cause: Cause::PeerNotFound,
                first: "",
                connection: None,
                ..record
            };
            let now_ns = self.event_ns();
            return self.events.record_of_app(&nobody, now_ns);
        }
        self.record(&record);
    }

    /// Records that somebody names other clients who is not believed.
    pub(in crate::shard) fn record_untrusted(&mut self, address: IpAddr, requests: u64) {
        let record = Record {
            address: Some(address),
            count: u32::try_from(requests).unwrap_or(u32::MAX),
            ..Record::new(Kind::Warning, Cause::ForwardedForUntrusted)
        };
        self.record(&record);
    }

    /// Records that a link's backlog, now of so many bytes, has passed its limit, or is under it
    /// again.
    pub(in crate::shard) fn record_link(
        &mut self,
        to: ShardId,
        over_limit: bool,
        backlog_bytes: u64,
    ) {
        let now_ns = self.event_ns();
        let since_ns = self
            .links
            .over_limit_since(to, over_limit.then_some(now_ns));
        let (cause, held_ms) = match over_limit {
            true => (Cause::OverLimit, UNKNOWN),
            false => (
                Cause::UnderLimit,
                since_ns.map_or(UNKNOWN, |since| now_ns.saturating_sub(since) / NS_PER_MS),
            ),
        };
        let from = u64::from(self.id().shard().0);
        let numbers = [from, u64::from(to.0), backlog_bytes, held_ms];
        let record = Record {
            numbers: &numbers,
            ..Record::new(Kind::Link, cause)
        };
        self.events.record(&record, now_ns);
    }

    /// Counts and records that a listener takes nobody for a moment.
    pub(in crate::shard) fn accept_paused(&mut self, pause: AcceptPause) {
        self.metrics.counters.accept_pauses.add(pause);
        let cause = match pause {
            AcceptPause::Descriptors => Cause::Descriptors,
            AcceptPause::Unauthenticated => Cause::Unauthenticated,
            AcceptPause::Memory => Cause::Memory,
            AcceptPause::Error => Cause::AcceptError,
        };
        self.record_accept(cause, UNKNOWN);
    }

    /// Records that a listener takes connections again which took none for so long.
    pub(in crate::shard) fn accept_resumed(&mut self, paused_ms: u64) {
        self.record_accept(Cause::Resumed, paused_ms);
    }

    /// Counts and records that an idle connection without a credential gave way.
    pub(in crate::shard) fn gave_way(&mut self) {
        self.metrics.counters.unauthenticated_closed += 1;
        self.record_accept(Cause::GaveWay, UNKNOWN);
    }

    fn record_accept(&mut self, cause: Cause, paused_ms: u64) {
        let numbers = [paused_ms];
        let record = Record {
            numbers: &numbers,
            ..Record::new(Kind::Accept, cause)
        };
        self.events.record_of_address(&record, self.event_ns());
    }
}

/// Which part of what an app may have it has passed with its last connection.
fn passed_with(connections: u64, allowed: u64) -> Option<Cause> {
    if connections == allowed {
        return Some(Cause::QuotaReached);
    }
    // As fifths, so that nothing is rounded.
    let fifths = |count: u64| u128::from(count) * 5;
    let near = u128::from(allowed) * 4;
    let is_near = fifths(connections) >= near && fifths(connections.saturating_sub(1)) < near;
    is_near.then_some(Cause::QuotaNear)
}

/// The cause that an error code is.
pub(in crate::shard) const fn cause_of_error(code: ErrorCode) -> Cause {
    match code {
        ErrorCode::MalformedMessage => Cause::MalformedMessage,
        ErrorCode::UnknownType => Cause::UnknownType,
        ErrorCode::InvalidChannel => Cause::InvalidChannel,
        ErrorCode::InvalidPeerId => Cause::InvalidPeerId,
        ErrorCode::ChannelReserved => Cause::ChannelReserved,
        ErrorCode::MissingData => Cause::MissingData,
        ErrorCode::ActionNotPermitted => Cause::ActionNotPermitted,
        ErrorCode::InvalidToken => Cause::InvalidToken,
        ErrorCode::PeerMismatch => Cause::PeerMismatch,
        ErrorCode::ChannelNotAuthorized => Cause::ChannelNotAuthorized,
        ErrorCode::ChannelLimitExceeded => Cause::ChannelLimitExceeded,
        ErrorCode::OverMessageQuota => Cause::OverMessageQuota,
        ErrorCode::PeerNotFound => Cause::PeerNotFound,
        ErrorCode::BackendError => Cause::BackendError,
        ErrorCode::InternalError => Cause::InternalError,
    }
}

/// The cause that a token's fault is, and the claim that it is about.
pub(in crate::shard) const fn cause_of_token(error: TokenError) -> (Cause, u8) {
    match error {
        TokenError::TooLong => (Cause::TokenTooLong, 0),
        TokenError::Malformed => (Cause::TokenMalformed, 0),
        TokenError::Algorithm => (Cause::TokenAlg, 0),
        TokenError::CriticalExtension => (Cause::TokenCrit, 0),
        TokenError::KeyId => (Cause::TokenKid, 0),
        TokenError::Signature => (Cause::TokenSignature, 0),
        TokenError::Missing(claim) | TokenError::Invalid(claim) => {
            (Cause::TokenClaim, claim_number(claim))
        }
        TokenError::IssuedInFuture => (Cause::TokenIatFuture, 0),
        TokenError::NotYetValid => (Cause::TokenNbf, 0),
        TokenError::ChannelsNotGranted => (Cause::TokenChannels, 0),
        TokenError::PermissionsNotGranted => (Cause::TokenPermissions, 0),
        TokenError::Expired => (Cause::TokenExpired, 0),
    }
}

/// The claim's place among [`CLAIMS`](crate::events::kind::CLAIMS).
const fn claim_number(claim: Claim) -> u8 {
    match claim {
        Claim::Sub => 1,
        Claim::Exp => 2,
        Claim::Nbf => 3,
        Claim::Iat => 4,
        Claim::Channels => 5,
        Claim::Permissions => 6,
        Claim::Metadata => 7,
        Claim::PeerMetadata => 8,
    }
}

/// The label under which a refused connect of that cause is counted.
pub(in crate::shard) const fn label_of(cause: Cause) -> HandshakeRefused {
    match cause {
        Cause::ConnectRate => HandshakeRefused::ConnectRate,
        Cause::BadUpgrade => HandshakeRefused::BadUpgrade,
        Cause::Draining => HandshakeRefused::Draining,
        Cause::Memory => HandshakeRefused::Memory,
        Cause::NotOneCredential => HandshakeRefused::NotOneCredential,
        Cause::UnknownKey | Cause::WrongKind => HandshakeRefused::UnknownKey,
        Cause::Origin => HandshakeRefused::Origin,
        Cause::TokenExpired => HandshakeRefused::TokenExpired,
        Cause::KeyUnreadable => HandshakeRefused::KeyUnreadable,
        Cause::AppSuspended => HandshakeRefused::AppSuspended,
        Cause::ConnectionLimit => HandshakeRefused::ConnectionLimit,
        Cause::ProxyHeader => HandshakeRefused::ProxyHeader,
        Cause::Tls => HandshakeRefused::Transport,
        Cause::Gone => HandshakeRefused::Gone,
        _ => HandshakeRefused::TokenInvalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::kind::CLAIMS;

    #[test]
    fn four_fifths_and_all_are_passed_once_however_much_that_is() {
        for (connections, allowed, cause) in [
            (3, 5, None),
            (4, 5, Some(Cause::QuotaNear)),
            (5, 5, Some(Cause::QuotaReached)),
            (6, 5, None),
            (1, 1, Some(Cause::QuotaReached)),
            (1, 0, None),
            (1, (1 << 62) + 1, None),
            (1, u64::MAX, None),
        ] {
            assert_eq!(
                passed_with(connections, allowed),
                cause,
                "{connections} of {allowed}"
            );
        }
    }

    #[test]
    fn claims_and_errors_have_the_names_that_clients_know() {
        let all = [
            Claim::Sub,
            Claim::Exp,
            Claim::Nbf,
            Claim::Iat,
            Claim::Channels,
            Claim::Permissions,
            Claim::Metadata,
            Claim::PeerMetadata,
        ];
        for claim in all {
            assert_eq!(CLAIMS[usize::from(claim_number(claim))], claim.name());
        }
        for code in ErrorCode::ALL {
            assert_eq!(cause_of_error(code).as_str(), code.as_str());
        }
    }
}
