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

/// Who takes part in something that shards do together: who holds members of a channel, who owns a
/// name, who answers a question, who asked it. Every seat is a shard of this process; where only
/// those can be meant, as for links, it is a [`ShardId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat(ShardId);

impl Seat {
    /// The shard of this process that has the seat.
    #[inline]
    #[must_use]
    pub const fn shard(self) -> ShardId {
        self.0
    }
}

impl From<ShardId> for Seat {
    #[inline]
    fn from(shard: ShardId) -> Self {
        Self(shard)
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

/// A connection, whatever seat it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionRef {
    /// The seat of its home shard.
    pub home: Seat,
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

/// An app's number in this process: given at the first sight of its id, never reused, so that an
/// app which is deleted and made again is another one. It means nothing outside of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppIndex(pub u32);

/// A key's number in this process, given out as [`AppIndex`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyIndex(pub u32);
