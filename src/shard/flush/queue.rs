//! Which outboxes are written next.
//!
//! A turn writes a bounded number of outboxes and of bytes; the rest waits in three lines. First
//! come messages to a few receivers: one to a narrow channel, or to one peer, is written at once
//! although a fan-out to thousands is under way, or thousands of connections are being welcomed.
//! Then come replies, then messages to many. Each line has a share of every turn, and a share that
//! one line does not need goes to the others, so no outbox waits for ever.

use std::collections::VecDeque;

use crate::ids::ConnectionId;
use crate::limits::{FLUSH_BYTES_PER_TURN_MAX, FLUSHES_PER_TURN_MAX};
use crate::shard::effect::{Dirty, Urgency};

/// The shares of the lines in these, in sixteenths.
const SHARES: [usize; 3] = [8, 4, 4];

/// See the top of this file.
#[derive(Debug)]
pub struct FlushQueue {
    lines: [Line; 3],
    /// The line from which the last was taken.
    at: usize,
    /// Turns whose outboxes have not all been taken, and when they will have been.
    offers: VecDeque<(u32, Mark)>,
    flushes_max: usize,
    bytes_max: usize,
    /// The same of this turn, as far as it is allowed to go.
    turn_flushes_max: usize,
    turn_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Line {
    queue: VecDeque<ConnectionId>,
    /// How many have been taken since the start.
    taken: u64,
    /// How many were taken in this turn.
    count: usize,
    /// How many bytes were written to these.
    bytes: usize,
}

/// A moment in the life of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark([u64; 3]);

/// A moment in the life of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineMark(Urgency, u64);

impl Default for FlushQueue {
    fn default() -> Self {
        Self::bounded(FLUSHES_PER_TURN_MAX, FLUSH_BYTES_PER_TURN_MAX)
    }
}

impl FlushQueue {
    /// A queue of which a turn writes at most `flushes_max` outboxes and about `bytes_max` bytes.
    #[must_use]
    pub fn bounded(flushes_max: usize, bytes_max: usize) -> Self {
        Self {
            lines: Default::default(),
            at: 0,
            offers: VecDeque::new(),
            flushes_max,
            bytes_max,
            turn_flushes_max: flushes_max,
            turn_bytes_max: bytes_max,
        }
    }

    /// The inputs of that turn of the shard's have been handled. Adds all outboxes that got
    /// something, in the order in which they did; what is taken from now on counts for this turn.
    pub fn begin_turn(&mut self, dirty: &mut Dirty, turn: u32) {
        self.turn_flushes_max = self.flushes_max;
        self.turn_bytes_max = self.bytes_max;
        for (line, ids) in self.lines.iter_mut().zip(dirty.by_urgency()) {
            line.count = 0;
            line.bytes = 0;
            line.queue.extend(ids.drain(..));
        }
        self.offers.push_back((turn, self.mark()));
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    /// This turn takes no more outboxes and no more bytes than these until it is allowed more.
    /// Returns whether it can be.
    pub fn allow(&mut self, flushes_max: usize, bytes_max: usize) -> bool {
        self.turn_flushes_max = flushes_max.min(self.flushes_max);
        self.turn_bytes_max = bytes_max.min(self.bytes_max);
        flushes_max < self.flushes_max && bytes_max < self.bytes_max
    }

    /// The latest turn before which all that was added has been taken, unless it was told before:
    /// for [`Shard::offered`](crate::shard::state::Shard::offered).
    pub fn offered(&mut self) -> Option<u32> {
        let mut offered = None;
        while let Some((turn, mark)) = self.offers.front()
            && self.is_past(*mark)
        {
            offered = Some(*turn);
            self.offers.pop_front();
        }
        offered
    }

    /// Adds an outbox after others that are as urgent.
    pub fn push(&mut self, id: ConnectionId, urgency: Urgency) {
        self.lines[urgency as usize].queue.push_back(id);
    }

    /// The next outbox of this turn; `None` when nothing waits, or the turn has written enough.
    pub fn pop(&mut self) -> Option<ConnectionId> {
        let in_share = |(line, share): (&Line, usize)| {
            !line.queue.is_empty()
                && line.count < self.turn_flushes_max * share / 16
                && line.bytes < self.turn_bytes_max * share / 16
        };
        let mut lines = self.lines.iter().zip(SHARES);
        let at = lines.position(in_share).or_else(|| {
            let count: usize = self.lines.iter().map(|line| line.count).sum();
            let bytes: usize = self.lines.iter().map(|line| line.bytes).sum();
            let is_over = count >= self.turn_flushes_max || bytes >= self.turn_bytes_max;
            let mut lines = self.lines.iter();
            lines.position(|line| !is_over && !line.queue.is_empty())
        })?;
        self.at = at;
        let line = &mut self.lines[at];
        line.count += 1;
        line.taken += 1;
        line.queue.pop_front()
    }

    /// Notes that the outbox that was taken last has that many bytes to write.
    #[inline]
    pub fn charge(&mut self, bytes: usize) {
        self.lines[self.at].bytes += bytes;
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.iter().map(|line| line.queue.len()).sum()
    }

    /// Whether there is nothing to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.queue.is_empty())
    }

    /// The moment at which all that wait now will have been taken.
    fn mark(&self) -> Mark {
        let moment = |line: &Line| line.taken + line.queue.len() as u64;
        Mark(std::array::from_fn(|at| moment(&self.lines[at])))
    }

    /// Whether that moment has come.
    fn is_past(&self, mark: Mark) -> bool {
        let mut lines = self.lines.iter().zip(mark.0);
        lines.all(|(line, moment)| moment <= line.taken)
    }

    /// The moment at which all that wait now and are as urgent will have been taken.
    #[must_use]
    pub fn line_mark(&self, urgency: Urgency) -> LineMark {
        let line = &self.lines[urgency as usize];
        LineMark(urgency, line.taken + line.queue.len() as u64)
    }

    /// Whether that moment has come.
    #[must_use]
    pub fn is_line_past(&self, LineMark(urgency, moment): LineMark) -> bool {
        moment <= self.lines[urgency as usize].taken
    }

    /// Panics unless the turns that wait to be offered stand in the order in which that happens.
    pub fn check(&self) {
        let marks = self.offers.iter().map(|(_, mark)| mark.0);
        let reached = self.mark().0;
        for at in 0..self.lines.len() {
            let of_line = marks.clone().map(|mark| mark[at]);
            assert!(of_line.clone().is_sorted(), "turns are offered in order");
            assert!(
                of_line.max().is_none_or(|it| it <= reached[at]),
                "a turn is never offered"
            );
        }
    }

    /// All of them; some may be there twice.
    pub fn iter(&self) -> impl Iterator<Item = &ConnectionId> {
        self.lines.iter().flat_map(|line| &line.queue)
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

    fn add(queue: &mut FlushQueue, urgency: Urgency, slots: impl IntoIterator<Item = u32>) {
        for slot in slots {
            queue.push(id(slot), urgency);
        }
    }

    /// What a turn takes, each with that many bytes to write.
    fn turn(queue: &mut FlushQueue, bytes: usize) -> Vec<u32> {
        queue.begin_turn(&mut Dirty::default(), 0);
        let taken = std::iter::from_fn(|| {
            let taken = queue.pop()?.slot;
            queue.charge(bytes);
            Some(taken)
        });
        taken.collect()
    }

    #[test]
    fn a_few_go_before_a_wide_fan_out() {
        let mut queue = FlushQueue::default();
        add(&mut queue, Urgency::Wide, 0..1_000);
        assert_eq!(turn(&mut queue, 100).len(), FLUSHES_PER_TURN_MAX);
        let wide = queue.mark();
        add(&mut queue, Urgency::Live, [5_000, 5_001]);
        let narrow = queue.mark();
        let taken = turn(&mut queue, 100);
        assert_eq!(taken.len(), FLUSHES_PER_TURN_MAX);
        assert_eq!(taken[..2], [5_000, 5_001]);
        assert!(!queue.is_past(narrow) && !queue.is_past(wide));
    }

    #[test]
    fn live_messages_go_before_the_answers_of_a_storm() {
        let mut queue = FlushQueue::default();
        add(&mut queue, Urgency::Reply, 0..15_000);
        add(&mut queue, Urgency::Wide, 20_000..35_000);
        for round in 0..100 {
            let pair = 50_000 + round;
            add(&mut queue, Urgency::Live, [pair]);
            assert_eq!(turn(&mut queue, 1_000)[0], pair);
        }
    }

    #[test]
    fn a_short_turn_takes_less_of_all_lines() {
        let mut queue = FlushQueue::default();
        add(&mut queue, Urgency::Live, [50_000]);
        add(&mut queue, Urgency::Reply, 0..1_000);
        add(&mut queue, Urgency::Wide, 1_000..2_000);
        queue.begin_turn(&mut Dirty::default(), 0);
        assert!(queue.allow(32, 1_000_000));
        let taken: Vec<u32> = std::iter::from_fn(|| Some(queue.pop()?.slot)).collect();
        assert_eq!((taken[0], taken.len()), (50_000, 32));
        assert_eq!(taken.iter().filter(|it| **it >= 1_000).count(), 9);
        assert_eq!(turn(&mut queue, 0).len(), FLUSHES_PER_TURN_MAX);
    }

    #[test]
    fn a_turn_that_is_allowed_piece_by_piece_takes_what_others_take() {
        let (mut whole, mut pieces) = (FlushQueue::default(), FlushQueue::default());
        for queue in [&mut whole, &mut pieces] {
            add(queue, Urgency::Live, 50_000..50_200);
            add(queue, Urgency::Reply, 0..1_000);
            add(queue, Urgency::Wide, 1_000..2_000);
        }
        let sorted = |mut taken: Vec<u32>| {
            taken.sort_unstable();
            taken
        };
        let expected = sorted(turn(&mut whole, 1_000));
        pieces.begin_turn(&mut Dirty::default(), 0);
        let (mut allowed, mut taken) = (0, Vec::new());
        let mut goes_on = true;
        while goes_on {
            allowed += 16;
            goes_on = pieces.allow(allowed, allowed * 4_096);
            let before = taken.len();
            taken.extend(std::iter::from_fn(|| Some(pieces.pop()?.slot)));
            assert_eq!(taken.len(), before + 16);
        }
        assert_eq!(sorted(taken), expected);
    }

    #[test]
    fn a_piece_ends_when_enough_has_been_written() {
        let mut queue = FlushQueue::default();
        add(&mut queue, Urgency::Reply, 0..100);
        queue.begin_turn(&mut Dirty::default(), 0);
        assert!(queue.allow(16, 1_000));
        assert_eq!(queue.pop(), Some(id(0)));
        queue.charge(1_000);
        assert_eq!(queue.pop(), None);
        assert!(queue.allow(32, 2_000));
        assert_eq!(queue.pop(), Some(id(1)));
    }

    #[test]
    fn nobody_waits_for_ever_however_much_is_urgent() {
        for bytes in [0, 100, 60_000, 1 << 20] {
            let mut queue = FlushQueue::default();
            add(&mut queue, Urgency::Reply, 0..100);
            add(&mut queue, Urgency::Wide, 1_000..1_100);
            let (mut replies, mut wide, mut turns) = (Vec::new(), Vec::new(), 0);
            while replies.len() + wide.len() < 200 {
                add(&mut queue, Urgency::Live, 5_000..6_000);
                for slot in turn(&mut queue, bytes) {
                    match slot {
                        0..100 => replies.push(slot),
                        1_000..1_100 => wide.push(slot),
                        _ => {}
                    }
                }
                turns += 1;
                assert!(turns <= 100, "{bytes} bytes each");
            }
            assert!(replies.is_sorted() && wide.is_sorted());
        }
    }

    #[test]
    fn a_turn_ends_when_it_has_written_enough() {
        let mut queue = FlushQueue::default();
        add(&mut queue, Urgency::Wide, 0..1_000);
        let taken = turn(&mut queue, 60_000).len();
        assert!(
            taken * 60_000 <= FLUSH_BYTES_PER_TURN_MAX + 60_000,
            "{taken}"
        );
        assert_eq!(turn(&mut queue, 8 << 20), [taken as u32]);
    }

    #[test]
    fn what_one_line_does_not_need_is_for_the_others() {
        for urgency in [Urgency::Live, Urgency::Reply, Urgency::Wide] {
            let mut queue = FlushQueue::default();
            add(&mut queue, urgency, 0..300);
            let counts: Vec<usize> = (0..3).map(|_| turn(&mut queue, 10).len()).collect();
            assert_eq!(counts, [128, 128, 44]);
            assert!(queue.is_empty());
        }
    }

    #[test]
    fn a_mark_is_past_when_the_last_that_was_added_is_taken() {
        let mut queue = FlushQueue::default();
        add(&mut queue, Urgency::Wide, 0..300);
        let mark = queue.mark();
        for left in [300_usize, 172, 44] {
            assert!(!queue.is_past(mark), "{left} are left");
            turn(&mut queue, 10);
            add(&mut queue, Urgency::Wide, [400]);
        }
        assert!(queue.is_past(mark) && !queue.is_empty());
        let queue = FlushQueue::default();
        assert!(queue.is_past(queue.mark()));
    }
}
