//! Wide fan-outs of large messages, flushed as the runtime does it: some outboxes a turn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;

use crate::ids::ConnectionId;
use crate::proto::ws::frame::{Opcode, append_masked_frame};
use crate::shard::flush::{FlushQueue, Flushed, Wrote};
use crate::shard::input::Input;
use crate::shard::testing::{Client, Cluster, app, peer, rights, token_without_presence};

const LIMIT: usize = 1 << 20;

/// One shard whose sockets take everything or nothing, and clients that publish as fast as they
/// are read.
struct Node {
    cluster: Cluster,
    queue: FlushQueue,
    /// Sockets that have no room.
    blocked: BTreeSet<ConnectionId>,
    /// What publishers have to say.
    input: BTreeMap<ConnectionId, VecDeque<Vec<u8>>>,
    /// Bytes that sockets took.
    written: BTreeMap<ConnectionId, usize>,
}

impl Node {
    fn new() -> Self {
        Self {
            cluster: Cluster::new(1, rights(app())),
            queue: FlushQueue::default(),
            blocked: BTreeSet::new(),
            input: BTreeMap::new(),
            written: BTreeMap::new(),
        }
    }

    /// Subscribers of a channel, without presence; their ids.
    fn subscribers(&mut self, count: usize, channel: &str) -> Vec<Client> {
        let subscribe = format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#);
        let token = token_without_presence();
        let clients = (0..count).map(|_| {
            let (client, _) = self.cluster.connect(0, &token);
            self.cluster.message(client, &subscribe);
            self.cluster.take(client);
            client
        });
        clients.collect()
    }

    /// A client with that many publications of `len` bytes to make.
    fn publisher(&mut self, channel: &str, count: usize, len: usize) -> Client {
        let client = peer(&mut self.cluster, 0, "publisher");
        let data = "w".repeat(len);
        let message = format!(r#"{{"type":"publish","channel":"{channel}","data":"{data}"}}"#);
        let mut frame = Vec::new();
        append_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], message.as_bytes());
        self.input.insert(client.id, vec![frame; count].into());
        client
    }

    /// A turn of ten milliseconds.
    fn turn(&mut self, reads: impl Fn(ConnectionId) -> bool) {
        self.cluster.now.mono_ms += 10;
        self.read();
        let due_ms = self.cluster.shards[0].next_deadline_ms();
        if due_ms.is_some_and(|due_ms| due_ms <= self.cluster.now.mono_ms) {
            self.cluster.input(0, Input::Time);
        }
        self.cluster.input(0, Input::EndOfTurn);
        self.cluster.shards[0].check_queued();
        let turn = self.cluster.shards[0].turn();
        let dirty = &mut self.cluster.effects(0).dirty;
        self.queue.begin_turn(dirty, turn);
        while let Some(id) = self.queue.pop() {
            if !self.blocked.contains(&id) {
                self.flush(id, reads(id));
            }
        }
        if let Some(turn) = self.queue.offered() {
            self.cluster.offered(0, turn);
        }
    }

    /// A quarter of a megabyte of publications, from whom the shard reads.
    fn read(&mut self) {
        let mut left = 256 * 1_024_usize;
        let publishers: Vec<ConnectionId> = self.input.keys().copied().collect();
        for id in publishers {
            if !self.cluster.shards[0].wants_input(id) || left == 0 {
                continue;
            }
            if let Some(frame) = self.input.get_mut(&id).and_then(VecDeque::pop_front) {
                left = left.saturating_sub(frame.len());
                self.cluster.feed(Client { shard: 0, id }, &frame);
            }
        }
    }

    fn flush(&mut self, id: ConnectionId, reads: bool) {
        let shard = &mut self.cluster.shards[0];
        self.queue.charge(shard.flush_bytes(id));
        let written = self.written.entry(id).or_default();
        let mut sink = |bytes: &[IoSlice<'_>]| {
            let count = bytes.iter().map(|it| it.len()).sum();
            if !reads {
                return Wrote::NoRoom;
            }
            *written += count;
            Wrote::Taken(count)
        };
        if shard.flush(id, self.cluster.now, &mut sink) == Flushed::Blocked {
            self.blocked.insert(id);
        }
    }

    /// Turns in which everybody reads, until nothing is left to do.
    fn run_with_readers(&mut self) {
        let mut turns = 0;
        while !self.is_done() {
            self.turn(|_| true);
            turns += 1;
            assert!(turns < 10_000, "somebody is held for ever");
        }
    }

    #[track_caller]
    fn check_written(&self, clients: &[Client], more_than: usize) {
        for client in clients {
            assert!(self.written[&client.id] > more_than);
        }
    }

    fn is_done(&mut self) -> bool {
        self.queue.is_empty()
            && self.cluster.effects(0).dirty.is_empty()
            && self.input.values().all(VecDeque::is_empty)
            && !self.cluster.shards[0].has_work()
    }

    /// Bytes of memory that all queues and buffers take, what they share counted once.
    fn memory(&self) -> usize {
        let shard = &self.cluster.shards[0];
        let mut shared = BTreeMap::new();
        let mut owned = 0;
        for connection in shard.connections.iter() {
            owned += connection.outbox.owned_bytes();
            for frame in connection.outbox.shared() {
                shared.insert(frame.as_ptr() as usize, frame.len());
            }
        }
        owned + shared.values().sum::<usize>()
    }

    fn slow_count(&self, clients: &[Client]) -> usize {
        let connections = &self.cluster.shards[0].connections;
        let is_open = |client: &&Client| connections.session(client.id).is_some();
        clients.len() - clients.iter().filter(is_open).count()
    }
}

#[test]
fn members_that_do_not_read_hold_one_copy_of_large_messages_and_are_closed_at_the_limit() {
    let mut node = Node::new();
    let readers = node.subscribers(2_000, "room");
    node.publisher("room", 30, 60_000);
    let mut most = 0;
    while !node.is_done() {
        node.turn(|_| false);
        most = most.max(node.memory());
    }
    assert_eq!(node.slow_count(&readers), 2_000);
    // The messages, and less than 2 KB for each member.
    assert!(most < 2 * LIMIT + 2_000 * 2_048, "{most} bytes are held");
}

#[test]
fn who_reads_is_not_closed_however_fast_is_published() {
    let mut node = Node::new();
    let readers = node.subscribers(500, "room");
    node.publisher("room", 60, 60_000);
    node.run_with_readers();
    assert_eq!(node.slow_count(&readers), 0);
    node.check_written(&readers, 60 * 60_000);
}

#[test]
fn many_publishers_of_a_wide_channel_wait_for_their_turn() {
    let mut node = Node::new();
    let readers = node.subscribers(1_500, "room");
    for _ in 0..40 {
        node.publisher("room", 3, 60_000);
    }
    node.run_with_readers();
    assert_eq!(node.slow_count(&readers), 0);
    node.check_written(&readers, 120 * 60_000);
}

#[test]
fn a_member_of_many_busy_channels_is_not_closed_while_it_reads() {
    let mut node = Node::new();
    let readers = node.subscribers(400, "room-0");
    for channel in 1..8 {
        for reader in &readers {
            let subscribe = format!(r#"{{"type":"subscribe","channel":"room-{channel}"}}"#);
            node.cluster.message(*reader, &subscribe);
            node.cluster.take(*reader);
        }
        node.publisher(&format!("room-{channel}"), 20, 60_000);
    }
    node.run_with_readers();
    assert_eq!(node.slow_count(&readers), 0);
}

#[test]
fn ordinary_bursts_are_not_held_back() {
    let mut node = Node::new();
    node.subscribers(1_000, "room");
    let publisher = node.publisher("room", 64, 1_000);
    for _ in 0..64 {
        assert!(node.cluster.shards[0].wants_input(publisher.id));
        node.turn(|_| true);
    }
    assert!(node.input[&publisher.id].is_empty());
}

#[test]
fn a_publication_that_waited_is_delivered_once_and_unchanged() {
    let mut node = Node::new();
    let reader = node.subscribers(1, "room")[0];
    let publisher = peer(&mut node.cluster, 0, "publisher");
    let mut bytes = Vec::new();
    for number in 0..20 {
        let data = format!("{number:0>60000}");
        let message = format!(r#"{{"type":"publish","channel":"room","data":"{data}"}}"#);
        append_masked_frame(&mut bytes, Opcode::Text, [9, 8, 7, 6], message.as_bytes());
    }
    // One read of many messages: the later ones wait in the middle of it.
    node.cluster.feed(publisher, &bytes);
    assert!(!node.cluster.shards[0].wants_input(publisher.id));
    node.cluster.run();
    let heard = node.cluster.messages(reader);
    let heard: Vec<serde_json::Value> = heard
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let numbers: Vec<u32> = heard
        .iter()
        .map(|frame| frame["data"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..20).collect::<Vec<u32>>());
}

/// A publication of `len` bytes over REST.
fn rest_publish(channel: &str, len: usize) -> Vec<u8> {
    let body = format!(r#"{{"data":"{}"}}"#, "r".repeat(len));
    let head = format!(
        "POST /v1/channels/{channel}/publish HTTP/1.1\r\nHost: a\r\n\
         Authorization: Bearer sk_live_full\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

#[test]
fn requests_wait_for_a_wide_fan_out_and_are_all_answered() {
    let mut node = Node::new();
    let readers = node.subscribers(500, "room");
    let backends: Vec<Client> = (0..200)
        .map(|_| {
            let client = node.cluster.accept(0);
            node.input
                .insert(client.id, vec![rest_publish("room", 30_000)].into());
            client
        })
        .collect();
    node.run_with_readers();
    assert_eq!(node.slow_count(&readers), 0);
    node.check_written(&readers, 200 * 30_000);
    for backend in backends {
        assert!(node.written[&backend.id] > 100, "a request has no answer");
    }
}

#[test]
fn messages_in_pieces_wait_too_and_in_order() {
    let mut node = Node::new();
    let readers = node.subscribers(500, "room");
    for _ in 0..40 {
        let client = peer(&mut node.cluster, 0, "publisher");
        let frames = (0..2).map(|number| {
            let data = format!("{number:0>60000}");
            let message = format!(
                r#"{{"type":"publish","channel":"room","data":"{data}","requestId":"{number}"}}"#
            );
            let (first, rest) = message.as_bytes().split_at(30_000);
            let mut frames = Vec::new();
            append_masked_frame(&mut frames, Opcode::Text, [1, 2, 3, 4], first);
            frames[0] &= 0x7F;
            append_masked_frame(&mut frames, Opcode::Continuation, [5, 6, 7, 8], rest);
            frames
        });
        node.input.insert(client.id, frames.collect());
    }
    node.run_with_readers();
    assert_eq!(node.slow_count(&readers), 0);
    node.check_written(&readers, 80 * 60_000);
}

#[test]
fn a_peer_with_many_tabs_that_read_is_not_closed_by_many_senders() {
    let mut node = Node::new();
    let tabs: Vec<Client> = (0..1_000)
        .map(|_| peer(&mut node.cluster, 0, "tabs"))
        .collect();
    for number in 0..60 {
        let sender = peer(&mut node.cluster, 0, &format!("sender-{number}"));
        let data = "d".repeat(60_000);
        let message = format!(r#"{{"type":"send","to":"tabs","data":"{data}","requestId":"s"}}"#);
        let mut frame = Vec::new();
        append_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], message.as_bytes());
        node.input.insert(sender.id, vec![frame].into());
    }
    node.run_with_readers();
    assert_eq!(node.slow_count(&tabs), 0);
    node.check_written(&tabs, 60 * 60_000);
}
