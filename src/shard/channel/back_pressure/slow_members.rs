//! Members that read steadily, but more slowly than is published.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

use super::tests::token_without_presence;
use crate::ids::{ConnectionId, ShardId};
use crate::shard::flush::Wrote;
use crate::shard::input::Input;
use crate::shard::mesh_message::MeshMessage;
use crate::shard::testing::{Client, Cluster, app, messages, peer, rights};
use crate::shard::tuning::Tuning;

const FLUSHES_PER_TURN: usize = 128;
const BYTES_PER_TURN: usize = 256 * 1_024;
const TURNS_PER_MS: usize = 3;
/// What a socket holds, and the room in it at which it takes more.
const SOCKET_BYTES: usize = 100_000;
const SOCKET_STEP_BYTES: usize = 32_000;

/// A client's socket, whose reader reads so many bytes in a millisecond.
struct Socket {
    shard: usize,
    rate: usize,
    held: usize,
    is_blocked: bool,
    written: usize,
    /// What was written, for those who are asked.
    log: Option<Vec<u8>>,
}

impl Socket {
    /// Takes as many bytes as there is room for.
    pub(in crate::shard) fn take(&mut self, bytes: &[IoSlice<'_>]) -> usize {
        let before = self.held;
        for bytes in bytes {
            let count = bytes.len().min(SOCKET_BYTES - self.held);
            self.held += count;
            if let Some(log) = &mut self.log {
                log.extend_from_slice(&bytes[..count]);
            }
        }
        self.written += self.held - before;
        self.is_blocked = self.held == before;
        self.held - before
    }
}

/// Shards with their links and sockets, a millisecond at a time.
struct Net {
    cluster: Cluster,
    /// By receiving shard and by sending one.
    links: Vec<Vec<VecDeque<MeshMessage>>>,
    queues: Vec<VecDeque<ConnectionId>>,
    taken: Vec<usize>,
    offers: Vec<VecDeque<(u32, usize)>>,
    sockets: BTreeMap<ConnectionId, Socket>,
    /// What publishers have to say.
    input: BTreeMap<ConnectionId, (usize, VecDeque<Vec<u8>>)>,
    ms: u64,
}

impl Net {
    pub(in crate::shard) fn new(shard_count: usize) -> Self {
        let links = || (0..shard_count).map(|_| VecDeque::new()).collect();
        let mut cluster = Cluster::new(shard_count as u16, rights(app()));
        for shard in &mut cluster.shards {
            shard.tune(Tuning {
                lag_members_min: 3,
                ..Tuning::default()
            });
        }
        Self {
            cluster,
            links: (0..shard_count).map(|_| links()).collect(),
            queues: vec![VecDeque::new(); shard_count],
            taken: vec![0; shard_count],
            offers: vec![VecDeque::new(); shard_count],
            sockets: BTreeMap::new(),
            input: BTreeMap::new(),
            ms: 0,
        }
    }

    /// Members of a channel on a shard that read so many bytes in a millisecond.
    pub(in crate::shard) fn members(
        &mut self,
        count: usize,
        at: usize,
        channel: &str,
        rate: usize,
    ) -> Vec<Client> {
        let subscribe = format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#);
        let token = token_without_presence();
        let clients = (0..count).map(|_| {
            let (client, _) = self.cluster.connect(at, &token);
            self.cluster.message(client, &subscribe);
            self.cluster.take(client);
            let socket = Socket {
                shard: at,
                rate,
                held: 0,
                is_blocked: false,
                written: 0,
                log: None,
            };
            self.sockets.insert(client.id, socket);
            client
        });
        clients.collect()
    }

    /// A client on a shard with so many publications of so many bytes to make, each numbered.
    pub(in crate::shard) fn publisher(
        &mut self,
        at: usize,
        channel: &str,
        count: usize,
        bytes: usize,
    ) -> Client {
        let client = peer(
            &mut self.cluster,
            at,
            &format!("publisher-{}", self.input.len()),
        );
        let frames = (0..count).map(|number| {
            let data = format!("{number:0>bytes$}");
            Cluster::frame(&format!(
                r#"{{"type":"publish","channel":"{channel}","data":"{data}"}}"#
            ))
        });
        self.input.insert(client.id, (at, frames.collect()));
        client
    }

    /// A channel that a shard owns.
    pub(in crate::shard) fn channel_of(&self, shard: u16, prefix: &str) -> String {
        let placement = &self.cluster.shards[0].context.placement;
        let mut names = (0..).map(|number| format!("{prefix}-{number}"));
        let app = app().index;
        let is_owned =
            |name: &String| placement.owner(placement.channel_hash(app, name)) == ShardId(shard);
        names.find(is_owned).unwrap()
    }

    pub(in crate::shard) fn step(&mut self) {
        self.ms += 1;
        self.cluster.now.mono_ms += 1;
        for (id, socket) in &mut self.sockets {
            socket.held = socket.held.saturating_sub(socket.rate);
            if socket.is_blocked && SOCKET_BYTES - socket.held >= SOCKET_STEP_BYTES {
                socket.is_blocked = false;
                self.queues[socket.shard].push_back(*id);
            }
        }
        for _ in 0..TURNS_PER_MS {
            for at in 0..self.queues.len() {
                self.turn(at);
            }
        }
    }

    /// Steps until everything has been read from the publishers; returns how long that took.
    #[track_caller]
    pub(in crate::shard) fn until_published(&mut self, ms_max: u64) -> u64 {
        let begin_ms = self.ms;
        while !self.input.values().all(|(_, frames)| frames.is_empty()) {
            self.step();
            let ms = self.ms - begin_ms;
            assert!(ms <= ms_max, "not all is read after {ms} ms");
        }
        self.ms - begin_ms
    }

    pub(in crate::shard) fn turn(&mut self, at: usize) {
        self.read(at);
        self.take_mesh(at);
        let shard = &self.cluster.shards[at];
        if shard
            .next_deadline_ms()
            .is_some_and(|due| due <= self.cluster.now.mono_ms)
        {
            self.cluster.input(at, Input::Time);
        }
        self.cluster.input(at, Input::EndOfTurn);
        self.cluster.shards[at].check_queued();
        let shard = &self.cluster.shards[at];
        shard.channels.check_lags(&shard.context);
        self.cluster.shards[at].channels.check_lines();
        self.queues[at].extend(self.cluster.effects(at).dirty.drain());
        let turn = self.cluster.shards[at].turn();
        let mark = self.taken[at] + self.queues[at].len();
        self.offers[at].push_back((turn, mark));
        for _ in 0..FLUSHES_PER_TURN.min(self.queues[at].len()) {
            if let Some(id) = self.queues[at].pop_front() {
                self.flush(id, at);
            }
            self.taken[at] += 1;
        }
        let taken = self.taken[at];
        while let Some((turn, _)) = self.offers[at].pop_front_if(|(_, mark)| *mark <= taken) {
            self.cluster.offered(at, turn);
        }
        for to in 0..self.links.len() {
            let sent = std::mem::take(&mut self.cluster.effects(at).mesh[to]);
            self.links[to][at].extend(sent);
        }
    }

    pub(in crate::shard) fn read(&mut self, at: usize) {
        let mut left = BYTES_PER_TURN;
        let here = self.input.iter().filter(|(_, (shard, _))| *shard == at);
        let publishers: Vec<ConnectionId> = here.map(|(id, _)| *id).collect();
        for id in publishers {
            if left > 0
                && self.cluster.shards[at].wants_input(id)
                && let Some((_, frames)) = self.input.get_mut(&id)
                && let Some(frame) = frames.pop_front()
            {
                left = left.saturating_sub(frame.len());
                self.cluster.feed(Client { shard: at, id }, &frame);
            }
        }
    }

    pub(in crate::shard) fn take_mesh(&mut self, at: usize) {
        let mut bytes = 0;
        for from in 0..self.links.len() {
            while bytes <= BYTES_PER_TURN && self.cluster.shards[at].takes_mesh() {
                let Some(message) = self.links[at][from].pop_front() else {
                    break;
                };
                bytes += message.weight();
                let from = ShardId(from as u16);
                self.cluster.input(at, Input::Mesh { from, message });
            }
        }
    }

    pub(in crate::shard) fn flush(&mut self, connection: ConnectionId, at: usize) {
        if self
            .sockets
            .get(&connection)
            .is_some_and(|it| it.is_blocked)
        {
            return;
        }
        let mut socket = self.sockets.get_mut(&connection);
        let mut sink = |bytes: &[IoSlice<'_>]| {
            let len = bytes.iter().map(|it| it.len()).sum();
            let count = socket.as_mut().map_or(len, |it| it.take(bytes));
            match count {
                0 => Wrote::NoRoom,
                _ => Wrote::Taken(count),
            }
        };
        let _ = self.cluster.shards[at].flush(connection, self.cluster.now, &mut sink);
    }

    pub(in crate::shard) fn closed_count(&self, clients: &[Client]) -> usize {
        let is_closed = |client: &&Client| {
            let shard = &self.cluster.shards[client.shard];
            shard.connections.session(client.id).is_none()
        };
        clients.iter().filter(is_closed).count()
    }
}

#[test]
fn a_publisher_waits_for_members_most_of_whom_read_too_slowly() {
    let mut net = Net::new(1);
    let members = net.members(40, 0, "room", 1_000);
    net.publisher(0, "room", 160, 60_000);
    // 9.6 MB at 1 MB/s, less what sockets and queues hold.
    let ms = net.until_published(9_600);
    assert!(ms > 8_000, "all was read after {ms} ms");
    assert_eq!(net.closed_count(&members), 0);
    for _ in 0..2_000 {
        net.step();
    }
    assert!(!net.cluster.shards[0].channels.has_lags());
    for member in members {
        assert!(net.sockets[&member.id].written > 160 * 60_000);
    }
}

#[test]
fn strangers_on_the_shard_do_not_wait_for_them() {
    let mut net = Net::new(1);
    let slow = net.members(40, 0, "room", 500);
    for _ in 0..10 {
        net.publisher(0, "room", 10, 60_000);
    }
    let others = net.members(20, 0, "other", 1_000_000);
    let stranger = net.publisher(0, "other", 0, 0);
    let message = Cluster::frame(r#"{"type":"publish","channel":"other","data":1}"#);
    for _ in 0..60 {
        let before = net.sockets[&others[0].id].written;
        let (_, frames) = net.input.get_mut(&stranger.id).unwrap();
        frames.push_back(message.clone());
        for _ in 0..3 {
            net.step();
        }
        assert!(net.sockets[&others[0].id].written > before, "{} ms", net.ms);
        for _ in 0..97 {
            net.step();
        }
    }
    assert_eq!(net.closed_count(&slow), 0);
    assert!(net.cluster.shards[0].channels.has_lags());
}

#[test]
fn a_few_members_that_read_slowly_or_nothing_slow_nobody() {
    let mut net = Net::new(1);
    let fast = net.members(30, 0, "room", 1_000_000);
    let slow = net.members(10, 0, "room", 100);
    let stuck = net.members(10, 0, "room", 0);
    net.publisher(0, "room", 60, 60_000);
    let ms = net.until_published(1_000);
    assert!(ms < 200, "{ms} ms for 3.6 MB");
    assert_eq!(net.closed_count(&fast), 0);
    assert_eq!(
        (net.closed_count(&slow), net.closed_count(&stuck)),
        (10, 10)
    );
}

#[test]
fn members_that_take_nothing_are_waited_for_once_and_then_closed() {
    let mut net = Net::new(1);
    let stuck = net.members(40, 0, "room", 0);
    net.publisher(0, "room", 60, 60_000);
    let ms = net.until_published(4_000);
    assert!((2_500..3_500).contains(&ms), "{ms} ms");
    assert_eq!(net.closed_count(&stuck), 40);
}

#[test]
fn those_who_read_are_the_majority_when_others_take_nothing() {
    let mut net = Net::new(1);
    let stuck = net.members(30, 0, "room", 0);
    let slow = net.members(20, 0, "room", 1_000);
    net.publisher(0, "room", 160, 60_000);
    net.until_published(12_000);
    assert_eq!(net.closed_count(&stuck), 30);
    assert_eq!(net.closed_count(&slow), 0);
}

#[test]
fn nobody_waits_for_ever() {
    let mut net = Net::new(1);
    // 12 KB/s: they move, and never come along.
    let slow = net.members(40, 0, "room", 12);
    let publishers: Vec<Client> = (0..10)
        .map(|_| net.publisher(0, "room", 3, 60_000))
        .collect();
    net.until_published(11_000);
    for _ in 0..100 {
        net.step();
    }
    for publisher in publishers {
        assert!(net.cluster.shards[0].wants_input(publisher.id));
    }
    assert_eq!(net.closed_count(&slow), 40);
}

#[test]
fn a_channel_of_two_slows_nobody() {
    let mut net = Net::new(1);
    let slow = net.members(2, 0, "room", 100);
    net.publisher(0, "room", 60, 60_000);
    let ms = net.until_published(1_000);
    assert!(ms < 200, "{ms} ms for 3.6 MB");
    assert_eq!(net.closed_count(&slow), 2);
}

#[test]
fn three_that_read_are_waited_for() {
    let mut net = Net::new(1);
    let slow = net.members(3, 0, "room", 1_000);
    net.publisher(0, "room", 60, 60_000);
    net.until_published(12_000);
    assert_eq!(net.closed_count(&slow), 0);
}

/// Publishers on the first shard, members on both: nobody is closed, all hear all in one order.
#[track_caller]
fn check_shards(owner: u16) {
    let mut net = Net::new(2);
    let channel = net.channel_of(owner, "room");
    let other = net.channel_of(1 - owner, "other");
    let members: Vec<Client> = [0, 1]
        .into_iter()
        .flat_map(|at| net.members(20, at, &channel, 1_000))
        .collect();
    for member in [members[0], members[39]] {
        net.sockets.get_mut(&member.id).unwrap().log = Some(Vec::new());
    }
    for _ in 0..8 {
        net.publisher(0, &channel, 20, 60_000);
    }
    let others = net.members(20, 1, &other, 1_000_000);
    let stranger = net.publisher(0, &other, 0, 0);
    let message = Cluster::frame(&format!(
        r#"{{"type":"publish","channel":"{other}","data":1}}"#
    ));
    let mut ms = 0;
    while net.input.values().any(|(_, frames)| !frames.is_empty()) {
        let before = net.sockets[&others[0].id].written;
        let (_, frames) = net.input.get_mut(&stranger.id).unwrap();
        frames.push_back(message.clone());
        for _ in 0..10 {
            net.step();
        }
        assert!(net.sockets[&others[0].id].written > before, "{} ms", net.ms);
        ms += 10;
        assert!(ms < 12_000, "a publisher is held for ever");
    }
    assert!(ms > 7_000, "9.6 MB were read in {ms} ms");
    for _ in 0..4_000 {
        net.step();
    }
    assert_eq!(net.closed_count(&members), 0);
    assert!(
        net.cluster
            .shards
            .iter()
            .all(|shard| !shard.channels.has_lags())
    );
    let heard = |member: Client| messages(net.sockets[&member.id].log.as_ref().unwrap());
    let (one, another) = (heard(members[0]), heard(members[39]));
    assert_eq!(one.len(), 160);
    assert!(one == another, "members hear another order");
}

#[test]
fn publishers_wait_on_another_shard_than_the_owner() {
    check_shards(1);
}

#[test]
fn publishers_wait_on_the_owners_shard_for_members_elsewhere() {
    check_shards(0);
}

#[test]
fn a_home_with_a_minority_of_the_members_slows_nobody() {
    let mut net = Net::new(2);
    let channel = net.channel_of(0, "room");
    let fast = net.members(60, 0, &channel, 1_000_000);
    let slow = net.members(20, 1, &channel, 100);
    net.publisher(0, &channel, 200, 60_000);
    let ms = net.until_published(2_000);
    assert!(ms < 500, "{ms} ms for 12 MB");
    for _ in 0..1_500 {
        net.step();
    }
    assert_eq!(net.closed_count(&fast), 0);
    assert_eq!(net.closed_count(&slow), 20);
}

#[test]
fn requests_and_messages_in_pieces_wait_too_and_all_are_published() {
    for owner in [0, 1] {
        let mut net = Net::new(2);
        let channel = net.channel_of(owner, "room");
        let members = net.members(40, 1, &channel, 1_000);
        net.sockets.get_mut(&members[0].id).unwrap().log = Some(Vec::new());
        let data = "r".repeat(30_000);
        let body = format!(r#"{{"data":"{data}"}}"#);
        let request = format!(
            "POST /v1/channels/{channel}/publish HTTP/1.1\r\nHost: a\r\n\
             Authorization: Bearer sk_live_full\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        for _ in 0..60 {
            let backend = net.cluster.accept(0);
            let requests = VecDeque::from([request.clone().into_bytes()]);
            net.input.insert(backend.id, (0, requests));
        }
        for _ in 0..20 {
            let client = net.publisher(0, &channel, 2, 60_000);
            let (_, frames) = net.input.get_mut(&client.id).unwrap();
            *frames = std::mem::take(frames)
                .into_iter()
                .flat_map(in_pieces)
                .collect();
        }
        net.until_published(12_000);
        for _ in 0..5_000 {
            net.step();
        }
        assert_eq!(net.closed_count(&members), 0);
        let log = net.sockets[&members[0].id].log.as_ref().unwrap();
        assert_eq!(messages(log).len(), 100);
    }
}

/// A client's frame, unmasked in effect, as two.
fn in_pieces(frame: Vec<u8>) -> [Vec<u8>; 2] {
    // FIN and opcode, a length of eight bytes or two, a mask of zeroes.
    let head_bytes = match frame[1] & 0x7F {
        127 => 14,
        126 => 8,
        _ => 6,
    };
    let (first, rest) = frame[head_bytes..].split_at(20_000);
    let piece = |opcode: u8, payload: &[u8]| {
        let mut piece = vec![opcode, 0x80 | 126];
        piece.extend((payload.len() as u16).to_be_bytes());
        piece.extend([0; 4]);
        piece.extend(payload);
        piece
    };
    [piece(0x01, first), piece(0x80, rest)]
}
