//! What all parts of a shard share: what it was told, the time of the present input, and where
//! it puts what it asks for.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::domain::connect_rate::ConnectRates;
use crate::domain::rights::Rights;
use crate::domain::time::Now;
use crate::ids::{ConnectionId, ConnectionRef, ShardId};
use crate::metrics::ShardMetrics;
use crate::shard::config::{Entropy, ShardConfig};
use crate::shard::effect::Effects;
use crate::shard::http_date::HttpDate;
use crate::shard::input::MemoryLevel;
use crate::shard::links::Links;
use crate::shard::mesh_message::MeshMessage;
use crate::shard::outbound::outbox::BufferPool;
use crate::shard::pending::Pending;
use crate::shard::placement::Placement;
use crate::shard::questions::Question;
use crate::shard::tuning::Tuning;
use crate::shard::usage::Usage;

/// See the top of this file.
pub(in crate::shard) struct Context {
    pub(in crate::shard) config: ShardConfig,
    pub(in crate::shard) placement: Placement,
    pub(in crate::shard) tuning: Tuning,
    pub(in crate::shard) rights: Arc<Rights>,
    pub(in crate::shard) connect_rates: Arc<ConnectRates>,
    pub(in crate::shard) entropy: Box<dyn Entropy>,
    /// The time of the present input.
    pub(in crate::shard) now: Now,
    /// When the present input arrived, in nanoseconds on the monotonic clock; 0 when unknown.
    pub(in crate::shard) stamp_ns: u64,
    pub(in crate::shard) effects: Effects,
    /// What the shard says to itself; empty between inputs.
    pub(in crate::shard) loopback: VecDeque<MeshMessage>,
    pub(in crate::shard) links: Links,
    pub(in crate::shard) pool: BufferPool,
    /// Frames are encoded here before they are copied to where they belong.
    pub(in crate::shard) encoded: Vec<u8>,
    /// The variant with `fromMetadata`.
    pub(in crate::shard) encoded_with_metadata: Vec<u8>,
    /// Connections that got more than they can take, to be closed after the present input.
    pub(in crate::shard) slow: Vec<ConnectionId>,
    /// What other shards have been asked.
    pub(in crate::shard) questions: Pending<Question>,
    pub(in crate::shard) usage: Usage,
    pub(in crate::shard) metrics: Box<ShardMetrics>,
    pub(in crate::shard) http_date: HttpDate,
    pub(in crate::shard) memory_level: MemoryLevel,
    pub(in crate::shard) draining: bool,
    /// What `going_away` says, once draining.
    pub(in crate::shard) retry_after_ms: u64,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("shard", &self.id())
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// The context of a shard that has not been told anything yet.
    pub(in crate::shard) fn new(
        config: ShardConfig,
        rights: Arc<Rights>,
        connect_rates: Arc<ConnectRates>,
        entropy: Box<dyn Entropy>,
        now: Now,
    ) -> Self {
        Self {
            effects: Effects::new(config.shard_count),
            links: Links::new(config.shard_count),
            placement: Placement::new(config.shard, config.shard_count, config.hasher.clone()),
            usage: Usage::new(config.hasher.clone()),
            config,
            tuning: Tuning::default(),
            rights,
            connect_rates,
            entropy,
            now,
            stamp_ns: 0,
            loopback: VecDeque::new(),
            pool: BufferPool::default(),
            encoded: Vec::new(),
            encoded_with_metadata: Vec::new(),
            questions: Pending::default(),
            slow: Vec::new(),
            metrics: Box::default(),
            http_date: HttpDate::default(),
            memory_level: MemoryLevel::default(),
            draining: false,
            retry_after_ms: 0,
        }
    }

    /// Which shard this is.
    #[inline]
    pub(in crate::shard) fn id(&self) -> ShardId {
        self.placement.here()
    }

    /// A connection of this shard, as other shards name it.
    pub(in crate::shard) fn here(&self, connection: ConnectionId) -> ConnectionRef {
        ConnectionRef {
            shard: self.id(),
            connection,
        }
    }

    /// Sends a message to a shard, this one included.
    pub(in crate::shard) fn send(&mut self, to: ShardId, message: MeshMessage) {
        if to == self.id() {
            self.loopback.push_back(message);
        } else {
            self.links.feed(to);
            self.effects.send(to, message);
        }
    }

    /// Sends a message to every other shard.
    pub(in crate::shard) fn send_to_others(&mut self, message: impl Fn() -> MeshMessage) {
        for shard in self.placement.others() {
            self.effects.send(shard, message());
        }
    }
}
