//! The shard as the home of connections: local members, fan-out into their outboxes.

use crate::ids::{ConnectionId, ShardId};
use crate::metrics::Stage;
use crate::proto::ws::frame::count_frames;
use crate::shard::channel::back_pressure::lag::Fed;
use crate::shard::channel::channels::{Channels, LocalChannel};
use crate::shard::connection::connections::{Connections, Membership};
use crate::shard::context::Context;
use crate::shard::effect::{ChannelSlot, Urgency};
use crate::shard::frame::Frame;
use crate::shard::mesh_message::{Announce, Announced, Deliver, Left, MeshMessage, PublishedAt};
use crate::shard::outbound::outbox::{Piece, SHARED_BYTES_MIN};
use crate::shard::questions::Question;

impl Channels {
    /// Takes a connection out of a channel's local members, if it is one.
    pub(in crate::shard) fn remove_member(
        &mut self,
        id: ConnectionId,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(session) = connections.session_mut(id) else {
            return;
        };
        let at = session
            .memberships
            .iter()
            .position(|membership| membership.channel == slot);
        let Some(at) = at else { return };
        let membership = session.memberships.swap_remove(at);
        if session.memberships.is_empty() {
            session.memberships.shrink_to_fit();
        }
        self.vacate(membership, connections, context);
        self.forget_snapshot(id, slot, connections, context);
    }

    /// Takes the place of a membership that its session has given up; what it was to get until
    /// now is in its outbox.
    pub(in crate::shard) fn vacate(
        &mut self,
        membership: Membership,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Membership { channel, index } = membership;
        self.copy_out_member(channel, index as usize, connections, context);
        if let Some(moved) = self.take_member(channel, index)
            && let Some(connection) = connections.at_slot_mut(moved)
        {
            connection.move_membership(channel, index);
        }
        self.release(channel);
    }

    /// A leave is complete at the owner.
    pub(in crate::shard) fn home_left(
        &mut self,
        left: Left,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(Question::Leave(command)) = context.questions.take(left.ticket) else {
            return;
        };
        if let Some(slot) = self.find_key(&left.channel) {
            self.remove_member(left.connection, slot, connections, context);
        }
        connections.answer_command(&command, Ok(()), context);
    }

    pub(in crate::shard) fn home_deliver(
        &mut self,
        deliver: &Deliver,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if let Some(slot) = self.find_key(&deliver.channel) {
            let frames = (&deliver.plain[..], deliver.with_metadata.as_deref());
            self.deliver(
                slot,
                frames,
                deliver.except,
                deliver.times,
                connections,
                context,
            );
        }
    }

    pub(in crate::shard) fn home_announce(
        &mut self,
        owner: ShardId,
        announce: &Announce,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if let Some(slot) = self.find_key(&announce.channel) {
            self.deliver_presence(slot, &announce.frames, connections, context);
        }
        let announced = Announced {
            channel: announce.channel.clone(),
            token: announce.token,
        };
        context.send(owner, MeshMessage::Announced(Box::new(announced)));
    }

    /// Fan-out: one publication for all local members, where some of them want it with
    /// metadata as well.
    pub(in crate::shard) fn deliver(
        &mut self,
        slot: ChannelSlot,
        frames: (&[u8], Option<&[u8]>),
        except: Option<ConnectionId>,
        times: PublishedAt,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        match self.is_to_be_kept(slot, connections, context) {
            true => self.keep(slot, frames, except, times, connections, context),
            false => self.deliver_now(slot, frames, except, times, connections, context),
        }
    }

    /// As [`deliver`](Self::deliver), although members may be behind.
    pub(in crate::shard) fn deliver_now(
        &mut self,
        slot: ChannelSlot,
        (plain, with_metadata): (&[u8], Option<&[u8]>),
        except: Option<ConnectionId>,
        times: PublishedAt,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let count = with_metadata.map_or(plain.len(), <[u8]>::len);
        self.note_publication(slot, count, context);
        let reached = match with_metadata {
            None => self.share_publication(slot, plain, except, connections, context),
            Some(frame) => self.deliver_each(slot, (plain, frame), except, connections, context),
        };
        if reached > 0 {
            context.metrics.counters.deliveries += reached as u64;
            let channel = self.get(slot);
            let urgency = channel.map_or(Urgency::Wide, LocalChannel::urgency);
            context.effects.published.push((times, urgency));
        }
    }

    /// One publication in two variants, for each local member the one that it wants. Returns
    /// how many got it.
    fn deliver_each(
        &mut self,
        slot: ChannelSlot,
        (plain, with_metadata): (&[u8], &[u8]),
        except: Option<ConnectionId>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> usize {
        self.copy_out_channel(slot, connections, context);
        let limit = context.config.limits.outbound_queue_bytes;
        let Some(channel) = self.get(slot) else {
            return 0;
        };
        // What is large is copied once.
        let shared = |bytes: &[u8]| (bytes.len() >= SHARED_BYTES_MIN).then(|| Frame::from(bytes));
        let frames = (shared(plain), shared(with_metadata));
        let plain = piece(frames.0.as_ref(), plain);
        let with_metadata = piece(frames.1.as_ref(), with_metadata);
        let to = (limit, channel.urgency());
        let (mut reached, mut fed) = (0, Fed::default());
        let late_bytes = context.late_bytes();
        for member in &channel.members {
            let Some(connection) = connections.at_slot_mut(member.connection_slot) else {
                continue;
            };
            if except == Some(connection.id) {
                continue;
            }
            let frame = match member.interest.sender_metadata {
                true => &with_metadata,
                false => &plain,
            };
            let frame = std::slice::from_ref(frame);
            let waits = member.waits.then_some(slot);
            match connection.deliver_or_hold(
                waits,
                frame,
                to,
                &mut context.pool,
                &mut context.effects,
            ) {
                true => reached += 1,
                false => context.slow.push(connection.id),
            }
            fed.note(connection, late_bytes);
        }
        self.note_fed(slot, fed, context);
        reached
    }

    /// Presence changes for the local members that want them: as a publication is delivered
    /// where all of them do, one by one otherwise.
    pub(in crate::shard) fn deliver_presence(
        &mut self,
        slot: ChannelSlot,
        frames: &Frame,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.release_kept(slot, connections, context);
        let Some(channel) = self.get(slot) else {
            return;
        };
        let frame_count = count_frames(frames) as u64;
        let mut members = channel.members.iter();
        if members.all(|member| member.interest.presence) {
            let reached = self.share(slot, frames, None, connections, context) as u64;
            context.metrics.counters.presence_sent += frame_count * reached;
            return;
        }
        self.copy_out_channel(slot, connections, context);
        let limit = context.config.limits.outbound_queue_bytes;
        let Some(channel) = self.get(slot) else {
            return;
        };
        for member in channel
            .members
            .iter()
            .filter(|member| member.interest.presence)
        {
            let Some(connection) = connections.at_slot_mut(member.connection_slot) else {
                continue;
            };
            let frames = [Piece::Shared(frames, 0..frames.len())];
            let to = (limit, Urgency::Reply);
            let waits = member.waits.then_some(slot);
            match connection.deliver_or_hold(
                waits,
                &frames,
                to,
                &mut context.pool,
                &mut context.effects,
            ) {
                true => context.metrics.counters.presence_sent += frame_count,
                false => context.slow.push(connection.id),
            }
        }
    }

    /// A direct message, read at `read_ns`, to one connection. Returns whether it was put into its
    /// outbox.
    pub(in crate::shard) fn deliver_to(
        &mut self,
        id: ConnectionId,
        frame: &Frame,
        read_ns: u64,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        self.copy_out_connection(id, connections, context);
        let limit = context.config.limits.outbound_queue_bytes;
        let Some(connection) = connections.get_mut(id) else {
            return false;
        };
        let frame = [Piece::Shared(frame, 0..frame.len())];
        let to = (limit, Urgency::Live);
        let delivered = connection.deliver(&frame, to, &mut context.pool, &mut context.effects);
        match delivered {
            true => {
                context.metrics.counters.deliveries += 1;
                context.effects.write(Stage::Direct, read_ns);
            }
            false => context.slow.push(id),
        }
        self.note_direct(id, connections, context);
        delivered
    }
}

fn piece<'a>(shared: Option<&'a Frame>, bytes: &'a [u8]) -> Piece<'a> {
    shared.map_or(Piece::Owned(bytes), |frame| {
        Piece::Shared(frame, 0..frame.len())
    })
}
