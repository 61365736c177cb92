//! Shards that publish, and all that they ever published: what a start says is compared with it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ahash::RandomState;

use super::disk::Disk;
use crate::history::behind::{Behind, Unwritten};
use crate::history::{Bounds, Epoch, Fsync, OpenError, Options, Rebuilt, Writer, open};
use crate::proto::records::{self, ChannelKey, Numbering, Publication};

pub(super) const APP: &str = "app";
/// How long publications are kept, in seconds.
pub(super) const TTL_SEC: u32 = 60;
/// How long their ids are remembered.
pub(super) const IDS_MS: u64 = 1_000;
/// How many.
pub(super) const MESSAGES: usize = 8;

pub(super) fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

/// A publication, once and for all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Published {
    epoch: String,
    seq: u64,
    frame: String,
    time_ms: u64,
    /// The run and the batch that it was handed over in.
    batch: (u64, u64),
    /// It was promised to be there after this kind of end.
    stored: bool,
    /// The run and the batch in which it was forgotten, and whether that is promised.
    forgotten: Option<((u64, u64), bool)>,
}

#[derive(Default)]
struct Channel {
    /// Epochs of the present numbering.
    chain: Vec<String>,
    /// In the order in which it was published.
    log: Vec<Published>,
    /// What a start did not find any more: nobody may be told to have everything behind it.
    lost: Vec<Published>,
    epoch: String,
    last: u64,
    kept: VecDeque<u64>,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Orderly,
    Killed,
    PowerLost,
}

/// See the top of this file.
pub(super) struct Model {
    pub(super) disk: Disk,
    pub(super) fsync: Fsync,
    pub(super) segment_bytes: u64,
    /// Since the store was opened, in milliseconds.
    pub(super) now_ms: u64,
    pub(super) unix_ms: u64,
    shards: u16,
    writers: Vec<Writer>,
    /// What each writer has refused.
    behind: Vec<Behind>,
    generations: Vec<u64>,
    batches: Vec<Vec<u8>>,
    run: u64,
    batch: u64,
    drawn: Cell<u64>,
    frames: u64,
    channels: BTreeMap<u8, Channel>,
    /// What the last start has found.
    found: BTreeMap<u8, Rebuilt>,
    /// Whether files were damaged: then promises are void.
    pub(super) is_damaged: bool,
}

impl Model {
    pub(super) fn new(fsync: Fsync, segment_bytes: u64, shards: u16) -> Self {
        let mut model = Self {
            disk: Disk::default(),
            fsync,
            segment_bytes,
            now_ms: 0,
            unix_ms: 1_800_000_000_000,
            shards,
            writers: Vec::new(),
            behind: Vec::new(),
            generations: Vec::new(),
            batches: Vec::new(),
            run: 0,
            batch: 0,
            drawn: Cell::new(0),
            frames: 0,
            channels: BTreeMap::new(),
            found: BTreeMap::new(),
            is_damaged: false,
        };
        model.start(shards).unwrap();
        model
    }

    fn owner(&self, channel: u8) -> usize {
        usize::from(channel)
            .wrapping_mul(7)
            .wrapping_add(self.run as usize)
            % usize::from(self.shards)
    }

    fn draw(&self) -> String {
        self.drawn.set(self.drawn.get() + 1);
        format!("epoch{:03}", self.drawn.get())
    }

    pub(super) fn publish(&mut self, channel: u8) {
        let epoch = self.draw();
        self.frames += 1;
        let owner = self.owner(channel);
        let it = self.channels.entry(channel).or_default();
        if it.epoch.is_empty() {
            it.chain = vec![epoch.clone()];
            (it.epoch, it.last) = (epoch, 0);
        }
        it.last += 1;
        it.kept.push_back(it.last);
        if it.kept.len() > MESSAGES {
            it.kept.pop_front();
        }
        let published = Published {
            epoch: it.epoch.clone(),
            seq: it.last,
            frame: format!("frame {} of channel {channel}", self.frames),
            time_ms: self.unix_ms,
            batch: (self.run, self.batch),
            stored: false,
            forgotten: None,
        };
        let name = name(channel);
        let publication = published.publication(&name, it.kept[0]);
        records::push_publication(&mut self.batches[owner], &publication);
        it.log.push(published);
    }

    pub(super) fn forget(&mut self, channel: u8) {
        let owner = self.owner(channel);
        let it = self.channels.entry(channel).or_default();
        it.epoch = String::new();
        it.kept.clear();
        it.chain.clear();
        let batch = (self.run, self.batch);
        for published in it.log.iter_mut().filter(|it| it.forgotten.is_none()) {
            published.forgotten = Some((batch, false));
        }
        records::push_forgotten(&mut self.batches[owner], APP, &name(channel));
    }

    /// Ends a turn: batches are handed over, and written unless they are `late`.
    pub(super) fn turn(&mut self, late: bool) {
        if late {
            return;
        }
        for shard in 0..self.writers.len() {
            let mut records = std::mem::take(&mut self.batches[shard]);
            let is_appended = match self.behind[shard].len() {
                0 => self.append(shard, &mut records),
                _ => {
                    self.behind[shard].add(&records);
                    false
                }
            };
            let (told, again) = self.refill(shard);
            let is_synced = self.writers[shard].end_round(self.now_ms);
            if !is_synced && self.fsync == Fsync::Turn {
                self.behind[shard].add(&records);
                self.behind[shard].add(&again);
            }
            let batch = (self.run, self.batch);
            let owned = self.owned(shard);
            for (channel, it) in &mut self.channels {
                if owned.contains(channel) {
                    let told = told.get(channel).filter(|_| is_synced);
                    it.settle(batch, is_appended && is_synced, told);
                }
            }
        }
        self.batch += 1;
    }

    fn owned(&self, shard: usize) -> BTreeSet<u8> {
        let channels = self.channels.keys().copied();
        channels.filter(|it| self.owner(*it) == shard).collect()
    }

    fn append(&mut self, shard: usize, batch: &mut [u8]) -> bool {
        let generation = self.generations[shard];
        let is_appended = self.writers[shard].append(generation, batch, self.now_ms);
        if !is_appended {
            self.behind[shard].add(batch);
        }
        is_appended
    }

    /// What the disk lacks is told out of what is kept, if the disk takes it. Returns of which
    /// channels that was done, and the records.
    fn refill(&mut self, shard: usize) -> (BTreeMap<u8, Unwritten>, Vec<u8>) {
        let counters = self.writers[shard].counters();
        self.generations[shard] = counters.generation.load(Ordering::Relaxed);
        let mut told = BTreeMap::new();
        if self.behind[shard].len() == 0 || counters.failing.load(Ordering::Relaxed) {
            return (told, Vec::new());
        }
        let mut batch = Vec::new();
        while let Some((key, unwritten)) = self.behind[shard].pop() {
            let (_, channel) = ChannelKey::of(&key).texts().unwrap();
            self.channels[&number(channel)].tell(channel, &unwritten, &mut batch);
            told.insert(number(channel), unwritten);
        }
        match self.append(shard, &mut batch) {
            true => (told, batch),
            false => (BTreeMap::new(), Vec::new()),
        }
    }

    /// Time passes for both clocks.
    pub(super) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.unix_ms += ms;
    }

    /// The run ends, and another one begins with so many shards.
    pub(super) fn restart(
        &mut self,
        end: End,
        shards: u16,
        pick: impl FnMut(usize) -> usize,
    ) -> Result<(), OpenError> {
        match end {
            End::Orderly => {
                self.turn(false);
                self.end(self.now_ms);
            }
            End::Killed => {}
            End::PowerLost => {
                if self.fsync != Fsync::Turn {
                    let logs = self.channels.values_mut().flat_map(|it| &mut it.log);
                    for published in logs {
                        published.stored = false;
                        published.forgotten.iter_mut().for_each(|it| it.1 = false);
                    }
                }
                self.disk.lose_power(pick);
            }
        }
        self.start(shards)
    }

    /// Another run begins.
    pub(super) fn start(&mut self, shards: u16) -> Result<(), OpenError> {
        // What is believed cannot be made durable.
        self.is_damaged |= self.disk.state().sync_fails;
        self.run += 1;
        self.shards = shards;
        self.now_ms = 0;
        let bounds = Bounds {
            messages: MESSAGES,
            bytes: 1 << 20,
            ttl_sec: TTL_SEC,
        };
        let draw = || Epoch::new(self.draw().as_bytes());
        let opened = open(Options {
            files: Arc::new(self.disk.clone()),
            shards,
            fsync: self.fsync,
            segment_bytes: self.segment_bytes,
            hasher: hasher(),
            unix_ms: self.unix_ms,
            ids_ms: IDS_MS,
            bounds: &|app, _| (app == APP).then_some(bounds),
            owner: &|_, channel| self.owner(number(channel)) as u16,
            draw: &draw,
        })?;
        assert_eq!(opened.shards.len(), usize::from(shards));
        let mut found = BTreeMap::new();
        (self.writers, self.behind) = (Vec::new(), Vec::new());
        self.generations = Vec::new();
        for (shard, (writer, rebuilt)) in opened.shards.into_iter().enumerate() {
            let generation = writer.counters().generation.load(Ordering::Relaxed);
            self.generations.push(generation);
            self.behind.push(Behind::new(hasher()));
            self.writers.push(writer);
            for it in rebuilt {
                let channel = number(&it.channel);
                assert_eq!(self.owner(channel), shard, "handed to its owner");
                assert!(found.insert(channel, it).is_none(), "once");
            }
        }
        self.batches = vec![Vec::new(); usize::from(shards)];
        for (channel, it) in &mut self.channels {
            it.check(found.get(channel), self.unix_ms, self.is_damaged);
        }
        assert!(
            found.keys().all(|it| self.channels.contains_key(it)),
            "invented"
        );
        self.found = found;
        Ok(())
    }

    /// Publications that are there after the last start.
    pub(super) fn kept(&self, channel: u8) -> usize {
        self.channels.get(&channel).map_or(0, |it| it.kept.len())
    }

    /// The epoch of a channel.
    pub(super) fn epoch(&self, channel: u8) -> &str {
        self.channels.get(&channel).map_or("", |it| &it.epoch)
    }

    /// Whether the last start would let somebody go on from there.
    pub(super) fn goes_on_from(&self, channel: u8, epoch: &str, seq: u64) -> bool {
        let found = self.found.get(&channel);
        found.is_some_and(|it| it.goes_on_from(epoch, seq))
    }

    /// The names of files that are no marks of runs.
    pub(super) fn segments(&self) -> Vec<String> {
        let mut names = self.disk.names();
        names.retain(|it| it.contains(".segment"));
        names
    }

    /// Channels of which the disk lacks something.
    pub(super) fn behind(&self, shard: usize) -> usize {
        self.behind[shard].len()
    }

    pub(super) fn writer(&self, shard: usize) -> &Writer {
        &self.writers[shard]
    }
}

fn name(channel: u8) -> String {
    format!("room/{channel}")
}

fn number(channel: &str) -> u8 {
    channel.strip_prefix("room/").unwrap().parse().unwrap()
}

impl Channel {
    /// A batch was written, or not; and what was lacking before was told, or nothing was.
    fn settle(&mut self, batch: (u64, u64), is_stored: bool, told: Option<&Unwritten>) {
        for published in &mut self.log {
            let from = told.and_then(|told| told.from(&published.epoch));
            let is_told = from.is_some_and(|from| from.seq <= published.seq);
            if is_stored && published.batch == batch || is_told {
                published.stored = true;
            }
            if let Some((of, promised)) = &mut published.forgotten {
                let is_told = told.is_some_and(|told| told.is_forgotten) && of.0 == batch.0;
                *promised |= *of == batch && is_stored || is_told;
            }
        }
    }

    /// Tells what is lacking, out of what is kept.
    fn tell(&self, channel: &str, unwritten: &Unwritten, batch: &mut Vec<u8>) {
        if unwritten.is_forgotten {
            records::push_forgotten(batch, APP, channel);
        }
        let from = match unwritten.is_forgotten {
            true => self.kept.front().map(|first| (*first, false)),
            false => unwritten
                .from(&self.epoch)
                .map(|it| (it.seq, it.is_numbered)),
        };
        let Some((from, is_numbered)) = from else {
            return;
        };
        let first = self
            .kept
            .front()
            .map_or(self.last + 1, |first| from.max(*first));
        if is_numbered || first > from {
            let numbering = Numbering {
                app: APP,
                channel,
                epoch: &self.epoch,
                last: first - 1,
                earlier: Vec::new(),
            };
            records::push_numbering(batch, &numbering);
        }
        let kept = self.log.iter().filter(|it| {
            it.epoch == self.epoch
                && it.forgotten.is_none()
                && (first..=self.last).contains(&it.seq)
        });
        for published in kept {
            records::push_publication(batch, &published.publication(channel, self.kept[0]));
        }
    }

    /// Nothing was found: nothing may have been promised.
    fn check_gone(&mut self, unix_ms: u64, is_damaged: bool) {
        for published in &self.log {
            let may_be_gone = published.may_be_gone(unix_ms) || is_damaged;
            let is_current = self.chain.contains(&published.epoch);
            let is_kept = is_current && self.kept.contains(&published.seq);
            assert!(may_be_gone || !is_kept, "{published:?} is gone");
        }
        self.lost.append(&mut self.log);
        self.chain.clear();
        (self.epoch, self.last) = (String::new(), 0);
        self.kept.clear();
    }

    /// Compares a start with what was published, and goes on from it.
    fn check(&mut self, rebuilt: Option<&Rebuilt>, unix_ms: u64, is_damaged: bool) {
        let Some(rebuilt) = rebuilt else {
            return self.check_gone(unix_ms, is_damaged);
        };
        let items: Vec<_> = rebuilt
            .items
            .iter()
            .map(|it| it.publication().unwrap())
            .collect();
        let first = items[0].seq;
        assert_eq!(rebuilt.last, first + items.len() as u64 - 1, "no gaps");
        // What is there was published so, one behind the other.
        let frame = |at: usize| std::str::from_utf8(items[at].frame).unwrap();
        if is_damaged && !self.log.iter().any(|it| it.frame == frame(0)) {
            // What said that it was forgotten or lost is damaged.
            let mut lost = std::mem::take(&mut self.lost);
            lost.append(&mut self.log);
            self.log = lost;
        }
        let at = self.log.iter().position(|it| it.frame == frame(0));
        let begin = at.expect("what is there was published");
        let end = begin + items.len();
        for (offset, item) in items.iter().enumerate() {
            let published = &mut self.log[begin + offset];
            assert_eq!(published.frame, frame(offset), "in this order");
            assert_eq!(published.seq, item.seq);
            let is_forgotten = published.forgotten.take().is_some_and(|it| it.1);
            assert!(!is_forgotten || is_damaged, "{published:?} was forgotten");
        }
        for published in &self.log[end..] {
            let may_be_gone = published.may_be_gone(unix_ms) || is_damaged;
            assert!(may_be_gone, "{published:?} was promised");
        }
        self.lost.extend(self.log.drain(end..));
        // Whoever is told to have missed nothing has had all that came before.
        for (at, it) in self.log.iter().enumerate() {
            if rebuilt.goes_on_from(&it.epoch, it.seq) {
                let missed = (rebuilt.last - it.seq) as usize;
                assert_eq!(at + 1 + missed, end, "{it:?}: exactly what was missed");
            }
        }
        for it in &self.lost {
            assert!(
                !rebuilt.goes_on_from(&it.epoch, it.seq),
                "{it:?}: {rebuilt:?}"
            );
        }
        for published in &self.log[..begin] {
            let may_be_gone = published.may_be_gone(unix_ms) || is_damaged;
            let is_current = self.chain.contains(&published.epoch);
            let is_kept = is_current && self.kept.contains(&published.seq);
            assert!(may_be_gone || !is_kept, "{published:?} was promised");
        }
        let epoch = rebuilt.epoch.as_str().to_owned();
        if !self.chain.contains(&self.log[begin].epoch) {
            self.chain = rebuilt
                .items
                .iter()
                .map(|it| it.publication().unwrap().epoch.to_owned())
                .collect();
        }
        self.chain.push(epoch);
        (self.epoch, self.last) = (rebuilt.epoch.as_str().to_owned(), rebuilt.last);
        self.kept = (first..=rebuilt.last).collect();
    }
}

impl Published {
    fn publication<'a>(&'a self, channel: &'a str, first: u64) -> Publication<'a> {
        Publication {
            app: APP,
            channel,
            epoch: &self.epoch,
            seq: self.seq,
            first,
            time_ms: self.time_ms,
            ttl_sec: TTL_SEC,
            from: "ann",
            id: "m-1",
            metadata: "",
            frame: self.frame.as_bytes(),
        }
    }

    fn may_be_gone(&self, unix_ms: u64) -> bool {
        let is_over = self.time_ms + u64::from(TTL_SEC) * 1_000 <= unix_ms;
        is_over || self.forgotten.is_some() || !self.stored
    }
}

impl Rebuilt {
    /// Whether a subscriber with that position gets all that it missed.
    fn goes_on_from(&self, epoch: &str, seq: u64) -> bool {
        let present = (self.epoch.clone(), self.last);
        let mut all = self.earlier.iter().chain([&present]);
        let is_known = |(name, last): &(Epoch, u64)| {
            name.as_str() == epoch && seq <= *last && (*last > 0 || *name == self.epoch)
        };
        let first = self.items.front().map_or(u64::MAX, |it| it.seq);
        all.any(is_known) && seq + 1 >= first
    }
}

impl Model {
    /// The same, and the disk is full when the other run begins.
    pub(super) fn restart_full(&mut self, end: End) -> Result<(), OpenError> {
        if end == End::Orderly {
            self.turn(false);
            self.end(self.now_ms);
        }
        self.disk.state().full_after = Some(0);
        self.start(self.shards)
    }
}

impl Model {
    /// The run ends in order, and no other begins.
    pub(super) fn end(&mut self, now_ms: u64) {
        for (writer, behind) in self.writers.iter_mut().zip(&self.behind) {
            if behind.len() == 0 {
                writer.end(now_ms);
            }
        }
    }
}
