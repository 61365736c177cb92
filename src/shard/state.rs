//! The shard as a value: what it owns, and which part of it handles which input.
//!
//! A shard owns the connections its listener accepted, the channels and peers that hash to it,
//! and nothing else. It has no clock, no sockets and no threads: the runtime, or a simulation,
//! tells it what happened and when, and carries out what it asks for. What one shard says to
//! itself takes the same way as what it says to others, through `loopback`, which is empty
//! between inputs.

use std::fmt;
use std::sync::Arc;

use crate::domain::app_id::AppTag;
use crate::domain::connect_rate::ConnectRates;
use crate::domain::history::HistoryAck;
use crate::domain::rights::Rights;
use crate::domain::time::Now;
use crate::events::feed::FeedWriter;
use crate::events::kind::Cause;
use crate::events::recorder::Recorder;
use crate::ids::ConnectionId;
use crate::metrics::ShardMetrics;
use crate::metrics::label::AcceptPause;
use crate::proto::wire::position::Position;
use crate::proto::ws::close::CloseCode;
use crate::shard::channel::channels::Channels;
use crate::shard::channel::refill::Lacking;
use crate::shard::config::{Entropy, ShardConfig};
use crate::shard::connection::connections::Connections;
use crate::shard::connection::ending::{Failed, Why};
use crate::shard::context::Context;
use crate::shard::effect::Effects;
use crate::shard::history::restored::Found;
use crate::shard::input::Input;
use crate::shard::peer::peers::Peers;
use crate::shard::portions::Portions;
use crate::shard::recording::Refused;
use crate::shard::rest::Rest;
use crate::shard::tuning::Tuning;
use crate::shard::walks::Walks;

/// Connections whose held input goes on in one turn: each has up to a read and a message of it.
const RESUMES_PER_TURN_MAX: usize = 128;

/// One shard. See the top of this file.
pub struct Shard {
    pub(in crate::shard) context: Context,
    pub(in crate::shard) connections: Connections,
    pub(in crate::shard) channels: Channels,
    pub(in crate::shard) peers: Peers,
    pub(in crate::shard) rest: Rest,
    /// Work of which each turn does a portion.
    pub(in crate::shard) portions: Portions,
    /// What operators look at.
    pub(in crate::shard) walks: Walks,
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
            walks: Walks::default(),
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
            Input::Unreachable { connection } => self.connections.unreachable(connection),
            Input::Closed { connection } => self.closed(connection),
            Input::Mesh { from, message } => {
                self.context.mesh_received += 1;
                self.channels.pressure.watch();
                self.mesh(from.into(), message);
                self.settle();
                self.channels.throttle_if_pressed(&mut self.context);
            }
            Input::Link {
                to,
                over_limit,
                backlog_bytes,
            } => {
                self.context.record_link(to, over_limit, backlog_bytes);
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
            Input::ShutdownAnnounced => self.announce_shutdown(),
            Input::EndIdle => self.end_idle(),
            Input::Drain {
                window_ms,
                retry_after_ms,
            } => {
                self.drain(window_ms, retry_after_ms);
            }
            Input::Freeze => self.freeze(),
            Input::Thaw => self.thaw(),
            Input::Ask { query, number } => self.asked(query, number),
            Input::Stored { batch, is_stored } => {
                self.channels
                    .batch_settled(batch, is_stored, &mut self.context);
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

    /// Records events from now on with that: before the first input.
    pub fn record_with(&mut self, recorder: Recorder) {
        self.context.events = recorder;
    }

    /// Tells backends who came and went from now on with that: before the first input.
    pub fn feed_with(&mut self, feed: FeedWriter) {
        self.context.feed = feed;
    }

    /// A socket cannot be read or written any more; the number is that of the system's error, 0 if
    /// it is not known.
    pub fn socket_failed(&mut self, connection: ConnectionId, is_reading: bool, errno: u8) {
        let failed = match is_reading {
            true => Failed::Reading(errno),
            false => Failed::Writing(errno),
        };
        self.connections.note_failed(connection, failed);
    }

    /// The transport of an open connection is broken: its end follows.
    pub fn transport_failed(&mut self, connection: ConnectionId) {
        self.connections.note_failed(connection, Failed::Tls);
    }

    /// A connection goes no further than its transport.
    pub fn transport_refused(&mut self, connection: ConnectionId, is_tls: bool) {
        let cause = match is_tls {
            true => Cause::Tls,
            false => Cause::ProxyHeader,
        };
        if let Some(refused) = self.connections.get(connection) {
            let (id, remote) = (refused.id, refused.remote);
            self.context
                .refused(id, remote, &Refused::stranger(cause, 0));
        }
    }

    /// A listener takes nobody for a moment.
    pub(crate) fn accept_paused(&mut self, cause: AcceptPause) {
        self.context.accept_paused(cause);
    }

    /// A listener that took nobody for so many milliseconds goes on.
    pub(crate) fn accept_resumed(&mut self, paused_ms: u64) {
        self.context.accept_resumed(paused_ms);
    }

    /// Records what there is to say at the end: who is still connected, and sums that were begun.
    pub fn end_events(&mut self, now: Now) {
        self.context.now = now;
        let why = Why::server(Cause::Shutdown, CloseCode::GOING_AWAY);
        for slot in 0..self.connections.slot_count() {
            if let Some(id) = self.connections.id_at(slot) {
                self.connections.begin_ending(id, why, &mut self.context);
                self.context.record_closed(&self.connections[id]);
            }
        }
        let now_ns = self.context.event_ns();
        self.context.events.end_sums(now_ns, true);
    }

    /// What the shard counts and measures. The runtime adds what only it knows.
    #[inline]
    pub fn metrics(&mut self) -> &mut ShardMetrics {
        &mut self.context.metrics
    }

    /// Whether the runtime may read from that connection's socket.
    #[must_use]
    pub fn wants_input(&self, connection: ConnectionId) -> bool {
        let connection = self.connections.get(connection);
        connection.is_some_and(|it| !it.held.any() && !it.stream_ended) && !self.context.is_frozen
    }

    /// Whether a peer speaks over that connection that others may know of.
    #[must_use]
    pub fn is_in_session(&self, connection: ConnectionId) -> bool {
        self.connections.session(connection).is_some()
    }

    /// How many channels have joins or leaves that the end of the turn deals with.
    #[inline]
    #[must_use]
    pub fn channels_due(&self) -> usize {
        self.channels.batched.len()
    }

    /// Whether another turn has something to do even if nothing comes in.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.channels.batched.is_empty()
            || !self.channels.grown.is_empty()
            || self.connections.to_rearm > 0
            || self.portions.any_of_others()
            || !self.context.is_frozen && self.has_work_for_peers()
    }

    /// Whether another turn would serve somebody.
    fn has_work_for_peers(&self) -> bool {
        !self.connections.resumable.is_empty()
            || !self.channels.replaying.is_empty()
            || !self.portions.overdue.list.is_empty()
    }

    /// Which shard this is.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.context.id().shard().0
    }

    /// How many connections a peer has, if this shard owns it; else none.
    #[must_use]
    pub fn connected(&self, app: AppTag, peer: &str) -> u64 {
        let homes = self.peers.registry.by_home(app, peer, None);
        homes.iter().map(|(_, here)| here.len() as u64).sum()
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

    /// How many channels its connections are subscribed to, each counted for each of them.
    #[must_use]
    pub fn subscriptions(&self) -> u64 {
        self.channels.member_count
    }

    /// Bytes of memory that publications take which channels keep, and how many channels keep some
    /// or a numbering.
    #[must_use]
    pub fn histories(&self) -> (usize, usize) {
        let histories = &self.channels.histories;
        (histories.memory(), histories.len())
    }

    /// Bytes of memory that they may take: above it the one that was used least recently gives way.
    #[must_use]
    pub fn history_bytes_max(&self) -> usize {
        self.context.history_bytes_max()
    }

    /// Goes on with what was found on disk, and records from now on what is to be kept there;
    /// `is_open` says whether it can be written to. Who publishes is told when it is ordered, or
    /// when it is stored.
    pub fn keep_on_disk(&mut self, found: &[Found], is_open: bool, ack: HistoryAck, now: Now) {
        self.context.now = now;
        self.context.stores.begin(is_open, ack);
        for found in found {
            self.channels.restore(found, &mut self.context);
        }
    }

    /// Whether records are to be handed over, or somebody waits for some.
    #[inline]
    #[must_use]
    pub fn has_records(&self) -> bool {
        !self.context.effects.history.is_empty() || self.context.stores.is_awaited()
    }

    /// The records of this turn were handed over in the batch of that number. What becomes of it
    /// is told by [`Input::Stored`].
    pub fn records_handed_over(&mut self, batch: u64) {
        self.context.stores.handed_over(batch);
    }

    /// Records of a channel what the disk lacks, out of what is kept, into records that have so
    /// many bytes afterwards, or one publication more. Call it when the records of the turn were
    /// handed over. Returns the position to go on with, if that was not all.
    pub fn record_again(
        &mut self,
        lacking: &Lacking<'_>,
        into: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Option<Position> {
        let context = &self.context;
        self.channels
            .record_again(lacking, into, bytes_max, context)
    }

    /// Handles all that the present input has set off on this shard itself.
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
        if !self.context.is_frozen {
            self.serve();
        }
        self.channels
            .lend_buffers(&mut self.connections, &mut self.context);
        self.channels
            .end_pressure_turn(&mut self.connections, &mut self.context);
        self.connections.review_pardons();
    }

    /// Goes on with what waits for its turn, of peers and of operators.
    fn serve(&mut self) {
        self.advance_walks();
        for _ in 0..self.connections.resumable.len().min(RESUMES_PER_TURN_MAX) {
            if let Some(id) = self.connections.resumable.pop_front() {
                self.resume_input(id);
            }
        }
        self.channels
            .announce_batches(&mut self.connections, &mut self.context);
        self.channels
            .advance_replays(&mut self.connections, &mut self.context);
    }

    /// Whether new connections are to be accepted: not while the shard is frozen, and not while
    /// more than the bound have not shown a good credential.
    #[must_use]
    pub fn accepts(&self) -> bool {
        let strangers_max = self.context.config.limits.unauthenticated_connections_max;
        !self.context.is_frozen && self.connections.unauthenticated.count <= strangers_max
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
