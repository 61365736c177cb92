//! Bytes of a connection, handed to whatever stage it is in.
//!
//! Bytes are used where they are: in the runtime's scratch buffer as long as nothing is left
//! over, in the connection's own buffer otherwise. What is held back stays there, in order.

use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::proto::ws::frame::{Opcode, append_frame};
use crate::proto::ws::message::{Decoded, Item, MessageLimits};
use crate::shard::connections::{Held, Stage};
use crate::shard::effect::Effects;
use crate::shard::state::Shard;

/// Joins of one connection that may be under way at a time.
const JOINS_UNDER_WAY_MAX: usize = 8;

impl Shard {
    pub(in crate::shard) fn received(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.received_ms = now.mono_ms;
        let ready = connection.input.is_empty() && !connection.held.any();
        if let Stage::Open(session) = &mut connection.stage
            && std::mem::take(&mut session.pinged)
        {
            // The next ping is due before the deadline that this one had.
            self.arm(id);
        }
        if ready {
            let used = self.consume(id, bytes, now, effects);
            let Some(connection) = self.connections.get_mut(id) else {
                return;
            };
            connection.input.extend_from_slice(&bytes[used..]);
        } else if let Some(connection) = self.connections.get_mut(id) {
            connection.input.extend_from_slice(bytes);
            self.resume_buffered(id, now, effects);
        }
    }

    /// Goes on with input that was held back, then lets the socket be read again.
    pub(in crate::shard) fn resume_input(
        &mut self,
        id: ConnectionId,
        now: Now,
        effects: &mut Effects,
    ) {
        self.resume_buffered(id, now, effects);
        if self.wants_input(id) {
            effects.readable.push(id);
        }
    }

    fn resume_buffered(&mut self, id: ConnectionId, now: Now, effects: &mut Effects) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.held.any() || connection.input.is_empty() {
            return;
        }
        let mut input = std::mem::take(&mut connection.input);
        let used = self.consume(id, &mut input, now, effects);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if used < input.len() {
            input.drain(..used);
            connection.input = input;
        }
    }

    /// Uses as many bytes from the front as make whole units. Answers how many.
    fn consume(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
        now: Now,
        effects: &mut Effects,
    ) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &mut bytes[used..];
            let Some(connection) = self.connections.get_mut(id) else {
                return bytes.len();
            };
            if connection.held.any() {
                break;
            }
            let step = match connection.stage {
                Stage::Http(_) => self.http_step(id, rest, now, effects),
                Stage::Open(_) => self.message_step(id, rest, now, effects),
                Stage::Closing { .. } => self.closing_step(id, rest, now, effects),
                Stage::Registering(_) => None,
                Stage::Lingering { .. } => Some(rest.len()),
            };
            match step {
                Some(count) => used += count,
                None => break,
            }
        }
        used
    }

    /// Holds input back while many joins are under way: each will be answered by a snapshot of
    /// up to a frame's size.
    fn hold_if_joining(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && let Stage::Open(session) = &connection.stage
            && let Some(joining) = &session.joining
            && joining.channels.len() >= JOINS_UNDER_WAY_MAX
        {
            connection.held.add(Held::JOINS);
        }
    }

    fn message_limits(&self) -> MessageLimits {
        MessageLimits {
            message_bytes_max: self.config.limits.message_bytes_max + ENVELOPE_BYTES_MAX,
        }
    }

    /// One frame of an open connection.
    fn message_step(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
        now: Now,
        effects: &mut Effects,
    ) -> Option<usize> {
        self.watch_links();
        let limits = self.message_limits();
        let whole = bytes.len();
        let session = self.connections.session_mut(id)?;
        let (consumed, item) = match session.decoder.decode(bytes, &limits) {
            Ok(Decoded::Incomplete { .. }) => return None,
            Ok(Decoded::Item { consumed, item }) => (consumed, item),
            Err(fault) => {
                self.close_broken(id, fault.code(), fault.reason(), now, effects);
                return Some(whole);
            }
        };
        match item {
            Item::Text(text) => self.message(id, &text, now, effects),
            Item::Ping(payload) => {
                let mut pong = Vec::with_capacity(payload.len() + 2);
                append_frame(&mut pong, Opcode::Pong, payload);
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.outbox.push_control(&pong);
                    connection.mark_dirty(effects);
                }
            }
            Item::Close(close) => self.answer_close(id, close.as_ref(), effects),
            Item::Pong | Item::Continuation => {}
        }
        self.settle(now, effects);
        self.hold_if_link_blocked(id);
        self.hold_if_joining(id);
        self.hold_if_unread(id);
        Some(consumed)
    }

    /// One frame of a connection that the server has closed: only the peer's close matters.
    fn closing_step(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
        now: Now,
        effects: &mut Effects,
    ) -> Option<usize> {
        let limits = self.message_limits();
        let whole = bytes.len();
        let Stage::Closing { decoder, .. } = &mut self.connections.get_mut(id)?.stage else {
            return None;
        };
        match decoder.decode(bytes, &limits) {
            Ok(Decoded::Incomplete { .. }) => None,
            Ok(Decoded::Item {
                consumed,
                item: Item::Close(close),
            }) => {
                self.answer_close(id, close.as_ref(), effects);
                Some(consumed)
            }
            Ok(Decoded::Item { consumed, .. }) => Some(consumed),
            Err(_) => {
                self.linger(id, now, effects);
                Some(whole)
            }
        }
    }
}
