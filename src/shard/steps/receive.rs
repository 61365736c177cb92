//! Bytes of a connection, handed to whatever phase it is in.
//!
//! Bytes are used where they are: in the runtime's scratch buffer as long as nothing is left
//! over, in the connection's own buffer otherwise. What is held back stays there, in order.

use std::borrow::Cow;

use crate::events::kind::Cause;
use crate::ids::ConnectionId;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::message::{Decoded, Item};
use crate::shard::channel::back_pressure::unread;
use crate::shard::connection::connections::{Held, Phase, Ping};
use crate::shard::connection::ending::Goodbye;
use crate::shard::state::Shard;

/// What a control frame or a fragment costs of a message's token: an eighth.
const FRAME_THOUSANDTHS: u32 = 125;

/// What a peer has done for which its connection is closed with that code.
fn cause_of(code: CloseCode) -> Cause {
    match code {
        CloseCode::UNSUPPORTED_DATA => Cause::Binary,
        CloseCode::INVALID_PAYLOAD_DATA => Cause::BadUtf8,
        CloseCode::MESSAGE_TOO_BIG => Cause::TooBig,
        _ => Cause::ProtocolError,
    }
}

impl Shard {
    pub(in crate::shard) fn received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        let now_ms = self.connections.peer_ms(&self.context);
        let Some(connection) = self.connections.get_mut(id) else {
            return; // It is gone, see `Input`.
        };
        connection.received_ms = now_ms;
        connection.account.bytes_in += bytes.len() as u64;
        let ready = connection.input.is_empty() && !connection.held.any();
        let is_frozen = self.context.is_frozen;
        if std::mem::take(&mut connection.ping) != Ping::None {
            // The next ping is due before the deadline that this one had.
            self.connections.arm(id, &mut self.context);
        }
        if is_frozen {
            self.connections[id].input.append(bytes);
            self.connections.resume_later(id);
        } else if ready {
            let used = self.consume(id, bytes);
            if used < bytes.len() {
                self.connections[id].input.append(&bytes[used..]);
            }
        } else {
            self.connections[id].input.append(bytes);
            self.resume_buffered(id);
        }
    }

    /// Goes on with input that was held back, then lets the socket be read again.
    pub(in crate::shard) fn resume_input(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return; // It was closed while it stood in the list.
        };
        connection.held.remove(Held::RESUMING);
        self.connections.record_held(id, &mut self.context);
        self.channels
            .refresh_awaited(id, &mut self.connections, &mut self.context);
        let connection = &mut self.connections[id];
        if let Phase::Open(session) = &mut connection.phase {
            // What came while nobody read comes at once now.
            let rate = session.message_rate(&self.context.config.limits);
            session
                .bucket
                .carry_over(self.context.now.mono_ms, &rate, u64::MAX);
        }
        if !connection.held.any()
            && let Some(code) = connection.leaves_with.take()
        {
            self.channels
                .answer_close(id, code, &mut self.connections, &mut self.context);
        }
        self.resume_buffered(id);
        self.connections.await_input(id, &mut self.context);
        self.channels
            .end_if_used(id, &mut self.connections, &mut self.context);
        if self.wants_input(id) {
            self.context.effects.readable.push(id);
        }
    }

    fn resume_buffered(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        if connection.held.any() || connection.input.is_empty() {
            return;
        }
        let mut input = std::mem::take(&mut connection.input);
        let used = self.consume(id, input.waiting());
        input.consume(used);
        self.connections[id].input = input;
    }

    /// Uses as many bytes from the front as make whole units. Returns how many.
    pub(in crate::shard) fn consume(&mut self, id: ConnectionId, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &mut bytes[used..];
            let connection = &self.connections[id];
            if connection.held.any() {
                break;
            }
            let step = match connection.phase {
                Phase::Http(_) => self.http_step(id, rest),
                Phase::Open(_) => self.message_step(id, rest),
                Phase::Closing { .. } => {
                    self.channels
                        .closing_step(id, rest, &mut self.connections, &mut self.context)
                }
                Phase::Registering(_) => None,
                Phase::Lingering { .. } => Some(rest.len()),
            };
            match step {
                Some(count) => used += count,
                None => break,
            }
        }
        used
    }

    /// One frame of an open connection.
    fn message_step(&mut self, id: ConnectionId, bytes: &mut [u8]) -> Option<usize> {
        self.channels.watch_links(&mut self.context);
        let limits = self.context.message_limits();
        let whole = bytes.len();
        let session = self.connections.open_mut(id)?;
        let (consumed, item) = match session.decoder.decode(bytes, &limits) {
            Ok(Decoded::Incomplete { .. }) => return None,
            Ok(Decoded::Item { consumed, item }) => (consumed, item),
            Err(fault) => {
                let goodbye = Goodbye {
                    reason: fault.reason(),
                    ..Goodbye::of(cause_of(fault.code()), fault.code())
                };
                self.channels
                    .close_broken(id, &goodbye, &mut self.connections, &mut self.context);
                return Some(whole);
            }
        };
        match item {
            // A peer that sends a message in pieces is held back after it.
            Item::Text(Cow::Borrowed(text))
                if self
                    .channels
                    .must_wait(id, text, &mut self.connections, &mut self.context) =>
            {
                unread(bytes);
                self.connections.begin_wait(id, &mut self.context);
                return Some(0);
            }
            Item::Text(text) => self.message(id, &text),
            Item::Binary(bytes) => self.binary_message(id, &bytes),
            Item::Ping(payload) => {
                if self.channels.take_tokens(
                    id,
                    FRAME_THOUSANDTHS,
                    &mut self.connections,
                    &mut self.context,
                ) {
                    self.connections.answer_ping(id, payload, &mut self.context);
                }
            }
            Item::Close(close) => {
                let code = CloseCode::answer_to(close.as_ref());
                self.channels
                    .close_received(id, code, &mut self.connections, &mut self.context);
            }
            Item::Pong | Item::Continuation => {
                self.channels.take_tokens(
                    id,
                    FRAME_THOUSANDTHS,
                    &mut self.connections,
                    &mut self.context,
                );
            }
        }
        self.settle();
        self.channels
            .hold_if_link_blocked(id, &mut self.connections, &mut self.context);
        self.connections.hold_if_unread(id);
        Some(consumed)
    }
}
