//! Reading of all rings: from where somebody has read, or from a time on, in one order.
//!
//! It copies a block at a time and shares nothing with the shards but their rings. Order over rings
//! is that of time, then of shard and number; each ring's own order always holds.

use super::kind::Keep;
use super::record::Read;
use super::recorder::Rings;
use super::ring::{Block, Ring};
use crate::ids::ShardId;

/// Where an event stands: it names the event while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Which shard recorded it; `None`: another thread of the process.
    pub shard: Option<ShardId>,
    /// Which of the two rings it is in.
    pub keep: Keep,
    /// Its number there, from 0.
    pub number: u64,
}

/// An event that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Where it stands.
    pub place: Place,
    /// What it says.
    pub read: Read,
}

impl Event {
    /// By what events are in order.
    #[must_use]
    pub(crate) fn key(&self) -> (u64, Place) {
        (self.read.time_ns, self.place)
    }
}

/// Up to where somebody has read: the number of the next event, for each ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor(pub Vec<u64>);

/// What a reading is to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Range {
    /// From where on; `None`: from the oldest that is there.
    pub after: Option<Cursor>,
    /// Nothing before that time, in nanoseconds on the monotonic clock.
    pub since_ns: u64,
}

/// What a reading has found, beside events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// From where the next reading goes on.
    pub cursor: Cursor,
    /// Events behind the cursor that it began at, and overwritten since.
    pub lost: u64,
    /// Whether it came to the end.
    pub is_complete: bool,
}

/// All rings of the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    rings: Vec<Rings>,
}

impl Reader {
    /// A reader of these rings.
    #[must_use]
    pub(crate) fn new(rings: Vec<Rings>) -> Self {
        Self { rings }
    }

    /// Bytes that a shard has filled of its rings; `None` means those of the process.
    #[must_use]
    pub(crate) fn filled_bytes(&self, shard: Option<ShardId>) -> u64 {
        let of = self.rings().filter(|(it, ..)| *it == shard);
        of.map(|(_, _, ring)| ring.filled_bytes()).sum()
    }

    /// Whether anything is recorded at all.
    #[must_use]
    pub(crate) fn is_on(&self) -> bool {
        !self.rings.is_empty()
    }

    fn rings(&self) -> impl Iterator<Item = (Option<ShardId>, Keep, &Ring)> {
        self.rings.iter().flat_map(|rings| {
            [
                (rings.shard, Keep::Ends, &*rings.ends),
                (rings.shard, Keep::Routine, &*rings.routine),
            ]
        })
    }

    /// The time from which on a kind of ring has everything, in nanoseconds on the monotonic
    /// clock: 0 while nothing was overwritten.
    #[must_use]
    pub(crate) fn oldest_ns(&self, keep: Keep) -> u64 {
        let rings = self.rings().filter(|(_, it, _)| *it == keep);
        let oldest = rings.map(|(_, _, ring)| {
            let readable = ring.readable();
            match readable.start {
                0 => 0,
                start => ring.first_of(start).map_or(0, |(_, time_ns)| time_ns),
            }
        });
        oldest.max().unwrap_or_default()
    }

    /// Whether there is a ring that a place can be in.
    #[must_use]
    pub(crate) fn has_ring(&self, place: Place) -> bool {
        let mut rings = self.rings();
        rings.any(|(shard, keep, _)| (shard, keep) == (place.shard, place.keep))
    }

    /// The record at a place, unless it is overwritten.
    #[must_use]
    pub(crate) fn find(&self, place: Place) -> Option<Read> {
        let mut rings = self.rings();
        let (.., ring) =
            rings.find(|(shard, keep, _)| (*shard, *keep) == (place.shard, place.keep))?;
        let mut block = Block::default();
        for number in blocks_from(ring, place.number, 0) {
            if ring.copy(number, &mut block) && block.first()? <= place.number {
                let mut records = block.records();
                if let Some((_, read)) = records.find(|(number, _)| *number == place.number) {
                    return Some(read);
                }
            }
        }
        None
    }

    /// Whether a cursor was behind that place.
    #[must_use]
    pub(crate) fn is_before(&self, place: Place, cursor: &Cursor) -> bool {
        let mut rings = self.rings();
        let at = rings.position(|(shard, keep, _)| (shard, keep) == (place.shard, place.keep));
        let next = at.and_then(|at| cursor.0.get(at).copied());
        next.is_some_and(|next| place.number < next)
    }

    /// Sets a cursor back to that place, if it is behind it.
    pub(crate) fn rewind(&self, cursor: &mut Cursor, place: Place) {
        let mut rings = self.rings();
        let at = rings.position(|(shard, keep, _)| (shard, keep) == (place.shard, place.keep));
        if let Some(next) = at.and_then(|at| cursor.0.get_mut(at)) {
            *next = place.number.min(*next);
        }
    }

    /// Where reading would go on if everything had been read now.
    #[must_use]
    pub(crate) fn end(&self) -> Cursor {
        let mut block = Block::default();
        let next = self.rings().map(|(_, _, ring)| {
            let last = ring.readable().next_back();
            let copied = last.is_some_and(|number| ring.copy(number, &mut block));
            match copied {
                true => block.first().unwrap_or_default() + block.records().count() as u64,
                false => 0,
            }
        });
        Cursor(next.collect())
    }

    /// Hands out the events of a range, ring after ring, until `goes_on` says no, which is asked
    /// before each block.
    pub(crate) fn scan(
        &self,
        range: &Range,
        mut goes_on: impl FnMut() -> bool,
        mut visit: impl FnMut(Event),
    ) -> Scanned {
        let mut scanned = Scanned {
            is_complete: true,
            ..Scanned::default()
        };
        let mut block = Block::default();
        for (at, (shard, keep, ring)) in self.rings().enumerate() {
            let known = range.after.as_ref().and_then(|it| it.0.get(at).copied());
            let mut next = known.unwrap_or_default();
            let mut is_first = known.is_none();
            for number in blocks_from(ring, next, range.since_ns) {
                if !goes_on() {
                    scanned.is_complete = false;
                    break;
                }
                if !ring.copy(number, &mut block) {
                    continue;
                }
                for (number, read) in block.records() {
                    if number < next {
                        continue;
                    }
                    if !std::mem::take(&mut is_first) {
                        scanned.lost += number - next;
                    }
                    next = number + 1;
                    if read.time_ns >= range.since_ns {
                        let place = Place {
                            shard,
                            keep,
                            number,
                        };
                        visit(Event { place, read });
                    }
                }
            }
            scanned.cursor.0.push(next);
        }
        scanned
    }
}

/// The blocks that may have a record of that number or a later one, and of that time or later.
pub(super) fn blocks_from(ring: &Ring, number: u64, since_ns: u64) -> std::ops::Range<u64> {
    let mut readable = ring.readable();
    // Both grow from block to block. The block before the first that is wholly wanted may have
    // some, too.
    let (mut low, mut high) = (readable.start, readable.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let is_wanted = match ring.first_of(middle) {
            Some((first, time_ns)) => first > number && time_ns > since_ns,
            // Overwritten meanwhile, or begun and empty.
            None => middle > readable.start && middle + 1 == readable.end,
        };
        match is_wanted {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    readable.start = readable.start.max(low.saturating_sub(1));
    readable
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::events::kind::{Cause, Kind};
    use crate::events::record::Record;
    use crate::events::recorder::{Privacy, Recorder};

    fn write(recorder: &mut Recorder, kind: Kind, number: u64) {
        let text = number.to_string();
        let record = Record {
            first: &text,
            ..Record::new(kind, Cause::None)
        };
        recorder.record(&record, number * 10);
    }

    fn read(reader: &Reader, range: &Range) -> (Vec<Event>, Scanned) {
        let mut events = Vec::new();
        let scanned = reader.scan(range, || true, |event| events.push(event));
        events.sort_by_key(Event::key);
        (events, scanned)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// In whatever portions it is read: everything once, in order, or counted as lost.
        #[test]
        fn readings_follow_each_other_without_a_hole(
            portions in proptest::collection::vec(0..1_200_u64, 1..8), shards in 1..4_u16,
        ) {
            let made = (0..shards)
                .map(|shard| Recorder::new(Some(ShardId(shard)), 64 << 10, Privacy::default()));
            let (mut recorders, rings): (Vec<_>, Vec<_>) = made.unzip();
            let reader = Reader::new(rings.into_iter().flatten().collect());
            let mut range = Range { after: Some(reader.end()), since_ns: 0 };
            let (mut written, mut seen, mut lost) = (0, 0, 0);
            for portion in portions {
                for _ in 0..portion {
                    let recorder = &mut recorders[(written % u64::from(shards)) as usize];
                    let kind = [Kind::Slow, Kind::Opened][(written / 7 % 2) as usize];
                    write(recorder, kind, written);
                    written += 1;
                }
                let (events, scanned) = read(&reader, &range);
                prop_assert!(events.is_sorted_by_key(|it| it.read.time_ns));
                let is_itself = |it: &Event| it.read.first.parse() == Ok(it.read.time_ns / 10);
                prop_assert!(events.iter().all(is_itself));
                prop_assert_eq!(&scanned.cursor, &reader.end());
                seen += events.len() as u64;
                lost += scanned.lost;
                prop_assert_eq!(seen + lost, written);
                range.after = Some(scanned.cursor);
            }
        }

        #[test]
        fn a_time_is_found_without_reading_what_lies_before(
            count in 0..3_000_u64, since in 0..3_500_u64,
        ) {
            let (mut recorder, rings) = Recorder::new(None, 256 << 10, Privacy::default());
            let reader = Reader::new(rings.into_iter().collect());
            (0..count).for_each(|number| write(&mut recorder, Kind::Slow, number));
            let (everything, _) = read(&reader, &Range::default());
            let range = Range { after: None, since_ns: since * 10 };
            let (events, scanned) = read(&reader, &range);
            let expected = everything.iter().filter(|it| it.read.time_ns >= since * 10);
            prop_assert!(events.iter().eq(expected));
            prop_assert_eq!((scanned.lost, scanned.cursor), (0, reader.end()));
            let mut blocks = 0;
            reader.scan(&range, || { blocks += 1; true }, |_| {});
            prop_assert!(blocks <= events.len() / 63 + 3, "{} for {}", blocks, events.len());
        }
    }

    #[test]
    fn a_reading_ends_when_it_is_told_to_and_goes_on_from_there() {
        let (mut recorder, rings) = Recorder::new(None, 1 << 20, Privacy::default());
        let reader = Reader::new(rings.into_iter().collect());
        assert!(reader.is_on() && !Reader::default().is_on());
        assert_eq!(reader.oldest_ns(Keep::Ends), 0);
        (0..5_000).for_each(|number| write(&mut recorder, Kind::Slow, number));
        let mut blocks = 0;
        let mut seen = Vec::new();
        let scanned = reader.scan(
            &Range::default(),
            || {
                blocks += 1;
                blocks <= 2
            },
            |event| seen.push(event),
        );
        assert!(!scanned.is_complete && !seen.is_empty());
        let after = Some(scanned.cursor);
        let (rest, scanned) = read(&reader, &Range { after, since_ns: 0 });
        assert_eq!((seen.len() + rest.len(), scanned.lost), (5_000, 0));
        (0..200_000).for_each(|number| write(&mut recorder, Kind::Slow, number));
        let oldest_ns = reader.oldest_ns(Keep::Ends);
        assert!(oldest_ns > 0);
        let (events, _) = read(&reader, &Range::default());
        assert_eq!(events[0].read.time_ns, oldest_ns);
        assert_eq!(reader.oldest_ns(Keep::Routine), 0);
    }
}
