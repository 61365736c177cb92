//! The shard's side of history on disk: a turn's records go to the thread that writes them, and
//! what became of them is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::domain::time::Now;
use crate::history::{Counters, Log};
use crate::metrics::HistoryDisk;
use crate::runtime::clock::Clock;
use crate::runtime::found;
use crate::runtime::histories::Share;
use crate::shard::input::Input;
use crate::shard::state::Shard;

/// The batch of a shard without a disk: nothing of it is ever stored.
const NO_BATCH: u64 = u64::MAX;
/// Between two looks whether a disk that has failed takes bytes again. Its thread tries it each
/// second.
const ASKS_EVERY: Duration = Duration::from_secs(1);
/// How long a shard that ends waits for a disk that lacks something. One that has failed is tried
/// again within that time.
const FINISH_MAX: Duration = Duration::from_secs(2);
const FINISH_PAUSE: Duration = Duration::from_millis(1);

/// See the top of this file.
#[derive(Default)]
pub(super) struct Storing {
    log: Option<(Log, Arc<Counters>)>,
}

impl Storing {
    /// The shard goes on with what was found for it, and keeps what comes there.
    pub(super) fn begin(&mut self, share: Share, shard: &mut Shard, now: Now) {
        self.log = share.log;
        shard.keep_on_disk(&share.found, self.log.is_some(), share.ack, now);
    }

    /// Tells the shard what has become of what it handed over.
    #[inline]
    pub(super) fn settle(&mut self, shard: &mut Shard, now: Now) {
        if let Some((log, _)) = &mut self.log {
            found::settle(log, shard, now);
        }
    }

    /// Hands the records of the turn over.
    #[inline]
    pub(super) fn hand_over(&mut self, shard: &mut Shard, now: Now) {
        match &mut self.log {
            Some((log, _)) => found::hand_over(log, shard, now),
            None if shard.has_records() => {
                shard.records_handed_over(NO_BATCH);
                let refused = Input::Stored {
                    batch: NO_BATCH,
                    is_stored: false,
                };
                shard.handle(refused, now);
            }
            None => {}
        }
    }

    /// Whether there is something to tell the shard.
    pub(super) fn has_settled(&self) -> bool {
        self.log.as_ref().is_some_and(|(log, _)| log.has_settled())
    }

    /// Whether something is kept back, so that it must be tried again soon.
    pub(super) fn has_backlog(&self) -> bool {
        self.log.as_ref().is_some_and(|(log, _)| log.has_backlog())
    }

    /// When the disk is to be asked again whether it takes what it lacks: in how long.
    pub(super) fn asks_again(&self) -> Option<Duration> {
        let is_behind = self.log.as_ref().is_some_and(|(log, _)| log.is_behind());
        is_behind.then_some(ASKS_EVERY)
    }

    /// The shard ends: what the disk lacks is recorded, as far as it takes that in time.
    pub(super) fn finish(&mut self, shard: &mut Shard, clock: &Clock) {
        let Some((log, _)) = &mut self.log else {
            return;
        };
        let deadline = Instant::now() + FINISH_MAX;
        while log.is_behind() && Instant::now() < deadline {
            found::hand_over(log, shard, clock.now());
            thread::sleep(FINISH_PAUSE);
            found::settle(log, shard, clock.now());
        }
    }

    /// What the thread has counted.
    pub(super) fn counts(&self) -> HistoryDisk {
        let Some((_, counters)) = &self.log else {
            return HistoryDisk::default();
        };
        HistoryDisk {
            appended_bytes: counters.appended_bytes.load(Ordering::Relaxed),
            stored_bytes: counters.stored_bytes.load(Ordering::Relaxed),
            segments: counters.segments.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            sync_ns: counters.sync_ns.load(Ordering::Relaxed),
            errors: counters.errors.load(Ordering::Relaxed),
            channels_behind: counters.behind.load(Ordering::Relaxed),
            is_failing: counters.failing.load(Ordering::Relaxed),
        }
    }
}
