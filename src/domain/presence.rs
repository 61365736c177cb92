//! Presence changes of one channel that its members have not been told of.
//!
//! Changes that undo each other cost nothing: a peer that joined and left is not mentioned, and
//! neither is one that left and came back the same. A peer that came back with other metadata has
//! left and joined.
//!
//! Always true: a peer stands once in each list at most, and in both only if it came back with
//! other metadata than it left with.

use ahash::RandomState;
use indexmap::IndexSet;

use crate::domain::peer::SharedPeer;
use crate::domain::roster::ById;

type Peers = IndexSet<ById, RandomState>;

/// See the top of this file.
#[derive(Debug)]
pub struct Changes {
    joined: Peers,
    left: Peers,
}

/// What members are to be told, in this order.
#[derive(Debug, Default)]
pub struct Told {
    /// Peers that are there now.
    pub joined: Vec<SharedPeer>,
    /// Peers that are gone, or have been.
    pub left: Vec<SharedPeer>,
    /// Peers of `left` that have come back with other metadata.
    pub returned: Vec<SharedPeer>,
}

impl Changes {
    /// No changes, hashed with the process's keys.
    #[must_use]
    pub fn new(hasher: &RandomState) -> Self {
        Self {
            joined: Peers::with_hasher(hasher.clone()),
            left: Peers::with_hasher(hasher.clone()),
        }
    }

    /// A peer that was not there has joined. Returns whether that undoes its leave.
    pub fn join(&mut self, peer: &SharedPeer) -> bool {
        let id = peer.id.as_str();
        let before = self.left.get(id);
        let undoes = before.is_some_and(|before| before.0.metadata == peer.metadata);
        if undoes {
            self.left.swap_remove(id);
        } else {
            self.joined.insert(ById(peer.clone()));
        }
        undoes
    }

    /// A peer is gone.
    pub fn leave(&mut self, peer: &SharedPeer) {
        if !self.joined.swap_remove(peer.id.as_str()) {
            self.left.insert(ById(peer.clone()));
        }
    }

    /// Whether there is nothing to be told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty()
    }

    /// Whether a change of that peer is among these.
    #[must_use]
    pub fn concern(&self, peer_id: &str) -> bool {
        self.joined.contains(peer_id) || self.left.contains(peer_id)
    }

    /// Whether the peer is there, and members do not know that it is, or as whom.
    #[must_use]
    pub fn has_joined(&self, peer_id: &str) -> bool {
        self.joined.contains(peer_id)
    }

    /// The peers that members still see although they are gone, as they see them.
    pub fn left(&self) -> impl Iterator<Item = &SharedPeer> {
        self.left.iter().map(|peer| &peer.0)
    }

    /// What members are to be told.
    #[must_use]
    pub fn into_told(self) -> Told {
        let Self { joined, left } = self;
        let mut told = Told::default();
        for peer in joined {
            match left.contains(peer.0.id.as_str()) {
                true => told.returned.push(peer.0),
                false => told.joined.push(peer.0),
            }
        }
        told.left = left.into_iter().map(|peer| peer.0).collect();
        told
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::peer::{JsonName, PeerInfo};

    fn peer(id: u8, metadata: u8) -> SharedPeer {
        Arc::new(PeerInfo {
            id: JsonName::new(&id.to_string()),
            metadata: Some(metadata.to_string().into()),
        })
    }

    type Seen = BTreeMap<String, Option<Box<str>>>;

    fn see(seen: &mut Seen, peer: &SharedPeer) {
        let known = seen.insert(peer.id.as_str().into(), peer.metadata.clone());
        assert_eq!(known, None, "joined, and was there");
    }

    proptest! {
        /// Members who are told now and then see in the end who is there, and nobody twice.
        #[test]
        fn members_see_who_is_there(
            steps in prop::collection::vec((0u8..6, 0u8..3, prop::bool::weighted(0.2)), 1..200),
        ) {
            let hasher = RandomState::with_seeds(1, 2, 3, 4);
            let (mut changes, mut there, mut seen) =
                (Changes::new(&hasher), BTreeMap::new(), Seen::new());
            let mut at_last_telling = Seen::new();
            for (id, metadata, is_told) in steps {
                match there.remove(&id) {
                    Some(known) => changes.leave(&known),
                    None => {
                        there.insert(id, peer(id, metadata));
                        let undoes = changes.join(&there[&id]);
                        prop_assert!(!undoes || !changes.concern(&id.to_string()));
                    }
                }
                let now = there.values();
                let now: Seen =
                    now.map(|it| (it.id.as_str().into(), it.metadata.clone())).collect();
                prop_assert_eq!(changes.is_empty(), now == at_last_telling);
                for (id, metadata) in &now {
                    let is_news = at_last_telling.get(id) != Some(metadata);
                    prop_assert_eq!(changes.has_joined(id), is_news);
                }
                if is_told {
                    let told = std::mem::replace(&mut changes, Changes::new(&hasher)).into_told();
                    for peer in &told.left {
                        let known = seen.remove(peer.id.as_str());
                        prop_assert_eq!(known, Some(peer.metadata.clone()));
                    }
                    for peer in told.joined.iter().chain(&told.returned) {
                        see(&mut seen, peer);
                    }
                    prop_assert_eq!(&seen, &now);
                    at_last_telling = now;
                }
            }
        }
    }
}
