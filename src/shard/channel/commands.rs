//! Commands about channels: publish, subscribe, unsubscribe.

use std::sync::Arc;

use crate::domain::app_id::AppTag;
use crate::domain::peer::{ChannelKey, JsonName, SharedChannel, SharedPeer};
use crate::domain::roster::Interest;
use crate::ids::ConnectionId;
use crate::proto::actions::Action;
use crate::proto::wire::error::ErrorCode;
use crate::proto::wire::position::Since;
use crate::shard::channel::channels::Channels;
use crate::shard::channel::publish::{Content, Waiter};
use crate::shard::connection::connections::{Connections, Held, Phase, Session};
use crate::shard::connection::joining::Wanted;
use crate::shard::context::Context;
use crate::shard::mesh_message::{Leave, LeaveCause, MeshMessage, Publisher};
use crate::shard::questions::{Asked, Question};

impl Channels {
    pub(in crate::shard) fn publish(
        &mut self,
        id: ConnectionId,
        (channel, content): (&str, Content<'_>),
        (request_id, wants_position): (Option<&str>, bool),
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<(), ErrorCode> {
        let session = connections.session(id).ok_or(ErrorCode::InternalError)?;
        context.admit_message(session.permissions(), Action::Publish, Some(channel))?;
        let app = session.key.app.id.tag();
        let from = Publisher {
            peer: session.peer.clone(),
            connection: Some(context.here(id)),
        };
        let waiter = request_id.map_or(Waiter::Nobody, |request_id| Waiter::Command {
            connection: id,
            request_id,
            wants_position,
        });
        let channel = (app, channel);
        if let Some(sequenced) =
            self.publish_into(channel, from, content, waiter, connections, context)
        {
            let reply_to = (request_id, context.stamp_ns);
            match wants_position || sequenced.is_duplicate {
                true => connections.ack_published(id, reply_to, &sequenced, context),
                false => connections.ack_raw(id, reply_to, context),
            }
        }
        Ok(())
    }

    pub(in crate::shard) fn subscribe(
        &mut self,
        id: ConnectionId,
        (channel, since): (&str, Option<Since>),
        sender_metadata: bool,
        request_id: Option<&str>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<(), ErrorCode> {
        if let Some(Since::Last(count)) = since
            && count > context.config.limits.history.replay_messages
        {
            return Err(ErrorCode::MalformedMessage);
        }
        let session = connections.session(id).ok_or(ErrorCode::InternalError)?;
        let permissions = session.permissions();
        permissions.check(Action::Subscribe, Some(channel))?;
        let app = session.key.app.id.tag();
        let presence = permissions.may(Action::Presence);
        let hash = context.placement.channel_hash(app, channel);
        let key = self.channel_key(app, hash, channel);
        let channels_max = context.config.limits.channels_per_connection;
        if !self.counts_already(session, &key) && self.channel_count(session) >= channels_max {
            return Err(ErrorCode::ChannelLimitExceeded);
        }
        // What is asked of the present position is answered in the ack, which needs an id.
        let since = since.filter(|_| request_id.is_some());
        let wanted = Wanted {
            channel: key,
            interest: Interest {
                presence,
                sender_metadata,
            },
            since,
            command: connections.await_command(id, Asked::Membership, request_id, context),
        };
        let connection = connections.get_mut(id).ok_or(ErrorCode::InternalError)?;
        if let Phase::Open(session) = &mut connection.phase
            && let Some(joining) = &mut session.joining
            && joining.must_park(&wanted)
        {
            joining.park(wanted);
            connection.held.add(Held::JOINS);
        } else {
            connections.ask_to_join(wanted, false, context);
        }
        connections.debug_check_joins(id, context);
        Ok(())
    }

    /// Channels that the connection is in, or on its way into.
    pub(in crate::shard) fn channel_count(&self, session: &Session) -> usize {
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

    pub(in crate::shard) fn unsubscribe(
        &mut self,
        id: ConnectionId,
        channel: &str,
        request_id: Option<&str>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<(), ErrorCode> {
        let session = connections.session(id).ok_or(ErrorCode::InternalError)?;
        let (app, peer): (AppTag, SharedPeer) = (session.key.app.id.tag(), session.peer.clone());
        let hash = context.placement.channel_hash(app, channel);
        let key = self.channel_key(app, hash, channel);
        if !self.counts_already(session, &key) {
            connections.ack_raw(id, (request_id, context.stamp_ns), context);
            return Ok(());
        }
        if let Some(slot) = self.find_key(&key) {
            self.remove_member(id, slot, connections, context);
            self.let_go(slot, connections, context);
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
        Ok(())
    }

    /// The key of a channel: this shard's own, if it knows the channel.
    pub(in crate::shard) fn channel_key(
        &self,
        app: AppTag,
        hash: u64,
        name: &str,
    ) -> SharedChannel {
        let known = self.find(hash, &app, name).and_then(|slot| self.get(slot));
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
