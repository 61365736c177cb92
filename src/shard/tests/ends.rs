//! How connections end: what came before the end is used and answered, and time counts against a
//! peer only while it is awaited.

use super::*;
use crate::shard::rest::tests::{request, with_key};

const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8];

/// Reads so many bytes a step, with so long between the steps, until nothing more comes. Returns
/// what came, and whether the server ended the connection.
fn read_slowly(cluster: &mut Cluster, client: Client, bytes: usize, pause_ms: u64) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        cluster.read(client, bytes);
        let more = cluster.take(client);
        if more.is_empty() {
            return read;
        }
        read.extend(more);
        cluster.wait(pause_ms);
    }
}

/// A stalled member of "room" to whom 14 messages of 60,000 bytes are queued, connected so long
/// before.
fn with_a_queue(cluster: &mut Cluster, credential: &str, after_ms: u64) -> Client {
    let (reader, _) = cluster.connect(0, credential);
    cluster.message(reader, r#"{"type":"subscribe","channel":"room"}"#);
    cluster.take(reader);
    cluster.stall(reader);
    cluster.wait(after_ms);
    let writer = peer(cluster, 0, "writer");
    let data = "x".repeat(60_000);
    let publish = format!(r#"{{"type":"publish","channel":"room","data":"{data}"}}"#);
    for _ in 0..14 {
        cluster.message(writer, &publish);
    }
    reader
}

/// The types of messages, and closes.
fn words(bytes: &[u8]) -> Vec<String> {
    let words = crate::shard::testing::messages(bytes).into_iter();
    words
        .map(|text| match text.strip_prefix("close ") {
            Some(_) => text,
            None => text.split('"').nth(3).unwrap().to_owned(),
        })
        .collect()
}

#[track_caller]
fn check_all_came(bytes: &[u8], close: &str) {
    let mut words = words(bytes);
    words.retain(|word| word != "presence");
    assert_eq!(words.len(), 15, "{words:?}");
    assert!(words[..14].iter().all(|word| word == "message"));
    assert_eq!(words[14], close);
}

#[test]
fn a_close_is_answered_behind_the_queue_however_old_the_connection_is() {
    for after_ms in [0, 2_000, 4_000, 4_800, 6_000] {
        let mut cluster = cluster(1);
        let reader = with_a_queue(&mut cluster, KEY, after_ms);
        cluster.send(reader, &CLOSE);
        let read = read_slowly(&mut cluster, reader, 60_000, 300);
        check_all_came(&read, "close 1000");
        assert!(!cluster.is_open(reader));
    }
}

#[test]
fn final_codes_arrive_behind_the_queue() {
    let suspended = || {
        let rights = rights(App {
            suspended: true,
            ..app()
        });
        Input::Rights(Arc::new(rights))
    };
    // 10 KB/s: a minute and a half, many times every fixed wait.
    let mut cluster = cluster(1);
    let reader = with_a_queue(&mut cluster, KEY, 4_000);
    cluster.input(0, suspended());
    let read = read_slowly(&mut cluster, reader, 10_000, 1_000);
    check_all_came(&read, "close 4012");

    let mut cluster = super::cluster(1);
    let reader = with_a_queue(&mut cluster, &token("ann", 20, "{}"), 4_000);
    cluster.wait(20_000);
    let read = read_slowly(&mut cluster, reader, 10_000, 1_000);
    check_all_came(&read, "close 4002");

    let mut cluster = super::cluster(2);
    let reader = with_a_queue(&mut cluster, &token("ann", 3_600, "{}"), 4_000);
    let kick = with_key("DELETE", "/v1/peers/ann", "");
    assert_eq!(cluster.request(1, &kick).status, 200);
    let read = read_slowly(&mut cluster, reader, 10_000, 1_000);
    check_all_came(&read, "close 4020");
    // The peer has 2 s for its own close frame from then on.
    assert!(cluster.is_open(reader));
    cluster.wait(2_100);
    assert!(!cluster.is_open(reader));
}

#[test]
fn who_reads_nothing_or_next_to_nothing_is_not_waited_for() {
    for trickle in [0, 1, 1_000] {
        let mut cluster = cluster(1);
        let reader = with_a_queue(&mut cluster, KEY, 0);
        cluster.send(reader, &CLOSE);
        let mut waited_ms = 0;
        while cluster.is_open(reader) {
            assert!(waited_ms < 11_000, "{trickle} bytes a second");
            cluster.read(reader, trickle);
            cluster.wait(1_000);
            waited_ms += 1_000;
        }
        assert!(waited_ms >= 10_000, "{waited_ms} ms");
    }
}

/// Members of "room" whose list is a megabyte.
fn with_a_megabyte_of_peers(cluster: &mut Cluster) {
    let metadata = format!(r#"{{"x":"{}"}}"#, "x".repeat(3_900));
    for number in 0..250 {
        let credential = token(&format!("peer-{number}"), 3_600, &metadata);
        let (member, _) = cluster.connect(0, &credential);
        cluster.message(
            member,
            r#"{"type":"subscribe","channel":"room","requestId":"1"}"#,
        );
    }
}

#[test]
fn a_slow_reader_gets_all_of_a_rest_answer() {
    for (version, header) in [
        ("1.1", "Connection: close\r\n"),
        ("1.0", ""),
        ("1.1", ""), // with a short keep-alive
    ] {
        let mut cluster = Cluster::with(1, rights(app()), |config| {
            config.limits.keep_alive_ms = 5_000;
        });
        with_a_megabyte_of_peers(&mut cluster);
        let client = cluster.accept(0);
        cluster.stall(client);
        let request = format!(
            "GET /v1/channels/room/peers HTTP/{version}\r\nHost: x\r\n\
             Authorization: Bearer sk_live_full\r\n{header}\r\n"
        );
        cluster.send(client, request.as_bytes());
        let read = read_slowly(&mut cluster, client, 20_000, 1_000);
        let text = String::from_utf8(read).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head.split_once("Content-Length: ").unwrap().1;
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        assert!(length > 900_000 && body.len() == length, "{}", body.len());
    }
}

#[test]
fn an_idle_connection_is_idle_from_the_end_of_its_answer() {
    let mut cluster = Cluster::with(1, rights(app()), |config| {
        config.limits.keep_alive_ms = 5_000;
    });
    let client = cluster.accept(0);
    cluster.stall(client);
    cluster.send(client, &request("GET", "/healthz", "", ""));
    cluster.wait(4_000);
    cluster.read(client, 1_000);
    cluster.wait(4_900);
    assert!(cluster.is_open(client));
    cluster.wait(200);
    assert!(!cluster.is_open(client));
}

#[test]
fn unread_answers_end_after_ten_seconds() {
    let mut cluster = cluster(1);
    let client = cluster.accept(0);
    cluster.stall(client);
    cluster.send(client, &request("GET", "/healthz", "", ""));
    cluster.wait(9_900);
    assert!(cluster.is_open(client));
    cluster.wait(200);
    assert!(!cluster.is_open(client));
}

/// A burst of joins and publications, and the end of the stream right behind it, with a close
/// frame before it or not.
#[test]
fn what_came_before_the_end_of_the_stream_is_handled() {
    for (shards, closes) in [(1, true), (2, true), (2, false), (4, true), (4, false)] {
        let mut cluster = cluster(shards);
        let reader = peer(&mut cluster, 0, "reader");
        for channel in 0..4 {
            let join = format!(r#"{{"type":"subscribe","channel":"ch{channel}"}}"#);
            cluster.message(reader, &join);
        }
        cluster.take(reader);
        let (client, _) = cluster.connect(usize::from(shards) - 1, KEY);
        let joins = (0..16).map(|at| format!(r#"{{"type":"subscribe","channel":"z{at}"}}"#));
        let publishes = (0..50).map(|at| {
            let channel = at % 4;
            format!(r#"{{"type":"publish","channel":"ch{channel}","data":1,"requestId":"{at}"}}"#)
        });
        let all: Vec<String> = joins.chain(publishes).collect();
        let mut bytes = frames(&all.iter().map(String::as_str).collect::<Vec<_>>());
        if closes {
            bytes.extend_from_slice(&CLOSE);
        }
        cluster.feed(client, &bytes);
        cluster.end(client);
        cluster.run();
        assert!(!cluster.is_open(client));
        let heard = words(&cluster.take(reader));
        assert_eq!(heard.iter().filter(|it| *it == "message").count(), 50);
        let heard = words(&cluster.take(client));
        assert_eq!(heard.iter().filter(|it| *it == "ack").count(), 50);
        if closes {
            assert_eq!(heard.last().map(String::as_str), Some("close 1000"));
        }
    }
}

#[test]
fn pipelined_requests_before_the_end_of_the_stream_are_answered() {
    for shards in [1, 2, 4] {
        let mut cluster = cluster(shards);
        let client = cluster.accept(0);
        let requests = (0..16).flat_map(|at| {
            let path = format!("/v1/channels/ch{at}/publish");
            with_key("POST", &path, r#"{"data":1}"#)
        });
        cluster.feed(client, &requests.collect::<Vec<u8>>());
        cluster.end(client);
        cluster.run();
        let responses = cluster.responses(client);
        assert_eq!(responses.len(), 16);
        assert!(responses.iter().all(|it| it.status == 200));
        assert!(!cluster.is_open(client));
    }
}

#[test]
fn a_connection_that_ends_while_it_registers_was_there() {
    let mut cluster = cluster(4);
    for shard in 0..4 {
        let client = cluster.accept(shard);
        let request = format!(
            "GET /v1?{} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            token("ann", 60, "{}")
        );
        cluster.feed(client, request.as_bytes());
        cluster.end(client);
        cluster.run();
        assert!(!cluster.is_open(client));
        let heard = String::from_utf8_lossy(&cluster.take(client)).into_owned();
        assert!(heard.contains("welcome"), "{heard}");
        cluster.input(
            shard,
            Input::Closed {
                connection: client.id,
            },
        );
        cluster.run();
    }
    let shards: Vec<_> = cluster.shards.iter().collect();
    crate::shard::state::Shard::check_quiet(&shards);
}

#[test]
fn a_close_is_answered_in_the_middle_of_a_message_too() {
    let mut cluster = cluster(1);
    let bob = peer(&mut cluster, 0, "bob");
    cluster.send(bob, &[0x01, 0x81, 0, 0, 0, 0, b'{']);
    cluster.request(0, &with_key("DELETE", "/v1/peers/bob", ""));
    // What remains of the message is read, so that the close behind it is found.
    cluster.send(bob, &[0x80, 0x81, 0, 0, 0, 0, b'}']);
    assert!(cluster.is_open(bob));
    cluster.send(bob, &CLOSE);
    assert!(!cluster.is_open(bob));
}

#[test]
fn a_ping_must_be_written_and_waited_for_in_full_before_a_drop() {
    // Nobody looked for longer than the drop takes: a ping is due, not a drop.
    let mut cluster = cluster(1);
    let (client, _) = cluster.connect(0, KEY);
    cluster.wait(100_000);
    assert_eq!(cluster.take(client), [0x89, 0]);
    cluster.wait(49_900);
    assert!(cluster.is_open(client));
    cluster.wait(200);
    assert!(!cluster.is_open(client));

    // The ping stands behind a frame that the socket has no room for.
    let reader = with_a_queue(&mut cluster, &token("ann", 3_600, "{}"), 0);
    cluster.wait(30_000);
    cluster.wait(30_000);
    assert!(cluster.is_open(reader));
    cluster.read(reader, 2_000_000);
    cluster.wait(49_900);
    assert!(cluster.is_open(reader));
    cluster.wait(200);
    assert!(!cluster.is_open(reader));
}

#[test]
fn who_has_no_room_for_a_ping_is_dropped_too() {
    let mut cluster = cluster(1);
    let reader = with_a_queue(&mut cluster, KEY, 0);
    cluster.wait(30_000);
    cluster.wait(44_900);
    assert!(cluster.is_open(reader));
    cluster.wait(200);
    assert!(!cluster.is_open(reader));
}

#[test]
fn no_peer_is_measured_by_time_in_which_the_server_was_late() {
    let mut cluster = cluster(1);
    let (client, _) = cluster.connect(0, KEY);
    let half = cluster.accept(0);
    cluster.send(half, b"GET /healthz HT");
    let expiring = cluster.connect(0, &token("ann", 60, "{}")).0;
    cluster.wait(4_000);
    let now = cluster.now;
    cluster.shards[0].forgive(200_000, now);
    cluster.wait(200_900);
    assert!(cluster.is_open(half) && !cluster.has_received(client));
    // A token expires when it does.
    assert_eq!(cluster.messages(expiring), ["close 4002"]);
    cluster.wait(200);
    assert_eq!(cluster.responses(half)[0].status, 408);
    cluster.wait(25_000);
    assert_eq!(cluster.take(client), [0x89, 0]);
}

#[test]
fn no_time_counts_while_the_server_holds_input_back() {
    let mut cluster = cluster(2);
    let over_limit = |over_limit| Input::Link {
        to: crate::ids::ShardId(1),
        over_limit,
        backlog_bytes: 0,
    };
    let clients: Vec<Client> = (0..8).map(|_| cluster.connect(0, KEY).0).collect();
    cluster.input(0, over_limit(true));
    for (at, client) in clients.iter().enumerate() {
        let publish = format!(r#"{{"type":"publish","channel":"ch{at}","data":1}}"#);
        cluster.feed(*client, &frames(&[&publish]));
    }
    let held = clients
        .iter()
        .filter(|it| !cluster.shards[0].wants_input(it.id));
    let held: Vec<Client> = held.copied().collect();
    assert!(!held.is_empty() && held.len() < 8);
    cluster.wait(100_000);
    for client in &held {
        assert!(!cluster.has_received(*client), "pinged");
    }
    cluster.input(0, over_limit(false));
    cluster.run();
    cluster.wait(24_900);
    assert!(held.iter().all(|client| !cluster.has_received(*client)));
    cluster.wait(200);
    assert!(held.iter().all(|client| cluster.take(*client) == [0x89, 0]));
}

#[test]
fn a_rate_that_was_kept_while_nobody_read_is_no_rate_that_is_exceeded() {
    let pings = |count: usize| frames(&vec![r#"{"type":"ping"}"#; count]);
    // The server stood still for five seconds: 100 a second came meanwhile.
    let mut cluster = Cluster::with(2, rights(app()), |config| {
        config.limits.message_rate = BucketLimits {
            rate_per_sec: 100,
            burst: 200,
        };
    });
    let (client, _) = cluster.connect(0, KEY);
    cluster.send(client, &pings(200));
    cluster.wait(5_000);
    let now = cluster.now;
    cluster.shards[0].forgive(5_000, now);
    cluster.send(client, &pings(500));
    assert!(cluster.is_open(client));
    cluster.take(client);
    cluster.send(client, &pings(1));
    assert_eq!(cluster.messages(client), ["close 4011"]);

    // Five seconds in which a publisher was held back for others.
    let over_limit = |over_limit| Input::Link {
        to: crate::ids::ShardId(1),
        over_limit,
        backlog_bytes: 0,
    };
    let clients: Vec<Client> = (0..8).map(|_| cluster.connect(0, KEY).0).collect();
    cluster.input(0, over_limit(true));
    for (at, client) in clients.iter().enumerate() {
        let publish = format!(r#"{{"type":"publish","channel":"ch{at}","data":1}}"#);
        cluster.feed(*client, &frames(&[&publish]));
    }
    let is_held = |cluster: &Cluster, id| !cluster.shards[0].wants_input(id);
    let held: Vec<Client> = clients
        .into_iter()
        .filter(|it| is_held(&cluster, it.id))
        .collect();
    assert!(!held.is_empty());
    for client in &held {
        cluster.feed(*client, &pings(650));
    }
    cluster.wait(5_000);
    cluster.input(0, over_limit(false));
    cluster.run();
    for client in &held {
        assert!(cluster.is_open(*client));
        cluster.take(*client);
        cluster.send(*client, &pings(200));
        let messages = cluster.messages(*client);
        assert_eq!(messages.last().map(String::as_str), Some("close 4011"));
    }
}
