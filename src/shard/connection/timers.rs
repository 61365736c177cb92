//! Every reason for which a shard does something although nothing came.
//!
//! [`Deadline`] has one line for each reason. The functions below say when it is due; what follows
//! stands in `shard/steps/time.rs`. What the shard itself waits for lies in lists that are in order
//! anyway. Connections have many deadlines that mostly change before they are due, so each of them
//! has one entry in the wheel, for the earliest: an entry that has become too early is set anew
//! when it comes.

use crate::ids::ConnectionId;
use crate::planted::{Bug, planted};
use crate::proto::ws::frame::{Opcode, append_frame};
use crate::shard::connection::connections::{
    Connection, Connections, Phase, Ping, REASONS_TO_WAKE,
};
use crate::shard::connection::progress::NEVER_MS;
use crate::shard::context::Context;

/// A reason to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Deadline {
    /// Usage: it is reported.
    Usage,
    /// The pauses of snapshots: they leave.
    Snapshots,
    /// Presence changes of large channels: they are announced.
    Announcements,
    /// Joins that wait for home shards: they wait no longer.
    Barriers,
    /// Questions to other shards: they end without an answer.
    Questions,
    /// Channels that lag: they are looked at.
    Lags,
    /// Sums of events: they are written down.
    Events,
    /// Walks for operators: they go on.
    Walks,
    /// Publications that channels have kept for their time: they go.
    Histories,
    /// Connections, for one of the reasons that follow.
    Connections,
    /// The peer has taken too little of what waits for it: it is dropped.
    Unread,
    /// The drain has come to the connection: it is closed.
    Drain,
    /// The token has expired: the connection is closed.
    Expiry,
    /// A request is not complete, or none has come: it is refused, or the connection ended.
    Request,
    /// The peer does not end the connection: the server does.
    End,
    /// Nothing has come for long: the peer is pinged.
    Ping,
    /// Nothing has followed the ping: the peer is dropped.
    Pong,
}

/// What a deadline is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum TimeBase {
    /// The monotonic clock.
    Server,
    /// The clock less what the server was late.
    Peers,
    /// The peers' clock, as far as what they had sent by then has been read.
    Heard,
}

/// Not everything has been read that a peer may have sent in time.
pub(in crate::shard) struct TooEarly;

const _: () = assert!(
    Deadline::OF_SHARD.len() + Deadline::OF_CONNECTION.len() == REASONS_TO_WAKE,
    "each reason is counted"
);

impl Deadline {
    pub(in crate::shard) const OF_SHARD: [Self; 10] = [
        Self::Usage,
        Self::Snapshots,
        Self::Announcements,
        Self::Barriers,
        Self::Questions,
        Self::Lags,
        Self::Events,
        Self::Walks,
        Self::Histories,
        Self::Connections,
    ];

    /// Of two that are due, the first one counts.
    pub(in crate::shard) const OF_CONNECTION: [Self; 7] = [
        Self::Unread,
        Self::Drain,
        Self::Expiry,
        Self::Request,
        Self::End,
        Self::Ping,
        Self::Pong,
    ];

    #[inline]
    const fn time_base(self) -> TimeBase {
        match self {
            Self::Usage | Self::Snapshots | Self::Announcements | Self::Barriers => {
                TimeBase::Server
            }
            Self::Questions | Self::Lags | Self::Events | Self::Connections => TimeBase::Server,
            Self::Walks | Self::Histories => TimeBase::Server,
            Self::Drain | Self::Expiry => TimeBase::Server,
            Self::Unread | Self::Ping => TimeBase::Peers,
            Self::Request | Self::End | Self::Pong => TimeBase::Heard,
        }
    }
}

impl Context {
    /// When something is due about a connection for that reason, on the reason's clock.
    #[inline]
    fn due_ms(&self, connection: &Connection, deadline: Deadline) -> u64 {
        let limits = &self.config.limits;
        let is_held = connection.held.any();
        match (deadline, &connection.phase) {
            (Deadline::Unread, _) => self.output_deadline(connection),
            (Deadline::Drain, Phase::Open(session)) => session.drain_ms.unwrap_or(NEVER_MS),
            (Deadline::Expiry, Phase::Open(session))
                if planted(Bug::TokenExpiryIgnored) && !session.memberships.is_empty() =>
            {
                NEVER_MS
            }
            (Deadline::Expiry, Phase::Open(session)) => {
                let grant = session.grant.as_ref();
                grant.map_or(NEVER_MS, |grant| grant.closes_ms)
            }
            (Deadline::Request, Phase::Http(http)) if !is_held => http.deadline_ms,
            (Deadline::End, Phase::Closing { until_ms, .. } | Phase::Lingering { until_ms }) => {
                *until_ms
            }
            (Deadline::Ping, Phase::Open(_)) if !is_held => match connection.ping {
                Ping::None => connection.received_ms + limits.ping_after_ms,
                Ping::Queued | Ping::Written { .. } => NEVER_MS,
            },
            (Deadline::Pong, Phase::Open(_)) if !is_held => match connection.ping {
                Ping::None | Ping::Queued => NEVER_MS,
                Ping::Written { at_ms } => {
                    at_ms + limits.drop_after_ms.saturating_sub(limits.ping_after_ms)
                }
            },
            _ => NEVER_MS,
        }
    }
}

impl Connections {
    /// The next moment at which something is due about a connection, on the monotonic clock.
    fn deadline(&self, connection: &Connection, context: &Context) -> u64 {
        let deadlines = Deadline::OF_CONNECTION.into_iter().map(|deadline| {
            let due_ms = context.due_ms(connection, deadline);
            match deadline.time_base() {
                TimeBase::Server => due_ms,
                TimeBase::Peers | TimeBase::Heard => due_ms.saturating_add(self.forgiven_ms),
            }
        });
        deadlines.min().unwrap_or(NEVER_MS)
    }

    /// Makes sure that the connection's next deadline is noticed.
    pub(in crate::shard) fn arm(&mut self, id: ConnectionId, context: &mut Context) {
        let connection = &self[id];
        let deadline_ms = self.deadline(connection, context);
        if deadline_ms < connection.timer_ms {
            let is_lost = planted(Bug::TimerLostOnRearm) && connection.timer_ms != NEVER_MS;
            if is_lost && let Some(connection) = self.get_mut(id) {
                connection.timer_ms = deadline_ms;
                return;
            }
            self.set_timer(id, deadline_ms);
        }
    }

    pub(in crate::shard) fn set_timer(&mut self, id: ConnectionId, at_ms: u64) {
        self.timers.insert(at_ms, id);
        self[id].timer_ms = at_ms;
    }

    /// The first thing that is due about a connection; `Err` if it is too early to judge, because
    /// what the peer may have sent in time has not been read.
    pub(in crate::shard) fn first_due(
        &self,
        id: ConnectionId,
        context: &Context,
    ) -> Result<Option<Deadline>, TooEarly> {
        let (now_ms, peer_ms) = (context.now.mono_ms, self.peer_ms(context));
        let heard_ms = self.heard_ms.saturating_sub(self.forgiven_ms);
        let connection = &self[id];
        for deadline in Deadline::OF_CONNECTION {
            let due_ms = context.due_ms(connection, deadline);
            match deadline.time_base() {
                TimeBase::Server if due_ms > now_ms => {}
                TimeBase::Peers | TimeBase::Heard if due_ms > peer_ms => {}
                TimeBase::Heard if due_ms > heard_ms => return Err(TooEarly),
                TimeBase::Server | TimeBase::Peers | TimeBase::Heard => return Ok(Some(deadline)),
            }
        }
        Ok(None)
    }

    pub(in crate::shard) fn ping(&mut self, id: ConnectionId, context: &mut Context) {
        let connection = &mut self[id];
        connection.ping = Ping::Queued;
        let mut frame = Vec::with_capacity(2);
        append_frame(&mut frame, Opcode::Ping, b"");
        connection.outbox.push_control(&frame);
        connection.mark_dirty(&mut context.effects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_in_one_list_once() {
        let of_shard = Deadline::OF_SHARD.into_iter();
        let all: Vec<Deadline> = of_shard.chain(Deadline::OF_CONNECTION).collect();
        for (at, deadline) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(deadline), "{deadline:?}");
        }
        assert_eq!(all.len(), Deadline::Pong as usize + 1, "none is left out");
    }
}
