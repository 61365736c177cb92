//! The state of back pressure: what has not been offered, which channels lag, and what waits.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use crate::domain::peer::SharedChannel;
use crate::ids::{ConnectionId, Seat};
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::mesh_message::{Announce, Joined, Lateness, Left, MeshMessage, PublishedAt};

/// A turn of a shard, wrapping.
pub(in crate::shard) type Turn = u32;

pub(in crate::shard) fn is_before(one: Turn, other: Turn) -> bool {
    one.wrapping_sub(other) >= 1 << 31
}

/// The bytes of one channel that not all of its members on this shard have been offered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unoffered {
    /// The last turn with publications, and their bytes.
    pub(in crate::shard) newer: (Turn, u32),
    /// The same of the turns before, until these have been offered.
    pub(in crate::shard) older: (Turn, u32),
    /// A turn, and the most bytes that one member had not been offered at its end.
    pub(in crate::shard) longest: (Turn, u32),
    /// The last turn in which the channel was looked at because others lag.
    pub(in crate::shard) looked: Option<Turn>,
}

impl Unoffered {
    /// Notes bytes that the members get in a turn. Returns how many bytes have not been offered,
    /// or a little more, where all turns before `offered` have been offered.
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
    /// A message of a connection of this shard, whose input is held meanwhile.
    Message(MeshMessage),
}

/// What a shard has not offered yet, and what waits for that.
#[derive(Debug, Default)]
pub(in crate::shard) struct BackPressure {
    /// The present turn.
    pub turn: Turn,
    /// Everything that was queued before this turn has been offered.
    pub(in crate::shard) offered: Turn,
    /// The last turn in which a channel or connection had too much to be offered.
    pub(in crate::shard) tight: Option<Turn>,
    /// The last turn in which other shards fed such a channel.
    pub(in crate::shard) overfed: Option<Turn>,
    /// The last turn in which that was twice as much.
    pub(in crate::shard) choked: Option<Turn>,
    /// Bytes of this turn's publications.
    pub(in crate::shard) turn_bytes: usize,
    /// Too much has been queued since `watch_links`.
    pub(in crate::shard) fed: bool,
    /// What waits until its turn has been offered, oldest first.
    pub(in crate::shard) waiting: VecDeque<(Turn, Waiting)>,
    /// Connections whose input goes on in the next turn.
    pub(in crate::shard) next_turn: Vec<ConnectionId>,
    /// Channels that lag here.
    pub(in crate::shard) lags: Lags,
    /// Channels whose publishers wait because the channel lags.
    pub(in crate::shard) holds: HeldChannels,
}

impl BackPressure {
    pub(in crate::shard) fn is_open(&self, turn: Option<Turn>) -> bool {
        turn.is_some_and(|turn| !is_before(turn, self.offered))
    }

    /// Begins to attribute what is queued to the next input.
    #[inline]
    pub(in crate::shard) fn watch(&mut self) {
        self.fed = false;
    }

    #[inline]
    pub(in crate::shard) fn is_overfed(&self) -> bool {
        self.is_open(self.overfed)
    }

    /// Notes that `count` bytes wait to be offered.
    pub(in crate::shard) fn press(&mut self, count: usize, unoffered_max: usize) {
        self.tight = Some(self.turn);
        self.fed = true;
        if count > 2 * unoffered_max {
            self.choked = Some(self.turn);
        }
    }
}

/// How many members a channel has here, and how they read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Progress {
    pub(in crate::shard) members: u32,
    pub(in crate::shard) lateness: Lateness,
}

/// One thing of a channel's order that is kept until the members of the channel have room.
#[derive(Debug)]
pub(in crate::shard) enum Kept {
    /// A publication.
    Publication {
        plain: Frame,
        with_metadata: Option<Frame>,
        except: Option<ConnectionId>,
        times: PublishedAt,
    },
    /// Changes of presence, and the owner that is told when they have been delivered.
    Announce { owner: Seat, announce: Announce },
    /// A connection becomes a member.
    Joined(Joined),
    /// A connection has left.
    Left(Left),
}

#[derive(Clone, Copy, Debug)]
pub(in crate::shard) enum Course {
    /// The channel lags since then.
    Lags { since_ms: u64 },
    /// The channel is given up until then.
    GivenUp { until_ms: u64 },
}

/// A channel that lags here, or is given up.
#[derive(Debug)]
pub(in crate::shard) struct Lagging {
    pub(in crate::shard) channel: SharedChannel,
    pub(in crate::shard) course: Course,
    /// The last report to the owner.
    pub(in crate::shard) told: Progress,
    /// Since when the owner holds no publisher of it.
    pub(in crate::shard) alone_since_ms: Option<u64>,
    pub(in crate::shard) kept: VecDeque<Kept>,
}

/// The channels that lag on one shard.
#[derive(Debug, Default)]
pub(in crate::shard) struct Lags {
    pub(in crate::shard) here: BTreeMap<ChannelSlot, Lagging>,
    /// All of them, the next one to be looked at first.
    pub(in crate::shard) order: VecDeque<ChannelSlot>,
    /// Channels that may lag. They are looked at when the turn ends.
    pub(in crate::shard) suspects: Vec<ChannelSlot>,
    /// When the next look is due. Publishers in open lines go on at the same time.
    pub(in crate::shard) look_ms: Option<u64>,
    pub(in crate::shard) kept_bytes: usize,
}

/// The time between two looks, in milliseconds.
pub(in crate::shard) const LOOK_MS: u64 = 20;

impl Progress {
    pub(in crate::shard) fn is_lag(self, members_min: u32) -> bool {
        let Lateness {
            late,
            stuck,
            full_join,
        } = self.lateness;
        let is_majority_late = 2 * late > self.members - stuck;
        full_join || (self.members >= members_min && is_majority_late)
    }
}

impl Kept {
    /// Its size, in bytes: its frames, and its own.
    pub(in crate::shard) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Publication {
                    plain,
                    with_metadata,
                    ..
                } => plain.len() + with_metadata.as_ref().map_or(0, |frame| frame.len()),
                Self::Announce { announce, .. } => announce.frames.len(),
                Self::Joined(joined) => joined.bytes(),
                Self::Left(_) => 0,
            }
    }
}

impl Lags {
    /// Makes sure that a look is due.
    pub(in crate::shard) fn look_soon(&mut self, now_ms: u64) {
        self.look_ms.get_or_insert(now_ms + LOOK_MS);
    }
}

/// What the homes of a channel have reported to its owner.
#[derive(Debug)]
pub(in crate::shard) struct Reported {
    pub(in crate::shard) channel: SharedChannel,
    /// The last report of each home where members are late or wait.
    pub(in crate::shard) homes: SmallVec<[(Seat, Lateness); 2]>,
    pub(in crate::shard) is_held: bool,
}

impl Reported {
    /// Nobody has reported anything, and nobody is held.
    pub(in crate::shard) fn new(channel: SharedChannel) -> Self {
        Self {
            channel,
            homes: SmallVec::new(),
            is_held: false,
        }
    }
}

/// The publishers of one channel that wait on one shard.
#[derive(Debug, Default)]
pub(in crate::shard) struct HeldPublishers {
    pub(in crate::shard) waiting: VecDeque<Waiting>,
    /// How many go on at the next look; `None` while the line is closed.
    pub(in crate::shard) opens: Option<usize>,
}

/// The channels whose publishers wait, by the hash of the channel.
#[derive(Debug, Default)]
pub(in crate::shard) struct HeldChannels {
    pub(in crate::shard) reported: BTreeMap<u64, Reported>,
    pub(in crate::shard) lines: BTreeMap<u64, HeldPublishers>,
}

impl HeldChannels {
    /// Whether there is a line.
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
