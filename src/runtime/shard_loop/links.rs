//! What crosses the mesh in a turn, both ways.

use super::measure;
use crate::domain::time::Now;
use crate::runtime::clock::Clock;
use crate::runtime::mesh::{MeshIn, MeshOut};
use crate::shard::input::Input;
use crate::shard::state::Shard;

/// Messages of other shards handled in one turn: about 0.5 ms.
const MESSAGES_PER_TURN_MAX: usize = 512;
/// Bytes of these, about.
const BYTES_PER_TURN_MAX: usize = 256 * 1_024;

/// See the top of this file.
pub(super) struct Links {
    outgoing: MeshOut,
    incoming: MeshIn,
    clock: Clock,
}

impl Links {
    /// The two ends that a shard has of its links.
    pub(super) fn new(outgoing: MeshOut, incoming: MeshIn, clock: Clock) -> Self {
        Self {
            outgoing,
            incoming,
            clock,
        }
    }

    /// Hands the shard what has come, as much as a turn takes.
    pub(super) fn receive(&mut self, shard: &mut Shard, now: Now) {
        let mut bytes = 0;
        for _ in 0..MESSAGES_PER_TURN_MAX {
            if bytes > BYTES_PER_TURN_MAX || !shard.takes_mesh() {
                break;
            }
            let Some(incoming) = self.incoming.next() else {
                break;
            };
            bytes += incoming.message.weight();
            if let Some(sent_ns) = incoming.sent_ns {
                measure::begin_batch(shard, &self.clock, sent_ns);
            }
            let (from, message) = (incoming.from, incoming.message);
            shard.handle(Input::Mesh { from, message }, now);
        }
        measure::end_spans(shard, &self.clock);
    }

    /// Sends what the shard has for others, and tells it of links that are over their limits.
    pub(super) fn send(&mut self, shard: &mut Shard, now: Now) {
        let produced = &mut shard.effects_mut().mesh;
        if produced.iter().all(Vec::is_empty) && !self.outgoing.has_backlog() {
            return;
        }
        let mut changed = Vec::new();
        let now_ns = self.clock.mono_ns();
        let sent = self.outgoing.send(produced, now_ns, |to, over_limit| {
            changed.push((to, over_limit));
        });
        shard.metrics().counters.mesh_sent += sent as u64;
        for (to, over_limit) in changed {
            let link = Input::Link {
                to,
                over_limit,
                backlog_bytes: self.outgoing.backlog_bytes(to),
            };
            shard.handle(link, now);
        }
    }

    /// Whether nothing has come.
    pub(super) fn is_empty(&self) -> bool {
        self.incoming.is_empty()
    }

    /// Whether something is kept back, so that the links must be tried again soon.
    pub(super) fn has_backlog(&self) -> bool {
        self.outgoing.has_backlog()
    }

    /// Messages that are kept back, and batches that have come and are not used up.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.outgoing.backlog_len(), self.incoming.len())
    }
}
