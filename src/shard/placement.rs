//! Who owns which channel and which peer, as a value: the shards, and the keys of the hashes that
//! spread names over them.
//!
//! An app is hashed by its tag, not by its number in this process, so two placements with the same
//! keys agree about every name, whatever process each of them is in.

use ahash::RandomState;

use crate::domain::app_id::AppTag;
use crate::domain::peers::peer_hash;
use crate::ids::{Seat, ShardId};

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

    /// The seat of the shard that asks.
    #[inline]
    #[must_use]
    pub fn here(&self) -> Seat {
        self.here.into()
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

    /// The other shards of this process.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let here = self.here;
        let all = (0..self.shard_count).map(ShardId);
        all.filter(move |shard| *shard != here)
    }

    /// The hash that chooses a channel's owner and its place in tables.
    #[inline]
    #[must_use]
    pub fn channel_hash(&self, app: AppTag, name: &str) -> u64 {
        channel_hash(&self.hasher, app, name)
    }

    /// Returns who owns the channel, or the peer, with this hash. The high bits choose it,
    /// scaled, so that tables keyed by the low bits stay evenly filled.
    #[inline]
    #[must_use]
    pub fn owner(&self, hash: u64) -> Seat {
        ShardId(((u128::from(hash) * u128::from(self.shard_count)) >> 64) as u16).into()
    }

    /// The hash that chooses a peer's owner and its place in the registry.
    #[inline]
    #[must_use]
    pub fn peer_hash(&self, app: AppTag, peer_id: &str) -> u64 {
        peer_hash(&self.hasher, app, peer_id)
    }

    /// Returns who owns a peer.
    #[must_use]
    pub fn peer_owner(&self, app: AppTag, peer_id: &str) -> Seat {
        self.owner(self.peer_hash(app, peer_id))
    }
}

/// See [`Placement::channel_hash`].
#[must_use]
pub fn channel_hash(hasher: &RandomState, app: AppTag, name: &str) -> u64 {
    hasher.hash_one((app, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::app_id::AppId;

    /// What two processes share is the keys and the ids of the apps, not how they number these.
    #[test]
    fn processes_with_the_same_keys_place_every_name_alike() {
        let place = || Placement::new(ShardId(0), 8, RandomState::with_seeds(1, 2, 3, 4));
        let (one, other) = (place(), place());
        let mut owners = std::collections::BTreeSet::new();
        for app in ["app_a", "app_b"].map(AppId::from) {
            let told: AppId = app.to_string().into();
            for name in (0..100).map(|number| format!("room-{number}")) {
                let hash = one.channel_hash(app.tag(), &name);
                assert_eq!(hash, other.channel_hash(told.tag(), &name));
                let owner = one.peer_owner(app.tag(), &name);
                assert_eq!(owner, other.peer_owner(told.tag(), &name));
                owners.insert(one.owner(hash));
            }
        }
        assert_eq!(owners.len(), 8, "names are spread over all shards");
        let hash = |app: &str| one.channel_hash(AppId::from(app).tag(), "room-1");
        assert_ne!(hash("app_a"), hash("app_b"));
    }
}
