//! Messages of an open connection: what each asks for, and who may.
//!
//! The order of the checks is the order of the error codes: syntax (decided by `proto::wire`),
//! action, channel, limits, quota.

use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use crate::shard::peer::peers::Peers;
use std::sync::Arc;

use crate::domain::peer::{ChannelKey, JsonName, SharedChannel, SharedPeer};
use crate::domain::roster::Interest;
use crate::domain::token_bucket::TOKEN_THOUSANDTHS;
use crate::ids::{AppIndex, ConnectionId};
use crate::metrics::label::Dropped;
use crate::proto::actions::Action;
use crate::proto::wire::command::{Command, Request};
use crate::proto::wire::error::ErrorCode;
use crate::proto::wire::event::Event;
use crate::proto::wire::string::JsonStr;
use crate::shard::bounds::Asked;
use crate::shard::channel::joins::Wanted;
use crate::shard::channel::publish::{Publisher, Waiter};
use crate::shard::connection::connections::{Held, Phase, Session};
use crate::shard::mesh_message::{Frame, Leave, LeaveCause, MeshMessage, Send};
use crate::shard::outbound::encode;
use crate::shard::peer::direct::PendingSend;
use crate::shard::questions::{Question, ReplyTo};
use crate::shard::state::Shard;

impl Shard {
    /// One text message.
    pub(in crate::shard) fn message(&mut self, id: ConnectionId, text: &str) {
        self.context.metrics.counters.messages_received += 1;
        if self.is_switching_rights() {
            self.channels
                .follow_rights(id, &mut self.connections, &mut self.context);
        }
        if !self.channels.take_tokens(
            id,
            TOKEN_THOUSANDTHS,
            &mut self.connections,
            &mut self.context,
        ) {
            return;
        }
        let request = match Request::parse(text) {
            Ok(request) => request,
            Err(rejection) => {
                let request_id = rejection.request_id.map(JsonStr::as_str);
                self.connections.error(
                    id,
                    (request_id, self.context.stamp_ns),
                    rejection.code,
                    Some(rejection.message),
                    &mut self.context,
                );
                return;
            }
        };
        let request_id = request.request_id.map(JsonStr::as_str);
        let done = match request.command {
            Command::Publish { channel, data } => self.channels.publish(
                id,
                (&channel, data),
                request_id,
                &mut self.connections,
                &mut self.context,
            ),
            Command::Send { to, data } => self.peers.direct_send(
                id,
                (&to, data),
                request_id,
                &mut self.channels,
                &mut self.connections,
                &mut self.context,
            ),
            Command::Subscribe {
                channel,
                include_sender_metadata,
            } => self.channels.subscribe(
                id,
                &channel,
                include_sender_metadata,
                request_id,
                &mut self.connections,
                &mut self.context,
            ),
            Command::Unsubscribe { channel } => {
                self.channels.unsubscribe(
                    id,
                    &channel,
                    request_id,
                    &mut self.connections,
                    &mut self.context,
                );
                Ok(())
            }
            Command::Ping => {
                self.connections.pong(id, request_id, &mut self.context);
                Ok(())
            }
        };
        if let Err(code) = done {
            if code == ErrorCode::OverMessageQuota {
                self.context
                    .metrics
                    .counters
                    .dropped
                    .add(Dropped::MessageQuota);
            }
            self.connections.error(
                id,
                (request_id, self.context.stamp_ns),
                code,
                None,
                &mut self.context,
            );
        }
    }
}

impl Peers {
    fn direct_send(
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
        let app = session.key.app.index;
        let is_scoped = session.key.app.direct_needs_shared_channel;
        context.encoded.clear();
        encode::direct(&mut context.encoded, &session.peer, data);
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
}

impl Channels {
    fn publish(
        &mut self,
        id: ConnectionId,
        (channel, data): (&str, &str),
        request_id: Option<&str>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<(), ErrorCode> {
        let session = connections.session(id).ok_or(ErrorCode::InternalError)?;
        context.admit_message(session.permissions(), Action::Publish, Some(channel))?;
        let app = session.key.app.index;
        let from = Publisher {
            peer: session.peer.clone(),
            connection: Some(context.here(id)),
        };
        let waiter = request_id.map_or(Waiter::Nobody, |request_id| Waiter::Command {
            connection: id,
            request_id,
        });
        if self
            .publish_into((app, channel), from, data, waiter, connections, context)
            .is_some()
        {
            connections.ack_raw(id, (request_id, context.stamp_ns), context);
        }
        Ok(())
    }

    fn subscribe(
        &mut self,
        id: ConnectionId,
        channel: &str,
        sender_metadata: bool,
        request_id: Option<&str>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<(), ErrorCode> {
        let session = connections.session(id).ok_or(ErrorCode::InternalError)?;
        let permissions = session.permissions();
        permissions.check(Action::Subscribe, Some(channel))?;
        let app = session.key.app.index;
        let presence = permissions.may(Action::Presence);
        let hash = context.placement.channel_hash(app, channel);
        let key = self.channel_key(app, hash, channel);
        let channels_max = context.config.limits.channels_per_connection;
        if !self.counts_already(session, &key) && self.channel_count(session) >= channels_max {
            return Err(ErrorCode::ChannelLimitExceeded);
        }
        let wanted = Wanted {
            channel: key,
            interest: Interest {
                presence,
                sender_metadata,
            },
            command: connections.await_command(id, Asked::Membership, request_id, context),
        };
        let connection = connections.get_mut(id).ok_or(ErrorCode::InternalError)?;
        if let Phase::Open(session) = &mut connection.phase
            && let Some(joining) = &mut session.joining
            && joining.must_park(&wanted.channel)
        {
            joining.park(wanted);
            connection.held.add(Held::JOINS);
            return Ok(());
        }
        connections.ask_to_join(wanted, false, context);
        Ok(())
    }

    /// Channels that the connection is in, or on its way into.
    fn channel_count(&self, session: &Session) -> usize {
        let asked = session.joining.iter().flat_map(|joining| &joining.asked);
        let new = asked.filter(|asked| !self.is_member(session, &asked.channel));
        session.memberships.len() + new.count()
    }

    fn counts_already(&self, session: &Session, key: &SharedChannel) -> bool {
        let joining = session.joining.as_ref();
        joining.is_some_and(|it| it.is_asked(key)) || self.is_member(session, key)
    }

    fn is_member(&self, session: &Session, key: &SharedChannel) -> bool {
        let slot = self.find_key(key);
        slot.is_some_and(|slot| {
            session
                .memberships
                .iter()
                .any(|membership| membership.channel == slot)
        })
    }

    fn unsubscribe(
        &mut self,
        id: ConnectionId,
        channel: &str,
        request_id: Option<&str>,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(session) = connections.session(id) else {
            return;
        };
        let (app, peer): (AppIndex, SharedPeer) = (session.key.app.index, session.peer.clone());
        let hash = context.placement.channel_hash(app, channel);
        let key = self.channel_key(app, hash, channel);
        if !self.counts_already(session, &key) {
            connections.ack_raw(id, (request_id, context.stamp_ns), context);
            return;
        }
        if let Some(slot) = self.find_key(&key) {
            self.remove_member(id, slot, connections, context);
        }
        let owner = context.placement.owner(hash);
        let command = connections.await_command(id, Asked::Membership, request_id, context);
        let ticket = connections.ask(Question::Leave(command), [owner], context);
        let leave = Leave {
            channel: key,
            connection: context.here(id),
            peer,
            cause: LeaveCause::Request(ticket),
        };
        context.send(owner, MeshMessage::Leave(Box::new(leave)));
    }

    /// The key of a channel: this shard's own, if it knows the channel.
    pub(in crate::shard) fn channel_key(
        &self,
        app: AppIndex,
        hash: u64,
        name: &str,
    ) -> SharedChannel {
        let known = self.find(hash, app, name).and_then(|slot| self.get(slot));
        known.map_or_else(
            || {
                Arc::new(ChannelKey {
                    app,
                    hash,
                    name: JsonName::new(name),
                })
            },
            |channel| channel.key.clone(),
        )
    }
}

impl Connections {
    fn pong(&mut self, id: ConnectionId, request_id: Option<&str>, context: &mut Context) {
        let mut frame = std::mem::take(&mut context.encoded);
        frame.clear();
        let request_id = request_id.map(JsonStr::from_escaped);
        encode::event(&mut frame, &Event::Pong { request_id });
        self.reply(id, &frame, context.stamp_ns, context);
        context.encoded = frame;
    }

    pub(in crate::shard) fn ack(
        &mut self,
        id: ConnectionId,
        reply_to: &ReplyTo,
        context: &mut Context,
    ) {
        self.ack_raw(id, (reply_to.id(), reply_to.read_ns), context);
    }

    fn ack_raw(
        &mut self,
        id: ConnectionId,
        (request_id, read_ns): (Option<&str>, u64),
        context: &mut Context,
    ) {
        if let Some(request_id) = request_id {
            let mut frame = std::mem::take(&mut context.encoded);
            frame.clear();
            encode::ack(&mut frame, request_id);
            self.reply(id, &frame, read_ns, context);
            context.encoded = frame;
        }
    }

    /// Answers a command that was read at `read_ns` with an error; the code's own text unless a
    /// better one is known.
    pub(in crate::shard) fn error(
        &mut self,
        id: ConnectionId,
        (request_id, read_ns): (Option<&str>, u64),
        code: ErrorCode,
        message: Option<&'static str>,
        context: &mut Context,
    ) {
        let mut frame = std::mem::take(&mut context.encoded);
        frame.clear();
        encode::error(
            &mut frame,
            request_id,
            code,
            message.unwrap_or(code.message()),
        );
        self.reply(id, &frame, read_ns, context);
        context.encoded = frame;
    }
}
