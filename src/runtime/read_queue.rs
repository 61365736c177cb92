//! Which sockets are read next.
//!
//! They stand in three lines, and each has a share of every turn. First come sockets that have been
//! there for a while: in a storm of connects their messages do not wait behind the requests and the
//! first commands of thousands who come back. Then come new ones. Sockets whose peers have hung up
//! come last: the end of a connection costs as much as a join, many come at once, and none is
//! urgent.
//!
//! A turn that finds sockets in the first line reads no others, unless the turn before did so: what
//! comes out of them is written before the work of the other lines begins.
//!
//! A turn reads a bounded number of sockets and of bytes, and what is not urgent for a bounded
//! time, one of each line at least. New sockets are given what those before them leave of a turn,
//! and a share of their own in any case; the budget of hang-ups is apart, so that no line can
//! starve another.

use std::collections::VecDeque;

use crate::ids::ConnectionId;
use crate::limits::{
    HANG_UP_BYTES_PER_TURN_MAX, HANG_UPS_PER_TURN_MAX, READ_BYTES_PER_TURN_MAX, READS_PER_TURN_MAX,
};

/// Of what a turn reads, new sockets have this share when others could take all of it.
const NEW_ONE_IN: usize = 4;
/// Sockets of each line that a turn reads however long that takes.
const HURRIED_MAX: usize = 1;

/// In which line a socket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Input of a socket that has been there for a while.
    Input,
    /// Input of a new socket.
    NewInput,
    /// The peer has hung up.
    HangUp,
}

/// See the top of this file.
#[derive(Debug, Default)]
pub(super) struct ReadQueue {
    /// By [`News`].
    lines: [Line; 3],
    /// The line from which the last socket was taken.
    at: usize,
    /// This turn reads the first line only.
    is_first_only: bool,
}

/// A moment in the life of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark([u64; 3]);

#[derive(Debug, Default)]
struct Line {
    queue: VecDeque<ConnectionId>,
    /// Sockets that were ever added, and taken.
    added: u64,
    taken: u64,
    /// Sockets and bytes that this turn may still take.
    sockets_left: usize,
    bytes_left: usize,
    /// How many it has taken in this turn.
    count: usize,
}

impl Line {
    fn begin_turn(&mut self, sockets_max: usize, bytes_max: usize) {
        // Those that are put back during the turn wait for the next one.
        self.sockets_left = sockets_max.min(self.queue.len());
        self.bytes_left = bytes_max;
        self.count = 0;
    }

    fn pop(&mut self) -> Option<ConnectionId> {
        if self.bytes_left == 0 {
            return None;
        }
        self.sockets_left = self.sockets_left.checked_sub(1)?;
        self.taken += 1;
        self.count += 1;
        self.queue.pop_front()
    }
}

impl ReadQueue {
    /// Adds a socket at the end of its line.
    pub(super) fn push(&mut self, id: ConnectionId, news: News) {
        let line = &mut self.lines[news as usize];
        line.added += 1;
        line.queue.push_back(id);
    }

    /// A turn begins to read. `others_wait` to be let in, whom a turn keeps waiting that reads the
    /// first line only.
    pub(super) fn begin_turn(&mut self, others_wait: bool) {
        let (sockets, bytes) = (READS_PER_TURN_MAX, READ_BYTES_PER_TURN_MAX);
        let others_wait = others_wait || self.others_wait();
        let [input, new_input, hang_ups] = &mut self.lines;
        let is_input = !input.queue.is_empty();
        self.is_first_only = others_wait && is_input && !self.is_first_only;
        self.at = News::Input as usize;
        if self.is_first_only {
            input.begin_turn(sockets, bytes);
            new_input.begin_turn(0, 0);
            hang_ups.begin_turn(0, 0);
            return;
        }
        let is_shared = !new_input.queue.is_empty();
        let reserved = |all: usize| if is_shared { all / NEW_ONE_IN } else { 0 };
        input.begin_turn(sockets - reserved(sockets), bytes - reserved(bytes));
        // What is left of the first line's comes to it when that has been read.
        new_input.begin_turn(sockets - input.sockets_left, reserved(bytes));
        hang_ups.begin_turn(HANG_UPS_PER_TURN_MAX, HANG_UP_BYTES_PER_TURN_MAX);
    }

    /// Whether this turn reads the first line only: it does nothing else that can wait.
    pub(super) fn is_first_only(&self) -> bool {
        self.is_first_only
    }

    /// Whether the last socket taken could have waited.
    pub(super) fn is_past_first(&self) -> bool {
        self.at != News::Input as usize
    }

    /// Those who can wait have taken long: no more than a few are taken out of their lines.
    pub(super) fn hurry(&mut self) {
        for news in [News::NewInput, News::HangUp] {
            let line = &mut self.lines[news as usize];
            let left = HURRIED_MAX.saturating_sub(line.count);
            line.sockets_left = line.sockets_left.min(left);
        }
    }

    /// The next socket to be read in this turn.
    pub(super) fn pop(&mut self) -> Option<ConnectionId> {
        while self.at < self.lines.len() {
            if let Some(id) = self.lines[self.at].pop() {
                return Some(id);
            }
            self.at += 1;
            if self.at == News::NewInput as usize && !self.is_first_only {
                self.lines[self.at].bytes_left += self.lines[News::Input as usize].bytes_left;
            }
        }
        None
    }

    /// The last socket taken gave that many bytes.
    pub(super) fn spend(&mut self, bytes: usize) {
        if let Some(line) = self.lines.get_mut(self.at) {
            line.bytes_left = line.bytes_left.saturating_sub(bytes);
        }
    }

    /// How many peers have hung up whose sockets have not been read to the end.
    #[must_use]
    pub(super) fn hang_ups(&self) -> usize {
        self.lines[News::HangUp as usize].queue.len()
    }

    /// Whether somebody waits who is not in the first line.
    #[must_use]
    pub(super) fn others_wait(&self) -> bool {
        self.new_ones_wait() || self.hang_ups() > 0
    }

    /// Whether new sockets wait.
    #[must_use]
    pub(super) fn new_ones_wait(&self) -> bool {
        !self.lines[News::NewInput as usize].queue.is_empty()
    }

    /// The moment at which all that stand in line now will have been read.
    #[must_use]
    pub(super) fn mark(&self) -> Mark {
        Mark(std::array::from_fn(|at| self.lines[at].added))
    }

    /// Whether that moment has come.
    #[must_use]
    pub(super) fn is_past(&self, mark: Mark) -> bool {
        let mut lines = self.lines.iter().zip(mark.0);
        lines.all(|(line, moment)| moment <= line.taken)
    }

    /// Whether there is nothing to be read.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.queue.is_empty())
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
        queue.begin_turn(false);
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
        (0..15_000).for_each(|slot| queue.push(id(slot), News::HangUp));
        turn(&mut queue, 0);
        queue.push(id(20_000), News::Input);
        let taken = turn(&mut queue, 100);
        assert_eq!(taken, [20_000], "what comes of it is written first");
        queue.push(id(20_000), News::Input);
        let taken = turn(&mut queue, 100);
        assert_eq!(taken[0], 20_000);
        assert_eq!(
            taken.len(),
            1 + HANG_UPS_PER_TURN_MAX,
            "others have every second turn"
        );
    }

    #[test]
    fn hang_ups_go_on_in_order_however_much_is_sent() {
        let mut queue = ReadQueue::default();
        (0..1_000).for_each(|slot| queue.push(id(slot), News::HangUp));
        let mut ended = Vec::new();
        for turns in 0.. {
            assert!(turns <= 2 * (1_000 / HANG_UPS_PER_TURN_MAX + 1));
            // More than a turn reads, in sockets and in bytes.
            (10_000..10_200).for_each(|slot| queue.push(id(slot), News::Input));
            queue.begin_turn(false);
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
        let news = [News::HangUp, News::Input];
        (0..1_000).for_each(|slot| queue.push(id(slot), news[slot as usize % 2]));
        let sockets = READS_PER_TURN_MAX + HANG_UPS_PER_TURN_MAX;
        assert_eq!(turn(&mut queue, 1).len(), READS_PER_TURN_MAX);
        assert_eq!(turn(&mut queue, 1).len(), sockets);
        let reads = READ_BYTES_PER_TURN_MAX / 65_536;
        assert_eq!(turn(&mut queue, 65_536).len(), reads);
        let reads = READ_BYTES_PER_TURN_MAX / 65_536 + HANG_UP_BYTES_PER_TURN_MAX / 65_536;
        assert_eq!(turn(&mut queue, 65_536).len(), reads);
        while !queue.is_empty() {
            assert!(!turn(&mut queue, 1).is_empty());
        }
        // A socket that is put back at once is not read twice in a turn.
        queue.push(id(1), News::Input);
        queue.begin_turn(false);
        let again = queue.pop().unwrap();
        queue.push(again, News::Input);
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn whoever_was_there_goes_before_all_who_come_back() {
        let mut queue = ReadQueue::default();
        (0..15_000).for_each(|slot| queue.push(id(slot), News::NewInput));
        turn(&mut queue, 200);
        queue.push(id(20_000), News::Input);
        let taken = turn(&mut queue, 200);
        assert_eq!(taken, [20_000]);
        queue.push(id(20_000), News::Input);
        let taken = turn(&mut queue, 200);
        assert_eq!((taken[0], taken.len()), (20_000, READS_PER_TURN_MAX));
    }

    #[test]
    fn new_sockets_have_a_share_however_much_the_others_send() {
        for bytes in [0, 100, 65_536] {
            let mut queue = ReadQueue::default();
            (0..100).for_each(|slot| queue.push(id(slot), News::NewInput));
            let (mut new, mut turns) = (Vec::new(), 0);
            while new.len() < 100 {
                (10_000..10_200).for_each(|slot| queue.push(id(slot), News::Input));
                let taken = turn(&mut queue, bytes);
                assert!(taken.len() <= READS_PER_TURN_MAX);
                assert!(taken.len() * bytes <= READ_BYTES_PER_TURN_MAX + 2 * bytes);
                new.extend(taken.into_iter().filter(|slot| *slot < 100));
                turns += 1;
                assert!(turns <= 200, "{bytes} bytes each");
            }
            assert!(new.is_sorted());
        }
    }

    #[test]
    fn a_turn_that_takes_long_leaves_to_the_next_what_can_wait() {
        let mut queue = ReadQueue::default();
        for slot in 0..300 {
            queue.push(id(slot), News::Input);
            queue.push(id(1_000 + slot), News::NewInput);
            queue.push(id(2_000 + slot), News::HangUp);
        }
        turn(&mut queue, 0);
        queue.begin_turn(false);
        let mut taken = Vec::new();
        while let Some(id) = queue.pop() {
            queue.hurry();
            taken.push(id.slot / 1_000);
        }
        let count = |line: u32| taken.iter().filter(|it| **it == line).count();
        let urgent = READS_PER_TURN_MAX - READS_PER_TURN_MAX / NEW_ONE_IN;
        assert_eq!([0, 1, 2].map(count), [urgent, HURRIED_MAX, HURRIED_MAX]);
    }
}
