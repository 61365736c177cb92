//! What all parts of a shard share: what it was told, the time of the present input, and where
//! it puts what it asks for.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::domain::connect_rate::ConnectRates;
use crate::domain::rights::Rights;
use crate::domain::time::Now;
use crate::events::feed::FeedWriter;
use crate::events::recorder::Recorder;
use crate::ids::{ConnectionId, ConnectionRef, Seat};
use crate::metrics::ShardMetrics;
use crate::planted::{Bug, planted};
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
use crate::shard::stores::Stores;
use crate::shard::tracing::Tracing;
use crate::shard::tuning::Tuning;
use crate::shard::usage::UsageMeter;

/// See the top of this file.
pub(in crate::shard) struct Context {
    pub(in crate::shard) config: ShardConfig,
    pub(in crate::shard) placement: Placement,
    pub(in crate::shard) tuning: Tuning,
    pub(in crate::shard) rights: Arc<Rights>,
    /// Connections that the present rights have closed, and that were not told of.
    pub(in crate::shard) closed_for_rights: u64,
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
    /// The same, for frames with `fromMetadata`.
    pub(in crate::shard) encoded_with_metadata: Vec<u8>,
    /// The same, for frames with the number of a publication.
    pub(in crate::shard) numbered: Vec<u8>,
    /// What was published in channels that are kept on disk.
    pub(in crate::shard) stores: Stores,
    /// Connections that got more than they can take, to be closed after the present input.
    pub(in crate::shard) slow: Vec<ConnectionId>,
    /// What other shards have been asked.
    pub(in crate::shard) questions: Pending<Question>,
    pub(in crate::shard) usage: UsageMeter,
    pub(in crate::shard) metrics: Box<ShardMetrics>,
    /// What has happened to whom, and why.
    pub(in crate::shard) events: Recorder,
    /// Whose messages are recorded for an operator.
    pub(in crate::shard) tracing: Option<Box<Tracing>>,
    /// Who came and went, for backends.
    pub(in crate::shard) feed: FeedWriter,
    pub(in crate::shard) http_date: HttpDate,
    pub(in crate::shard) memory_level: MemoryLevel,
    pub(in crate::shard) shutdown: Shutdown,
    /// Nobody is served: see `shard/steps/freeze.rs`.
    pub(in crate::shard) is_frozen: bool,
    /// Messages of other shards that were handled.
    pub(in crate::shard) mesh_received: u64,
    /// What `going_away` says, once draining.
    pub(in crate::shard) retry_after_ms: u64,
}

/// What clients are told when they are refused for it.
pub(in crate::shard) const SHUTTING_DOWN: &str = "the server is shutting down";

/// How far the end of the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Shutdown {
    /// It is not about to end.
    None,
    /// Load balancers are told, by health checks and `Connection: close`; all else goes on.
    Announced,
    /// Nobody may upgrade any more, and one WebSocket after another is closed.
    Draining,
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
            usage: UsageMeter::new(config.hasher.clone()),
            config,
            tuning: Tuning::default(),
            rights,
            closed_for_rights: 0,
            connect_rates,
            entropy,
            now,
            stamp_ns: 0,
            loopback: VecDeque::new(),
            pool: BufferPool::default(),
            encoded: Vec::new(),
            encoded_with_metadata: Vec::new(),
            numbered: Vec::new(),
            stores: Stores::default(),
            questions: Pending::default(),
            slow: Vec::new(),
            metrics: Box::default(),
            events: Recorder::default(),
            tracing: None,
            feed: FeedWriter::default(),
            http_date: HttpDate::default(),
            memory_level: MemoryLevel::default(),
            shutdown: Shutdown::None,
            is_frozen: false,
            mesh_received: 0,
            retry_after_ms: 0,
        }
    }

    /// The seat of this shard.
    #[inline]
    pub(in crate::shard) fn id(&self) -> Seat {
        self.placement.here()
    }

    /// A connection of this shard, as other shards name it.
    pub(in crate::shard) fn here(&self, connection: ConnectionId) -> ConnectionRef {
        ConnectionRef {
            home: self.id(),
            connection,
        }
    }

    /// How much of deliveries may wait for one connection, in bytes, beside what it is pardoned.
    /// While the shard is frozen, whatever was on its way may.
    #[inline]
    pub(in crate::shard) fn delivery_bytes_max(&self) -> usize {
        match self.is_frozen {
            true => usize::MAX,
            false => self.config.limits.outbound_queue_bytes,
        }
    }

    /// Sends a message to a seat, this shard's own included.
    pub(in crate::shard) fn send(&mut self, to: Seat, message: MeshMessage) {
        if to == self.id() {
            self.loopback.push_back(message);
        } else {
            self.links.feed(to.shard());
            if planted(Bug::ReorderedByParkedLink) && self.links.has_fed_blocked() {
                self.effects.mesh_sent += 1;
                return self.effects.mesh[to.shard().index()].insert(0, message);
            }
            self.effects.send(to.shard(), message);
        }
    }

    /// Sends a message to every other shard.
    pub(in crate::shard) fn send_to_others(&mut self, message: impl Fn() -> MeshMessage) {
        for shard in self.placement.others() {
            self.effects.send(shard, message());
        }
    }
}
