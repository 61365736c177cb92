//! What follows when something is due, of the shard and of its connections: the other half of the
//! table in `shard/connection/timers.rs`.

use crate::domain::time::Now;
use crate::events::kind::Cause;
use crate::ids::ConnectionId;
use crate::proto::ws::close::CloseCode;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::connection::cost::WRITE;
use crate::shard::connection::ending::{Failed, Goodbye, Why};
use crate::shard::connection::progress::{NEVER_MS, Stalled};
use crate::shard::connection::timers::{Deadline, TooEarly};
use crate::shard::context::Context;
use crate::shard::state::Shard;

/// After how many milliseconds a deadline is looked at again that could not be judged, because not
/// everything had been read.
const LOOK_AGAIN_MS: u64 = 20;

impl Shard {
    /// The server itself was late by that many milliseconds, for whatever reason: it did not
    /// look at its connections. No peer is measured by that time. Read what has come before
    /// [`Input::Time`](crate::shard::input::Input::Time) is told all the same: bytes that wait
    /// in a socket have come.
    pub fn forgive(&mut self, late_ms: u64, now: Now) {
        self.context.now = now;
        self.connections.forgiven_ms += late_ms;
        self.connections.stalled = Stalled {
            until_ms: self.context.now.mono_ms,
            late_ms,
        };
    }

    /// Whatever peers had sent by that time, in milliseconds on the monotonic clock, has been
    /// told: nobody is judged yet for not having sent something by a later one. Without this,
    /// peers are judged by the clock.
    pub fn judge_until(&mut self, mono_ms: u64) {
        self.connections.heard_ms = mono_ms;
    }

    /// When [`Input::Time`](crate::shard::input::Input::Time) is due next, on the monotonic clock;
    /// never too late. There is none while the shard is frozen.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.context.is_frozen {
            return None;
        }
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
            Deadline::Events => self.context.next_sums_ms(),
            Deadline::Walks => self.walks.due_ms(),
            Deadline::Histories => self.channels.histories.next_due_ms(),
            Deadline::Connections => self.connections.timers.next_deadline(),
            Deadline::Unread | Deadline::Drain | Deadline::Expiry | Deadline::Request => None,
            Deadline::End | Deadline::Ping | Deadline::Pong => None,
        }
    }

    /// Time has passed: what is due is done.
    pub(in crate::shard) fn time(&mut self) {
        if self.context.is_frozen {
            return;
        }
        for deadline in Deadline::OF_SHARD {
            let due_ms = self.shard_due_ms(deadline);
            if due_ms.is_some_and(|at| at <= self.context.now.mono_ms) {
                self.connections.met[deadline as usize] += 1;
            }
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
            Deadline::Events => context.end_sums(),
            Deadline::Walks => self.advance_walks(),
            Deadline::Histories => channels.sweep_histories(context),
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

impl Channels {
    fn timer_came(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(connection) = connections.get_mut(id) else {
            return; // It was closed before its timer came.
        };
        if context.now.mono_ms < connection.timer_ms {
            return; // an earlier entry has dealt with it and set this one's successor
        }
        connection.timer_ms = NEVER_MS;
        match connections.first_due(id, context) {
            Err(TooEarly) => connections.set_timer(id, context.now.mono_ms + LOOK_AGAIN_MS),
            Ok(due) => {
                if let Some(deadline) = due {
                    connections.met[deadline as usize] += 1;
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
                let remote = connections[id].remote;
                tracing::debug!(%remote, "dropped: reads nothing");
                self.drop_peer(id, connections, context);
            }
            Deadline::Drain => {
                let goodbye = Goodbye {
                    reason: "server shutting down",
                    ..Goodbye::of(Cause::Drain, CloseCode::GOING_AWAY)
                };
                self.close(id, &goodbye, connections, context);
            }
            Deadline::Expiry => {
                let goodbye = Goodbye::of(Cause::TokenExpired, CloseCode::EXPIRED_TOKEN);
                self.close(id, &goodbye, connections, context);
            }
            Deadline::Request => connections.http_deadline(id, context),
            Deadline::End => {
                connections.note_failed(id, Failed::CloseTimeout);
                context.effects.abort.push(id);
            }
            Deadline::Ping => connections.ping(id, context),
            Deadline::Pong => self.drop_peer(id, connections, context),
            Deadline::Usage | Deadline::Snapshots | Deadline::Announcements => {}
            Deadline::Barriers | Deadline::Questions | Deadline::Lags => {}
            Deadline::Events | Deadline::Walks | Deadline::Histories | Deadline::Connections => {}
        }
    }

    /// A peer that does not answer needs no close frame.
    fn drop_peer(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.end_session(id, Why::NO_SIGN, connections, context);
        context.effects.abort.push(id);
    }
}
