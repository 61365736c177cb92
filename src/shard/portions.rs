//! Work on many connections, a portion of it in each turn.
//!
//! A revoked key, a kicked peer, a drain or a second in which thousands of tokens expire concern
//! any number of connections at once. Nobody else must wait until all of them have been dealt with:
//! each kind of such work does a bounded portion in a turn, and the end of the next turn goes on
//! with it. A portion is measured by what it costs, mostly the memberships that end.
//!
//! This file knows how much is done and when; what is done stands in `rights_walk`, `drain`,
//! `kicks` and `time`, all in `shard/steps`.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::ids::{ConnectionId, Seat};
use crate::shard::mesh_message::KickHere;

/// What one kind of work may cost in a turn: to look at a thousand connections, or to end a
/// hundred with a channel each, or ten with a hundred channels. About a millisecond.
const PORTION: usize = 1_024;

/// The work under way, and how much of each kind may still be done in this turn.
#[derive(Debug)]
pub(in crate::shard) struct Portions {
    pub(in crate::shard) portion: usize,
    pub(in crate::shard) rights: Work<Option<RightsWalk>>,
    /// The same through channels, for what they keep.
    pub(in crate::shard) histories: Work<Option<RightsWalk>>,
    pub(in crate::shard) kicks: Work<VecDeque<KickWalk>>,
    pub(in crate::shard) drain: Work<Option<DrainWalk>>,
    /// Connections whose timers have come.
    pub(in crate::shard) overdue: Work<VecDeque<ConnectionId>>,
}

/// One kind of work.
#[derive(Debug)]
pub(in crate::shard) struct Work<T> {
    /// What is to be done.
    pub list: T,
    /// What may still be spent on it in this turn.
    pub left: usize,
}

impl<T: Default> Work<T> {
    pub(in crate::shard) fn new() -> Self {
        Self {
            list: T::default(),
            left: PORTION,
        }
    }
}

impl<T> Work<T> {
    /// Takes what something has cost. What is begun is done, so a portion may cost a little more.
    pub(in crate::shard) fn spend(&mut self, cost: usize) {
        self.left = self.left.saturating_sub(cost);
    }
}

impl Default for Portions {
    fn default() -> Self {
        Self {
            portion: PORTION,
            rights: Work::new(),
            histories: Work::new(),
            kicks: Work::new(),
            drain: Work::new(),
            overdue: Work::new(),
        }
    }
}

impl Portions {
    /// Whether something is left for the next turn.
    pub(in crate::shard) fn any(&self) -> bool {
        self.any_of_others() || !self.overdue.list.is_empty()
    }

    /// The same, without what is left because time has passed.
    pub(in crate::shard) fn any_of_others(&self) -> bool {
        self.rights.list.is_some()
            || self.histories.list.is_some()
            || !self.kicks.list.is_empty()
            || self.drain.list.is_some()
    }

    pub(in crate::shard) fn renew(&mut self) {
        self.rights.left = self.portion;
        self.histories.left = self.portion;
        self.kicks.left = self.portion;
        self.drain.left = self.portion;
        self.overdue.left = self.portion;
    }
}

/// A walk through all connections, to tell them of the drain and when it closes them.
#[derive(Debug)]
pub(in crate::shard) struct DrainWalk {
    pub(in crate::shard) next_slot: u32,
    pub(in crate::shard) slots: u32,
    pub(in crate::shard) began_ms: u64,
    pub(in crate::shard) window_ms: u64,
    /// How many connections there were at its beginning: the window is divided among them.
    pub(in crate::shard) count: u64,
    /// How many of them have their place in the window.
    pub(in crate::shard) placed: u64,
    pub(in crate::shard) going_away: Vec<u8>,
}

impl DrainWalk {
    /// When the next connection is closed: each shard's closes fall between those of the others.
    pub(in crate::shard) fn next_close_ms(&mut self, shard: u16, shard_count: u16) -> u64 {
        let (shard, shard_count) = (u64::from(shard), u64::from(shard_count));
        let place = self.placed * shard_count + shard + 1;
        self.placed += 1;
        // Connections that came meanwhile have the last place.
        let places = (self.count * shard_count).max(1);
        self.began_ms + self.window_ms * place.min(places) / places
    }
}

/// A walk through all connections, or channels, after a change of rights. Another change lets it go
/// round once more from where it is, so that changes in quick succession cannot keep it from any.
#[derive(Debug)]
pub(in crate::shard) struct RightsWalk {
    pub(in crate::shard) next_slot: u32,
    /// Where it ends, once it has come round.
    pub(in crate::shard) last_slot: u32,
    pub(in crate::shard) is_round: bool,
}

impl RightsWalk {
    pub(in crate::shard) fn from(slot: u32) -> Self {
        Self {
            next_slot: slot,
            last_slot: slot,
            is_round: false,
        }
    }

    /// The next slot, of `slots` in all; `None` when all have been looked at.
    pub(in crate::shard) fn next(&mut self, slots: u32) -> Option<u32> {
        if !self.is_round && self.next_slot >= slots {
            self.next_slot = 0;
            self.is_round = true;
        }
        if self.is_round && self.next_slot >= self.last_slot.min(slots) {
            return None;
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        Some(slot)
    }
}

/// A kick on a shard that has connections of the peer, while they are being closed.
#[derive(Debug)]
pub(in crate::shard) struct KickWalk {
    pub(in crate::shard) peer_owner: Seat,
    pub(in crate::shard) kick: KickHere,
    /// The next of the connections.
    pub(in crate::shard) at: usize,
    pub(in crate::shard) closed: u32,
    /// Owners of channels that they were in.
    pub(in crate::shard) owners: Seats,
}

pub(in crate::shard) type Seats = SmallVec<[Seat; 8]>;

#[cfg(test)]
mod tests;
