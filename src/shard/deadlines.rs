//! Deadlines of connections: what a peer has to do by when, and what follows if it does not.
//!
//! Time counts against a peer only while the server waits for it:
//! - *For bytes to come*: a request, a pong, anything at all. Not while input is held back, and
//!   not before the ping or the answer that the peer is to react to has been written.
//! - *For bytes to be taken*: from the moment at which the socket has no room, the peer must
//!   take `PROGRESS_BYTES` in each `PROGRESS_MS`, or all that waits. Slow readers come to
//!   their end so, dead ones are not waited for.
//! - *For the end*: [`CLOSE_HANDSHAKE_MS`] from when the last byte was written.
//!
//! Times that peers are measured by are the clock's less what the server was late, see
//! [`Shard::forgive`]. The expiry of a token and a drain are on the clock itself.

use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::limits::CLOSE_HANDSHAKE_MS;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::frame::{Opcode, append_frame};
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::connection::connections::{Connection, Held, Phase, Ping};
use crate::shard::context::Context;
use crate::shard::outbound::outbox::Finish;
use crate::shard::portions::WRITE;
use crate::shard::state::Shard;

/// How long a peer may take for [`PROGRESS_BYTES`], in milliseconds.
const PROGRESS_MS: u64 = 10_000;
/// What a peer that is to be closed, or is answered over HTTP, must read in [`PROGRESS_MS`] as
/// long as more waits: 1 KB/s, a tenth of what the slowest mobile networks carry. So a full
/// queue of 1 MiB is gone after 18 minutes at the latest.
const PROGRESS_BYTES: usize = 10 * 1_024;

/// When a deadline is looked at again for which it is too early, because not everything has been
/// read yet.
const LOOK_AGAIN_MS: u64 = 20;

/// What waits because a peer's socket has no room for it.
#[derive(Clone, Copy, Debug)]
pub struct Blocked {
    /// When the present measurement began; [`NEVER_MS`] while there is room.
    since_ms: u64,
    /// Bytes taken since then.
    taken: usize,
}

/// No deadline.
pub(in crate::shard) const NEVER_MS: u64 = u64::MAX;

impl Default for Blocked {
    fn default() -> Self {
        Self {
            since_ms: NEVER_MS,
            taken: 0,
        }
    }
}

impl Blocked {
    /// Whether the socket had no room when it was last offered something.
    #[inline]
    pub(in crate::shard) fn is_blocked(self) -> bool {
        self.since_ms != NEVER_MS
    }

    /// The socket has taken so many bytes, or none.
    fn written(&mut self, count: usize, now_ms: u64) {
        if !self.is_blocked() {
            if count == 0 {
                self.restart(now_ms);
            }
            return;
        }
        self.taken += count;
        if self.taken >= PROGRESS_BYTES {
            self.restart(now_ms);
        }
    }

    fn restart(&mut self, now_ms: u64) {
        *self = Self {
            since_ms: now_ms,
            taken: 0,
        };
    }

    /// When it is over with a peer that takes too little for that long.
    pub(in crate::shard) fn ends_ms(self, patience_ms: u64) -> u64 {
        self.since_ms.saturating_add(patience_ms)
    }
}

impl Connection {
    /// It is to end behind what is queued: whoever was slow until now has another chance.
    pub(in crate::shard) fn begin_to_end(&mut self, now_ms: u64) {
        if self.blocked.is_blocked() {
            self.blocked.restart(now_ms);
        }
    }
}

/// The last time in which the server did not look at its connections, on the monotonic clock.
/// What they sent in it, at the rate that they may, comes at once.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::shard) struct Stalled {
    /// When it ended.
    pub until_ms: u64,
    /// How long it took.
    pub late_ms: u64,
}

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

    pub(in crate::shard) fn time(&mut self) {
        if self
            .context
            .usage
            .due_ms()
            .is_some_and(|due_ms| due_ms <= self.context.now.mono_ms)
        {
            self.context.usage.report(&mut self.context.effects.usage);
        }
        self.channels.end_pauses(
            self.context.now.mono_ms,
            &mut self.connections,
            &mut self.context,
        );
        self.channels
            .announce_due(&mut self.connections, &mut self.context);
        self.channels
            .end_barriers(&mut self.connections, &mut self.context);
        self.end_overdue_questions();
        self.channels
            .look_at_lags(&mut self.connections, &mut self.context);
        let overdue = &mut self.portions.overdue.list;
        self.connections
            .timers
            .expire(self.context.now.mono_ms, |id| overdue.push_back(id));
        self.advance_overdue();
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

impl Connections {
    /// The time that peers are measured by, in milliseconds.
    #[inline]
    pub(in crate::shard) fn peer_ms(&self, context: &Context) -> u64 {
        context.now.mono_ms.saturating_sub(self.forgiven_ms)
    }

    /// A connection's socket took so many bytes of what waits, or had no room.
    pub(in crate::shard) fn note_written(
        &mut self,
        id: ConnectionId,
        count: usize,
        context: &mut Context,
    ) {
        let now_ms = self.peer_ms(context);
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        connection.blocked.written(count, now_ms);
        let ping_is_out = connection.outbox.control_bytes() == 0;
        if ping_is_out && let Ping::Queued = connection.ping {
            connection.ping = Ping::Written { at_ms: now_ms };
            self.arm(id, context);
        } else if count == 0 {
            self.arm(id, context);
        }
    }

    /// Everything that waited for a connection has been written. Returns what its socket should
    /// do.
    pub(in crate::shard) fn flushed(&mut self, id: ConnectionId, context: &mut Context) -> Finish {
        let closes_ms = self.peer_ms(context) + CLOSE_HANDSHAKE_MS;
        let Some(connection) = self.get_mut(id) else {
            return Finish::Close;
        };
        connection.blocked = Blocked::default();
        let finish = connection.finish();
        match &mut connection.phase {
            Phase::Open(_) | Phase::Registering(_) => {}
            Phase::Http(_) => self.await_request(id, context),
            Phase::Closing { until_ms, .. } | Phase::Lingering { until_ms } => {
                let is_out = connection.outbox.is_empty() && finish != Finish::Close;
                if is_out && *until_ms == NEVER_MS {
                    *until_ms = closes_ms;
                    self.arm(id, context);
                }
            }
        }
        finish
    }

    /// An HTTP connection is idle from the moment at which its last answer has been written.
    fn await_request(&mut self, id: ConnectionId, context: &mut Context) {
        let idle_until_ms = self.peer_ms(context) + context.config.limits.keep_alive_ms;
        if let Some(connection) = self.get_mut(id)
            && let Phase::Http(http) = &mut connection.phase
            && http.is_idle()
            && http.deadline_ms == NEVER_MS
            && !connection.held.any()
            && connection.outbox.is_empty()
        {
            http.deadline_ms = idle_until_ms;
            self.arm(id, context);
        }
    }

    /// Input goes on that was held back: only from now on is anything expected to come.
    pub(in crate::shard) fn await_input(&mut self, id: ConnectionId, context: &mut Context) {
        let now_ms = self.peer_ms(context);
        let request_until_ms = now_ms + context.config.limits.head_timeout_ms;
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if connection.held.any() {
            return;
        }
        connection.received_ms = now_ms;
        match &mut connection.phase {
            Phase::Open(_) => {
                if let Ping::Written { at_ms } = &mut connection.ping {
                    *at_ms = now_ms;
                }
            }
            Phase::Http(http) if !http.is_idle() => {
                http.deadline_ms = http.deadline_ms.max(request_until_ms);
            }
            Phase::Http(_) => self.await_request(id, context),
            Phase::Registering(_) | Phase::Closing { .. } | Phase::Lingering { .. } => {}
        }
        self.arm(id, context);
    }

    /// The next moment at which something must be done about a connection, on the clock.
    fn deadline(&self, connection: &Connection, context: &Context) -> u64 {
        let peers = context
            .input_deadline(connection)
            .min(context.output_deadline(connection))
            .saturating_add(self.forgiven_ms);
        let Phase::Open(session) = &connection.phase else {
            return peers;
        };
        let expiry_ms = session
            .grant
            .as_ref()
            .map_or(NEVER_MS, |grant| grant.closes_ms);
        let drain_ms = session.drain_ms.unwrap_or(NEVER_MS);
        peers.min(expiry_ms).min(drain_ms)
    }

    /// Makes sure that the connection's next deadline is noticed.
    pub(in crate::shard) fn arm(&mut self, id: ConnectionId, context: &mut Context) {
        let Some(connection) = self.get(id) else {
            return;
        };
        let deadline_ms = self.deadline(connection, context);
        if deadline_ms < connection.timer_ms {
            self.timers.insert(deadline_ms, id);
            if let Some(connection) = self.get_mut(id) {
                connection.timer_ms = deadline_ms;
            }
        }
    }

    /// Notices the connection's deadline at that time.
    fn look_again(&mut self, id: ConnectionId, at_ms: u64) {
        self.timers.insert(at_ms, id);
        if let Some(connection) = self.get_mut(id) {
            connection.timer_ms = at_ms;
        }
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

impl Context {
    /// By when something must come from the peer, or must be asked of it.
    fn input_deadline(&self, connection: &Connection) -> u64 {
        let limits = &self.config.limits;
        match &connection.phase {
            Phase::Closing { until_ms, .. } | Phase::Lingering { until_ms } => *until_ms,
            _ if connection.held.any() => NEVER_MS,
            Phase::Http(http) => http.deadline_ms,
            Phase::Registering(..) => NEVER_MS,
            Phase::Open(_) => match connection.ping {
                Ping::None => connection.received_ms + limits.ping_after_ms,
                Ping::Queued => NEVER_MS,
                Ping::Written { at_ms } => {
                    at_ms + limits.drop_after_ms.saturating_sub(limits.ping_after_ms)
                }
            },
        }
    }

    /// By when the peer must have read something of what waits for it. Deliveries have a bound
    /// of their own: only what the connection itself asked for, and pings, are waited for here.
    fn output_deadline(&self, connection: &Connection) -> u64 {
        let blocked = connection.blocked;
        match &connection.phase {
            Phase::Open(_) | Phase::Registering(_) => {
                let is_waiting =
                    connection.held.has(Held::REPLIES) || matches!(connection.ping, Ping::Queued);
                match is_waiting {
                    true => blocked.ends_ms(self.config.limits.drop_after_ms),
                    false => NEVER_MS,
                }
            }
            _ if self.draining => blocked.ends_ms(CLOSE_HANDSHAKE_MS),
            _ => blocked.ends_ms(PROGRESS_MS),
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
        let connection = connections.get(id);
        let deadline_ms = connection.map_or(NEVER_MS, |it| connections.deadline(it, context));
        if deadline_ms <= context.now.mono_ms && !self.due(id, connections, context) {
            connections.look_again(id, context.now.mono_ms + LOOK_AGAIN_MS);
        } else {
            connections.arm(id, context);
        }
    }

    /// A connection's deadline has come. Returns whether something was done about it: it is not
    /// while what the peer may have sent in time has not been read.
    fn due(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        let peer_ms = connections.peer_ms(context);
        let heard_ms = connections.heard_ms.saturating_sub(connections.forgiven_ms);
        let Some(connection) = connections.get(id) else {
            return true;
        };
        if context.output_deadline(connection) <= peer_ms {
            tracing::debug!(remote = %connection.remote, "dropped: reads nothing");
            self.drop_peer(id, connections, context);
            return true;
        }
        let is_heard = context.input_deadline(connection) <= heard_ms;
        match &connection.phase {
            Phase::Http(_) | Phase::Closing { .. } | Phase::Lingering { .. } if !is_heard => {
                return false;
            }
            Phase::Http(_) => connections.http_deadline(id, context),
            Phase::Registering(..) => {}
            Phase::Closing { .. } | Phase::Lingering { .. } => context.effects.abort.push(id),
            Phase::Open(session) => {
                let expires_ms = session.grant.as_ref().map(|grant| grant.closes_ms);
                if session.drain_ms.is_some_and(|at| at <= context.now.mono_ms) {
                    let code = CloseCode::GOING_AWAY;
                    self.close(id, code, "server shutting down", connections, context);
                } else if expires_ms.is_some_and(|at| at <= context.now.mono_ms) {
                    let code = CloseCode::EXPIRED_TOKEN;
                    self.close(id, code, code.reason(), connections, context);
                } else if context.input_deadline(connection) <= peer_ms {
                    match connection.ping {
                        Ping::None => connections.ping(id, context),
                        Ping::Queued | Ping::Written { .. } if !is_heard => return false,
                        Ping::Queued | Ping::Written { .. } => {
                            self.drop_peer(id, connections, context)
                        }
                    }
                }
            }
        }
        true
    }

    /// Whoever does not answer needs no close frame.
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
