//! A history as it is handed to another process.

use ahash::{AHashMap, RandomState};

use super::{History, Kept};
use crate::domain::history::{HistoryRule, HistoryStore};
use crate::domain::peer::SharedPeer;
use crate::proto::wire::position::{Epoch, Position};
use crate::proto::ws::frame::are_whole_frames;
use crate::shard::handover::record::{HistoryRecord, IdRecord, KeptRecord, PeerRecord};
use crate::shard::history::evicted::Evicted;

/// Numbers and times, far above any that occur.
const NUMBER_MAX: u64 = 1 << 60;

impl History {
    /// What is kept, as another process goes on with it.
    pub(in crate::shard) fn hand_over(&self, until_ms: u64, used: u64) -> HistoryRecord {
        let Self {
            epoch,
            last,
            kept,
            // Each publication is written with its frame.
            blocks: _,
            senders,
            ids,
            // They follow from the rule.
            bounds: _,
            earlier,
            on_disk,
            unstored,
            evicted,
        } = self;
        let mut numbers = AHashMap::with_hasher(senders.hasher().clone());
        let mut peers = Vec::new();
        let mut records = Vec::with_capacity(kept.len());
        for (place, it) in kept.iter().enumerate() {
            let Kept {
                start: _,
                sender,
                unix_ms,
                mono_ms,
            } = *it;
            let sender = *numbers.entry(sender).or_insert_with(|| {
                peers.extend(senders.get(sender).map(PeerRecord::of));
                peers.len() as u32 - 1
            });
            records.push(KeptRecord {
                frame: self.frame(place).to_vec().into(),
                sender,
                unix_ms,
                mono_ms,
            });
        }
        let ids = ids.iter().map(|((peer, id), position, at_ms)| IdRecord {
            peer: peer.to_owned(),
            id: id.to_owned(),
            epoch: position.epoch.as_str().to_owned(),
            seq: position.seq,
            at_ms,
        });
        let earlier = earlier.iter();
        HistoryRecord {
            epoch: epoch.as_str().to_owned(),
            last: *last,
            senders: peers,
            kept: records,
            ids: ids.collect(),
            earlier: earlier
                .map(|it| (it.epoch.as_str().to_owned(), it.seq))
                .collect(),
            is_on_disk: on_disk.is_some(),
            unstored_to: unstored.1,
            unstored_from: Some(unstored.0).filter(|from| *from > 1),
            until_ms,
            used,
            stored_from: evicted.first(),
        }
    }

    /// Goes on with what another process has handed over, as that rule of the app says; `None` if
    /// that is no history, or one of times that have not come.
    pub(in crate::shard) fn take_over(
        record: &HistoryRecord,
        rule: &HistoryRule,
        app: &str,
        now_ms: u64,
        hasher: &RandomState,
    ) -> Option<Self> {
        let mut history = Self::new(Epoch::parse(&record.epoch)?, rule, hasher);
        let is_on_disk = rule.store == HistoryStore::Disk;
        history.set_on_disk(is_on_disk.then_some(app));
        if record.unstored_to > 0 {
            let from = record.unstored_from.unwrap_or(1);
            history.unstored = (from, record.unstored_to);
        }
        let earlier = record.earlier.iter();
        let earlier = earlier.map(|(epoch, seq)| position(epoch, *seq));
        history.earlier = earlier.collect::<Option<_>>()?;
        let first = record.last.checked_sub(record.kept.len() as u64)?;
        if let Some(stored_from) = record.stored_from {
            history.evicted = Evicted::from(stored_from, first);
        }
        history.last = Some(first).filter(|it| *it < NUMBER_MAX)?;
        let peers: Vec<SharedPeer> = record.senders.iter().map(PeerRecord::shared).collect();
        let mut before_ms = -(NUMBER_MAX as i64);
        for it in &record.kept {
            history.last += 1;
            let ends = format!(",\"seq\":{}}}", history.last);
            let is_frame = it.frame.ends_with(ends.as_bytes()) && are_whole_frames(&it.frame);
            let is_in_order = (before_ms..=now_ms.min(NUMBER_MAX) as i64).contains(&it.mono_ms);
            if !is_frame || !is_in_order {
                return None;
            }
            before_ms = it.mono_ms;
            history.kept.push_back(Kept {
                start: history.blocks.append(&it.frame),
                sender: history.senders.add(peers.get(it.sender as usize)?),
                unix_ms: it.unix_ms,
                mono_ms: it.mono_ms,
            });
        }
        if !record.ids.is_sorted_by_key(|it| it.at_ms) {
            return None;
        }
        for it in &record.ids {
            let name = (it.peer.as_str(), it.id.as_str());
            let at_ms = it.at_ms.min(now_ms);
            history
                .ids
                .insert(name, position(&it.epoch, it.seq)?, at_ms);
        }
        history.debug_check();
        Some(history)
    }
}

fn position(epoch: &str, seq: u64) -> Option<Position> {
    let epoch = Epoch::parse(epoch)?;
    Some(Position { epoch, seq })
}
