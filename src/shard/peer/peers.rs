//! What a shard knows of peers: those that it owns, and direct messages on their way.

use std::collections::VecDeque;

use ahash::{AHashMap, RandomState};

use crate::domain::peers::PeerRegistry;
use crate::ids::{ConnectionId, Ticket};

/// See the top of this file.
#[derive(Debug)]
pub(in crate::shard) struct Peers {
    /// The peers that this shard owns, and where their connections are.
    pub(in crate::shard) registry: PeerRegistry,
    /// Direct messages of this shard's connections whose scope is being asked for, by sender and
    /// in order.
    pub(in crate::shard) scopes: AHashMap<ConnectionId, VecDeque<Ticket>>,
}

impl Peers {
    /// No peers; the keys are those of the placement.
    pub(in crate::shard) fn new(hasher: RandomState) -> Self {
        Self {
            registry: PeerRegistry::new(hasher.clone()),
            scopes: AHashMap::with_hasher(hasher),
        }
    }
}
