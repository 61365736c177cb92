//! The shard as the home of connections: local members, fan-out into their outboxes.

use crate::events::kind::Kind;
use crate::ids::{ConnectionId, Seat};
use crate::metrics::Stage;
use crate::proto::ws::frame::count_frames;
use crate::shard::channel::back_pressure::lag::Fed;
use crate::shard::channel::channels::{Channels, LocalChannel};
use crate::shard::channel::pressure::Kept;
use crate::shard::connection::connections::{Connections, Membership};
use crate::shard::context::Context;
use crate::shard::effect::{ChannelSlot, Urgency};
use crate::shard::frame::Frame;
use crate::shard::mesh_message::{Announce, Announced, Deliver, Left, MeshMessage, PublishedAt};
use crate::shard::outbound::outbox::{Piece, SHARED_BYTES_MIN};
use crate::shard::questions::Question;

impl Channels {
    /// Takes a connection out of a channel's local members, if it is one. [`let_go`] follows.
    ///
    /// [`let_go`]: Self::let_go
    pub(in crate::shard) fn remove_member(
        &mut self,
        id: ConnectionId,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(membership) = connections
            .session_mut(id)
            .and_then(|session| session.take_membership(slot))
        else {
            return;
        };
        self.vacate(membership, connections, context);
        self.forget_snapshot(id, slot, connections, context);
    }

    /// Takes the place of a membership that its session has given up. What the member was to get
    /// until now is put into its outbox. [`let_go`](Self::let_go) follows.
    pub(in crate::shard) fn vacate(
        &mut self,
        membership: Membership,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Membership { channel, index } = membership;
        self.copy_out_member(channel, index as usize, connections, context);
        if let Some(moved) = self.take_member(channel, index) {
            let connection = connections.member_mut(moved);
            connection.move_membership(channel, index);
        }
    }

    /// Ends what a leave began, when the member has been told. Nothing is kept any longer for a
    /// channel without members here, and a channel that concerns nobody is forgotten.
    pub(in crate::shard) fn let_go(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.follow_if_empty(slot, connections, context);
        self.release(slot);
    }

    /// A leave is complete at the owner. A join that was under way when it was asked for may have
    /// been completed since, and the question may have ended since: the member goes all the same.
    pub(in crate::shard) fn home_left(
        &mut self,
        left: Left,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        match self.must_follow(&left.channel) {
            Some(slot) => self.keep(slot, Kept::Left(left), connections, context),
            None => self.left_now(&left, connections, context),
        }
    }

    /// As [`home_left`](Self::home_left), when nothing is kept that came before.
    pub(in crate::shard) fn left_now(
        &mut self,
        left: &Left,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let slot = self.find_key(&left.channel);
        if let Some(slot) = slot {
            self.remove_member(left.connection, slot, connections, context);
        }
        if let Some(Question::Leave(command)) = context.questions.take(left.ticket) {
            let what = (command.connection, Kind::Unsubscribed);
            let (channel, read_ns) = (left.channel.name.as_str(), command.reply_to.read_ns);
            connections.record_membership(what, channel, (read_ns, None), context);
            connections.answer_command(&command, Ok(()), context);
        }
        // Behind the ack: what follows may make a member of the connection again.
        if let Some(slot) = slot {
            self.let_go(slot, connections, context);
        }
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
        owner: Seat,
        announce: Announce,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        match self.must_follow(&announce.channel) {
            Some(slot) => {
                let announce = Kept::Announce { owner, announce };
                self.keep(slot, announce, connections, context);
            }
            None => self.announce_now(owner, &announce, connections, context),
        }
    }

    /// As [`home_announce`](Self::home_announce), when nothing is kept that came before.
    pub(in crate::shard) fn announce_now(
        &mut self,
        owner: Seat,
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
            true => self.keep_publication(slot, frames, except, times, connections, context),
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
        let limit = context.delivery_bytes_max();
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
            let connection = connections.member_mut(member.connection_slot);
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
            fed.note(connection, member.waits, late_bytes);
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
        let limit = context.delivery_bytes_max();
        let Some(channel) = self.get(slot) else {
            return;
        };
        for member in channel
            .members
            .iter()
            .filter(|member| member.interest.presence)
        {
            let connection = connections.member_mut(member.connection_slot);
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
        frame: Piece<'_>,
        read_ns: u64,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        self.copy_out_connection(id, connections, context);
        let limit = context.delivery_bytes_max();
        let connection = &mut connections[id];
        let to = (limit, Urgency::Live);
        let delivered = connection.deliver(&[frame], to, &mut context.pool, &mut context.effects);
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
