//! Channels of which something could not be written: what the disk lacks of each is told by whoever
//! still has it, when there is room again, so that no gap is left.

use ahash::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::epoch::Epoch;
use crate::proto::records::{self, Record};

/// What the disk lacks of a channel. It does not depend on the order in which that is found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// That the channel was forgotten: what is there of it is over.
    pub is_forgotten: bool,
    /// Of each epoch what is not there.
    from: SmallVec<[(Epoch, From); 1]>,
}

/// What the disk lacks of a numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From {
    /// The first number that is not there.
    pub seq: u64,
    /// Whether it is not said either that what comes before is over.
    pub is_numbered: bool,
}

impl Unwritten {
    /// Returns what is not there of that epoch; `None`: all of it is.
    #[must_use]
    pub fn from(&self, epoch: &str) -> Option<From> {
        let mut from = self.from.iter();
        from.find(|(name, _)| name.as_str() == epoch)
            .map(|(_, from)| *from)
    }

    /// Something of an epoch is not there.
    fn note(&mut self, epoch: Epoch, from: From) {
        match self.from.iter_mut().find(|(name, _)| *name == epoch) {
            Some((_, known)) if known.seq < from.seq => {}
            Some((_, known)) if known.seq == from.seq => known.is_numbered |= from.is_numbered,
            Some((_, known)) => *known = from,
            None => self.from.push((epoch, from)),
        }
    }

    fn merge(&mut self, other: Self) {
        self.is_forgotten |= other.is_forgotten;
        for (epoch, from) in other.from {
            self.note(epoch, from);
        }
    }
}

/// See the top of this file.
#[derive(Debug)]
pub(super) struct Behind {
    channels: HashMap<Box<[u8]>, Unwritten, RandomState>,
    /// Those that are being told, the next one last.
    told: Vec<(Box<[u8]>, Unwritten)>,
}

impl Behind {
    /// Begins with none. The keys of the hash are the process's own.
    #[must_use]
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            channels: HashMap::with_hasher(hasher),
            told: Vec::new(),
        }
    }

    /// How many channels there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.channels.len() + self.told.len()
    }

    /// A batch is not in the file, and nothing of it will be.
    pub(super) fn add(&mut self, batch: &[u8]) {
        for payload in records::payloads(batch) {
            let Some(key) = records::key_of(payload) else {
                continue;
            };
            let mut unwritten = Unwritten::default();
            if let Some(place) = records::place_of(payload, key) {
                let seq = place.seq;
                let is_numbered = false;
                unwritten.note(Epoch::new(place.epoch), From { seq, is_numbered });
            } else {
                match Record::read(payload) {
                    Some(Record::Numbering(it)) => {
                        let seq = it.last.saturating_add(1);
                        let is_numbered = true;
                        let epoch = Epoch::new(it.epoch.as_bytes());
                        unwritten.note(epoch, From { seq, is_numbered });
                    }
                    Some(Record::Forgotten(_)) => unwritten.is_forgotten = true,
                    Some(Record::Publication(_) | Record::End) | None => continue,
                }
            }
            self.put(key.bytes(), unwritten);
        }
    }

    /// A channel is still behind, from that number of an epoch on.
    pub(super) fn put_back(&mut self, key: &[u8], epoch: &str, seq: u64) {
        let mut unwritten = Unwritten::default();
        let is_numbered = false;
        unwritten.note(Epoch::new(epoch.as_bytes()), From { seq, is_numbered });
        self.put(key, unwritten);
    }

    fn put(&mut self, key: &[u8], unwritten: Unwritten) {
        match self.channels.get_mut(key) {
            Some(known) => known.merge(unwritten),
            None => drop(self.channels.insert(key.into(), unwritten)),
        }
    }

    /// Takes a channel, to be told what it lacks.
    pub(super) fn pop(&mut self) -> Option<(Box<[u8]>, Unwritten)> {
        if self.told.is_empty() {
            self.told.extend(self.channels.drain());
        }
        let (key, mut unwritten) = self.told.pop()?;
        if let Some(later) = self.channels.remove(&key) {
            unwritten.merge(later);
        }
        Some((key, unwritten))
    }
}
