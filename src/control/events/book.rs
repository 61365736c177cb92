//! The events of the process: the rings of all shards and one of its own, its clock, its names.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::domain::rights::Rights;
use crate::events::kind::Keep;
use crate::events::reader::{Event, Reader};
use crate::events::record::Record;
use crate::events::recorder::{Privacy, Recorder, Rings};
use crate::ids::ShardId;

use super::cursor::{self, Position};
use super::feed::Feed;
use super::json::EventJson;
use super::names;
use super::states::Warnings;

/// Readings of all that is kept that are under way at the same time.
const SCANS_MAX: usize = 2;
/// Live streams at the same time.
const STREAMS_MAX: usize = 8;
pub(super) const NS_PER_MS: u64 = 1_000_000;

/// Memory of the events that no shard records, in bytes.
const PROCESS_BYTES: usize = 1 << 20;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Nanoseconds on the monotonic clock of the shards.
    pub mono_ns: u64,
    /// Unix time in milliseconds.
    pub unix_ms: u64,
}

/// How the clocks of the shards are read.
pub(crate) type Clock = Box<dyn Fn() -> Moment + Send + Sync>;

/// See the top of this file.
pub(crate) struct Events {
    pub(super) reader: Reader,
    process: Mutex<Recorder>,
    pub(super) clock: Clock,
    pub(super) privacy: Privacy,
    names: Mutex<names::Names>,
    pub(super) warnings: Warnings,
    /// Tells the events of this process from those of another.
    pub(super) epoch: String,
    /// Who may read all that is kept.
    pub(crate) scans: Arc<Semaphore>,
    /// Who may follow.
    pub(crate) streams: Arc<Semaphore>,
    /// Events that did not reach who followed.
    lost: AtomicU64,
    pub(super) feed: Feed,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Counts events that a reader of a live stream was too slow for.
    pub(crate) fn lose(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// How many of them there were.
    #[must_use]
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The events of shards with these rings. Without any nothing is recorded.
    #[must_use]
    pub(crate) fn new(mut rings: Vec<Rings>, privacy: Privacy, clock: Clock) -> Self {
        let bytes = if rings.is_empty() { 0 } else { PROCESS_BYTES };
        let (process, own) = Recorder::new(None, bytes, privacy.clone());
        rings.extend(own);
        // Not seconds: another process of the same second has another epoch.
        let started_ms = clock().unix_ms;
        Self {
            reader: Reader::new(rings),
            process: Mutex::new(process),
            clock,
            privacy,
            names: Mutex::default(),
            warnings: Warnings::default(),
            epoch: cursor::base36(started_ms),
            scans: Arc::new(Semaphore::new(SCANS_MAX)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            lost: AtomicU64::new(0),
            feed: Feed::default(),
        }
    }

    /// A peer as events name it.
    #[must_use]
    pub(crate) fn peer(&self, id: &str) -> String {
        self.privacy.peer(id)
    }

    /// What is told to backends.
    #[must_use]
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// With what is told to backends.
    #[must_use]
    pub(crate) fn with_feed(mut self, feed: Feed) -> Self {
        self.feed = feed;
        self
    }

    /// Learns the names of apps and keys, which are kept when these are deleted.
    pub(crate) fn learn(&self, rights: &Rights) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.learn(rights);
    }

    /// Records what happened outside of the shards.
    pub(crate) fn record(&self, record: &Record<'_>) {
        let (mut process, now_ns) = self.recorder();
        process.record(record, now_ns);
    }

    /// Records what can come in floods from one address.
    pub(crate) fn record_of_address(&self, record: &Record<'_>) {
        let (mut process, now_ns) = self.recorder();
        process.record_of_address(record, now_ns);
    }

    /// Writes down the sums that are due: about once a second.
    pub(crate) fn tick(&self) {
        let (mut process, now_ns) = self.recorder();
        process.end_sums(now_ns, false);
    }

    /// The recorder of the process, and the time in nanoseconds on the monotonic clock. That is
    /// read under the lock: the times of a ring never go back.
    fn recorder(&self) -> (MutexGuard<'_, Recorder>, u64) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        (process, (self.clock)().mono_ns)
    }

    /// Whether anything is recorded.
    #[must_use]
    pub(crate) fn is_on(&self) -> bool {
        self.reader.is_on()
    }

    /// Bytes that the rings of a shard have been filled with; `None` means those of the process.
    #[must_use]
    pub(crate) fn filled_bytes(&self, shard: Option<u16>) -> u64 {
        self.reader.filled_bytes(shard.map(ShardId))
    }

    /// For how many seconds back a ring has everything.
    #[must_use]
    pub(crate) fn retained_sec(&self, keep: Keep) -> f64 {
        let oldest_ns = self.reader.oldest_ns(keep);
        let ns = (self.clock)().mono_ns.saturating_sub(oldest_ns);
        (ns / NS_PER_MS) as f64 / 1_000.0
    }

    /// Where reading would go on if everything had been read now.
    #[must_use]
    pub(crate) fn end(&self) -> Position {
        Position::of(&self.epoch, &self.reader.end())
    }

    pub(super) fn names(&self) -> names::Names {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.clone()
    }

    /// An event as the API shows it.
    pub(super) fn json(&self, event: &Event, names: &names::Names, now: Moment) -> EventJson {
        EventJson::of(event, names, &self.epoch, unix_ms(event.read.time_ns, now))
    }
}

/// The wall clock at a monotonic time, as it goes now.
pub(super) fn unix_ms(time_ns: u64, now: Moment) -> u64 {
    let ago_ms = now.mono_ns.saturating_sub(time_ns) / NS_PER_MS;
    now.unix_ms.saturating_sub(ago_ms)
}

/// The monotonic time at a wall clock's, as it goes now.
pub(super) fn mono_ns(unix_ms: u64, now: Moment) -> u64 {
    match unix_ms <= now.unix_ms {
        true => now
            .mono_ns
            .saturating_sub((now.unix_ms - unix_ms).saturating_mul(NS_PER_MS)),
        false => now
            .mono_ns
            .saturating_add((unix_ms - now.unix_ms).saturating_mul(NS_PER_MS)),
    }
}
