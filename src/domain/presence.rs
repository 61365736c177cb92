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
use smallvec::SmallVec;

use crate::domain::peer::SharedPeer;
use crate::domain::roster::ById;

/// How many peers are too many to be searched one by one.
const MANY: usize = 16;

/// Peers in no order; most often one.
type Few = SmallVec<[SharedPeer; 2]>;

/// Peers that are found by their ids.
#[derive(Debug)]
enum Peers {
    /// They are searched.
    Few(Few),
    /// They are looked up.
    Many(IndexSet<ById, RandomState>),
}

/// See the top of this file.
#[derive(Debug, Default)]
pub struct Changes {
    joined: Peers,
    left: Peers,
}

/// What members are to be told, in this order.
#[derive(Debug, Default)]
pub struct Told {
    /// Peers that are there now.
    pub joined: Few,
    /// Peers that are gone, or have been.
    pub left: Few,
    /// Peers of `left` that have come back with other metadata.
    pub returned: Few,
}

impl Default for Peers {
    fn default() -> Self {
        Self::Few(Few::new())
    }
}

impl Peers {
    /// Adds a peer that is not among them.
    fn insert(&mut self, peer: &SharedPeer, hasher: &RandomState) {
        match self {
            Self::Few(few) if few.len() < MANY => few.push(peer.clone()),
            Self::Few(few) => {
                let mut many = IndexSet::with_hasher(hasher.clone());
                many.extend(few.drain(..).map(ById));
                many.insert(ById(peer.clone()));
                *self = Self::Many(many);
            }
            Self::Many(many) => {
                many.insert(ById(peer.clone()));
            }
        }
    }

    /// Returns whether the peer was among them.
    fn remove(&mut self, id: &str) -> bool {
        match self {
            Self::Few(few) => {
                let at = few.iter().position(|peer| peer.id.as_str() == id);
                at.map(|at| few.swap_remove(at)).is_some()
            }
            Self::Many(many) => many.swap_remove(id),
        }
    }

    fn get(&self, id: &str) -> Option<&SharedPeer> {
        match self {
            Self::Few(few) => few.iter().find(|peer| peer.id.as_str() == id),
            Self::Many(many) => many.get(id).map(|peer| &peer.0),
        }
    }

    fn contains(&self, id: &str) -> bool {
        self.get(id).is_some()
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &SharedPeer> {
        let (few, many) = match self {
            Self::Few(few) => (&few[..], None),
            Self::Many(many) => (&[][..], Some(many)),
        };
        let many = many.into_iter().flatten().map(|peer| &peer.0);
        few.iter().chain(many)
    }

    fn into_few(self) -> Few {
        match self {
            Self::Few(few) => few,
            Self::Many(many) => many.into_iter().map(|peer| peer.0).collect(),
        }
    }
}

impl Changes {
    /// A peer that was not there has joined. Returns whether that undoes its leave.
    pub fn join(&mut self, peer: &SharedPeer, hasher: &RandomState) -> bool {
        let id = peer.id.as_str();
        let before = self.left.get(id);
        let undoes = before.is_some_and(|before| before.metadata == peer.metadata);
        if undoes {
            self.left.remove(id);
        } else {
            self.joined.insert(peer, hasher);
        }
        undoes
    }

    /// A peer is gone.
    pub fn leave(&mut self, peer: &SharedPeer, hasher: &RandomState) {
        if !self.joined.remove(peer.id.as_str()) {
            self.left.insert(peer, hasher);
        }
    }

    /// A peer is gone, and nobody is to know: whoever was not told that it came never is.
    pub fn forget(&mut self, peer_id: &str) {
        self.joined.remove(peer_id);
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
        self.left.iter()
    }

    /// What members are to be told.
    #[must_use]
    pub fn into_told(self) -> Told {
        let Self { joined, left } = self;
        if left.is_empty() {
            return Told {
                joined: joined.into_few(),
                ..Told::default()
            };
        }
        let mut told = Told::default();
        for peer in joined.into_few() {
            match left.contains(peer.id.as_str()) {
                true => told.returned.push(peer),
                false => told.joined.push(peer),
            }
        }
        told.left = left.into_few();
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
            peers in prop::sample::select(vec![6, 60]),
            steps in prop::collection::vec((0u8..60, 0u8..3, prop::bool::weighted(0.05)), 1..400),
        ) {
            let hasher = RandomState::with_seeds(1, 2, 3, 4);
            let (mut changes, mut there, mut seen) =
                (Changes::default(), BTreeMap::new(), Seen::new());
            let mut at_last_telling = Seen::new();
            for (id, metadata, is_told) in steps {
                let id = id % peers;
                match there.remove(&id) {
                    Some(known) => changes.leave(&known, &hasher),
                    None => {
                        there.insert(id, peer(id, metadata));
                        let undoes = changes.join(&there[&id], &hasher);
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
                    let told = std::mem::take(&mut changes).into_told();
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
