//! Which segments are needed, and by whom: what is removed, and when.
//!
//! A channel holds each segment that has a publication of its own which it still keeps. A segment
//! that nobody holds goes, and one all of whose publications are past their time. Where a channel
//! has begun another numbering, or was forgotten, the segment that says so stays for as long as
//! one is there with what it ended: else a later start would bring that back.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::epoch::Epoch;
use super::segment::SegmentId;
use crate::proto::records::{Numbering, Place};

const MS_PER_SEC: u64 = 1_000;

/// A segment, as all know it who need it. Its counts are changed by the writers of several
/// shards, each for what it holds itself.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    /// Its length so far.
    pub(super) bytes: AtomicU64,
    /// When the last of its publications is past its time, in milliseconds since the store was
    /// opened.
    expires_ms: AtomicU64,
    /// Until then its publications may be sent again, on the same clock: their ids are needed even
    /// if nothing else is.
    repeated_ms: AtomicU64,
    /// Channels that hold it.
    holders: AtomicUsize,
    /// Segments with what this one ends.
    guarded: AtomicUsize,
    removed: AtomicBool,
    /// It stays for this run: without it nobody would know that its run did not end in order.
    stays: AtomicBool,
}

impl Segment {
    /// An empty one.
    #[must_use]
    pub(super) fn new(id: SegmentId) -> Self {
        Self {
            id,
            bytes: AtomicU64::new(0),
            expires_ms: AtomicU64::new(0),
            repeated_ms: AtomicU64::new(0),
            holders: AtomicUsize::new(0),
            guarded: AtomicUsize::new(0),
            removed: AtomicBool::new(false),
            stays: AtomicBool::new(false),
        }
    }

    /// A publication in it is kept until then.
    pub(super) fn keep_until(&self, expires_ms: u64) {
        self.expires_ms.fetch_max(expires_ms, Ordering::Relaxed);
    }

    /// A publication in it may be sent again until then.
    pub(super) fn keep_ids_until(&self, repeated_ms: u64) {
        self.repeated_ms.fetch_max(repeated_ms, Ordering::Relaxed);
    }

    /// Whether it can go.
    #[must_use]
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        let is_held = self.holders.load(Ordering::Relaxed) > 0;
        let is_current = is_held && now_ms < self.expires_ms.load(Ordering::Relaxed);
        let is_current = is_current || now_ms < self.repeated_ms.load(Ordering::Relaxed);
        let is_guard = self.guarded.load(Ordering::Relaxed) > 0;
        !is_current && !is_guard && !self.stays.load(Ordering::Relaxed)
    }

    /// It does not go in this run.
    pub(super) fn set_stays(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    /// Its file is not there any more.
    pub(super) fn set_removed(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }
}

/// Returns when a publication is past its time. Both clocks count from the same moment: at the
/// start that is one of the wall clock.
#[must_use]
pub(super) fn expires_ms(published_ms: u64, ttl_sec: u32) -> u64 {
    published_ms.saturating_add(u64::from(ttl_sec) * MS_PER_SEC)
}

/// What a channel holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    epoch: Epoch,
    spans: VecDeque<Span>,
}

/// What of a channel is in one segment.
#[derive(Debug)]
struct Span {
    segment: Arc<Segment>,
    /// The number of the last publication.
    last: u64,
}

impl Held {
    /// A publication of the channel is in that segment.
    pub(super) fn publication(&mut self, it: &Place<'_>, at: &Arc<Segment>, graves: &mut Graves) {
        if !self.epoch.is(it.epoch) {
            self.forgotten(at, graves);
            self.epoch = Epoch::new(it.epoch);
        }
        self.extend(it.seq, at);
        self.release_before(it.first);
    }

    /// The channel's numbering is said in that segment.
    pub(super) fn numbering(&mut self, it: &Numbering<'_>, at: &Arc<Segment>, graves: &mut Graves) {
        let goes_on = |known: &Epoch| {
            let mut epochs = it.earlier.iter().map(|(epoch, _)| *epoch);
            known.as_str() == it.epoch || epochs.any(|epoch| epoch == known.as_str())
        };
        if !goes_on(&self.epoch) {
            self.forgotten(at, graves);
        }
        // What it says is needed for as long as what it is said of.
        for span in &self.spans {
            at.keep_until(span.segment.expires_ms.load(Ordering::Relaxed));
        }
        self.epoch = Epoch::new(it.epoch.as_bytes());
        self.extend(it.last, at);
    }

    /// That segment ends what was there of the channel.
    pub(super) fn forgotten(&mut self, at: &Arc<Segment>, graves: &mut Graves) {
        while let Some(span) = self.spans.pop_front() {
            graves.add(&span.segment, at);
            span.release();
        }
        self.epoch = Epoch::default();
    }

    /// Whether nothing is held.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether a segment that is held is still there.
    #[must_use]
    pub(super) fn is_needed(&self) -> bool {
        let is_there = |span: &Span| !span.segment.removed.load(Ordering::Relaxed);
        self.spans.iter().any(is_there)
    }

    fn extend(&mut self, last: u64, at: &Arc<Segment>) {
        match self.spans.back_mut() {
            Some(span) if Arc::ptr_eq(&span.segment, at) => span.last = span.last.max(last),
            _ => {
                at.holders.fetch_add(1, Ordering::Relaxed);
                let segment = Arc::clone(at);
                self.spans.push_back(Span { segment, last });
            }
        }
    }

    fn release_before(&mut self, first: u64) {
        while let Some(span) = self.spans.pop_front_if(|span| span.last < first) {
            span.release();
        }
    }
}

impl Span {
    fn release(self) {
        self.segment.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Which segment guards which: it ends what is there of a channel.
#[derive(Debug, Default)]
pub(super) struct Graves(BTreeMap<(SegmentId, SegmentId), (Arc<Segment>, Arc<Segment>)>);

impl Graves {
    fn add(&mut self, ended: &Arc<Segment>, guard: &Arc<Segment>) {
        if ended.id == guard.id {
            return;
        }
        self.0.entry((ended.id, guard.id)).or_insert_with(|| {
            guard.guarded.fetch_add(1, Ordering::Relaxed);
            (Arc::clone(ended), Arc::clone(guard))
        });
    }

    /// Lets those go whose ended segments are not there any more.
    pub(super) fn sweep(&mut self) {
        self.0.retain(|_, (ended, guard)| {
            let stays = !ended.removed.load(Ordering::Relaxed);
            if !stays {
                guard.guarded.fetch_sub(1, Ordering::Relaxed);
            }
            stays
        });
    }
}
