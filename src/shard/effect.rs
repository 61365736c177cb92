//! Everything that a shard may ask for.
//!
//! Not an enum but one list for each kind: the runtime handles each kind at its own point of
//! the turn, and a fan-out to a thousand connections appends a thousand small ids.

use crate::domain::usage::UsageDelta;
use crate::ids::{ConnectionId, ShardId};
use crate::metrics::Stage;
use crate::shard::mesh_message::{MeshMessage, PublishedAt};
use crate::shard::query::Answer;

/// How soon what waits for a connection should be written, the soonest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Urgency {
    /// A message to a few: of a narrow channel, or a direct one.
    Live,
    /// An answer, or presence.
    Reply,
    /// A message to many.
    Wide,
}

/// Connections with something to write, or to finish: each once until it is flushed, unless it
/// has become more urgent.
#[derive(Debug, Default)]
pub struct Dirty([Vec<ConnectionId>; 3]);

impl Dirty {
    /// Appends a connection.
    #[inline]
    pub fn push(&mut self, id: ConnectionId, urgency: Urgency) {
        self.0[urgency as usize].push(id);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    /// The lists, the most urgent first.
    pub fn by_urgency(&mut self) -> impl Iterator<Item = &mut Vec<ConnectionId>> {
        self.0.iter_mut()
    }

    /// All of them, the most urgent first.
    pub fn iter(&self) -> impl Iterator<Item = &ConnectionId> {
        self.0.iter().flatten()
    }

    /// Takes all of them out, the most urgent first.
    pub fn drain(&mut self) -> impl Iterator<Item = ConnectionId> {
        self.0.iter_mut().flat_map(|ids| ids.drain(..))
    }
}

/// What a shard asks for. The runtime empties the lists; the shard only appends.
#[derive(Debug)]
pub struct Effects {
    /// Connections with something to write, or to finish.
    pub dirty: Dirty,
    /// Connections whose sockets may be read again after having been held back.
    pub readable: Vec<ConnectionId>,
    /// Connections whose sockets are to be closed now, whatever waits.
    pub abort: Vec<ConnectionId>,
    /// Messages for each other shard, in order.
    pub mesh: Vec<Vec<MeshMessage>>,
    /// What apps have used, for the control plane: about once a second, and when asked for.
    pub usage: Vec<UsageDelta>,
    /// What operators have asked: the number of each question, and its answer.
    pub answers: Vec<(u64, Answer)>,
    /// What has come to its end and is to be measured.
    pub ended: Vec<Span>,
    /// Publications whose last write is to be measured, and how soon it is due.
    pub published: Vec<(PublishedAt, Urgency)>,
    /// Messages to one connection whose write is to be measured.
    pub writes: Vec<Span>,
    /// Records of what was published in channels that are kept on disk: a batch.
    pub history: Vec<u8>,
    /// Messages for other shards, of all time.
    pub(in crate::shard) mesh_sent: u64,
}

/// A stage that has ended now, or will with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The stage that has ended, or will.
    pub stage: Stage,
    /// When it began, in nanoseconds on the monotonic clock.
    pub began_ns: u64,
}

impl Effects {
    /// No effects, for a process of that many shards.
    #[must_use]
    pub fn new(shard_count: u16) -> Self {
        Self {
            dirty: Dirty::default(),
            readable: Vec::new(),
            abort: Vec::new(),
            mesh: (0..shard_count).map(|_| Vec::new()).collect(),
            usage: Vec::new(),
            answers: Vec::new(),
            ended: Vec::new(),
            published: Vec::new(),
            writes: Vec::new(),
            history: Vec::new(),
            mesh_sent: 0,
        }
    }

    /// A message to one connection is in its outbox; what it belongs to began at `began_ns`.
    #[inline]
    pub(in crate::shard) fn write(&mut self, stage: Stage, began_ns: u64) {
        self.writes.push(Span { stage, began_ns });
    }

    /// Appends a message for another shard.
    pub(crate) fn send(&mut self, to: ShardId, message: MeshMessage) {
        // `to` comes from `Placement` or from a `ConnectionRef` of this process.
        self.mesh_sent += 1;
        self.mesh[to.index()].push(message);
    }
}

/// Index of a channel on this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelSlot(pub u32);
