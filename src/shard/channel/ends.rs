//! The end of a session: its memberships are given up, and its last frames are queued.

use crate::domain::token_bucket::TOKEN_THOUSANDTHS;
use crate::events::kind::Cause;
use crate::ids::ConnectionId;
use crate::metrics::label::{Dropped, EndedBy};
use crate::planted::{Bug, planted};
use crate::proto::ws::close::{CloseCode, CloseFrame};
use crate::proto::ws::frame::append_close;
use crate::proto::ws::message::{Decoded, Decoder, Item};
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Held, Phase};
use crate::shard::connection::ending::{Goodbye, Why};
use crate::shard::connection::input_buffer::InputBuffer;
use crate::shard::connection::progress::NEVER_MS;
use crate::shard::context::Context;
use crate::shard::mesh_message::{LeaveCause, MeshMessage, Unregister};
use crate::shard::outbound::outbox::{Class, Finish};

impl Channels {
    /// The peer has ended the stream, and all that came before it has been used: what is queued
    /// is written as far as it still reads.
    fn peer_ended(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let why = connections.why_of_end(id);
        self.end_session(id, why, connections, context);
        let now_ms = connections.peer_ms(context);
        let connection = &mut connections[id];
        connection.input = InputBuffer::default();
        connection.phase = Phase::Lingering { until_ms: NEVER_MS };
        connection.outbox.finish(Finish::Close);
        connection.begin_to_end(now_ms);
        connection.mark_dirty(&mut context.effects);
        connections.arm(id, context);
    }

    /// Ends the authenticated life of a connection, if it has begun: it is gone from its
    /// channels and from its peer. Its socket and outbox live on.
    pub(in crate::shard) fn end_session(
        &mut self,
        id: ConnectionId,
        why: Why,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let was_opened = connections.begin_ending(id, why, context);
        let Some(mut session) = connections.take_session(id) else {
            return;
        };
        if was_opened || !planted(Bug::CountLeaked) {
            session.give_up_place();
        }
        let leaves = || match why.cause {
            Cause::Drain => LeaveCause::Drained,
            _ => LeaveCause::Ended,
        };
        for (at, membership) in session.memberships.iter().enumerate() {
            if let Some(channel) = self.get(membership.channel)
                && !(planted(Bug::MembershipLeaked) && at > 0)
            {
                let channel = channel.key.clone();
                context.leave_silently(id, session.peer.clone(), channel, leaves());
            }
            self.vacate(*membership, connections, context);
        }
        // With its memberships every loan has ended; the socket could not be closed with one.
        let connection = &mut connections[id];
        if !planted(Bug::LoanOutlivesSession) {
            debug_assert!(connection.borrows.is_none(), "lent without a membership");
            connection.borrows = None;
        }
        for asked in session.joining.iter().flat_map(|joining| &joining.asked) {
            context.questions.take(asked.ticket);
            let channel = asked.channel.clone();
            context.leave_silently(id, session.peer.clone(), channel, leaves());
        }
        let unregister = Unregister {
            app: session.key.app.id.tag(),
            peer: session.peer.clone(),
            connection: context.here(id),
        };
        let placement = &context.placement;
        let owner = placement.peer_owner(unregister.app, unregister.peer.id.as_str());
        context.send(owner, MeshMessage::Unregister(Box::new(unregister)));
        // Last: a join of this connection may be among what was kept. Its question is gone by now.
        for membership in &session.memberships {
            self.let_go(membership.channel, connections, context);
        }
    }

    /// Closes a WebSocket connection at the server's wish. The session ends now, the close frame
    /// follows what is queued, and the peer's answer is awaited.
    pub(in crate::shard) fn close(
        &mut self,
        id: ConnectionId,
        goodbye: &Goodbye<'_>,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Goodbye { code, reason, .. } = *goodbye;
        // The peer may be in the middle of a frame, or of a message in pieces.
        let session = connections.session_mut(id);
        let decoder = session.map(|it| std::mem::replace(&mut it.decoder, Decoder::server()));
        self.end_session(id, goodbye.why(), connections, context);
        let now_ms = connections.peer_ms(context);
        let connection = &mut connections[id];
        if let Phase::Closing { .. } = connection.phase {
            return;
        }
        let mut frame = Vec::with_capacity(64);
        append_close(&mut frame, &CloseFrame { code, reason });
        connection
            .outbox
            .push(Class::Reply, &frame, &mut context.pool);
        connection.ended_by = EndedBy::server(code.get());
        connection.phase = Phase::Closing {
            decoder: decoder.unwrap_or_else(Decoder::server),
            until_ms: NEVER_MS,
        };
        connection.begin_to_end(now_ms);
        connection.mark_dirty(&mut context.effects);
        connections.release_input(id, Held::ALL);
        connections.arm(id, context);
    }

    /// Closes a connection whose bytes can no longer be understood: what follows is not read,
    /// only the end of the stream is awaited.
    pub(in crate::shard) fn close_broken(
        &mut self,
        id: ConnectionId,
        goodbye: &Goodbye<'_>,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.close(id, goodbye, connections, context);
        connections.linger(id, context);
    }

    pub(in crate::shard) fn close_slow_consumer(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if let Some(connection) = connections.get(id)
            && let Phase::Open(_) = connection.phase
        {
            tracing::debug!(remote = %connection.remote, "slow consumer closed");
            context.metrics.counters.dropped.add(Dropped::SlowConsumer);
            let goodbye = Goodbye::of(Cause::SlowConsumer, CloseCode::TRY_AGAIN_LATER);
            self.end_session(id, goodbye.why(), connections, context);
            let outbox = &mut connections[id].outbox;
            outbox.discard_unstarted(&mut context.pool);
            self.close(id, &goodbye, connections, context);
        }
    }

    /// Answers the peer's close frame. The connection is closed after the answer.
    pub(in crate::shard) fn answer_close(
        &mut self,
        id: ConnectionId,
        code: CloseCode,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let is_answer_due = connections[id].session().is_some();
        self.end_session(id, Why::client(code), connections, context);
        let now_ms = connections.peer_ms(context);
        let connection = &mut connections[id];
        if is_answer_due {
            connection.ended_by = EndedBy::client(code.get());
            let mut frame = Vec::with_capacity(8);
            append_close(&mut frame, &CloseFrame { code, reason: "" });
            connection
                .outbox
                .push(Class::Reply, &frame, &mut context.pool);
        }
        connection.phase = Phase::Lingering { until_ms: NEVER_MS };
        connection.outbox.finish(Finish::Close);
        connection.begin_to_end(now_ms);
        connection.mark_dirty(&mut context.effects);
        connections.arm(id, context);
    }

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
    pub(in crate::shard) fn end_if_used(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let connection = &mut connections[id];
        if !connection.stream_ended || connection.held.any() {
            return;
        }
        match &connection.phase {
            Phase::Open(_) if connection.awaited_messages > 0 => connection.held.add(Held::ANSWERS),
            _ => self.peer_ended(id, connections, context),
        }
    }

    /// The peer has sent a close frame: it is answered after all that was asked for before it.
    pub(in crate::shard) fn close_received(
        &mut self,
        id: ConnectionId,
        code: CloseCode,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let connection = &mut connections[id];
        if connection.awaited_messages > 0 {
            connection.leaves_with = Some(code);
            connection.held.add(Held::ANSWERS);
        } else {
            self.answer_close(id, code, connections, context);
        }
    }

    /// Counts something against the connection's message rate, in thousandths of a token. Returns
    /// whether that was allowed. If not, the connection is closed now, or was before, for its
    /// rights.
    pub(in crate::shard) fn take_tokens(
        &mut self,
        id: ConnectionId,
        thousandths: u32,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        let stalled = connections.stalled;
        let Some(connection) = connections.get_mut(id) else {
            return false;
        };
        let messages_in = &mut connection.account.messages_in;
        *messages_in = messages_in.saturating_add((thousandths == TOKEN_THOUSANDTHS).into());
        let Some(session) = connection.session_mut() else {
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
            let goodbye = Goodbye::of(Cause::MessageRate, CloseCode::MESSAGE_RATE);
            self.close(id, &goodbye, connections, context);
        }
        is_allowed
    }

    /// One frame of a connection that the server has closed: only the peer's close matters.
    pub(in crate::shard) fn closing_step(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
        connections: &mut Connections,
        context: &mut Context,
    ) -> Option<usize> {
        let limits = context.message_limits();
        let whole = bytes.len();
        let Phase::Closing { decoder, .. } = &mut connections[id].phase else {
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
