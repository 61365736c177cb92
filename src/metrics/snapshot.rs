//! One shard's metrics: at work, and as a copy.

use super::counters::Counters;
use super::latency::Latencies;

/// What a shard counts and measures while it works.
#[derive(Clone, Debug, Default)]
pub struct ShardMetrics {
    /// How often things happened.
    pub counters: Counters,
    /// How long they took.
    pub latencies: Latencies,
}

/// How much there is on a shard at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connections in whatever stage.
    pub connections: usize,
    /// Those of them that have not shown a good credential.
    pub connections_unauthenticated: usize,
    /// Channels that it owns.
    pub channels: usize,
    /// Peers that it owns.
    pub peers: usize,
    /// Connections whose sockets take no more for now.
    pub connections_blocked: usize,
    /// Bytes that wait to be written to connections.
    pub outbound_queue_bytes: usize,
    /// Messages for other shards that are kept back because a link is full.
    pub mesh_backlog_messages: usize,
    /// Batches from other shards that wait to be handled.
    pub mesh_queue_batches: usize,
    /// Version of the apps and keys that hold on it.
    pub rights_version: u64,
}

/// A copy of what a shard has, counts and measures.
#[derive(Clone, Debug)]
pub struct ShardSnapshot {
    /// The shard's number.
    pub shard: u16,
    /// CPU time of its thread since the start, in nanoseconds.
    pub cpu_ns: u64,
    /// How much there is now.
    pub gauges: Gauges,
    /// How often things happened, and how long they took.
    pub metrics: Box<ShardMetrics>,
}
