//! Bytes of a connection, handed to whatever stage it is in.
//!
//! Bytes are used where they are: in the runtime's scratch buffer as long as nothing is left
//! over, in the connection's own buffer otherwise. What is held back stays there, in order.

use std::borrow::Cow;

use crate::ids::ConnectionId;
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::metrics::label::Dropped;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::frame::{Opcode, append_frame};
use crate::proto::ws::message::{Decoded, Item, MessageLimits};
use crate::shard::channel::back_pressure::unread;
use crate::shard::connection::connections::{Held, Phase, Ping};
use crate::shard::state::Shard;

/// What a control frame or a fragment costs of a message's token: an eighth.
const FRAME_THOUSANDTHS: u32 = 125;

impl Shard {
    pub(in crate::shard) fn received(&mut self, id: ConnectionId, bytes: &mut [u8]) {
        let now_ms = self.peer_ms();
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.received_ms = now_ms;
        let ready = connection.input.is_empty() && !connection.held.any();
        if std::mem::take(&mut connection.ping) != Ping::None {
            // The next ping is due before the deadline that this one had.
            self.arm(id);
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
                self.answer_close(id, code);
            }
        }
        self.resume_buffered(id);
        self.await_input(id);
        self.end_if_used(id);
        if self.wants_input(id) {
            self.context.effects.readable.push(id);
        }
    }

    /// The peer will send no more.
    pub(in crate::shard) fn stream_ended(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.stream_ended = true;
            self.end_if_used(id);
        }
    }

    /// The end of the stream is dealt with in its place: when what came before it has been used,
    /// and what other shards were asked for has been answered.
    fn end_if_used(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if !connection.stream_ended || connection.held.any() {
            return;
        }
        match &connection.phase {
            Phase::Open(_) if connection.awaited_messages > 0 => connection.held.add(Held::ANSWERS),
            _ => self.peer_ended(id),
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

    /// Uses as many bytes from the front as make whole units. Answers how many.
    fn consume(&mut self, id: ConnectionId, bytes: &mut [u8]) -> usize {
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
                Phase::Closing { .. } => self.closing_step(id, rest),
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

    fn message_limits(&self) -> MessageLimits {
        MessageLimits {
            message_bytes_max: self.context.config.limits.message_bytes_max + ENVELOPE_BYTES_MAX,
        }
    }

    /// One frame of an open connection.
    fn message_step(&mut self, id: ConnectionId, bytes: &mut [u8]) -> Option<usize> {
        self.watch_links();
        let limits = self.message_limits();
        let whole = bytes.len();
        let session = self.connections.session_mut(id)?;
        let (consumed, item) = match session.decoder.decode(bytes, &limits) {
            Ok(Decoded::Incomplete { .. }) => return None,
            Ok(Decoded::Item { consumed, item }) => (consumed, item),
            Err(fault) => {
                self.close_broken(id, fault.code(), fault.reason());
                return Some(whole);
            }
        };
        match item {
            // Who sends a message in pieces is held back behind it.
            Item::Text(Cow::Borrowed(text)) if self.must_wait(id, text) => {
                unread(bytes);
                self.begin_wait(id);
                return Some(0);
            }
            Item::Text(text) => self.message(id, &text),
            Item::Ping(payload) => {
                if self.take_tokens(id, FRAME_THOUSANDTHS) {
                    self.answer_ping(id, payload);
                }
            }
            Item::Close(close) => {
                let code = CloseCode::answer_to(close.as_ref());
                self.close_received(id, code);
            }
            Item::Pong | Item::Continuation => {
                self.take_tokens(id, FRAME_THOUSANDTHS);
            }
        }
        self.settle();
        self.hold_if_link_blocked(id);
        self.hold_if_unread(id);
        Some(consumed)
    }

    /// A close frame is answered behind all that was asked for before it.
    fn close_received(&mut self, id: ConnectionId, code: CloseCode) {
        match self.connections.get_mut(id) {
            Some(connection) if connection.awaited_messages > 0 => {
                connection.leaves_with = Some(code);
                connection.held.add(Held::ANSWERS);
            }
            _ => self.answer_close(id, code),
        }
    }

    fn answer_ping(&mut self, id: ConnectionId, payload: &[u8]) {
        let mut pong = Vec::with_capacity(payload.len() + 2);
        append_frame(&mut pong, Opcode::Pong, payload);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.outbox.push_control(&pong);
            connection.mark_dirty(&mut self.context.effects);
        }
    }

    /// A connection waits from now on with what it has sent.
    fn begin_wait(&mut self, id: ConnectionId) {
        if let Some(session) = self.connections.session_mut(id) {
            let rate = session.message_rate(&self.context.config.limits);
            session.bucket.touch(self.context.now.mono_ms, &rate);
        }
    }

    /// Counts something against the connection's message rate, in thousandths of a token. Returns
    /// whether that was allowed; the connection is closed if not.
    pub(in crate::shard) fn take_tokens(&mut self, id: ConnectionId, thousandths: u32) -> bool {
        let Some(session) = self.connections.session_mut(id) else {
            return false;
        };
        let rate = session.message_rate(&self.context.config.limits);
        let bucket = &mut session.bucket;
        if bucket.is_older_than(self.stalled.until_ms) {
            bucket.carry_over(self.context.now.mono_ms, &rate, self.stalled.late_ms);
        }
        let is_allowed = bucket.try_take_thousandths(self.context.now.mono_ms, &rate, thousandths);
        if !is_allowed {
            self.context
                .metrics
                .counters
                .dropped
                .add(Dropped::MessageRate);
            let code = CloseCode::MESSAGE_RATE;
            self.close(id, code, code.reason());
        }
        is_allowed
    }

    /// One frame of a connection that the server has closed: only the peer's close matters.
    fn closing_step(&mut self, id: ConnectionId, bytes: &mut [u8]) -> Option<usize> {
        let limits = self.message_limits();
        let whole = bytes.len();
        let Phase::Closing { decoder, .. } = &mut self.connections.get_mut(id)?.phase else {
            return None;
        };
        match decoder.decode(bytes, &limits) {
            Ok(Decoded::Incomplete { .. }) => None,
            Ok(Decoded::Item {
                consumed,
                item: Item::Close(close),
            }) => {
                let code = CloseCode::answer_to(close.as_ref());
                self.answer_close(id, code);
                Some(consumed)
            }
            Ok(Decoded::Item { consumed, .. }) => Some(consumed),
            Err(_) => {
                self.linger(id);
                Some(whole)
            }
        }
    }
}
