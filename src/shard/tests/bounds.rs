//! What a connection makes the server keep is bounded, whatever it sends and however it reads.

use super::*;
use crate::limits::READ_BYTES_MAX;
use crate::shard::connection::bounds::BytesHeld;
use crate::shard::rest::tests::{request, with_key};

const UPGRADE: &str = "GET /v1?key=pk_live_test HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client sends these bytes over and over, as much as the server takes, while in each turn it
/// reads so many bytes. Returns the most that it made the server keep, and how much was taken.
fn flood(
    cluster: &mut Cluster,
    client: Client,
    unit: &[u8],
    read: Option<usize>,
) -> (BytesHeld, usize) {
    let stream = unit.repeat(READ_BYTES_MAX.div_ceil(unit.len()) + 1);
    let (mut most, mut taken) = (BytesHeld::default(), 0);
    if read.is_some() {
        cluster.stall(client);
    }
    for _ in 0..16 {
        if cluster.shards[client.shard].wants_input(client.id) {
            let from = taken % unit.len();
            cluster.feed(client, &stream[from..from + READ_BYTES_MAX]);
            taken += READ_BYTES_MAX;
        }
        for shard in 0..cluster.shards.len() {
            cluster.turn(shard);
        }
        cluster.take(client);
        if let Some(read) = read {
            cluster.make_room(client, read);
        }
        let held = cluster.shards[client.shard].bytes_held(client.id);
        let held = held.expect("nothing here closes the connection");
        most.input = most.input.max(held.input);
        most.control = most.control.max(held.control);
        most.replies = most.replies.max(held.replies);
        most.awaited = most.awaited.max(held.awaited);
    }
    (most, taken)
}

fn control_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    append_masked_frame(&mut frame, opcode, [1, 2, 3, 4], payload);
    frame
}

#[test]
fn pipelined_requests_wait_in_one_read() {
    let health = request("GET", "/healthz", "", "");
    let unauthorized = request("GET", "/v1/usage", "", "");
    let remote = with_key("DELETE", "/v1/peers/ann", "");
    for shards in [1, 2] {
        for unit in [&health, &unauthorized, &remote] {
            for read in [None, Some(700)] {
                let mut cluster = cluster(shards);
                let client = cluster.accept(0);
                let (most, taken) = flood(&mut cluster, client, unit, read);
                // One read beyond an incomplete request.
                assert!(most.input <= READ_BYTES_MAX + unit.len(), "{most:?}");
                assert!(most.replies <= 66 * 1_024, "{most:?}");
                assert!(taken >= READ_BYTES_MAX);
            }
        }
    }
}

#[test]
fn messages_and_pings_wait_in_one_read() {
    let text = frames(&[r#"{"type":"ping","requestId":"1"}"#]);
    let publish = frames(&[r#"{"type":"publish","channel":"room","data":1,"requestId":"1"}"#]);
    let send = frames(&[r#"{"type":"send","to":"nobody","data":1}"#]);
    let ping = control_frame(Opcode::Ping, &[7; 125]);
    let empty = control_frame(Opcode::Ping, b"");
    for shards in [1, 2] {
        for unit in [&text, &publish, &send, &ping, &empty] {
            for read in [None, Some(700)] {
                let mut cluster = cluster(shards);
                let (client, _) = cluster.connect(0, KEY);
                let (most, _) = flood(&mut cluster, client, unit, read);
                assert!(most.input <= READ_BYTES_MAX + unit.len(), "{most:?}");
                assert!(most.control <= 4 * 1_024 + 127, "{most:?}");
                assert!(most.replies + most.awaited <= 66 * 1_024, "{most:?}");
            }
        }
    }
}

#[test]
fn a_message_in_fragments_is_bounded_with_what_follows_it() {
    let mut cluster = cluster(1);
    let (client, _) = cluster.connect(0, KEY);
    let fragment = |header: &[u8], len: usize| {
        let mut frame = header.to_vec();
        frame.extend_from_slice(&(len as u16).to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.resize(frame.len() + len, b'x');
        frame
    };
    cluster.send(client, &fragment(&[0x01, 0xFE], 60_000));
    // The rest of the message has not come whole.
    let rest = fragment(&[0x80, 0xFE], 6_000);
    cluster.send(client, &rest[..5_000]);
    let held = cluster.shards[0].bytes_held(client.id).unwrap();
    assert_eq!(held.input, 65_000);
    cluster.send(client, &rest[5_000..]);
    assert_eq!(cluster.messages(client).len(), 1, "no JSON: an error");
    let held = cluster.shards[0].bytes_held(client.id).unwrap();
    assert_eq!(held, BytesHeld::default());
}

#[test]
fn input_released_in_a_flush_is_used_before_more_is_read() {
    let mut cluster = cluster(1);
    let (client, _) = cluster.connect(0, KEY);
    let ping = format!(r#"{{"type":"ping","requestId":"{}"}}"#, "x".repeat(120));
    cluster.feed(client, &frames(&vec![ping.as_str(); 1_000]));
    assert!(!cluster.shards[0].wants_input(client.id));
    // The answers are written at the end of this turn; what is held goes on at the next one's.
    cluster.turn(0);
    assert!(!cluster.shards[0].wants_input(client.id));
    assert!(cluster.shards[0].has_work());
    cluster.run();
    assert!(cluster.shards[0].wants_input(client.id));
    assert_eq!(cluster.messages(client).len(), 1_000);
}

#[test]
fn an_answer_that_came_late_holds_the_next_request_back() {
    let mut cluster = cluster(2);
    // A roster whose list is larger than the answers that may wait.
    for number in 0..60 {
        let metadata = format!(r#"{{"x":"{}"}}"#, "x".repeat(3_900));
        let credential = token(&format!("peer-{number}"), 3_600, &metadata);
        let (member, _) = cluster.connect(number % 2, &credential);
        cluster.message(member, r#"{"type":"subscribe","channel":"room"}"#);
    }
    for shard in 0..2 {
        let client = cluster.accept(shard);
        cluster.stall(client);
        let list = with_key("GET", "/v1/channels/room/peers", "");
        cluster.send(client, &list.repeat(20));
        let held = cluster.shards[shard].bytes_held(client.id).unwrap();
        assert!(held.replies < 300_000, "one answer: {held:?}");
        for _ in 0..20 {
            cluster.read(client, 300_000);
        }
        assert_eq!(cluster.responses(client).len(), 20);
    }
}

#[test]
fn control_frames_and_fragments_cost_an_eighth_of_a_message() {
    let limited = || {
        let mut limited = app();
        limited.message_limits = Some(BucketLimits {
            rate_per_sec: 1,
            burst: 2,
        });
        Cluster::new(1, rights(limited))
    };
    let first = [&[0x01, 0x80][..], &[0; 4]].concat();
    let next = [&[0x00, 0x80][..], &[0; 4]].concat();
    for (unit, more) in [
        (control_frame(Opcode::Ping, b"x"), &[][..]),
        (control_frame(Opcode::Pong, b""), &[]),
        (next, &first),
    ] {
        let mut cluster = limited();
        let (client, _) = cluster.connect(0, KEY);
        cluster.send(client, more);
        let count = 16 - usize::from(!more.is_empty());
        cluster.send(client, &unit.repeat(count));
        assert!(cluster.is_open(client));
        cluster.take(client);
        cluster.send(client, &unit);
        assert_eq!(cluster.messages(client), ["close 4011"]);
    }
    // A close is answered however much was said before.
    let mut cluster = limited();
    let (client, _) = cluster.connect(0, KEY);
    cluster.send(client, &control_frame(Opcode::Pong, b"").repeat(16));
    cluster.send(client, &control_frame(Opcode::Close, b""));
    assert_eq!(cluster.messages(client), ["close 1000"]);
}

#[test]
fn nothing_is_said_behind_a_close_frame() {
    let mut cluster = cluster(2);
    for sub in ["ann", "ben", "cat", "dan"] {
        let client = peer(&mut cluster, 0, sub);
        let messages = ["a", "b", "c", "d"].map(|channel| {
            format!(r#"{{"type":"publish","channel":"{channel}","data":1,"requestId":"1"}}"#)
        });
        let mut bytes = frames(&messages.each_ref().map(String::as_str));
        bytes.extend(control_frame(Opcode::Close, b""));
        cluster.send(client, &bytes);
        let heard = cluster.messages(client);
        assert_eq!(heard.last().map(String::as_str), Some("close 1000"));
    }
}

#[test]
fn an_upgrade_behind_unread_answers_is_held_like_them() {
    let mut cluster = cluster(1);
    let client = cluster.accept(0);
    cluster.stall(client);
    let mut bytes = request("GET", "/healthz", "", "").repeat(150);
    bytes.extend_from_slice(UPGRADE.as_bytes());
    bytes.extend(frames(&[r#"{"type":"ping"}"#; 2_850]));
    cluster.send(client, &bytes);
    assert!(!cluster.shards[0].wants_input(client.id));
    cluster.shards[0].check_all_bounds();
    while !cluster.shards[0].wants_input(client.id) {
        cluster.read(client, 10_000);
    }
    cluster.read(client, 100_000);
    let heard = String::from_utf8_lossy(&cluster.take(client)).into_owned();
    assert_eq!(heard.matches("200 OK").count(), 150);
    assert_eq!(heard.matches(r#"{"type":"pong"}"#).count(), 2_850);
}
