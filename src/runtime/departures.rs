//! Peers who are gone, in a storm: who comes back goes before them.
//!
//! The end of a session is told to everybody in its channels, and so is the return of its peer.
//! Where thousands are gone at once, most of them come back within a second. A peer that is back
//! before its old session ends never left: nobody is told anything. So the ends of a storm wait
//! until those who come back have been let in, for a bounded time. Their sockets do not wait: a
//! descriptor is free as soon as a reset is read.
//!
//! Ends that come one by one, or by the hundred, do not wait.

use std::collections::VecDeque;

use crate::ids::ConnectionId;

/// Ends that wait together, from which on they are a storm.
const STORM_MIN: usize = 1_024;
/// How long the ends of a storm wait at least, in milliseconds: published clients come back after
/// 400 to 600 ms.
const WAIT_MS: u64 = 1_000;
/// How long they wait at most, for those who come back to be let in.
const WAIT_MS_MAX: u64 = 10_000;
/// Ends of a storm in one turn: with ten channels each takes about 20 µs.
const ENDS_PER_TURN_MAX: usize = 4;

/// How a peer has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// It has ended its side of the stream. The socket is open.
    Ended,
    /// It has reset the connection. The socket is closed, or about to be.
    Reset,
}

/// See the top of this file.
#[derive(Debug, Default)]
pub(super) struct Departures {
    /// In the order in which they were found.
    queue: VecDeque<(ConnectionId, Departure)>,
    /// Of these, the sockets that are still to be closed.
    resets: Vec<ConnectionId>,
    /// When the first of them was found, in milliseconds on the monotonic clock.
    began_ms: u64,
    /// Whether those that wait are told now, a few in each turn.
    is_due: bool,
    /// How many more this turn may tell.
    left: usize,
}

impl Departures {
    /// Whether an end belongs to a storm, while so many others have been reported and not found.
    pub(super) fn is_storm(&self, reported: usize) -> bool {
        self.queue.len() + reported >= STORM_MIN
    }

    /// An end of a storm has been found.
    pub(super) fn push(&mut self, id: ConnectionId, departure: Departure, now_ms: u64) {
        if self.queue.is_empty() {
            self.began_ms = now_ms;
        }
        self.queue.push_back((id, departure));
        if departure == Departure::Reset {
            self.resets.push(id);
        }
    }

    /// Takes out the sockets that are to be closed.
    pub(super) fn take_resets(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.resets)
    }

    /// Takes out all ends, whether or not they have waited.
    pub(super) fn take_all(&mut self) -> VecDeque<(ConnectionId, Departure)> {
        std::mem::take(&mut self.queue)
    }

    /// A turn begins to tell of ends; `others_wait` to be let in, and `is_room` for them.
    pub(super) fn begin_turn(&mut self, others_wait: bool, is_room: bool, now_ms: u64) {
        let waited_ms = now_ms.saturating_sub(self.began_ms);
        self.is_due = match (is_room, others_wait) {
            (false, _) => true,
            (true, false) => waited_ms >= WAIT_MS,
            (true, true) => waited_ms >= WAIT_MS_MAX,
        };
        self.left = if self.is_due { ENDS_PER_TURN_MAX } else { 0 };
    }

    /// The next end that the shard is to be told of in this turn.
    pub(super) fn pop(&mut self) -> Option<(ConnectionId, Departure)> {
        self.left = self.left.checked_sub(1)?;
        self.queue.pop_front()
    }

    /// When the next turn is due for them, if nobody comes, in milliseconds on the monotonic clock.
    pub(super) fn due_ms(&self) -> Option<u64> {
        (!self.queue.is_empty()).then_some(self.began_ms + WAIT_MS)
    }

    /// Whether this turn told of some, and the next one will.
    #[must_use]
    pub(super) fn is_told(&self) -> bool {
        self.is_due && !self.queue.is_empty()
    }

    /// Whether no end waits.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: usize) -> ConnectionId {
        ConnectionId {
            slot: slot as u32,
            generation: 0,
        }
    }

    fn storm() -> Departures {
        let mut departures = Departures::default();
        for slot in 0..STORM_MIN {
            departures.push(id(slot), Departure::Reset, 5_000);
        }
        departures
    }

    /// How many a turn tells of.
    fn turn(departures: &mut Departures, others_wait: bool, is_room: bool, now_ms: u64) -> usize {
        departures.begin_turn(others_wait, is_room, now_ms);
        std::iter::from_fn(|| departures.pop()).count()
    }

    #[test]
    fn only_thousands_are_a_storm() {
        let mut departures = Departures::default();
        assert!(!departures.is_storm(STORM_MIN - 1));
        assert!(departures.is_storm(STORM_MIN));
        departures.push(id(1), Departure::Ended, 1);
        assert!(departures.is_storm(STORM_MIN - 1), "the last ones too");
        assert_eq!(departures.take_resets(), []);
        departures.push(id(2), Departure::Reset, 1);
        assert_eq!(departures.take_resets(), [id(2)]);
    }

    #[test]
    fn the_ends_of_a_storm_wait_for_those_who_come_back() {
        let mut departures = storm();
        assert_eq!(turn(&mut departures, false, true, 5_999), 0);
        assert_eq!(turn(&mut departures, true, true, 6_000), 0);
        assert_eq!(turn(&mut departures, false, true, 6_000), ENDS_PER_TURN_MAX);
        assert_eq!(departures.due_ms(), Some(6_000));
    }

    #[test]
    fn they_do_not_wait_for_ever_nor_where_descriptors_are_short() {
        let mut departures = storm();
        assert_eq!(turn(&mut departures, true, true, 14_999), 0);
        assert_eq!(turn(&mut departures, true, true, 15_000), ENDS_PER_TURN_MAX);
        assert_eq!(turn(&mut departures, true, false, 5_001), ENDS_PER_TURN_MAX);
        let mut told = 2 * ENDS_PER_TURN_MAX;
        while !departures.is_empty() {
            told += turn(&mut departures, true, true, 15_000);
        }
        assert_eq!((told, departures.due_ms()), (STORM_MIN, None));
    }
}
