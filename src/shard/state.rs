//! The shard as a value: what it owns, and which part of it handles which input.
//!
//! A shard owns the connections its listener accepted, the channels and peers that hash to it,
//! and nothing else. It has no clock, no sockets and no threads: the runtime, or a simulation,
//! tells it what happened and when, and carries out what it asks for. What one shard says to
//! itself takes the same way as what it says to others, through `loopback`, which is empty
//! between inputs.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use ahash::{AHashMap, RandomState};

use crate::domain::connect_rate::ConnectRates;
use crate::domain::peers::Peers;
use crate::domain::request_rate::RequestRates;
use crate::domain::rights::Rights;
use crate::domain::time::Now;
use crate::domain::timer_wheel::TimerWheel;
use crate::domain::token_bucket::BucketLimits;
use crate::ids::{ConnectionId, ConnectionRef, ShardId};
use crate::metrics::ShardMetrics;
use crate::proto::forwarded::TrustedProxies;
use crate::shard::back_pressure::BackPressure;
use crate::shard::bounds::Asked;
use crate::shard::channels::{ChannelSlot, Channels};
use crate::shard::connections::{Connection, Connections, Held, Stage};
use crate::shard::deadlines::Stalled;
use crate::shard::direct::PendingSend;
use crate::shard::effect::Effects;
use crate::shard::http_date::HttpDate;
use crate::shard::input::{Input, MemoryLevel};
use crate::shard::mesh_message::MeshMessage;
use crate::shard::outbox::{BufferPool, Finish, Slices};
use crate::shard::portions::Portions;
use crate::shard::rest::Rest;
use crate::shard::scope::PendingScope;
use crate::shard::tuning::Tuning;
use crate::shard::unauthenticated::Unauthenticated;
use crate::shard::usage::Usage;

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

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    over_limit: bool,
    throttled: bool,
}

impl Link {
    fn blocked(self) -> bool {
        self.over_limit || self.throttled
    }
}

/// One shard. See the top of this file.
pub struct Shard {
    pub(in crate::shard) config: ShardConfig,
    pub(in crate::shard) tuning: Tuning,
    pub(in crate::shard) rights: Arc<Rights>,
    pub(in crate::shard) connect_rates: Arc<ConnectRates>,
    pub(in crate::shard) entropy: Box<dyn Entropy>,
    pub(in crate::shard) connections: Connections,
    pub(in crate::shard) channels: Channels,
    pub(in crate::shard) peers: Peers,
    pub(in crate::shard) timers: TimerWheel<ConnectionId>,
    /// Slots of connections, from the first, whose timers were set for longer times than hold now.
    pub(in crate::shard) to_rearm: u32,
    pub(in crate::shard) pool: BufferPool,
    /// Frames are encoded here before they are copied to where they belong.
    pub(in crate::shard) encoded: Vec<u8>,
    /// The variant with `fromMetadata`.
    pub(in crate::shard) encoded_with_metadata: Vec<u8>,
    /// Owned channels with presence changes that are announced at the end of the turn.
    pub(in crate::shard) batched: Vec<ChannelSlot>,
    /// Owned channels whose presence changes are announced later, and when.
    pub(in crate::shard) announcements: BTreeSet<(u64, ChannelSlot)>,
    /// Connections whose snapshots leave later, and when, in that order.
    pub(in crate::shard) pauses: VecDeque<(u64, ConnectionId)>,
    /// Channels whose fan-out buffers have grown in this turn.
    pub(in crate::shard) grown: Vec<ChannelSlot>,
    /// Connections that got more than they can take, to be closed after the present input.
    pub(in crate::shard) slow: Vec<ConnectionId>,
    /// Connections whose held input may go on.
    pub(in crate::shard) resumable: VecDeque<ConnectionId>,
    pub(in crate::shard) unauthenticated: Unauthenticated,
    pub(in crate::shard) memory_level: MemoryLevel,
    pub(in crate::shard) sends: AHashMap<u64, PendingSend>,
    /// Direct messages whose scope is being asked for, by sender and in order.
    pub(in crate::shard) scopes: AHashMap<ConnectionId, VecDeque<PendingScope>>,
    pub(in crate::shard) next_operation: u64,
    pub(in crate::shard) draining: bool,
    /// What `going_away` says, once draining.
    pub(in crate::shard) retry_after_ms: u64,
    pub(in crate::shard) usage: Usage,
    pub(in crate::shard) rest: Rest,
    pub(in crate::shard) http_date: HttpDate,
    pub(in crate::shard) metrics: Box<ShardMetrics>,
    /// See [`forgive`](Self::forgive).
    pub(in crate::shard) forgiven_ms: u64,
    pub(in crate::shard) stalled: Stalled,
    /// See [`judge_until`](Self::judge_until).
    pub(in crate::shard) heard_ms: u64,
    /// See [`stamp`](Self::stamp).
    pub(in crate::shard) stamp_ns: u64,
    /// Work that is done a portion a turn.
    pub(in crate::shard) portions: Portions,
    /// The time of the present input, on the monotonic clock.
    pub(in crate::shard) now_ms: u64,
    loopback: VecDeque<MeshMessage>,
    links: Vec<Link>,
    /// Connections whose input waits for links.
    held_by_links: Vec<ConnectionId>,
    /// A link over its limit has been fed since `watch_links`.
    fed_blocked_link: bool,
    /// What other shards were told last.
    told_throttle: bool,
    pub(in crate::shard) pressure: BackPressure,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.config.shard)
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
            links: vec![Link::default(); usize::from(config.shard_count)],
            config,
            tuning: Tuning::default(),
            rights,
            connect_rates,
            entropy,
            connections: Connections::default(),
            channels: Channels::default(),
            timers: TimerWheel::new(now.mono_ms),
            pool: BufferPool::default(),
            encoded: Vec::new(),
            encoded_with_metadata: Vec::new(),
            batched: Vec::new(),
            announcements: BTreeSet::new(),
            pauses: VecDeque::new(),
            grown: Vec::new(),
            slow: Vec::new(),
            resumable: VecDeque::new(),
            unauthenticated: Unauthenticated::default(),
            memory_level: MemoryLevel::default(),
            sends: AHashMap::new(),
            scopes: AHashMap::new(),
            next_operation: 0,
            draining: false,
            retry_after_ms: 0,
            usage: Usage::default(),
            rest: Rest::default(),
            http_date: HttpDate::default(),
            to_rearm: 0,
            metrics: Box::default(),
            forgiven_ms: 0,
            stalled: Stalled::default(),
            heard_ms: u64::MAX,
            stamp_ns: 0,
            portions: Portions::default(),
            now_ms: now.mono_ms,
            loopback: VecDeque::new(),
            held_by_links: Vec::new(),
            fed_blocked_link: false,
            told_throttle: false,
            pressure: BackPressure::default(),
        }
    }

    /// Handles one input completely.
    pub fn handle(&mut self, input: Input<'_>, now: Now, effects: &mut Effects) {
        self.now_ms = now.mono_ms;
        #[cfg(debug_assertions)]
        let touched = input.connection();
        match input {
            Input::Accepted { connection, remote } => {
                self.accepted(connection, remote, now, effects)
            }
            Input::MakeRoom => self.make_room(now, effects),
            Input::Proxied { connection, client } => self.proxied(connection, client),
            Input::Handshake { connection, step } => self.handshake(connection, step, now),
            Input::Received { connection, bytes } => self.received(connection, bytes, now, effects),
            Input::Ended { connection } => self.stream_ended(connection, now, effects),
            Input::Written { connection, count } => self.written(connection, count, now, effects),
            Input::Closed { connection } => self.closed(connection, effects),
            Input::Mesh { from, message } => {
                self.pressure.watch();
                self.mesh(from, message, now, effects);
                self.settle(now, effects);
                self.throttle_if_pressed(effects);
            }
            Input::Link { to, over_limit } => self.link(to, over_limit, effects),
            Input::Memory {
                level,
                excess_bytes,
            } => self.memory(level, excess_bytes, now, effects),
            Input::Rights(rights) => self.switch_rights(rights, now, effects),
            Input::Settings(settings) => self.switch_settings(&settings),
            Input::Drain {
                window_ms,
                retry_after_ms,
            } => {
                self.drain(window_ms, retry_after_ms, now, effects);
            }
            Input::Usage => self.usage.report(&mut effects.usage),
            Input::Time => self.time(now, effects),
            Input::EndOfTurn => self.end_of_turn(now, effects),
        }
        self.settle(now, effects);
        #[cfg(debug_assertions)]
        if let Some(connection) = touched {
            self.check_bounds(connection);
        }
    }

    /// Says when the inputs that follow arrived, in nanoseconds on the monotonic clock: more
    /// exact than [`Now`], and for measuring only. Without it, latencies are measured as none.
    #[inline]
    pub fn stamp(&mut self, mono_ns: u64) {
        self.stamp_ns = mono_ns;
    }

    /// What the shard counts and measures. The runtime adds what only it knows.
    #[inline]
    pub fn metrics(&mut self) -> &mut ShardMetrics {
        &mut self.metrics
    }

    /// When [`Input::Time`] is due next, on the monotonic clock; never too late.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let deadlines = [
            self.timers.next_deadline(),
            self.usage.due_ms(),
            self.next_snapshot_ms(),
            self.next_announcement_ms(),
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

    /// Begins a connection's flush: call before [`pending`](Self::pending), each time that the
    /// connection was dirty or its socket is writable again.
    pub fn begin_flush(&mut self, id: ConnectionId, effects: &mut Effects) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.dirty = None;
        connection.outbox.note_offer();
        if cfg!(debug_assertions) {
            connection.outbox.check();
        }
        if connection.borrows.is_some() && !connection.outbox.is_empty() {
            self.settle_borrowed(id, effects);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.dirty = None;
                connection.outbox.note_offer();
            }
        }
    }

    /// What is to be written to a connection next; empty when nothing is.
    #[must_use]
    pub fn pending(&self, connection: ConnectionId) -> &[u8] {
        match self.connections.get(connection) {
            Some(connection) if connection.outbox.is_empty() => self.borrowed(connection),
            Some(connection) => connection.outbox.pending(),
            None => &[],
        }
    }

    /// What is to be written to a connection next, if one slice holds all of it.
    #[must_use]
    pub fn pending_in_one(&self, connection: ConnectionId) -> Option<&[u8]> {
        match self.connections.get(connection) {
            Some(connection) if connection.outbox.is_empty() => Some(self.borrowed(connection)),
            Some(connection) => connection.outbox.pending_in_one(),
            None => None,
        }
    }

    /// What [`pending`](Self::pending) begins, for one write: more of it, where that does not lie
    /// together.
    #[must_use]
    pub fn pending_slices(&self, connection: ConnectionId) -> Slices<'_> {
        match self.connections.get(connection) {
            Some(connection) if connection.outbox.is_empty() => {
                Slices::from_iter([IoSlice::new(self.borrowed(connection))])
            }
            Some(connection) => connection.outbox.pending_slices(),
            None => Slices::new(),
        }
    }

    /// What the socket should do now that [`pending`](Self::pending) is empty. Call
    /// [`flushed`](Self::flushed) instead once the socket has taken everything.
    #[must_use]
    pub fn finish(&self, connection: ConnectionId) -> Finish {
        let connection = self.connections.get(connection);
        connection.map_or(Finish::Close, Connection::finish)
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
        self.config.shard.0
    }

    /// Version of the rights that hold.
    #[must_use]
    pub fn rights_version(&self) -> u64 {
        self.rights.version
    }

    /// How many connections there are in whatever stage, how many channels and peers are owned.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        (
            self.connections.len(),
            self.channels.owned_count(),
            self.peers.len(),
        )
    }

    pub(in crate::shard) fn id(&self) -> ShardId {
        self.config.shard
    }

    pub(in crate::shard) fn here(&self, connection: ConnectionId) -> ConnectionRef {
        ConnectionRef {
            shard: self.config.shard,
            connection,
        }
    }

    pub(in crate::shard) fn operation(&mut self) -> u64 {
        self.next_operation += 1;
        self.next_operation
    }

    /// Sends a message to a shard, this one included.
    pub(in crate::shard) fn send(
        &mut self,
        to: ShardId,
        message: MeshMessage,
        effects: &mut Effects,
    ) {
        if to == self.config.shard {
            self.loopback.push_back(message);
        } else {
            self.fed_blocked_link |= self.links[to.index()].blocked();
            effects.send(to, message);
        }
    }

    /// Brings everything that the present input has set going to its end on this shard.
    #[inline]
    pub(in crate::shard) fn settle(&mut self, now: Now, effects: &mut Effects) {
        if !self.loopback.is_empty() || !self.slow.is_empty() {
            self.settle_all(now, effects);
        }
    }

    fn settle_all(&mut self, now: Now, effects: &mut Effects) {
        loop {
            if let Some(message) = self.loopback.pop_front() {
                self.mesh(self.config.shard, message, now, effects);
            } else if let Some(connection) = self.slow.pop() {
                self.close_slow_consumer(connection, now, effects);
            } else {
                return;
            }
        }
    }

    /// From here on, what is sent is one connection's doing: whatever was fed before, by other
    /// shards or by the end of other connections, is not.
    pub(in crate::shard) fn watch_links(&mut self) {
        self.fed_blocked_link = false;
        self.pressure.watch();
    }

    /// Holds a connection's input back if a link over its limit was fed since
    /// [`watch_links`](Self::watch_links). What other shards feed through this one is held back
    /// there, by `Throttle`.
    pub(in crate::shard) fn hold_if_link_blocked(&mut self, id: ConnectionId) {
        self.hold_if_pressed(id);
        if self.fed_blocked_link
            && let Some(connection) = self.connections.get_mut(id)
            && let Stage::Http(_) | Stage::Registering(_) | Stage::Open(_) = connection.stage
        {
            connection.held.add(Held::LINK);
            self.held_by_links.push(id);
        }
    }

    fn link(&mut self, to: ShardId, over_limit: bool, effects: &mut Effects) {
        self.links[to.index()].over_limit = over_limit;
        self.tell_throttle(effects);
        self.resume_after_links();
    }

    /// Tells the other shards whether to hold back what they send here. What this shard relays
    /// for others fills its links and its connections' queues too, or a busy channel's publishers
    /// elsewhere would not notice.
    pub(in crate::shard) fn tell_throttle(&mut self, effects: &mut Effects) {
        let is_over_limit = self.links.iter().any(|link| link.over_limit);
        let throttle = is_over_limit || self.pressure.is_overfed();
        if std::mem::replace(&mut self.told_throttle, throttle) != throttle {
            for shard in (0..self.config.shard_count).map(ShardId) {
                if shard != self.config.shard {
                    effects.send(shard, MeshMessage::Throttle(throttle));
                }
            }
        }
    }

    /// What this shard says to itself; dealt with before the present input is done.
    pub(in crate::shard) fn loop_back(&mut self, message: MeshMessage) {
        self.loopback.push_back(message);
    }

    pub(in crate::shard) fn throttle(&mut self, from: ShardId, throttled: bool) {
        self.links[from.index()].throttled = throttled;
        self.resume_after_links();
    }

    fn resume_after_links(&mut self) {
        if self.links.iter().any(|link| link.blocked()) {
            return;
        }
        for id in std::mem::take(&mut self.held_by_links) {
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

    fn mesh(&mut self, from: ShardId, message: MeshMessage, now: Now, effects: &mut Effects) {
        match message {
            MeshMessage::Join(join) => self.owner_join(*join),
            MeshMessage::Leave(leave) => self.owner_leave(*leave, effects),
            MeshMessage::Publish(publish) => self.owner_publish(*publish, effects),
            MeshMessage::Announced(announced) => self.owner_announced(&announced, effects),
            MeshMessage::Joined(joined) => self.home_joined(*joined, effects),
            MeshMessage::Left(left) => self.home_left(*left, effects),
            MeshMessage::Published(published) => {
                self.awaited_reply(
                    published.connection,
                    Asked::Message,
                    published.reply_to.id(),
                );
                self.ack(published.connection, &published.reply_to, effects);
            }
            MeshMessage::Deliver(deliver) => self.home_deliver(&deliver, effects),
            MeshMessage::Announce(announce) => self.home_announce(from, &announce, effects),
            MeshMessage::Register(register) => self.peer_register(&register, effects),
            MeshMessage::Registered(connection, began_ns) => {
                self.registered(connection, began_ns, now, effects);
            }
            MeshMessage::Unregister(register) => {
                self.peers
                    .unregister(register.app, register.peer.id.as_str(), register.connection)
            }
            MeshMessage::Send(send) => self.peer_send(*send, effects),
            MeshMessage::Direct(direct) => self.home_direct(&direct, effects),
            MeshMessage::DirectResult(result) => self.direct_result(result, effects),
            MeshMessage::Scope(scope) => self.owner_scope(&scope, effects),
            MeshMessage::ScopeResult(result) => self.scope_result(result, effects),
            MeshMessage::ListPeers(list) => self.owner_list_peers(&list, effects),
            MeshMessage::Kick(kick) => self.owner_kick(&kick, effects),
            MeshMessage::KickHere(kick) => self.home_kick(from, *kick, now, effects),
            MeshMessage::Kicked(kicked) => self.owner_kicked(kicked, effects),
            MeshMessage::Reach(number) => self.reach(from, number, effects),
            MeshMessage::Reached(number) => self.home_reached(number, effects),
            MeshMessage::RestResult(result) => self.rest_answer(*result, now, effects),
            MeshMessage::Throttle(throttled) => self.throttle(from, throttled),
        }
    }

    fn end_of_turn(&mut self, now: Now, effects: &mut Effects) {
        self.advance_portions(now, effects);
        self.settle(now, effects);
        self.rearm_some();
        self.announce_batches(effects);
        self.settle(now, effects);
        for _ in 0..self.resumable.len().min(RESUMES_PER_TURN_MAX) {
            if let Some(id) = self.resumable.pop_front() {
                self.resume_input(id, now, effects);
            }
        }
        self.announce_batches(effects);
        self.lend_buffers(effects);
        self.end_pressure_turn();
    }
}
