//! The segments of one shard, as its thread writes them: appended to, made durable, removed when
//! nobody needs them, and gone on with when a disk that was full takes bytes again.
//!
//! It has no thread: whoever calls it says what time it is, in milliseconds since the store was
//! opened. Batches come in generations. Always true: what [`Writer::append`] has returned `true`
//! for is in the file, behind all that was so before; and where it has returned `false`, nothing
//! more of that generation will be there. Whoever has a batch refused tells in a later generation
//! all that is not in the file, so that no gap is left.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ahash::RandomState;
use hashbrown::HashMap;

use super::files::{Files, SegmentFile};
use super::index::{Graves, Held, Segment, expires_ms};
use super::segment::SegmentId;
use crate::proto::records::{self, Record};

/// Between two syncs of `Fsync::Interval`, in milliseconds.
const SYNC_EVERY_MS: u64 = 1_000;
/// Until a disk that failed is tried again, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// Bytes for which room is tried at most.
const PROBE_BYTES_MAX: usize = 1 << 20;
/// Between two looks for segments that are over, in milliseconds.
const SWEEP_EVERY_MS: u64 = 1_000;
/// A failing disk is logged this often, in milliseconds.
const COMPLAIN_EVERY_MS: u64 = 60_000;

/// When what was written is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// When the kernel thinks so.
    Never,
    /// Within a second.
    Interval,
    /// At the end of each round, before it is reported.
    Turn,
}

/// What a writer counts, for whoever looks.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes that were appended.
    pub appended_bytes: AtomicU64,
    /// Bytes of all its segments.
    pub stored_bytes: AtomicU64,
    /// Segments that are there.
    pub segments: AtomicU64,
    /// Syncs that went well.
    pub syncs: AtomicU64,
    /// The time they took, in nanoseconds.
    pub sync_ns: AtomicU64,
    /// Writes and syncs that failed.
    pub errors: AtomicU64,
    /// Channels of which something is not there that is to be.
    pub behind: AtomicU64,
    /// The generation of the batches that are taken, or will be.
    pub generation: AtomicU64,
    /// Whether the last attempt failed.
    pub failing: AtomicBool,
}

/// What a writer begins with.
pub(super) struct Start {
    pub(super) files: Arc<dyn Files>,
    /// The first segment that it makes.
    pub(super) next: SegmentId,
    pub(super) fsync: Fsync,
    /// A segment that is longer is not appended to any more.
    pub(super) segment_bytes: u64,
    /// How long a publication may be sent again, in milliseconds.
    pub(super) ids_ms: u64,
    pub(super) channels: HashMap<Box<[u8]>, Held, RandomState>,
    pub(super) graves: Graves,
    /// Earlier segments that it removes when they are over.
    pub(super) segments: Vec<Arc<Segment>>,
}

/// See the top of this file.
pub struct Writer {
    files: Arc<dyn Files>,
    next: SegmentId,
    fsync: Fsync,
    segment_bytes: u64,
    ids_ms: u64,
    channels: HashMap<Box<[u8]>, Held, RandomState>,
    graves: Graves,
    /// Those that are not appended to any more.
    segments: Vec<Arc<Segment>>,
    current: Option<Current>,
    /// Length of the segment before that one.
    before_bytes: u64,
    /// What is to be said before anything else, sealed.
    news: Vec<u8>,
    generation: u64,
    /// The length of the last batch that the disk has not taken.
    probe_bytes: usize,
    trouble: Option<Trouble>,
    /// Since when something is not durable.
    unsynced_ms: Option<u64>,
    swept_ms: u64,
    complained_ms: Option<u64>,
    /// Whether the present trouble was logged.
    is_told: bool,
    counters: Arc<Counters>,
}

/// The segment that is appended to.
struct Current {
    segment: Arc<Segment>,
    file: Box<dyn SegmentFile>,
}

/// The disk does not take anything.
#[derive(Clone, Copy)]
struct Trouble {
    /// When it is tried again.
    retry_ms: u64,
}

impl Writer {
    pub(super) fn new(start: Start) -> Self {
        let counters = Counters::default();
        let stored = start
            .segments
            .iter()
            .map(|it| it.bytes.load(Ordering::Relaxed));
        counters.stored_bytes.store(stored.sum(), Ordering::Relaxed);
        let count = start.segments.len() as u64;
        counters.segments.store(count, Ordering::Relaxed);
        Self {
            files: start.files,
            next: start.next,
            fsync: start.fsync,
            segment_bytes: start.segment_bytes,
            ids_ms: start.ids_ms,
            channels: start.channels,
            graves: start.graves,
            segments: start.segments,
            current: None,
            before_bytes: 0,
            news: Vec::new(),
            generation: 0,
            probe_bytes: 0,
            trouble: None,
            unsynced_ms: None,
            swept_ms: 0,
            complained_ms: None,
            is_told: false,
            counters: Arc::new(counters),
        }
    }

    /// Returns what it counts.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Appends a batch of a generation. Returns whether it is in the file; if not, no other of that
    /// generation will be.
    pub fn append(&mut self, generation: u64, batch: &mut [u8], now_ms: u64) -> bool {
        if batch.is_empty() {
            return true;
        }
        if generation != self.generation {
            return false;
        }
        if !self.is_usable(now_ms) {
            self.end_generation();
            return false;
        }
        records::seal(batch);
        match self.write(batch) {
            Ok(()) => {
                self.index(batch, now_ms);
                self.unsynced_ms.get_or_insert(now_ms);
                true
            }
            Err(error) => {
                self.fail("write", &error, now_ms);
                self.probe_bytes = batch.len().min(PROBE_BYTES_MAX);
                false
            }
        }
    }

    /// Nothing that was handed over so far will be appended.
    fn end_generation(&mut self) {
        self.generation += 1;
        let generation = &self.counters.generation;
        generation.store(self.generation, Ordering::Release);
    }

    /// Whether what is appended is stored only at the end of the round.
    #[must_use]
    pub(super) fn stores_at_the_end(&self) -> bool {
        self.fsync == Fsync::Turn
    }

    /// Ends a round: makes durable what is to be, removes what is over. Returns whether what was
    /// appended in this round is stored as the policy says.
    pub fn end_round(&mut self, now_ms: u64) -> bool {
        let is_due = self.unsynced_ms.is_some_and(|since_ms| match self.fsync {
            Fsync::Never => false,
            Fsync::Interval => now_ms.saturating_sub(since_ms) >= SYNC_EVERY_MS,
            Fsync::Turn => true,
        });
        let is_stored = !is_due || self.sync(now_ms);
        if self.trouble.is_some() {
            self.is_usable(now_ms);
        }
        if now_ms.saturating_sub(self.swept_ms) >= SWEEP_EVERY_MS {
            self.swept_ms = now_ms;
            self.sweep(now_ms);
        }
        is_stored
    }

    /// Returns when the next round must end, even if nothing is appended.
    #[must_use]
    pub fn next_round_ms(&self) -> u64 {
        let sync_ms = match self.fsync {
            Fsync::Interval => self.unsynced_ms.map(|since_ms| since_ms + SYNC_EVERY_MS),
            Fsync::Never | Fsync::Turn => None,
        };
        let retry_ms = self.trouble.map(|trouble| trouble.retry_ms);
        let sweep_ms = self.swept_ms + SWEEP_EVERY_MS;
        [sync_ms, retry_ms]
            .into_iter()
            .flatten()
            .fold(sweep_ms, u64::min)
    }

    /// Makes the first segment, so that a later start sees that there was this one, and writes
    /// what is to be said first. Returns whether the disk has taken it.
    pub(super) fn begin(&mut self, news: &mut [u8]) -> bool {
        records::seal(news);
        match self.write(news).and_then(|()| self.sync_file()) {
            Ok(()) => self.index(news, 0),
            Err(error) => {
                self.fail("write", &error, 0);
                self.news = news.to_vec();
            }
        }
        self.trouble.is_none()
    }

    /// Says in the file that nothing more follows, if it is so, and makes all of it durable.
    pub fn end(&mut self, now_ms: u64) {
        if self.trouble.is_some_and(|_| !self.is_usable(now_ms)) {
            return;
        }
        let mut batch = Vec::new();
        records::push_end(&mut batch);
        records::seal(&mut batch);
        match self.write(&batch) {
            Ok(()) => drop(self.sync(now_ms)),
            Err(error) => self.fail("write", &error, now_ms),
        }
    }

    /// Whether the disk takes bytes, as far as is known. One that did not is tried when it is
    /// time.
    fn is_usable(&mut self, now_ms: u64) -> bool {
        match self.trouble {
            None => return true,
            Some(trouble) if now_ms < trouble.retry_ms => return false,
            Some(_) => {}
        }
        let news = std::mem::take(&mut self.news);
        let tried = self.write(&news).and_then(|()| self.probe());
        match tried.and_then(|()| self.sync_file()) {
            Ok(()) => {
                self.index(&news, now_ms);
                self.trouble = None;
                self.counters.failing.store(false, Ordering::Release);
                if std::mem::take(&mut self.is_told) {
                    tracing::info!(shard = self.next.shard, "history is written to disk again");
                }
                true
            }
            Err(error) => {
                self.news = news;
                self.fail("write", &error, now_ms);
                false
            }
        }
    }

    /// Whether there is room for as much as was refused: else a disk with some bytes left would
    /// fail each second anew. A segment that ends so ends in zeros, which are cut off.
    fn probe(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let before = current.segment.bytes.load(Ordering::Relaxed);
        let written = current.file.append(&vec![0; self.probe_bytes]);
        let cut = current.file.cut(before);
        written.and(cut)
    }

    /// Appends sealed records to the segment that is appended to, or to a new one. What a failed
    /// write has left there is cut off when the start finds it.
    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        let bytes_max = self.segment_bytes;
        let is_full = |it: &mut Current| it.segment.bytes.load(Ordering::Relaxed) >= bytes_max;
        if self.current.as_mut().is_some_and(is_full) {
            if self.fsync != Fsync::Never {
                self.sync_file()?;
            }
            self.close_segment();
        }
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let current = self.next.create(self.before_bytes, &*self.files)?;
                self.next.number += 1;
                let bytes = current.segment.bytes.load(Ordering::Relaxed);
                self.counters.segments.fetch_add(1, Ordering::Relaxed);
                self.counters
                    .appended_bytes
                    .fetch_add(bytes, Ordering::Relaxed);
                self.counters
                    .stored_bytes
                    .fetch_add(bytes, Ordering::Relaxed);
                self.current.insert(current)
            }
        };
        let before = current.segment.bytes.load(Ordering::Relaxed);
        current.file.append(batch).inspect_err(|_| {
            // So that nothing has to be cut off at the start; that would doubt the whole line.
            let _ = current.file.cut(before);
        })?;
        let bytes = batch.len() as u64;
        current.segment.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counters
            .appended_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        self.counters
            .stored_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn close_segment(&mut self) {
        if let Some(current) = self.current.take() {
            self.before_bytes = current.segment.bytes.load(Ordering::Relaxed);
            self.segments.push(current.segment);
        }
    }

    fn index(&mut self, batch: &[u8], now_ms: u64) {
        let Some(current) = &self.current else {
            return;
        };
        let (at, graves) = (&current.segment, &mut self.graves);
        for payload in records::payloads(batch) {
            let Some(key) = records::key_of(payload) else {
                continue;
            };
            if let Some(place) = records::place_of(payload, key) {
                at.keep_until(expires_ms(now_ms, place.ttl_sec));
                if place.has_id {
                    at.keep_ids_until(now_ms.saturating_add(self.ids_ms));
                }
                match self.channels.get_mut(key.bytes()) {
                    Some(held) => held.publication(&place, at, graves),
                    None => {
                        let mut held = Held::default();
                        held.publication(&place, at, graves);
                        self.channels.insert(key.bytes().into(), held);
                    }
                }
                continue;
            }
            match Record::read(payload) {
                Some(Record::Numbering(it)) => {
                    let held = self.channels.entry(key.bytes().into()).or_default();
                    held.numbering(&it, at, graves);
                }
                Some(Record::Forgotten(_)) => {
                    if let Some(mut held) = self.channels.remove(key.bytes()) {
                        held.forgotten(at, graves);
                    }
                }
                Some(Record::Publication(_) | Record::End) | None => {}
            }
        }
    }

    /// Makes durable what was appended. Returns whether it is.
    fn sync(&mut self, now_ms: u64) -> bool {
        let synced = self.sync_file();
        if let Err(error) = &synced {
            self.fail("fsync", error, now_ms);
        }
        synced.is_ok()
    }

    fn sync_file(&mut self) -> io::Result<()> {
        self.unsynced_ms = None;
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let began = std::time::Instant::now();
        current.file.sync()?;
        let took_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.counters.sync_ns.fetch_add(took_ns, Ordering::Relaxed);
        Ok(())
    }

    /// The disk has failed. What is in the segment may not be durable, so another one is begun
    /// when it is tried again.
    fn fail(&mut self, what: &str, error: &io::Error, now_ms: u64) {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        self.counters.failing.store(true, Ordering::Release);
        self.end_generation();
        self.close_segment();
        self.unsynced_ms = None;
        let retry_ms = now_ms + RETRY_MS;
        self.trouble = Some(Trouble { retry_ms });
        let is_told = |at_ms: u64| now_ms.saturating_sub(at_ms) < COMPLAIN_EVERY_MS;
        if !self.complained_ms.is_some_and(is_told) {
            self.complained_ms = Some(now_ms);
            self.is_told = true;
            let errors = self.counters.errors.load(Ordering::Relaxed);
            tracing::error!(
                shard = self.next.shard,
                errors,
                "history is kept in memory only: {what}: {error}"
            );
        }
    }

    /// Removes segments that nobody needs any more.
    fn sweep(&mut self, now_ms: u64) {
        self.graves.sweep();
        let (files, counters) = (&self.files, &self.counters);
        let before = self.segments.len();
        // Without the last one nobody would know that there was this run.
        let trace = match self.current {
            Some(_) => None,
            None => Some(self.next.number.wrapping_sub(1)),
        };
        let line = self.next.line();
        let is_trace = |id: SegmentId| id.line() == line && Some(id.number) == trace;
        self.segments.retain(|segment| {
            if !segment.is_over(now_ms) || is_trace(segment.id) {
                return true;
            }
            match files.remove(&segment.id.file_name()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    counters.errors.fetch_add(1, Ordering::Relaxed);
                    true
                }
                _ => {
                    segment.set_removed();
                    counters.segments.fetch_sub(1, Ordering::Relaxed);
                    let bytes = segment.bytes.load(Ordering::Relaxed);
                    counters.stored_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    false
                }
            }
        });
        if self.segments.len() < before {
            self.channels.retain(|_, held| held.is_needed());
        }
    }
}

impl SegmentId {
    /// Makes the segment, with its header.
    fn create(self, before_bytes: u64, files: &dyn Files) -> io::Result<Current> {
        let name = self.file_name();
        let mut file = match files.create(&name) {
            // An attempt that failed half-way has left it, and nothing was appended to it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                files.remove(&name)?;
                files.create(&name)?
            }
            created => created?,
        };
        let header = self.header(before_bytes);
        if let Err(error) = file.append(&header) {
            // Another attempt makes it again.
            let _ = files.remove(&name);
            return Err(error);
        }
        let segment = Segment::new(self);
        segment.bytes.store(header.len() as u64, Ordering::Relaxed);
        Ok(Current {
            segment: Arc::new(segment),
            file,
        })
    }
}
