//! Which outboxes are written next.
//!
//! A turn writes a bounded number of outboxes. Those beyond wait in line, and who gets something
//! in the very turn goes before them: so a message to a few is written at once although a fan-out
//! to thousands is under way. Half of a turn's writes are for those in line, so that nobody waits
//! for ever.

use std::collections::VecDeque;

use crate::ids::ConnectionId;

/// Outboxes flushed in one turn: a thousand sends would hold the core for 3 ms.
pub const FLUSHES_PER_TURN_MAX: usize = 128;
/// Of these, outboxes that go before those in line.
const AHEAD_MAX: usize = FLUSHES_PER_TURN_MAX / 2;

/// See the top of this file.
#[derive(Debug, Default)]
pub struct FlushQueue {
    /// First those that go ahead, then those in line.
    queue: VecDeque<ConnectionId>,
    ahead: usize,
    /// How many have been taken from the line since the start.
    taken: u64,
    /// Whether somebody joined the line in this turn.
    is_joined: bool,
}

/// A moment in the life of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl FlushQueue {
    /// A turn begins.
    pub fn begin_turn(&mut self) {
        self.is_joined = false;
    }

    /// Adds an outbox that got something in this turn.
    pub fn push_new(&mut self, id: ConnectionId) {
        if self.ahead < AHEAD_MAX {
            self.queue.push_front(id);
            self.ahead += 1;
        } else {
            self.push(id);
        }
    }

    /// Adds an outbox at the end of the line.
    pub fn push(&mut self, id: ConnectionId) {
        self.queue.push_back(id);
        self.is_joined = true;
    }

    /// The next outbox. Take [`turn_len`](Self::turn_len) of them in a turn.
    pub fn pop(&mut self) -> Option<ConnectionId> {
        let id = self.queue.pop_front()?;
        match self.ahead.checked_sub(1) {
            Some(ahead) => self.ahead = ahead,
            None => self.taken += 1,
        }
        Some(id)
    }

    /// How many are to be taken in this turn: all that go ahead, and some of the line.
    #[must_use]
    pub fn turn_len(&self) -> usize {
        self.queue.len().min(FLUSHES_PER_TURN_MAX)
    }

    /// The moment at which all that was added in this turn will have been taken; `None`: that
    /// is this very turn.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        let in_line = self.queue.len() - self.ahead;
        self.is_joined.then(|| Mark(self.taken + in_line as u64))
    }

    /// Whether that moment has come, seen at the end of a turn.
    #[must_use]
    pub fn is_past(&self, mark: Mark) -> bool {
        mark.0 <= self.taken
    }

    /// Whether there is nothing to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ConnectionId> {
        self.queue.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> ConnectionId {
        ConnectionId {
            slot,
            generation: 0,
        }
    }

    /// A turn that adds those; answers what it takes.
    fn turn(
        queue: &mut FlushQueue,
        new: impl IntoIterator<Item = u32>,
    ) -> (Vec<u32>, Option<Mark>) {
        queue.begin_turn();
        for slot in new {
            queue.push_new(id(slot));
        }
        let mark = queue.mark();
        let taken = (0..queue.turn_len()).map(|_| queue.pop().unwrap().slot);
        (taken.collect(), mark)
    }

    #[test]
    fn a_few_go_before_a_wide_fan_out() {
        let mut queue = FlushQueue::default();
        let (_, wide) = turn(&mut queue, 0..1_000);
        let (taken, narrow) = turn(&mut queue, [5_000, 5_001]);
        assert_eq!(taken.len(), FLUSHES_PER_TURN_MAX);
        assert!(taken[..2].contains(&5_000) && taken[..2].contains(&5_001));
        assert!(narrow.is_none() && !queue.is_past(wide.unwrap()));
    }

    #[test]
    fn those_in_line_are_all_taken_in_order_however_many_go_ahead() {
        let mut queue = FlushQueue::default();
        turn(&mut queue, 0..1_000);
        let mut in_line = Vec::new();
        for number in 1.. {
            let first = number * 1_000;
            let (taken, _) = turn(&mut queue, first..first + AHEAD_MAX as u32);
            let old = taken.into_iter().filter(|slot| *slot < 1_000);
            let before = in_line.len();
            in_line.extend(old);
            if in_line.len() == before {
                break;
            }
            assert!(number < 20);
        }
        assert!(in_line.is_sorted());
        assert_eq!(in_line.len(), 1_000 - FLUSHES_PER_TURN_MAX);
    }

    #[test]
    fn a_mark_is_past_when_the_last_that_was_added_is_taken() {
        let mut queue = FlushQueue::default();
        let (taken, mark) = turn(&mut queue, 0..300);
        let (mark, mut seen) = (mark.unwrap(), taken.len());
        while !queue.is_past(mark) {
            assert!(seen < 300, "{seen}");
            seen += turn(&mut queue, []).0.len();
        }
        assert_eq!(seen, 300);
        assert!(queue.is_empty());
        let (taken, mark) = turn(&mut queue, [7]);
        assert!(taken == [7] && mark.is_none());
        queue.begin_turn();
        queue.push(id(8));
        assert!(!queue.is_past(queue.mark().unwrap()));
    }
}
