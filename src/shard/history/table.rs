//! The histories of a shard: which one is due to be looked at next, and which one gives way when
//! all of them take more memory than they may.
//!
//! The one that was used least recently gives way: first one that keeps publications; if there is
//! none, one that keeps nothing but its numbering; then the oldest id of all goes, and at last the
//! numbering of a channel on disk, see [`Stage`]. Both lists have each history once, and are
//! brought up to date only when its turn comes, so that a publication costs none of them.
//!
//! Always true, see [`Table::check`]: memory is the sum of what the histories were counted with;
//! none is listed later than it should be.

use std::collections::BTreeSet;

use crate::ids::AppIndex;
use crate::shard::effect::ChannelSlot;
use crate::shard::history::evicted::Stage;
use crate::shard::history::history::History;

/// A history with what the table knows of it.
#[derive(Debug)]
pub(in crate::shard) struct Listed {
    pub history: History,
    /// The app whose history it is: one of the same id that was made later is another one.
    pub app: AppIndex,
    /// Until when its numbering is kept although nobody is there, on the monotonic clock.
    pub until_ms: u64,
    /// The memory that it was counted with, in bytes.
    counted: usize,
    /// When it was used last, by the table's count of uses.
    used: u64,
    /// How it stands among those that may give way.
    turn: Turn,
    /// When it is looked at next.
    due_ms: u64,
}

/// The order in which histories give way: what of it does, and its last use; of ids, when the
/// oldest was given, on the monotonic clock in milliseconds.
pub(in crate::shard) type Turn = (Stage, u64);

/// See the top of this file.
#[derive(Debug, Default)]
pub(in crate::shard) struct Table {
    memory: usize,
    uses: u64,
    turns: BTreeSet<(Turn, ChannelSlot)>,
    due: BTreeSet<(u64, ChannelSlot)>,
}

impl Listed {
    /// When it was used last: of two histories of a table, the later one has the higher number.
    pub(in crate::shard) fn last_use(&self) -> u64 {
        self.used
    }

    fn own_turn(&self) -> Turn {
        match self.history.stage() {
            Stage::Ids => (Stage::Ids, self.history.oldest_id_ms().unwrap_or(0)),
            stage => (stage, self.used),
        }
    }
}

impl Table {
    /// Takes in a history, to be looked at when its numbering need not be kept any more.
    pub(in crate::shard) fn insert(
        &mut self,
        slot: ChannelSlot,
        (app, history): (AppIndex, History),
        until_ms: u64,
    ) -> Box<Listed> {
        self.uses += 1;
        let mut listed = Listed {
            history,
            app,
            until_ms,
            counted: 0,
            used: self.uses,
            turn: (Stage::Publications, 0),
            due_ms: until_ms,
        };
        listed.turn = listed.own_turn();
        self.turns.insert((listed.turn, slot));
        self.due.insert((until_ms, slot));
        self.recount(&mut listed);
        Box::new(listed)
    }

    /// Gives a history up.
    pub(in crate::shard) fn remove(&mut self, slot: ChannelSlot, listed: &Listed) {
        self.turns.remove(&(listed.turn, slot));
        self.due.remove(&(listed.due_ms, slot));
        self.memory -= listed.counted;
    }

    /// A history has been used, and may have grown.
    pub(in crate::shard) fn used(&mut self, slot: ChannelSlot, listed: &mut Listed) {
        self.uses += 1;
        listed.used = self.uses;
        self.recount(listed);
        // Its turn comes sooner than it is listed.
        if listed.own_turn() < listed.turn {
            self.list(slot, listed);
        }
    }

    /// A history may take more memory than before, or less.
    pub(in crate::shard) fn recount(&mut self, listed: &mut Listed) {
        let memory = listed.history.memory() + size_of::<Listed>() - size_of::<History>();
        self.memory = self.memory + memory - listed.counted;
        listed.counted = memory;
    }

    fn list(&mut self, slot: ChannelSlot, listed: &mut Listed) {
        self.turns.remove(&(listed.turn, slot));
        listed.turn = listed.own_turn();
        self.turns.insert((listed.turn, slot));
    }

    /// Bytes of memory that all histories take.
    pub(in crate::shard) fn memory(&self) -> usize {
        let places = self.turns.len() * (size_of::<(Turn, ChannelSlot)>() + 2 * size_of::<u64>());
        self.memory + places
    }

    /// How many histories there are.
    pub(in crate::shard) fn len(&self) -> usize {
        self.turns.len()
    }

    /// The first beside one that may have to give way, as it is listed.
    pub(in crate::shard) fn first_to_go(&self, beside: ChannelSlot) -> Option<(Turn, ChannelSlot)> {
        let mut others = self.turns.iter().filter(|(_, slot)| *slot != beside);
        others.next().copied()
    }

    /// Whether it is that one's turn to give way. If it has been used since it was listed, it is
    /// listed anew.
    pub(in crate::shard) fn is_its_turn(&mut self, slot: ChannelSlot, listed: &mut Listed) -> bool {
        let is_its_turn = listed.turn == listed.own_turn();
        if !is_its_turn {
            self.list(slot, listed);
        }
        is_its_turn
    }

    /// A history may have lost publications or ids, or may be kept elsewhere than before.
    pub(in crate::shard) fn shrunk(&mut self, slot: ChannelSlot, listed: &mut Listed) {
        self.recount(listed);
        if listed.turn != listed.own_turn() {
            self.list(slot, listed);
        }
    }

    /// When a history is to be looked at next.
    pub(in crate::shard) fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// The history that is to be looked at by now.
    pub(in crate::shard) fn due(&self, now_ms: u64) -> Option<ChannelSlot> {
        let (due_ms, slot) = self.due.first()?;
        (*due_ms <= now_ms).then_some(*slot)
    }

    /// A history is looked at again at that time.
    pub(in crate::shard) fn look_at(
        &mut self,
        slot: ChannelSlot,
        listed: &mut Listed,
        due_ms: u64,
    ) {
        self.due.remove(&(listed.due_ms, slot));
        listed.due_ms = due_ms;
        self.due.insert((due_ms, slot));
    }

    /// A history is looked at then, or earlier.
    #[inline]
    pub(in crate::shard) fn hurry(&mut self, slot: ChannelSlot, listed: &mut Listed, by_ms: u64) {
        if by_ms < listed.due_ms {
            self.look_at(slot, listed, by_ms);
        }
    }

    /// Panics unless what is said at the top of this file is true of these, which are all.
    pub(in crate::shard) fn check<'a>(&self, all: impl Iterator<Item = (ChannelSlot, &'a Listed)>) {
        let (mut memory, mut count) = (0, 0);
        for (slot, listed) in all {
            listed.history.check();
            memory += listed.counted;
            count += 1;
            assert!(self.turns.contains(&(listed.turn, slot)), "not listed");
            assert!(self.due.contains(&(listed.due_ms, slot)), "never looked at");
            assert!(listed.turn <= listed.own_turn(), "listed too late");
        }
        assert_eq!(memory, self.memory, "memory of histories");
        assert_eq!((self.turns.len(), self.due.len()), (count, count));
    }
}
