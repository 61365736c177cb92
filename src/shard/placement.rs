//! Which shard owns a channel or a peer, as a value: the shards, and the keys of the hashes that
//! spread names over them.

use ahash::RandomState;

use crate::domain::peers::peer_hash;
use crate::ids::{AppIndex, ShardId};

/// Where names live, seen from one shard.
#[derive(Clone, Debug)]
pub struct Placement {
    here: ShardId,
    shard_count: u16,
    hasher: RandomState,
}

impl Placement {
    /// The placement that shard `here` of `shard_count` uses. The hash keys are the same on all
    /// shards and unknown outside.
    #[must_use]
    pub fn new(here: ShardId, shard_count: u16, hasher: RandomState) -> Self {
        Self {
            here,
            shard_count,
            hasher,
        }
    }

    /// The shard that asks.
    #[inline]
    #[must_use]
    pub fn here(&self) -> ShardId {
        self.here
    }

    /// How many shards there are.
    #[inline]
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        self.shard_count
    }

    /// The keys of the hashes.
    #[must_use]
    pub fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// The other shards.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let here = self.here;
        let all = (0..self.shard_count).map(ShardId);
        all.filter(move |shard| *shard != here)
    }

    /// The hash that chooses a channel's owner and its place in tables.
    #[inline]
    #[must_use]
    pub fn channel_hash(&self, app: AppIndex, name: &str) -> u64 {
        channel_hash(&self.hasher, app, name)
    }

    /// The shard that owns the channel, or the peer, with this hash. The high bits choose it,
    /// scaled, so that tables keyed by the low bits stay evenly filled.
    #[inline]
    #[must_use]
    pub fn owner(&self, hash: u64) -> ShardId {
        ShardId(((u128::from(hash) * u128::from(self.shard_count)) >> 64) as u16)
    }

    /// The shard that owns a peer.
    #[must_use]
    pub fn peer_owner(&self, app: AppIndex, peer_id: &str) -> ShardId {
        self.owner(peer_hash(&self.hasher, app, peer_id))
    }
}

/// See [`Placement::channel_hash`].
#[must_use]
pub fn channel_hash(hasher: &RandomState, app: AppIndex, name: &str) -> u64 {
    hasher.hash_one((app, name))
}
