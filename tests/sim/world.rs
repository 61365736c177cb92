//! What stands in for the runtime: sockets as bounded byte pipes, links as bounded queues, one
//! clock. It does what the shard loop does, but a caller chooses the order and the portions.

mod flushing;
mod nodes;
mod storing;
mod swap;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ahash::RandomState;
use ringmesh::domain::rights::Rights;
use ringmesh::domain::time::Now;
use ringmesh::events::recorder::Rings;
use ringmesh::ids::{ConnectionId, ShardId};
use ringmesh::limits::READ_BYTES_MAX;
use ringmesh::shard::effect::Urgency;
use ringmesh::shard::flush::FlushQueue;
use ringmesh::shard::input::Input;
use ringmesh::shard::mesh_message::MeshMessage;
use ringmesh::shard::settings::Settings;
use ringmesh::shard::state::Shard;
use ringmesh::shard::tuning::Tuning;

use crate::meter::{Meter, input_name, mesh_name};
use crate::random::Random;
use crate::sockets::{SOCKET_BYTES_MAX, Socket};
use crate::surroundings::{check_held, settings};
use crate::tenants::APPS;
use crate::world::nodes::NodeMaker;
use crate::world::storing::Storing;

/// Messages that a link holds before its sender keeps them back.
const LINK_MESSAGES_MAX: usize = 16;
/// Messages kept back for one link before what feeds it is held back too.
const BACKLOG_MESSAGES_MAX: usize = 24;
/// Replies that may wait: the bound at which reading stops, and what one turn may add.
const REPLY_BYTES_MAX: usize = 64 * 1_024 + 64 * 1_024;
/// Deliveries queued to one connection. Small, so that slow consumers are found out.
pub(crate) const OUTBOUND_BYTES_MAX: usize = 32 * 1_024;
/// How long a shard may have no turn, as long as its core is not taken away.
const LATE_MS: u64 = 1_000;
/// The wall clock at the start of a run, Unix milliseconds.
pub(crate) const START_UNIX_MS: u64 = 1_700_000_000_000;

/// A shard and what is around it.
pub(crate) struct Node {
    pub shard: Shard,
    to_flush: FlushQueue,
    /// Sockets by slot, and how often each slot was used.
    slots: Vec<(Option<usize>, u32)>,
    /// It does nothing, and others do not know: its core is taken away. Since when.
    pub silent_since_ms: Option<u64>,
    /// It is gone.
    pub is_lost: bool,
    /// When it had its last turn.
    turned_ms: u64,
    /// Where what it keeps on disk is written.
    storing: Option<Storing>,
}

impl Node {
    /// How often each slot was used, but for those that are in use.
    pub(crate) fn slots_gone(&self) -> Vec<u32> {
        let slots = self.slots.iter();
        slots
            .map(|(socket, used)| used - u32::from(socket.is_some()))
            .collect()
    }

    /// Whether a connection has a socket.
    pub(crate) fn has(&self, id: ConnectionId) -> bool {
        let slot = self.slots.get(id.slot as usize);
        slot.is_some_and(|(socket, used)| socket.is_some() && *used == id.generation)
    }
}

#[derive(Default)]
pub(crate) struct Link {
    pub in_flight: VecDeque<MeshMessage>,
    pub backlog: VecDeque<MeshMessage>,
    over_limit: bool,
    blocked: bool,
}

/// What excuses that somebody was closed without a word.
#[derive(Default)]
pub(crate) struct Seen {
    /// Somebody may have been closed for the memory that he held.
    pub pressed: bool,
    /// Somebody without a credential may have given way to somebody else.
    pub made_room: bool,
    /// A shard that has handed over had dropped somebody whose pong did not come.
    pub dropped: bool,
}

/// All shards and what is between them and around them.
pub(crate) struct World {
    now: Now,
    make: NodeMaker,
    pub nodes: Vec<Node>,
    /// What they record.
    pub events: Vec<Rings>,
    pub links: Vec<Link>,
    pub meter: Meter,
    /// Messages that the shards have reported, by app.
    pub used: [u64; APPS],
    /// What may be changed later.
    pub settings: Settings,
    /// Connects of an address, or requests with a key, are limited.
    pub has_limited_connects: bool,
    pub has_limited_keys: bool,
    pub seen: Seen,
    /// All sockets that ever were.
    pub sockets: Vec<Socket>,
    /// Snapshots are asked for again because there was no room: such a one tells at its time what
    /// others were told between messages before.
    pub asks_again: bool,
    /// A turn writes little. What is announced to a member then waits in the channel's buffer for
    /// some turns, and what is queued for the member alone leaves first.
    pub defers: bool,
    socket_bytes_max: usize,
    pub draining: bool,
    /// Which turns write to many sockets at once.
    batches: Random,
}

/// Bounds that are reached, and whether snapshots have to be asked for again.
fn tuning(seed: u64, random: &mut Random) -> (Tuning, bool) {
    let mut tuning = Tuning::default();
    tuning.pace.at_once_max = *random.pick(&[256, 0, 2]);
    tuning.pace.peers_per_ms = 1;
    let asks_again = random.percent(30);
    if asks_again {
        tuning.snapshot_bytes_max = 150;
    }
    let mut random = Random::new(seed, "lag");
    tuning.lag_members_min = *random.pick(&[1, 2, 8]);
    tuning.late_share = *random.pick(&[4, 200, 1_000]);
    (tuning, asks_again)
}

impl World {
    pub(crate) fn new(
        seed: u64,
        shard_count: u16,
        channels_per_connection: usize,
        rights: &Arc<Rights>,
    ) -> Self {
        let now = Now {
            mono_ms: 1_000,
            unix_ms: START_UNIX_MS,
        };
        Self::starting(seed, now, shard_count, channels_per_connection, rights)
    }

    /// A process that starts at that time.
    pub(crate) fn starting(
        seed: u64,
        now: Now,
        shard_count: u16,
        channels_per_connection: usize,
        rights: &Arc<Rights>,
    ) -> Self {
        let hasher = RandomState::with_seeds(seed, 2, 3, 4);
        let mut random = Random::new(seed, "tuning");
        let (settings, has_limited_connects, has_limited_keys) =
            settings(seed, channels_per_connection, &hasher, &mut random);
        let (tuning, asks_again) = tuning(seed, &mut random);
        let defers = seed.is_multiple_of(3);
        let make = NodeMaker {
            seed,
            generation: 0,
            hasher,
            tuning,
            defers,
        };
        let (nodes, events) = make.nodes(shard_count, &settings, rights, now);
        let links = (0..nodes.len() * nodes.len()).map(|_| Link::default());
        Self {
            now,
            make,
            links: links.collect(),
            nodes,
            events,
            meter: Meter::default(),
            used: [0; APPS],
            settings,
            has_limited_connects,
            has_limited_keys,
            seen: Seen::default(),
            sockets: Vec::new(),
            asks_again,
            defers,
            socket_bytes_max: *random.pick(SOCKET_BYTES_MAX),
            draining: false,
            batches: Random::new(seed, "batches"),
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn shards(&self) -> Vec<&Shard> {
        let nodes = self.nodes.iter().filter(|node| !node.is_lost);
        nodes.map(|node| &node.shard).collect()
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_wall_clock(&mut self, unix_ms: u64) {
        self.now.unix_ms = unix_ms;
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
    }

    /// Jumps to the next deadline of any shard, if one is ahead.
    pub(crate) fn jump_to_deadline(&mut self) {
        if let Some(ms) = self.until_deadline() {
            self.advance(ms);
        }
    }

    /// How long it is until the next deadline of any shard.
    pub(crate) fn until_deadline(&self) -> Option<u64> {
        let shards = self.shards().into_iter();
        let deadlines = shards.map(Shard::next_deadline_ms);
        let at = deadlines.flatten().min()?;
        Some(at.saturating_sub(self.now.mono_ms))
    }

    pub(crate) fn handle(&mut self, at: usize, input: Input<'_>) {
        let node = &mut self.nodes[at];
        if node.is_lost {
            return;
        }
        self.meter.note("input", input_name(&input));
        if let Input::Mesh { message, .. } = &input {
            self.meter.note("mesh", mesh_name(message));
        }
        let touched = input.connection();
        node.shard.handle(input, self.now);
        touched
            .into_iter()
            .for_each(|id| check_held(&node.shard, id));
    }

    /// Whether a shard does what it should.
    pub(crate) fn is_awake(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        node.silent_since_ms.is_none() && !node.is_lost
    }

    /// A client connects to a shard's listener.
    pub(crate) fn connect(&mut self, at: usize) -> Option<usize> {
        if !self.is_awake(at) {
            return None;
        }
        if !self.nodes[at].shard.accepts() {
            self.read_all_of(at);
            self.seen.made_room = true;
            self.handle(at, Input::MakeRoom);
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
            is_mute: false,
            to_read: false,
            write_blocked: false,
            had_no_room: false,
            server_ended: false,
            closed: false,
            digest: 0,
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
        // The shard makes room by itself when this one was the last that it takes.
        let metrics = self.nodes[at].shard.metrics();
        self.seen.made_room |= metrics.counters.unauthenticated_closed > 0;
        Some(socket)
    }

    /// A client writes.
    pub(crate) fn write(&mut self, socket: usize, bytes: &[u8]) {
        let socket = &mut self.sockets[socket];
        if !socket.closed && !socket.client_ended {
            socket.to_server.extend_from_slice(bytes);
            socket.to_read = true;
        }
    }

    /// A client ends its stream, and is gone.
    pub(crate) fn end(&mut self, socket: usize) {
        self.half_close(socket);
        self.sockets[socket].client_reads = false;
        self.unblock(socket); // the ring tells of a reset as it does of room
        let Socket {
            shard, id, closed, ..
        } = self.sockets[socket];
        // Of most resets the server hears nothing before it reads or writes.
        if !closed && socket.is_multiple_of(4) {
            self.handle(shard, Input::Unreachable { connection: id });
        }
    }

    /// A client ends its side of the stream, and reads on.
    pub(crate) fn half_close(&mut self, socket: usize) {
        let socket = &mut self.sockets[socket];
        socket.client_ended = true;
        socket.to_read = true;
    }

    /// Bytes on their way to the server.
    pub(crate) fn unread(&self, socket: usize) -> usize {
        self.sockets[socket].to_server.len()
    }

    /// Bytes of data frames that have left for a client or wait to.
    pub(crate) fn data_queued(&self, socket: usize) -> usize {
        let socket = &self.sockets[socket];
        let waiting = self.data_waiting(socket);
        socket.data_written + waiting
    }

    fn data_waiting(&self, socket: &Socket) -> usize {
        let node = &self.nodes[socket.shard];
        node.shard.waiting_bytes(socket.id)
    }

    /// A shard reads up to `count_max` bytes from a socket. Returns whether it did anything.
    pub(crate) fn read(&mut self, index: usize, count_max: usize) -> bool {
        let socket = &mut self.sockets[index];
        if !socket.to_read || socket.closed {
            return false;
        }
        let (at, connection) = (socket.shard, socket.id);
        let node = &self.nodes[at];
        if node.silent_since_ms.is_some() || node.is_lost {
            return false;
        }
        if !node.shard.wants_input(connection) {
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
    pub(crate) fn deliver(&mut self, from: usize, to: usize, count_max: usize) -> bool {
        let link = from * self.nodes.len() + to;
        let mut any = false;
        if !self.is_awake(to) {
            return false;
        }
        for _ in 0..count_max {
            if !self.nodes[to].shard.takes_mesh() {
                break;
            }
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
    pub(crate) fn block_link(&mut self, from: usize, to: usize, blocked: bool) {
        let link = from * self.nodes.len() + to;
        self.links[link].blocked = blocked;
    }

    pub(crate) fn rights(&mut self, at: usize, rights: &Arc<Rights>) {
        self.handle(at, Input::Rights(rights.clone()));
    }

    /// Ends a shard's turn: deadlines, announcements, writes, links. Returns whether anything
    /// was written or sent.
    pub(crate) fn end_turn(&mut self, at: usize) -> bool {
        if !self.is_awake(at) {
            return false;
        }
        let stored = self.settle_records(at);
        let due = self.nodes[at].shard.next_deadline_ms();
        if due.is_some_and(|due| due <= self.now.mono_ms) {
            self.judge(at);
        }
        // What is kept for later use may be given back at any time.
        if self.now.mono_ms.is_multiple_of(8) {
            self.handle(at, Input::Quiet);
        }
        self.nodes[at].turned_ms = self.now.mono_ms;
        self.handle(at, Input::EndOfTurn);
        let stored = self.hand_over_records(at) | stored;
        let flushed = self.flush(at);
        self.send_mesh(at) | flushed | stored | self.nodes[at].shard.has_work()
    }

    fn read_all_of(&mut self, at: usize) {
        for socket in 0..self.sockets.len() {
            while self.sockets[socket].shard == at && self.read(socket, usize::MAX) {}
        }
    }

    /// Deadlines are due. What has come is read first, so nobody is dropped for a silence that he
    /// has broken.
    fn judge(&mut self, at: usize) {
        self.read_all_of(at);
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
                had_no_room,
                ..
            } = &self.sockets[socket];
            // A shard that had no turn for long has read nothing; it forgives what it knows of.
            let is_late = self.nodes[at].turned_ms + LATE_MS < self.now.mono_ms;
            let is_silent = to_server.is_empty() || *had_no_room || is_late;
            assert!(is_silent, "dropped, and what it said has not been read");
        }
    }

    fn socket_at(&self, at: usize, id: ConnectionId) -> Option<usize> {
        let (socket, _) = self.nodes[at].slots.get(id.slot as usize)?;
        socket.filter(|socket| self.sockets[*socket].id == id)
    }

    pub(crate) fn close(&mut self, at: usize, id: ConnectionId) {
        if let Some(socket) = self.socket_at(at, id) {
            self.sockets[socket].server_ended = true;
            self.sockets[socket].closed = true;
            self.nodes[at].slots[id.slot as usize].0 = None;
            self.handle(at, Input::Closed { connection: id });
        }
    }

    /// A client takes what has come.
    pub(crate) fn take(&mut self, index: usize) -> Option<(u64, Vec<u8>)> {
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
            if self.nodes[to].is_lost {
                continue;
            }
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
                let backlog_bytes = link.backlog.len() as u64;
                let link = Input::Link {
                    to,
                    over_limit,
                    backlog_bytes,
                };
                self.handle(at, link);
            }
        }
        any
    }

    /// Lets everything happen that is on its way, clients aside. Returns whether anything was.
    pub(crate) fn settle(&mut self) -> bool {
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
            any |= self.write_records(at) | self.end_turn(at);
        }
        any
    }

    /// Nothing that came from a client was left unread by the server.
    pub(crate) fn check_all_read(&self) {
        let mut open = self.sockets.iter().filter(|socket| !socket.closed);
        let forgotten = open.find(|socket| !socket.to_server.is_empty());
        assert!(forgotten.is_none(), "input that is wanted was left unread");
    }

    /// Marks a link as one that has never said anything.
    pub(crate) fn forget_link(&mut self, from: usize, to: usize) {
        let link = from * self.nodes.len() + to;
        self.links[link] = Link::default();
    }

    /// Whether the socket's shard has dropped anybody whose pong did not come.
    pub(crate) fn has_dropped(&self, socket: usize) -> bool {
        let shard = &self.nodes[self.sockets[socket].shard].shard;
        self.seen.dropped || has_dropped(shard)
    }

    pub(crate) fn has_server_closed(&self, socket: usize) -> bool {
        self.sockets[socket].closed
    }
}

/// Whether a shard has dropped anybody whose pong did not come.
fn has_dropped(shard: &Shard) -> bool {
    let mut met = shard.deadlines_met();
    met.any(|(name, count)| name == "Pong" && count > 0)
}
