//! Newtypes for the numbers that must not be mixed up.

use std::fmt;

/// Index of a shard, 0 to `shards - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard's place in per-shard arrays.
    #[inline]
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A connection on its home shard: a slot and the slot's generation, so that the id of an
/// ended connection never names its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Index into the home shard's connection table.
    pub slot: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

/// A connection anywhere in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionRef {
    /// The shard whose listener accepted it.
    pub shard: ShardId,
    /// The connection there.
    pub connection: ConnectionId,
}

/// A question that a shard has asked others, and that it knows again by this when they answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// Where the shard that asked keeps it.
    pub slot: u32,
    /// A number of its own, so that a late answer never meets another question.
    pub generation: u32,
}

/// An app's number in this process: given at the first sight of its id, never reused, so that
/// hot paths compare four bytes instead of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppIndex(pub u32);
