//! Joins of one connection, side by side.
//!
//! When the owner of a channel says that a join is complete, the connection is a member and is
//! acked at once, and its snapshot waits until `SNAPSHOT_PAUSE_MS` after the write that carried
//! the ack. All pauses overlap. Only what belongs after the snapshot waits with it: what is sent
//! to that channel meanwhile, and direct messages, whose senders may be peers that only the
//! snapshot tells of. These wait for the joins that were under way when they came, not for later
//! ones.
//!
//! Snapshots can be large. One that would not fit into
//! [`snapshot_bytes_max`](crate::shard::tuning::Tuning::snapshot_bytes_max) beside what waits is
//! not kept: it is asked for again once there is room. A `subscribe` to a channel whose snapshot
//! has not been written waits for that, and so does all input after it.
//!
//! A connection that unsubscribes or ends before its snapshot has left gets neither the snapshot
//! nor what waits for it.
//!
//! A replay follows the snapshot, see `shard/channel/resume.rs`. Always true: a member waits just
//! while its connection has a snapshot or replay for that channel of which not all is queued.

use smallvec::SmallVec;

use crate::domain::peer::SharedChannel;
use crate::domain::roster::Interest;
use crate::events::kind::{Cause, Kind};
use crate::ids::{ConnectionId, Ticket};
use crate::metrics::Stage;
use crate::planted::{Bug, planted};
use crate::proto::wire::error::ErrorCode;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::frame::Header;
use crate::shard::channel::channels::Channels;
use crate::shard::channel::pressure::Kept;
use crate::shard::connection::connections::{Connections, Held, Membership, Phase};
use crate::shard::connection::ending::Goodbye;
use crate::shard::connection::joining::{AwaitedSnapshot, State, Wanted, is_written};
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::history::replay::Replay;
use crate::shard::mesh_message::{Join, Joined, LeaveCause, MeshMessage};
use crate::shard::outbound::outbox::{Class, Piece};
use crate::shard::outbound::snapshot::Snapshot;
use crate::shard::questions::{Asked, PendingCommand, PendingJoin, Question, ReplyTo};

/// Between the write that carries an ack and the snapshot, in milliseconds. A client that begins to
/// listen for the snapshot when it has read the ack needs 15: with none, Node's `ws` read both
/// together in 20 of 20 joins on loopback. The clock cuts off one more, and one is what the writes
/// of a turn take after its time was read.
const SNAPSHOT_PAUSE_MS: u64 = 15 + 1 + 1;

/// Connections whose snapshots are queued in one turn: with ten of 2 KB each that takes 50 µs.
const PAUSES_PER_TURN_MAX: usize = 8;

impl Channels {
    /// A join is complete: the connection is a member from here on.
    pub(in crate::shard) fn home_joined(
        &mut self,
        joined: Joined,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        match self.must_follow(&joined.channel) {
            Some(slot) => self.keep(slot, Kept::Joined(joined), connections, context),
            None => self.joined_now(joined, connections, context),
        }
    }

    /// As [`home_joined`](Self::home_joined), when nothing is kept that came before.
    pub(in crate::shard) fn joined_now(
        &mut self,
        joined: Joined,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let id = joined.connection;
        let Some(Question::Join(PendingJoin { command, .. })) =
            context.questions.take(joined.ticket)
        else {
            return; // It has ended, and the owner has been told to forget the joiner.
        };
        // A connection that ends takes its questions about joins back.
        let Some(session) = connections.open_mut(id) else {
            return;
        };
        let joining = session.joining.as_mut();
        let answered = joining.and_then(|it| it.answered(joined.ticket, &joined.channel));
        let Some((number, is_again)) = answered else {
            // The connection has unsubscribed meanwhile. The owner may have heard of that before it
            // was asked again, which made a member of it once more.
            let peer = session.peer.clone();
            context.leave_silently(id, peer, joined.channel, LeaveCause::Ended);
            return self.advance_joins(id, connections, context);
        };
        let slot = self.add_member(id, &joined, connections, context);
        if !is_again {
            let (channel, read_ns) = (joined.channel.name.as_str(), command.reply_to.read_ns);
            let resumed = joined.resumed.as_deref();
            let what = (id, Kind::Subscribed);
            connections.record_membership(what, channel, (read_ns, resumed), context);
            match &joined.resumed {
                None => connections.answer_command(&command, Ok(()), context),
                Some(resumed) => connections.ack_resumed(&command, resumed, context),
            }
        }
        let replay = joined.resumed.map_or_else(Replay::default, |it| it.replay);
        if joined.snapshot.is_some() || !replay.is_over() {
            let is_acked = command.reply_to.id().is_some();
            let awaited = AwaitedSnapshot {
                channel: joined.channel,
                slot: Some(slot),
                number,
                sender_metadata: joined.interest.sender_metadata,
                state: match joined.snapshot {
                    Some(_) => State::Written { from_ms: 0 },
                    None => State::ReplayDue,
                },
                snapshot: joined.snapshot,
                replay,
                held: Vec::new(),
                read_ns: command.reply_to.read_ns,
            };
            self.await_snapshot(id, awaited, is_acked, connections, context);
        }
        self.advance_joins(id, connections, context);
        connections.hold_if_unread(id);
    }

    fn add_member(
        &mut self,
        id: ConnectionId,
        joined: &Joined,
        connections: &mut Connections,
        context: &mut Context,
    ) -> ChannelSlot {
        let slot = self.find_or_insert(&joined.channel);
        if let Some(place) = connections[id].place_in(slot) {
            self.copy_out_member(slot, place, connections, context);
            if let Some(channel) = self.get_mut(slot)
                && let Some(member) = channel.members.get_mut(place)
            {
                member.interest = joined.interest;
            }
            return slot;
        }
        let index = self.push_member(slot, id.slot, joined.interest);
        if let Some(session) = connections.open_mut(id) {
            session.memberships.push(Membership {
                channel: slot,
                index,
            });
        }
        slot
    }

    /// The connection has become a member; what is sent to it from now on follows the snapshot.
    fn await_snapshot(
        &mut self,
        id: ConnectionId,
        mut awaited: AwaitedSnapshot,
        is_acked: bool,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let room = context.tuning.snapshot_bytes_max;
        let outbox = &connections[id].outbox;
        let (replies, end) = (outbox.reply_bytes(), outbox.end());
        let Some(session) = connections.open_mut(id) else {
            return;
        };
        let joining = session.joining.get_or_insert_default();
        let bytes = awaited.snapshot.as_ref().map_or(0, Snapshot::bytes);
        let others = joining.snapshot_bytes();
        // The first one is kept, whatever its size.
        let is_first = others == 0 && replies <= room;
        if !is_first && others + replies + bytes > room {
            awaited.snapshot = None;
        }
        match awaited.state {
            State::ReplayDue => self.replaying.push_back(id),
            _ if is_acked => awaited.state = State::Acked { end },
            _ => {}
        }
        let slot = awaited.slot;
        let mut known = joining.snapshots.iter_mut();
        match known.find(|it| it.slot == slot) {
            // It was asked for again: it shows what was announced since it was asked for first.
            Some(known) => {
                known.snapshot = awaited.snapshot;
                retain_messages(&mut known.held);
            }
            None => joining.snapshots.push_back(awaited),
        }
        if let Some(slot) = slot {
            self.set_waits(id, slot, true, connections);
        }
        self.queue_snapshots(id, context.now.mono_ms, connections, context);
    }

    pub(super) fn set_waits(
        &mut self,
        id: ConnectionId,
        slot: ChannelSlot,
        waits: bool,
        connections: &mut Connections,
    ) {
        if let Some(place) = connections[id].place_in(slot)
            && let Some(channel) = self.get_mut(slot)
            && let Some(member) = channel.members.get_mut(place)
        {
            member.waits = waits;
        }
    }

    /// Something of an outbox has been written, now.
    #[inline]
    pub(in crate::shard) fn joins_written(
        &mut self,
        id: ConnectionId,
        now_ms: u64,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let is_joining = connections
            .session(id)
            .is_some_and(|it| it.joining.is_some());
        if is_joining {
            self.snapshots_written(id, now_ms, connections, context);
        }
    }

    fn snapshots_written(
        &mut self,
        id: ConnectionId,
        now_ms: u64,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let connection = &mut connections[id];
        let outbox = &connection.outbox;
        let Phase::Open(session) = &mut connection.phase else {
            return;
        };
        let Some(joining) = &mut session.joining else {
            return;
        };
        let from_ms = now_ms + SNAPSHOT_PAUSE_MS;
        let mut is_paused = false;
        let mut replays_due = 0;
        joining.snapshots.retain_mut(|it| match it.state {
            State::Replaying { end } if is_written(outbox, end) => {
                it.state = State::ReplayDue;
                replays_due += 1;
                true
            }
            State::Acked { end } if is_written(outbox, end) => {
                it.state = State::Written { from_ms };
                is_paused = true;
                true
            }
            State::Queued { end } => !is_written(outbox, end),
            _ => true,
        });
        if is_paused {
            // The pause has one length, so that they end in the order in which they begin.
            self.pauses.push_back((from_ms, id));
        }
        self.replaying.extend(std::iter::repeat_n(id, replays_due));
        self.advance_joins(id, connections, context);
    }

    /// When the next snapshot may leave.
    pub(in crate::shard) fn next_snapshot_ms(&self) -> Option<u64> {
        self.pauses.front().map(|(from_ms, _)| *from_ms)
    }

    /// Lets the snapshots leave whose pauses are over, of some connections. The others stay due.
    pub(in crate::shard) fn end_pauses(
        &mut self,
        now_ms: u64,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        for _ in 0..PAUSES_PER_TURN_MAX {
            let Some((_, id)) = self.pauses.pop_front_if(|(from_ms, _)| *from_ms <= now_ms) else {
                break;
            };
            if connections.session(id).is_none() {
                continue; // It has ended in its pause.
            }
            self.queue_snapshots(id, now_ms, connections, context);
            self.advance_joins(id, connections, context);
            connections.hold_if_unread(id);
        }
    }

    /// Queues the snapshots that may leave, each followed by what waited for it.
    fn queue_snapshots(
        &mut self,
        id: ConnectionId,
        now_ms: u64,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let connection = &mut connections[id];
        let outbox = &mut connection.outbox;
        let Phase::Open(session) = &mut connection.phase else {
            return;
        };
        let (mut is_any, mut queued) = (false, SmallVec::<[ChannelSlot; 4]>::new());
        for awaited in session.joining.iter_mut().flat_map(|it| &mut it.snapshots) {
            let is_due = matches!(awaited.state, State::Written { from_ms } if from_ms <= now_ms);
            let Some(snapshot) = awaited.snapshot.take_if(|_| is_due) else {
                continue;
            };
            let frames = snapshot.push(outbox, &mut context.pool);
            context.metrics.counters.presence_sent += frames as u64;
            context.effects.write(Stage::Snapshot, awaited.read_ns);
            is_any = true;
            if awaited.replay.is_over() {
                awaited.state = State::Queued { end: outbox.end() };
                outbox.push(Class::Delivery, &awaited.held, &mut context.pool);
                awaited.held = Vec::new();
                queued.extend(awaited.slot.take());
            } else {
                awaited.state = State::ReplayDue;
                self.replaying.push_back(id);
            }
        }
        if is_any && !planted(Bug::LostWakeUp) {
            connection.mark_dirty(&mut context.effects);
        }
        for slot in queued {
            self.set_waits(id, slot, false, connections);
        }
    }

    /// What waited for a join goes on, unless it waits for another one.
    pub(in crate::shard) fn advance_joins(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.release_directs(id, connections, context);
        // While the shard is frozen no other shard is asked for anything.
        if !context.is_frozen {
            connections.ask_again(id, context);
            connections.release_parked(id, context);
        }
        connections.release_refresh(id);
        if let Some(session) = connections.open_mut(id) {
            session.joining.take_if(|joining| joining.is_over());
        }
        connections.debug_check_joins(id, context);
    }

    fn release_directs(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        while let Some(session) = connections.open_mut(id)
            && let Some(joining) = &mut session.joining
            && let oldest = joining.oldest().unwrap_or(u64::MAX)
            && let Some((_, frame, read_ns)) =
                joining.directs.pop_front_if(|(first, ..)| *first <= oldest)
        {
            joining.directs_bytes -= frame.len();
            let whole = Piece::Shared(&frame, 0..frame.len());
            self.deliver_to(id, whole, read_ns, connections, context);
        }
    }

    /// The owner of a channel has not said that a join is complete, and never will. A connection
    /// that waits among the members for its snapshot alone could only wait on: it is closed.
    pub(in crate::shard) fn join_unanswered(
        &mut self,
        join: &PendingJoin,
        ticket: Ticket,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let PendingJoin {
            command,
            channel,
            is_again,
        } = join;
        let id = command.connection;
        // One of the questions that have ended together with this one may have closed it.
        let Some(session) = connections.session_mut(id) else {
            return;
        };
        if *is_again {
            let goodbye = Goodbye {
                reason: "a snapshot could not be had in time",
                ..Goodbye::of(Cause::ShardSilent, CloseCode::TRY_AGAIN_LATER)
            };
            return self.close(id, &goodbye, connections, context);
        }
        let peer = session.peer.clone();
        if let Some(joining) = &mut session.joining {
            joining.answered(ticket, channel);
        }
        context.leave_silently(id, peer, channel.clone(), LeaveCause::Ended);
        let slot = self.find_key(channel);
        if let Some(slot) = slot {
            self.remove_member(id, slot, connections, context);
        }
        connections.answer_command(command, Err(ErrorCode::BackendError), context);
        self.advance_joins(id, connections, context);
        if let Some(slot) = slot {
            self.let_go(slot, connections, context);
        }
    }

    /// The connection is no member any more: nothing of the channel is to be sent to it.
    pub(in crate::shard) fn forget_snapshot(
        &mut self,
        id: ConnectionId,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if let Some(session) = connections.open_mut(id)
            && let Some(joining) = &mut session.joining
        {
            joining.snapshots.retain(|it| it.slot != Some(slot));
            self.advance_joins(id, connections, context);
        }
    }

    /// A direct message to one connection. It leaves after the joins that it waits for, if any.
    pub(in crate::shard) fn deliver_direct(
        &mut self,
        id: ConnectionId,
        frame: Piece<'_>,
        read_ns: u64,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        let limit = context.delivery_bytes_max();
        let Some(connection) = connections.get_mut(id) else {
            return false;
        };
        let waiting_bytes = connection.delivery_bytes_waiting();
        let limit = limit.saturating_add(connection.pardoned_bytes());
        let Phase::Open(session) = &mut connection.phase else {
            return false;
        };
        let joining = session.joining.as_mut();
        let joining = joining.filter(|joining| joining.oldest().is_some());
        let Some(joining) = joining.filter(|_| !planted(Bug::DirectOvertakesSnapshot)) else {
            return self.deliver_to(id, frame, read_ns, connections, context);
        };
        if waiting_bytes + frame.len() > limit {
            context.slow.push(id);
            return false;
        }
        joining.directs_bytes += frame.len();
        let held = match frame {
            Piece::Shared(frame, _) => frame.clone(),
            Piece::Owned(bytes) => Frame::from(bytes),
        };
        joining.directs.push_back((joining.next, held, read_ns));
        connections.debug_check_joins(id, context);
        true
    }
}

impl Connections {
    /// Asks for a snapshot for which there was no room, if there is now.
    fn ask_again(&mut self, id: ConnectionId, context: &mut Context) {
        let room = context.tuning.snapshot_bytes_max;
        let replies = self[id].outbox.reply_bytes();
        let session = self.open_mut(id);
        let Some(joining) = session.and_then(|session| session.joining.as_deref()) else {
            return;
        };
        if joining.snapshot_bytes() > 0 || replies > room {
            return;
        }
        let is_missing =
            |it: &&AwaitedSnapshot| it.snapshot.is_none() && it.state.is_before_snapshot();
        let mut missing = joining.snapshots.iter().filter(is_missing);
        let missing = missing.find_map(|it| {
            it.slot?;
            Some((it.sender_metadata, it.read_ns, &it.channel))
        });
        let missing = missing.filter(|(.., channel)| !joining.is_asked(channel));
        let Some((sender_metadata, read_ns, channel)) = missing else {
            return;
        };
        let channel = channel.clone();
        self.ask_for_snapshot(id, channel, (sender_metadata, read_ns), context);
    }

    /// Asks the owner of a channel for its snapshot, for a member that waits for it.
    pub(in crate::shard) fn ask_for_snapshot(
        &mut self,
        id: ConnectionId,
        channel: SharedChannel,
        (sender_metadata, read_ns): (bool, u64),
        context: &mut Context,
    ) {
        // Only who may see presence waits for a snapshot.
        let interest = Interest {
            presence: true,
            sender_metadata,
        };
        let command = PendingCommand {
            connection: id,
            asked: Asked::Membership,
            reply_to: ReplyTo {
                request_id: None,
                read_ns,
            },
        };
        let wanted = Wanted {
            channel,
            interest,
            since: None,
            command,
        };
        self.ask_to_join(wanted, true, context);
    }

    /// Asks the owner of a channel to make a member of a connection; if it `is_again`, only for
    /// the snapshot.
    pub(in crate::shard) fn ask_to_join(
        &mut self,
        wanted: Wanted,
        is_again: bool,
        context: &mut Context,
    ) {
        let Wanted {
            channel,
            interest,
            since,
            command,
        } = wanted;
        let id = command.connection;
        let owner = context.placement.owner(channel.hash);
        let question = Question::Join(PendingJoin {
            command,
            channel: channel.clone(),
            is_again,
        });
        let ticket = self.ask(question, [owner], context);
        let Some(session) = self.open_mut(id) else {
            return;
        };
        let joining = session.joining.get_or_insert_default();
        joining.ask(channel.clone(), ticket, (is_again, since.is_some()));
        let join = Join {
            channel,
            connection: context.here(id),
            peer: session.peer.clone(),
            interest,
            since,
            ticket,
        };
        context.send(owner, MeshMessage::Join(Box::new(join)));
    }

    fn release_parked(&mut self, id: ConnectionId, context: &mut Context) {
        let session = self.open_mut(id);
        let Some(joining) = session.and_then(|session| session.joining.as_mut()) else {
            return;
        };
        let parked = joining.parked.take();
        match parked {
            Some(wanted) if joining.must_park(&wanted) => joining.parked = Some(wanted),
            Some(wanted) => {
                self.ask_to_join(*wanted, false, context);
                self.release_input(id, Held::JOINS);
            }
            None => {}
        }
    }
}

/// Drops the presence changes among frames that were held for a snapshot: a later one tells of
/// them.
fn retain_messages(frames: &mut Vec<u8>) {
    let mut kept = Vec::new();
    let mut rest = &frames[..];
    while let Ok(Some((header, header_bytes))) = Header::decode(rest) {
        let end = (header_bytes + header.payload_len as usize).min(rest.len());
        let (frame, behind) = rest.split_at(end);
        if !frame[header_bytes..].starts_with(br#"{"type":"presence""#) {
            kept.extend_from_slice(frame);
        }
        rest = behind;
    }
    *frames = kept;
}
