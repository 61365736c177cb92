//! Bytes of a connection, handed to whatever stage it is in.
//!
//! Bytes are used where they are: in the runtime's scratch buffer as long as nothing is left
//! over, in the connection's own buffer otherwise. What is held back stays there, in order.

use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
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

impl Channels {
    /// The peer will send no more.
    pub(in crate::shard) fn stream_ended(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if let Some(connection) = connections.get_mut(id) {
            connection.stream_ended = true;
            self.end_if_used(id, connections, context);
        }
    }

    /// The end of the stream is dealt with in its place: when what came before it has been used,
    /// and what other shards were asked for has been answered.
    fn end_if_used(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(connection) = connections.get_mut(id) else {
            return;
        };
        if !connection.stream_ended || connection.held.any() {
            return;
        }
        match &connection.phase {
            Phase::Open(_) if connection.awaited_messages > 0 => connection.held.add(Held::ANSWERS),
            _ => self.peer_ended(id, connections, context),
        }
    }

    /// A close frame is answered behind all that was asked for before it.
    fn close_received(
        &mut self,
        id: ConnectionId,
        code: CloseCode,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        match connections.get_mut(id) {
            Some(connection) if connection.awaited_messages > 0 => {
                connection.leaves_with = Some(code);
                connection.held.add(Held::ANSWERS);
            }
            _ => self.answer_close(id, code, connections, context),
        }
    }

    /// Counts something against the connection's message rate, in thousandths of a token. Returns
    /// whether that was allowed; the connection is closed if not.
    pub(in crate::shard) fn take_tokens(
        &mut self,
        id: ConnectionId,
        thousandths: u32,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        let stalled = connections.stalled;
        let Some(session) = connections.session_mut(id) else {
            return false;
        };
        let rate = session.message_rate(&context.config.limits);
        let bucket = &mut session.bucket;
        if bucket.is_older_than(stalled.until_ms) {
            bucket.carry_over(context.now.mono_ms, &rate, stalled.late_ms);
        }
        let is_allowed = bucket.try_take_thousandths(context.now.mono_ms, &rate, thousandths);
        if !is_allowed {
            context.metrics.counters.dropped.add(Dropped::MessageRate);
            let code = CloseCode::MESSAGE_RATE;
            self.close(id, code, code.reason(), connections, context);
        }
        is_allowed
    }

    /// One frame of a connection that the server has closed: only the peer's close matters.
    fn closing_step(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
        connections: &mut Connections,
        context: &mut Context,
    ) -> Option<usize> {
        let limits = context.message_limits();
        let whole = bytes.len();
        let Phase::Closing { decoder, .. } = &mut connections.get_mut(id)?.phase else {
            return None;
        };
        match decoder.decode(bytes, &limits) {
            Ok(Decoded::Incomplete { .. }) => None,
            Ok(Decoded::Item {
                consumed,
                item: Item::Close(close),
            }) => {
                let code = CloseCode::answer_to(close.as_ref());
                self.answer_close(id, code, connections, context);
                Some(consumed)
            }
            Ok(Decoded::Item { consumed, .. }) => Some(consumed),
            Err(_) => {
                connections.linger(id, context);
                Some(whole)
            }
        }
    }
}

impl Context {
    fn message_limits(&self) -> MessageLimits {
        MessageLimits {
            message_bytes_max: self.config.limits.message_bytes_max + ENVELOPE_BYTES_MAX,
        }
    }
}

impl Connections {
    fn answer_ping(&mut self, id: ConnectionId, payload: &[u8], context: &mut Context) {
        let mut pong = Vec::with_capacity(payload.len() + 2);
        append_frame(&mut pong, Opcode::Pong, payload);
        if let Some(connection) = self.get_mut(id) {
            connection.outbox.push_control(&pong);
            connection.mark_dirty(&mut context.effects);
        }
    }

    /// A connection waits from now on with what it has sent.
    fn begin_wait(&mut self, id: ConnectionId, context: &mut Context) {
        if let Some(session) = self.session_mut(id) {
            let rate = session.message_rate(&context.config.limits);
            session.bucket.touch(context.now.mono_ms, &rate);
        }
    }
}
