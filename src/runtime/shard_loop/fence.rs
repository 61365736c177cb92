//! Writes that must not reach a client together.
//!
//! A snapshot leaves a turn after its ack, because a published client misses a snapshot that its
//! WebSocket library reads together with the ack. An idle shard's next turn comes within
//! microseconds, long before a client has read: so connections at a fence are kept back a little
//! longer.

use super::ShardLoop;
use crate::domain::time::Now;
use crate::shard::effect::Urgency;

/// Between the write before a fence and the one behind it. With none, Node's `ws` read both
/// together in 20 of 20 joins on loopback.
const FENCE_MS: u64 = 15;

impl ShardLoop {
    /// Queues the outboxes that got something, and those whose time at a fence is over.
    pub(super) fn queue_dirty(&mut self, now: Now) {
        let (shard, fenced) = (&self.shard, &mut self.fenced);
        self.to_flush.push_all(&mut self.effects.dirty, |id| {
            let is_fenced = shard.is_fenced(id);
            if is_fenced {
                fenced.push_back((now.mono_ms + FENCE_MS, id));
            }
            !is_fenced
        });
        while let Some((_, id)) = self.fenced.pop_front_if(|(at, _)| *at <= now.mono_ms) {
            self.to_flush.push(id, Urgency::Reply);
        }
    }

    /// When the next connection may go on behind its fence.
    pub(super) fn next_fence_ms(&self) -> Option<u64> {
        self.fenced.front().map(|(at, _)| *at)
    }
}
