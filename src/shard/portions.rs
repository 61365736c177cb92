//! Work on many connections, a portion of it in each turn.
//!
//! A revoked key, a kicked peer, a drain or a second in which thousands of tokens expire concern
//! any number of connections at once. Whoever waits for something else must not wait for all of
//! them: each kind of such work does a bounded portion in a turn, and the end of the next turn
//! goes on with it. A portion is measured by what it costs, mostly the memberships that end.
//!
//! This file knows how much is done and when; what is done stands in `rights_walk`, `drain`,
//! `timers` and `rest/kick`.

use std::collections::VecDeque;

use crate::ids::ConnectionId;
use crate::shard::connection::connections::{Connections, Phase};
use crate::shard::drain::DrainWalk;
use crate::shard::peer::kick::KickWalk;
use crate::shard::rights_walk::RightsWalk;
use crate::shard::state::Shard;

/// What one kind of work may cost in a turn: to look at a thousand connections, or to end a
/// hundred with a channel each, or ten with a hundred channels. About a millisecond.
const PORTION: usize = 1_024;

/// What it costs to look at a connection, the unit of the others: about 0.1 µs when it is not in
/// the cache.
pub(in crate::shard) const LOOK: usize = 1;
/// To queue a frame to a connection and set its timer.
pub(in crate::shard) const WRITE: usize = 4;
/// To end a session and say goodbye, channels apart: each of these is one more.
const END: usize = 8;

/// The work under way, and how much of each kind may still be done in this turn.
#[derive(Debug)]
pub(in crate::shard) struct Portions {
    portion: usize,
    pub(in crate::shard) rights: Work<Option<RightsWalk>>,
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
            kicks: Work::new(),
            drain: Work::new(),
            overdue: Work::new(),
        }
    }
}

impl Portions {
    /// Whether something is left for the next turn.
    pub(in crate::shard) fn any(&self) -> bool {
        self.rights.list.is_some()
            || !self.kicks.list.is_empty()
            || self.drain.list.is_some()
            || !self.overdue.list.is_empty()
    }

    pub(in crate::shard) fn renew(&mut self) {
        self.rights.left = self.portion;
        self.kicks.left = self.portion;
        self.drain.left = self.portion;
        self.overdue.left = self.portion;
    }
}

impl Shard {
    /// Makes portions smaller: for simulations, where there are few connections.
    pub fn limit_portions(&mut self, portion: usize) {
        self.portions.portion = portion;
        self.portions.renew();
    }

    /// Does what is left of this turn's portions; the next turn has new ones.
    pub(in crate::shard) fn advance_portions(&mut self) {
        if self.portions.any() {
            self.advance_rights();
            self.advance_kicks();
            self.advance_drain();
            self.advance_overdue();
        }
        self.portions.renew();
    }
}

impl Connections {
    /// What it would cost to end a connection's session; `None` if it has none.
    pub(in crate::shard) fn cost_of_end(&self, id: ConnectionId) -> Option<usize> {
        match &self.get(id)?.phase {
            Phase::Open(session) | Phase::Registering(session) => {
                let joining = session.joining.as_ref();
                let joining = joining.map_or(0, |joining| joining.asked.len());
                Some(END + session.memberships.len() + joining)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
