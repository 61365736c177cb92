//! The shard as the home of connections: local members, fan-out into their outboxes.

use crate::domain::peer::SharedChannel;
use crate::ids::{ConnectionId, ShardId};
use crate::proto::ws::frame::count_frames;
use crate::shard::channels::ChannelSlot;
use crate::shard::connections::{Connection, Held, Joining, Membership, Stage};
use crate::shard::effect::{Effects, FanOut, Urgency};
use crate::shard::mesh_message::{
    Announce, Announced, Deliver, Frame, Joined, LeaveCause, Left, MeshMessage,
};
use crate::shard::outbox::{BufferPool, Class, Piece, SHARED_BYTES_MIN};
use crate::shard::state::Shard;

impl Shard {
    /// A join is complete: the connection is a member from here on.
    pub(in crate::shard) fn home_joined(&mut self, joined: Joined, effects: &mut Effects) {
        let id = joined.connection;
        let Some(session) = self.connections.session_mut(id) else {
            return;
        };
        let held = match &mut session.joining {
            Some(joining) => joining.complete(&joined.channel),
            None => Vec::new(),
        };
        if session
            .joining
            .as_ref()
            .is_some_and(|joining| joining.channels.is_empty())
        {
            session.joining = None;
        }
        self.add_member(id, &joined, effects);
        self.awaited_reply(id, joined.request_id.as_deref());
        self.ack(id, &joined.request_id, effects);
        if let Some(snapshot) = &joined.snapshot {
            self.reply_apart(id, snapshot, effects);
        }
        for frame in held {
            self.deliver_to(id, &frame, effects);
        }
        self.hold_if_unread(id);
        self.release_input(id, Held::JOINS);
    }

    fn add_member(&mut self, id: ConnectionId, joined: &Joined, effects: &mut Effects) {
        let slot = self.channels.find_or_insert(&joined.channel);
        let Some(session) = self.connections.session_mut(id) else {
            return;
        };
        let mut memberships = session.memberships.iter();
        if let Some(known) = memberships.find(|membership| membership.channel == slot) {
            let place = known.position as usize;
            self.settle_member(slot, place, effects);
            if let Some(channel) = self.channels.get_mut(slot)
                && let Some(member) = channel.members.get_mut(place)
            {
                member.interest = joined.interest;
            }
            return;
        }
        let position = self.channels.add_member(slot, id.slot, joined.interest);
        session.memberships.push(Membership {
            channel: slot,
            position,
        });
    }

    /// Takes a connection out of a channel's local members, if it is one.
    pub(in crate::shard) fn remove_member(
        &mut self,
        id: ConnectionId,
        slot: ChannelSlot,
        effects: &mut Effects,
    ) {
        let Some(session) = self.connections.session_mut(id) else {
            return;
        };
        let at = session
            .memberships
            .iter()
            .position(|membership| membership.channel == slot);
        let Some(at) = at else { return };
        let membership = session.memberships.swap_remove(at);
        self.vacate(membership, effects);
    }

    /// Takes the place of a membership that its session has given up; what it was to get until
    /// now is in its outbox.
    pub(in crate::shard) fn vacate(&mut self, membership: Membership, effects: &mut Effects) {
        let Membership { channel, position } = membership;
        self.settle_member(channel, position as usize, effects);
        if let Some(moved) = self.channels.remove_member(channel, position)
            && let Some(connection) = self.connections.at_slot_mut(moved)
        {
            connection.move_membership(channel, position);
        }
        self.channels.release(channel);
    }

    /// A leave is complete at the owner.
    pub(in crate::shard) fn home_left(&mut self, left: Left, effects: &mut Effects) {
        match left.cause {
            LeaveCause::Request(request_id) => {
                if let Some(slot) = self.channels.find_key(&left.channel) {
                    self.remove_member(left.connection, slot, effects);
                }
                self.awaited_reply(left.connection, request_id.as_deref());
                self.ack(left.connection, &request_id, effects);
            }
            LeaveCause::Ended => {}
        }
    }

    pub(in crate::shard) fn home_deliver(&mut self, deliver: &Deliver, effects: &mut Effects) {
        if let Some(slot) = self.channels.find_key(&deliver.channel) {
            let frames = (&deliver.plain[..], deliver.with_metadata.as_deref());
            self.deliver(slot, frames, deliver.except, deliver.times, effects);
        }
    }

    pub(in crate::shard) fn home_announce(
        &mut self,
        owner: ShardId,
        announce: &Announce,
        effects: &mut Effects,
    ) {
        if let Some(slot) = self.channels.find_key(&announce.channel) {
            self.deliver_presence(slot, &announce.frames, effects);
        }
        let announced = Announced {
            channel: announce.channel.clone(),
            token: announce.token,
        };
        self.send(owner, MeshMessage::Announced(Box::new(announced)), effects);
    }

    /// Fan-out: one publication for all local members, where some of them want it with
    /// metadata as well.
    pub(in crate::shard) fn deliver(
        &mut self,
        slot: ChannelSlot,
        (plain, with_metadata): (&[u8], Option<&[u8]>),
        except: Option<ConnectionId>,
        times: FanOut,
        effects: &mut Effects,
    ) {
        let count = with_metadata.map_or(plain.len(), <[u8]>::len);
        self.note_publication(slot, count);
        let reached = match with_metadata {
            None => self.share_publication(slot, plain, except, effects),
            Some(frame) => self.deliver_each(slot, (plain, frame), except, effects),
        };
        if reached > 0 {
            self.metrics.counters.deliveries += reached as u64;
            effects.fan_outs.push(times);
        }
    }

    /// One publication in two variants, for each local member the one that it wants. Answers
    /// how many got it.
    fn deliver_each(
        &mut self,
        slot: ChannelSlot,
        (plain, with_metadata): (&[u8], &[u8]),
        except: Option<ConnectionId>,
        effects: &mut Effects,
    ) -> usize {
        self.settle_channel(slot, effects);
        let limit = self.config.limits.outbound_queue_bytes;
        let Some(channel) = self.channels.get(slot) else {
            return 0;
        };
        // What is large is copied once.
        let shared = |bytes: &[u8]| (bytes.len() >= SHARED_BYTES_MIN).then(|| Frame::from(bytes));
        let frames = (shared(plain), shared(with_metadata));
        let plain = piece(frames.0.as_ref(), plain);
        let with_metadata = piece(frames.1.as_ref(), with_metadata);
        let to = (limit, channel.urgency());
        let (mut reached, mut longest) = (0, 0);
        for member in &channel.members {
            let Some(connection) = self.connections.at_slot_mut(member.connection_slot) else {
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
            match connection.deliver(frame, to, &mut self.pool, effects) {
                true => reached += 1,
                false => self.slow.push(connection.id),
            }
            longest = longest.max(connection.unoffered_bytes());
        }
        self.note_longest(slot, longest);
        reached
    }

    /// Presence changes for the local members that want them: as a publication is delivered
    /// where all of them do, one by one otherwise.
    pub(in crate::shard) fn deliver_presence(
        &mut self,
        slot: ChannelSlot,
        frames: &Frame,
        effects: &mut Effects,
    ) {
        let Some(channel) = self.channels.get(slot) else {
            return;
        };
        let frame_count = count_frames(frames) as u64;
        let mut members = channel.members.iter();
        if members.all(|member| member.interest.presence) {
            let reached = self.share(slot, frames, None, effects) as u64;
            self.metrics.counters.presence_sent += frame_count * reached;
            return;
        }
        self.settle_channel(slot, effects);
        let limit = self.config.limits.outbound_queue_bytes;
        let Some(channel) = self.channels.get(slot) else {
            return;
        };
        for member in channel
            .members
            .iter()
            .filter(|member| member.interest.presence)
        {
            let Some(connection) = self.connections.at_slot_mut(member.connection_slot) else {
                continue;
            };
            let frames = [Piece::Shared(frames, 0..frames.len())];
            let to = (limit, Urgency::Reply);
            match connection.deliver(&frames, to, &mut self.pool, effects) {
                true => self.metrics.counters.presence_sent += frame_count,
                false => self.slow.push(connection.id),
            }
        }
    }

    /// A delivery to one connection. Answers whether it was put into its outbox.
    pub(in crate::shard) fn deliver_to(
        &mut self,
        id: ConnectionId,
        frame: &Frame,
        effects: &mut Effects,
    ) -> bool {
        self.settle_connection(id, effects);
        let limit = self.config.limits.outbound_queue_bytes;
        let Some(connection) = self.connections.get_mut(id) else {
            return false;
        };
        let frame = [Piece::Shared(frame, 0..frame.len())];
        let to = (limit, Urgency::Live);
        let delivered = connection.deliver(&frame, to, &mut self.pool, effects);
        match delivered {
            true => self.metrics.counters.deliveries += 1,
            false => self.slow.push(id),
        }
        self.note_direct(id);
        delivered
    }

    /// A direct message to one connection: behind the joins it waits for, if any.
    pub(in crate::shard) fn deliver_direct(
        &mut self,
        id: ConnectionId,
        frame: &Frame,
        effects: &mut Effects,
    ) -> bool {
        let limit = self.config.limits.outbound_queue_bytes;
        let Some(session) = self.connections.session_mut(id) else {
            return false;
        };
        let Some(joining) = &mut session.joining else {
            return self.deliver_to(id, frame, effects);
        };
        if joining.held_bytes + frame.len() > limit {
            self.slow.push(id);
            return false;
        }
        joining.held_bytes += frame.len();
        joining.held_directs.push(frame.clone());
        true
    }

    /// A frame that answers the connection's own request.
    pub(in crate::shard) fn reply(
        &mut self,
        id: ConnectionId,
        frame: &[u8],
        effects: &mut Effects,
    ) {
        // Nothing follows a close frame.
        if let Some(connection) = self.connections.get_mut(id)
            && let Stage::Open(_) = connection.stage
        {
            connection.outbox.push(Class::Reply, frame, &mut self.pool);
            connection.mark_dirty(effects);
            self.metrics.counters.replies += 1;
        }
    }

    /// A roster that leaves in a write of its own, a turn after what was queued before it: a
    /// published client misses a snapshot that its WebSocket library reads together with the
    /// ack, because it starts to listen only after the ack.
    fn reply_apart(&mut self, id: ConnectionId, frames: &[u8], effects: &mut Effects) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.outbox.fence();
            connection.outbox.push(Class::Reply, frames, &mut self.pool);
            connection.outbox.fence();
            connection.mark_dirty(effects);
            self.metrics.counters.presence_sent += count_frames(frames) as u64;
        }
    }
}

fn piece<'a>(shared: Option<&'a Frame>, bytes: &'a [u8]) -> Piece<'a> {
    shared.map_or(Piece::Owned(bytes), |frame| {
        Piece::Shared(frame, 0..frame.len())
    })
}

impl Connection {
    /// Queues a delivery; `false` if the connection takes too little of what it was sent.
    #[inline]
    pub(in crate::shard) fn deliver(
        &mut self,
        frames: &[Piece<'_>],
        (limit, urgency): (usize, Urgency),
        pool: &mut BufferPool,
        effects: &mut Effects,
    ) -> bool {
        let count: usize = frames.iter().map(Piece::len).sum();
        if self.queued_bytes() + count > limit {
            return false;
        }
        self.outbox.push_pieces(Class::Delivery, frames, pool);
        self.mark(urgency, effects);
        true
    }

    /// Asks the runtime to flush the outbox, as soon as answers are.
    #[inline]
    pub(in crate::shard) fn mark_dirty(&mut self, effects: &mut Effects) {
        self.mark(Urgency::Reply, effects);
    }

    /// Asks the runtime to flush the outbox.
    #[inline]
    pub(in crate::shard) fn mark(&mut self, urgency: Urgency, effects: &mut Effects) {
        if self.dirty.is_none_or(|known| urgency < known) {
            self.dirty = Some(urgency);
            effects.dirty.push(self.id, urgency);
        }
    }
}

impl Joining {
    /// Notes that one join of that channel is complete. Answers the direct messages that may
    /// go now.
    fn complete(&mut self, channel: &SharedChannel) -> Vec<Frame> {
        let same = |known: &SharedChannel| {
            known.hash == channel.hash && known.app == channel.app && known.name == channel.name
        };
        if let Some(at) = self.channels.iter().position(same) {
            self.channels.remove(at);
        }
        if self.channels.is_empty() {
            std::mem::take(&mut self.held_directs)
        } else {
            Vec::new()
        }
    }
}
