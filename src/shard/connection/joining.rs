//! What a connection keeps of its joins.
//!
//! Always true, see `Connection::check_joins`: numbers grow in the order of the requests; input
//! is held while a join is parked; a snapshot that is queued is kept by the outbox alone.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::domain::peer::{ChannelKey, SharedChannel};
use crate::domain::roster::Interest;
use crate::ids::Ticket;
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::outbound::outbox::Outbox;
use crate::shard::outbound::snapshot::Snapshot;
use crate::shard::questions::PendingCommand;

/// Joins on their way, and what must not overtake them.
#[derive(Debug, Default)]
pub struct Joining {
    /// The number of the next join.
    pub(in crate::shard) next: u64,
    /// Joins whose `Joined` is awaited, in order.
    pub(in crate::shard) asked: SmallVec<[AskedJoin; 1]>,
    /// Joins whose snapshots have not been written, in the order of the acks.
    pub(in crate::shard) snapshots: VecDeque<AwaitedSnapshot>,
    /// Direct messages that wait: the first join for which they do not, and when they were read.
    pub(in crate::shard) directs: VecDeque<(u64, Frame, u64)>,
    pub(in crate::shard) directs_bytes: usize,
    /// A `subscribe` that waits for the snapshot of the one before it.
    pub(in crate::shard) parked: Option<Box<Wanted>>,
}

/// What a connection subscribes to.
#[derive(Debug)]
pub(in crate::shard) struct Wanted {
    pub channel: SharedChannel,
    pub interest: Interest,
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
    /// Absent: there was no room, or it is queued.
    pub snapshot: Option<Snapshot>,
    pub state: State,
    /// Frames of the channel, in order, that follow the snapshot.
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
    /// The snapshot is in the outbox, where it ends at that position.
    Queued { end: u32 },
}

/// Whether an outbox has been written up to a position. Positions wrap; what waits is far less
/// than half of all of them.
pub(in crate::shard) fn is_written(outbox: &Outbox, end: u32) -> bool {
    outbox.position().wrapping_sub(end) < u32::MAX / 2
}

fn same(one: &ChannelKey, other: &ChannelKey) -> bool {
    one.hash == other.hash && one.app == other.app && one.name == other.name
}

impl Joining {
    /// Whether a `subscribe` to that channel must wait for the one before it.
    pub(in crate::shard) fn must_park(&self, channel: &ChannelKey) -> bool {
        self.is_asked(channel) || self.snapshots.iter().any(|it| same(&it.channel, channel))
    }

    /// Whether a join of that channel is on its way to its owner.
    pub(in crate::shard) fn is_asked(&self, channel: &ChannelKey) -> bool {
        self.asked.iter().any(|asked| same(&asked.channel, channel))
    }

    /// Notes a join that is sent to the owner now.
    pub(in crate::shard) fn ask(&mut self, channel: SharedChannel, ticket: Ticket, is_again: bool) {
        let number = self.next;
        self.next += 1;
        self.asked.push(AskedJoin {
            channel,
            ticket,
            number,
            is_again,
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
        let waiting = self.snapshots.iter().filter(|it| it.slot.is_some());
        let waiting = waiting.map(|it| it.number);
        waiting.chain(self.asked.iter().map(|it| it.number)).min()
    }

    /// Bytes of deliveries that wait.
    pub(in crate::shard) fn held_bytes(&self) -> usize {
        let held = self.snapshots.iter().map(|it| it.held.len());
        self.directs_bytes + held.sum::<usize>()
    }

    /// Bytes of snapshots that are kept; other connections may share them.
    pub(in crate::shard) fn snapshot_bytes(&self) -> usize {
        let kept = self.snapshots.iter().filter_map(|it| it.snapshot.as_ref());
        kept.map(Snapshot::bytes).sum()
    }

    pub(in crate::shard) fn is_over(&self) -> bool {
        let is_quiet = self.asked.is_empty() && self.snapshots.is_empty();
        is_quiet && self.directs.is_empty() && self.parked.is_none()
    }
}
