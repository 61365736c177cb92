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
//! [`Shard::forgive`](crate::shard::state::Shard::forgive). The expiry of a token and a drain are
//! on the clock itself.

use crate::ids::ConnectionId;
use crate::limits::CLOSE_HANDSHAKE_MS;
use crate::shard::connection::connections::{Connection, Connections, Held, Phase, Ping};
use crate::shard::connection::progress::{Blocked, NEVER_MS, PROGRESS_MS};
use crate::shard::context::{Context, Shutdown};
use crate::shard::outbound::outbox::Finish;

impl Connection {
    /// It is to end after what is queued: a peer that was slow until now has another chance.
    pub(in crate::shard) fn begin_to_end(&mut self, now_ms: u64) {
        if self.blocked.is_blocked() {
            self.blocked.restart(now_ms);
        }
    }
}

impl Connections {
    /// The time that peers are measured by, in milliseconds.
    #[inline]
    pub(in crate::shard) fn peer_ms(&self, context: &Context) -> u64 {
        context.now.mono_ms.saturating_sub(self.forgiven_ms)
    }

    /// A connection's socket took that many bytes of what waits, or had no room.
    pub(in crate::shard) fn note_written(
        &mut self,
        id: ConnectionId,
        count: usize,
        context: &mut Context,
    ) {
        let now_ms = self.peer_ms(context);
        let connection = &mut self[id];
        connection.blocked.written(count, now_ms);
        if count == 0 {
            self.record_if_slow(id, context);
        }
        let connection = &mut self[id];
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
        let connection = &mut self[id];
        if let Phase::Http(http) = &mut connection.phase
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
        let connection = &mut self[id];
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
            _ if self.shutdown == Shutdown::Draining => blocked.ends_ms(CLOSE_HANDSHAKE_MS),
            _ => blocked.ends_ms(PROGRESS_MS),
        }
    }
}
