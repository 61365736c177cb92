//! Histories that the start has found on disk, as the shard that owns their channels takes them
//! over.

use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;

use crate::domain::history::HistoryRule;
use crate::domain::peer::{JsonName, PeerInfo, SharedPeer};
use crate::domain::time::Now;
use crate::proto::records::{Publication, Record};
use crate::proto::wire::position::Position;
use crate::shard::history::history::{History, New};

/// A channel as it was found on disk.
#[derive(Debug)]
pub struct Found {
    /// The app's id.
    pub app: Box<str>,
    /// The channel's name.
    pub channel: Box<str>,
    /// The position of the last publication.
    pub position: Position,
    /// The last positions of earlier epochs that its numbers continue.
    pub earlier: Box<[Position]>,
    /// The payloads of the records of what is kept, in order and without gaps.
    pub records: Vec<Box<[u8]>>,
    /// Ids of publications before those, the oldest first.
    pub ids: Box<[FoundId]>,
}

/// The id of a publication that is not kept any more, and may be sent again.
#[derive(Debug)]
pub struct FoundId {
    /// Who published it.
    pub from: Box<str>,
    /// What the publisher calls it.
    pub id: Box<str>,
    /// Its number.
    pub seq: u64,
    /// When it was published, as Unix time in milliseconds.
    pub unix_ms: u64,
}

impl Found {
    /// Returns the history, kept on disk from now on, as that rule says. Ids that are older than
    /// `ids_ms` are forgotten. `None`: its publications cannot be read, or are none of this
    /// numbering.
    pub(in crate::shard) fn history(
        &self,
        rule: &HistoryRule,
        hasher: &RandomState,
        ids_ms: u64,
        now: Now,
    ) -> Option<History> {
        let mut history = History::new(self.position.epoch, rule, hasher);
        let first = self.position.seq.checked_sub(self.records.len() as u64)?;
        history.continue_from(first, self.earlier.clone());
        history.set_on_disk(Some(&self.app));
        let is_recent = |unix_ms: u64| unix_ms.saturating_add(ids_ms) > now.unix_ms;
        for it in self.ids.iter().filter(|it| is_recent(it.unix_ms)) {
            history.remember((&it.from, &it.id), it.seq, it.unix_ms, now);
        }
        let mut peers = HashMap::with_hasher(hasher.clone());
        for payload in &self.records {
            let Some(Record::Publication(it)) = Record::read(payload) else {
                return None;
            };
            let key = (it.from, it.metadata);
            let from = peers.entry(key).or_insert_with(|| peer(&it)).clone();
            let new = New {
                frame: it.frame,
                from: &from,
                id: Some(it.id).filter(|id| is_recent(it.time_ms) && !id.is_empty()),
            };
            history.append_old(new, it.time_ms, now);
        }
        (history.position() == self.position).then_some(history)
    }
}

fn peer(publication: &Publication<'_>) -> SharedPeer {
    Arc::new(PeerInfo {
        id: JsonName::new(publication.from),
        metadata: Some(publication.metadata)
            .filter(|it| !it.is_empty())
            .map(Box::from),
    })
}
