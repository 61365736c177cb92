//! What is kept of a connection so that its end can be told, and how that is told.
//!
//! Always true: each connection that was opened is recorded as closed once, when its socket is gone
//! or the shard ends. The first reason to end it counts; how the socket ended then is told beside.

use crate::domain::rights::KeyKind;
use crate::events::kind::{By, Cause, CredentialKind, Door, Kind};
use crate::events::record::{Detail, Record, SocketEnd, UNKNOWN};
use crate::ids::ConnectionId;
use crate::proto::wire::error::ErrorCode;
use crate::shard::connection::connections::{Connection, Connections, Held, Phase, Session};
use crate::shard::connection::ending::{Ending, Failed, Why};
use crate::shard::context::Context;
use crate::shard::history::replay::Resumed;
use crate::shard::recording::{Refused, cause_of_error};

/// Input that was held back for longer is told about, in milliseconds.
const HELD_MS_TOLD: u64 = 100;
/// A slow connection is told about once in this time, in nanoseconds.
const SLOW_PAUSE_NS: u64 = 10_000_000_000;

/// The end of an open session, which has its memberships still.
fn ending_of(session: &Session, queued_bytes: usize, why: Why) -> Box<Ending> {
    Box::new(Ending {
        why,
        app: session.key.app.index,
        key: session.key.index,
        peer: session.peer.clone(),
        queued_bytes: queued_bytes as u64,
        channels: session.memberships.len() as u32,
    })
}

impl Session {
    /// What it came with.
    fn shown(&self) -> CredentialKind {
        match (&self.grant, &self.key.kind) {
            (None, KeyKind::Publishable { .. }) => CredentialKind::Publishable,
            _ => CredentialKind::Token,
        }
    }
}

impl Connections {
    /// A session is about to end: what its end needs is kept, or it is told that it never began.
    /// Returns whether it was open.
    pub(in crate::shard) fn begin_ending(
        &mut self,
        id: ConnectionId,
        why: Why,
        context: &mut Context,
    ) -> bool {
        let Some(connection) = self.get_mut(id) else {
            return false;
        };
        let ending = match &connection.phase {
            Phase::Open(session) => ending_of(session, connection.queued_bytes(), why),
            Phase::Registering(_) => {
                context.refused_at_registration(connection, why);
                return false;
            }
            _ => return false,
        };
        connection.ending = Some(ending);
        true
    }

    /// What a connection's socket has failed with; the first failure counts.
    pub(in crate::shard) fn note_failed(&mut self, id: ConnectionId, failed: Failed) {
        if let Some(connection) = self.get_mut(id)
            && connection.failed == Failed::No
        {
            connection.failed = failed;
        }
    }

    /// Why a session ends with its stream: the peer has ended it, or its transport is broken.
    pub(in crate::shard) fn why_of_end(&self, id: ConnectionId) -> Why {
        match self.get(id).map(|it| it.failed) {
            Some(failed @ Failed::Tls) => failed.why(),
            _ => Why::GONE,
        }
    }

    /// Why a session ends with its socket, if nobody has said so before.
    pub(in crate::shard) fn why_of_socket(&self, id: ConnectionId) -> Why {
        self.get(id).map_or(Why::GONE, |it| it.failed.why())
    }

    /// Records that a connection is open from now on; its handshake began at `began_ns`.
    pub(in crate::shard) fn record_opened(
        &mut self,
        id: ConnectionId,
        began_ns: u64,
        context: &mut Context,
    ) {
        let connection = &mut self[id];
        connection.account.opened_ms = context.now.mono_ms;
        let Some(session) = connection.session() else {
            return;
        };
        let expires_sec = session.grant.as_ref().map(|grant| grant.expires_sec);
        let took_us = context.stamp_ns.saturating_sub(began_ns) / 1_000;
        let numbers = [expires_sec.unwrap_or(UNKNOWN), took_us];
        let record = Record {
            detail: Detail::Shown(Door::Connect, session.shown(), 0),
            numbers: &numbers,
            ..of_session(connection, session, Record::new(Kind::Opened, Cause::None))
        };
        context.record(&record);
    }

    /// Records that another process has handed over a connection that was opened, and is not gone.
    pub(in crate::shard) fn record_taken_over(&self, id: ConnectionId, context: &mut Context) {
        let Some(connection) = self.get(id) else {
            return;
        };
        let record = Record::new(Kind::Opened, Cause::HandedOver);
        let record = match (connection.session(), &connection.ending) {
            (Some(session), _) => Record {
                detail: Detail::Shown(Door::Connect, session.shown(), 0),
                ..of_session(connection, session, record)
            },
            // It was opened, and is about to be closed.
            (None, Some(ending)) => Record {
                connection: Some(connection.id),
                app: Some(ending.app),
                key: Some(ending.key),
                address: Some(connection.remote),
                first: ending.peer.id.as_str(),
                ..record
            },
            (None, None) => return,
        };
        context.record(&record);
    }

    /// Records that a connection is or is no longer in a channel. The command was read at
    /// `read_ns`.
    pub(in crate::shard) fn record_membership(
        &self,
        (id, kind): (ConnectionId, Kind),
        channel: &str,
        (read_ns, resumed): (u64, Option<&Resumed>),
        context: &mut Context,
    ) {
        let took_us = context.stamp_ns.saturating_sub(read_ns) / 1_000;
        let told = resumed.and_then(|it| Some((it.recovered?, it.replay.count())));
        let (recovered, replayed) = told.unwrap_or_default();
        let numbers = [took_us, recovered.into(), replayed.into()];
        let record = Record {
            numbers: match told {
                Some(_) => &numbers,
                None => &numbers[..1],
            },
            second: channel,
            ..Record::new(kind, Cause::None)
        };
        self.record_of(id, record, context);
    }

    /// Records that a connection goes on with another token, and the channels in which it is no
    /// longer. The command was read at `read_ns`.
    pub(in crate::shard) fn record_refreshed<'c>(
        &self,
        id: ConnectionId,
        ended: impl IntoIterator<Item = &'c str>,
        read_ns: u64,
        context: &mut Context,
    ) {
        let expires_sec = self.session(id).and_then(|it| it.grant.as_ref());
        let expires_sec = expires_sec.map_or(UNKNOWN, |grant| grant.expires_sec);
        let took_us = context.stamp_ns.saturating_sub(read_ns) / 1_000;
        let record = Record {
            numbers: &[expires_sec, took_us],
            ..Record::new(Kind::Refreshed, Cause::None)
        };
        self.record_of(id, record, context);
        for channel in ended {
            let record = Record {
                numbers: &[took_us],
                second: channel,
                ..Record::new(Kind::Unsubscribed, Cause::Refresh)
            };
            self.record_of(id, record, context);
        }
    }

    /// Records that a token was refused, and what is wrong with it.
    pub(in crate::shard) fn record_refresh_refused(
        &self,
        id: ConnectionId,
        cause: Cause,
        context: &mut Context,
    ) {
        if let Some(connection) = self.get(id)
            && let Some(session) = connection.session()
        {
            let record = of_session(connection, session, Record::new(Kind::Error, cause));
            let now_ns = context.event_ns();
            context.events.record_of_connection(&record, now_ns);
        }
    }

    /// Records an error that a command was answered with, and what the command was about: a
    /// channel, or a peer.
    pub(in crate::shard) fn record_error(
        &self,
        id: ConnectionId,
        code: ErrorCode,
        (about, is_to): (&str, bool),
        context: &mut Context,
    ) {
        if let Some(connection) = self.get(id)
            && let Some(session) = connection.session()
        {
            let record = Record {
                second: about,
                is_to,
                ..Record::new(Kind::Error, cause_of_error(code))
            };
            let record = of_session(connection, session, record);
            let now_ns = context.event_ns();
            context.events.record_of_connection(&record, now_ns);
        }
    }

    /// Records that input goes on which was held back for long.
    pub(in crate::shard) fn record_held(&self, id: ConnectionId, context: &mut Context) {
        let connection = &self[id];
        let cause = match connection.held_for {
            Held::REPLIES => Cause::Replies,
            Held::LINK => Cause::Link,
            Held::JOINS | Held::REFRESH => Cause::Joins,
            Held::FAN_OUT => Cause::Members,
            _ => return,
        };
        // Nothing is read of a socket while its input is held back.
        let held_ms = self.peer_ms(context).saturating_sub(connection.received_ms);
        if held_ms > HELD_MS_TOLD {
            let numbers = [held_ms];
            let record = Record {
                numbers: &numbers,
                ..Record::new(Kind::Held, cause)
            };
            self.record_of(id, record, context);
        }
    }

    /// A socket had no room: records it if much waits.
    pub(in crate::shard) fn record_if_slow(&self, id: ConnectionId, context: &mut Context) {
        let connection = &self[id];
        let queued_bytes = connection.queued_bytes();
        if queued_bytes <= context.config.limits.outbound_queue_bytes / 2 {
            return;
        }
        let Some(session) = connection.session() else {
            return;
        };
        let blocked_ms = connection.blocked.for_ms(self.peer_ms(context));
        let numbers = [queued_bytes as u64, blocked_ms];
        let record = Record {
            numbers: &numbers,
            ..Record::new(Kind::Slow, Cause::None)
        };
        let record = of_session(connection, session, record);
        let now_ns = context.event_ns();
        context.events.record_seldom(&record, now_ns, SLOW_PAUSE_NS);
    }

    #[inline(always)]
    fn record_of(&self, id: ConnectionId, record: Record<'_>, context: &mut Context) {
        if let Some(connection) = self.get(id)
            && let Some(session) = connection.session()
        {
            context.record(&of_session(connection, session, record));
        }
    }
}

/// The record with what is known of the connection and its session.
#[inline(always)]
fn of_session<'a>(connection: &Connection, session: &'a Session, record: Record<'a>) -> Record<'a> {
    Record {
        connection: Some(connection.id),
        app: Some(session.key.app.index),
        key: Some(session.key.index),
        address: Some(connection.remote),
        first: session.peer.id.as_str(),
        ..record
    }
}

impl Context {
    /// Records that a connection is gone, if it was open.
    pub(in crate::shard) fn record_closed(&mut self, connection: &Connection) {
        let Some(ending) = &connection.ending else {
            return;
        };
        let (account, failed) = (&connection.account, connection.failed);
        let numbers = [
            ending.queued_bytes,
            self.now.mono_ms.saturating_sub(account.opened_ms),
            account.bytes_in,
            account.bytes_out,
            u64::from(account.messages_in),
            u64::from(ending.channels),
        ];
        let is_socket = ending.why.by == By::Network;
        let end = match is_socket {
            true => SocketEnd::Orderly,
            false => failed.socket_end(),
        };
        let record = Record {
            detail: Detail::Closed(ending.why.by, end),
            code: ending.why.code,
            connection: Some(connection.id),
            app: Some(ending.app),
            key: Some(ending.key),
            address: Some(connection.remote),
            errno: failed.errno(),
            numbers: &numbers,
            first: ending.peer.id.as_str(),
            ..Record::new(Kind::Closed, ending.why.cause)
        };
        self.events.record_closed(&record, self.event_ns());
    }

    /// A connection ends before its `welcome`: counts and records that.
    pub(in crate::shard) fn refused_at_registration(&mut self, connection: &Connection, why: Why) {
        let Phase::Registering(session) = &connection.phase else {
            return;
        };
        let cause = match why.cause {
            Cause::KeyRevoked | Cause::AppDeleted => Cause::UnknownKey,
            Cause::AppSuspended => Cause::AppSuspended,
            Cause::Drain | Cause::Shutdown => Cause::Draining,
            Cause::Memory => Cause::Memory,
            _ => Cause::Gone,
        };
        let refused = Refused {
            shown: session.shown(),
            key: Some(&session.key),
            peer: session.peer.id.as_str(),
            ..Refused::stranger(cause, why.code)
        };
        self.refused(connection.id, connection.remote, &refused);
    }
}
