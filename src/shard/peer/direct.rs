//! Direct messages, and the registry of peers that finds their receivers.
//!
//! A `send` goes from the sender's home to the owner of the receiving peer, from there to every
//! home where that peer has connections, and from each of those a result goes back to the
//! sender's home, which acks when the first part was delivered and answers `peer_not_found`
//! when none was. Where the app asks for a common channel, `shard/peer/scope.rs` comes first.
//! Where all of these are one shard, the message takes its way at once and nobody is asked.

use std::sync::Arc;

use crate::domain::app_id::AppTag;
use crate::domain::peers::ByHome;
use crate::events::feed::FeedKind;
use crate::ids::{ConnectionId, ConnectionRef, Seat};
use crate::proto::actions::Action;
use crate::proto::wire::error::ErrorCode;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use crate::shard::frame::Frame;
use crate::shard::mesh_message::{Direct, DirectResult, Homes, MeshMessage, Register, Send};
use crate::shard::outbound::encode;
use crate::shard::outbound::outbox::{Piece, SHARED_BYTES_MIN};
use crate::shard::peer::peers::Peers;
use crate::shard::questions::{Asked, PendingSend, Question};

impl Peers {
    pub(in crate::shard) fn peer_register(&mut self, register: &Register, context: &mut Context) {
        let app = register.app;
        if self
            .registry
            .register(app, &register.peer, register.connection)
        {
            context.feed_peer(app, &register.peer, FeedKind::PeerOnline);
        }
        let ConnectionRef { home, .. } = register.connection;
        let ticket = register.ticket;
        context.send(home, MeshMessage::Registered { ticket });
    }

    /// A `send` at the receiving peer's owner.
    pub(in crate::shard) fn peer_send(
        &mut self,
        send: Send,
        channels: &mut Channels,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if self.is_send_to_be_put_off(&send, channels, connections, context) {
            return channels.put_off(MeshMessage::Send(Box::new(send)), connections, context);
        }
        let sender = Some(send.sender);
        let homes = self.registry.by_home(send.app, &send.to, sender);
        if homes.is_empty() {
            return context.send_failed(&send);
        }
        context.direct(&send, homes);
    }

    pub(in crate::shard) fn direct_send(
        &mut self,
        id: ConnectionId,
        (to, data): (&str, &str),
        request_id: Option<&str>,
        channels: &mut Channels,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<(), ErrorCode> {
        let session = connections.session(id).ok_or(ErrorCode::InternalError)?;
        context.admit_message(session.permissions(), Action::Send, None)?;
        let app = session.key.app.id.tag();
        let is_scoped = session.key.app.direct_needs_shared_channel;
        let mut encoded = std::mem::take(&mut context.encoded);
        encoded.clear();
        encode::direct(&mut encoded, &session.peer, data);
        if context.is_tracing() {
            context.trace_send(app, (session.peer.id.as_str(), to), encoded.len());
        }
        let mut delivered = None;
        if !is_scoped {
            delivered = self.deliver_here(id, (app, to), &encoded, channels, connections, context);
        }
        context.encoded = encoded;
        match delivered {
            Some(true) => {
                let reply_to = (request_id, context.stamp_ns);
                connections.ack_raw(id, reply_to, context);
                return Ok(());
            }
            Some(false) => return Err(ErrorCode::PeerNotFound),
            None => {}
        }
        let frame = Frame::from(&context.encoded[..]);
        let pending = PendingSend {
            command: connections.await_command(id, Asked::Message, request_id, context),
            scoped: None,
            has_left_owner: false,
        };
        let ticket = connections.ask(Question::Send(pending), [], context);
        let send = Send {
            app,
            to: to.into(),
            frame,
            sender: context.here(id),
            send: ticket,
            read_ns: context.stamp_ns,
        };
        if is_scoped {
            self.scoped_send(send, channels, connections, context);
        } else {
            context.send_to_peer(send);
        }
        Ok(())
    }

    /// Delivers a direct message whose receiver is this shard's, with all of its connections.
    /// Returns whether one of them got it; `None` if others have to be asked, or it may have to
    /// wait.
    fn deliver_here(
        &self,
        sender: ConnectionId,
        (app, to): (AppTag, &str),
        frame: &[u8],
        channels: &mut Channels,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Option<bool> {
        let hash = context.placement.peer_hash(app, to);
        let here = context.id();
        // What is on its way to this shard itself came first.
        let is_first = context.loopback.is_empty();
        if context.placement.owner(hash) != here || !is_first || channels.is_pressed(context) {
            return None;
        }
        let receivers = self.registry.connections_at(hash, app, to);
        if receivers.iter().any(|it| it.home != here) {
            return None;
        }
        let shared = (frame.len() >= SHARED_BYTES_MIN).then(|| Frame::from(frame));
        let piece = match &shared {
            Some(shared) => Piece::Shared(shared, 0..shared.len()),
            None => Piece::Owned(frame),
        };
        let mut delivered = false;
        for it in receivers.iter().filter(|it| it.connection != sender) {
            let read_ns = context.stamp_ns;
            let (id, piece) = (it.connection, piece.clone());
            delivered |= channels.deliver_direct(id, piece, read_ns, connections, context);
        }
        Some(delivered)
    }

    /// Whether a direct message of this shard's is to be put off, at the owner of its receiver: too
    /// much waits to be offered to a connection of the receiver.
    #[inline]
    fn is_send_to_be_put_off(
        &self,
        send: &Send,
        channels: &Channels,
        connections: &Connections,
        context: &Context,
    ) -> bool {
        send.sender.home == context.id()
            && channels.is_pressed(context)
            && self.has_much_to_hear(send, context.unoffered_max(), connections, context)
    }

    #[cold]
    pub(in crate::shard) fn has_much_to_hear(
        &self,
        send: &Send,
        unoffered_max: usize,
        connections: &Connections,
        context: &Context,
    ) -> bool {
        let receivers = self.registry.connections(send.app, &send.to).iter();
        let mut here = receivers.filter(|it| it.home == context.id());
        here.any(|to| {
            let connection = connections.get(to.connection);
            connection.is_some_and(|it| it.unoffered_bytes() > unoffered_max)
        })
    }
}

impl Context {
    /// Hands a `send` to the receiving peer's owner.
    pub(in crate::shard) fn send_to_peer(&mut self, send: Send) {
        let owner = self.placement.peer_owner(send.app, &send.to);
        self.questions.wait_for(send.send, [owner]);
        self.send(owner, MeshMessage::Send(Box::new(send)));
    }

    pub(in crate::shard) fn direct(&mut self, send: &Send, homes: ByHome) {
        let all = || homes.iter().map(|(home, _)| *home).collect::<Homes>();
        let all = (homes.len() > 1).then(|| Arc::new(all()));
        for (home, connections) in homes {
            let direct = Direct {
                connections,
                frame: send.frame.clone(),
                sender: send.sender,
                send: send.send,
                homes: all.clone(),
                read_ns: send.read_ns,
            };
            self.send(home, MeshMessage::Direct(Box::new(direct)));
        }
    }

    pub(in crate::shard) fn send_failed(&mut self, send: &Send) {
        let result = DirectResult {
            send: send.send,
            homes: None,
            delivered: false,
        };
        self.send(send.sender.home, MeshMessage::DirectResult(result));
    }
}

impl Channels {
    pub(in crate::shard) fn home_direct(
        &mut self,
        direct: &Direct,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let mut delivered = false;
        for id in &direct.connections {
            let whole = Piece::Shared(&direct.frame, 0..direct.frame.len());
            delivered |= self.deliver_direct(*id, whole, direct.read_ns, connections, context);
        }
        let result = DirectResult {
            send: direct.send,
            homes: direct.homes.clone(),
            delivered,
        };
        context.send(direct.sender.home, MeshMessage::DirectResult(result));
    }
}

impl Connections {
    pub(in crate::shard) fn direct_result(
        &mut self,
        from: Seat,
        result: DirectResult,
        context: &mut Context,
    ) {
        let DirectResult {
            send,
            homes,
            delivered,
        } = result;
        let Some(Question::Send(pending)) = context.questions.get_mut(send) else {
            return; // It was answered with the first part that was delivered, or has ended.
        };
        let is_first = !std::mem::replace(&mut pending.has_left_owner, true);
        if let Some(homes) = homes
            && !delivered
        {
            if is_first {
                context.questions.wait_for(send, homes.iter().copied());
            }
            if context.questions.answered(send, from) != Some(0) {
                return;
            }
        }
        if let Some(Question::Send(pending)) = context.questions.take(send) {
            let answer = match delivered {
                true => Ok(()),
                false => Err(ErrorCode::PeerNotFound),
            };
            self.answer_command(&pending.command, answer, context);
        }
    }
}
