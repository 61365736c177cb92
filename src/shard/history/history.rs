//! The history of one channel: its numbering, and the publications that it keeps.
//!
//! A publication gets the next number. The oldest go when there are more than the rule of the
//! channel allows, of messages or of bytes, or when their time is over; the newest one is kept
//! however large it is. The numbering goes on whatever has gone: who asks for something that has,
//! is told so by the number of the first that is kept.
//!
//! Always true, see [`History::check`]: numbers have no gaps, frames lie in the order of their
//! numbers and end with them, and each sender is known as long as one of its publications is kept.

use std::collections::VecDeque;

use ahash::RandomState;

use crate::domain::history::{HistoryRule, HistorySettings};
use crate::domain::peer::SharedPeer;
use crate::domain::time::Now;
use crate::planted::{Bug, planted};
use crate::proto::wire::position::{Epoch, Position, Since};
use crate::shard::history::blocks::{Blocks, Part};
use crate::shard::history::evicted::{Evicted, Stage};
use crate::shard::history::ids::Ids;
use crate::shard::history::replay::{Replay, Resumed};
use crate::shard::history::senders::Senders;
use crate::shard::outbound::encode;

/// Bytes of rendered frames that are shared as one part.
const RENDERED_BYTES: usize = 16 * 1_024;
/// How many of the oldest may go for one that comes: a rule that has changed is followed in steps.
const GOES_FOR_ONE_MAX: usize = 16;
/// Room for so many publications is little enough to be left as it is.
const KEPT_ROOM_MIN: usize = 8;

/// A publication that comes.
#[derive(Clone, Copy)]
pub(in crate::shard) struct New<'a> {
    /// Its `message` frame, without a number.
    pub frame: &'a [u8],
    /// Who has sent it.
    pub from: &'a SharedPeer,
    /// By what its sender tells it from others.
    pub id: Option<&'a str>,
}

/// See the top of this file.
#[derive(Debug)]
pub(in crate::shard) struct History {
    epoch: Epoch,
    /// The number of the newest publication.
    last: u64,
    /// The oldest first.
    kept: VecDeque<Kept>,
    blocks: Blocks,
    senders: Senders,
    ids: Ids,
    bounds: Bounds,
    /// Earlier epochs whose numbers this one continues, and up to which number each holds.
    earlier: Box<[Position]>,
    /// The id of its app, where it is kept on disk too.
    on_disk: Option<Box<str>>,
    /// From the first to the second publications may be in memory only, although they were to be
    /// stored; both 0: none.
    unstored: (u64, u64),
    evicted: Evicted,
}

/// A publication that is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The position of its frame in the blocks.
    start: u32,
    /// Who has sent it.
    sender: u32,
    /// When it was published, on the wall clock.
    unix_ms: u64,
    /// The same, on the monotonic clock; below 0 for one from before the start of the process.
    mono_ms: i64,
}

/// What a channel keeps.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    messages: usize,
    bytes: usize,
    ttl_ms: u64,
}

/// A publication as it is shown.
pub(in crate::shard) struct Shown<'a> {
    pub seq: u64,
    pub unix_ms: u64,
    /// The payload of its frame, without its number and its brace.
    pub message: &'a [u8],
    /// The id of its sender, as JSON.
    pub from: &'a str,
    pub metadata: Option<&'a str>,
}

impl History {
    /// A history without publications.
    pub(in crate::shard) fn new(epoch: Epoch, rule: &HistoryRule, hasher: &RandomState) -> Self {
        let mut history = Self {
            epoch,
            last: 0,
            kept: VecDeque::new(),
            blocks: Blocks::default(),
            senders: Senders::new(hasher.clone()),
            ids: Ids::new(hasher.clone()),
            bounds: Bounds {
                messages: 1,
                bytes: 0,
                ttl_ms: 0,
            },
            earlier: Box::default(),
            on_disk: None,
            unstored: (0, 0),
            evicted: Evicted::default(),
        };
        history.set_rule(rule);
        history
    }

    /// That rule holds from now on; what is too much goes with what comes, and with
    /// [`expire`](Self::expire).
    pub(in crate::shard) fn set_rule(&mut self, rule: &HistoryRule) {
        self.bounds = Bounds {
            messages: rule.messages as usize,
            bytes: rule.bytes as usize,
            ttl_ms: u64::from(rule.ttl_sec) * 1_000,
        };
    }

    /// It is kept on disk too from now on, as a channel of that app, or no longer. Returns whether
    /// it was so before.
    pub(in crate::shard) fn set_on_disk(&mut self, app: Option<&str>) -> bool {
        let was = self.on_disk.is_some();
        if was != app.is_some() {
            self.on_disk = app.map(Box::from);
        }
        was
    }

    /// The id of its app, if it is kept on disk.
    pub(in crate::shard) fn on_disk(&self) -> Option<&str> {
        self.on_disk.as_deref()
    }

    /// Whether a position is one of this numbering: of its epoch, or of an earlier one whose
    /// numbers it continues.
    pub(in crate::shard) fn is_position(&self, epoch: Option<Epoch>, seq: u64) -> bool {
        let holds = |it: &Position| epoch == Some(it.epoch) && seq <= it.seq;
        holds(&self.position()) || self.earlier.iter().any(holds)
    }

    /// The position of the newest publication.
    pub(in crate::shard) fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.last,
        }
    }

    /// The number of the first publication that is kept; of the next one, if none is.
    pub(in crate::shard) fn first(&self) -> u64 {
        self.last + 1 - self.kept.len() as u64
    }

    /// The number of the first publication that the disk is to keep.
    pub(in crate::shard) fn first_stored(&self) -> u64 {
        let oldest = (self.last + 1).saturating_sub(self.bounds.messages as u64);
        let evicted = self.evicted.first();
        evicted.map_or(self.first(), |first| first.max(oldest).min(self.first()))
    }

    /// What of it gives way next.
    pub(in crate::shard) fn stage(&self) -> Stage {
        match (self.kept.is_empty(), self.ids.len(), &self.on_disk) {
            (false, ..) => Stage::Publications,
            (true, 1.., _) => Stage::Ids,
            (true, 0, Some(_)) if self.last > 0 => Stage::StoredNumbering,
            (true, 0, _) => Stage::Numbering,
        }
    }

    /// When the oldest id that is known was given, on the monotonic clock.
    pub(in crate::shard) fn oldest_id_ms(&self) -> Option<u64> {
        self.ids.oldest_ms()
    }

    /// Whether the oldest id gives way to the next one.
    pub(in crate::shard) fn is_full_of_ids(&self) -> bool {
        self.ids.is_full()
    }

    /// How many ids are known, and the bytes of memory that they take.
    pub(in crate::shard) fn ids_size(&self) -> (usize, usize) {
        (self.ids.len(), self.ids.memory())
    }

    /// Bytes of frames that it may keep.
    pub(in crate::shard) fn bytes_max(&self) -> usize {
        self.bounds.bytes
    }

    /// How many publications are kept.
    pub(in crate::shard) fn len(&self) -> usize {
        self.kept.len()
    }

    /// How long a publication is kept, in milliseconds.
    pub(in crate::shard) fn ttl_ms(&self) -> u64 {
        self.bounds.ttl_ms
    }

    /// The position of a publication with that id of that peer, if there was one not before a
    /// time on the monotonic clock.
    pub(in crate::shard) fn find_id(
        &self,
        peer: &str,
        id: &str,
        since_ms: u64,
    ) -> Option<Position> {
        match planted(Bug::RepeatedIdPublished) {
            true => None,
            false => self.ids.find(peer, id, since_ms),
        }
    }

    /// Keeps a publication. Appends its frame with its number to `numbered`, and returns its
    /// position.
    pub(in crate::shard) fn append(
        &mut self,
        new: New<'_>,
        now: Now,
        numbered: &mut Vec<u8>,
    ) -> Position {
        self.last += 1;
        let begin = numbered.len();
        encode::extended(numbered, new.frame, None, Some(self.last));
        let kept = Kept {
            start: self.blocks.append(&numbered[begin..]),
            sender: self.senders.add(new.from),
            unix_ms: now.unix_ms,
            mono_ms: now.mono_ms as i64,
        };
        self.keep(kept, new, now.mono_ms)
    }

    fn keep(&mut self, kept: Kept, new: New<'_>, now_ms: u64) -> Position {
        self.kept.push_back(kept);
        let position = self.position();
        if let Some(id) = new.id {
            let name = (new.from.id.as_str(), id);
            self.ids.insert(name, position, now_ms);
        }
        self.trim(GOES_FOR_ONE_MAX);
        self.debug_check();
        position
    }

    /// The numbering goes on behind that number, and is the same as these earlier ones up to
    /// their positions.
    pub(in crate::shard) fn continue_from(&mut self, last: u64, earlier: Box<[Position]>) {
        (self.last, self.earlier) = (last, earlier);
    }

    /// The id of a publication from before the start of the process is known, although it is not
    /// kept any more.
    pub(in crate::shard) fn remember(
        &mut self,
        name: (&str, &str),
        seq: u64,
        unix_ms: u64,
        now: Now,
    ) {
        let epoch = self.epoch;
        let at_ms = now
            .mono_ms
            .saturating_sub(now.unix_ms.saturating_sub(unix_ms));
        let at_ms = at_ms.max(self.ids.newest_ms());
        self.ids.insert(name, Position { epoch, seq }, at_ms);
    }

    /// Keeps a publication from before the start of the process, behind those that were before.
    pub(in crate::shard) fn append_old(&mut self, new: New<'_>, unix_ms: u64, now: Now) {
        let age_ms = now.unix_ms.saturating_sub(unix_ms) as i64;
        let before_ms = self.kept.back().map_or(i64::MIN, |it| it.mono_ms);
        let mono_ms = (now.mono_ms as i64 - age_ms).max(before_ms);
        self.last += 1;
        let mut numbered = Vec::new();
        encode::extended(&mut numbered, new.frame, None, Some(self.last));
        let kept = Kept {
            start: self.blocks.append(&numbered),
            sender: self.senders.add(new.from),
            unix_ms,
            mono_ms,
        };
        let at_ms = u64::try_from(mono_ms).unwrap_or(0);
        self.keep(kept, new, at_ms.max(self.ids.newest_ms()));
    }

    /// Bytes of the frames that are kept.
    pub(in crate::shard) fn frame_bytes(&self) -> usize {
        let first = self.kept.front();
        first.map_or(0, |it| self.blocks.end().wrapping_sub(it.start) as usize)
    }

    fn is_too_much(&self) -> bool {
        let is_over = self.kept.len() > self.bounds.messages;
        self.kept.len() > 1 && (is_over || self.frame_bytes() > self.bounds.bytes)
    }

    /// What is beyond the bounds goes, the oldest first, at most so many. Returns how many.
    fn trim(&mut self, most: usize) -> usize {
        let mut count = 0;
        while count < most && self.is_too_much() {
            self.pop();
            count += 1;
        }
        count
    }

    /// The oldest publication goes, and those before it are not to be kept on disk any more.
    fn pop(&mut self) {
        self.drop_oldest();
        self.evicted = Evicted::default();
    }

    /// The oldest publication goes, for want of memory. Returns whether there was one.
    pub(in crate::shard) fn evict(&mut self) -> bool {
        let seq = self.first();
        let Some(bytes) = self.drop_oldest() else {
            return false;
        };
        self.evicted.add(seq, bytes, self.bounds.bytes);
        self.shrink();
        true
    }

    /// The oldest id is forgotten, for want of memory. Returns whether there was one.
    pub(in crate::shard) fn evict_id(&mut self) -> bool {
        self.ids.pop()
    }

    /// The oldest publication goes. Returns how many bytes its frame had.
    fn drop_oldest(&mut self) -> Option<usize> {
        let oldest = self.kept.pop_front()?;
        self.senders.remove(oldest.sender);
        let next = self.kept.front().map_or(self.blocks.end(), |it| it.start);
        self.blocks.drop_before(next);
        Some(next.wrapping_sub(oldest.start) as usize)
    }

    /// Gives back room that is not used.
    fn shrink(&mut self) {
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
            self.senders.clear();
            return;
        }
        if self.kept.capacity() > 4 * self.kept.len().max(KEPT_ROOM_MIN) {
            self.kept.shrink_to(2 * self.kept.len());
        }
        if self.senders.is_sparse() {
            let numbers = self.kept.iter_mut().map(|it| &mut it.sender);
            self.senders.compact(numbers);
        }
    }

    /// What is beyond the bounds or whose time is over goes, and ids that were given before
    /// `ids_since_ms` are forgotten: so many in all. Returns how many.
    pub(in crate::shard) fn expire(
        &mut self,
        now_ms: u64,
        ids_since_ms: u64,
        most: usize,
    ) -> usize {
        let mut count = self.trim(most);
        while count < most
            && let Some(oldest) = self.kept.front()
            && oldest.mono_ms + self.bounds.ttl_ms as i64 <= now_ms as i64
        {
            self.pop();
            count += 1;
        }
        self.shrink();
        count += self.ids.expire(ids_since_ms, most - count);
        self.debug_check();
        count
    }

    /// When something is next to go, on the monotonic clock, where ids are remembered so long.
    pub(in crate::shard) fn due_ms(&self, ids_ms: u64) -> Option<u64> {
        let oldest = self.kept.front();
        let end_ms = |it: &Kept| it.mono_ms + self.bounds.ttl_ms as i64;
        let message = oldest.map(|it| u64::try_from(end_ms(it)).unwrap_or(0));
        let id = self.ids.oldest_ms().map(|it| it + ids_ms + 1);
        message.into_iter().chain(id).min()
    }

    /// All publications go, and a new numbering begins. Returns how many.
    pub(in crate::shard) fn forget(&mut self, epoch: Epoch) -> usize {
        let count = self.kept.len();
        self.kept = VecDeque::new();
        self.senders.clear();
        self.blocks.drop_before(self.blocks.end());
        self.epoch = epoch;
        self.last = 0;
        self.earlier = Box::default();
        self.unstored = (0, 0);
        self.evicted = Evicted::default();
        self.debug_check();
        count
    }

    /// How a subscriber goes on that has what it says, within limits.
    pub(in crate::shard) fn resume(
        &mut self,
        since: Since,
        with_metadata: bool,
        limits: &HistorySettings,
    ) -> Resumed {
        let position = Some(self.position());
        let most = limits.replay_messages as usize;
        let first = match since {
            Since::Now => return Resumed::at(position),
            Since::Last(count) => {
                let count = most.min(count as usize).min(self.kept.len());
                self.fitting(self.kept.len() - count, with_metadata, limits.replay_bytes)
            }
            Since::After(epoch, seq) => {
                let (mut next, first) = (seq.saturating_add(1), self.first());
                if planted(Bug::EvictionUntold) {
                    next = next.max(first);
                }
                let is_known =
                    self.is_position(epoch, seq) && (first..=self.last + 1).contains(&next);
                let from = next.wrapping_sub(first) as usize;
                let is_kept = is_known
                    && self.kept.len() - from <= most
                    && self.fitting(from, with_metadata, limits.replay_bytes) == from;
                if !is_kept {
                    return Resumed::lost(position);
                }
                from + usize::from(planted(Bug::ReplayOffByOne) && from < self.kept.len())
            }
        };
        let count = (self.kept.len() - first) as u32;
        Resumed {
            position,
            recovered: Some(true),
            replay: Replay::new(self.parts(first, with_metadata), count),
        }
    }

    /// From which place on, that or a later one, everything that is kept has at most so many
    /// bytes.
    fn fitting(&self, first: usize, with_metadata: bool, bytes_max: usize) -> usize {
        let end = self.blocks.end();
        let is_fitting = |it: &Kept| end.wrapping_sub(it.start) as usize <= bytes_max;
        let first = first.max(self.kept.partition_point(|it| !is_fitting(it)));
        if !with_metadata {
            return first;
        }
        let mut bytes = 0;
        for place in (first..self.kept.len()).rev() {
            bytes += self.frame(place).len() + METADATA_BYTES;
            bytes += self.metadata(place).map_or(0, str::len);
            if bytes > bytes_max {
                return place + 1;
            }
        }
        first
    }

    /// Everything that is kept from a place on, as a subscriber gets it.
    fn parts(&mut self, first: usize, with_metadata: bool) -> VecDeque<Part> {
        let with_metadata =
            with_metadata && (first..self.kept.len()).any(|it| self.metadata(it).is_some());
        let Some(start) = self.kept.get(first).map(|it| it.start) else {
            return VecDeque::new();
        };
        if !with_metadata {
            return self.blocks.parts(start, self.blocks.end());
        }
        let (mut parts, mut rendered) = (VecDeque::new(), Vec::new());
        for place in first..self.kept.len() {
            let (frame, seq) = (self.frame(place), self.first() + place as u64);
            match self.metadata(place) {
                None => rendered.extend_from_slice(frame),
                metadata => {
                    let message = encode::unnumbered(frame, seq);
                    encode::message_with(&mut rendered, message, metadata, Some(seq));
                }
            }
            if rendered.len() >= RENDERED_BYTES || place + 1 == self.kept.len() {
                parts.push_back((rendered[..].into(), 0..rendered.len()));
                rendered.clear();
            }
        }
        parts
    }

    fn frame(&self, place: usize) -> &[u8] {
        let Some(it) = self.kept.get(place) else {
            return &[];
        };
        let end = self.kept.get(place + 1);
        let end = end.map_or(self.blocks.end(), |next| next.start);
        let bytes = self.blocks.at(it.start);
        bytes
            .get(..end.wrapping_sub(it.start) as usize)
            .unwrap_or_default()
    }

    fn metadata(&self, place: usize) -> Option<&str> {
        let sender = self.senders.get(self.kept.get(place)?.sender)?;
        sender.metadata.as_deref()
    }

    /// The publication of a number, if it is kept.
    pub(in crate::shard) fn shown(&self, seq: u64) -> Option<Shown<'_>> {
        let place = usize::try_from(seq.checked_sub(self.first())?).ok()?;
        let it = self.kept.get(place)?;
        let sender = self.senders.get(it.sender)?;
        Some(Shown {
            seq,
            unix_ms: it.unix_ms,
            message: encode::unnumbered(self.frame(place), seq),
            from: sender.id.json(),
            metadata: sender.metadata.as_deref(),
        })
    }

    /// Bytes of memory that it takes.
    pub(in crate::shard) fn memory(&self) -> usize {
        let kept = self.kept.capacity() * size_of::<Kept>();
        let parts = self.blocks.memory() + self.senders.memory() + self.ids.memory();
        let parts = parts + size_of_val(&*self.earlier);
        size_of::<Self>() + kept + parts
    }

    #[inline]
    fn debug_check(&self) {
        let is_small = self.kept.len() <= 64 && self.ids.len() <= 64;
        if cfg!(debug_assertions) && is_small {
            self.check();
        }
    }

    /// Panics unless what is said at the top of this file is true.
    pub(in crate::shard) fn check(&self) {
        self.blocks.check();
        self.ids.check();
        self.senders.check(self.kept.iter().map(|it| it.sender));
        assert!(self.kept.len() as u64 <= self.last, "numbers begin with 1");
        assert!(self.kept.iter().is_sorted_by_key(|it| it.mono_ms));
        assert!(
            self.first_stored() <= self.first(),
            "more in memory than on disk"
        );
        for place in 0..self.kept.len() {
            let ends = format!(",\"seq\":{}}}", self.first() + place as u64);
            assert!(self.frame(place).ends_with(ends.as_bytes()), "a number");
        }
    }
}

/// Bytes of the member `fromMetadata` beside its value, and of a longer header.
const METADATA_BYTES: usize = r#","fromMetadata":"#.len() + 6;

mod moved;
mod stored;
#[cfg(test)]
mod tests;
