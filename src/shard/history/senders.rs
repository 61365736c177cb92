//! Who has sent what a channel keeps: each sender once, however many publications are its own.

use ahash::RandomState;
use hashbrown::HashTable;

use crate::domain::peer::{PeerInfo, SharedPeer};

/// Bytes of a sender, beside its id and its metadata.
const SENDER_BYTES: usize = 128;
/// So many senders are few enough to leave their room as it is.
const SPARSE_MIN: usize = 32;

/// See the top of this file.
#[derive(Debug)]
pub(in crate::shard) struct Senders {
    slots: Vec<Option<Sender>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: RandomState,
    /// The one that was named last.
    last: u32,
    peer_bytes: usize,
}

#[derive(Debug)]
struct Sender {
    peer: SharedPeer,
    /// How many publications are its own.
    count: u32,
}

impl Senders {
    /// Nobody.
    pub(in crate::shard) fn new(hasher: RandomState) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher,
            last: 0,
            peer_bytes: 0,
        }
    }

    /// Notes another publication of a sender. Returns by what number the sender is known.
    pub(in crate::shard) fn add(&mut self, peer: &SharedPeer) -> u32 {
        if let Some(Some(last)) = self.slots.get_mut(self.last as usize)
            && SharedPeer::ptr_eq(&last.peer, peer)
        {
            last.count += 1;
            return self.last;
        }
        let hash = self.hasher.hash_one(peer.id.as_str());
        let slots = &self.slots;
        let is_it = |slot: &u32| {
            let sender = slots[*slot as usize].as_ref();
            sender.is_some_and(|it| is_same(&it.peer, peer))
        };
        let known = self.index.find(hash, is_it).copied();
        self.last = known.unwrap_or_else(|| self.insert(hash, peer.clone()));
        self.add_again(self.last);
        self.last
    }

    fn insert(&mut self, hash: u64, peer: SharedPeer) -> u32 {
        self.peer_bytes += bytes(&peer);
        let sender = Some(Sender { peer, count: 0 });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = sender;
                slot
            }
            None => {
                self.slots.push(sender);
                (self.slots.len() - 1) as u32
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |slot| {
            let sender = slots[*slot as usize].as_ref();
            sender.map_or(0, |it| hasher.hash_one(it.peer.id.as_str()))
        });
        slot
    }

    /// A publication of a sender is kept no longer.
    pub(in crate::shard) fn remove(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        let Some(sender) = slot else {
            return;
        };
        sender.count -= 1;
        if sender.count > 0 {
            return;
        }
        self.peer_bytes -= bytes(&sender.peer);
        let hash = self.hasher.hash_one(sender.peer.id.as_str());
        *slot = None;
        self.free.push(number);
        if let Ok(entry) = self.index.find_entry(hash, |it| *it == number) {
            entry.remove();
        }
    }

    /// Whether most of the room is that of senders who are not known any more.
    pub(in crate::shard) fn is_sparse(&self) -> bool {
        self.slots.len() > SPARSE_MIN && self.slots.len() > 4 * self.index.len()
    }

    /// Gives that room back. These are the numbers of all publications, which change.
    pub(in crate::shard) fn compact<'a>(&mut self, numbers: impl Iterator<Item = &'a mut u32>) {
        let none = Self::new(self.hasher.clone());
        let mut before = std::mem::replace(self, none);
        let mut known: Vec<Option<u32>> = vec![None; before.slots.len()];
        for number in numbers {
            let at = *number as usize;
            if let Some(Some(sender)) = before.slots.get_mut(at).map(Option::take) {
                known[at] = Some(self.add(&sender.peer));
            } else if let Some(again) = known[at] {
                self.add_again(again);
            }
            *number = known[at].unwrap_or_default();
        }
    }

    fn add_again(&mut self, number: u32) {
        if let Some(Some(sender)) = self.slots.get_mut(number as usize) {
            sender.count += 1;
        }
    }

    /// Nothing is kept any longer.
    pub(in crate::shard) fn clear(&mut self) {
        *self = Self::new(self.hasher.clone());
    }

    /// The keys of its hashes.
    pub(in crate::shard) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// The sender of a number.
    pub(in crate::shard) fn get(&self, number: u32) -> Option<&PeerInfo> {
        let sender = self.slots.get(number as usize)?.as_ref()?;
        Some(&sender.peer)
    }

    /// Bytes of memory that it takes.
    pub(in crate::shard) fn memory(&self) -> usize {
        let slots = self.slots.capacity() * size_of::<Option<Sender>>();
        let numbers = (self.free.capacity() + self.index.capacity()) * size_of::<u32>();
        self.peer_bytes + slots + numbers
    }

    /// Panics unless each sender has as many publications as that, by number.
    pub(in crate::shard) fn check(&self, numbers: impl Iterator<Item = u32>) {
        let mut counts = vec![0; self.slots.len()];
        numbers.for_each(|number| counts[number as usize] += 1);
        for (slot, count) in self.slots.iter().zip(counts) {
            assert_eq!(slot.as_ref().map_or(0, |it| it.count), count, "a sender's");
        }
        let peers = self.slots.iter().flatten().map(|it| bytes(&it.peer));
        assert_eq!(peers.sum::<usize>(), self.peer_bytes, "bytes of senders");
        assert_eq!(self.index.len() + self.free.len(), self.slots.len());
    }
}

fn is_same(one: &SharedPeer, other: &SharedPeer) -> bool {
    SharedPeer::ptr_eq(one, other) || one.id == other.id && one.metadata == other.metadata
}

fn bytes(peer: &PeerInfo) -> usize {
    let metadata = peer.metadata.as_ref().map_or(0, |it| it.len());
    SENDER_BYTES + peer.id.json().len() + metadata
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::peer::JsonName;

    fn peer(id: &str, metadata: Option<&str>) -> SharedPeer {
        Arc::new(PeerInfo {
            id: JsonName::new(id),
            metadata: metadata.map(Box::from),
        })
    }

    #[test]
    fn a_sender_is_kept_once_and_as_long_as_one_of_its_publications() {
        let mut senders = Senders::new(RandomState::with_seeds(1, 2, 3, 4));
        let alice = senders.add(&peer("alice", None));
        assert_eq!(senders.add(&peer("alice", None)), alice);
        let other_tab = senders.add(&peer("alice", Some("{}")));
        assert_ne!(other_tab, alice);
        let bob = senders.add(&peer("bob", None));
        senders.check([alice, alice, other_tab, bob].into_iter());
        senders.remove(alice);
        assert_eq!(senders.get(alice).map(|it| it.id.as_str()), Some("alice"));
        senders.remove(alice);
        assert!(senders.get(alice).is_none());
        assert_eq!(senders.add(&peer("carol", None)), alice);
        senders.check([alice, other_tab, bob].into_iter());
        senders.clear();
        senders.check([].into_iter());
        assert_eq!(senders.memory(), 0);
    }

    #[test]
    fn room_of_who_is_gone_is_given_back() {
        let mut senders = Senders::new(RandomState::with_seeds(1, 2, 3, 4));
        let add = |at: u32| senders.add(&peer(&format!("user-{}", at % 100), None));
        let mut numbers: Vec<u32> = (0..400).map(add).collect();
        for number in numbers.drain(..395) {
            senders.remove(number);
        }
        assert!(senders.is_sparse());
        let before = senders.memory();
        senders.compact(numbers.iter_mut());
        senders.check(numbers.iter().copied());
        assert!(!senders.is_sparse() && senders.memory() < before / 2);
        for (at, number) in (395..).zip(&numbers) {
            let id = senders.get(*number).map(|it| it.id.as_str().to_owned());
            assert_eq!(id, Some(format!("user-{}", at % 100)));
        }
    }
}
