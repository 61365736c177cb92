//! History on disk as a run of the server finds it, and goes on with it: segments are read by the
//! rules of the apps, channels go to the shards that own them now, and what shards record goes to
//! their writers. Names no thread and no clock.

use std::sync::Arc;

use ahash::RandomState;

use crate::domain::app_id::AppTag;
use crate::domain::history::{HistoryFsync, HistoryStore};
use crate::domain::rights::Rights;
use crate::domain::time::Now;
use crate::history::{self, Bounds, Files, Fsync, Log, OpenError, Rebuilt, Writer};
use crate::ids::ShardId;
use crate::proto::wire::position::{EPOCH_ENTROPY_BYTES, Epoch, Position};
use crate::shard::channel::refill::Lacking;
use crate::shard::history::restored::{Found, FoundId};
use crate::shard::input::Input;
use crate::shard::placement::Placement;
use crate::shard::state::Shard;

/// Bytes of what the disk lacks that are recorded again at once.
const REFILL_BYTES: usize = 256 * 1_024;

/// Hands the records of a shard's turn over, or records again what the disk lacks of earlier ones.
pub fn hand_over(log: &mut Log, shard: &mut Shard, now: Now) {
    if shard.has_records() {
        let batch = log.push(&mut shard.effects_mut().history);
        shard.records_handed_over(batch);
    }
    if log.is_behind() {
        settle(log, shard, now);
        log.refill(|app, channel, unwritten, records| {
            let lacking = Lacking {
                app,
                channel,
                is_forgotten: unwritten.is_forgotten,
                from: &|epoch| {
                    let from = unwritten.from(epoch)?;
                    Some((from.seq, from.is_numbered))
                },
            };
            let rest = shard.record_again(&lacking, records, REFILL_BYTES)?;
            Some((rest.epoch.as_str().to_owned(), rest.seq))
        });
    }
    log.send();
}

/// Tells a shard what has become of what it handed over.
pub fn settle(log: &mut Log, shard: &mut Shard, now: Now) {
    while let Some((batch, is_stored)) = log.next_settled() {
        shard.handle(Input::Stored { batch, is_stored }, now);
    }
}

/// By what segments are read, and written from now on.
pub struct Reading<'r> {
    /// Where the segments are.
    pub files: Arc<dyn Files>,
    /// Shards of this run.
    pub shards: u16,
    /// When what is written is made durable.
    pub fsync: HistoryFsync,
    /// Bytes from which on a segment is not appended to any more.
    pub segment_bytes: u64,
    /// The process's keys of hashes, which choose the owners of channels.
    pub hasher: &'r RandomState,
    /// What channels keep.
    pub rights: &'r Rights,
    /// Unix time in milliseconds.
    pub unix_ms: u64,
    /// How long the id of a publication is remembered, in milliseconds.
    pub ids_ms: u64,
    /// Fills bytes at random, for new epochs.
    pub fill: &'r dyn Fn(&mut [u8]),
}

/// What was found.
pub struct Read {
    /// The writer of each shard, and the channels that it owns.
    pub shards: Vec<(Writer, Vec<Found>)>,
    /// Segments that were cut or put aside.
    pub damaged: usize,
    /// Bytes that were read.
    pub bytes: u64,
}

impl Reading<'_> {
    /// Reads all segments.
    ///
    /// # Errors
    /// See [`OpenError`]. Damage is none: it is cut off or put aside, and logged.
    pub fn read(self) -> Result<Read, OpenError> {
        let placement = Placement::new(ShardId(0), self.shards, self.hasher.clone());
        let rights = self.rights;
        let bounds = |app: &str, channel: &str| {
            let rule = rights.history(AppTag::of(app))?.for_channel(channel)?;
            (rule.store == HistoryStore::Disk).then_some(Bounds {
                messages: rule.messages as usize,
                bytes: rule.bytes as usize,
                ttl_sec: rule.ttl_sec,
            })
        };
        let owner = |app: &str, channel: &str| {
            let hash = placement.channel_hash(AppTag::of(app), channel);
            placement.owner(hash).shard().0
        };
        let draw = || {
            let mut entropy = [0; EPOCH_ENTROPY_BYTES];
            (self.fill)(&mut entropy);
            history::Epoch::new(Epoch::of(entropy).as_str().as_bytes())
        };
        let opened = history::open(history::Options {
            files: self.files,
            shards: self.shards,
            fsync: match self.fsync {
                HistoryFsync::Never => Fsync::Never,
                HistoryFsync::Interval => Fsync::Interval,
                HistoryFsync::Turn => Fsync::Turn,
            },
            segment_bytes: self.segment_bytes,
            hasher: self.hasher.clone(),
            unix_ms: self.unix_ms,
            ids_ms: self.ids_ms,
            bounds: &bounds,
            owner: &owner,
            draw: &draw,
        })?;
        let shards = opened.shards.into_iter();
        let found = |(writer, rebuilt): (_, Vec<_>)| {
            let found = rebuilt.into_iter().filter_map(found);
            (writer, found.collect())
        };
        Ok(Read {
            shards: shards.map(found).collect(),
            damaged: opened.damaged,
            bytes: opened.bytes,
        })
    }
}

fn id(it: history::Id) -> FoundId {
    FoundId {
        from: it.from,
        id: it.id,
        seq: it.seq,
        unix_ms: it.time_ms,
    }
}

/// A channel as shards take it; `None` if its epoch is none of this server's.
fn found(rebuilt: Rebuilt) -> Option<Found> {
    let position = |epoch: &history::Epoch, seq| {
        let epoch = Epoch::parse(epoch.as_str())?;
        Some(Position { epoch, seq })
    };
    let earlier = rebuilt.earlier.iter();
    Some(Found {
        position: position(&rebuilt.epoch, rebuilt.last)?,
        earlier: earlier
            .filter(|(_, last)| *last > 0)
            .filter_map(|(epoch, last)| position(epoch, *last))
            .collect(),
        app: rebuilt.app,
        channel: rebuilt.channel,
        records: rebuilt
            .items
            .into_iter()
            .map(history::Item::into_record)
            .collect(),
        ids: rebuilt.ids.into_iter().map(id).collect(),
    })
}
