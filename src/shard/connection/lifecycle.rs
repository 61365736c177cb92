//! From accept to the end of the socket.

use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use std::net::IpAddr;

use crate::domain::peer::{SharedChannel, SharedPeer};
use crate::ids::ConnectionId;
use crate::metrics::label::{Dropped, EndedBy};
use crate::proto::ws::close::{CloseCode, CloseFrame};
use crate::proto::ws::frame::append_close;
use crate::proto::ws::message::Decoder;
use crate::shard::connection::connections::{Awaited, Connection, Held, Http, Phase, Ping};
use crate::shard::connection::input_buffer::InputBuffer;
use crate::shard::deadlines::{Blocked, NEVER_MS};
use crate::shard::mesh_message::{Leave, LeaveCause, MeshMessage, Unregister};
use crate::shard::outbound::outbox::{Class, Finish, Outbox};
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
        });
        self.context.metrics.counters.connections_opened += 1;
        self.stranger_accepted(id);
        self.connections.arm(id, &mut self.context);
    }

    /// The socket is gone.
    pub(in crate::shard) fn closed(&mut self, id: ConnectionId) {
        self.channels
            .end_session(id, &mut self.connections, &mut self.context);
        self.rest.unread.forget(id);
        if let Some(connection) = self.connections.remove(id) {
            self.connections.forget_stranger(&connection);
            let closed = &mut self.context.metrics.counters.connections_closed;
            closed.add(connection.ended_by);
        }
    }

    pub(in crate::shard) fn written(&mut self, id: ConnectionId, count: usize) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
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
}

impl Connections {
    /// The peer is a proxy: another address is its client's.
    pub(in crate::shard) fn proxied(&mut self, id: ConnectionId, client: IpAddr) {
        if let Some(connection) = self.get_mut(id) {
            connection.remote = client;
        }
    }

    /// Ends writing behind what is queued and waits for the peer to end the stream too.
    pub(in crate::shard) fn linger(&mut self, id: ConnectionId, context: &mut Context) {
        let now_ms = self.peer_ms(context);
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        connection.input = InputBuffer::default();
        connection.phase = Phase::Lingering { until_ms: NEVER_MS };
        connection.begin_to_end(now_ms);
        connection.outbox.finish(Finish::ShutdownWrite);
        connection.mark_dirty(&mut context.effects);
        self.release_input(id, Held::ALL);
        self.arm(id, context);
    }
}

impl Channels {
    /// The peer has ended the stream, and all that came before it has been used: what is queued
    /// is written as far as it still reads.
    pub(in crate::shard) fn peer_ended(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.end_session(id, connections, context);
        let now_ms = connections.peer_ms(context);
        if let Some(connection) = connections.get_mut(id) {
            connection.input = InputBuffer::default();
            connection.phase = Phase::Lingering { until_ms: NEVER_MS };
            connection.outbox.finish(Finish::Close);
            connection.begin_to_end(now_ms);
            connection.mark_dirty(&mut context.effects);
            connections.arm(id, context);
        }
    }

    /// Ends the authenticated life of a connection, if it has begun: it is gone from its
    /// channels and from its peer. Its socket and outbox live on.
    pub(in crate::shard) fn end_session(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(connection) = connections.get_mut(id) else {
            return;
        };
        let ended = Phase::Lingering { until_ms: NEVER_MS };
        let session = match std::mem::replace(&mut connection.phase, ended) {
            Phase::Open(session) | Phase::Registering(session) => session,
            other => {
                connection.phase = other;
                return;
            }
        };
        session.key.app.gauges.disconnect();
        for membership in &session.memberships {
            if let Some(channel) = self.get(membership.channel) {
                let channel = channel.key.clone();
                context.leave_silently(id, session.peer.clone(), channel);
            }
            self.vacate(*membership, connections, context);
        }
        if let Some(connection) = connections.get_mut(id) {
            // With its memberships every loan has ended; the socket could not be closed with one.
            debug_assert!(connection.borrows.is_none(), "lent without a membership");
            connection.borrows = None;
        }
        for asked in session.joining.iter().flat_map(|joining| &joining.asked) {
            context.questions.take(asked.ticket);
            context.leave_silently(id, session.peer.clone(), asked.channel.clone());
        }
        let unregister = Unregister {
            app: session.key.app.index,
            peer: session.peer.clone(),
            connection: context.here(id),
        };
        let placement = &context.placement;
        let owner = placement.peer_owner(unregister.app, unregister.peer.id.as_str());
        context.send(owner, MeshMessage::Unregister(Box::new(unregister)));
    }

    /// Closes a WebSocket connection at the server's wish: the session ends now, the close
    /// frame leaves behind what is queued, the peer's answer is awaited.
    pub(in crate::shard) fn close(
        &mut self,
        id: ConnectionId,
        code: CloseCode,
        reason: &str,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.end_session(id, connections, context);
        let now_ms = connections.peer_ms(context);
        let Some(connection) = connections.get_mut(id) else {
            return;
        };
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
            decoder: Decoder::server(),
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
        code: CloseCode,
        reason: &str,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.close(id, code, reason, connections, context);
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
            self.end_session(id, connections, context);
            if let Some(connection) = connections.get_mut(id) {
                connection.outbox.discard_unstarted(&mut context.pool);
            }
            let code = CloseCode::TRY_AGAIN_LATER;
            self.close(id, code, code.reason(), connections, context);
        }
    }

    /// Replies to the peer's close frame; the connection is closed behind the answer.
    pub(in crate::shard) fn answer_close(
        &mut self,
        id: ConnectionId,
        code: CloseCode,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let answer_due = connections
            .get(id)
            .is_some_and(|it| matches!(it.phase, Phase::Open(_)));
        self.end_session(id, connections, context);
        let now_ms = connections.peer_ms(context);
        let Some(connection) = connections.get_mut(id) else {
            return;
        };
        if answer_due {
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
}

impl Context {
    /// Tells the owner of a channel that a connection is not in it any more; nobody waits for
    /// that.
    pub(in crate::shard) fn leave_silently(
        &mut self,
        id: ConnectionId,
        peer: SharedPeer,
        channel: SharedChannel,
    ) {
        let owner = self.placement.owner(channel.hash);
        let leave = Leave {
            channel,
            connection: self.here(id),
            peer,
            cause: LeaveCause::Ended,
        };
        self.send(owner, MeshMessage::Leave(Box::new(leave)));
    }
}
