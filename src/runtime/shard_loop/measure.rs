//! What the loop counts and measures: whatever needs a clock or is about sockets and links.
//!
//! The clock is read when a turn begins and ends, for each socket that is read, each batch that
//! comes, those that go, and where something ends: 20 to 30 ns each time, beside 1 µs and more
//! for the read or write that it is about.

use ahash::AHashSet;

use super::ShardLoop;
use super::writing::{Writing, Writings};
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::metrics::{Gauges, ShardSnapshot, Stage};
use crate::runtime::process::thread_cpu_ns;
use crate::shard::effect::{PublishedAt, Span, Urgency};

/// See the top of this file.
#[derive(Default)]
pub(super) struct Measuring {
    turn_began_ns: u64,
    writings: Writings,
    /// Connections whose sockets take no more for now.
    blocked: AHashSet<ConnectionId>,
}

impl Measuring {
    /// When the present turn began.
    pub(super) fn turn_began_ns(&self) -> u64 {
        self.turn_began_ns
    }

    /// A socket takes no more for now.
    pub(super) fn blocked(&mut self, id: ConnectionId) {
        self.blocked.insert(id);
    }

    /// A socket takes bytes again, or is gone.
    pub(super) fn unblocked(&mut self, id: ConnectionId) {
        self.blocked.remove(&id);
    }
}

impl ShardLoop {
    /// A turn begins. Returns when.
    pub(super) fn begin_turn(&mut self) -> (Now, u64) {
        let (now, began_ns) = self.clock.now_and_ns();
        self.forgive_lateness(now);
        self.shard.stamp(began_ns);
        self.measuring.turn_began_ns = began_ns;
        let metrics = self.shard.metrics();
        metrics.counters.turns += 1;
        metrics.latencies.turn_windows(now.mono_ms);
        (now, began_ns)
    }

    /// A turn ends that began at `began_ns`.
    pub(super) fn end_turn(&mut self, began_ns: u64) {
        let took_ns = self.clock.mono_ns() - began_ns;
        self.record(Stage::LoopLag, took_ns);
    }

    /// A socket that was known to be readable at `ready_ns` is read.
    pub(super) fn begin_read(&mut self, ready_ns: u64) {
        let now_ns = self.clock.mono_ns();
        self.shard.stamp(now_ns);
        self.record(Stage::ReadToCommand, now_ns.saturating_sub(ready_ns));
    }

    /// A batch is handled that another shard sent at `sent_ns`.
    pub(super) fn begin_batch(&mut self, sent_ns: u64) {
        let now_ns = self.clock.mono_ns();
        self.shard.stamp(now_ns);
        self.record(Stage::MeshHop, now_ns.saturating_sub(sent_ns));
    }

    /// A socket gave that many bytes.
    pub(super) fn count_received(&mut self, bytes: usize) {
        self.shard.metrics().counters.bytes_received += bytes as u64;
    }

    /// A socket took that many bytes.
    pub(super) fn count_sent(&mut self, bytes: usize) {
        self.shard.metrics().counters.bytes_sent += bytes as u64;
    }

    /// Measures what the shard says has ended.
    pub(super) fn end_spans(&mut self) {
        if self.shard.effects_mut().ended.is_empty() {
            return;
        }
        let now_ns = self.clock.mono_ns();
        let (effects, metrics) = self.shard.measured();
        for span in effects.ended.drain(..) {
            metrics
                .latencies
                .record(span.stage, now_ns.saturating_sub(span.began_ns));
        }
    }

    /// This turn's messages are in the outboxes that stand in the queue now.
    pub(super) fn begin_writes(&mut self) {
        let (writings, queue) = (&mut self.measuring.writings, &self.to_flush);
        writings.begin_turn();
        for (fan_out, urgency) in self.shard.effects_mut().published.drain(..) {
            writings.add(Writing::Publication(fan_out), urgency, queue);
        }
        for span in self.shard.effects_mut().writes.drain(..) {
            let urgency = match span.stage {
                Stage::Direct => Urgency::Live,
                _ => Urgency::Reply,
            };
            writings.add(Writing::Message(span), urgency, queue);
        }
    }

    /// This turn's outboxes have been flushed.
    pub(super) fn end_writes(&mut self) {
        let written = self.measuring.writings.written(&self.to_flush);
        if written.is_empty() {
            return;
        }
        let now_ns = self.clock.mono_ns();
        let since = |began_ns: u64| now_ns.saturating_sub(began_ns);
        let latencies = &mut self.shard.metrics().latencies;
        for (what, count) in written.drain(..) {
            match what {
                Writing::Publication(PublishedAt {
                    read_ns,
                    ordered_ns,
                }) => {
                    latencies.record_n(Stage::FanOut, since(read_ns), count);
                    latencies.record_n(Stage::OrderToLastWrite, since(ordered_ns), count);
                }
                Writing::Message(Span { stage, began_ns }) => {
                    latencies.record_n(stage, since(began_ns), count);
                }
            }
        }
    }

    /// A copy of everything, for whoever asked.
    pub(super) fn snapshot(&mut self) -> ShardSnapshot {
        let (connections, channels, peers) = self.shard.counts();
        let blocked = &self.measuring.blocked;
        // Who is in none of these has nothing to be written.
        let queued = self
            .shard
            .effects_mut()
            .dirty
            .iter()
            .chain(self.to_flush.iter());
        let waiting: AHashSet<ConnectionId> = queued.chain(blocked).copied().collect();
        let gauges = Gauges {
            connections,
            connections_unauthenticated: self.shard.unauthenticated_count(),
            channels,
            peers,
            connections_blocked: blocked.len(),
            outbound_queue_bytes: waiting.iter().map(|id| self.shard.waiting_bytes(*id)).sum(),
            mesh_backlog_messages: self.mesh_out.backlog_len(),
            mesh_queue_batches: self.mesh_in.len(),
            rights_version: self.shard.rights_version(),
        };
        ShardSnapshot {
            shard: self.shard.number(),
            cpu_ns: thread_cpu_ns(),
            gauges,
            metrics: Box::new(self.shard.metrics().clone()),
        }
    }

    fn record(&mut self, stage: Stage, ns: u64) {
        self.shard.metrics().latencies.record(stage, ns);
    }
}
