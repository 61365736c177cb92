//! Members that read steadily, but more slowly than is published.

use std::collections::VecDeque;

use super::net::{Net, Socket};
use crate::shard::testing::{Client, Cluster, messages};

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

/// Somebody joins a channel of shard 0, from shard 1 and with presence, while a client on that
/// shard publishes 6 MB into it: who joins reads, and hears everything behind the ack.
#[track_caller]
fn check_join(publisher: usize) {
    let mut net = Net::new(2);
    let channel = net.channel_of(0, "room");
    let joiner = net.publisher(1, &channel, 0, 0);
    let mut socket = Socket::new(1, 1_000_000);
    socket.log = Some(Vec::new());
    net.sockets.insert(joiner.id, socket);
    let subscribe = format!(r#"{{"type":"subscribe","channel":"{channel}","requestId":"1"}}"#);
    let (_, frames) = net.input.get_mut(&joiner.id).unwrap();
    frames.push_back(Cluster::frame(&subscribe));
    net.publisher(publisher, &channel, 200, 30_000);
    let ms = net.until_published(3_000);
    for _ in 0..100 {
        net.step();
    }
    assert_eq!(net.closed_count(&[joiner]), 0, "after {ms} ms");
    let mut heard = messages(net.sockets[&joiner.id].log.as_ref().unwrap());
    heard.retain(|it| it.starts_with(r#"{"type":"message""#));
    assert!(heard.len() > 150, "{} messages", heard.len());
    assert!(heard.is_sorted(), "another order");
    assert!(!net.cluster.shards[1].channels.has_lags());
}

#[test]
fn who_joins_amid_a_burst_is_not_closed_for_the_pause() {
    check_join(0);
    check_join(1);
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

/// Publishes to a channel of shard 0 until its members on shard 1 lag, and then once more, before
/// shard 0 has heard of it: that is kept.
fn until_kept(net: &mut Net, channel: &str) {
    for _ in 0..8 {
        net.publisher(0, channel, 1, 60_000);
    }
    let last = net.publisher(0, channel, 0, 0);
    let message = Cluster::frame(&format!(
        r#"{{"type":"publish","channel":"{channel}","data":"last"}}"#
    ));
    for _ in 0..100 {
        net.turn(0);
        net.turn(1);
        if net.cluster.shards[1].channels.has_lags() {
            let (_, frames) = net.input.get_mut(&last.id).unwrap();
            frames.push_back(message);
            net.turn(0);
            net.turn(1);
            assert!(kept_bytes(net) > 0, "nothing is kept");
            return;
        }
    }
    panic!("the channel does not lag");
}

fn kept_bytes(net: &Net) -> usize {
    net.cluster.shards[1].channels.pressure.lags.kept_bytes
}

#[test]
fn who_joins_when_all_who_lagged_have_left_gets_nothing_that_was_kept() {
    let mut net = Net::new(2);
    let channel = net.channel_of(0, "room");
    // The channel stays known to its owner, which names it as before.
    net.members(1, 0, &channel, 1_000_000);
    let slow = net.members(8, 1, &channel, 100);
    until_kept(&mut net, &channel);
    for member in slow {
        net.cluster.end(member);
    }
    assert_eq!(kept_bytes(&net), 0);
    let late = net.members(1, 1, &channel, 1_000_000);
    for _ in 0..100 {
        net.step();
    }
    assert_eq!(net.sockets[&late[0].id].written, 0);
}

#[test]
fn joins_wait_behind_what_is_kept_and_close_nobody() {
    let mut net = Net::new(2);
    let channel = net.channel_of(0, "room");
    let slow = net.members(20, 1, &channel, 1_000);
    let joiners = [0, 1].map(|at| {
        let joiner = net.publisher(at, &channel, 0, 0);
        let socket = Socket {
            log: Some(Vec::new()),
            ..Socket::new(at, 1_000_000)
        };
        net.sockets.insert(joiner.id, socket);
        joiner
    });
    let heard = |net: &Net, joiner: Client| {
        let log = net.sockets[&joiner.id].log.as_ref();
        messages(log.unwrap()).join(" ")
    };
    until_kept(&mut net, &channel);
    let subscribe = format!(r#"{{"type":"subscribe","channel":"{channel}","requestId":"s"}}"#);
    for joiner in joiners {
        let (_, frames) = net.input.get_mut(&joiner.id).unwrap();
        frames.push_back(Cluster::frame(&subscribe));
    }
    for _ in 0..5 {
        net.step();
        assert!(kept_bytes(&net) > 0, "a join has let go what was kept");
    }
    // Nobody of shard 1 wants to hear of presence: the first one waits for nobody.
    assert!(heard(&net, joiners[0]).contains("ack"));
    assert!(!heard(&net, joiners[1]).contains("ack"));
    for _ in 0..2_000 {
        net.step();
    }
    assert_eq!((kept_bytes(&net), net.closed_count(&slow)), (0, 0));
    for joiner in joiners {
        let heard = heard(&net, joiner);
        assert!(
            heard.contains(r#"{"type":"ack","requestId":"s"}"#),
            "{heard}"
        );
        assert!(!heard.contains(r#""data":"last""#), "{heard}");
    }
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
