//! What a connection keeps of its joins.
//!
//! Always true, see `Connection::check_joins`, after each step that changes it: numbers grow in the
//! order of the requests; input is held while a join is parked; a snapshot that is queued is kept
//! by the outbox alone.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::domain::peer::{ChannelKey, SharedChannel};
use crate::domain::roster::Interest;
use crate::ids::Ticket;
use crate::proto::wire::position::Since;
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::history::replay::Replay;
use crate::shard::outbound::outbox::Outbox;
use crate::shard::outbound::snapshot::Snapshot;
use crate::shard::questions::PendingCommand;

/// Joins on their way, and what must not overtake them.
#[derive(Debug, Default)]
pub(in crate::shard) struct Joining {
    /// The number of the next join.
    pub(in crate::shard) next: u64,
    /// Joins whose `Joined` is awaited, in order.
    pub(in crate::shard) asked: SmallVec<[AskedJoin; 1]>,
    /// Joins whose snapshots and replays have not been written, in the order of the acks.
    pub(in crate::shard) snapshots: VecDeque<AwaitedSnapshot>,
    /// Direct messages that wait, each with the first join that it does not wait for, and with when
    /// it was read.
    pub(in crate::shard) directs: VecDeque<(u64, Frame, u64)>,
    pub(in crate::shard) directs_bytes: usize,
    /// A `subscribe` that waits for the snapshot of the one before it.
    pub(in crate::shard) parked: Option<Box<Wanted>>,
    /// A `refresh` that waits for all of these.
    pub(in crate::shard) refresh: Option<Box<AwaitedRefresh>>,
}

/// A new token that has been shown while joins were on their way.
#[derive(Debug)]
pub(in crate::shard) struct AwaitedRefresh {
    pub token: Option<Box<str>>,
    pub command: PendingCommand,
}

/// What a connection subscribes to.
#[derive(Debug)]
pub(in crate::shard) struct Wanted {
    pub channel: SharedChannel,
    pub interest: Interest,
    /// What it wants of the publications before.
    pub since: Option<Since>,
    pub command: PendingCommand,
}

/// See [`Joining::asked`].
#[derive(Debug)]
pub(in crate::shard) struct AskedJoin {
    pub channel: SharedChannel,
    /// Names the join while its owner is asked.
    pub ticket: Ticket,
    pub(in crate::shard) number: u64,
    /// Only the snapshot is asked for, again.
    pub(in crate::shard) is_again: bool,
    /// Publications may be replayed.
    pub(in crate::shard) is_resuming: bool,
}

/// See [`Joining::snapshots`].
#[derive(Debug)]
pub(in crate::shard) struct AwaitedSnapshot {
    pub channel: SharedChannel,
    /// Where its members are, while the connection waits among them.
    pub slot: Option<ChannelSlot>,
    pub number: u64,
    /// What the connection wants of the channel, beside presence.
    pub sender_metadata: bool,
    /// `None`: there was no room for it, or it is queued, or none is wanted.
    pub snapshot: Option<Snapshot>,
    pub state: State,
    /// Publications from before the join, which follow the snapshot.
    pub replay: Replay,
    /// Frames of the channel, in order, that follow both.
    pub held: Vec<u8>,
    /// When the request was read.
    pub read_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum State {
    /// The ack ends at that position of the outbox.
    Acked { end: u32 },
    /// The ack has been written; the snapshot may leave from then on.
    Written { from_ms: u64 },
    /// The next portion of the replay may be queued: the connection is on the list of those to
    /// which one can.
    ReplayDue,
    /// A portion of the replay is in the outbox, where it ends at that position.
    Replaying { end: u32 },
    /// The snapshot is in the outbox, where it ends at that position.
    Queued { end: u32 },
}

impl State {
    /// Whether the snapshot, and with it who is in the channel, has not been queued yet.
    pub(in crate::shard) fn is_before_snapshot(self) -> bool {
        matches!(self, Self::Acked { .. } | Self::Written { .. })
    }
}

/// Joins of one connection whose owners are asked for replays at the same time: each may bring one
/// of the largest.
pub(in crate::shard) const RESUMES_MAX: usize = 8;
/// Bytes of replays that wait for a connection before it may ask for another one.
pub(in crate::shard) const REPLAY_BYTES_MAX: usize = 256 * 1_024;

/// Whether an outbox has been written up to a position. Positions wrap; what waits is far less
/// than half of all of them.
pub(in crate::shard) fn is_written(outbox: &Outbox, end: u32) -> bool {
    outbox.position().wrapping_sub(end) < u32::MAX / 2
}

fn same(one: &ChannelKey, other: &ChannelKey) -> bool {
    one.hash == other.hash && one.app == other.app && one.name == other.name
}

impl Joining {
    /// Whether a `subscribe` must wait for the one to that channel before it, or for replays that
    /// wait.
    pub(in crate::shard) fn must_park(&self, wanted: &Wanted) -> bool {
        let channel = &wanted.channel;
        let is_there = || self.snapshots.iter().any(|it| same(&it.channel, channel));
        self.is_asked(channel) || is_there() || wanted.since.is_some() && self.is_full_of_replays()
    }

    fn is_full_of_replays(&self) -> bool {
        let resuming = self.asked.iter().filter(|it| it.is_resuming).count();
        resuming >= RESUMES_MAX || self.replay_bytes() > REPLAY_BYTES_MAX
    }

    /// Bytes of publications that wait to be replayed; other connections may share them.
    pub(in crate::shard) fn replay_bytes(&self) -> usize {
        self.snapshots.iter().map(|it| it.replay.bytes()).sum()
    }

    /// Whether a join of that channel is on its way to its owner.
    pub(in crate::shard) fn is_asked(&self, channel: &ChannelKey) -> bool {
        self.asked.iter().any(|asked| same(&asked.channel, channel))
    }

    /// Notes a join that is sent to the owner now.
    pub(in crate::shard) fn ask(
        &mut self,
        channel: SharedChannel,
        ticket: Ticket,
        (is_again, is_resuming): (bool, bool),
    ) {
        let number = self.next;
        self.next += 1;
        self.asked.push(AskedJoin {
            channel,
            ticket,
            number,
            is_again,
            is_resuming,
        });
    }

    /// Keeps a join until the one before it is over.
    pub(in crate::shard) fn park(&mut self, wanted: Wanted) {
        self.parked = Some(Box::new(wanted));
    }

    /// The owner has answered. Returns the join's number and whether only the snapshot was asked
    /// for, or `None` if the answer is not wanted any more.
    pub(in crate::shard) fn answered(
        &mut self,
        ticket: Ticket,
        channel: &ChannelKey,
    ) -> Option<(u64, bool)> {
        let mut asked = self.asked.iter();
        let at = asked.position(|asked| asked.ticket == ticket)?;
        let asked = self.asked.remove(at);
        let mut waiting = self.snapshots.iter().filter(|it| it.slot.is_some());
        let is_wanted = !asked.is_again || waiting.any(|it| same(&it.channel, channel));
        is_wanted.then_some((asked.number, asked.is_again))
    }

    /// The first join that a direct message could have to wait for.
    pub(in crate::shard) fn oldest(&self) -> Option<u64> {
        let is_waiting = |it: &&AwaitedSnapshot| it.slot.is_some() && it.state.is_before_snapshot();
        let waiting = self.snapshots.iter().filter(is_waiting);
        let waiting = waiting.map(|it| it.number);
        waiting.chain(self.asked.iter().map(|it| it.number)).min()
    }

    /// Bytes of deliveries that wait.
    pub(in crate::shard) fn held_bytes(&self) -> usize {
        self.directs_bytes + self.paused_bytes()
    }

    /// Bytes of frames of channels that wait for snapshots.
    pub(in crate::shard) fn paused_bytes(&self) -> usize {
        self.snapshots.iter().map(|it| it.held.len()).sum()
    }

    /// Bytes of snapshots that are kept; other connections may share them.
    pub(in crate::shard) fn snapshot_bytes(&self) -> usize {
        let kept = self.snapshots.iter().filter_map(|it| it.snapshot.as_ref());
        kept.map(Snapshot::bytes).sum()
    }

    /// Whether no join is on its way, and nothing waits for one but a `refresh`.
    pub(in crate::shard) fn is_quiet(&self) -> bool {
        let is_quiet = self.asked.is_empty() && self.snapshots.is_empty();
        is_quiet && self.directs.is_empty() && self.parked.is_none()
    }

    pub(in crate::shard) fn is_over(&self) -> bool {
        self.is_quiet() && self.refresh.is_none()
    }
}
