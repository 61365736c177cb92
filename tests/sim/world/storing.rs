//! History on disk: what stands beside each shard in place of its thread. A caller chooses when the
//! thread has a round.

use std::cell::RefCell;
use std::sync::Arc;

use ringmesh::domain::history::HistorySettings;
use ringmesh::domain::rights::Rights;
use ringmesh::history::{Log, Worker, without_thread};
use ringmesh::runtime::found::{self, Reading};
use ringmesh::shard::config::Entropy;
use ringmesh::shard::state::Shard;

use super::World;
use crate::disk::Disk;
use crate::random::Random;

/// A shard's queue to its thread, and the thread.
pub(super) struct Storing {
    log: Option<Log>,
    worker: Worker,
    opened_ms: u64,
}

impl World {
    /// All shards go on with what is on a disk.
    pub(crate) fn open_disk(
        &mut self,
        seed: u64,
        disk: &Disk,
        segment_bytes: u64,
        rights: &Rights,
        settings: &HistorySettings,
    ) {
        let hasher = self.make.hasher.clone();
        let epochs = RefCell::new(Random::new(seed, "epochs of a start"));
        let reading = Reading {
            files: Arc::new(disk.clone()),
            shards: self.nodes.len() as u16,
            fsync: settings.fsync,
            segment_bytes,
            hasher: &hasher,
            rights,
            unix_ms: self.now.unix_ms,
            ids_ms: u64::from(settings.dedupe_sec) * 1_000,
            fill: &|bytes| epochs.borrow_mut().fill(bytes),
        };
        let read = reading.read().expect("segments that can be read");
        for (node, (writer, found)) in self.nodes.iter_mut().zip(read.shards) {
            let (log, worker) = without_thread(writer, hasher.clone());
            node.shard
                .keep_on_disk(&found, true, settings.ack, self.now);
            node.storing = Some(Storing {
                log: Some(log),
                worker,
                opened_ms: self.now.mono_ms,
            });
        }
    }

    /// The thread of a shard has a round. Returns whether there was anything for it.
    pub(crate) fn write_records(&mut self, at: usize) -> bool {
        let now_ms = self.now.mono_ms;
        let storing = self.nodes[at].storing.as_mut();
        storing.is_some_and(|it| it.worker.round(&|| now_ms - it.opened_ms))
    }

    /// A shard has ended or is lost; its thread writes what was handed over, and says so.
    pub(crate) fn end_records(&mut self, at: usize) {
        let now_ms = self.now.mono_ms;
        if let Some(mut it) = self.nodes[at].storing.take() {
            it.log = None;
            while it.worker.round(&|| now_ms - it.opened_ms) {}
            it.worker.end(now_ms - it.opened_ms);
        }
    }

    /// A shard is told what has become of its records.
    pub(crate) fn settle_records(&mut self, at: usize) -> bool {
        let now = self.now;
        self.with_log(at, |log, shard| {
            let any = log.has_settled();
            found::settle(log, shard, now);
            any
        })
    }

    /// A shard's records of a turn are handed over.
    pub(crate) fn hand_over_records(&mut self, at: usize) -> bool {
        let now = self.now;
        self.with_log(at, |log, shard| {
            let any = shard.has_records() || log.has_backlog();
            found::hand_over(log, shard, now);
            any
        })
    }

    fn with_log(&mut self, at: usize, act: impl FnOnce(&mut Log, &mut Shard) -> bool) -> bool {
        let node = &mut self.nodes[at];
        if node.is_lost {
            return false;
        }
        let log = node.storing.as_mut().and_then(|it| it.log.as_mut());
        log.is_some_and(|log| act(log, &mut node.shard))
    }
}
