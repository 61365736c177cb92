//! What a shard is told once.

use std::sync::Arc;

use ahash::RandomState;

use crate::domain::request_rate::RequestRates;
use crate::domain::token_bucket::BucketLimits;
use crate::ids::ShardId;
use crate::limits::HEAD_BYTES_DEFAULT;
use crate::proto::forwarded::TrustedProxies;

/// Randomness for peer ids, given to the shard from outside.
pub trait Entropy {
    /// Fills the buffer.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// What a shard is told once.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which shard it is.
    pub shard: ShardId,
    /// Of how many.
    pub shard_count: u16,
    /// The process's hash keys: the same on all shards, unknown outside.
    pub hasher: RandomState,
    /// Refuse bad credentials with a close frame behind the handshake, not with an HTTP status.
    pub reject_with_close: bool,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// Take a key id alone for a REST credential, although every token shows it.
    pub accept_bare_key_id: bool,
    /// REST requests by key and address, counted over all shards.
    pub request_rates: Arc<RequestRates>,
    /// See [`ShardLimits`].
    pub limits: ShardLimits,
}

/// Configurable bounds; sizes in bytes, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// As advertised in `welcome`.
    pub message_bytes_max: usize,
    /// Channels of one connection.
    pub channels_per_connection: usize,
    /// Message rate of one connection, where its app sets none.
    pub message_rate: BucketLimits,
    /// Deliveries queued to one connection.
    pub outbound_queue_bytes: usize,
    /// Request head.
    pub head_bytes_max: usize,
    /// Body of a REST request.
    pub rest_body_bytes_max: usize,
    /// Time to send the request head, and again for the body.
    pub head_timeout_ms: u64,
    /// An idle HTTP connection is closed after that.
    pub keep_alive_ms: u64,
    /// A ping is sent after that long without inbound bytes.
    pub ping_after_ms: u64,
    /// The connection is dropped after that long without any.
    pub drop_after_ms: u64,
    /// Connections of this shard that have not shown a good credential.
    pub unauthenticated_connections_max: usize,
}

impl Default for ShardLimits {
    /// What a server has that is not configured, on a machine without a limit on descriptors.
    fn default() -> Self {
        Self {
            message_bytes_max: 65_536,
            channels_per_connection: 100,
            message_rate: BucketLimits {
                rate_per_sec: 100,
                burst: 200,
            },
            outbound_queue_bytes: 1_048_576,
            head_bytes_max: HEAD_BYTES_DEFAULT,
            rest_body_bytes_max: 32_768,
            head_timeout_ms: 5_000,
            keep_alive_ms: 130_000,
            ping_after_ms: 25_000,
            drop_after_ms: 75_000,
            unauthenticated_connections_max: usize::MAX,
        }
    }
}
