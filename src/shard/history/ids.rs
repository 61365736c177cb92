//! The ids of publications that senders may repeat: each is remembered for a time, with the place
//! that it was given.

use std::collections::VecDeque;

use ahash::RandomState;
use hashbrown::HashTable;

use crate::proto::wire::position::Position;

/// Ids that a channel remembers at most, the newest: more than forbids a sender, within the time
/// that they are remembered by default, to push out those of others.
const IDS_MAX: usize = 65_536;
/// Room for ids grows and shrinks by that part of it.
const GROWS_BY: usize = 8;

/// See the top of this file.
#[derive(Debug)]
pub(in crate::shard) struct Ids {
    /// The oldest first.
    order: VecDeque<Remembered>,
    /// The number of the first of them; all are numbered in order.
    first: u64,
    index: HashTable<u64>,
    hasher: RandomState,
    name_bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    /// The peer's id, and behind it the publication's.
    name: Box<str>,
    peer_bytes: u32,
    position: Position,
    /// When it was published, on the monotonic clock.
    at_ms: u64,
}

impl Remembered {
    fn parts(&self) -> (&str, &str) {
        self.name.split_at(self.peer_bytes as usize)
    }
}

impl Ids {
    /// None.
    pub(in crate::shard) fn new(hasher: RandomState) -> Self {
        Self {
            order: VecDeque::new(),
            first: 0,
            index: HashTable::new(),
            hasher,
            name_bytes: 0,
        }
    }

    /// Where a peer has published something with that id, not before a time.
    pub(in crate::shard) fn find(&self, peer: &str, id: &str, since_ms: u64) -> Option<Position> {
        if self.order.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one((peer, id));
        let remembered = |number: &u64| self.order.get((number - self.first) as usize);
        let is_it = |number: &u64| remembered(number).is_some_and(|it| it.parts() == (peer, id));
        let found = self.index.find(hash, is_it).and_then(remembered)?;
        (found.at_ms >= since_ms).then_some(found.position)
    }

    /// What its sender calls the publication at that position, as far as it is remembered.
    pub(in crate::shard) fn id_at(&self, position: Position) -> Option<&str> {
        // Those of the present epoch are the last ones, in the order of their numbers.
        let is_before =
            |it: &Remembered| it.position.epoch != position.epoch || it.position.seq < position.seq;
        let found = self.order.get(self.order.partition_point(is_before))?;
        (found.position == position).then(|| found.parts().1)
    }

    /// Remembers an id.
    pub(in crate::shard) fn insert(
        &mut self,
        (peer, id): (&str, &str),
        position: Position,
        now_ms: u64,
    ) {
        if self.is_full() {
            self.pop();
        }
        let hash = self.hasher.hash_one((peer, id));
        // An older one of the same name, whose time is over, is not found any more.
        let (order, first) = (&self.order, self.first);
        let same = self.index.find_entry(hash, |number| {
            let known = order.get((number - first) as usize);
            known.is_some_and(|it| it.parts() == (peer, id))
        });
        if let Ok(same) = same {
            same.remove();
        }
        let name: Box<str> = [peer, id].concat().into();
        self.name_bytes += name.len();
        let number = self.first + self.order.len() as u64;
        self.grow();
        self.order.push_back(Remembered {
            name,
            peer_bytes: peer.len() as u32,
            position,
            at_ms: now_ms,
        });
        let (order, first, hasher) = (&self.order, self.first, &self.hasher);
        self.index.insert_unique(hash, number, |number| {
            let known = order.get((number - first) as usize);
            known.map_or(0, |it| hasher.hash_one(it.parts()))
        });
    }

    /// Whether the oldest gives way to the next one.
    pub(in crate::shard) fn is_full(&self) -> bool {
        self.order.len() >= IDS_MAX
    }

    /// Room for one more: an eighth of what there is, so that the room that is counted is little
    /// more than what is remembered.
    fn grow(&mut self) {
        if self.order.len() == self.order.capacity() {
            self.order.reserve_exact(self.order.len() / GROWS_BY + 1);
        }
    }

    /// Gives back room that is not used.
    fn shrink(&mut self) {
        let len = self.order.len();
        if len == 0 {
            (self.order, self.index) = (VecDeque::new(), HashTable::new());
            return;
        }
        if self.order.capacity() - len > 2 * (len / GROWS_BY) + GROWS_BY {
            self.order.shrink_to(len + len / GROWS_BY);
        }
        if self.index.capacity() > 4 * len.max(GROWS_BY) {
            let (order, first, hasher) = (&self.order, self.first, &self.hasher);
            self.index.shrink_to(len, |number| {
                let known = order.get((number - first) as usize);
                known.map_or(0, |it| hasher.hash_one(it.parts()))
            });
        }
    }

    /// Forgets ids from before a time, at most so many. Returns how many.
    pub(in crate::shard) fn expire(&mut self, since_ms: u64, most: usize) -> usize {
        let mut count = 0;
        while count < most && self.order.front().is_some_and(|it| it.at_ms < since_ms) {
            self.pop();
            count += 1;
        }
        count
    }

    /// Forgets the oldest. Returns whether there was one.
    pub(in crate::shard) fn pop(&mut self) -> bool {
        let Some(oldest) = self.order.pop_front() else {
            return false;
        };
        self.name_bytes -= oldest.name.len();
        let (hash, number) = (self.hasher.hash_one(oldest.parts()), self.first);
        if let Ok(entry) = self.index.find_entry(hash, |it| *it == number) {
            entry.remove();
        }
        self.first += 1;
        self.shrink();
        true
    }

    /// How many are remembered.
    pub(in crate::shard) fn len(&self) -> usize {
        self.order.len()
    }

    /// All of them, the oldest first: the peer's id and the publication's, where it was placed, and
    /// when.
    pub(in crate::shard) fn iter(&self) -> impl Iterator<Item = ((&str, &str), Position, u64)> {
        let order = self.order.iter();
        order.map(|it| (it.parts(), it.position, it.at_ms))
    }

    /// When the oldest was published.
    pub(in crate::shard) fn oldest_ms(&self) -> Option<u64> {
        self.order.front().map(|it| it.at_ms)
    }

    /// When the newest was published; 0 if there is none.
    pub(in crate::shard) fn newest_ms(&self) -> u64 {
        self.order.back().map_or(0, |it| it.at_ms)
    }

    /// Bytes of memory that it takes.
    pub(in crate::shard) fn memory(&self) -> usize {
        /// What an allocator takes for a small piece, beside it.
        const PIECE_BYTES: usize = 16;
        let entries = self.order.capacity() * size_of::<Remembered>();
        let names = self.name_bytes + self.order.len() * PIECE_BYTES;
        entries + names + self.index.capacity() * size_of::<u64>()
    }

    /// Panics unless each id that can be found is remembered.
    pub(in crate::shard) fn check(&self) {
        assert!(
            self.index.len() <= self.order.len(),
            "ids that are forgotten"
        );
        let names = self.order.iter().map(|it| it.name.len());
        assert_eq!(names.sum::<usize>(), self.name_bytes, "bytes of ids");
        assert!(self.order.iter().is_sorted_by_key(|it| it.at_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::position::Epoch;

    fn at(seq: u64) -> Position {
        let epoch = Epoch::of([1; 6]);
        Position { epoch, seq }
    }

    #[test]
    fn an_id_of_a_peer_is_found_for_a_time() {
        let mut ids = Ids::new(RandomState::with_seeds(1, 2, 3, 4));
        ids.insert(("alice", "m1"), at(1), 1_000);
        ids.insert(("alice", "m2"), at(2), 2_000);
        ids.check();
        assert_eq!(ids.find("alice", "m1", 1_000), Some(at(1)));
        assert_eq!(ids.find("alice", "m1", 1_001), None);
        assert_eq!(ids.find("bob", "m1", 0), None);
        // The same letters, split elsewhere.
        assert_eq!(ids.find("alicem", "1", 0), None);
        // Its time is over, and it is published again.
        ids.insert(("alice", "m1"), at(3), 3_000);
        assert_eq!(ids.find("alice", "m1", 0), Some(at(3)));
        ids.check();
        assert_eq!(ids.expire(2_500, 1), 1);
        assert_eq!(ids.expire(2_500, 10), 1);
        assert_eq!(ids.find("alice", "m1", 0), Some(at(3)));
        assert_eq!(ids.find("alice", "m2", 0), None);
        ids.check();
        assert_eq!(ids.expire(u64::MAX, 10), 1);
        assert_eq!(ids.memory(), 0);
    }

    #[test]
    fn room_follows_what_is_remembered() {
        let mut ids = Ids::new(RandomState::with_seeds(1, 2, 3, 4));
        let name = |number: u64| format!("{number:064}");
        for number in 0..3_000 {
            ids.insert(("a", &name(number)), at(number), 0);
            let own = ids.len() * (size_of::<Remembered>() + 65 + 16 + 2 * size_of::<u64>());
            assert!(
                ids.memory() <= own * 5 / 4 + 200,
                "{} of {own}",
                ids.memory()
            );
        }
        for number in 0..3_000 {
            assert_eq!(ids.find("a", &name(number), 0), Some(at(number)));
            assert!(ids.pop());
            assert_eq!(ids.find("a", &name(number), 0), None);
            let own = ids.len() * (size_of::<Remembered>() + 65 + 16 + 4 * size_of::<u64>());
            assert!(
                ids.memory() <= own * 3 / 2 + 1_000,
                "{} of {own}",
                ids.memory()
            );
        }
        assert!(!ids.pop());
        assert_eq!(ids.memory(), 0);
    }

    #[test]
    fn the_newest_ids_are_remembered() {
        let mut ids = Ids::new(RandomState::with_seeds(1, 2, 3, 4));
        for number in 0..IDS_MAX as u64 + 2 {
            ids.insert(("a", &number.to_string()), at(number), 0);
        }
        assert_eq!(ids.order.len(), IDS_MAX);
        assert_eq!(ids.find("a", "1", 0), None);
        assert_eq!(ids.find("a", "2", 0), Some(at(2)));
        ids.check();
    }
}
