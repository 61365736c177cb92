//! Which TLS handshake goes on next.
//!
//! A handshake takes two steps of the server: the first, with the signature, costs up to 1.5 ms,
//! the second, when the client has answered, a tenth. In a storm the second steps go first:
//! otherwise each would wait behind the first steps of all others, nobody would be through before
//! nearly everybody is, and clients that lose patience come back for another signature. One first
//! step is made for every few second ones, so that a client that dribbles holds up nobody else.
//!
//! Handshakes that were begun are bounded: what is to be remembered of each has a few KB. Beyond
//! the bound the one whose client has been awaited longest gives way.

use std::collections::VecDeque;

use crate::ids::ConnectionId;
use crate::limits::HANDSHAKES_BEGUN_MAX;

/// Second steps in a row while somebody waits for a first one.
const SECOND_STEPS_IN_A_ROW: u32 = 8;
/// How long a client must have been awaited before its handshake gives way.
const GIVES_WAY_AFTER_MS: u64 = 1_000;

/// See the top of this file.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    first: VecDeque<ConnectionId>,
    second: VecDeque<ConnectionId>,
    seconds_in_a_row: u32,
    /// How many were begun and are not complete.
    begun_count: usize,
    /// When each of these was begun, in order; some of the entries have ended since.
    begun: VecDeque<(u64, ConnectionId)>,
}

impl Handshakes {
    /// Bytes have come on a connection whose handshake was begun, or not.
    pub(super) fn push(&mut self, id: ConnectionId, is_begun: bool) {
        match is_begun {
            true => self.second.push_back(id),
            false => self.first.push_back(id),
        }
    }

    /// Takes the connection whose handshake goes on next.
    pub(super) fn pop(&mut self) -> Option<ConnectionId> {
        let is_seconds_turn = self.seconds_in_a_row < SECOND_STEPS_IN_A_ROW;
        if (is_seconds_turn || self.first.is_empty())
            && let Some(id) = self.second.pop_front()
        {
            self.seconds_in_a_row += 1;
            return Some(id);
        }
        self.seconds_in_a_row = 0;
        self.first.pop_front()
    }

    /// How many wait for a step.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// Whether nobody waits for a step.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A first step was made: the client is awaited from now on.
    pub(super) fn begin(&mut self, id: ConnectionId, now_ms: u64) {
        self.begun_count += 1;
        self.begun.push_back((now_ms, id));
    }

    /// A handshake that was begun is complete, or will never be.
    pub(super) fn end(&mut self) {
        self.begun_count -= 1;
    }

    /// The handshake that gives way, if there are too many. `is_under_way` tells those that are
    /// from those that have ended since.
    pub(super) fn give_way(
        &mut self,
        now_ms: u64,
        is_under_way: impl Fn(ConnectionId) -> bool,
    ) -> Option<ConnectionId> {
        while let Some((since_ms, id)) = self.begun.front().copied() {
            let is_due = since_ms + GIVES_WAY_AFTER_MS <= now_ms;
            if is_under_way(id) && !(is_due && self.begun_count > HANDSHAKES_BEGUN_MAX) {
                return None;
            }
            self.begun.pop_front();
            if is_under_way(id) {
                return Some(id);
            }
        }
        None
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

    /// What a pass over everything that waits takes.
    fn all(handshakes: &mut Handshakes) -> Vec<u32> {
        std::iter::from_fn(|| handshakes.pop())
            .map(|id| id.slot)
            .collect()
    }

    #[test]
    fn whoever_has_begun_goes_on_before_others_begin() {
        let mut handshakes = Handshakes::default();
        (0..100).for_each(|slot| handshakes.push(id(slot), false));
        assert_eq!(handshakes.pop(), Some(id(0)));
        handshakes.push(id(0), true);
        assert_eq!(handshakes.pop(), Some(id(0)));
        assert_eq!(all(&mut handshakes), (1..100).collect::<Vec<_>>());
        assert!(handshakes.is_empty());
    }

    #[test]
    fn those_who_dribble_hold_nobody_up() {
        let mut handshakes = Handshakes::default();
        (0..10).for_each(|slot| handshakes.push(id(slot), false));
        (100..1_000).for_each(|slot| handshakes.push(id(slot), true));
        let mut begun = Vec::new();
        for _ in 0..10 * (SECOND_STEPS_IN_A_ROW + 1) {
            let next = handshakes.pop().unwrap();
            match next.slot < 100 {
                true => begun.push(next.slot),
                false => handshakes.push(next, true),
            }
        }
        assert_eq!(begun, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn the_oldest_of_too_many_gives_way_when_its_client_takes_long() {
        let mut handshakes = Handshakes::default();
        let count = HANDSHAKES_BEGUN_MAX as u32 + 2;
        (0..count).for_each(|slot| handshakes.begin(id(slot), u64::from(slot)));
        let in_time = GIVES_WAY_AFTER_MS - 1;
        assert_eq!(handshakes.give_way(in_time, |_| true), None);
        // The first has ended by itself.
        handshakes.end();
        let is_under_way = |it| it != id(0);
        let late = GIVES_WAY_AFTER_MS + 1;
        assert_eq!(handshakes.give_way(late, is_under_way), Some(id(1)));
        handshakes.end();
        assert_eq!(handshakes.give_way(u64::MAX, is_under_way), None);
    }
}
