//! The shard as a value: what it owns, and which part of it handles which input.
//!
//! A shard owns the connections its listener accepted, the channels and peers that hash to it,
//! and nothing else. It has no clock, no sockets and no threads: the runtime, or a simulation,
//! tells it what happened and when, and carries out what it asks for. What one shard says to
//! itself takes the same way as what it says to others, through `loopback`, which is empty
//! between inputs.

use std::fmt;
use std::sync::Arc;

use crate::domain::connect_rate::ConnectRates;
use crate::domain::rights::Rights;
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::metrics::ShardMetrics;
use crate::shard::channel::channels::Channels;
use crate::shard::config::{Entropy, ShardConfig};
use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use crate::shard::effect::Effects;
use crate::shard::input::Input;
use crate::shard::peer::peers::Peers;
use crate::shard::portions::Portions;
use crate::shard::rest::Rest;
use crate::shard::tuning::Tuning;

/// Connections whose held input goes on in one turn: each has up to a read and a message of it.
const RESUMES_PER_TURN_MAX: usize = 128;

/// One shard. See the top of this file.
pub struct Shard {
    pub(in crate::shard) context: Context,
    pub(in crate::shard) connections: Connections,
    pub(in crate::shard) channels: Channels,
    pub(in crate::shard) peers: Peers,
    pub(in crate::shard) rest: Rest,
    /// Work that is done a portion a turn.
    pub(in crate::shard) portions: Portions,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.context.id())
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// A shard without connections.
    #[must_use]
    pub fn new(
        config: ShardConfig,
        rights: Arc<Rights>,
        connect_rates: Arc<ConnectRates>,
        entropy: Box<dyn Entropy>,
        now: Now,
    ) -> Self {
        Self {
            peers: Peers::new(config.hasher.clone()),
            connections: Connections::new(now.mono_ms),
            channels: Channels::default(),
            rest: Rest::new(&config.hasher),
            portions: Portions::default(),
            context: Context::new(config, rights, connect_rates, entropy, now),
        }
    }

    /// Handles one input completely.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        self.context.now = now;
        #[cfg(debug_assertions)]
        let touched = input.connection();
        match input {
            Input::Accepted { connection, remote } => self.accepted(connection, remote),
            Input::MakeRoom => self.connections.make_room(&mut self.context),
            Input::Proxied { connection, client } => self.connections.proxied(connection, client),
            Input::Handshake { connection, step } => {
                self.connections
                    .handshake(connection, step, &mut self.context)
            }
            Input::Received { connection, bytes } => self.received(connection, bytes),
            Input::Ended { connection } => {
                self.channels
                    .stream_ended(connection, &mut self.connections, &mut self.context)
            }
            Input::Closed { connection } => self.closed(connection),
            Input::Mesh { from, message } => {
                self.channels.pressure.watch();
                self.mesh(from, message);
                self.settle();
                self.channels.throttle_if_pressed(&mut self.context);
            }
            Input::Link { to, over_limit } => {
                self.channels
                    .link(to, over_limit, &mut self.connections, &mut self.context)
            }
            Input::Lost { shard } => self.lost(shard),
            Input::Memory {
                level,
                excess_bytes,
            } => self.memory(level, excess_bytes),
            Input::Quiet => self.give_back(),
            Input::Rights(rights) => self.switch_rights(rights),
            Input::Settings(settings) => self
                .connections
                .switch_settings(&settings, &mut self.context),
            Input::Drain {
                window_ms,
                retry_after_ms,
            } => {
                self.drain(window_ms, retry_after_ms);
            }
            Input::Usage => self.context.usage.report(&mut self.context.effects.usage),
            Input::Time => self.time(),
            Input::EndOfTurn => self.end_of_turn(),
        }
        self.settle();
        #[cfg(debug_assertions)]
        if let Some(connection) = touched {
            self.check_bounds(connection);
        }
    }

    /// What the shard asks for; the driver empties the lists.
    #[inline]
    pub fn effects_mut(&mut self) -> &mut Effects {
        &mut self.context.effects
    }

    /// See [`effects_mut`](Self::effects_mut).
    #[inline]
    #[must_use]
    pub fn effects(&self) -> &Effects {
        &self.context.effects
    }

    /// What the shard has asked to be measured, and where to.
    #[inline]
    pub fn measured(&mut self) -> (&mut Effects, &mut ShardMetrics) {
        (&mut self.context.effects, &mut self.context.metrics)
    }

    /// Says when the inputs that follow arrived, in nanoseconds on the monotonic clock: more
    /// exact than [`Now`], and for measuring only. Without it, latencies are measured as none.
    #[inline]
    pub fn stamp(&mut self, mono_ns: u64) {
        self.context.stamp_ns = mono_ns;
    }

    /// What the shard counts and measures. The runtime adds what only it knows.
    #[inline]
    pub fn metrics(&mut self) -> &mut ShardMetrics {
        &mut self.context.metrics
    }

    /// Whether the runtime may read from that connection's socket.
    #[must_use]
    pub fn wants_input(&self, connection: ConnectionId) -> bool {
        self.connections
            .get(connection)
            .is_some_and(|connection| !connection.held.any() && !connection.stream_ended)
    }

    /// Whether another turn has something to do even if nothing comes in.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.connections.resumable.is_empty()
            || !self.channels.batched.is_empty()
            || !self.channels.grown.is_empty()
            || self.connections.to_rearm > 0
            || self.portions.any()
    }

    /// Which shard this is.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.context.id().0
    }

    /// Version of the rights that hold.
    #[must_use]
    pub fn rights_version(&self) -> u64 {
        self.context.rights.version
    }

    /// How many connections there are in whatever phase, how many channels and peers are owned.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        (
            self.connections.len(),
            self.channels.owned_count(),
            self.peers.registry.len(),
        )
    }

    /// Brings everything that the present input has set going to its end on this shard.
    #[inline]
    pub(in crate::shard) fn settle(&mut self) {
        if !self.context.loopback.is_empty() || !self.context.slow.is_empty() {
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        loop {
            if let Some(message) = self.context.loopback.pop_front() {
                self.mesh(self.context.id(), message);
            } else if let Some(connection) = self.context.slow.pop() {
                self.channels.close_slow_consumer(
                    connection,
                    &mut self.connections,
                    &mut self.context,
                );
            } else {
                return;
            }
        }
    }

    fn end_of_turn(&mut self) {
        self.advance_portions();
        self.settle();
        self.connections.rearm_some(&mut self.context);
        self.channels
            .announce_batches(&mut self.connections, &mut self.context);
        self.settle();
        for _ in 0..self.connections.resumable.len().min(RESUMES_PER_TURN_MAX) {
            if let Some(id) = self.connections.resumable.pop_front() {
                self.resume_input(id);
            }
        }
        self.channels
            .announce_batches(&mut self.connections, &mut self.context);
        self.channels
            .lend_buffers(&mut self.connections, &mut self.context);
        self.channels
            .end_pressure_turn(&mut self.connections, &mut self.context);
    }

    /// Whether the bound is kept. If not, nobody is to be accepted.
    #[must_use]
    pub fn accepts(&self) -> bool {
        self.connections.unauthenticated.count
            <= self.context.config.limits.unauthenticated_connections_max
    }

    /// How many connections have not shown a good credential.
    #[must_use]
    pub fn unauthenticated_count(&self) -> usize {
        self.connections.unauthenticated.count
    }

    /// Changes bounds, for a simulation: before the first input.
    pub fn tune(&mut self, tuning: Tuning) {
        self.context.tuning = tuning;
    }
}
