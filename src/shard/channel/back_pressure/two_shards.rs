//! A channel whose members live on another shard than its owner and its publishers.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

use crate::ids::{ConnectionId, ShardId};
use crate::proto::ws::frame::{Opcode, append_masked_frame};
use crate::shard::flush::{FlushQueue, Flushed, Wrote};
use crate::shard::input::Input;
use crate::shard::mesh_message::MeshMessage;
use crate::shard::testing::{Client, Cluster, app, peer, rights};

const MESH_BYTES_PER_TURN: usize = 256 * 1_024;

/// Two shards with their links. Sockets take everything, some of them in each turn.
struct Pair {
    cluster: Cluster,
    /// By receiving shard.
    links: [VecDeque<MeshMessage>; 2],
    queues: [FlushQueue; 2],
    /// What publishers on the first shard have to say.
    input: BTreeMap<ConnectionId, VecDeque<Vec<u8>>>,
    written: BTreeMap<ConnectionId, usize>,
}

impl Pair {
    pub(in crate::shard) fn new() -> Self {
        Self {
            cluster: Cluster::new(2, rights(app())),
            links: Default::default(),
            queues: Default::default(),
            input: BTreeMap::new(),
            written: BTreeMap::new(),
        }
    }

    pub(in crate::shard) fn turn(&mut self, at: usize) {
        if at == 0 {
            self.read();
        }
        self.take_mesh(at);
        self.cluster.input(at, Input::EndOfTurn);
        self.cluster.shards[at].check_queued();
        let turn = self.cluster.shards[at].turn();
        let dirty = &mut self.cluster.effects(at).dirty;
        self.queues[at].begin_turn(dirty, turn);
        while let Some(id) = self.queues[at].pop() {
            self.flush(at, id);
        }
        if let Some(turn) = self.queues[at].offered() {
            self.cluster.offered(at, turn);
        }
        let sent = std::mem::take(&mut self.cluster.effects(at).mesh[1 - at]);
        self.links[1 - at].extend(sent);
    }

    pub(in crate::shard) fn read(&mut self) {
        let publishers: Vec<ConnectionId> = self.input.keys().copied().collect();
        for id in publishers {
            if self.cluster.shards[0].wants_input(id)
                && let Some(frame) = self.input.get_mut(&id).and_then(VecDeque::pop_front)
            {
                self.cluster.feed(Client { shard: 0, id }, &frame);
            }
        }
    }

    pub(in crate::shard) fn take_mesh(&mut self, at: usize) {
        let mut bytes = 0;
        while bytes <= MESH_BYTES_PER_TURN && self.cluster.shards[at].takes_mesh() {
            let Some(message) = self.links[at].pop_front() else {
                break;
            };
            bytes += message.weight();
            let from = ShardId(1 - at as u16);
            self.cluster.input(at, Input::Mesh { from, message });
        }
    }

    pub(in crate::shard) fn flush(&mut self, at: usize, connection: ConnectionId) {
        let shard = &mut self.cluster.shards[at];
        self.queues[at].charge(shard.flush_bytes(connection));
        let written = self.written.entry(connection).or_default();
        let mut sink = |bytes: &[IoSlice<'_>]| {
            let count = bytes.iter().map(|it| it.len()).sum();
            *written += count;
            Wrote::Taken(count)
        };
        let flushed = shard.flush(connection, self.cluster.now, &mut sink);
        assert_ne!(flushed, Flushed::Blocked);
    }

    pub(in crate::shard) fn is_done(&mut self) -> bool {
        let mut is_quiet = self.input.values().all(VecDeque::is_empty);
        for at in 0..2 {
            is_quiet &= self.links[at].is_empty()
                && self.queues[at].is_empty()
                && self.cluster.effects(at).dirty.is_empty()
                && !self.cluster.shards[at].has_work();
        }
        is_quiet
    }

    /// Whether those who have something to say are read from.
    pub(in crate::shard) fn are_held(&self) -> bool {
        let mut waiting = self.input.iter().filter(|(_, it)| !it.is_empty());
        waiting.all(|(id, _)| !self.cluster.shards[0].wants_input(*id))
    }

    /// A channel of a client's app that a shard owns.
    pub(in crate::shard) fn channel_of(&self, client: Client, shard: u16) -> String {
        let shards = &self.cluster.shards;
        let session = shards[0].connections.session(client.id).unwrap();
        let app = session.key.app.id.tag();
        let mut names = (0..).map(|number| format!("room-{number}"));
        let is_owned = |name: &String| {
            let hash = shards[0].context.placement.channel_hash(app, name);
            shards[0].context.placement.owner(hash) == ShardId(shard).into()
        };
        names.find(is_owned).unwrap()
    }
}

fn members(pair: &mut Pair, count: usize, channel: &str) -> Vec<Client> {
    let subscribe = format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#);
    let clients = (0..count).map(|_| {
        let client = peer(&mut pair.cluster, 1, "reader");
        pair.cluster.message(client, &subscribe);
        pair.cluster.run();
        pair.cluster.take(client);
        client
    });
    clients.collect()
}

/// Publishers on the first shard write to members on the second one, in a channel that either
/// owns: whoever reads is not closed, because publishers are held back.
#[track_caller]
fn check(owner: u16) {
    let mut pair = Pair::new();
    let publishers: Vec<Client> = (0..8)
        .map(|number| peer(&mut pair.cluster, 0, &format!("publisher-{number}")))
        .collect();
    let channel = &pair.channel_of(publishers[0], owner);
    let readers = members(&mut pair, 300, channel);
    let data = "w".repeat(60_000);
    let message = format!(r#"{{"type":"publish","channel":"{channel}","data":"{data}"}}"#);
    let mut frame = Vec::new();
    append_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], message.as_bytes());
    for publisher in publishers {
        let frames = vec![frame.clone(); 20].into();
        pair.input.insert(publisher.id, frames);
    }
    let (mut turns, mut held) = (0, 0);
    while !pair.is_done() {
        pair.turn(0);
        pair.turn(1);
        held += usize::from(!pair.is_done() && pair.are_held());
        turns += 1;
        assert!(turns < 20_000, "a publisher is held for ever");
    }
    assert!(held > turns / 4, "held in {held} of {turns} turns");
    for reader in readers {
        let is_open = pair.cluster.shards[1].connections.session(reader.id);
        assert!(is_open.is_some(), "who reads is closed");
        assert!(pair.written[&reader.id] > 160 * 60_000);
    }
}

#[test]
fn members_that_read_are_not_closed_on_another_shard_than_the_publishers() {
    check(0);
}

#[test]
fn members_that_read_are_not_closed_where_their_channel_is_owned() {
    check(1);
}
