//! Until when everything that peers had sent has been read: by that time, and not by the clock,
//! their deadlines are judged.
//!
//! A turn takes in a bounded number of events and reads a bounded number of sockets. After a
//! stall of the process, or in a storm, bytes that came in time may still wait in the kernel, or
//! in the line of sockets to be read. So a look at the ring that brings all there is begins a
//! round, and the round ends when the sockets that stood in line then have been read: what peers
//! sent until that look has been heard. Where no look brings all, so many events as there are
//! sockets have been taken before the round begins, because each socket waits once in the kernel,
//! in the order of their news.

use crate::runtime::read_queue::Mark;

/// See the top of this file. Times on the monotonic clock.
#[derive(Debug)]
pub(super) struct Heard {
    until_ms: u64,
    round: Round,
}

#[derive(Clone, Copy, Debug)]
enum Round {
    /// The next look at the ring begins one.
    None,
    /// Of the news there were at that time, so many may still be in the kernel.
    Taking { since_ms: u64, events_left: usize },
    /// All sockets that had input by then stand in line before the mark.
    Reading { since_ms: u64, mark: Mark },
}

/// What a look at the ring brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Whether nothing is left in the kernel.
    pub is_whole: bool,
    /// How many events.
    pub events: usize,
    /// How many sockets are being watched.
    pub watched: usize,
    /// Before this mark stand the sockets that are to be read now.
    pub mark: Mark,
}

impl Heard {
    /// Begins before any peer has sent anything.
    #[must_use]
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            until_ms: now_ms,
            round: Round::None,
        }
    }

    /// The ring was looked at.
    pub(super) fn looked(&mut self, now_ms: u64, look: Look) {
        let mark = look.mark;
        self.round = match self.round {
            Round::None | Round::Taking { .. } if look.is_whole => Round::Reading {
                since_ms: now_ms,
                mark,
            },
            Round::None => Round::Taking {
                since_ms: now_ms,
                events_left: look.watched,
            },
            Round::Taking {
                since_ms,
                events_left,
            } if events_left > look.events => Round::Taking {
                since_ms,
                events_left: events_left - look.events,
            },
            Round::Taking { since_ms, .. } => Round::Reading { since_ms, mark },
            reading @ Round::Reading { .. } => reading,
        };
    }

    /// A turn has read what it may; `is_past` tells which marks the line has passed.
    pub(super) fn read(&mut self, is_past: impl FnOnce(Mark) -> bool) {
        if let Round::Reading { since_ms, mark } = self.round
            && is_past(mark)
        {
            self.until_ms = since_ms;
            self.round = Round::None;
        }
    }

    /// Returns the time until which everything has been read, in milliseconds.
    #[must_use]
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnectionId;
    use crate::runtime::read_queue::{News, ReadQueue};

    /// A loop that takes in so many sockets a turn.
    struct Turns {
        heard: Heard,
        queue: ReadQueue,
        in_kernel: usize,
        now_ms: u64,
    }

    const EVENTS_PER_TURN: usize = 160;

    impl Turns {
        fn new() -> Self {
            Self {
                heard: Heard::new(1_000),
                queue: ReadQueue::default(),
                in_kernel: 0,
                now_ms: 1_000,
            }
        }

        /// So many sockets become readable, and a turn begins after so many milliseconds.
        /// Returns how many are read.
        fn turn(&mut self, readable: usize, after_ms: u64) -> usize {
            self.now_ms += after_ms;
            self.in_kernel += readable;
            let events = self.in_kernel.min(EVENTS_PER_TURN);
            self.in_kernel -= events;
            for slot in 0..events as u32 {
                let generation = 0;
                let id = ConnectionId { slot, generation };
                self.queue.push(id, News::Input);
            }
            let look = Look {
                is_whole: self.in_kernel == 0,
                events,
                watched: 500,
                mark: self.queue.mark(),
            };
            self.heard.looked(self.now_ms, look);
            self.queue.begin_turn(false);
            let read = std::iter::from_fn(|| self.queue.pop()).count();
            self.heard.read(|mark| self.queue.is_past(mark));
            read
        }
    }

    #[test]
    fn a_calm_loop_judges_by_the_clock() {
        let mut turns = Turns::new();
        for _ in 0..5 {
            turns.turn(3, 100);
            assert_eq!(turns.heard.until_ms(), turns.now_ms);
        }
    }

    #[test]
    fn what_came_together_is_read_before_anybody_is_judged() {
        let mut turns = Turns::new();
        let mut read = turns.turn(500, 400);
        while read < 500 {
            assert_eq!(turns.heard.until_ms(), 1_000, "{read} of 500 were read");
            read += turns.turn(0, 2);
        }
        assert!(turns.heard.until_ms() > 1_400);
    }

    #[test]
    fn a_loop_that_never_sees_all_of_it_judges_nevertheless() {
        let mut turns = Turns::new();
        turns.turn(500, 2);
        for _ in 0..1_000 {
            turns.turn(EVENTS_PER_TURN, 2);
        }
        assert!(turns.in_kernel > 0);
        // Sockets come in faster than they are read: the line is as long as their number allows.
        assert!(turns.heard.until_ms() > 1_002, "{}", turns.heard.until_ms());
    }
}
