//! What a shard counts, and what it says is to be measured: exactly, input by input.

use super::*;
use crate::metrics::Stage;
use crate::metrics::counters::Counters;
use crate::metrics::label::{Dropped, EndedBy, HandshakeRefused, Label, RestOutcome, Route};
use crate::proto::ws::close::CloseCode;
use crate::shard::effect::{Span, Urgency};
use crate::shard::mesh_message::PublishedAt;

/// The counts of all shards together.
fn sum(cluster: &mut Cluster, count: impl Fn(&Counters) -> u64) -> u64 {
    let shards = cluster.shards.iter_mut();
    shards.map(|shard| count(&shard.metrics().counters)).sum()
}

fn on_any_number_of_shards(test: impl Fn(Cluster)) {
    for shard_count in [1, 2, 3] {
        test(cluster(shard_count));
    }
}

#[test]
fn messages_deliveries_and_replies_are_counted_one_by_one() {
    on_any_number_of_shards(|mut cluster| {
        let last = cluster.shards.len() - 1;
        let ann = peer(&mut cluster, 0, "ann");
        let others = [
            peer(&mut cluster, last, "ben"),
            peer(&mut cluster, 0, "cid"),
        ];
        for client in [ann, others[0], others[1]] {
            cluster.message(
                client,
                r#"{"type":"subscribe","channel":"hall","requestId":"1"}"#,
            );
        }
        cluster.wait(20);
        for _ in 0..5 {
            cluster.message(
                ann,
                r#"{"type":"publish","channel":"hall","data":1,"requestId":"2"}"#,
            );
        }
        cluster.message(ann, r#"{"type":"publish","channel":"nobody","data":1}"#);
        cluster.message(ann, r#"{"type":"send","to":"ben","data":1}"#);
        cluster.message(ann, r#"{"type":"send","to":"nobody","data":1}"#);
        cluster.message(ann, "nonsense");
        let mut queued = 0;
        for client in [ann, others[0], others[1]] {
            queued += cluster.messages(client).len() as u64;
        }
        assert_eq!(
            sum(&mut cluster, |it| it.messages_received),
            3 + 5 + 1 + 2 + 1
        );
        assert_eq!(sum(&mut cluster, |it| it.deliveries), 5 * 2 + 1);
        // Acks, one `peer_not_found`, one `malformed_message`; each welcome was taken before.
        assert_eq!(sum(&mut cluster, |it| it.replies) - 3, 3 + 5 + 2);
        // Snapshots for those who come, and changes for those who are there.
        assert_eq!(sum(&mut cluster, |it| it.presence_sent), 3 + (1 + 2));
        assert_eq!(sum(&mut cluster, Counters::messages_sent) - 3, queued);
        assert_eq!(sum(&mut cluster, |it| it.dropped.sum()), 0);
    });
}

#[test]
fn connections_are_counted_by_how_they_end() {
    let mut cluster = Cluster::with(1, rights(app()), |config| {
        config.limits.message_rate = BucketLimits {
            rate_per_sec: 1,
            burst: 1,
        };
    });
    let clients: Vec<Client> = (0..4).map(|_| cluster.connect(0, KEY).0).collect();
    let [polite, own_code, gone, loud] = clients[..] else {
        unreachable!()
    };
    let mut close = Vec::new();
    append_masked_frame(&mut close, Opcode::Close, [0; 4], &1_001u16.to_be_bytes());
    cluster.send(polite, &close);
    close.clear();
    append_masked_frame(&mut close, Opcode::Close, [0; 4], &4_999u16.to_be_bytes());
    cluster.send(own_code, &close);
    cluster.end(gone);
    cluster.message(loud, r#"{"type":"ping"}"#);
    cluster.message(loud, r#"{"type":"ping"}"#);
    cluster.request(0, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    for slot in 1..=5 {
        let connection = ConnectionId {
            slot,
            generation: 0,
        };
        cluster.input(0, Input::Closed { connection });
        // Told twice, it has ended once.
        cluster.input(0, Input::Closed { connection });
    }
    let counters = &cluster.shards[0].metrics().counters;
    assert_eq!((counters.connections_opened, counters.handshakes), (5, 4));
    for ended in [
        EndedBy::client(1_001),
        EndedBy::client(4_999),
        EndedBy::ABNORMAL,
        EndedBy::server(4_011),
        EndedBy::HTTP,
    ] {
        assert_eq!(counters.connections_closed.get(ended), 1, "{ended:?}");
    }
    assert_eq!(counters.connections_closed.sum(), 5);
    assert_eq!(counters.dropped.get(Dropped::MessageRate), 1);
}

#[test]
fn refused_handshakes_are_counted_by_cause() {
    let mut cluster = cluster(1);
    let upgrade = |query: &str| {
        format!(
            "GET /v1?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    for (request, cause) in [
        (upgrade("key=pk_live_other"), HandshakeRefused::UnknownKey),
        (
            upgrade("key=pk_live_test&token=x"),
            HandshakeRefused::NotOneCredential,
        ),
        (upgrade("token=x"), HandshakeRefused::TokenInvalid),
        (
            upgrade(&token("a", 0, "{}")),
            HandshakeRefused::TokenExpired,
        ),
        (
            "GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            HandshakeRefused::BadUpgrade,
        ),
    ] {
        cluster.request(0, request.as_bytes());
        let counters = &cluster.shards[0].metrics().counters;
        assert_eq!(counters.handshakes_refused.get(cause), 1, "{cause:?}");
    }
    let counters = &cluster.shards[0].metrics().counters;
    assert_eq!(counters.handshakes_refused.sum(), 5);
    assert_eq!(counters.handshakes, 0);
    assert_eq!(counters.rest_requests.sum(), 0, "handshakes are not REST");
}

#[test]
fn rest_requests_are_counted_by_route_and_status() {
    on_any_number_of_shards(|mut cluster| {
        let request = |method: &str, path: &str, more: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n")
        };
        let key = "Authorization: Bearer sk_live_full\r\n";
        for (request, route, status) in [
            (request("GET", "/healthz", ""), Route::Health, 200),
            (request("GET", "/v1/usage", key), Route::ReadUsage, 200),
            (request("GET", "/v1/usage", ""), Route::ReadUsage, 401),
            (request("PUT", "/v1/usage", key), Route::ReadUsage, 405),
            (
                request("GET", "/v1/channels/a/peers", key),
                Route::ListPeers,
                200,
            ),
            (request("DELETE", "/v1/peers/a", key), Route::KickPeer, 200),
            (request("GET", "/nowhere", ""), Route::Other, 404),
            ("nonsense\r\n\r\n".to_owned(), Route::Other, 400),
        ] {
            let outcome = RestOutcome { route, status };
            assert_eq!(cluster.request(0, request.as_bytes()).status, status);
            let counters = &cluster.shards[0].metrics().counters;
            assert_eq!(counters.rest_requests.get(outcome), 1, "{outcome:?}");
        }
        let slow = cluster.accept(0);
        cluster.feed(slow, b"GET /healthz HT");
        cluster.wait(5_000);
        let counters = &cluster.shards[0].metrics().counters;
        let timed_out = RestOutcome {
            route: Route::Other,
            status: 408,
        };
        assert_eq!(counters.rest_requests.get(timed_out), 1);
        assert_eq!(counters.rest_requests.sum(), 9);
    });
}

#[test]
fn messages_over_the_quota_are_counted_as_dropped() {
    let mut cluster = Cluster::new(
        1,
        rights(App {
            messages_max: Some(2),
            ..app()
        }),
    );
    let (ann, _) = cluster.connect(0, KEY);
    for _ in 0..5 {
        cluster.message(ann, r#"{"type":"publish","channel":"a","data":1}"#);
    }
    let counters = &cluster.shards[0].metrics().counters;
    assert_eq!(counters.dropped.get(Dropped::MessageQuota), 3);
    assert_eq!(counters.messages_received, 5);
}

#[test]
fn a_slow_consumer_is_counted_once() {
    let mut cluster = Cluster::with(1, rights(app()), |config| {
        config.limits.outbound_queue_bytes = 100;
    });
    let (ann, _) = cluster.connect(0, KEY);
    let ben = peer(&mut cluster, 0, "ben");
    cluster.message(ben, r#"{"type":"subscribe","channel":"a"}"#);
    let long = format!(
        r#"{{"type":"send","to":"ben","data":"{}"}}"#,
        "x".repeat(900)
    );
    cluster.feed(ann, &frames(&[&long, &long]));
    cluster.run();
    let counters = &cluster.shards[0].metrics().counters;
    assert_eq!(counters.dropped.get(Dropped::SlowConsumer), 1);
    assert_eq!(counters.deliveries, 0);
}

/// Publications that a shard wants measured, and the line that each is written in.
type Measured = Vec<(PublishedAt, Urgency)>;

/// What a shard of two says is to be measured, having been told these moments.
fn publish_at(times: [u64; 2]) -> (Measured, Measured) {
    let mut cluster = cluster(2);
    let ann = peer(&mut cluster, 0, "ann");
    let ben = peer(&mut cluster, 1, "ben");
    for client in [ann, ben] {
        cluster.message(client, r#"{"type":"subscribe","channel":"hall"}"#);
    }
    // Twice: each is a member too, and gets the other's.
    let mut all = Vec::new();
    for (client, other) in [(ann, 1), (ben, 0)] {
        let mut bytes = frames(&[r#"{"type":"publish","channel":"hall","data":1}"#]);
        let received = Input::Received {
            connection: client.id,
            bytes: &mut bytes,
        };
        cluster.shards[client.shard].stamp(times[0]);
        cluster.shards[client.shard].handle(received, cluster.now);
        for _ in 0..2 {
            for (from, to) in [(client.shard, other), (other, client.shard)] {
                cluster.shards[to].stamp(times[1]);
                for message in std::mem::take(&mut cluster.effects(from).mesh[to]) {
                    let from = crate::ids::ShardId(from as u16);
                    let input = Input::Mesh { from, message };
                    cluster.shards[to].handle(input, cluster.now);
                }
            }
        }
        all.push(std::mem::take(&mut cluster.effects(other).published));
        assert!(cluster.effects(client.shard).published.is_empty());
    }
    let from_ben = all.remove(1);
    (all.remove(0), from_ben)
}

#[test]
fn a_publication_brings_its_times_along() {
    let (from_ann, from_ben) = publish_at([1_000, 5_000]);
    // One of the two publishers lives where the channel does not.
    let mut ordered = Vec::new();
    for published in [from_ann, from_ben] {
        assert_eq!(published.len(), 1);
        let (times, urgency) = published[0];
        assert_eq!((times.read_ns, urgency), (1_000, Urgency::Live));
        ordered.push(times.ordered_ns);
    }
    ordered.sort_unstable();
    assert_eq!(ordered, [1_000, 5_000]);
}

#[test]
fn handshakes_and_requests_are_measured_from_their_beginning() {
    let mut cluster = cluster(1);
    let client = cluster.accept(0);
    let feed = |cluster: &mut Cluster, at_ns: u64, bytes: &str| {
        let mut bytes = bytes.as_bytes().to_vec();
        let received = Input::Received {
            connection: client.id,
            bytes: &mut bytes,
        };
        cluster.shards[0].stamp(at_ns);
        cluster.shards[0].handle(received, cluster.now);
        std::mem::take(&mut cluster.effects(0).ended)
    };
    assert_eq!(feed(&mut cluster, 100, "GET /healthz HTTP/1.1\r\n"), []);
    let rest = Span {
        stage: Stage::Rest,
        began_ns: 200,
    };
    assert_eq!(feed(&mut cluster, 200, "Host: x\r\n\r\n"), [rest]);
    // The same connection is upgraded later: its idle time is not the handshake's.
    assert_eq!(
        feed(&mut cluster, 9_000, "GET /v1?key=pk_live_test HTTP/1.1\r\n"),
        []
    );
    let handshake = Span {
        stage: Stage::Handshake,
        began_ns: 9_000,
    };
    let rest_of_head = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(feed(&mut cluster, 9_500, rest_of_head), [handshake]);
}

/// What the shards of a cluster of two say is written, when all that one client sends is read at
/// 1,000, and what the other shard hears, and sends back, is handled at 5,000.
fn writes_of(cluster: &mut Cluster, client: Client, text: &str) -> Vec<Span> {
    let mut bytes = frames(&[text]);
    let received = Input::Received {
        connection: client.id,
        bytes: &mut bytes,
    };
    cluster.shards[client.shard].stamp(1_000);
    cluster.shards[client.shard].handle(received, cluster.now);
    for _ in 0..4 {
        for (from, to) in [(0, 1), (1, 0)] {
            cluster.shards[to].stamp(5_000);
            for message in std::mem::take(&mut cluster.effects(from).mesh[to]) {
                let from = crate::ids::ShardId(from as u16);
                let input = Input::Mesh { from, message };
                cluster.shards[to].handle(input, cluster.now);
            }
        }
        for shard in &mut cluster.shards {
            shard.handle(Input::EndOfTurn, cluster.now);
        }
    }
    let shards = cluster.shards.iter_mut();
    shards
        .flat_map(|it| std::mem::take(&mut it.effects_mut().writes))
        .collect()
}

#[test]
fn answers_and_direct_messages_are_measured_from_their_reading_on_whatever_shard() {
    let mut cluster = cluster(2);
    let ann = peer(&mut cluster, 0, "ann");
    peer(&mut cluster, 1, "ben");
    let span = |stage| Span {
        stage,
        began_ns: 1_000,
    };
    let (reply, direct) = (span(Stage::Reply), span(Stage::Direct));
    for channel in ["a", "b", "c", "d", "e", "f"] {
        for (kind, data) in [
            ("subscribe", ""),
            ("publish", r#","data":1"#),
            ("unsubscribe", ""),
        ] {
            let text =
                format!(r#"{{"type":"{kind}","channel":"{channel}"{data},"requestId":"1"}}"#);
            let mut writes = writes_of(&mut cluster, ann, &text);
            writes.retain(|it| it.stage == Stage::Reply);
            assert_eq!(writes, [reply], "{text}");
        }
    }
    for (text, expected) in [
        (r#"{"type":"ping"}"#, vec![reply]),
        (r#"{"type":"nonsense"}"#, vec![reply]),
        (r#"{"type":"send","to":"ben","data":1}"#, vec![direct]),
        (
            r#"{"type":"send","to":"ben","data":1,"requestId":"1"}"#,
            vec![reply, direct],
        ),
        (r#"{"type":"send","to":"nobody","data":1}"#, vec![reply]),
    ] {
        assert_eq!(writes_of(&mut cluster, ann, text), expected, "{text}");
    }
}

#[test]
fn every_code_that_the_server_closes_with_has_its_counter_before_it_occurs() {
    let known = EndedBy::known();
    for code in CloseCode::ALL {
        assert!(known.contains(&EndedBy::server(code.get())), "{code}");
    }
}
