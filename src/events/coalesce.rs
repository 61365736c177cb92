//! Floods: equal events within a second are one record at once, and one sum at the second's end.
//!
//! There is a fixed number of counters. What does not fit is summed by kind and cause, without
//! saying who: so no flood can wash the truth away, and none is lost from the sums.

use std::cell::Cell;

use super::kind::{CredentialKind, Kind};
use super::record::{Detail, RECORD_WORDS_MAX, Read, Record};

/// Counters of one shard.
pub(super) const COUNTERS: usize = 64;
/// How long equal events are summed, in nanoseconds.
const WINDOW_NS: u64 = 1_000_000_000;

/// By what events are equal: what they are, and of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub u64, pub u64);

impl Key {
    /// Where its counter is looked for first.
    fn place(self) -> usize {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (self.0.wrapping_mul(ODD) ^ self.1).wrapping_mul(ODD);
        (mixed >> (u64::BITS - COUNTERS.ilog2())) as usize
    }
}

/// Somebody's events of one kind and cause.
#[derive(Clone, Debug)]
struct Counter {
    key: Key,
    /// When the sum is due, in nanoseconds on the monotonic clock; 0: the counter is free.
    until_ns: u64,
    /// Events since the first.
    count: u32,
    /// Whether events beyond the first are dropped, and not summed.
    is_dropping: bool,
    words: u8,
    /// The first one.
    record: [u64; RECORD_WORDS_MAX],
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is the first: it is to be written down.
    First,
    /// It has been counted.
    Counted,
}

/// The counters of one shard, and the sums of what did not fit.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    /// Made with the first event.
    counters: Vec<Counter>,
    /// Events that found no counter, by what they are.
    others: Vec<Record<'static>>,
    others_due_ns: u64,
    /// When the next sum is due; 0: there is none.
    due_ns: u64,
}

impl Coalescer {
    /// Takes an event in, of which those with the same key are equal. The sums that are due must
    /// have been taken out before.
    pub(super) fn take(&mut self, key: Key, record: &Record<'_>, now_ns: u64) -> Taken {
        self.take_for(key, record, now_ns, WINDOW_NS, false)
    }

    /// As [`take`](Self::take), but those that come within the time are dropped.
    pub(super) fn take_seldom(
        &mut self,
        key: Key,
        record: &Record<'_>,
        now_ns: u64,
        window_ns: u64,
    ) -> Taken {
        self.take_for(key, record, now_ns, window_ns, true)
    }

    fn take_for(
        &mut self,
        key: Key,
        record: &Record<'_>,
        now_ns: u64,
        window_ns: u64,
        is_dropping: bool,
    ) -> Taken {
        if self.counters.is_empty() {
            let free = Counter {
                key: Key(0, 0),
                until_ns: 0,
                count: 0,
                is_dropping: false,
                words: 0,
                record: [0; RECORD_WORDS_MAX],
            };
            self.counters = vec![free; COUNTERS];
        }
        let home = key.place();
        let mut places = (home..home + COUNTERS).map(|at| at % COUNTERS);
        let known = |at: &usize| self.counters[*at].until_ns > 0 && self.counters[*at].key == key;
        if let Some(at) = places.clone().find(known) {
            let counter = &mut self.counters[at];
            counter.count = counter.count.saturating_add(record.count);
            return Taken::Counted;
        }
        let is_free = |at: &usize| self.counters[*at].until_ns == 0;
        let Some(at) = places.find(is_free) else {
            if !is_dropping {
                self.count_other(record, now_ns);
            }
            return Taken::Counted;
        };
        let counter = &mut self.counters[at];
        counter.key = key;
        counter.until_ns = now_ns + window_ns;
        counter.count = 0;
        counter.is_dropping = is_dropping;
        let measured = record.measured();
        let places = &mut counter.record[..measured.words];
        let places = Cell::from_mut(places).as_slice_of_cells();
        record.write(&measured, now_ns, places, Cell::set);
        counter.words = measured.words as u8;
        self.due_by(now_ns + window_ns);
        Taken::First
    }

    fn count_other(&mut self, record: &Record<'_>, now_ns: u64) {
        let detail = match record.detail {
            Detail::Shown(door, ..) => Detail::Shown(door, CredentialKind::None, 0),
            _ => Detail::None,
        };
        let mut known = self.others.iter_mut();
        let equal = |it: &&mut Record<'_>| {
            (it.kind, it.cause, it.detail) == (record.kind, record.cause, detail)
        };
        match known.find(equal) {
            Some(other) => other.count = other.count.saturating_add(record.count),
            None => self.others.push(Record {
                detail,
                count: record.count,
                ..Record::new(record.kind, record.cause)
            }),
        }
        if self.others_due_ns == 0 {
            self.others_due_ns = now_ns + WINDOW_NS;
            self.due_by(self.others_due_ns);
        }
    }

    fn due_by(&mut self, at_ns: u64) {
        self.due_ns = match self.due_ns {
            0 => at_ns,
            due_ns => due_ns.min(at_ns),
        };
    }

    /// When the next sum is due, in nanoseconds on the monotonic clock.
    #[inline]
    pub(super) fn due_ns(&self) -> Option<u64> {
        (self.due_ns > 0).then_some(self.due_ns)
    }

    /// Gives out the sums that are due, as words of records; with `all` every one that is begun.
    pub(super) fn end(&mut self, now_ns: u64, all: bool, mut put: impl FnMut(Kind, &[u64])) {
        let is_due = |until_ns: u64| until_ns > 0 && (all || until_ns <= now_ns);
        for counter in &mut self.counters {
            if !is_due(counter.until_ns) {
                continue;
            }
            counter.until_ns = 0;
            // It may have an address in it of which nothing is to be kept.
            counter.key = Key(0, 0);
            let words = &mut counter.record[..usize::from(counter.words)];
            if counter.count > 0
                && !counter.is_dropping
                && let Some(kind) = Kind::of_number((words[0] >> 8) as u8)
            {
                Read::renew(words, counter.count, now_ns);
                put(kind, words);
            }
        }
        if is_due(self.others_due_ns) {
            self.others_due_ns = 0;
            for record in self.others.drain(..) {
                put(record.kind, &record.to_words(now_ns));
            }
        }
        let due = self.counters.iter().map(|it| it.until_ns);
        let due = due.chain([self.others_due_ns]).filter(|at| *at > 0);
        self.due_ns = due.min().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::events::kind::Cause;

    const CAUSES: [Cause; 3] = [Cause::ConnectRate, Cause::TokenExpired, Cause::UnknownKey];

    fn record(cause: Cause, who: &str) -> Record<'_> {
        Record {
            first: who,
            ..Record::new(Kind::Refused, cause)
        }
    }

    proptest! {
        /// Whatever comes, the sums are exact by cause, and nobody is blamed for another's.
        #[test]
        fn nothing_is_lost_and_nobody_has_more_than_they_did(
            events in proptest::collection::vec((0..3_usize, 0..200_u64, 0..400_u64), 0..600),
        ) {
            let mut coalescer = Coalescer::default();
            let mut did = BTreeMap::<(Cause, String), u64>::new();
            let mut told = BTreeMap::<(Cause, String), u64>::new();
            let mut records = 0;
            let mut now_ns = 1;
            let mut told_of = |read: &Read| {
                *told.entry((read.cause, read.first.clone())).or_default() += u64::from(read.count);
            };
            for (cause, who, pause_ms) in &events {
                now_ns += pause_ms * 100_000;
                coalescer.end(now_ns, false, |_, words| {
                    records += 1;
                    told_of(&Read::parse(words).unwrap());
                });
                let (cause, name) = (CAUSES[*cause], who.to_string());
                *did.entry((cause, name.clone())).or_default() += 1;
                let key = Key(cause as u64, *who);
                if coalescer.take(key, &record(cause, &name), now_ns) == Taken::First {
                    records += 1;
                    let words = record(cause, &name).to_words(now_ns);
                    told_of(&Read::parse(&words).unwrap());
                }
            }
            let due = coalescer.due_ns();
            coalescer.end(now_ns, true, |_, words| {
                records += 1;
                told_of(&Read::parse(words).unwrap());
            });
            prop_assert_eq!(coalescer.due_ns(), None);
            prop_assert!(due.is_none_or(|due| due > now_ns));
            for cause in CAUSES {
                let sum = |of: &BTreeMap<(Cause, String), u64>| -> u64 {
                    of.iter().filter(|((it, _), _)| *it == cause).map(|(_, count)| count).sum()
                };
                prop_assert_eq!(sum(&did), sum(&told));
            }
            for ((cause, who), count) in told.iter().filter(|((_, who), _)| !who.is_empty()) {
                prop_assert!(*count <= did[&(*cause, who.clone())]);
            }
            let seconds = now_ns / WINDOW_NS + 2;
            prop_assert!(records <= seconds * (2 * COUNTERS as u64 + 3));
        }
    }

    #[test]
    fn whose_events_they_were_is_forgotten_with_the_sum() {
        let mut coalescer = Coalescer::default();
        let of_address = Key(5, u64::from(u32::from_be_bytes([203, 0, 113, 9])));
        let refused = record(Cause::ConnectRate, "");
        assert_eq!(coalescer.take(of_address, &refused, 1), Taken::First);
        coalescer.end(1 + WINDOW_NS, false, |_, _| {});
        let mut counters = coalescer.counters.iter();
        assert!(counters.all(|counter| counter.key == Key(0, 0)));
    }

    #[test]
    fn what_is_to_be_told_seldom_is_told_once_in_its_time() {
        let mut coalescer = Coalescer::default();
        let slow = Record::new(Kind::Slow, Cause::None);
        assert_eq!(
            coalescer.take_seldom(Key(5, 5), &slow, 1, 100),
            Taken::First
        );
        assert_eq!(
            coalescer.take_seldom(Key(5, 5), &slow, 50, 100),
            Taken::Counted
        );
        coalescer.end(101, false, |_, _| panic!("no sum of these"));
        assert_eq!(
            coalescer.take_seldom(Key(5, 5), &slow, 101, 100),
            Taken::First
        );
    }
}
