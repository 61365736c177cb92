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

use crate::ids::ConnectionId;
use crate::limits::CLOSE_HANDSHAKE_MS;
use crate::shard::connection::connections::{Connection, Connections, Held, Phase, Ping};
use crate::shard::context::Context;
use crate::shard::outbound::outbox::Finish;

/// How long a peer may take for [`PROGRESS_BYTES`], in milliseconds.
const PROGRESS_MS: u64 = 10_000;
/// What a peer that is to be closed, or is answered over HTTP, must read in [`PROGRESS_MS`] as
/// long as more waits: 1 KB/s, a tenth of what the slowest mobile networks carry. So a full
/// queue of 1 MiB is gone after 18 minutes at the latest.
const PROGRESS_BYTES: usize = 10 * 1_024;

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
    pub(in crate::shard) fn written(&mut self, count: usize, now_ms: u64) {
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
}

impl Context {
    /// By when the peer must have read something of what waits for it. Deliveries have a bound
    /// of their own: only what the connection itself asked for, and pings, are waited for here.
    pub(in crate::shard) fn output_deadline(&self, connection: &Connection) -> u64 {
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
