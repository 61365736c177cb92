//! A publication, from whoever makes it to the owner of its channel.
//!
//! Commands and REST requests take this one way. At the owner a publication has its place at once,
//! and the caller knows how many it reached. Elsewhere it is encoded once and sent to the owner,
//! and the waiter is told when it has its place. Whether it is allowed is decided before.

use crate::domain::app_id::AppTag;
use crate::ids::{ConnectionId, Seat, Ticket};
use crate::shard::channel::channels::Channels;
use crate::shard::channel::owner::Publication;
use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::mesh_message::{MeshMessage, Publish, Publisher, Sequenced};
use crate::shard::outbound::encode;
use crate::shard::questions::{Asked, Caller, PendingAnswer, Question};
use crate::shard::stores::{Awaited, Waiting};

/// Who waits until a publication has its place in its channel's order.
#[derive(Clone, Copy)]
pub(in crate::shard) enum Waiter<'a> {
    /// Nobody.
    Nobody,
    /// A command, to be acked, with the position if it wants that.
    Command {
        connection: ConnectionId,
        request_id: &'a str,
        wants_position: bool,
    },
    /// A REST request, to be answered.
    Rest(&'a Caller),
}

/// What is published.
#[derive(Clone, Copy)]
pub(in crate::shard) struct Content<'a> {
    /// JSON.
    pub data: &'a str,
    /// By what the sender tells the publication from others: in a channel with history the same
    /// one is published once.
    pub id: Option<&'a str>,
}

impl Waiter<'_> {
    /// Whether the position is wanted.
    fn wants_position(&self) -> bool {
        match self {
            Self::Nobody => false,
            Self::Command { wants_position, .. } => *wants_position,
            Self::Rest(_) => true,
        }
    }
}

impl Channels {
    /// Publishes something into a channel by its app and name. Returns what has become of it if
    /// the publication has its place now; if not, the waiter is answered later.
    pub(in crate::shard) fn publish_into(
        &mut self,
        (app, channel): (AppTag, &str),
        from: Publisher,
        content: Content<'_>,
        waiter: Waiter<'_>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Option<Sequenced> {
        let Content { data, id } = content;
        let hash = context.placement.channel_hash(app, channel);
        let owner = context.placement.owner(hash);
        let known = match owner == context.id() {
            true => match self.find(hash, &app, channel) {
                None if context.rights.history(app).is_some() => {
                    self.slot_for_history(&self.channel_key(app, hash, channel), context)
                }
                known => known,
            },
            false => None,
        };
        let is_put_off = self.is_held(hash, context)
            || known.is_some_and(|slot| self.is_to_be_put_off(slot, context));
        if owner == context.id() && !is_put_off {
            let sequenced = known.map_or_else(Sequenced::default, |slot| {
                self.publish_here(slot, &from, content, connections, context)
            });
            if context.is_tracing() {
                context.trace_published((app, channel), &from, data, sequenced.delivered);
            }
            if !sequenced.awaits_store || matches!(waiter, Waiter::Nobody) {
                return Some(sequenced);
            }
            self.wait_for_store(known, (channel, waiter), sequenced, connections, context);
            return None;
        }
        let wants_position = waiter.wants_position();
        let waiter = connections.ticket_of(waiter, channel, owner, context);
        let channel = self.channel_key(app, hash, channel);
        let encoded = &mut context.encoded;
        encoded.clear();
        encode::message(encoded, channel.name.json(), &from.peer, data);
        let publish = MeshMessage::Publish(Box::new(Publish {
            channel,
            frame: Frame::from(&encoded[..]),
            from,
            id: id.map(Box::from),
            waiter,
            wants_position,
            read_ns: context.stamp_ns,
        }));
        if is_put_off {
            self.put_off(publish, connections, context);
        } else {
            context.send(owner, publish);
        }
        None
    }

    /// Whoever waits for a publication into a channel of this shard's is told when it is stored.
    #[cold]
    fn wait_for_store(
        &mut self,
        slot: Option<ChannelSlot>,
        (channel, waiter): (&str, Waiter<'_>),
        sequenced: Sequenced,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let wants_position = waiter.wants_position();
        let home = context.id();
        let ticket = connections.ticket_of(waiter, channel, home, context);
        let local = slot.and_then(|slot| self.get(slot));
        if let Some((waiter, local)) = ticket.zip(local) {
            context.stores.wait(Waiting {
                channel: local.key.clone(),
                home,
                waiter,
                awaited: Awaited::Publication {
                    sequenced,
                    wants_position,
                },
            });
        }
    }

    /// A publication from another shard, or one of this shard's that was put off.
    pub(in crate::shard) fn owner_publish(
        &mut self,
        home: Seat,
        publish: Publish,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let publication = Publication {
            from: &publish.from,
            plain: &publish.frame,
            shared: Some(&publish.frame),
            read_ns: publish.read_ns,
            id: publish.id.as_deref(),
        };
        let slot = self.find_key(&publish.channel);
        let slot = slot.or_else(|| self.slot_for_history(&publish.channel, context));
        let sequenced = slot.map_or_else(Sequenced::default, |slot| {
            self.sequence(slot, publication, connections, context)
        });
        let delivered = sequenced.delivered;
        if context.is_tracing() {
            let channel = (publish.channel.app, publish.channel.name.as_str());
            context.trace_publication(channel, &publish.from, publish.frame.len(), delivered);
        }
        let Some(waiter) = publish.waiter else {
            return;
        };
        let wants_position = publish.wants_position;
        match sequenced.awaits_store {
            true => context.stores.wait(Waiting {
                channel: publish.channel,
                home,
                waiter,
                awaited: Awaited::Publication {
                    sequenced,
                    wants_position,
                },
            }),
            false => context.tell_sequenced(home, waiter, sequenced, wants_position),
        }
    }

    /// Publishes into a channel of this shard's.
    fn publish_here(
        &mut self,
        slot: ChannelSlot,
        from: &Publisher,
        content: Content<'_>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Sequenced {
        let Some(local) = self.get(slot) else {
            return Sequenced::default();
        };
        let mut plain = std::mem::take(&mut context.encoded);
        plain.clear();
        encode::message(&mut plain, local.key.name.json(), &from.peer, content.data);
        let publication = Publication {
            from,
            plain: &plain,
            shared: None,
            read_ns: context.stamp_ns,
            id: content.id,
        };
        let sequenced = self.sequence(slot, publication, connections, context);
        context.encoded = plain;
        sequenced
    }
}

impl Connections {
    /// Keeps what is needed to answer a waiter once the channel's owner has.
    fn ticket_of(
        &mut self,
        waiter: Waiter<'_>,
        channel: &str,
        owner: Seat,
        context: &mut Context,
    ) -> Option<Ticket> {
        match waiter {
            Waiter::Nobody => None,
            Waiter::Command {
                connection,
                request_id,
                ..
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
