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

/// History on disk, as the thread that writes it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryDisk {
    /// Bytes that were appended.
    pub appended_bytes: u64,
    /// Bytes of all segments.
    pub stored_bytes: u64,
    /// Segments that are there.
    pub segments: u64,
    /// Syncs that went well.
    pub syncs: u64,
    /// The time they took, in nanoseconds.
    pub sync_ns: u64,
    /// Writes and syncs that failed.
    pub errors: u64,
    /// Channels of which the disk does not know where they are.
    pub channels_behind: u64,
    /// Whether the last attempt failed.
    pub is_failing: bool,
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
    /// Channels that connections are subscribed to, each counted for each of them.
    pub subscriptions: u64,
    /// Connections whose sockets take no more for now.
    pub connections_blocked: usize,
    /// Bytes that wait to be written to connections.
    pub outbound_queue_bytes: usize,
    /// Messages for other shards that are kept back because a link is full.
    pub mesh_backlog_messages: usize,
    /// Batches from other shards that wait to be handled.
    pub mesh_queue_batches: usize,
    /// Channels that keep publications.
    pub history_channels: usize,
    /// Bytes that these take.
    pub history_bytes: usize,
    /// Bytes that they may take.
    pub history_bytes_max: usize,
    /// What is kept on disk.
    pub history_disk: HistoryDisk,
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
