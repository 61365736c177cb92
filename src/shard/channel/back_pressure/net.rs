//! Shards with links, and sockets whose readers have a speed, a millisecond at a time.

use crate::ids::{ConnectionId, ShardId};
use crate::shard::flush::Wrote;
use crate::shard::input::Input;
use crate::shard::mesh_message::MeshMessage;
use crate::shard::testing::{Client, Cluster, app, peer, rights, token_without_presence};
use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

const FLUSHES_PER_TURN: usize = 128;
const BYTES_PER_TURN: usize = 256 * 1_024;
const TURNS_PER_MS: usize = 3;
/// What a socket holds, and the room in it at which it takes more.
const SOCKET_BYTES: usize = 100_000;
const SOCKET_STEP_BYTES: usize = 32_000;

/// A client's socket, whose reader reads so many bytes in a millisecond.
pub(super) struct Socket {
    pub(super) shard: usize,
    pub(super) rate: usize,
    pub(super) held: usize,
    pub(super) is_blocked: bool,
    pub(super) written: usize,
    /// What was written, for those who are asked.
    pub(super) log: Option<Vec<u8>>,
}

impl Socket {
    pub(super) fn new(shard: usize, rate: usize) -> Self {
        Self {
            shard,
            rate,
            held: 0,
            is_blocked: false,
            written: 0,
            log: None,
        }
    }

    /// Takes as many bytes as there is room for.
    pub(super) fn take(&mut self, bytes: &[IoSlice<'_>]) -> usize {
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
pub(super) struct Net {
    pub(super) cluster: Cluster,
    /// By receiving shard and by sending one.
    pub(super) links: Vec<Vec<VecDeque<MeshMessage>>>,
    pub(super) queues: Vec<VecDeque<ConnectionId>>,
    pub(super) taken: Vec<usize>,
    pub(super) offers: Vec<VecDeque<(u32, usize)>>,
    pub(super) sockets: BTreeMap<ConnectionId, Socket>,
    /// What publishers have to say.
    pub(super) input: BTreeMap<ConnectionId, (usize, VecDeque<Vec<u8>>)>,
    pub(super) ms: u64,
}

impl Net {
    pub(super) fn new(shard_count: usize) -> Self {
        let links = || (0..shard_count).map(|_| VecDeque::new()).collect();
        Self {
            cluster: Cluster::new(shard_count as u16, rights(app())),
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
    pub(super) fn members(
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
            self.sockets.insert(client.id, Socket::new(at, rate));
            client
        });
        clients.collect()
    }

    /// A client on a shard with so many publications of so many bytes to make, each numbered.
    pub(super) fn publisher(
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
    pub(super) fn channel_of(&self, shard: u16, prefix: &str) -> String {
        let placement = &self.cluster.shards[0].context.placement;
        let mut names = (0..).map(|number| format!("{prefix}-{number}"));
        let app = app().id.tag();
        let is_owned = |name: &String| {
            placement.owner(placement.channel_hash(app, name)) == ShardId(shard).into()
        };
        names.find(is_owned).unwrap()
    }

    pub(super) fn step(&mut self) {
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
    pub(super) fn until_published(&mut self, ms_max: u64) -> u64 {
        let begin_ms = self.ms;
        while !self.input.values().all(|(_, frames)| frames.is_empty()) {
            self.step();
            let ms = self.ms - begin_ms;
            assert!(ms <= ms_max, "not all is read after {ms} ms");
        }
        self.ms - begin_ms
    }

    pub(super) fn turn(&mut self, at: usize) {
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

    pub(super) fn read(&mut self, at: usize) {
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

    pub(super) fn take_mesh(&mut self, at: usize) {
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

    pub(super) fn flush(&mut self, connection: ConnectionId, at: usize) {
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

    pub(super) fn closed_count(&self, clients: &[Client]) -> usize {
        let is_closed = |client: &&Client| {
            let shard = &self.cluster.shards[client.shard];
            shard.connections.session(client.id).is_none()
        };
        clients.iter().filter(is_closed).count()
    }
}
