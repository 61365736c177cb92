//! What stands in for the runtime: sockets as bounded byte pipes, links as bounded queues, one
//! clock. It does what the shard loop does, but a caller chooses the order and the portions.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ahash::RandomState;
use ringmesh::domain::connect_rate::ConnectRates;
use ringmesh::domain::request_rate::{RequestLimits, RequestRates};
use ringmesh::domain::rights::Rights;
use ringmesh::domain::time::Now;
use ringmesh::domain::token_bucket::BucketLimits;
use ringmesh::ids::{ConnectionId, ShardId};
use ringmesh::limits::READ_BYTES_MAX;
use ringmesh::proto::forwarded::TrustedProxies;
use ringmesh::shard::config::{ShardConfig, ShardLimits};
use ringmesh::shard::effect::Urgency;
use ringmesh::shard::flush::{FlushQueue, Flushed};
use ringmesh::shard::input::Input;
use ringmesh::shard::mesh_message::MeshMessage;
use ringmesh::shard::state::Shard;
use ringmesh::shard::tuning::Tuning;

use crate::random::Random;
use crate::sockets::{Pipes, SOCKET_BYTES_MAX, Socket};

/// Messages that a link holds before its sender keeps them back.
const LINK_MESSAGES_MAX: usize = 16;
/// Messages kept back for one link before what feeds it is held back too.
const BACKLOG_MESSAGES_MAX: usize = 24;
/// Replies that may wait: the bound at which reading stops, and what one turn may add.
const REPLY_BYTES_MAX: usize = 64 * 1_024 + 64 * 1_024;
/// Deliveries queued to one connection. Small, so that slow consumers are found out.
pub const OUTBOUND_BYTES_MAX: usize = 24 * 1_024;
/// The wall clock at the start of a run, Unix milliseconds.
pub const START_UNIX_MS: u64 = 1_700_000_000_000;

struct Node {
    shard: Shard,
    to_flush: FlushQueue,
    /// Sockets by slot, and how often each slot was used.
    slots: Vec<(Option<usize>, u32)>,
}

#[derive(Default)]
struct Link {
    in_flight: VecDeque<MeshMessage>,
    backlog: VecDeque<MeshMessage>,
    over_limit: bool,
    blocked: bool,
}

/// All shards and what is between them and around them.
pub struct World {
    now: Now,
    nodes: Vec<Node>,
    links: Vec<Link>,
    /// All sockets that ever were.
    pub sockets: Vec<Socket>,
    /// Snapshots are asked for again because there was no room: such a one tells at its time what
    /// others were told between messages before.
    pub asks_again: bool,
    /// A turn writes little. What is announced to a member then waits in the channel's buffer for
    /// some turns, and what is queued for the member alone leaves first.
    pub defers: bool,
    socket_bytes_max: usize,
    draining: bool,
    /// Which turns write to many sockets at once.
    batches: Random,
}

/// Small ones, so that what is too much, or read too early, is found out.
fn limits(channels_per_connection: usize) -> ShardLimits {
    ShardLimits {
        message_bytes_max: 4 * 1_024,
        channels_per_connection,
        message_rate: BucketLimits {
            rate_per_sec: 1_000_000,
            burst: 1_000_000,
        },
        outbound_queue_bytes: OUTBOUND_BYTES_MAX,
        head_bytes_max: 2 * 1_024,
        rest_body_bytes_max: 2 * 1_024,
        head_timeout_ms: 60_000,
        ..ShardLimits::default()
    }
}

/// Of which a turn writes as much as the runtime does, or little.
fn flush_queue(defers: bool) -> FlushQueue {
    match defers {
        true => FlushQueue::bounded(3, 4_096),
        false => FlushQueue::default(),
    }
}

impl World {
    pub fn new(
        seed: u64,
        shard_count: u16,
        channels_per_connection: usize,
        rights: &Arc<Rights>,
    ) -> Self {
        let now = Now {
            mono_ms: 1_000,
            unix_ms: START_UNIX_MS,
        };
        let hasher = RandomState::with_seeds(seed, 2, 3, 4);
        let connect_rates = Arc::new(ConnectRates::new(1_000_000, 60_000, &hasher));
        let request_rates = Arc::new(RequestRates::new(&RequestLimits::NONE, &hasher));
        let mut random = Random::new(seed, "tuning");
        let mut tuning = Tuning::default();
        tuning.pace.at_once_max = *random.pick(&[256, 0, 2]);
        tuning.pace.peers_per_ms = 1;
        let asks_again = random.percent(30);
        if asks_again {
            tuning.snapshot_bytes_max = 150;
        }
        let defers = seed.is_multiple_of(3);
        tuning.late_share = *random.pick(&[4, 200, 1_000]);
        let node = |at: u16| {
            let config = ShardConfig {
                shard: ShardId(at),
                shard_count,
                hasher: hasher.clone(),
                trusted_proxies: TrustedProxies::default(),
                reject_with_close: seed.is_multiple_of(2),
                accept_bare_key_id: false,
                request_rates: request_rates.clone(),
                limits: limits(channels_per_connection),
            };
            let entropy = Box::new(Random::new(seed, &format!("entropy {at}")));
            let mut shard = Shard::new(config, rights.clone(), connect_rates.clone(), entropy, now);
            // Down to one connection a turn.
            shard.limit_portions([1, 10, 40, 1_024][seed as usize % 4]);
            shard.tune(tuning);
            Node {
                shard,
                to_flush: flush_queue(defers),
                slots: Vec::new(),
            }
        };
        let nodes: Vec<Node> = (0..shard_count).map(node).collect();
        let links = (0..nodes.len() * nodes.len()).map(|_| Link::default());
        Self {
            now,
            links: links.collect(),
            nodes,
            sockets: Vec::new(),
            asks_again,
            defers,
            socket_bytes_max: *random.pick(SOCKET_BYTES_MAX),
            draining: false,
            batches: Random::new(seed, "batches"),
        }
    }

    pub fn now(&self) -> Now {
        self.now
    }

    pub fn shard_count(&self) -> usize {
        self.nodes.len()
    }

    pub fn shards(&self) -> Vec<&Shard> {
        self.nodes.iter().map(|node| &node.shard).collect()
    }

    pub fn advance(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
    }

    /// Jumps to the next deadline of any shard, if one is ahead.
    pub fn jump_to_deadline(&mut self) {
        if let Some(ms) = self.until_deadline() {
            self.advance(ms);
        }
    }

    /// How long it is until the next deadline of any shard.
    pub fn until_deadline(&self) -> Option<u64> {
        let deadlines = self.nodes.iter().map(|node| node.shard.next_deadline_ms());
        let at = deadlines.flatten().min()?;
        Some(at.saturating_sub(self.now.mono_ms))
    }

    fn handle(&mut self, at: usize, input: Input<'_>) {
        let node = &mut self.nodes[at];
        node.shard.handle(input, self.now);
    }

    /// A client connects to a shard's listener.
    pub fn connect(&mut self, at: usize) -> Option<usize> {
        if self.draining {
            return None;
        }
        let socket = self.sockets.len();
        let slots = &mut self.nodes[at].slots;
        let slot = slots.iter().position(|(user, _)| user.is_none());
        let slot = slot.unwrap_or_else(|| {
            slots.push((None, 0));
            slots.len() - 1
        });
        slots[slot] = (Some(socket), slots[slot].1 + 1);
        let id = ConnectionId {
            slot: slot as u32,
            generation: slots[slot].1,
        };
        self.sockets.push(Socket {
            shard: at,
            id,
            to_server: Vec::new(),
            client_ended: false,
            client_reads: true,
            end_told: false,
            to_client: VecDeque::new(),
            unread_bytes: 0,
            bytes_max: self.socket_bytes_max,
            stalled: false,
            to_read: false,
            write_blocked: false,
            server_ended: false,
            closed: false,
            data_written: 0,
        });
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.handle(
            at,
            Input::Accepted {
                connection: id,
                remote,
            },
        );
        Some(socket)
    }

    /// A client writes.
    pub fn write(&mut self, socket: usize, bytes: &[u8]) {
        let socket = &mut self.sockets[socket];
        if !socket.closed && !socket.client_ended {
            socket.to_server.extend_from_slice(bytes);
            socket.to_read = true;
        }
    }

    /// A client ends its stream, and is gone.
    pub fn end(&mut self, socket: usize) {
        self.half_close(socket);
        self.sockets[socket].client_reads = false;
        self.unblock(socket); // the ring tells of a reset as it does of room
    }

    /// A client ends its side of the stream, and reads on.
    pub fn half_close(&mut self, socket: usize) {
        let socket = &mut self.sockets[socket];
        socket.client_ended = true;
        socket.to_read = true;
    }

    /// Bytes on their way to the server.
    pub fn unread(&self, socket: usize) -> usize {
        self.sockets[socket].to_server.len()
    }

    /// Bytes of data frames that have left for a client or wait to.
    pub fn data_queued(&self, socket: usize) -> usize {
        let socket = &self.sockets[socket];
        let waiting = self.data_waiting(socket);
        socket.data_written + waiting
    }

    fn data_waiting(&self, socket: &Socket) -> usize {
        let node = &self.nodes[socket.shard];
        node.shard.waiting_bytes(socket.id)
    }

    /// A shard reads up to `count_max` bytes from a socket. Returns whether it did anything.
    pub fn read(&mut self, index: usize, count_max: usize) -> bool {
        let socket = &mut self.sockets[index];
        if !socket.to_read || socket.closed {
            return false;
        }
        let (at, connection) = (socket.shard, socket.id);
        if !self.nodes[at].shard.wants_input(connection) {
            socket.to_read = false; // until the shard, or something new, says so
            return false;
        }
        let count = socket.to_server.len().min(count_max).min(READ_BYTES_MAX);
        if count > 0 {
            let mut bytes: Vec<u8> = socket.to_server.drain(..count).collect();
            socket.to_read = !socket.to_server.is_empty() || socket.client_ended;
            let bytes = &mut bytes[..];
            self.handle(at, Input::Received { connection, bytes });
            return true;
        }
        socket.to_read = false;
        if socket.client_ended && !socket.end_told {
            socket.end_told = true;
            self.handle(at, Input::Ended { connection });
            return true;
        }
        false
    }

    /// A shard takes up to `count_max` messages from a link. Returns whether there were any.
    pub fn deliver(&mut self, from: usize, to: usize, count_max: usize) -> bool {
        let link = from * self.nodes.len() + to;
        let mut any = false;
        for _ in 0..count_max {
            let Some(message) = self.links[link].in_flight.pop_front() else {
                break;
            };
            any = true;
            let from = ShardId(from as u16);
            self.handle(to, Input::Mesh { from, message });
        }
        any
    }

    /// Stops a link's deliveries into its receiver's queue, or lets them go on.
    pub fn block_link(&mut self, from: usize, to: usize, blocked: bool) {
        let link = from * self.nodes.len() + to;
        self.links[link].blocked = blocked;
    }

    pub fn rights(&mut self, at: usize, rights: &Arc<Rights>) {
        self.handle(at, Input::Rights(rights.clone()));
    }

    pub fn drain(&mut self, at: usize, window_ms: u64) {
        self.draining = true;
        let retry_after_ms = 500;
        self.handle(
            at,
            Input::Drain {
                window_ms,
                retry_after_ms,
            },
        );
    }

    /// Ends a shard's turn: deadlines, announcements, writes, links. Returns whether anything
    /// was written or sent.
    pub fn end_turn(&mut self, at: usize) -> bool {
        let due = self.nodes[at].shard.next_deadline_ms();
        if due.is_some_and(|due| due <= self.now.mono_ms) {
            self.judge(at);
        }
        // What is kept for later use may be given back at any time.
        if self.now.mono_ms.is_multiple_of(8) {
            self.handle(at, Input::Quiet);
        }
        self.handle(at, Input::EndOfTurn);
        let flushed = self.flush(at);
        self.send_mesh(at) | flushed | self.nodes[at].shard.has_work()
    }

    /// Deadlines are due. What has come is read first, so nobody is dropped for a silence that he
    /// has broken.
    fn judge(&mut self, at: usize) {
        for socket in 0..self.sockets.len() {
            while self.sockets[socket].shard == at && self.read(socket, usize::MAX) {}
        }
        let aborted_before = self.nodes[at].shard.effects_mut().abort.len();
        self.handle(at, Input::Time);
        for id in self.nodes[at]
            .shard
            .effects()
            .abort
            .iter()
            .skip(aborted_before)
        {
            let Some(socket) = self.socket_at(at, *id) else {
                continue;
            };
            let Socket {
                to_server,
                write_blocked,
                ..
            } = &self.sockets[socket];
            let is_silent = to_server.is_empty() || *write_blocked;
            assert!(is_silent, "dropped, and what it said has not been read");
        }
    }

    fn flush(&mut self, at: usize) -> bool {
        let node = &mut self.nodes[at];
        let turn = node.shard.turn();
        let effects = node.shard.effects_mut();
        // Nobody measures here.
        effects.ended.clear();
        effects.published.clear();
        effects.writes.clear();
        node.to_flush.begin_turn(&mut effects.dirty, turn);
        let mut any = !node.to_flush.is_empty();
        match self.batches.percent(50) {
            true => self.flush_batch(at),
            false => {
                while let Some(id) = self.nodes[at].to_flush.pop() {
                    self.flush_one(at, id);
                }
            }
        }
        let node = &mut self.nodes[at];
        if let Some(turn) = node.to_flush.offered() {
            node.shard.offered(turn, self.now);
        }
        for id in std::mem::take(&mut node.shard.effects_mut().readable) {
            any = true;
            if let Some(socket) = self.socket_at(at, id) {
                self.sockets[socket].to_read = true;
            }
        }
        for id in std::mem::take(&mut self.nodes[at].shard.effects_mut().abort) {
            any = true;
            self.close(at, id);
        }
        any
    }

    fn socket_at(&self, at: usize, id: ConnectionId) -> Option<usize> {
        let (socket, _) = self.nodes[at].slots.get(id.slot as usize)?;
        socket.filter(|socket| self.sockets[*socket].id == id)
    }

    fn flush_one(&mut self, at: usize, id: ConnectionId) {
        let Some(index) = self.writable_at(at, id) else {
            return;
        };
        self.check_bounds(at, id);
        let before = self.data_waiting(&self.sockets[index]);
        let (now, socket) = (self.now, &mut self.sockets[index]);
        let shard = &mut self.nodes[at].shard;
        let sink = &mut |bytes: &[IoSlice<'_>]| socket.take(now.mono_ms, bytes);
        let flushed = shard.flush(id, now, sink);
        let after = self.data_waiting(&self.sockets[index]);
        self.sockets[index].data_written += before - after;
        self.flushed(at, index, flushed);
    }

    /// Flushes a turn's worth at once.
    fn flush_batch(&mut self, at: usize) {
        let mut ids = Vec::new();
        while let Some(id) = self.nodes[at].to_flush.pop() {
            if self.writable_at(at, id).is_some() && !ids.contains(&id) {
                self.check_bounds(at, id);
                let node = &mut self.nodes[at];
                node.to_flush.charge(node.shard.flush_bytes(id));
                ids.push(id);
            }
        }
        let indices = ids.iter().filter_map(|id| self.socket_at(at, *id));
        let indices: Vec<usize> = indices.collect();
        let waiting = |world: &Self| {
            let waiting = |index: &usize| world.data_waiting(&world.sockets[*index]);
            indices.iter().map(waiting).collect::<Vec<_>>()
        };
        let before = waiting(self);
        let node = &mut self.nodes[at];
        let mut pipes = Pipes {
            sockets: &mut self.sockets,
            slots: &node.slots,
            now: self.now,
            taken: BTreeMap::new(),
            outcomes: Vec::new(),
        };
        let Ok(()) = node.shard.flush_batch(&ids, self.now, &mut pipes);
        let outcomes = pipes.outcomes;
        let counts = before.iter().zip(waiting(self));
        let counts: Vec<usize> = counts.map(|(before, after)| before - after).collect();
        for (index, count) in indices.iter().zip(counts) {
            self.sockets[*index].data_written += count;
        }
        for (index, flushed) in outcomes {
            self.flushed(at, index, flushed);
        }
    }

    /// The socket of a connection, if it may be written to.
    fn writable_at(&self, at: usize, id: ConnectionId) -> Option<usize> {
        let index = self.socket_at(at, id)?;
        (!self.sockets[index].write_blocked).then_some(index)
    }

    fn flushed(&mut self, at: usize, index: usize, flushed: Flushed) {
        let socket = &mut self.sockets[index];
        match flushed {
            Flushed::Open => {}
            Flushed::ShutdownWrite => socket.server_ended = true,
            Flushed::Close => {
                let id = socket.id;
                self.close(at, id);
            }
            Flushed::Blocked => socket.write_blocked = true,
        }
    }

    fn check_bounds(&self, at: usize, id: ConnectionId) {
        if let Some(outbox) = self.nodes[at].shard.outbox(id) {
            assert!(
                outbox.delivery_bytes() <= OUTBOUND_BYTES_MAX,
                "deliveries are bounded"
            );
            assert!(
                outbox.reply_bytes() <= REPLY_BYTES_MAX,
                "replies are bounded"
            );
        }
    }

    fn close(&mut self, at: usize, id: ConnectionId) {
        if let Some(socket) = self.socket_at(at, id) {
            self.sockets[socket].server_ended = true;
            self.sockets[socket].closed = true;
            self.nodes[at].slots[id.slot as usize].0 = None;
            self.handle(at, Input::Closed { connection: id });
        }
    }

    /// A client takes what has come.
    pub fn take(&mut self, index: usize) -> Option<(u64, Vec<u8>)> {
        let socket = &mut self.sockets[index];
        let taken = socket.to_client.pop_front()?;
        socket.unread_bytes -= taken.1.len();
        self.unblock(index);
        Some(taken)
    }

    fn unblock(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        if std::mem::take(&mut socket.write_blocked) {
            let (at, id) = (socket.shard, socket.id);
            self.nodes[at].to_flush.push(id, Urgency::Reply);
        }
    }

    fn send_mesh(&mut self, at: usize) -> bool {
        let mut any = false;
        let count = self.nodes.len();
        for to in 0..count {
            let produced = std::mem::take(&mut self.nodes[at].shard.effects_mut().mesh[to]);
            let link = &mut self.links[at * count + to];
            any |= !produced.is_empty();
            link.backlog.extend(produced);
            if !link.blocked && link.in_flight.len() < LINK_MESSAGES_MAX {
                any |= !link.backlog.is_empty();
                link.in_flight.append(&mut link.backlog);
            }
            let over_limit = match link.over_limit {
                true => link.backlog.len() > BACKLOG_MESSAGES_MAX / 2,
                false => link.backlog.len() > BACKLOG_MESSAGES_MAX,
            };
            if over_limit != link.over_limit {
                any = true;
                link.over_limit = over_limit;
                let to = ShardId(to as u16);
                self.handle(at, Input::Link { to, over_limit });
            }
        }
        any
    }

    /// Lets everything happen that is on its way, clients aside. Returns whether anything was.
    pub fn settle(&mut self) -> bool {
        let mut any = false;
        for link in &mut self.links {
            link.blocked = false;
        }
        for socket in 0..self.sockets.len() {
            any |= self.read(socket, usize::MAX);
        }
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                any |= self.deliver(from, to, usize::MAX);
            }
        }
        for at in 0..self.nodes.len() {
            any |= self.end_turn(at);
        }
        any
    }

    /// Nothing that came from a client was left unread by the server.
    pub fn check_all_read(&self) {
        let mut open = self.sockets.iter().filter(|socket| !socket.closed);
        let forgotten = open.find(|socket| !socket.to_server.is_empty());
        assert!(forgotten.is_none(), "input that is wanted was left unread");
    }

    pub fn has_server_closed(&self, socket: usize) -> bool {
        self.sockets[socket].closed
    }
}
