//! Every reason for which a shard does something although nothing came.
//!
//! [`Deadline`] has one line for each reason. The functions below are its table: when it is due,
//! and what follows. What the shard itself waits for lies in lists that are in order anyway.
//! Connections have many deadlines that mostly change before they are due, so each of them has
//! one entry in the wheel, for the earliest: an entry that has become too early is set anew when
//! it comes.

use crate::ids::ConnectionId;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::frame::{Opcode, append_frame};
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connection, Connections, Phase, Ping};
use crate::shard::context::Context;
use crate::shard::deadlines::NEVER_MS;
use crate::shard::portions::WRITE;
use crate::shard::state::Shard;

/// When a deadline is looked at again for which it is too early, because not everything has been
/// read yet.
const LOOK_AGAIN_MS: u64 = 20;

/// A reason to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
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
enum Clock {
    /// The monotonic clock.
    Server,
    /// The clock less what the server was late.
    Peers,
    /// The peers' clock, as far as what they had sent by then has been read.
    Heard,
}

/// Not everything has been read that a peer may have sent in time.
struct TooEarly;

impl Deadline {
    const OF_SHARD: [Self; 7] = [
        Self::Usage,
        Self::Snapshots,
        Self::Announcements,
        Self::Barriers,
        Self::Questions,
        Self::Lags,
        Self::Connections,
    ];

    /// Of two that are due, the first one counts.
    const OF_CONNECTION: [Self; 7] = [
        Self::Unread,
        Self::Drain,
        Self::Expiry,
        Self::Request,
        Self::End,
        Self::Ping,
        Self::Pong,
    ];

    #[inline]
    const fn clock(self) -> Clock {
        match self {
            Self::Usage | Self::Snapshots | Self::Announcements | Self::Barriers => Clock::Server,
            Self::Questions | Self::Lags | Self::Connections => Clock::Server,
            Self::Drain | Self::Expiry => Clock::Server,
            Self::Unread | Self::Ping => Clock::Peers,
            Self::Request | Self::End | Self::Pong => Clock::Heard,
        }
    }
}

impl Shard {
    /// When [`Input::Time`](crate::shard::input::Input::Time) is due next, on the monotonic clock;
    /// never too late.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let deadlines = Deadline::OF_SHARD.into_iter();
        deadlines.filter_map(|it| self.shard_due_ms(it)).min()
    }

    /// When the shard has to do something for that reason.
    fn shard_due_ms(&self, deadline: Deadline) -> Option<u64> {
        match deadline {
            Deadline::Usage => self.context.usage.due_ms(),
            Deadline::Snapshots => self.channels.next_snapshot_ms(),
            Deadline::Announcements => self.channels.next_announcement_ms(),
            Deadline::Barriers => self.channels.next_barrier_ms(),
            Deadline::Questions => self.connections.next_question_ms(&self.context),
            Deadline::Lags => self.channels.next_look_ms(),
            Deadline::Connections => self.connections.timers.next_deadline(),
            Deadline::Unread | Deadline::Drain | Deadline::Expiry | Deadline::Request => None,
            Deadline::End | Deadline::Ping | Deadline::Pong => None,
        }
    }

    /// Time has passed: what is due is done.
    pub(in crate::shard) fn time(&mut self) {
        for deadline in Deadline::OF_SHARD {
            self.shard_due(deadline);
        }
    }

    /// Does what is due for that reason.
    fn shard_due(&mut self, deadline: Deadline) {
        let now_ms = self.context.now.mono_ms;
        let Self {
            connections,
            channels,
            context,
            ..
        } = self;
        match deadline {
            Deadline::Usage => {
                if context.usage.due_ms().is_some_and(|at| at <= now_ms) {
                    context.usage.report(&mut context.effects.usage);
                }
            }
            Deadline::Snapshots => channels.end_pauses(now_ms, connections, context),
            Deadline::Announcements => channels.announce_due(connections, context),
            Deadline::Barriers => channels.end_barriers(connections, context),
            Deadline::Questions => self.end_overdue_questions(),
            Deadline::Lags => channels.look_at_lags(connections, context),
            Deadline::Connections => {
                let overdue = &mut self.portions.overdue.list;
                let timers = &mut self.connections.timers;
                timers.expire(now_ms, |id| overdue.push_back(id));
                self.advance_overdue();
            }
            Deadline::Unread | Deadline::Drain | Deadline::Expiry | Deadline::Request => {}
            Deadline::End | Deadline::Ping | Deadline::Pong => {}
        }
    }

    /// Deals with timers that have come, as many as this turn may.
    pub(in crate::shard) fn advance_overdue(&mut self) {
        while self.portions.overdue.left > 0
            && let Some(id) = self.portions.overdue.list.pop_front()
        {
            let cost_of_end = self.connections.cost_of_end(id);
            self.channels
                .timer_came(id, &mut self.connections, &mut self.context);
            let cost = match (cost_of_end, self.connections.cost_of_end(id)) {
                (Some(cost), None) => cost,
                _ => WRITE,
            };
            self.portions.overdue.spend(cost);
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
            match deadline.clock() {
                Clock::Server => due_ms,
                Clock::Peers | Clock::Heard => due_ms.saturating_add(self.forgiven_ms),
            }
        });
        deadlines.min().unwrap_or(NEVER_MS)
    }

    /// Makes sure that the connection's next deadline is noticed.
    pub(in crate::shard) fn arm(&mut self, id: ConnectionId, context: &mut Context) {
        let Some(connection) = self.get(id) else {
            return;
        };
        let deadline_ms = self.deadline(connection, context);
        if deadline_ms < connection.timer_ms {
            self.set_timer(id, deadline_ms);
        }
    }

    fn set_timer(&mut self, id: ConnectionId, at_ms: u64) {
        self.timers.insert(at_ms, id);
        if let Some(connection) = self.get_mut(id) {
            connection.timer_ms = at_ms;
        }
    }

    /// The first thing that is due about a connection; `Err` if it is too early to judge, because
    /// what the peer may have sent in time has not been read.
    fn first_due(&self, id: ConnectionId, context: &Context) -> Result<Option<Deadline>, TooEarly> {
        let (now_ms, peer_ms) = (context.now.mono_ms, self.peer_ms(context));
        let heard_ms = self.heard_ms.saturating_sub(self.forgiven_ms);
        let Some(connection) = self.get(id) else {
            return Ok(None);
        };
        for deadline in Deadline::OF_CONNECTION {
            let due_ms = context.due_ms(connection, deadline);
            match deadline.clock() {
                Clock::Server if due_ms > now_ms => {}
                Clock::Peers | Clock::Heard if due_ms > peer_ms => {}
                Clock::Heard if due_ms > heard_ms => return Err(TooEarly),
                Clock::Server | Clock::Peers | Clock::Heard => return Ok(Some(deadline)),
            }
        }
        Ok(None)
    }

    fn ping(&mut self, id: ConnectionId, context: &mut Context) {
        if let Some(connection) = self.get_mut(id) {
            connection.ping = Ping::Queued;
            let mut frame = Vec::with_capacity(2);
            append_frame(&mut frame, Opcode::Ping, b"");
            connection.outbox.push_control(&frame);
            connection.mark_dirty(&mut context.effects);
        }
    }
}

impl Channels {
    fn timer_came(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(connection) = connections.get_mut(id) else {
            return;
        };
        if context.now.mono_ms < connection.timer_ms {
            return; // an earlier entry has dealt with it and set this one's successor
        }
        connection.timer_ms = NEVER_MS;
        match connections.first_due(id, context) {
            Err(TooEarly) => connections.set_timer(id, context.now.mono_ms + LOOK_AGAIN_MS),
            Ok(due) => {
                if let Some(deadline) = due {
                    self.due(id, deadline, connections, context);
                }
                connections.arm(id, context);
            }
        }
    }

    /// Does what is due about a connection for that reason.
    fn due(
        &mut self,
        id: ConnectionId,
        deadline: Deadline,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        match deadline {
            Deadline::Unread => {
                let remote = connections.get(id).map(|it| it.remote);
                tracing::debug!(?remote, "dropped: reads nothing");
                self.drop_peer(id, connections, context);
            }
            Deadline::Drain => {
                let code = CloseCode::GOING_AWAY;
                self.close(id, code, "server shutting down", connections, context);
            }
            Deadline::Expiry => {
                let code = CloseCode::EXPIRED_TOKEN;
                self.close(id, code, code.reason(), connections, context);
            }
            Deadline::Request => connections.http_deadline(id, context),
            Deadline::End => context.effects.abort.push(id),
            Deadline::Ping => connections.ping(id, context),
            Deadline::Pong => self.drop_peer(id, connections, context),
            Deadline::Usage | Deadline::Snapshots | Deadline::Announcements => {}
            Deadline::Barriers | Deadline::Questions | Deadline::Lags => {}
            Deadline::Connections => {}
        }
    }

    /// A peer that does not answer needs no close frame.
    fn drop_peer(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.end_session(id, connections, context);
        context.effects.abort.push(id);
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
