//! What segments say of channels, read in order: a ring for each, without gaps.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

use super::epoch::Epoch;
use super::index::{Graves, Held, Segment, expires_ms};
use super::open::Options;
use crate::proto::records::{self, ChannelKey, Numbering, Place, Publication, Record};

/// Ids that a channel remembers at most beside those of what is kept.
const IDS_MAX: usize = 65_536;
/// Earlier epochs that a channel remembers: each stands for an end that was no orderly one.
const EARLIER_MAX: usize = 16;

/// How much a channel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Publications.
    pub messages: usize,
    /// Bytes of their frames.
    pub bytes: usize,
    /// How long one is kept, in seconds.
    pub ttl_sec: u32,
}

/// A channel as the segments have it.
#[derive(Debug)]
pub struct Rebuilt {
    /// The app's id.
    pub app: Box<str>,
    /// The channel's name.
    pub channel: Box<str>,
    /// Its epoch from now on.
    pub epoch: Epoch,
    /// Earlier epochs of the same numbering, and up to which number a position in each holds; 0:
    /// none does.
    pub earlier: Vec<(Epoch, u64)>,
    /// The number of the last publication.
    pub last: u64,
    /// What is kept, the oldest one first, without gaps. There is at least one.
    pub items: VecDeque<Item>,
    /// Ids of publications before those, which may be sent again.
    pub ids: VecDeque<Id>,
}

/// What is remembered of a publication that is not kept any more.
#[derive(Debug)]
pub struct Id {
    /// Who published it.
    pub from: Box<str>,
    /// What the publisher calls it.
    pub id: Box<str>,
    /// Its number.
    pub seq: u64,
    /// When it was published, as Unix time in milliseconds.
    pub time_ms: u64,
}

/// A publication that was kept.
#[derive(Debug)]
pub struct Item {
    /// Its number.
    pub seq: u64,
    /// When it was published, as Unix time in milliseconds.
    pub time_ms: u64,
    ttl_sec: u32,
    frame_bytes: u32,
    payload: Box<[u8]>,
}

impl Item {
    /// Returns the payload of its record.
    #[must_use]
    pub fn into_record(self) -> Box<[u8]> {
        self.payload
    }

    /// Returns its id; `None` if it has none.
    fn id(&self) -> Option<Id> {
        let it = self.publication().filter(|it| !it.id.is_empty())?;
        Some(Id {
            from: it.from.into(),
            id: it.id.into(),
            seq: it.seq,
            time_ms: it.time_ms,
        })
    }

    /// Returns the publication as it was written; `None` if it is none.
    #[must_use]
    pub fn publication(&self) -> Option<Publication<'_>> {
        match Record::read(&self.payload)? {
            Record::Publication(it) => Some(it),
            _ => None,
        }
    }
}

/// A channel while segments are read.
#[derive(Debug)]
struct Found {
    held: Held,
    /// `None`: it has no history any more, or its rule says so.
    bounds: Option<Bounds>,
    numbered: Option<Numbered>,
    /// Which line of segments had its last record.
    line: usize,
}

#[derive(Debug)]
struct Numbered {
    epoch: Epoch,
    earlier: Vec<(Epoch, u64)>,
    last: u64,
    items: VecDeque<Item>,
    ids: VecDeque<Id>,
    bytes: usize,
    /// Numbers were given twice: nothing of it can be trusted.
    is_ambiguous: bool,
}

/// Returns what a channel keeps, if it has history on disk, by the app's id and its name.
pub(super) type BoundsOf<'r> = dyn Fn(&str, &str) -> Option<Bounds> + 'r;

/// See the top of this file.
pub(super) struct Rebuild<'r> {
    channels: HashMap<Vec<u8>, Found, RandomState>,
    graves: Graves,
    bounds: &'r BoundsOf<'r>,
    /// Unix time in milliseconds.
    now_ms: u64,
    /// How long an id is remembered, in milliseconds.
    ids_ms: u64,
}

/// What can be believed of a channel, by where its last record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing came after it.
    Whole,
    /// What came after it was lost with the end of the process. Who had nothing of that has missed
    /// nothing.
    Torn,
    /// What came after it was there, and is damaged: everybody has missed it.
    Damaged,
}

/// What a channel is after all segments have been read.
pub(super) struct Outcome {
    pub(super) key: Box<[u8]>,
    pub(super) held: Held,
    /// `None`: there is nothing to go on with.
    pub(super) rebuilt: Option<Rebuilt>,
    /// The numbering goes on in another epoch, which must be written.
    pub(super) is_renamed: bool,
}

impl<'r> Rebuild<'r> {
    /// Begins with nothing.
    #[must_use]
    pub(super) fn new(options: &Options<'r>) -> Self {
        Self {
            channels: HashMap::with_hasher(options.hasher.clone()),
            graves: Graves::default(),
            bounds: options.bounds,
            now_ms: options.unix_ms,
            ids_ms: options.ids_ms,
        }
    }

    /// Takes in a record of a segment of that line. Returns whether it is one.
    pub(super) fn record(&mut self, payload: &[u8], at: &Arc<Segment>, line: usize) -> bool {
        let Some(key) = records::key_of(payload) else {
            return false;
        };
        if let Some(place) = records::place_of(payload, key) {
            // Numbers begin with 1.
            if place.seq == 0 {
                return false;
            }
            let since = expires_ms(place.time_ms, place.ttl_sec);
            at.keep_until(since.saturating_sub(self.now_ms));
            let repeated_ms = place.time_ms.saturating_add(self.ids_ms);
            if place.has_id {
                at.keep_ids_until(repeated_ms.saturating_sub(self.now_ms));
            }
            let ids_since_ms = self.ids_since_ms();
            let Some((found, graves)) = self.found(key, line) else {
                return false;
            };
            found.held.publication(&place, at, graves);
            if let Some(bounds) = found.bounds {
                let known = &mut found.numbered;
                let numbered = Numbered::publication(known, &place, payload, ids_since_ms);
                numbered.trim(place.first, &bounds, ids_since_ms);
            }
            return true;
        }
        match Record::read(payload) {
            Some(Record::Numbering(it)) => {
                let ids_since_ms = self.ids_since_ms();
                let Some((found, graves)) = self.found(key, line) else {
                    return false;
                };
                found.held.numbering(&it, at, graves);
                if found.bounds.is_some() {
                    Numbered::numbering(&mut found.numbered, &it, ids_since_ms);
                }
                true
            }
            Some(Record::Forgotten(_)) => {
                let Some((found, graves)) = self.found(key, line) else {
                    return false;
                };
                found.held.forgotten(at, graves);
                found.numbered = None;
                true
            }
            Some(Record::Publication(_) | Record::End) | None => false,
        }
    }

    /// Publications from then on may be sent again, as Unix time in milliseconds.
    fn ids_since_ms(&self) -> u64 {
        self.now_ms.saturating_sub(self.ids_ms)
    }

    /// Returns what is known of the channel; `None` if its name is no text.
    fn found(&mut self, key: ChannelKey<'_>, line: usize) -> Option<(&mut Found, &mut Graves)> {
        let found = match self.channels.entry_ref(key.bytes()) {
            EntryRef::Occupied(entry) => entry.into_mut(),
            EntryRef::Vacant(entry) => {
                let (app, channel) = key.texts()?;
                entry.insert(Found {
                    held: Held::default(),
                    bounds: (self.bounds)(app, channel),
                    numbered: None,
                    line,
                })
            }
        };
        found.line = line;
        Some((found, &mut self.graves))
    }

    /// Returns what became of the channels, by what can be believed of each line; `draw` draws an
    /// epoch.
    pub(super) fn finish(
        self,
        trust: &[Trust],
        draw: &dyn Fn() -> Epoch,
    ) -> (Vec<Outcome>, Graves) {
        let (now_ms, ids_since_ms) = (self.now_ms, self.ids_since_ms());
        let outcome = |(key, found): (Vec<u8>, Found)| {
            let trust = trust.get(found.line).copied().unwrap_or(Trust::Damaged);
            let known = found.bounds.zip(found.numbered);
            let sound = known.filter(|(_, it)| !it.is_ambiguous);
            let kept = sound.and_then(|(bounds, it)| it.expire(&bounds, now_ms, ids_since_ms));
            let mut is_renamed = false;
            let rebuilt = kept.and_then(|it| {
                is_renamed = trust != Trust::Whole;
                let renamed = is_renamed.then(|| (draw(), trust));
                it.rebuilt(ChannelKey::of(&key), renamed)
            });
            Outcome {
                held: found.held,
                rebuilt,
                is_renamed,
                key: key.into(),
            }
        };
        (
            self.channels.into_iter().map(outcome).collect(),
            self.graves,
        )
    }
}

impl Numbered {
    fn begin(epoch: Epoch, last: u64) -> Self {
        Self {
            epoch,
            earlier: Vec::new(),
            last,
            items: VecDeque::new(),
            ids: VecDeque::new(),
            bytes: 0,
            is_ambiguous: false,
        }
    }

    fn publication<'k>(
        known: &'k mut Option<Self>,
        it: &Place<'_>,
        payload: &[u8],
        ids_since_ms: u64,
    ) -> &'k mut Self {
        let before = it.seq.saturating_sub(1);
        if !known.as_ref().is_some_and(|known| known.epoch.is(it.epoch)) {
            *known = None;
        }
        let numbered = known.get_or_insert_with(|| Self::begin(Epoch::new(it.epoch), before));
        if numbered.has(it, payload) {
            return numbered;
        }
        if numbered.last != before {
            numbered.is_ambiguous |= it.seq <= numbered.last;
            numbered.clear(ids_since_ms);
        }
        numbered.last = it.seq;
        numbered.bytes += it.frame_bytes;
        numbered.items.push_back(Item {
            seq: it.seq,
            time_ms: it.time_ms,
            ttl_sec: it.ttl_sec,
            // A payload is shorter than 4 GB.
            frame_bytes: it.frame_bytes as u32,
            payload: payload.into(),
        });
        numbered
    }

    /// Whether that publication is there already: it was told again, because nobody knew whether
    /// it had become durable.
    fn has(&self, it: &Place<'_>, payload: &[u8]) -> bool {
        let Some(first) = self.items.front().map(|item| item.seq) else {
            return false;
        };
        let place = it.seq.checked_sub(first).map(|place| place as usize);
        let Some(known) = place.and_then(|place| self.items.get(place)) else {
            return false;
        };
        let Some(Record::Publication(again)) = Record::read(payload) else {
            return false;
        };
        // What was kept beside it, and its id, may be forgotten by now.
        let told = |it: &Publication<'_>| (it.time_ms, it.from.to_owned(), it.frame.to_vec());
        let known = known.publication();
        known.is_some_and(|known| told(&known) == told(&again))
    }

    /// Lets those go that are too much, or before the first that was kept.
    fn trim(&mut self, first: u64, bounds: &Bounds, ids_since_ms: u64) {
        let is_over = |items: &VecDeque<Item>, bytes| {
            items.len() > bounds.messages
                || bytes > bounds.bytes
                || items.front().is_some_and(|item| item.seq < first)
        };
        while is_over(&self.items, self.bytes) {
            self.drop_oldest(ids_since_ms);
        }
    }

    fn numbering(known: &mut Option<Self>, it: &Numbering<'_>, ids_since_ms: u64) {
        let epoch = Epoch::new(it.epoch.as_bytes());
        let goes_on = |numbered: &&mut Self| {
            let mut earlier = it.earlier.iter();
            numbered.epoch == epoch || earlier.any(|(name, _)| numbered.epoch.is(name.as_bytes()))
        };
        let numbered = match known.as_mut().filter(goes_on) {
            Some(_) => known.as_mut(),
            None => None,
        };
        let numbered = match numbered {
            Some(numbered) => numbered,
            None => known.insert(Self::begin(epoch.clone(), it.last)),
        };
        if numbered.last != it.last {
            numbered.is_ambiguous |= it.last < numbered.last;
            numbered.clear(ids_since_ms);
        }
        if numbered.epoch != epoch || !it.earlier.is_empty() {
            let earlier = it.earlier.iter();
            let copy = |(name, last): &(&str, u64)| (Epoch::new(name.as_bytes()), *last);
            numbered.earlier = earlier.map(copy).collect();
        }
        (numbered.epoch, numbered.last) = (epoch, it.last);
    }

    /// Something is missing behind what is kept: of that only the ids are.
    fn clear(&mut self, ids_since_ms: u64) {
        while !self.items.is_empty() {
            self.drop_oldest(ids_since_ms);
        }
    }

    fn drop_oldest(&mut self, ids_since_ms: u64) {
        let Some(item) = self.items.pop_front() else {
            return;
        };
        self.bytes -= item.frame_bytes as usize;
        if item.time_ms >= ids_since_ms
            && let Some(id) = item.id()
        {
            if self.ids.len() == IDS_MAX {
                self.ids.pop_front();
            }
            self.ids.push_back(id);
        }
    }

    /// Lets those go whose time is over. `None`: nothing is left.
    fn expire(mut self, bounds: &Bounds, now_ms: u64, ids_since_ms: u64) -> Option<Self> {
        let is_over = |item: &Item| {
            let ttl_sec = item.ttl_sec.min(bounds.ttl_sec);
            expires_ms(item.time_ms, ttl_sec) <= now_ms
        };
        while self.items.front().is_some_and(is_over) {
            self.drop_oldest(ids_since_ms);
        }
        (!self.items.is_empty()).then_some(self)
    }

    /// The same for its owner, in another epoch if one is given.
    fn rebuilt(mut self, key: ChannelKey<'_>, renamed: Option<(Epoch, Trust)>) -> Option<Rebuilt> {
        let (app, channel) = key.texts()?;
        let first = self.items.front().map_or(u64::MAX, |item| item.seq);
        // Of others no position can be gone on from.
        self.earlier
            .retain(|(_, last)| last.saturating_add(1) >= first);
        if let Some((epoch, trust)) = renamed {
            let known = std::mem::replace(&mut self.epoch, epoch);
            let is_damaged = trust == Trust::Damaged;
            if is_damaged {
                self.earlier.clear();
            }
            // It is the same numbering, although no position of it holds.
            let last = if is_damaged { 0 } else { self.last };
            self.earlier.push((known, last));
        }
        let surplus = self.earlier.len().saturating_sub(EARLIER_MAX);
        self.earlier.drain(..surplus);
        Some(Rebuilt {
            app: app.into(),
            channel: channel.into(),
            epoch: self.epoch,
            earlier: self.earlier,
            last: self.last,
            items: self.items,
            ids: self.ids,
        })
    }
}
