//! The shard as a value: what it owns, and which part of it handles which input.
//!
//! A shard owns the connections its listener accepted, the channels and peers that hash to it,
//! and nothing else. It has no clock, no sockets and no threads: the runtime, or a simulation,
//! tells it what happened and when, and carries out what it asks for. What one shard says to
//! itself takes the same way as what it says to others, through `loopback`, which is empty
//! between inputs.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use ahash::{AHashMap, RandomState};

use crate::domain::connect_rate::ConnectRates;
use crate::domain::peers::Peers;
use crate::domain::request_rate::RequestRates;
use crate::domain::rights::Rights;
use crate::domain::time::Now;
use crate::domain::timer_wheel::TimerWheel;
use crate::domain::token_bucket::BucketLimits;
use crate::ids::{ConnectionId, ShardId, Ticket};
use crate::metrics::ShardMetrics;
use crate::proto::forwarded::TrustedProxies;
use crate::shard::channel::back_pressure::BackPressure;
use crate::shard::channel::channels::{ChannelSlot, Channels};
use crate::shard::connection::connections::{Connections, Held, Phase};
use crate::shard::connection::unauthenticated::Unauthenticated;
use crate::shard::context::Context;
use crate::shard::deadlines::Stalled;

use crate::shard::effect::Effects;
use crate::shard::input::Input;
use crate::shard::mesh_message::MeshMessage;
use crate::shard::pending::Pending;
use crate::shard::portions::Portions;
use crate::shard::questions::Question;
use crate::shard::rest::Rest;

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
#[derive(Clone, Debug)]
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

/// Connections whose held input goes on in one turn: each has up to a read and a message of it.
const RESUMES_PER_TURN_MAX: usize = 128;

/// One shard. See the top of this file.
pub struct Shard {
    pub(in crate::shard) context: Context,
    pub(in crate::shard) connections: Connections,
    pub(in crate::shard) channels: Channels,
    pub(in crate::shard) peers: Peers,
    pub(in crate::shard) timers: TimerWheel<ConnectionId>,
    /// Slots of connections, from the first, whose timers were set for longer times than hold now.
    pub(in crate::shard) to_rearm: u32,
    /// Owned channels with presence changes that are announced at the end of the turn.
    pub(in crate::shard) batched: Vec<ChannelSlot>,
    /// Owned channels whose presence changes are announced later, and when.
    pub(in crate::shard) announcements: BTreeSet<(u64, ChannelSlot)>,
    /// Owned channels that wait for home shards, and until when.
    pub(in crate::shard) barriers: BTreeSet<(u64, ChannelSlot)>,
    /// Connections whose snapshots leave later, and when, in that order.
    pub(in crate::shard) pauses: VecDeque<(u64, ConnectionId)>,
    /// Channels whose fan-out buffers have grown in this turn.
    pub(in crate::shard) grown: Vec<ChannelSlot>,
    /// Connections that got more than they can take, to be closed after the present input.
    pub(in crate::shard) slow: Vec<ConnectionId>,
    /// Connections whose held input may go on.
    pub(in crate::shard) resumable: VecDeque<ConnectionId>,
    pub(in crate::shard) unauthenticated: Unauthenticated,
    /// What other shards have been asked.
    pub(in crate::shard) questions: Pending<Question>,
    /// Direct messages whose scope is being asked for, by sender and in order.
    pub(in crate::shard) scopes: AHashMap<ConnectionId, VecDeque<Ticket>>,
    pub(in crate::shard) rest: Rest,
    /// See [`forgive`](Self::forgive).
    pub(in crate::shard) forgiven_ms: u64,
    pub(in crate::shard) stalled: Stalled,
    /// See [`judge_until`](Self::judge_until).
    pub(in crate::shard) heard_ms: u64,
    /// Work that is done a portion a turn.
    pub(in crate::shard) portions: Portions,
    pub(in crate::shard) pressure: BackPressure,
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
            connections: Connections::default(),
            channels: Channels::default(),
            timers: TimerWheel::new(now.mono_ms),
            batched: Vec::new(),
            announcements: BTreeSet::new(),
            barriers: BTreeSet::new(),
            pauses: VecDeque::new(),
            grown: Vec::new(),
            slow: Vec::new(),
            resumable: VecDeque::new(),
            unauthenticated: Unauthenticated::default(),
            questions: Pending::default(),
            scopes: AHashMap::new(),
            rest: Rest::default(),
            to_rearm: 0,
            forgiven_ms: 0,
            stalled: Stalled::default(),
            heard_ms: u64::MAX,
            portions: Portions::default(),
            pressure: BackPressure::default(),
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
            Input::MakeRoom => self.make_room(),
            Input::Proxied { connection, client } => self.proxied(connection, client),
            Input::Handshake { connection, step } => self.handshake(connection, step),
            Input::Received { connection, bytes } => self.received(connection, bytes),
            Input::Ended { connection } => self.stream_ended(connection),
            Input::Closed { connection } => self.closed(connection),
            Input::Mesh { from, message } => {
                self.pressure.watch();
                self.mesh(from, message);
                self.settle();
                self.throttle_if_pressed();
            }
            Input::Link { to, over_limit } => self.link(to, over_limit),
            Input::Lost { shard } => self.lost(shard),
            Input::Memory {
                level,
                excess_bytes,
            } => self.memory(level, excess_bytes),
            Input::Rights(rights) => self.switch_rights(rights),
            Input::Settings(settings) => self.switch_settings(&settings),
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

    /// When [`Input::Time`] is due next, on the monotonic clock; never too late.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let deadlines = [
            self.timers.next_deadline(),
            self.context.usage.due_ms(),
            self.next_snapshot_ms(),
            self.next_announcement_ms(),
            self.next_question_ms(),
            self.next_barrier_ms(),
            self.next_look_ms(),
        ];
        deadlines.into_iter().flatten().min()
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
        !self.resumable.is_empty()
            || !self.batched.is_empty()
            || !self.grown.is_empty()
            || self.to_rearm > 0
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
            self.peers.len(),
        )
    }

    /// Brings everything that the present input has set going to its end on this shard.
    #[inline]
    pub(in crate::shard) fn settle(&mut self) {
        if !self.context.loopback.is_empty() || !self.slow.is_empty() {
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        loop {
            if let Some(message) = self.context.loopback.pop_front() {
                self.mesh(self.context.id(), message);
            } else if let Some(connection) = self.slow.pop() {
                self.close_slow_consumer(connection);
            } else {
                return;
            }
        }
    }

    /// Starts attributing what is sent, and what it leads to, to one connection.
    pub(in crate::shard) fn watch_links(&mut self) {
        self.context.links.watch();
        self.pressure.watch();
    }

    /// Holds a connection's input back if a blocked link was fed since
    /// [`watch_links`](Self::watch_links). What other shards feed through this one is held back
    /// there, by `Throttle`.
    pub(in crate::shard) fn hold_if_link_blocked(&mut self, id: ConnectionId) {
        self.hold_if_pressed(id);
        if self.context.links.has_fed_blocked()
            && let Some(connection) = self.connections.get_mut(id)
            && let Phase::Http(_) | Phase::Registering(_) | Phase::Open(_) = connection.phase
        {
            connection.held.add(Held::LINK);
            self.context.links.hold(id);
        }
    }

    fn link(&mut self, to: ShardId, over_limit: bool) {
        self.context.links.set_over_limit(to, over_limit);
        self.tell_throttle();
        self.resume_after_links();
    }

    /// Tells the other shards whether to hold back what they send here, if that has changed.
    pub(in crate::shard) fn tell_throttle(&mut self) {
        let is_overfed = self.pressure.is_overfed();
        if let Some(throttle) = self.context.links.throttle_to_tell(is_overfed) {
            self.context
                .send_to_others(|| MeshMessage::Throttle(throttle));
        }
    }

    pub(in crate::shard) fn throttle(&mut self, from: ShardId, throttled: bool) {
        self.context.links.set_throttled(from, throttled);
        self.resume_after_links();
    }

    pub(in crate::shard) fn resume_after_links(&mut self) {
        for id in self.context.links.take_released() {
            self.release_input(id, Held::LINK);
        }
    }

    /// Removes a reason for holding input back; the input goes on at the end of the turn.
    pub(in crate::shard) fn release_input(&mut self, id: ConnectionId, reason: Held) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.held.has(reason)
        {
            connection.held.remove(reason);
            if !connection.held.any() {
                connection.held.add(Held::RESUMING);
                self.resumable.push_back(id);
            }
        }
    }

    fn mesh(&mut self, from: ShardId, message: MeshMessage) {
        match message {
            MeshMessage::Join(join) => self.owner_join(*join),
            MeshMessage::Leave(leave) => self.owner_leave(*leave),
            MeshMessage::Publish(publish) => self.owner_publish(from, *publish),
            MeshMessage::Announced(announced) => self.owner_announced(from, &announced),
            MeshMessage::Joined(joined) => self.home_joined(*joined),
            MeshMessage::Left(left) => self.home_left(*left),
            MeshMessage::Published(published) => self.published(published),
            MeshMessage::Deliver(deliver) => self.home_deliver(&deliver),
            MeshMessage::Announce(announce) => self.home_announce(from, &announce),
            MeshMessage::Register(register) => self.peer_register(&register),
            MeshMessage::Registered(ticket) => self.owner_registered(ticket),
            MeshMessage::Unregister(it) => {
                let peer_id = it.peer.id.as_str();
                self.peers.unregister(it.app, peer_id, it.connection);
            }
            MeshMessage::Send(send) => self.peer_send(*send),
            MeshMessage::Direct(direct) => self.home_direct(&direct),
            MeshMessage::DirectResult(result) => self.direct_result(from, result),
            MeshMessage::Scope(scope) => self.owner_scope(&scope),
            MeshMessage::ScopeResult(result) => self.scope_result(from, result),
            MeshMessage::ListPeers(list) => self.owner_list_peers(from, &list),
            MeshMessage::Kick(kick) => self.owner_kick(from, &kick),
            MeshMessage::KickHere(kick) => self.home_kick(from, *kick),
            MeshMessage::Kicked(kicked) => self.owner_kicked(from, kicked),
            MeshMessage::Reach(ticket) => self.reach(from, ticket),
            MeshMessage::Reached(ticket) => self.home_reached(from, ticket),
            MeshMessage::RestResult(result) => self.rest_result(*result),
            MeshMessage::Lag(lag) => self.owner_lag(from, *lag),
            MeshMessage::Hold(hold) => self.hold(&hold),
            MeshMessage::Throttle(throttled) => self.throttle(from, throttled),
        }
    }

    fn end_of_turn(&mut self) {
        self.advance_portions();
        self.settle();
        self.rearm_some();
        self.announce_batches();
        self.settle();
        for _ in 0..self.resumable.len().min(RESUMES_PER_TURN_MAX) {
            if let Some(id) = self.resumable.pop_front() {
                self.resume_input(id);
            }
        }
        self.announce_batches();
        self.lend_buffers();
        self.end_pressure_turn();
    }
}
