//! What a shard records with: two rings, counters for floods, and what may be known of whom.
//!
//! It has no clock: the time comes with each record. Without memory it records nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ahash::RandomState;

use super::coalesce::{Coalescer, Key, Taken};
use super::kind::{By, Cause, Keep, Kind};
use super::record::{Detail, Record, SocketEnd};
use super::ring::{Ring, RingWriter};
use super::text::said;
use crate::ids::ShardId;

/// Closes that are kept long, each by itself, in a second: beyond them they are clients' in bulk.
const CLOSES_PER_SECOND_MAX: u32 = 500;
/// The same of those that one decision of an operator causes.
const DECIDED_CLOSES_PER_SECOND_MAX: u32 = 16;
const SECOND_NS: u64 = 1_000_000_000;
/// Of the memory, the part that keeps ends: five of eight.
const ENDS_EIGHTHS: usize = 5;

/// How much of an address is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// All of it.
    #[default]
    Full,
    /// The first 24 bits, of IPv6 48.
    Masked,
    /// Nothing.
    Off,
}

/// What may be known of whom. What is off is not in memory.
#[derive(Clone, Debug, Default)]
pub struct Privacy {
    /// Of addresses.
    pub addresses: Addresses,
    /// Hashes peer ids, with keys of this process; `None`: they are kept as they are.
    pub peers: Option<RandomState>,
}

impl Privacy {
    fn keeps_all(&self) -> bool {
        self.addresses == Addresses::Full && self.peers.is_none()
    }

    /// Returns what is kept of a peer id, to be compared with what was recorded.
    #[must_use]
    pub fn peer(&self, id: &str) -> String {
        match &self.peers {
            Some(keys) if !id.is_empty() => str::from_utf8(&hashed(keys, id))
                .unwrap_or_default()
                .to_owned(),
            _ => id.to_owned(),
        }
    }

    /// Returns what is kept of an address.
    #[must_use]
    pub fn address(&self, address: IpAddr) -> Option<IpAddr> {
        match (self.addresses, address) {
            (Addresses::Full, address) => Some(address),
            (Addresses::Masked, IpAddr::V4(address)) => {
                Some(Ipv4Addr::from_bits(address.to_bits() & 0xffff_ff00).into())
            }
            (Addresses::Masked, IpAddr::V6(address)) => {
                Some(Ipv6Addr::from_bits(address.to_bits() >> 80 << 80).into())
            }
            (Addresses::Off, _) => None,
        }
    }
}

/// The hash of an id, in hexadecimal digits.
fn hashed(keys: &RandomState, id: &str) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let hash = keys.hash_one(id);
    std::array::from_fn(|at| DIGITS[(hash >> (60 - 4 * at)) as usize & 15])
}

/// The rings of one shard, or of what is no shard, for whoever reads them.
#[derive(Clone, Debug)]
pub struct Rings {
    /// Which shard writes them; `None`: the other threads of the process do.
    pub shard: Option<ShardId>,
    /// What is kept long.
    pub ends: Arc<Ring>,
    /// What is kept short.
    pub routine: Arc<Ring>,
}

/// See the top of this file.
#[derive(Debug, Default)]
pub struct Recorder {
    inner: Option<Box<Inner>>,
}

#[derive(Debug)]
struct Inner {
    ends: RingWriter,
    routine: RingWriter,
    floods: Coalescer,
    /// What is told seldom: it would take the counters of others for long.
    seldom: Coalescer,
    closes: Closes,
    privacy: Privacy,
    /// Whether everything may be known.
    keeps_all: bool,
}

/// Closes of the present second.
#[derive(Debug, Default)]
struct Closes {
    /// When the second ends; 0: it has not begun.
    until_ns: u64,
    of_clients: u32,
    decided: u32,
    /// Those that went to the ring of routine.
    bulk: Vec<(Cause, By, u16, u32)>,
}

impl Recorder {
    /// A recorder with about that many bytes, and its rings; 0 bytes: it records nothing.
    #[must_use]
    pub fn new(shard: Option<ShardId>, bytes: usize, privacy: Privacy) -> (Self, Option<Rings>) {
        if bytes == 0 {
            return (Self::default(), None);
        }
        let (ends, ends_writer) = Ring::new(bytes / 8 * ENDS_EIGHTHS);
        let (routine, routine_writer) = Ring::new(bytes / 8 * (8 - ENDS_EIGHTHS));
        let inner = Box::new(Inner {
            ends: ends_writer,
            routine: routine_writer,
            floods: Coalescer::default(),
            seldom: Coalescer::default(),
            closes: Closes::default(),
            keeps_all: privacy.keeps_all(),
            privacy,
        });
        let rings = Rings {
            shard,
            ends,
            routine,
        };
        (Self { inner: Some(inner) }, Some(rings))
    }

    /// Whether anything is recorded.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Records an event by itself, as `Record::write` does.
    #[inline(always)]
    pub fn record(&mut self, record: &Record<'_>, now_ns: u64) {
        if let Some(inner) = &mut self.inner {
            inner.write(record.kind.keep(), record, now_ns);
        }
    }

    /// Records what can come in floods from one address: the first in a second by itself, the
    /// others as a sum. An address of IPv6 counts with its /64.
    pub fn record_of_address(&mut self, record: &Record<'_>, now_ns: u64) {
        let prefix = match record.address {
            Some(IpAddr::V4(address)) => u64::from(address.to_bits()),
            Some(IpAddr::V6(address)) => (address.to_bits() >> 64) as u64 | 1 << 63,
            None => u64::MAX,
        };
        self.record_equal(prefix, record, now_ns);
    }

    /// The same for what can come in floods from one connection.
    pub fn record_of_connection(&mut self, record: &Record<'_>, now_ns: u64) {
        let connection = record.connection.map_or(u64::MAX, |it| {
            u64::from(it.slot) | u64::from(it.generation) << 32
        });
        self.record_equal(connection, record, now_ns);
    }

    /// The same for what can come in floods from the clients of one app.
    pub fn record_of_app(&mut self, record: &Record<'_>, now_ns: u64) {
        let app = record.app.map_or(u64::MAX, |it| u64::from(it.0));
        self.record_equal(app, record, now_ns);
    }

    fn record_equal(&mut self, whose: u64, record: &Record<'_>, now_ns: u64) {
        let Some(inner) = &mut self.inner else {
            return;
        };
        inner.end_floods(now_ns, false);
        let key = key(record, whose);
        let private = Private::of(record, &inner.privacy);
        let record = private.record(record);
        if inner.floods.take(key, &record, now_ns) == Taken::First {
            inner.write_private(record.kind.keep(), &record, now_ns);
        }
    }

    /// Records an event of a connection at most once in that time.
    pub fn record_seldom(&mut self, record: &Record<'_>, now_ns: u64, window_ns: u64) {
        let Some(inner) = &mut self.inner else {
            return;
        };
        // There are no sums of these.
        inner.seldom.end(now_ns, false, |_, _| ());
        let whose = record.connection.map_or(u64::MAX, |it| {
            u64::from(it.slot) | u64::from(it.generation) << 32
        });
        let key = key(record, whose);
        if inner.seldom.take_seldom(key, record, now_ns, window_ns) == Taken::First {
            inner.write(record.kind.keep(), record, now_ns);
        }
    }

    /// Records the end of a connection. What ends in bulk goes to the ring of routine, with one
    /// summary a second in that of ends.
    #[inline(always)]
    pub fn record_closed(&mut self, record: &Record<'_>, now_ns: u64) {
        let Some(inner) = &mut self.inner else {
            return;
        };
        if inner.closes.until_ns > 0 && inner.closes.until_ns <= now_ns {
            inner.end_closes(now_ns);
        }
        let keep = inner.closes.keep(record, now_ns);
        inner.write(keep, record, now_ns);
    }

    /// When sums are due to be written down, in nanoseconds on the monotonic clock.
    #[inline]
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        let inner = self.inner.as_deref()?;
        let closes = Some(inner.closes.until_ns).filter(|_| !inner.closes.bulk.is_empty());
        [inner.floods.due_ns(), closes].into_iter().flatten().min()
    }

    /// Writes the sums down that are due; with `all`, every one that was begun.
    pub fn end_sums(&mut self, now_ns: u64, all: bool) {
        if let Some(inner) = &mut self.inner {
            inner.end_floods(now_ns, all);
            if all || inner.closes.until_ns <= now_ns {
                inner.end_closes(now_ns);
            }
        }
    }
}

fn key(record: &Record<'_>, whose: u64) -> Key {
    let what = record.kind as u64 | (record.cause as u64) << 8;
    let detail = match record.detail {
        Detail::Shown(door, _, claim) => door as u64 | u64::from(claim) << 1,
        _ => 0,
    };
    Key(what | detail << 16, whose)
}

impl Inner {
    #[inline(always)]
    fn write(&mut self, keep: Keep, record: &Record<'_>, now_ns: u64) {
        match self.keeps_all {
            true => self.write_private(keep, record, now_ns),
            // By value: what is behind a reference is put together in memory first, which takes
            // as long as to write it down.
            false => self.write_reduced(keep, *record, now_ns),
        }
    }

    /// Leaves out what may not be known.
    #[cold]
    fn write_reduced(&mut self, keep: Keep, record: Record<'_>, now_ns: u64) {
        let private = Private::of(&record, &self.privacy);
        let record = private.record(&record);
        self.write_private(keep, &record, now_ns);
    }

    #[inline(always)]
    fn write_private(&mut self, keep: Keep, record: &Record<'_>, now_ns: u64) {
        debug_assert!(said(record.kind, record.cause).is_some(), "{record:?}");
        let ring = match keep {
            Keep::Ends => &mut self.ends,
            Keep::Routine => &mut self.routine,
        };
        ring.write(record, now_ns);
    }

    fn end_floods(&mut self, now_ns: u64, all: bool) {
        let Self {
            ends,
            routine,
            floods,
            ..
        } = self;
        if !all && floods.due_ns().is_none_or(|due| due > now_ns) {
            return;
        }
        floods.end(now_ns, all, |kind, words| match kind.keep() {
            Keep::Ends => ends.write_words(words),
            Keep::Routine => routine.write_words(words),
        });
    }

    fn end_closes(&mut self, now_ns: u64) {
        self.closes.until_ns = 0;
        for (cause, by, code, count) in std::mem::take(&mut self.closes.bulk) {
            let summary = Record {
                detail: Detail::Closed(by, SocketEnd::Orderly),
                code,
                count,
                is_summary: true,
                ..Record::new(Kind::Closed, cause)
            };
            self.ends.write(&summary, now_ns);
        }
    }
}

impl Closes {
    /// Where a close goes.
    fn keep(&mut self, record: &Record<'_>, now_ns: u64) -> Keep {
        if self.until_ns == 0 {
            *self = Self {
                until_ns: now_ns + SECOND_NS,
                ..Self::default()
            };
        }
        let (count, max) = match record.cause {
            Cause::Drain
            | Cause::Shutdown
            | Cause::AppSuspended
            | Cause::AppDeleted
            | Cause::KeyRevoked => (&mut self.decided, DECIDED_CLOSES_PER_SECOND_MAX),
            _ => (&mut self.of_clients, CLOSES_PER_SECOND_MAX),
        };
        *count += 1;
        if *count <= max {
            return Keep::Ends;
        }
        let by = match record.detail {
            Detail::Closed(by, _) => by,
            _ => By::Server,
        };
        // Codes that clients make up are summed as none, or there could be many.
        let code = if by == By::Client { 0 } else { record.code };
        let known =
            |it: &&mut (Cause, By, u16, u32)| (it.0, it.1, it.2) == (record.cause, by, code);
        match self.bulk.iter_mut().find(|it| known(it)) {
            Some(summed) => summed.3 += 1,
            None => self.bulk.push((record.cause, by, code, 1)),
        }
        Keep::Routine
    }
}

/// What is kept of who is in a record.
struct Private {
    address: Option<IpAddr>,
    peer: Option<[u8; 16]>,
    to: Option<[u8; 16]>,
}

impl Private {
    #[inline]
    fn of(record: &Record<'_>, privacy: &Privacy) -> Self {
        let keys = privacy.peers.as_ref();
        let hash = |has_peer: bool, id: &str| {
            let keys = keys.filter(|_| has_peer && !id.is_empty());
            keys.map(|keys| hashed(keys, id))
        };
        Self {
            address: record.address.and_then(|it| privacy.address(it)),
            peer: hash(record.kind.has_peer(), record.first),
            to: hash(record.is_to, record.second),
        }
    }

    #[inline]
    fn record<'a>(&'a self, record: &Record<'a>) -> Record<'a> {
        let digits = |hash: &'a Option<[u8; 16]>| {
            let digits = hash.as_ref();
            digits.and_then(|digits| str::from_utf8(digits).ok())
        };
        Record {
            address: self.address,
            first: digits(&self.peer).unwrap_or(record.first),
            second: digits(&self.to).unwrap_or(record.second),
            ..*record
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::record::Read;
    use crate::events::ring::Block;
    use crate::ids::ConnectionId;

    fn all(ring: &Ring) -> Vec<Read> {
        let mut block = Block::default();
        let mut read = Vec::new();
        for number in ring.readable() {
            assert!(ring.copy(number, &mut block));
            read.extend(block.records().map(|(_, it)| it));
        }
        read
    }

    fn recorder(privacy: Privacy) -> (Recorder, Rings) {
        let (recorder, rings) = Recorder::new(None, 1 << 20, privacy);
        (recorder, rings.unwrap())
    }

    fn closed(cause: Cause, by: By) -> Record<'static> {
        Record {
            detail: Detail::Closed(by, SocketEnd::Orderly),
            ..Record::new(Kind::Closed, cause)
        }
    }

    #[test]
    fn without_memory_nothing_is_recorded() {
        let (mut recorder, rings) = Recorder::new(None, 0, Privacy::default());
        recorder.record(&Record::new(Kind::Slow, Cause::None), 1);
        recorder.record_closed(&closed(Cause::Drain, By::Server), 1);
        recorder.end_sums(5, true);
        assert!(rings.is_none() && !recorder.is_on());
        assert_eq!(recorder.due_ns(), None);
    }

    #[test]
    fn a_flood_from_one_address_is_two_records_a_second() {
        let (mut recorder, rings) = recorder(Privacy::default());
        for at in 0..10_000_u64 {
            let address = format!("2001:db8:0:1::{:x}", at % 60_000);
            let refused = Record {
                address: Some(address.parse().unwrap()),
                ..Record::new(Kind::Refused, Cause::ConnectRate)
            };
            recorder.record_of_address(&refused, 1 + at * 100_000);
        }
        recorder.end_sums(SECOND_NS + 1, false);
        let read = all(&rings.ends);
        assert_eq!(
            read.iter().map(|it| it.count).collect::<Vec<_>>(),
            [1, 9_999]
        );
        assert_eq!(read[1].time_ns, SECOND_NS + 1);
        assert_eq!(recorder.due_ns(), None);
    }

    #[test]
    fn closes_in_bulk_are_routine_and_their_sum_is_kept() {
        let (mut recorder, rings) = recorder(Privacy::default());
        for _ in 0..1_000 {
            recorder.record_closed(&closed(Cause::Drain, By::Server), 5);
            recorder.record_closed(&closed(Cause::ClientClose, By::Client), 5);
        }
        assert_eq!(recorder.due_ns(), Some(5 + SECOND_NS));
        recorder.end_sums(5 + SECOND_NS, false);
        let (ends, routine) = (all(&rings.ends), all(&rings.routine));
        let count = |read: &[Read], cause, is_summary| -> u32 {
            let these = read
                .iter()
                .filter(|it| it.cause == cause && it.is_summary == is_summary);
            these.map(|it| it.count).sum()
        };
        for (cause, kept) in [(Cause::Drain, 16), (Cause::ClientClose, 500)] {
            assert_eq!(count(&ends, cause, false), kept);
            assert_eq!(count(&ends, cause, true), 1_000 - kept);
            assert_eq!(count(&routine, cause, false), 1_000 - kept);
        }
        assert_eq!(ends.len(), 518);
        assert_eq!(recorder.due_ns(), None);
        // The next second begins with its own closes.
        recorder.record_closed(&closed(Cause::Drain, By::Server), 9 * SECOND_NS);
        assert_eq!(all(&rings.ends).len(), 519);
    }

    #[test]
    fn what_is_off_is_not_in_memory() {
        let privacy = Privacy {
            addresses: Addresses::Masked,
            peers: Some(RandomState::with_seeds(1, 2, 3, 4)),
        };
        let (mut recorder, rings) = recorder(privacy.clone());
        let connection = Some(ConnectionId {
            slot: 1,
            generation: 2,
        });
        for address in ["203.0.113.9", "2001:db8:1:2::3"] {
            let record = Record {
                address: Some(address.parse().unwrap()),
                first: "alice",
                connection,
                ..Record::new(Kind::Opened, Cause::None)
            };
            recorder.record(&record, 1);
            recorder.record_of_connection(
                &Record {
                    kind: Kind::Error,
                    cause: Cause::PeerNotFound,
                    ..record
                },
                1,
            );
        }
        let read = all(&rings.routine);
        assert_eq!(read.len(), 3);
        let addresses: Vec<_> = read.iter().filter_map(|it| it.address).collect();
        assert_eq!(addresses[0].to_string(), "203.0.113.0");
        assert_eq!(addresses[2].to_string(), "2001:db8:1::");
        assert!(read.iter().all(|it| it.first == privacy.peer("alice")));
        assert!(!read[0].first.contains("alice"));
        let off = Privacy {
            addresses: Addresses::Off,
            peers: None,
        };
        assert_eq!(off.address("203.0.113.9".parse().unwrap()), None);
        assert_eq!(off.peer("alice"), "alice");
    }
}
