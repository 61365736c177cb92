//! The peers that one shard owns: which connections each of them has, anywhere in the process.
//!
//! A peer belongs to the shard that the hash of its app and id chooses. Entries exist while the
//! peer has a connection. This file does not know what a connection does.

use std::collections::HashMap;

use ahash::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::domain::app_id::AppTag;
use crate::domain::peer::SharedPeer;
use crate::ids::{ConnectionId, ConnectionRef, Seat};

/// How many connections of one peer are too many to be searched one by one.
const MANY: usize = 16;

#[derive(Debug)]
struct Entry {
    app: AppTag,
    peer: SharedPeer,
    connections: Connections,
}

/// Connections of one peer, in no order.
#[derive(Debug)]
struct Connections {
    all: SmallVec<[ConnectionRef; 1]>,
    /// Where each of them stands in `all`, once there have been many.
    #[expect(
        clippy::box_collection,
        reason = "nearly every peer has one connection"
    )]
    places: Option<Box<HashMap<ConnectionRef, u32, RandomState>>>,
}

impl Connections {
    fn push(&mut self, connection: ConnectionRef, hasher: &RandomState) {
        let place = self.all.len() as u32;
        self.all.push(connection);
        if let Some(places) = &mut self.places {
            places.insert(connection, place);
        } else if self.all.len() >= MANY {
            let mut places = HashMap::with_hasher(hasher.clone());
            places.extend(self.all.iter().copied().zip(0..));
            self.places = Some(Box::new(places));
        }
    }

    fn remove(&mut self, connection: ConnectionRef) {
        let place = match &mut self.places {
            Some(places) => places.remove(&connection).map(|place| place as usize),
            None => self.all.iter().position(|known| *known == connection),
        };
        let Some(place) = place else { return };
        self.all.swap_remove(place);
        if self.all.len() < MANY / 2 {
            self.places = None;
            self.all.shrink_to_fit();
        } else if let (Some(places), Some(moved)) = (&mut self.places, self.all.get(place)) {
            places.insert(*moved, place as u32);
        }
    }
}

/// The registry of the peers that a shard owns.
#[derive(Debug)]
pub struct PeerRegistry {
    entries: HashTable<Entry>,
    hasher: RandomState,
}

/// Connections by the seats that they are at.
pub type ByHome = SmallVec<[(Seat, SmallVec<[ConnectionId; 1]>); 1]>;

/// The hash that chooses a peer's owner and its place in the registry.
#[must_use]
pub fn peer_hash(hasher: &RandomState, app: AppTag, peer_id: &str) -> u64 {
    hasher.hash_one((app, peer_id))
}

impl PeerRegistry {
    /// An empty registry, hashed with the process's keys.
    #[must_use]
    pub fn new(hasher: RandomState) -> Self {
        Self {
            entries: HashTable::new(),
            hasher,
        }
    }

    /// Adds a connection to its peer. Returns whether it is the first.
    pub fn register(&mut self, app: AppTag, peer: &SharedPeer, connection: ConnectionRef) -> bool {
        let hash = peer_hash(&self.hasher, app, peer.id.as_str());
        let same = |entry: &Entry| entry.app == app && entry.peer.id == peer.id;
        if let Some(entry) = self.entries.find_mut(hash, same) {
            entry.connections.push(connection, &self.hasher);
            return false;
        }
        let entry = Entry {
            app,
            peer: peer.clone(),
            connections: Connections {
                all: SmallVec::from_buf([connection]),
                places: None,
            },
        };
        let hasher = &self.hasher;
        self.entries.insert_unique(hash, entry, |entry| {
            peer_hash(hasher, entry.app, entry.peer.id.as_str())
        });
        true
    }

    /// Removes a connection from its peer. Returns whether it was the last.
    pub fn unregister(&mut self, app: AppTag, peer_id: &str, connection: ConnectionRef) -> bool {
        let hash = peer_hash(&self.hasher, app, peer_id);
        let same = |entry: &Entry| entry.app == app && entry.peer.id.as_str() == peer_id;
        let Ok(mut found) = self.entries.find_entry(hash, same) else {
            return false;
        };
        found.get_mut().connections.remove(connection);
        let was_last = found.get().connections.all.is_empty();
        if was_last {
            found.remove();
        }
        was_last
    }

    /// The peer's connections, in no order; empty when it has none.
    #[must_use]
    pub fn connections(&self, app: AppTag, peer_id: &str) -> &[ConnectionRef] {
        self.connections_at(peer_hash(&self.hasher, app, peer_id), app, peer_id)
    }

    /// The same, where the peer's [`peer_hash`] is known.
    #[must_use]
    pub fn connections_at(&self, hash: u64, app: AppTag, peer_id: &str) -> &[ConnectionRef] {
        self.entries
            .find(hash, |entry| {
                entry.app == app && entry.peer.id.as_str() == peer_id
            })
            .map_or(&[], |entry| &entry.connections.all)
    }

    /// The peer's connections, by the seat that each is at, without that one.
    #[must_use]
    pub fn by_home(&self, app: AppTag, peer_id: &str, except: Option<ConnectionRef>) -> ByHome {
        let mut homes = ByHome::new();
        for it in self.connections(app, peer_id) {
            if Some(*it) == except {
                continue;
            }
            match homes.iter_mut().find(|(home, _)| *home == it.home) {
                Some((_, connections)) => connections.push(it.connection),
                None => homes.push((it.home, SmallVec::from_buf([it.connection]))),
            }
        }
        homes
    }

    /// Every connection of every peer, with the peer's id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ConnectionRef)> {
        self.entries.iter().flat_map(|entry| {
            let connections = entry.connections.all.iter();
            connections.map(|connection| (entry.peer.id.as_str(), *connection))
        })
    }

    /// How many peers are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no peer is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::peer::{JsonName, PeerInfo};
    use crate::ids::{ConnectionId, ShardId};

    fn app() -> AppTag {
        AppTag::of("app")
    }

    fn ann() -> SharedPeer {
        Arc::new(PeerInfo {
            id: JsonName::new("ann"),
            metadata: None,
        })
    }

    fn at(slot: u32) -> ConnectionRef {
        ConnectionRef {
            home: ShardId(0).into(),
            connection: ConnectionId {
                slot,
                generation: 7,
            },
        }
    }

    #[test]
    fn a_peer_exists_while_it_has_a_connection_and_only_in_its_app() {
        let mut peers = PeerRegistry::new(RandomState::with_seeds(1, 2, 3, 4));
        let ann = ann();
        assert!(peers.register(app(), &ann, at(1)));
        assert!(!peers.register(app(), &ann, at(2)));
        assert_eq!(peers.connections(app(), "ann"), [at(1), at(2)]);
        assert!(peers.connections(AppTag::of("other"), "ann").is_empty());
        assert!(!peers.unregister(app(), "ann", at(1)));
        assert!(!peers.unregister(app(), "ann", at(9)));
        assert_eq!(peers.connections(app(), "ann"), [at(2)]);
        assert!(peers.unregister(app(), "ann", at(2)));
        assert!(!peers.unregister(app(), "ann", at(2)));
        assert!(peers.is_empty());
    }

    #[test]
    fn connections_are_grouped_by_home_without_the_one_that_asks() {
        let mut peers = PeerRegistry::new(RandomState::with_seeds(1, 2, 3, 4));
        let on = |shard, slot| ConnectionRef {
            home: ShardId(shard).into(),
            ..at(slot)
        };
        for it in [on(2, 1), on(0, 1), on(2, 5), on(1, 1)] {
            peers.register(app(), &ann(), it);
        }
        let homes = peers.by_home(app(), "ann", Some(on(0, 1)));
        let homes: Vec<(u16, Vec<u32>)> = homes
            .iter()
            .map(|(home, of)| (home.shard().0, of.iter().map(|it| it.slot).collect()))
            .collect();
        assert_eq!(homes, [(2, vec![1, 5]), (1, vec![1])]);
        assert_eq!(peers.by_home(app(), "ann", None).len(), 3);
        assert!(peers.by_home(app(), "bob", None).is_empty());
    }

    proptest! {
        /// One peer comes and goes with connections, below and above what is many.
        #[test]
        fn connections_are_as_in_a_plain_set(
            steps in prop::collection::vec((any::<bool>(), 0u32..40), 1..400),
        ) {
            let mut peers = PeerRegistry::new(RandomState::with_seeds(1, 2, 3, 4));
            let mut naive = std::collections::BTreeSet::new();
            for (is_added, slot) in steps {
                if is_added && naive.insert(at(slot)) {
                    peers.register(app(), &ann(), at(slot));
                } else if !is_added {
                    naive.remove(&at(slot));
                    peers.unregister(app(), "ann", at(slot));
                }
                let mut known = peers.connections(app(), "ann").to_vec();
                known.sort();
                prop_assert!(known.iter().eq(&naive));
                prop_assert_eq!(peers.len(), usize::from(!naive.is_empty()));
                let entry = peers.entries.iter().next();
                let many = entry.and_then(|entry| entry.connections.places.as_ref());
                prop_assert!(many.is_none_or(|places| places.len() == naive.len()));
                let holds = match many {
                    Some(_) => naive.len() >= MANY / 2,
                    None => naive.len() < MANY,
                };
                prop_assert!(holds);
            }
        }
    }
}
