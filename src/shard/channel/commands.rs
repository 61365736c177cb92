//! Commands about channels: publish, subscribe, unsubscribe.

use std::sync::Arc;

use crate::domain::peer::{ChannelKey, JsonName, SharedChannel, SharedPeer};
use crate::domain::roster::Interest;
use crate::ids::{AppIndex, ConnectionId};
use crate::proto::actions::Action;
use crate::proto::wire::error::ErrorCode;
use crate::shard::channel::channels::Channels;
use crate::shard::channel::publish::Waiter;
use crate::shard::connection::connections::{Connections, Held, Phase, Session};
use crate::shard::connection::joining::Wanted;
use crate::shard::context::Context;
use crate::shard::mesh_message::{Leave, LeaveCause, MeshMessage, Publisher};
use crate::shard::questions::{Asked, Question};

impl Channels {
    pub(in crate::shard) fn publish(
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

    pub(in crate::shard) fn subscribe(
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
