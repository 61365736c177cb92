//! Deadlines of one shard: pings, idle connections, token expiries, close handshakes.
//!
//! A hashed wheel (Varghese and Lauck, 1987, scheme 6): an entry lies in the slot of its
//! deadline's tick, modulo the number of slots; what is further away than one turn waits there
//! for its turn to come. Inserting costs a push. Nothing is cancelled: an owner that no longer
//! cares ignores the token when it comes, and one that has a later deadline by then inserts it
//! again.
//!
//! A tick is only the width of a slot: deadlines keep their millisecond. Always holds: `expire`
//! hands out every entry that is due and none that is not, however far time has jumped, in one
//! look at each slot at most; and an empty slot owns no memory.

/// Width of a slot in milliseconds, and how much later than the earliest deadline a shard is
/// asked to wake: it then has one look at the slot instead of one for each millisecond in it. A
/// token's connection is closed 250 ms before its expiry, so 16 ms never show.
pub const TICK_MS: u64 = 16;

/// Slots of a wheel. One turn, 32.8 s, holds every deadline of a connection that is well but
/// its token's expiry. A power of two, so that finding a slot is cheap.
const SLOTS: usize = 2_048;
const _: () = assert!(SLOTS.is_power_of_two());
/// Entries of the wheel up to which all of them are checked after each look at the slots.
const CHECKED_ENTRIES_MAX: usize = 64;

/// The deadline of no entry.
const NEVER_MS: u64 = u64::MAX;

/// A wheel of deadlines, each with a token that says whose it is.
#[derive(Debug)]
pub struct TimerWheel<T> {
    slots: Box<[Slot<T>]>,
    /// The tick of the latest look at the slots. Every entry lies in the slot of a tick that is
    /// not before it.
    tick: u64,
    /// The earliest deadline of all entries.
    earliest_ms: u64,
    len: usize,
}

#[derive(Debug)]
struct Slot<T> {
    /// The earliest deadline of its entries.
    earliest_ms: u64,
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    deadline_ms: u64,
    token: T,
}

const _: () = assert!(size_of::<Entry<crate::ids::ConnectionId>>() == 16);

impl<T: Copy> TimerWheel<T> {
    /// An empty wheel. Times are milliseconds of any clock that does not go back.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        let slot = || Slot {
            earliest_ms: NEVER_MS,
            entries: Vec::new(),
        };
        Self {
            slots: std::iter::repeat_with(slot).take(SLOTS).collect(),
            tick: now_ms / TICK_MS,
            earliest_ms: NEVER_MS,
            len: 0,
        }
    }

    /// Adds a deadline. One that has passed is due at the next [`expire`](Self::expire).
    #[inline]
    pub fn insert(&mut self, deadline_ms: u64, token: T) {
        let slot = self.slot_mut((deadline_ms / TICK_MS).max(self.tick));
        slot.earliest_ms = slot.earliest_ms.min(deadline_ms);
        slot.entries.push(Entry { deadline_ms, token });
        self.earliest_ms = self.earliest_ms.min(deadline_ms);
        self.len += 1;
    }

    /// Removes every entry whose deadline is at or before `now_ms` and hands out its token, in
    /// no order. Costs one comparison while nothing is due.
    #[inline]
    pub fn expire(&mut self, now_ms: u64, due: impl FnMut(T)) {
        if self.earliest_ms <= now_ms {
            self.expire_slots(now_ms, due);
        }
    }

    /// When to call [`expire`](Self::expire) next: when the slot of the earliest deadline ends,
    /// which is less than [`TICK_MS`] after that deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        (self.len > 0).then_some(self.earliest_ms | (TICK_MS - 1))
    }

    /// Returns how many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Panics unless what its parts say of each other is true. Looks at every entry.
    pub fn check(&self) {
        let mut earliest_ms = NEVER_MS;
        for slot in &self.slots {
            let deadlines = slot.entries.iter().map(|entry| entry.deadline_ms);
            let first = deadlines.min().unwrap_or(NEVER_MS);
            assert_eq!(slot.earliest_ms, first, "a slot's earliest deadline");
            assert!(!slot.entries.is_empty() || slot.entries.capacity() == 0);
            earliest_ms = earliest_ms.min(first);
        }
        let len: usize = self.slots.iter().map(|slot| slot.entries.len()).sum();
        assert_eq!(self.len, len, "entries");
        assert_eq!(self.earliest_ms, earliest_ms, "the earliest deadline");
    }

    fn slot_mut(&mut self, tick: u64) -> &mut Slot<T> {
        // The remainder is below the length of `slots`.
        &mut self.slots[tick as usize % SLOTS]
    }

    fn expire_slots(&mut self, now_ms: u64, mut due: impl FnMut(T)) {
        let first = self.tick;
        self.tick = first.max(now_ms / TICK_MS);
        let last = self.tick.min(first + (SLOTS as u64 - 1));
        for tick in first..=last {
            let slot = self.slot_mut(tick);
            if slot.earliest_ms <= now_ms {
                let count = slot.expire(now_ms, &mut due);
                self.len -= count;
            }
        }
        self.earliest_ms = self.find_earliest_ms();
        // Once a tick at most. An insertion adds to one slot, and is seen here.
        if cfg!(debug_assertions) && self.len <= CHECKED_ENTRIES_MAX {
            self.check();
        }
    }

    /// The earliest deadline of all slots: looks at them in the order of their ticks up to the
    /// first with an entry of this turn.
    fn find_earliest_ms(&self) -> u64 {
        let mut earliest_ms = NEVER_MS;
        for offset in 0..SLOTS {
            let tick = self.tick + offset as u64;
            // The remainder is below the length of `slots`.
            let slot_earliest_ms = self.slots[tick as usize % SLOTS].earliest_ms;
            earliest_ms = earliest_ms.min(slot_earliest_ms);
            if slot_earliest_ms / TICK_MS <= tick {
                break;
            }
        }
        earliest_ms
    }
}

impl<T: Copy> Slot<T> {
    /// As [`TimerWheel::expire`], for one slot. Returns how many entries were due.
    fn expire(&mut self, now_ms: u64, due: &mut impl FnMut(T)) -> usize {
        let before = self.entries.len();
        let mut earliest_ms = NEVER_MS;
        self.entries.retain(|entry| {
            let keep = entry.deadline_ms > now_ms;
            if keep {
                earliest_ms = earliest_ms.min(entry.deadline_ms);
            } else {
                due(entry.token);
            }
            keep
        });
        self.earliest_ms = earliest_ms;
        // A crowd that connected together moves from slot to slot together: each would keep
        // the memory of all of them.
        if self.entries.capacity() / 4 >= self.entries.len() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        before - self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    fn expired(wheel: &mut TimerWheel<u32>, now_ms: u64) -> Vec<u32> {
        let mut tokens = Vec::new();
        wheel.expire(now_ms, |token| tokens.push(token));
        tokens.sort_unstable();
        tokens
    }

    /// Inserts the deadlines at time 0 and checks which have come at each of the times.
    #[track_caller]
    fn check(deadlines_ms: &[u64], looks: &[(u64, &[u64])]) {
        let mut wheel = TimerWheel::new(0);
        for (token, &deadline_ms) in deadlines_ms.iter().enumerate() {
            wheel.insert(deadline_ms, token as u32);
        }
        for &(now_ms, expected_ms) in looks {
            let mut due_ms: Vec<u64> = expired(&mut wheel, now_ms)
                .into_iter()
                .map(|token| deadlines_ms[token as usize])
                .collect();
            due_ms.sort_unstable();
            assert_eq!(due_ms, expected_ms, "at {now_ms} ms");
        }
    }

    #[test]
    fn a_deadline_is_due_at_its_millisecond() {
        check(
            &[5, 6, 21],
            &[(4, &[]), (5, &[5]), (20, &[6]), (20, &[]), (21, &[21])],
        );
        check(&[0], &[(0, &[0])]);
    }

    #[test]
    fn deadlines_beyond_one_turn_wait_for_theirs() {
        let turn_ms = SLOTS as u64 * TICK_MS;
        let (near, far, day) = (7, 7 + turn_ms, 7 + 86_400_000);
        check(
            &[near, far, day],
            &[
                (6, &[]),
                (far - 1, &[near]),
                (far, &[far]),
                (day - 1, &[]),
                (day, &[day]),
            ],
        );
    }

    #[test]
    fn any_jump_of_time_finds_everything_once() {
        let deadlines_ms = [1, 16, 40_000, 86_400_000, 1 << 60, u64::MAX - 1];
        check(
            &deadlines_ms,
            &[(u64::MAX - 1, &deadlines_ms), (u64::MAX, &[])],
        );
    }

    #[test]
    fn a_past_deadline_is_due_at_once() {
        let mut wheel = TimerWheel::new(1_000_000);
        wheel.insert(3, 1);
        assert!(wheel.next_deadline().is_some_and(|ms| ms < 1_000_000));
        assert_eq!(expired(&mut wheel, 1_000_000), [1]);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_clock_that_goes_back_loses_nothing() {
        let mut wheel = TimerWheel::new(0);
        assert!(expired(&mut wheel, 10_000).is_empty());
        wheel.insert(5_000, 1);
        wheel.insert(10_001, 2);
        assert!(expired(&mut wheel, 4_999).is_empty());
        assert_eq!(expired(&mut wheel, 5_000), [1]);
        assert_eq!(expired(&mut wheel, 10_001), [2]);
    }

    #[test]
    fn memory_goes_where_the_entries_go() {
        let mut wheel = TimerWheel::new(0);
        for token in 0..100_000_u32 {
            wheel.insert(30_000, token);
        }
        let mut tokens = Vec::new();
        // The crowd comes back a little later each time, in another slot.
        for round in 1..=50 {
            wheel.expire(round * 30_100, |token| tokens.push(token));
            assert_eq!(tokens.len(), 100_000);
            for token in tokens.drain(..) {
                wheel.insert((round + 1) * 30_100, token);
            }
            let room: usize = wheel.slots.iter().map(|slot| slot.entries.capacity()).sum();
            assert!(room < 300_000, "room for {room}");
        }
        assert_eq!(wheel.len(), 100_000);
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// This long after now, or before it.
        Insert(i64),
        Advance(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (-50_i64..400).prop_map(Step::Insert),
            3 => (0_i64..100_000).prop_map(Step::Insert),
            1 => (0_i64..1 << 40).prop_map(Step::Insert),
            3 => (0_u64..40).prop_map(Step::Advance),
            2 => (0_u64..60_000).prop_map(Step::Advance),
            1 => (0_u64..1 << 40).prop_map(Step::Advance),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_heap(start_ms in 0_u64..100_000, steps in steps()) {
            let mut wheel = TimerWheel::new(start_ms);
            let mut heap = BinaryHeap::new();
            let mut now_ms = start_ms;
            for (token, step) in steps.into_iter().enumerate() {
                let token = token as u32;
                match step {
                    Step::Insert(after_ms) => {
                        let deadline_ms = now_ms.saturating_add_signed(after_ms);
                        wheel.insert(deadline_ms, token);
                        heap.push(Reverse((deadline_ms, token)));
                    }
                    Step::Advance(by_ms) => {
                        now_ms += by_ms;
                        let mut due = Vec::new();
                        while heap.peek().is_some_and(|Reverse((ms, _))| *ms <= now_ms) {
                            due.extend(heap.pop().map(|Reverse((_, token))| token));
                        }
                        due.sort_unstable();
                        prop_assert_eq!(expired(&mut wheel, now_ms), due);
                    }
                }
                wheel.check();
                prop_assert_eq!(wheel.len(), heap.len());
                let earliest_ms = heap.peek().map(|Reverse((ms, _))| *ms);
                let late_ms = wheel.next_deadline().zip(earliest_ms).map(|(a, b)| a - b);
                prop_assert_eq!(wheel.next_deadline().is_some(), earliest_ms.is_some());
                prop_assert!(late_ms.is_none_or(|late_ms| late_ms < TICK_MS));
            }
        }
    }
}
