//! Walks through a shard's tables for operators who look, a portion of a walk each millisecond.
//!
//! One walk goes on at a time and four wait; what is asked beside these is refused. A walk goes
//! backwards through a table with slots, so that an entry that takes the place of a removed one may
//! be met twice and none is missed that was there all the time. It keeps the best rows only.
//!
//! This file knows how much is looked at and when; what is seen stands in `shard/steps/looks.rs`.

use std::collections::VecDeque;

use crate::domain::look::{
    Best, ChannelRow, ConnectionRow, Look, Networks, PeerRow, Seen, SeenRows,
};

/// Slots that may be looked at in a millisecond: fewer where a name is compared with a pattern or a
/// row is made of many parts, and more where a channel's roster is another shard's.
const PORTION: usize = 1_024;
/// What it costs to look at a slot: 190 ns, of which most are misses of the cache.
pub(in crate::shard) const SLOT_COST: usize = 8;
/// Walks that wait for the one under way.
const WAITING_MAX: usize = 4;
/// How long a walk may take with its waiting, in milliseconds.
const TIME_MS_MAX: u64 = 10_000;

/// The walks of a shard.
#[derive(Debug)]
pub(in crate::shard) struct Walks {
    /// The first one is under way.
    list: VecDeque<Walk>,
    /// When a portion was done last, on the monotonic clock.
    advanced_ms: u64,
    pub(in crate::shard) portion: usize,
    /// The most that a portion has cost; a slot is [`SLOT_COST`].
    pub(in crate::shard) dearest: usize,
}

/// A walk.
#[derive(Debug)]
pub(in crate::shard) struct Walk {
    /// The number of the question.
    pub number: u64,
    pub look: Look,
    /// Slots that have not been looked at: those below this one. `None` before the first portion.
    pub left: Option<u32>,
    pub gathered: Gathered,
    /// Slots that have been looked at.
    pub walked: u64,
    /// When it ends, whatever it has found, on the monotonic clock.
    ends_ms: u64,
}

/// What a walk has found.
#[derive(Debug)]
pub(in crate::shard) enum Gathered {
    Channels(Best<ChannelRow>),
    Peers(Best<PeerRow>),
    Connections(Best<ConnectionRow>),
    Networks(Networks),
}

impl Default for Walks {
    fn default() -> Self {
        Self {
            list: VecDeque::new(),
            advanced_ms: 0,
            portion: PORTION,
            dearest: 0,
        }
    }
}

impl Walks {
    /// Takes a walk in. `false`: too many wait.
    #[must_use]
    pub(in crate::shard) fn begin(
        &mut self,
        (number, look): (u64, Look),
        gathered: Gathered,
        now_ms: u64,
    ) -> bool {
        if self.list.len() > WAITING_MAX {
            return false;
        }
        self.list.push_back(Walk {
            number,
            look,
            left: None,
            gathered,
            walked: 0,
            ends_ms: now_ms.saturating_add(TIME_MS_MAX),
        });
        true
    }

    /// When the next portion is due.
    pub(in crate::shard) fn due_ms(&self) -> Option<u64> {
        let is_empty = self.list.is_empty();
        (!is_empty).then(|| self.advanced_ms.saturating_add(1))
    }

    /// The walk that may go on now, and when that was too late for it. Put it back if it has not
    /// come to its end.
    pub(in crate::shard) fn take_due(&mut self, now_ms: u64) -> Option<(Walk, bool)> {
        if self.due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return None;
        }
        let walk = self.list.pop_front()?;
        let is_late = walk.ends_ms <= now_ms;
        Some((walk, is_late))
    }

    /// A portion was done, at that cost.
    pub(in crate::shard) fn advanced(&mut self, now_ms: u64, cost: usize) {
        self.advanced_ms = now_ms;
        self.dearest = self.dearest.max(cost);
    }

    /// The walk goes on with the next portion.
    pub(in crate::shard) fn put_back(&mut self, walk: Walk) {
        self.list.push_front(walk);
    }
}

impl Walk {
    /// What it has found.
    pub(in crate::shard) fn into_seen(self, is_complete: bool) -> (u64, Seen) {
        let (rows, has_more) = match self.gathered {
            Gathered::Channels(best) => {
                let (rows, has_more) = best.into_rows();
                (SeenRows::Channels(rows), has_more)
            }
            Gathered::Peers(best) => {
                let (rows, has_more) = best.into_rows();
                (SeenRows::Peers(rows), has_more)
            }
            Gathered::Connections(best) => {
                let (rows, has_more) = best.into_rows();
                (SeenRows::Connections(rows), has_more)
            }
            Gathered::Networks(networks) => {
                let has_more = networks.others > 0;
                (SeenRows::Networks(networks), has_more)
            }
        };
        let seen = Seen {
            rows,
            walked: self.walked,
            is_complete,
            has_more,
        };
        (self.number, seen)
    }
}
