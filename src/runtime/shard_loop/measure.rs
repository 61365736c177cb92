//! What the loop counts and measures: whatever needs a clock or is about sockets and links.
//!
//! The clock is read when a turn begins and ends, for each socket that is read, each batch that
//! comes, those that go, and where something ends: 20 to 30 ns each time, beside 1 µs and more
//! for the read or write that it is about.

use std::collections::VecDeque;

use ahash::AHashSet;

use super::ShardLoop;
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::metrics::{Gauges, ShardSnapshot, Stage};
use crate::runtime::flush_queue::Mark;
use crate::runtime::process::thread_cpu_ns;
use crate::shard::effect::FanOut;

/// Publications of one turn whose last write is measured each by itself. Those beyond are
/// measured as if they had come with the last of these.
const FAN_OUTS_PER_TURN_MAX: usize = 64;

/// See the top of this file.
#[derive(Default)]
pub(super) struct Measuring {
    turn_began_ns: u64,
    /// Publications whose last write is in this turn, and how many each stands for.
    ending: Vec<(FanOut, u32)>,
    /// Those whose last write is later, and when.
    under_way: VecDeque<(FanOut, u32, Mark)>,
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
    /// A turn begins. Answers when.
    pub(super) fn begin_turn(&mut self) -> (Now, u64) {
        let (now, began_ns) = self.clock.now_and_ns();
        self.forgive_lateness(now);
        self.shard.stamp(began_ns);
        self.to_flush.begin_turn();
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
        if self.effects.ended.is_empty() {
            return;
        }
        let now_ns = self.clock.mono_ns();
        let latencies = &mut self.shard.metrics().latencies;
        for span in self.effects.ended.drain(..) {
            latencies.record(span.stage, now_ns.saturating_sub(span.began_ns));
        }
    }

    /// This turn's publications are in the outboxes that stand in the queue now.
    pub(super) fn begin_fan_outs(&mut self) {
        let under_way = &mut self.measuring.under_way;
        let mark = self.to_flush.mark();
        let mut fan_outs = self.effects.fan_outs.drain(..);
        for fan_out in fan_outs.by_ref().take(FAN_OUTS_PER_TURN_MAX) {
            under_way.push_back((fan_out, 1, mark));
        }
        let beyond = fan_outs.count() as u32;
        let last = under_way.back_mut().map(|(_, count, _)| count);
        if let Some(count) = last {
            *count += beyond;
        }
    }

    /// This turn's outboxes have been flushed.
    pub(super) fn end_fan_outs(&mut self) {
        let Measuring {
            ending, under_way, ..
        } = &mut self.measuring;
        let is_over = |(_, _, mark): &mut (FanOut, u32, Mark)| self.to_flush.is_past(*mark);
        while let Some((fan_out, count, _)) = under_way.pop_front_if(is_over) {
            ending.push((fan_out, count));
        }
        if ending.is_empty() {
            return;
        }
        let now_ns = self.clock.mono_ns();
        let latencies = &mut self.shard.metrics().latencies;
        for (fan_out, count) in ending.drain(..) {
            let since = |began_ns: u64| now_ns.saturating_sub(began_ns);
            latencies.record_n(Stage::FanOut, since(fan_out.read_ns), count);
            latencies.record_n(Stage::OrderToLastWrite, since(fan_out.ordered_ns), count);
        }
    }

    /// A copy of everything, for whoever asked.
    pub(super) fn snapshot(&mut self) -> ShardSnapshot {
        let (connections, channels, peers) = self.shard.counts();
        let blocked = &self.measuring.blocked;
        // Who is in none of these has nothing to be written.
        let queued = self.effects.dirty.iter().chain(self.to_flush.iter());
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
