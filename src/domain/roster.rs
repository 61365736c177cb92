//! Who is in one channel, as its owner shard knows it: peers, and the connections that make
//! each of them present.
//!
//! The unit of presence is the peer: it joins with its first connection and leaves with its
//! last. A peer's connections stand in the order in which they joined; the first of them
//! decides the metadata that others see.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use ahash::RandomState;
use smallvec::SmallVec;

use crate::domain::peer::SharedPeer;
use crate::domain::peer_order::PeerOrder;
use crate::ids::ConnectionRef;

/// What a connection wants of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Presence frames: the connection had the `presence` action when it subscribed.
    pub presence: bool,
    /// `fromMetadata` on messages.
    pub sender_metadata: bool,
}

/// One connection of a present peer.
#[derive(Debug)]
pub struct Membership {
    /// Where it is.
    pub connection: ConnectionRef,
    /// What it wants; `None` until its first join has been completed.
    pub interest: Option<Interest>,
    /// The connection's own view of its peer: tabs of one peer may carry different tokens.
    peer: SharedPeer,
}

/// What the removal of a connection did.
#[derive(Debug, PartialEq, Eq)]
pub enum Removed {
    /// It was not there.
    Absent,
    /// Its peer is still there with another connection.
    PeerStays(Option<Interest>),
    /// Its peer is gone with it.
    PeerLeft(Option<Interest>),
}

#[derive(Debug)]
struct ById(SharedPeer);

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

type ByPeer = HashMap<ById, SmallVec<[Membership; 1]>, RandomState>;

/// The peers of one channel.
#[derive(Debug)]
pub struct Roster {
    peers: ByPeer,
    order: PeerOrder,
}

impl Roster {
    /// An empty roster, hashed with the process's keys.
    #[must_use]
    pub fn new(hasher: RandomState) -> Self {
        Self {
            peers: HashMap::with_hasher(hasher),
            order: PeerOrder::default(),
        }
    }

    /// Adds a connection. Answers whether it is its peer's first, or `None` if it was in.
    pub fn insert(&mut self, peer: &SharedPeer, connection: ConnectionRef) -> Option<bool> {
        let membership = Membership {
            connection,
            interest: None,
            peer: peer.clone(),
        };
        match self.peers.get_mut(peer.id.as_str()) {
            None => {
                self.peers
                    .insert(ById(peer.clone()), SmallVec::from_buf([membership]));
                self.order.set(peer);
                self.adapt_order();
                Some(true)
            }
            Some(tabs) if tabs.iter().any(|tab| tab.connection == connection) => None,
            Some(tabs) => {
                tabs.push(membership);
                Some(false)
            }
        }
    }

    /// Removes a connection of the peer.
    pub fn remove(&mut self, peer_id: &str, connection: ConnectionRef) -> Removed {
        let Some(tabs) = self.peers.get_mut(peer_id) else {
            return Removed::Absent;
        };
        let Some(at) = tabs.iter().position(|tab| tab.connection == connection) else {
            return Removed::Absent;
        };
        let interest = tabs.remove(at).interest;
        if let Some(first) = tabs.first() {
            self.order.set(&first.peer);
            return Removed::PeerStays(interest);
        }
        self.peers.remove(peer_id);
        self.order.remove(peer_id);
        self.adapt_order();
        Removed::PeerLeft(interest)
    }

    fn adapt_order(&mut self) {
        let Self { peers, order } = self;
        order.adapt(peers.len(), || seen(peers));
    }

    /// A connection's membership.
    pub fn get_mut(&mut self, peer_id: &str, connection: ConnectionRef) -> Option<&mut Membership> {
        self.peers
            .get_mut(peer_id)?
            .iter_mut()
            .find(|tab| tab.connection == connection)
    }

    /// Whether a connection of the peer has joined, another than the given one.
    #[must_use]
    pub fn has_joined(&self, peer_id: &str, except: ConnectionRef) -> bool {
        self.peers.get(peer_id).is_some_and(|tabs| {
            let mut others = tabs.iter().filter(|tab| tab.connection != except);
            others.any(|tab| tab.interest.is_some())
        })
    }

    /// Whether the peer is there.
    #[must_use]
    pub fn contains(&self, peer_id: &str) -> bool {
        self.peers.contains_key(peer_id)
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
        seen(&self.peers)
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

    /// Every connection.
    pub fn connections(&self) -> impl Iterator<Item = &Membership> {
        self.peers.values().flatten()
    }
}

fn seen(peers: &ByPeer) -> impl Iterator<Item = &SharedPeer> + Clone {
    let first = peers.values().filter_map(|tabs| tabs.first());
    first.map(|tab| &tab.peer)
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
            shard: ShardId(0),
            connection: ConnectionId {
                slot,
                generation: 0,
            },
        }
    }

    #[test]
    fn a_peer_with_three_tabs_joins_once_and_leaves_with_the_last() {
        let mut roster = Roster::new(RandomState::with_seeds(1, 2, 3, 4));
        assert_eq!(roster.insert(&peer("ann", "1"), connection(1)), Some(true));
        assert_eq!(roster.insert(&peer("ann", "2"), connection(2)), Some(false));
        assert_eq!(roster.insert(&peer("ann", "3"), connection(3)), Some(false));
        assert_eq!(roster.insert(&peer("ann", "3"), connection(3)), None);
        assert_eq!(roster.peer_count(), 1);
        assert_eq!(
            roster.remove("ann", connection(2)),
            Removed::PeerStays(None)
        );
        assert_eq!(roster.remove("ann", connection(2)), Removed::Absent);
        assert_eq!(
            roster.remove("ann", connection(1)),
            Removed::PeerStays(None)
        );
        assert_eq!(roster.remove("ann", connection(3)), Removed::PeerLeft(None));
        assert!(roster.is_empty());
    }

    #[test]
    fn metadata_is_that_of_the_connection_that_joined_first_and_is_still_there() {
        let mut roster = Roster::new(RandomState::with_seeds(1, 2, 3, 4));
        for (slot, metadata) in [(1, "1"), (2, "2"), (3, "3")] {
            roster.insert(&peer("ann", metadata), connection(slot));
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
