//! The peers that one shard owns: which connections each of them has, anywhere in the process.
//!
//! A peer belongs to the shard that the hash of its app and id chooses. Entries exist while the
//! peer has a connection. This file does not know what a connection does.

use ahash::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::domain::peer::SharedPeer;
use crate::ids::{AppIndex, ConnectionRef};

/// Connections of one peer, in the order in which they came.
pub type PeerConnections = SmallVec<[ConnectionRef; 1]>;

#[derive(Debug)]
struct Entry {
    app: AppIndex,
    peer: SharedPeer,
    connections: PeerConnections,
}

/// The registry of the peers that a shard owns.
#[derive(Debug)]
pub struct Peers {
    entries: HashTable<Entry>,
    hasher: RandomState,
}

/// The hash that chooses a peer's owner and its place in the registry.
#[must_use]
pub fn peer_hash(hasher: &RandomState, app: AppIndex, peer_id: &str) -> u64 {
    hasher.hash_one((app, peer_id))
}

impl Peers {
    /// An empty registry, hashed with the process's keys.
    #[must_use]
    pub fn new(hasher: RandomState) -> Self {
        Self {
            entries: HashTable::new(),
            hasher,
        }
    }

    /// Adds a connection to its peer.
    pub fn register(&mut self, app: AppIndex, peer: &SharedPeer, connection: ConnectionRef) {
        let hash = peer_hash(&self.hasher, app, peer.id.as_str());
        let same = |entry: &Entry| entry.app == app && entry.peer.id == peer.id;
        if let Some(entry) = self.entries.find_mut(hash, same) {
            entry.connections.push(connection);
            return;
        }
        let entry = Entry {
            app,
            peer: peer.clone(),
            connections: SmallVec::from_buf([connection]),
        };
        let hasher = &self.hasher;
        self.entries.insert_unique(hash, entry, |entry| {
            peer_hash(hasher, entry.app, entry.peer.id.as_str())
        });
    }

    /// Removes a connection from its peer.
    pub fn unregister(&mut self, app: AppIndex, peer_id: &str, connection: ConnectionRef) {
        let hash = peer_hash(&self.hasher, app, peer_id);
        let same = |entry: &Entry| entry.app == app && entry.peer.id.as_str() == peer_id;
        if let Ok(mut found) = self.entries.find_entry(hash, same) {
            found
                .get_mut()
                .connections
                .retain(|known| *known != connection);
            if found.get().connections.is_empty() {
                found.remove();
            }
        }
    }

    /// The peer's connections; empty when it has none.
    #[must_use]
    pub fn connections(&self, app: AppIndex, peer_id: &str) -> &[ConnectionRef] {
        let hash = peer_hash(&self.hasher, app, peer_id);
        self.entries
            .find(hash, |entry| {
                entry.app == app && entry.peer.id.as_str() == peer_id
            })
            .map_or(&[], |entry| &entry.connections)
    }

    /// Every connection of every peer, with the peer's id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ConnectionRef)> {
        self.entries.iter().flat_map(|entry| {
            let connections = entry.connections.iter();
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

    use super::*;
    use crate::domain::peer::{JsonName, PeerInfo};
    use crate::ids::{ConnectionId, ShardId};

    #[test]
    fn a_peer_exists_while_it_has_a_connection_and_only_in_its_app() {
        let mut peers = Peers::new(RandomState::with_seeds(1, 2, 3, 4));
        let ann = Arc::new(PeerInfo {
            id: JsonName::new("ann"),
            metadata: None,
        });
        let at = |slot| ConnectionRef {
            shard: ShardId(0),
            connection: ConnectionId {
                slot,
                generation: 7,
            },
        };
        peers.register(AppIndex(1), &ann, at(1));
        peers.register(AppIndex(1), &ann, at(2));
        assert_eq!(peers.connections(AppIndex(1), "ann"), [at(1), at(2)]);
        assert!(peers.connections(AppIndex(2), "ann").is_empty());
        peers.unregister(AppIndex(1), "ann", at(1));
        peers.unregister(AppIndex(1), "ann", at(9));
        assert_eq!(peers.connections(AppIndex(1), "ann"), [at(2)]);
        peers.unregister(AppIndex(1), "ann", at(2));
        assert!(peers.is_empty());
    }
}
