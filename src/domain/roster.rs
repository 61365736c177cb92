//! Who is in one channel, as its owner shard knows it: peers, and the connections that make
//! each of them present.
//!
//! The unit of presence is the peer: it joins with its first connection and leaves with its
//! last. A peer's connections stand in the order in which they joined; the first of them
//! decides the metadata that others see.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

use ahash::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::domain::peer::SharedPeer;
use crate::domain::peer_order::PeerOrder;
use crate::domain::tabs::Tabs;
use crate::ids::ConnectionRef;

/// What a connection wants of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Whether it gets presence: it had the `presence` action when it subscribed.
    pub presence: bool,
    /// Whether its messages carry `fromMetadata`.
    pub sender_metadata: bool,
}

/// One connection of a present peer.
#[derive(Debug)]
pub struct Tab {
    /// What it wants; `None` until its first join has been completed.
    pub interest: Option<Interest>,
    /// The number of its join that is under way, or 0.
    pub joining: u32,
    /// The connection's own view of its peer: tabs of one peer may carry different tokens.
    peer: SharedPeer,
}

/// A connection that was removed.
#[derive(Debug)]
pub struct Removed {
    /// What was known of it.
    pub tab: Tab,
    /// Whether its peer is gone with it.
    pub peer_left: bool,
}

/// A peer as the key of tables: found by its id.
#[derive(Debug)]
pub(in crate::domain) struct ById(pub SharedPeer);

/// A peer that is there: it has a connection.
#[derive(Debug)]
struct Peer {
    tabs: Tabs<Tab>,
    /// Its place in the list that [`Roster::list`] made last.
    place: u32,
}

impl Peer {
    /// What others see of it: as its first connection has it.
    fn seen(&self) -> Option<&SharedPeer> {
        self.tabs.first().map(|(_, tab)| &tab.peer)
    }

    fn id(&self) -> &str {
        self.seen().map_or("", |peer| peer.id.as_str())
    }
}

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.id.as_str()
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.as_str().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

/// The peers of one channel.
#[derive(Debug)]
pub struct Roster {
    /// By the ids of their peers.
    peers: HashTable<Peer>,
    hasher: RandomState,
    order: PeerOrder,
}

/// What a connection that joins has been so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing, and neither has any other of its peer.
    NoPeer,
    /// Nothing, but its peer is there.
    NoTab,
    /// It is there.
    There,
    /// It is there, and the join of that number is under way: it stays so.
    Joining(u32),
}

impl Roster {
    /// An empty roster, hashed with the process's keys.
    #[must_use]
    pub fn new(hasher: RandomState) -> Self {
        Self {
            peers: HashTable::new(),
            hasher,
            order: PeerOrder::default(),
        }
    }

    /// The process's hash keys.
    #[must_use]
    pub fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// A connection's join of that number begins, unless another is under way.
    pub fn join(&mut self, peer: &SharedPeer, connection: ConnectionRef, number: u32) -> Before {
        let tab = || Tab {
            interest: None,
            joining: number,
            peer: peer.clone(),
        };
        let hasher = &self.hasher;
        let id = peer.id.as_str();
        let (same, rehash) = (
            |it: &Peer| it.id() == id,
            |it: &Peer| hasher.hash_one(it.id()),
        );
        match self.peers.entry(hasher.hash_one(id), same, rehash) {
            Entry::Occupied(mut entry) => {
                let tabs = &mut entry.get_mut().tabs;
                match tabs.insert(connection, tab, hasher) {
                    None => Before::NoTab,
                    Some(known) if known.joining != 0 => Before::Joining(known.joining),
                    Some(known) => {
                        known.joining = number;
                        Before::There
                    }
                }
            }
            Entry::Vacant(entry) => {
                entry.insert(Peer {
                    tabs: Tabs::new(connection, tab()),
                    place: u32::MAX,
                });
                self.order.set(peer);
                self.adapt_order();
                Before::NoPeer
            }
        }
    }

    /// Removes a connection of the peer, if it is there.
    pub fn remove(&mut self, peer_id: &str, connection: ConnectionRef) -> Option<Removed> {
        let Self {
            peers,
            hasher,
            order,
        } = self;
        let same = |it: &Peer| it.id() == peer_id;
        let mut entry = peers.find_entry(hasher.hash_one(peer_id), same).ok()?;
        let tabs = &mut entry.get_mut().tabs;
        let tab = tabs.remove(connection)?;
        if let Some((_, first)) = tabs.first() {
            order.set(&first.peer);
            return Some(Removed {
                tab,
                peer_left: false,
            });
        }
        entry.remove();
        if peers.len() * 4 < peers.capacity() {
            peers.shrink_to(peers.len() * 2, |it| hasher.hash_one(it.id()));
        }
        order.remove(peer_id);
        self.adapt_order();
        Some(Removed {
            tab,
            peer_left: true,
        })
    }

    fn adapt_order(&mut self) {
        let Self { peers, order, .. } = self;
        order.adapt(peers.len(), || peers.iter().filter_map(Peer::seen));
    }

    fn find(&self, peer_id: &str) -> Option<&Peer> {
        let hash = self.hasher.hash_one(peer_id);
        self.peers.find(hash, |it| it.id() == peer_id)
    }

    /// Returns what is known of a connection of the peer.
    pub fn get_mut(&mut self, peer_id: &str, connection: ConnectionRef) -> Option<&mut Tab> {
        let hash = self.hasher.hash_one(peer_id);
        let peer = self.peers.find_mut(hash, |it| it.id() == peer_id)?;
        peer.tabs.get_mut(connection)
    }

    /// Whether a connection of the peer has joined, another than the given one.
    #[must_use]
    pub fn has_joined(&self, peer_id: &str, except: ConnectionRef) -> bool {
        self.find(peer_id).is_some_and(|peer| {
            let mut others = peer.tabs.iter().filter(|(tab, _)| *tab != except);
            others.any(|(_, tab)| tab.interest.is_some())
        })
    }

    /// Whether the peer is there.
    #[must_use]
    pub fn contains(&self, peer_id: &str) -> bool {
        self.find(peer_id).is_some()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// How many peers are there.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Each peer once, as others see it: with the metadata of its first connection.
    pub fn peers(&self) -> impl Iterator<Item = &SharedPeer> + Clone {
        self.peers.iter().filter_map(Peer::seen)
    }

    /// As [`peers`](Self::peers), in the order of their ids: those behind `id`, or all of them.
    pub fn peers_after<'r>(
        &'r self,
        id: Option<&'r str>,
    ) -> Box<dyn Iterator<Item = &'r SharedPeer> + 'r> {
        if let Some(kept) = self.order.after(id) {
            return Box::new(kept);
        }
        let is_behind = |peer: &&SharedPeer| id.is_none_or(|id| peer.id.as_str() > id);
        let mut peers: Vec<&SharedPeer> = self.peers().filter(is_behind).collect();
        peers.sort_unstable_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
        Box::new(peers.into_iter())
    }

    /// As [`peers`](Self::peers), without those that are to be left out. Their places in the
    /// list are known from then on.
    pub fn list(&mut self, is_left_out: impl Fn(&str) -> bool) -> Vec<&SharedPeer> {
        let mut list = Vec::with_capacity(self.peers.len());
        for Peer { tabs, place } in &mut self.peers {
            *place = u32::MAX;
            if let Some((_, tab)) = tabs.first()
                && !is_left_out(tab.peer.id.as_str())
            {
                *place = list.len() as u32;
                list.push(&tab.peer);
            }
        }
        list
    }

    /// The peer's place in the list that was made last, if it is there and was not left out.
    #[must_use]
    pub fn place(&self, peer_id: &str) -> Option<u32> {
        let place = self.find(peer_id)?.place;
        (place != u32::MAX).then_some(place)
    }

    /// Returns the connections of each peer that has several, in the order in which they joined.
    pub fn several(&self) -> impl Iterator<Item = Vec<ConnectionRef>> {
        let peers = self
            .peers
            .iter()
            .filter(|peer| peer.tabs.iter().nth(1).is_some());
        peers.map(|peer| {
            peer.tabs
                .iter()
                .map(|(connection, _)| *connection)
                .collect()
        })
    }

    /// Iterates over the connections of all peers.
    pub fn connections(&self) -> impl Iterator<Item = &(ConnectionRef, Tab)> {
        self.peers.iter().flat_map(|entry| entry.tabs.iter())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::peer::{JsonName, PeerInfo};
    use crate::ids::{ConnectionId, ShardId};

    fn peer(id: &str, metadata: &str) -> SharedPeer {
        Arc::new(PeerInfo {
            id: JsonName::new(id),
            metadata: Some(metadata.into()),
        })
    }

    fn connection(slot: u32) -> ConnectionRef {
        ConnectionRef {
            home: ShardId(0).into(),
            connection: ConnectionId {
                slot,
                generation: 0,
            },
        }
    }

    #[test]
    fn a_peer_with_three_tabs_joins_once_and_leaves_with_the_last() {
        let mut roster = Roster::new(RandomState::with_seeds(1, 2, 3, 4));
        let mut join = |slot, number| roster.join(&peer("ann", "1"), connection(slot), number);
        assert_eq!(join(1, 7), Before::NoPeer);
        assert_eq!(join(2, 8), Before::NoTab);
        assert_eq!(join(3, 9), Before::NoTab);
        assert_eq!(join(3, 10), Before::Joining(9));
        roster.get_mut("ann", connection(3)).unwrap().joining = 0;
        let mut join = |slot, number| roster.join(&peer("ann", "1"), connection(slot), number);
        assert_eq!(join(3, 11), Before::There);
        assert_eq!(join(3, 12), Before::Joining(11));
        assert_eq!(roster.peer_count(), 1);
        let remove = |roster: &mut Roster, slot| {
            let removed = roster.remove("ann", connection(slot));
            removed.map(|removed| removed.peer_left)
        };
        assert_eq!(remove(&mut roster, 2), Some(false));
        assert_eq!(remove(&mut roster, 2), None);
        assert_eq!(remove(&mut roster, 1), Some(false));
        assert_eq!(remove(&mut roster, 3), Some(true));
        assert!(roster.is_empty());
    }

    #[test]
    fn metadata_is_that_of_the_connection_that_joined_first_and_is_still_there() {
        let mut roster = Roster::new(RandomState::with_seeds(1, 2, 3, 4));
        for (slot, metadata) in [(1, "1"), (2, "2"), (3, "3")] {
            roster.join(&peer("ann", metadata), connection(slot), 1);
        }
        let seen = |roster: &Roster| {
            roster
                .peers()
                .map(|peer| peer.metadata.clone().unwrap_or_default())
                .collect::<Vec<_>>()
        };
        assert_eq!(seen(&roster), ["1".into()]);
        roster.remove("ann", connection(1));
        assert_eq!(seen(&roster), ["2".into()]);
        roster.remove("ann", connection(3));
        assert_eq!(seen(&roster), ["2".into()]);
    }
}
