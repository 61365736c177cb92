//! What a shard is told once.

use std::sync::Arc;

use ahash::RandomState;

use crate::domain::history::HistorySettings;
use crate::domain::request_rate::RequestRates;
use crate::domain::token_bucket::BucketLimits;
use crate::ids::ShardId;
use crate::limits::HEAD_BYTES_DEFAULT;
use crate::proto::forwarded::TrustedProxies;
use crate::shard::handler::Handler;

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
    /// How many shards there are.
    pub shard_count: u16,
    /// The process's hash keys: the same on all shards, unknown outside.
    pub hasher: RandomState,
    /// Refuse bad credentials with a close frame after the handshake, not with an HTTP status.
    pub reject_with_close: bool,
    /// Tell clients what is wrong with a credential.
    pub explain: bool,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// Take a key id alone for a REST credential, although every token shows it.
    pub accept_bare_key_id: bool,
    /// REST requests by key and address, counted over all shards.
    pub request_rates: Arc<RequestRates>,
    /// See [`ShardLimits`].
    pub limits: ShardLimits,
    /// The page that people get at `/`; empty for none.
    pub start_page: Arc<str>,
    /// What takes messages in place of ringmesh's own protocol.
    pub handler: Option<Arc<dyn Handler>>,
}

/// Configurable bounds; sizes in bytes, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// Size of a message, as `welcome` says it.
    pub message_bytes_max: usize,
    /// How many channels one connection may be in.
    pub channels_per_connection: usize,
    /// Message rate of one connection, where its app sets none.
    pub message_rate: BucketLimits,
    /// How much of deliveries may wait for one connection.
    pub outbound_queue_bytes: usize,
    /// Size of a request's head.
    pub head_bytes_max: usize,
    /// Size of a REST request's body.
    pub rest_body_bytes_max: usize,
    /// How long a peer may take for a request's head, and again for its body.
    pub head_timeout_ms: u64,
    /// How long an HTTP connection may be idle before it is closed.
    pub keep_alive_ms: u64,
    /// How long nothing may come from a peer before it is pinged.
    pub ping_after_ms: u64,
    /// How long nothing may come from a peer before it is dropped.
    pub drop_after_ms: u64,
    /// How many connections of this shard may have shown no good credential.
    pub unauthenticated_connections_max: usize,
    /// What channels may keep together, and hand out at once.
    pub history: HistorySettings,
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
            history: HistorySettings::default(),
        }
    }
}
