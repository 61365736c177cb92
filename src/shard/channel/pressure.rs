//! What a shard has not offered yet, which channels lag, and who waits for either.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use crate::domain::peer::SharedChannel;
use crate::ids::{ConnectionId, ShardId};
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::mesh_message::{MeshMessage, PublishedAt};

/// A turn of a shard, wrapping.
pub(in crate::shard) type Turn = u32;

pub(in crate::shard) fn is_before(one: Turn, other: Turn) -> bool {
    one.wrapping_sub(other) >= 1 << 31
}

/// What one channel has not offered to all of its members on this shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unoffered {
    /// Bytes of publications, and the last turn in which they came.
    pub(in crate::shard) newer: (Turn, u32),
    /// The same of those before: given up when they have been offered.
    pub(in crate::shard) older: (Turn, u32),
    /// What the member with the longest queue waited for at the end of a turn.
    pub(in crate::shard) longest: (Turn, u32),
    /// The last turn in which it was looked whether the channel lags because others do.
    pub(in crate::shard) looked: Option<Turn>,
}

impl Unoffered {
    /// Notes bytes that the members get in a turn. Returns how many they have not been offered,
    /// or a little more: where all turns before `offered` have been.
    #[inline]
    pub(in crate::shard) fn add(&mut self, count: usize, turn: Turn, offered: Turn) -> usize {
        if is_before(self.newer.0, offered) {
            self.newer.1 = 0;
            self.older.1 = 0;
        } else if is_before(self.older.0, offered) || self.older.1 == 0 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer = (turn, self.newer.1.saturating_add(count as u32));
        self.bytes(offered)
    }

    #[inline]
    pub(in crate::shard) fn bytes(&self, offered: Turn) -> usize {
        let waits = |(turn, bytes): (Turn, u32)| match is_before(turn, offered) {
            true => 0,
            false => bytes as usize,
        };
        (waits(self.newer) + waits(self.older)).max(waits(self.longest))
    }
}

/// What waits for an offer.
#[derive(Debug)]
pub(in crate::shard) enum Waiting {
    /// A connection's input.
    Input(ConnectionId),
    /// What a connection of this shard has asked for: it is held back meanwhile.
    Message(MeshMessage),
}

/// What a shard has not offered yet, and who waits for that.
#[derive(Debug, Default)]
pub(in crate::shard) struct BackPressure {
    /// The present turn.
    pub turn: Turn,
    /// All that was queued in turns before this one has been offered.
    pub(in crate::shard) offered: Turn,
    /// The last turn in which a channel or connection had too much to be offered.
    pub(in crate::shard) tight: Option<Turn>,
    /// The last turn in which other shards fed such a channel.
    pub(in crate::shard) overfed: Option<Turn>,
    /// The last turn in which there was twice as much.
    pub(in crate::shard) choked: Option<Turn>,
    /// Bytes of this turn's publications.
    pub(in crate::shard) turn_bytes: usize,
    /// Somebody's doing since `watch_links` has led to too much.
    pub(in crate::shard) fed: bool,
    /// What waits until its turn has been offered.
    pub(in crate::shard) waiting: VecDeque<(Turn, Waiting)>,
    /// Who waits for the next turn.
    pub(in crate::shard) next_turn: Vec<ConnectionId>,
    /// Channels whose members here are behind.
    pub(in crate::shard) lags: Lags,
    /// Channels whose publishers wait for that.
    pub(in crate::shard) holds: Holds,
}

impl BackPressure {
    pub(in crate::shard) fn is_open(&self, turn: Option<Turn>) -> bool {
        turn.is_some_and(|turn| !is_before(turn, self.offered))
    }

    /// Forgets what the input before the present one has led to.
    #[inline]
    pub fn watch(&mut self) {
        self.fed = false;
    }

    #[inline]
    pub fn is_overfed(&self) -> bool {
        self.is_open(self.overfed)
    }

    /// So many bytes wait to be offered.
    pub(in crate::shard) fn press(&mut self, count: usize, unoffered_max: usize) {
        self.tight = Some(self.turn);
        self.fed = true;
        if count > 2 * unoffered_max {
            self.choked = Some(self.turn);
        }
    }
}

/// How a channel's members come along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Progress {
    pub(in crate::shard) members: u32,
    /// Those who move and are late.
    pub(in crate::shard) late: u32,
    /// Those who are late and do not move.
    pub(in crate::shard) stuck: u32,
}

/// A publication that waits for a channel's members.
#[derive(Debug)]
pub(in crate::shard) struct Kept {
    pub(in crate::shard) plain: Frame,
    pub(in crate::shard) with_metadata: Option<Frame>,
    pub(in crate::shard) except: Option<ConnectionId>,
    pub(in crate::shard) times: PublishedAt,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::shard) enum Course {
    /// It lags since then.
    Lags { since_ms: u64 },
    /// It is left alone until then.
    GivenUp { until_ms: u64 },
}

/// A channel that lags here, or did for too long.
#[derive(Debug)]
pub(in crate::shard) struct Lagging {
    pub(in crate::shard) channel: SharedChannel,
    pub(in crate::shard) course: Course,
    /// What the owner was told last.
    pub(in crate::shard) told: Progress,
    /// Since when the owner holds nobody back.
    pub(in crate::shard) alone_since_ms: Option<u64>,
    pub(in crate::shard) kept: VecDeque<Kept>,
}

/// The channels that lag on one shard.
#[derive(Debug, Default)]
pub(in crate::shard) struct Lags {
    pub(in crate::shard) here: BTreeMap<ChannelSlot, Lagging>,
    /// All of these, in the order in which they are looked at.
    pub(in crate::shard) order: VecDeque<ChannelSlot>,
    /// Channels that may lag, to be looked at when the turn ends.
    pub(in crate::shard) suspects: Vec<ChannelSlot>,
    /// When they are looked at next, and waiting publishers go on.
    pub(in crate::shard) look_ms: Option<u64>,
    pub(in crate::shard) kept_bytes: usize,
}

/// How long it is between two looks at the channels that lag, in milliseconds.
pub(in crate::shard) const LOOK_MS: u64 = 20;

impl Progress {
    pub(in crate::shard) fn is_lag(self, members_min: u32) -> bool {
        self.members >= members_min && 2 * self.late > self.members - self.stuck
    }
}

impl Kept {
    pub(in crate::shard) fn bytes(&self) -> usize {
        self.plain.len() + self.with_metadata.as_ref().map_or(0, |frame| frame.len())
    }
}

impl Lags {
    /// Makes sure that there is a look.
    pub(in crate::shard) fn look_soon(&mut self, now_ms: u64) {
        self.look_ms.get_or_insert(now_ms + LOOK_MS);
    }
}

/// A channel that lags on some of its homes, at its owner.
#[derive(Debug, Default)]
pub(in crate::shard) struct Reported {
    /// What they have said: members late, and stuck.
    pub(in crate::shard) homes: SmallVec<[(ShardId, u32, u32); 2]>,
    pub(in crate::shard) is_held: bool,
}

/// Who waits to publish to a channel, on one shard.
#[derive(Debug, Default)]
pub(in crate::shard) struct Line {
    pub(in crate::shard) waiting: VecDeque<Waiting>,
    /// How many go on next; `None` while the line is closed.
    pub(in crate::shard) opens: Option<usize>,
}

/// What one shard knows of channels whose publishers wait, by the channel's hash.
#[derive(Debug, Default)]
pub(in crate::shard) struct Holds {
    pub(in crate::shard) reported: BTreeMap<u64, Reported>,
    pub(in crate::shard) lines: BTreeMap<u64, Line>,
}

impl Holds {
    /// Whether anybody has to wait.
    #[inline]
    pub(in crate::shard) fn any(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Whether publishers to the channel with this hash have to wait.
    pub(in crate::shard) fn has(&self, hash: u64) -> bool {
        let line = self.lines.get(&hash);
        line.is_some_and(|line| line.opens.is_none())
    }
}
