//! A publication, from whoever makes it to the owner of its channel.
//!
//! Commands and REST requests take this one way. At the owner a publication has its place at once,
//! and the caller knows how many it reached; elsewhere it is encoded once, sent to the owner, and
//! whoever waits is told when it has its place. Who may publish is decided before.

use crate::ids::{AppIndex, ConnectionId, ShardId, Ticket};
use crate::shard::channel::channels::Channels;
use crate::shard::channel::owner::Publication;
use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::mesh_message::{MeshMessage, Publish, Publisher};
use crate::shard::outbound::encode;
use crate::shard::questions::{Asked, Caller, PendingAnswer, Question};

/// Who waits until a publication has its place in its channel's order.
#[derive(Clone, Copy)]
pub(in crate::shard) enum Waiter<'a> {
    /// Nobody.
    Nobody,
    /// A command, to be acked.
    Command {
        connection: ConnectionId,
        request_id: &'a str,
    },
    /// A REST request, to be answered.
    Rest(&'a Caller),
}

impl Channels {
    /// Publishes data, which is JSON, into a channel by its app and name. Returns how many members
    /// the channel has if the publication has its place now; if not, the waiter is answered later.
    pub(in crate::shard) fn publish_into(
        &mut self,
        (app, channel): (AppIndex, &str),
        from: Publisher,
        data: &str,
        waiter: Waiter<'_>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Option<u64> {
        let hash = context.placement.channel_hash(app, channel);
        let owner = context.placement.owner(hash);
        let known = match owner == context.id() {
            true => self.find(hash, app, channel),
            false => None,
        };
        let is_put_off =
            self.is_held(hash) || known.is_some_and(|slot| self.is_to_be_put_off(slot, context));
        if owner == context.id() && !is_put_off {
            return Some(known.map_or(0, |slot| {
                self.publish_here(slot, &from, data, connections, context)
            }));
        }
        let waiter = connections.ticket_of(waiter, channel, owner, context);
        let channel = self.channel_key(app, hash, channel);
        let encoded = &mut context.encoded;
        encoded.clear();
        encode::message(encoded, channel.name.json(), &from.peer, data);
        let publish = MeshMessage::Publish(Box::new(Publish {
            channel,
            frame: Frame::from(&encoded[..]),
            from,
            waiter,
            read_ns: context.stamp_ns,
        }));
        if is_put_off {
            self.put_off(publish, connections, context);
        } else {
            context.send(owner, publish);
        }
        None
    }

    /// Publishes into a channel of this shard's. Returns how many members it has.
    fn publish_here(
        &mut self,
        slot: ChannelSlot,
        from: &Publisher,
        data: &str,
        connections: &mut Connections,
        context: &mut Context,
    ) -> u64 {
        let Some(local) = self.get(slot) else {
            return 0;
        };
        let mut plain = std::mem::take(&mut context.encoded);
        plain.clear();
        encode::message(&mut plain, local.key.name.json(), &from.peer, data);
        let publication = Publication {
            from,
            plain: &plain,
            shared: None,
            read_ns: context.stamp_ns,
        };
        let delivered = self.sequence(slot, publication, connections, context);
        context.encoded = plain;
        delivered
    }
}

impl Connections {
    /// Keeps what is needed to answer a waiter once the channel's owner has.
    fn ticket_of(
        &mut self,
        waiter: Waiter<'_>,
        channel: &str,
        owner: ShardId,
        context: &mut Context,
    ) -> Option<Ticket> {
        match waiter {
            Waiter::Nobody => None,
            Waiter::Command {
                connection,
                request_id,
            } => {
                let command =
                    self.await_command(connection, Asked::Message, Some(request_id), context);
                Some(self.ask(Question::Publish(command), [owner], context))
            }
            Waiter::Rest(caller) => {
                let channel = channel.into();
                Some(self.wait(caller, PendingAnswer::Published { channel }, owner, context))
            }
        }
    }
}
