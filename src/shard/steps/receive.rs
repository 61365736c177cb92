//! Bytes of a connection, handed to whatever phase it is in.
//!
//! Bytes are used where they are: in the runtime's scratch buffer as long as nothing is left
//! over, in the connection's own buffer otherwise. What is held back stays there, in order.

use std::borrow::Cow;

use crate::ids::ConnectionId;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::message::{Decoded, Item};
use crate::shard::channel::back_pressure::unread;
use crate::shard::connection::connections::{Held, Phase, Ping};
use crate::shard::state::Shard;

/// What a control frame or a fragment costs of a message's token: an eighth.
const FRAME_THOUSANDTHS: u32 = 125;

impl Shard {
    pub(in crate::shard) fn received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        let now_ms = self.connections.peer_ms(&self.context);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.received_ms = now_ms;
        let ready = connection.input.is_empty() && !connection.held.any();
        if std::mem::take(&mut connection.ping) != Ping::None {
            // The next ping is due before the deadline that this one had.
            self.connections.arm(id, &mut self.context);
        }
        if ready {
            let used = self.consume(id, bytes);
            let Some(connection) = self.connections.get_mut(id) else {
                return;
            };
            if used < bytes.len() {
                connection.input.append(&bytes[used..]);
            }
        } else if let Some(connection) = self.connections.get_mut(id) {
            connection.input.append(bytes);
            self.resume_buffered(id);
        }
    }

    /// Goes on with input that was held back, then lets the socket be read again.
    pub(in crate::shard) fn resume_input(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.held.remove(Held::RESUMING);
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
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.held.any() || connection.input.is_empty() {
            return;
        }
        let mut input = std::mem::take(&mut connection.input);
        let used = self.consume(id, input.waiting());
        input.consume(used);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.input = input;
        }
    }

    /// Uses as many bytes from the front as make whole units. Returns how many.
    pub(in crate::shard) fn consume(&mut self, id: ConnectionId, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &mut bytes[used..];
            let Some(connection) = self.connections.get_mut(id) else {
                return bytes.len();
            };
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
        let session = self.connections.session_mut(id)?;
        let (consumed, item) = match session.decoder.decode(bytes, &limits) {
            Ok(Decoded::Incomplete { .. }) => return None,
            Ok(Decoded::Item { consumed, item }) => (consumed, item),
            Err(fault) => {
                self.channels.close_broken(
                    id,
                    fault.code(),
                    fault.reason(),
                    &mut self.connections,
                    &mut self.context,
                );
                return Some(whole);
            }
        };
        match item {
            // Who sends a message in pieces is held back behind it.
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
