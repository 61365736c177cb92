//! What a shard does when the process runs out of memory: nobody new comes in, and the connections
//! for which most waits are closed, the worst first.
//!
//! A connection whose peer reads holds next to nothing, and is never closed for what others hold.

use crate::domain::channel::Channel;
use crate::events::kind::Cause;
use crate::ids::ConnectionId;
use crate::metrics::label::Dropped;
use crate::proto::ws::close::CloseCode;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Phase};
use crate::shard::connection::ending::Goodbye;
use crate::shard::context::Context;
use crate::shard::input::MemoryLevel;
use crate::shard::state::Shard;
use crate::shard::tuning::REPLY_BACKLOG_BYTES_MAX;

/// A connection that holds less is healthy: so much may wait in answers before its input is held
/// back.
const HEALTHY_BYTES_MAX: usize = REPLY_BACKLOG_BYTES_MAX;

impl Shard {
    /// The process's memory has been measured; `excess_bytes` are this shard's part of what is to
    /// be given back.
    pub(in crate::shard) fn memory(&mut self, level: MemoryLevel, excess_bytes: usize) {
        self.context.memory_level = level;
        if level != MemoryLevel::AtCeiling {
            return;
        }
        let mut freed = 0;
        for (bytes, id) in self.worst_consumers() {
            if freed >= excess_bytes {
                return;
            }
            freed += bytes;
            self.channels
                .close_for_memory(id, &mut self.connections, &mut self.context);
        }
    }

    /// Bytes of memory that are kept for later use, about.
    #[must_use]
    pub fn unused_bytes(&self) -> usize {
        self.context.pool.bytes()
    }

    /// Bytes by which the shard's memory has grown since its start, at most and without what it
    /// gave back: what came in, and what outboxes took. What else it keeps, connections and
    /// rosters, grows with what comes in.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.context.pool.taken_bytes() + self.context.metrics.counters.bytes_received
    }

    /// Gives back what is kept for later use.
    pub(in crate::shard) fn give_back(&mut self) {
        self.context.pool.clear();
        self.context.encoded = Vec::new();
        self.context.encoded_with_metadata = Vec::new();
        self.channels.owned_mut().for_each(Channel::give_back);
    }

    /// The connections that hold more than a healthy one does, the worst first.
    fn worst_consumers(&self) -> Vec<(usize, ConnectionId)> {
        let held = |id| (self.waiting_bytes(id), id);
        let all = self.connections.iter().map(|it| held(it.id));
        let mut worst: Vec<_> = all
            .filter(|(bytes, _)| *bytes > HEALTHY_BYTES_MAX)
            .collect();
        worst.sort_unstable_by_key(|(bytes, id)| (std::cmp::Reverse(*bytes), id.slot));
        worst
    }
}

impl Channels {
    fn close_for_memory(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let connection = &connections[id];
        tracing::debug!(remote = %connection.remote, "closed: the process is out of memory");
        context.metrics.counters.dropped.add(Dropped::Memory);
        match connection.phase {
            Phase::Open(_) => {
                let goodbye = Goodbye::of(Cause::Memory, CloseCode::TRY_AGAIN_LATER);
                self.end_session(id, goodbye.why(), connections, context);
                let outbox = &mut connections[id].outbox;
                outbox.discard_unstarted(&mut context.pool);
                self.close(id, &goodbye, connections, context);
            }
            // Nothing can be said after an answer that is not read.
            _ => context.effects.abort.push(id),
        }
    }
}
