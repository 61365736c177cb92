//! What the runtime tells of sockets: accepted, written, closed.

use std::net::IpAddr;

use crate::ids::ConnectionId;
use crate::metrics::label::EndedBy;
use crate::shard::connection::connections::{Awaited, Connection, Held, Http, Phase, Ping};
use crate::shard::connection::ending::{Account, Failed};
use crate::shard::connection::input_buffer::InputBuffer;
use crate::shard::connection::progress::{Blocked, NEVER_MS};
use crate::shard::connection::unauthenticated::is_stranger;
use crate::shard::outbound::outbox::Outbox;
use crate::shard::state::Shard;

impl Shard {
    pub(in crate::shard) fn accepted(&mut self, id: ConnectionId, remote: IpAddr) {
        let now_ms = self.connections.peer_ms(&self.context);
        let deadline_ms = now_ms + self.context.config.limits.head_timeout_ms;
        self.connections.insert(Connection {
            id,
            remote,
            input: InputBuffer::default(),
            leaves_with: None,
            stream_ended: false,
            is_unreachable: false,
            outbox: Outbox::default(),
            phase: Phase::Http(Http::awaiting_request(
                deadline_ms,
                self.context.stamp_ns,
                false,
            )),
            received_ms: now_ms,
            awaited: Awaited::Since(now_ms),
            has_shown_credential: false,
            awaited_bytes: 0,
            awaited_messages: 0,
            ping: Ping::None,
            blocked: Blocked::default(),
            timer_ms: NEVER_MS,
            held: Held::default(),
            dirty: None,
            borrows: None,
            lent_bytes: 0,
            ended_by: EndedBy::HTTP,
            held_for: Held::default(),
            failed: Failed::No,
            account: Account::default(),
            ending: None,
        });
        self.context.metrics.counters.connections_opened += 1;
        self.stranger_accepted(id);
        self.connections.arm(id, &mut self.context);
    }

    /// The socket is gone.
    pub(in crate::shard) fn closed(&mut self, id: ConnectionId) {
        let why = self.connections.why_of_socket(id);
        self.channels
            .end_session(id, why, &mut self.connections, &mut self.context);
        self.rest.unread.forget(id);
        if let Some(connection) = self.connections.remove(id) {
            self.connections.forget_stranger(&connection);
            if connection.ended_by != EndedBy::HTTP {
                self.connections.websockets -= 1;
            }
            let closed = &mut self.context.metrics.counters.connections_closed;
            closed.add(connection.ended_by);
            self.context.record_closed(&connection);
        }
    }

    pub(in crate::shard) fn written(&mut self, id: ConnectionId, count: usize) {
        let Some(connection) = self.connections.get_mut(id) else {
            return; // It is gone: the driver may still hear of a socket that it has closed.
        };
        connection.account.bytes_out += count as u64;
        let is_watched = count == 0
            || connection.blocked.is_blocked()
            || matches!(connection.ping, Ping::Queued);
        if connection.outbox.is_empty() {
            self.channels
                .borrowed_written(id, count, &mut self.connections, &mut self.context);
            if is_watched {
                self.connections.note_written(id, count, &mut self.context);
            }
            return;
        }
        connection.outbox.advance(count, &mut self.context.pool);
        if !self.rest.unread.is_empty() {
            let bytes = connection.outbox.reply_bytes();
            self.rest.unread.lower(id, bytes);
        }
        if !connection.is_behind() {
            self.connections.release_input(id, Held::REPLIES);
        }
        if is_watched {
            self.connections.note_written(id, count, &mut self.context);
        }
        self.channels.joins_written(
            id,
            self.context.now.mono_ms,
            &mut self.connections,
            &mut self.context,
        );
    }

    /// A connection was accepted that has shown nothing yet.
    fn stranger_accepted(&mut self, id: ConnectionId) {
        let strangers = &mut self.connections.unauthenticated;
        strangers.count += 1;
        strangers.oldest.push_back(id);
        if strangers.oldest.len() > strangers.count + STALE_ENTRIES_MAX {
            let mut oldest = std::mem::take(&mut strangers.oldest);
            oldest.retain(|id| self.connections.get(*id).is_some_and(is_stranger));
            self.connections.unauthenticated.oldest = oldest;
        }
        if !self.accepts() {
            self.connections.make_room(&mut self.context);
        }
    }
}

/// How many entries may be of connections that have ended, or shown a credential, until they are
/// taken out.
const STALE_ENTRIES_MAX: usize = 1_024;
