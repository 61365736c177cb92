//! Which sockets are read next.
//!
//! Sockets whose peers have hung up stand in a line of their own, behind those with input: the end
//! of a connection costs as much as a join, many come at once, and none is urgent.
//! A turn reads a bounded number of either, and a bounded number of bytes. The budgets of the two
//! lines are apart, so that neither can starve the other.

use std::collections::VecDeque;

use crate::ids::ConnectionId;
use crate::limits::{
    HANG_UP_BYTES_PER_TURN_MAX, HANG_UPS_PER_TURN_MAX, READ_BYTES_PER_TURN_MAX, READS_PER_TURN_MAX,
};

/// See the top of this file.
#[derive(Debug, Default)]
pub struct ReadQueue {
    input: Line,
    hang_ups: Line,
    /// Whether the last socket taken was one of `hang_ups`.
    is_at_hang_ups: bool,
}

/// A moment in the life of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    input: u64,
    hang_ups: u64,
}

#[derive(Debug, Default)]
struct Line {
    queue: VecDeque<ConnectionId>,
    /// Sockets that were ever added, and taken.
    added: u64,
    taken: u64,
    /// Sockets and bytes that this turn may still take.
    sockets_left: usize,
    bytes_left: usize,
}

impl Line {
    fn begin_turn(&mut self, sockets_max: usize, bytes_max: usize) {
        // Those that are put back during the turn wait for the next one.
        self.sockets_left = sockets_max.min(self.queue.len());
        self.bytes_left = bytes_max;
    }

    fn pop(&mut self) -> Option<ConnectionId> {
        if self.bytes_left == 0 {
            return None;
        }
        self.sockets_left = self.sockets_left.checked_sub(1)?;
        self.taken += 1;
        self.queue.pop_front()
    }
}

impl ReadQueue {
    /// Adds a socket at the end of its line.
    pub fn push(&mut self, id: ConnectionId, hung_up: bool) {
        let line = match hung_up {
            true => &mut self.hang_ups,
            false => &mut self.input,
        };
        line.added += 1;
        line.queue.push_back(id);
    }

    /// A turn begins to read.
    pub fn begin_turn(&mut self) {
        self.input
            .begin_turn(READS_PER_TURN_MAX, READ_BYTES_PER_TURN_MAX);
        self.hang_ups
            .begin_turn(HANG_UPS_PER_TURN_MAX, HANG_UP_BYTES_PER_TURN_MAX);
        self.is_at_hang_ups = false;
    }

    /// The next socket to be read in this turn.
    pub fn pop(&mut self) -> Option<ConnectionId> {
        if let Some(id) = self.input.pop() {
            return Some(id);
        }
        self.is_at_hang_ups = true;
        self.hang_ups.pop()
    }

    /// The last socket taken gave that many bytes.
    pub fn spend(&mut self, bytes: usize) {
        let line = match self.is_at_hang_ups {
            true => &mut self.hang_ups,
            false => &mut self.input,
        };
        line.bytes_left = line.bytes_left.saturating_sub(bytes);
    }

    /// The moment at which all that stand in line now will have been read.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            input: self.input.added,
            hang_ups: self.hang_ups.added,
        }
    }

    /// Whether that moment has come.
    #[must_use]
    pub fn is_past(&self, mark: Mark) -> bool {
        mark.input <= self.input.taken && mark.hang_ups <= self.hang_ups.taken
    }

    /// Whether there is nothing to be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.input.queue.is_empty() && self.hang_ups.queue.is_empty()
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

    /// What a turn reads if each socket gives that many bytes.
    fn turn(queue: &mut ReadQueue, bytes_each: usize) -> Vec<u32> {
        queue.begin_turn();
        let mut taken = Vec::new();
        while let Some(id) = queue.pop() {
            queue.spend(bytes_each);
            taken.push(id.slot);
        }
        taken
    }

    #[test]
    fn whoever_sends_goes_before_all_who_hung_up() {
        let mut queue = ReadQueue::default();
        (0..15_000).for_each(|slot| queue.push(id(slot), true));
        turn(&mut queue, 0);
        queue.push(id(20_000), false);
        let taken = turn(&mut queue, 100);
        assert_eq!(taken[0], 20_000);
        assert_eq!(taken.len(), 1 + HANG_UPS_PER_TURN_MAX);
    }

    #[test]
    fn hang_ups_go_on_in_order_however_much_is_sent() {
        let mut queue = ReadQueue::default();
        (0..1_000).for_each(|slot| queue.push(id(slot), true));
        let mut ended = Vec::new();
        for turns in 0.. {
            assert!(turns <= 1_000 / HANG_UPS_PER_TURN_MAX);
            // More than a turn reads, in sockets and in bytes.
            (10_000..10_200).for_each(|slot| queue.push(id(slot), false));
            queue.begin_turn();
            while let Some(id) = queue.pop() {
                let is_end = id.slot < 1_000;
                queue.spend(if is_end { 0 } else { 64 * 1_024 });
                ended.extend(is_end.then_some(id.slot));
            }
            if ended.len() == 1_000 {
                break;
            }
        }
        assert!(ended.is_sorted());
    }

    #[test]
    fn a_turn_is_bounded_in_sockets_and_bytes() {
        let mut queue = ReadQueue::default();
        (0..1_000).for_each(|slot| queue.push(id(slot), slot % 2 == 0));
        let sockets = READS_PER_TURN_MAX + HANG_UPS_PER_TURN_MAX;
        assert_eq!(turn(&mut queue, 1).len(), sockets);
        let reads = READ_BYTES_PER_TURN_MAX / 65_536 + HANG_UP_BYTES_PER_TURN_MAX / 65_536;
        assert_eq!(turn(&mut queue, 65_536).len(), reads);
        while !queue.is_empty() {
            assert!(!turn(&mut queue, 1).is_empty());
        }
        // A socket that is put back at once is not read twice in a turn.
        queue.push(id(1), false);
        queue.begin_turn();
        let again = queue.pop().unwrap();
        queue.push(again, false);
        assert_eq!(queue.pop(), None);
    }
}
