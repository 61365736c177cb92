//! New shards.

use std::sync::Arc;

use ahash::RandomState;
use ringmesh::domain::rights::Rights;
use ringmesh::domain::time::Now;
use ringmesh::events::recorder::{Privacy, Recorder, Rings};
use ringmesh::ids::ShardId;
use ringmesh::shard::config::ShardConfig;
use ringmesh::shard::flush::FlushQueue;
use ringmesh::shard::settings::Settings;
use ringmesh::shard::state::Shard;
use ringmesh::shard::tuning::Tuning;

use super::Node;
use crate::events::EVENTS_BYTES;
use crate::random::Random;
use crate::surroundings::limit;

/// What all shards of a run are made with.
pub(super) struct NodeMaker {
    pub seed: u64,
    /// How often others have gone on for all shards.
    pub generation: u64,
    pub hasher: RandomState,
    pub tuning: Tuning,
    pub defers: bool,
}

impl NodeMaker {
    /// That many shards without connections, and what they record.
    pub(super) fn nodes(
        &self,
        shard_count: u16,
        settings: &Settings,
        rights: &Arc<Rights>,
        now: Now,
    ) -> (Vec<Node>, Vec<Rings>) {
        let mut events = Vec::new();
        let node = |at: u16| {
            let config = ShardConfig {
                shard: ShardId(at),
                shard_count,
                hasher: self.hasher.clone(),
                trusted_proxies: settings.trusted_proxies.clone(),
                reject_with_close: settings.reject_with_close,
                explain: false,
                accept_bare_key_id: false,
                request_rates: settings.request_rates.clone(),
                limits: settings.limits.clone(),
                start_page: "".into(),
                handler: None,
            };
            let connect_rates = settings.connect_rates.clone();
            let stream = match self.generation {
                0 => format!("entropy {at}"),
                generation => format!("entropy {at} {generation}"),
            };
            let entropy = Box::new(Random::new(self.seed, &stream));
            let mut shard = Shard::new(config, rights.clone(), connect_rates, entropy, now);
            limit(&mut shard, self.seed);
            shard.tune(self.tuning);
            let recorder = Recorder::new(Some(ShardId(at)), EVENTS_BYTES, Privacy::default());
            shard.record_with(recorder.0);
            events.extend(recorder.1);
            Node {
                shard,
                to_flush: flush_queue(self.defers),
                slots: Vec::new(),
                silent_since_ms: None,
                is_lost: false,
                turned_ms: now.mono_ms,
                storing: None,
            }
        };
        let nodes = (0..shard_count).map(node).collect();
        (nodes, events)
    }
}

/// Of which a turn writes as much as the runtime does, or little.
fn flush_queue(defers: bool) -> FlushQueue {
    match defers {
        true => FlushQueue::bounded(3, 4_096),
        false => FlushQueue::default(),
    }
}
