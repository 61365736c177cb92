//! The shard as the owner of channels: roster, one order, announcements.
//!
//! Every publication, join and leave of a channel passes here, and the order in which they
//! pass is the channel's: links to home shards are FIFO, so all members see it alike. Presence
//! changes wait in a batch until the turn ends or a publication needs its place after them. In a
//! large channel they wait until some time has passed since the changes before them, and only a
//! publication by a peer whose own change waits ends the batch earlier.

use std::mem;

use smallvec::SmallVec;

use crate::domain::channel::{
    Announcement, Channel, Deferred, Departure, Home, Joiner, LeaveOutcome,
};
use crate::domain::peer::SharedChannel;
use crate::ids::{ConnectionRef, Seat, Ticket};
use crate::metrics::Stage;
use crate::shard::channel::channels::Channels;
use crate::shard::channel::numbers::Numbered;
use crate::shard::channel::pressure::Kept;
use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::history::history::New;
use crate::shard::mesh_message::{
    Announce, Announced, Deliver, Join, Joined, Leave, LeaveCause, Left, MeshMessage, PublishedAt,
    Publisher, Sequenced,
};
use crate::shard::outbound::encode;
use crate::shard::outbound::snapshot::Snapshot;

/// A publication whose `message` frame is encoded.
#[derive(Clone, Copy)]
pub(in crate::shard) struct Publication<'a> {
    /// Who publishes.
    pub from: &'a Publisher,
    /// The frame without `fromMetadata`.
    pub plain: &'a [u8],
    /// The same, if it is already shared with other shards.
    pub shared: Option<&'a Frame>,
    /// When it was read, in nanoseconds on the monotonic clock.
    pub read_ns: u64,
    /// By what its sender tells it from others.
    pub id: Option<&'a str>,
}

impl Channels {
    pub(in crate::shard) fn owner_join(&mut self, join: Join, context: &mut Context) {
        let slot = self.find_or_insert(&join.channel);
        let Some(owned) = self.own(slot, context.placement.hasher()) else {
            return;
        };
        let before = owned.roster().peer_count();
        let came = context
            .feeds_presence(join.channel.app)
            .then(|| join.peer.clone());
        owned.join(Joiner {
            connection: join.connection,
            peer: join.peer,
            interest: join.interest,
            ticket: join.ticket,
            since: join.since,
            deferred: Vec::new(),
        });
        if let Some(peer) = came.filter(|_| owned.roster().peer_count() > before) {
            context.feed_joined(&join.channel, owned, &peer);
        }
        self.batch(slot);
    }

    pub(in crate::shard) fn owner_leave(
        &mut self,
        leave: Leave,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Leave {
            channel,
            connection,
            peer,
            cause,
        } = leave;
        let slot = self.find_key(&channel);
        let owned = slot.and_then(|slot| self.owned(slot));
        match (cause, owned) {
            (LeaveCause::Request(ticket), None) => {
                self.answer_leave(channel, connection, ticket, connections, context)
            }
            (LeaveCause::Request(ticket), Some(owned)) => {
                let before = owned.roster().peer_count();
                if owned.leave(&peer, connection, ticket) == LeaveOutcome::Deferred {
                    return;
                }
                if owned.roster().peer_count() < before {
                    context.feed_left(&channel, owned, &peer);
                }
                self.answer_leave(channel, connection, ticket, connections, context);
            }
            (LeaveCause::Ended | LeaveCause::Drained, None) => {}
            (cause, Some(owned)) => {
                let departure = match cause {
                    LeaveCause::Drained => Departure::Silent,
                    LeaveCause::Ended | LeaveCause::Request(_) => Departure::Announced,
                };
                let before = owned.roster().peer_count();
                let deferred = owned.disconnect(&peer, connection, departure);
                if owned.roster().peer_count() < before {
                    context.feed_left(&channel, owned, &peer);
                }
                for deferred in deferred {
                    if let Deferred::Leave(ticket) = deferred {
                        self.answer_leave(
                            channel.clone(),
                            connection,
                            ticket,
                            connections,
                            context,
                        );
                    }
                }
            }
        }
        if let Some(slot) = slot.filter(|slot| self.owned(*slot).is_some()) {
            self.batch(slot);
        }
    }

    /// A local member must be out before the next thing is put into the order, see `joined`.
    fn answer_leave(
        &mut self,
        channel: SharedChannel,
        connection: ConnectionRef,
        ticket: Ticket,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let left = Left {
            channel,
            connection: connection.connection,
            ticket,
        };
        if connection.home == context.id() {
            self.home_left(left, connections, context);
        } else {
            context.send(connection.home, MeshMessage::Left(Box::new(left)));
        }
    }

    /// Puts a publication into the channel's order: whatever was announced before it is sent
    /// before it. In a channel with history it gets a number. Returns how many members the
    /// channel has, the publisher included.
    pub(in crate::shard) fn sequence(
        &mut self,
        slot: ChannelSlot,
        publication: Publication<'_>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Sequenced {
        let (now_ms, pace) = (context.now.mono_ms, context.tuning.pace);
        if let Some(owned) = self.owned(slot)
            && (owned.due_ms(pace) <= now_ms || publication.from.is_withheld(owned))
        {
            self.announce(slot, connections, context);
        }
        // Joins are complete: who joins from now on gets the number of this one.
        let new = New {
            frame: publication.plain,
            from: &publication.from.peer,
            id: publication.id,
        };
        let numbered = match self.may_number(slot, context) {
            true => self.number(slot, new, context),
            false => None,
        };
        let (position, frame) = match numbered {
            Some(Numbered::Again(position, awaits_store)) => {
                return Sequenced::again(position, awaits_store);
            }
            Some(Numbered::New(position, awaits_store)) => {
                let frame = mem::take(&mut context.numbered);
                (Some((position, awaits_store)), frame)
            }
            None => (None, Vec::new()),
        };
        let awaits_store = position.is_some_and(|(_, awaits_store)| awaits_store);
        let position = position.map(|(position, _)| position);
        let numbered = position.map(|it| (&frame[..], it.seq));
        let delivered = self.spread(slot, publication, numbered, connections, context);
        if position.is_some() {
            context.numbered = frame;
        } else if delivered == 0 {
            // It may have been there for its history alone.
            self.release(slot);
        }
        Sequenced {
            delivered,
            position,
            is_duplicate: false,
            awaits_store,
        }
    }

    /// Sends a publication, which has its place, to the homes of the channel's members: its frame
    /// with a number, where it has one. Returns how many members there are.
    fn spread(
        &mut self,
        slot: ChannelSlot,
        publication: Publication<'_>,
        numbered: Option<(&[u8], u64)>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> u64 {
        let times = PublishedAt {
            read_ns: publication.read_ns,
            ordered_ns: context.stamp_ns,
        };
        let waited_ns = times.ordered_ns.saturating_sub(times.read_ns);
        // Read and ordered in one input: nothing was waited for, and nothing says how long the
        // handling took.
        if waited_ns > 0 {
            let latencies = &mut context.metrics.latencies;
            latencies.record(Stage::CommandToOrder, waited_ns);
        }
        let now_ms = context.now.mono_ms;
        let Some(owned) = self.owned(slot) else {
            return 0;
        };
        owned.rate.count(now_ms);
        let homes: SmallVec<[Home; 4]> = owned.homes().iter().copied().collect();
        let member_count = homes.iter().map(|home| u64::from(home.member_count)).sum();
        let mut with_metadata = mem::take(&mut context.encoded_with_metadata);
        with_metadata.clear();
        if let Some(metadata) = &publication.from.peer.metadata
            && homes.iter().any(|home| home.metadata_count > 0)
        {
            let seq = numbered.map(|(_, seq)| seq);
            encode::extended(&mut with_metadata, publication.plain, Some(metadata), seq);
        }
        let (plain, mut plain_shared) = match numbered {
            Some((numbered, _)) => (numbered, None),
            None => (publication.plain, publication.shared.cloned()),
        };
        let mut with_metadata_shared: Option<Frame> = None;
        for home in &homes {
            let variant = Some(&with_metadata[..])
                .filter(|bytes| !bytes.is_empty() && home.metadata_count > 0);
            if home.seat == context.id() {
                let except = publication.from.connection_at(home.seat);
                self.deliver(slot, (plain, variant), except, times, connections, context);
                continue;
            }
            let Some(channel) = self.get(slot) else {
                continue;
            };
            let deliver = Deliver {
                channel: channel.key.clone(),
                plain: plain_shared.get_or_insert_with(|| plain.into()).clone(),
                with_metadata: variant.map(|bytes| {
                    with_metadata_shared
                        .get_or_insert_with(|| bytes.into())
                        .clone()
                }),
                except: publication.from.connection_at(home.seat),
                times,
            };
            context.send(home.seat, MeshMessage::Deliver(Box::new(deliver)));
        }
        context.encoded_with_metadata = with_metadata;
        member_count
    }

    /// Notes that the channel has presence changes or joiners to be dealt with this turn.
    pub(in crate::shard) fn batch(&mut self, slot: ChannelSlot) {
        if let Some(channel) = self.get_mut(slot)
            && !channel.batched
        {
            channel.batched = true;
            self.batched.push(slot);
        }
    }

    /// Ends the batches of this turn, except those that are due later.
    pub(in crate::shard) fn announce_batches(
        &mut self,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        while let Some(slot) = self.batched.pop() {
            if let Some(channel) = self.get_mut(slot) {
                channel.batched = false;
            }
            self.announce_or_defer(slot, connections, context);
        }
    }

    /// When a batch is due next.
    pub(in crate::shard) fn next_announcement_ms(&self) -> Option<u64> {
        self.announcements.first().map(|(due_ms, _)| *due_ms)
    }

    /// Ends the batches that are due by now.
    pub(in crate::shard) fn announce_due(
        &mut self,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        while let Some((due_ms, slot)) = self.announcements.first().copied()
            && due_ms <= context.now.mono_ms
        {
            self.announcements.pop_first();
            // The slot may have another channel by now, or none.
            let channel = self.get_mut(slot);
            let due = channel.and_then(|it| it.announce_ms.take_if(|at| *at == due_ms));
            if due.is_some() {
                self.announce_or_defer(slot, connections, context);
            }
        }
    }

    /// No batch is due later than with this turn.
    pub(in crate::shard) fn hurry_announcements(&mut self) {
        for (_, slot) in mem::take(&mut self.announcements) {
            // The slot may have another channel by now, or none.
            let channel = self.get_mut(slot);
            if channel.and_then(|it| it.announce_ms.take()).is_some() {
                self.batch(slot);
            }
        }
    }

    fn announce_or_defer(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let (now_ms, pace) = (context.now.mono_ms, context.tuning.pace);
        if let Some(channel) = self.get_mut(slot)
            && let Some(owned) = &channel.owned
            && let due_ms = owned.due_ms(pace)
            && due_ms > now_ms
            && !context.is_frozen
        {
            if channel.announce_ms.is_none() {
                channel.announce_ms = Some(due_ms);
                self.announcements.insert((due_ms, slot));
            }
            return;
        }
        self.announce(slot, connections, context);
        self.release(slot);
    }

    /// Ends a channel's batch: tells the home shards, and completes the joins that wait for
    /// none of them.
    pub(in crate::shard) fn announce(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let now_ms = context.now.mono_ms;
        let Some(channel) = self.get_mut(slot) else {
            return;
        };
        let Some(owned) = channel.owned.as_mut().filter(|owned| owned.has_batch()) else {
            return;
        };
        if let Some(announcement) = owned.announce(now_ms) {
            let key = channel.key.clone();
            self.tell(slot, &key, &announcement, connections, context);
        }
        self.complete_joins(slot, connections, context);
        self.watch_barrier(slot);
    }

    /// Notes until when the channel waits for home shards, if it does.
    fn watch_barrier(&mut self, slot: ChannelSlot) {
        let Some(channel) = self.get_mut(slot) else {
            return;
        };
        let end_ms = channel.owned.as_ref().and_then(|it| it.next_end_ms());
        let before_ms = mem::replace(&mut channel.barrier_ms, end_ms);
        if before_ms != end_ms {
            before_ms.map(|at| self.barriers.remove(&(at, slot)));
            end_ms.map(|at| self.barriers.insert((at, slot)));
        }
    }

    /// When a channel no longer waits for a home shard, next.
    pub(in crate::shard) fn next_barrier_ms(&self) -> Option<u64> {
        self.barriers.first().map(|(end_ms, _)| *end_ms)
    }

    /// Channels that have waited for home shards for too long go on without.
    pub(in crate::shard) fn end_barriers(
        &mut self,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let now_ms = context.now.mono_ms;
        while let Some((end_ms, slot)) = self.barriers.first().copied()
            && end_ms <= now_ms
        {
            self.pass_barrier(
                slot,
                |owned| owned.end_overdue(now_ms),
                connections,
                context,
            );
        }
    }

    /// A shard is gone: nobody waits until it has announced something.
    pub(in crate::shard) fn lose_home(
        &mut self,
        home: Seat,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let waiting: Vec<ChannelSlot> = self.barriers.iter().map(|(_, slot)| *slot).collect();
        for slot in waiting {
            self.pass_barrier(slot, |owned| owned.lose(home), connections, context);
        }
    }

    fn pass_barrier(
        &mut self,
        slot: ChannelSlot,
        pass: impl FnOnce(&mut Channel),
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if let Some(owned) = self.owned(slot) {
            pass(owned);
            self.complete_joins(slot, connections, context);
        }
        self.watch_barrier(slot);
        self.release(slot);
    }

    fn tell(
        &mut self,
        slot: ChannelSlot,
        channel: &SharedChannel,
        announcement: &Announcement,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Announcement { token, told, homes } = announcement;
        let frames = Frame::from(encode::presence_changes(channel, told));
        for home in homes {
            if *home == context.id()
                && let Some(slot) = self.must_follow(channel)
            {
                let owner = *home;
                let announce = Announce {
                    channel: channel.clone(),
                    frames: frames.clone(),
                    token: *token,
                };
                let announce = Kept::Announce { owner, announce };
                self.keep(slot, announce, connections, context);
            } else if *home == context.id() {
                // Local members have it in their outboxes at once; the barrier is passed.
                self.deliver_presence(slot, &frames, connections, context);
                if let Some(owned) = self.owned(slot) {
                    owned.announced(*token, *home);
                }
            } else {
                let announce = Announce {
                    channel: channel.clone(),
                    frames: frames.clone(),
                    token: *token,
                };
                context.send(*home, MeshMessage::Announce(Box::new(announce)));
            }
        }
    }

    pub(in crate::shard) fn owner_announced(
        &mut self,
        home: Seat,
        announced: &Announced,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(slot) = self.find_key(&announced.channel) else {
            return; // Nobody waited for this home any more, and the last member has left.
        };
        if let Some(owned) = self.owned(slot) {
            owned.announced(announced.token, home);
            self.complete_joins(slot, connections, context);
            self.watch_barrier(slot);
        }
        self.release(slot);
    }

    /// Makes members of all joiners whose announcement has reached everybody, in order.
    fn complete_joins(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        loop {
            let Some(channel) = self.get_mut(slot) else {
                return;
            };
            let Some(owned) = channel.owned.as_mut() else {
                return;
            };
            let Some(joiner) = owned.next_ready() else {
                return;
            };
            let key = channel.key.clone();
            let snapshot = joiner.interest.presence.then(|| {
                let own_id = joiner.peer.id.as_str();
                Snapshot::new(owned.snapshot(&key, own_id))
            });
            for deferred in joiner.deferred {
                // The join is complete, so these wait for nothing but, again, each other.
                match deferred {
                    Deferred::Join(interest, since, ticket) => {
                        context.loopback.push_back(MeshMessage::Join(Box::new(Join {
                            channel: key.clone(),
                            connection: joiner.connection,
                            peer: joiner.peer.clone(),
                            interest,
                            since,
                            ticket,
                        })))
                    }
                    Deferred::Leave(ticket) => {
                        context
                            .loopback
                            .push_back(MeshMessage::Leave(Box::new(Leave {
                                channel: key.clone(),
                                connection: joiner.connection,
                                peer: joiner.peer.clone(),
                                cause: LeaveCause::Request(ticket),
                            })))
                    }
                }
            }
            // What is published from now on is sent to the member: it gets the rest from here.
            let with_metadata = joiner.interest.sender_metadata;
            let resumed = joiner
                .since
                .map(|since| Box::new(self.resume(slot, since, with_metadata, context)));
            let joined = Joined {
                channel: key,
                connection: joiner.connection.connection,
                interest: joiner.interest,
                ticket: joiner.ticket,
                snapshot,
                resumed,
            };
            self.joined(joiner.connection.home, joined, connections, context);
        }
    }

    /// A local member must be in place before the next thing is put into the order, which may
    /// happen before `loopback` is looked at.
    pub(in crate::shard) fn joined(
        &mut self,
        home: Seat,
        joined: Joined,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if home == context.id() {
            self.home_joined(joined, connections, context);
        } else {
            context.send(home, MeshMessage::Joined(Box::new(joined)));
        }
    }

    pub(in crate::shard) fn owned(&mut self, slot: ChannelSlot) -> Option<&mut Channel> {
        self.get_mut(slot)?.owned.as_deref_mut()
    }
}
