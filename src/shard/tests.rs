//! The wire protocol's sentences, one by one, on shards in memory.

use std::sync::Arc;

use crate::domain::rights::{App, Rights};
use crate::domain::token_bucket::BucketLimits;
use crate::ids::ConnectionId;
use crate::proto::actions::Actions;
use crate::proto::claims::{MintRequest, Secret, mint};
use crate::proto::pattern::Pattern;
use crate::proto::wire::error::ErrorCode;
use crate::proto::ws::frame::{Opcode, append_masked_frame};
use crate::shard::input::Input;
use crate::shard::state::Shard;
use crate::shard::testing::{Client, Cluster, app, peer, rights, token, token_without_presence};

const KEY: &str = "key=pk_live_test";

fn cluster(shard_count: u16) -> Cluster {
    Cluster::new(shard_count, rights(app()))
}

/// One message from a client brings it, and nobody else, exactly these.
#[track_caller]
fn check(cluster: &mut Cluster, client: Client, message: &str, answers: &[&str]) {
    cluster.message(client, message);
    assert_eq!(cluster.messages(client), answers, "{message}");
}

/// As [`check`], for a publishable key's connection and the code of one error.
#[track_caller]
fn check_error(cluster: &mut Cluster, client: Client, message: &str, code: &str) {
    cluster.message(client, message);
    let answers = cluster.messages(client);
    let begin = format!(r#"{{"type":"error","requestId":"1","code":"{code}","message":""#);
    assert!(
        answers.len() == 1 && answers[0].starts_with(&begin),
        "{message}: {answers:?}"
    );
}

fn frames(messages: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        append_masked_frame(&mut bytes, Opcode::Text, [1, 2, 3, 4], message.as_bytes());
    }
    bytes
}

#[test]
fn welcome_has_its_fields_in_their_order() {
    let mut cluster = cluster(2);
    let (_, welcome) = cluster.connect(0, &token("ann", 60, "{}"));
    assert_eq!(
        welcome,
        concat!(
            r#"{"type":"welcome","peerId":"ann","expiresAt":1700000060,"#,
            r#""serverTime":1700000000,"maxMessageSize":65536}"#
        )
    );
    let (_, welcome) = cluster.connect(1, KEY);
    assert!(welcome.contains(r#""expiresAt":null,"serverTime":1700000000"#));
}

#[test]
fn errors_come_in_their_order() {
    let mut cluster = cluster(1);
    let narrow = mint(
        &MintRequest {
            key_id: "sk_id_narrow",
            sub: "ann",
            issued_at_unix: 1_700_000_000,
            expires_at_unix: 1_700_000_060,
            channels: None,
            permissions: None,
            metadata: None,
            peer_metadata: None,
        },
        &Secret::new(b"sk_secret_narrow"),
    );
    let (ann, _) = cluster.connect(0, &format!("token={}", narrow.unwrap()));
    for (fields, code) in [
        (r#""type":7"#, "malformed_message"),
        (r#""type":"nod","channel":7"#, "unknown_type"),
        (r#""type":"publish","channel":"""#, "invalid_channel"),
        (r#""type":"send","to":"""#, "invalid_peer_id"),
        (
            r#""type":"publish","channel":"_METERED/x""#,
            "channel_reserved",
        ),
        (r#""type":"publish","channel":"hall""#, "missing_data"),
        (
            r#""type":"publish","channel":"hall","data":1"#,
            "action_not_permitted",
        ),
        (
            r#""type":"subscribe","channel":"hall""#,
            "channel_not_authorized",
        ),
    ] {
        let message = format!(r#"{{"requestId":"1",{fields}}}"#);
        check_error(&mut cluster, ann, &message, code);
    }
    let unknown = r#"{"type":"unsubscribe","channel":"hall","requestId":"1"}"#;
    check(
        &mut cluster,
        ann,
        unknown,
        &[r#"{"type":"ack","requestId":"1"}"#],
    );
}

#[test]
fn a_connection_has_so_many_channels_and_no_more() {
    for shards in [1, 2] {
        let mut cluster = Cluster::with(shards, rights(app()), |config| {
            config.limits.channels_per_connection = 2;
        });
        let (client, _) = cluster.connect(0, KEY);
        let join =
            |name: &str| format!(r#"{{"type":"subscribe","channel":"{name}","requestId":"1"}}"#);
        // All at once: joins under way count too, and a repeated one counts once.
        let all = ["a", "a", "b", "c"].map(join);
        cluster.send(client, &frames(&all.each_ref().map(String::as_str)));
        // The repeated one waits for the snapshot before it, and those behind it wait too.
        cluster.wait(20);
        cluster.wait(20);
        let answers = cluster.messages(client);
        let errors: Vec<_> = answers.iter().filter(|it| it.contains("error")).collect();
        assert!(matches!(&errors[..], [one] if one.contains("channel_limit_exceeded")));
        assert_eq!(answers.len(), 2 * 3 + 1, "{answers:?}");
    }
}

#[test]
fn a_peer_is_announced_on_every_shard_before_it_is_acked() {
    let mut cluster = cluster(2);
    let ann = peer(&mut cluster, 0, "ann");
    let ben = peer(&mut cluster, 1, "ben");
    let join = r#"{"type":"subscribe","channel":"room","requestId":"1"}"#;
    cluster.message(ann, join);
    cluster.wait(20);
    cluster.take(ann);
    cluster.feed(ben, &frames(&[join]));
    let mut announced = false;
    for _ in 0..20 {
        for shard in [1, 0] {
            cluster.turn(shard);
            announced |= cluster.has_received(ann);
            assert!(announced || !cluster.has_received(ben), "acked first");
        }
    }
    cluster.wait(20);
    assert_eq!(
        cluster.messages(ann),
        [concat!(
            r#"{"type":"presence","channel":"room","joined":[{"peerId":"ben","#,
            r#""metadata":{"n":"ben"}}],"left":[]}"#
        )]
    );
    assert_eq!(
        cluster.messages(ben),
        [
            r#"{"type":"ack","requestId":"1"}"#,
            concat!(
                r#"{"type":"presence","channel":"room","joined":[{"peerId":"ann","#,
                r#""metadata":{"n":"ann"}}],"left":[]}"#
            )
        ]
    );
}

#[test]
fn a_peer_with_two_tabs_joins_once_and_leaves_with_the_last() {
    let mut cluster = cluster(2);
    let join = r#"{"type":"subscribe","channel":"room"}"#;
    let [ann, ben, tab] =
        [(0, "ann"), (0, "ben"), (1, "ben")].map(|(shard, sub)| peer(&mut cluster, shard, sub));
    for client in [ann, ben, tab] {
        cluster.message(client, join);
    }
    let joined = cluster.messages(ann).join("");
    assert_eq!(
        joined.matches("ben").count(),
        2,
        "once, with metadata: {joined}"
    );
    cluster.message(ben, r#"{"type":"unsubscribe","channel":"room"}"#);
    assert!(!cluster.has_received(ann));
    cluster.end(tab);
    cluster.run();
    assert_eq!(
        cluster.messages(ann),
        [concat!(
            r#"{"type":"presence","channel":"room","joined":[],"left":[{"peerId":"ben","#,
            r#""metadata":{"n":"ben"}}]}"#
        )]
    );
}

#[test]
fn a_publication_reaches_everybody_but_the_publishing_connection() {
    for shards in [1, 2] {
        let mut cluster = cluster(shards);
        let far = usize::from(shards) - 1;
        let [ann, tab, ben] = [(0, "ann"), (far, "ann"), (far, "ben")]
            .map(|(shard, sub)| peer(&mut cluster, shard, sub));
        for client in [ann, tab] {
            cluster.message(client, r#"{"type":"subscribe","channel":"room"}"#);
        }
        let with = r#"{"type":"subscribe","channel":"room","includeSenderMetadata":true}"#;
        cluster.message(ben, with);
        for client in [ann, tab, ben] {
            cluster.take(client);
        }
        let publish = r#"{"type":"publish","channel":"room","data": [1, 2] ,"requestId":"1"}"#;
        check(
            &mut cluster,
            ann,
            publish,
            &[r#"{"type":"ack","requestId":"1"}"#],
        );
        let plain = r#"{"type":"message","channel":"room","from":"ann","data":[1, 2]"#;
        assert_eq!(cluster.messages(tab), [format!("{plain}}}")]);
        assert_eq!(
            cluster.messages(ben),
            [format!(r#"{plain},"fromMetadata":{{"n":"ann"}}}}"#)]
        );
    }
}

#[test]
fn a_direct_message_reaches_every_connection_but_the_sending_one() {
    let mut cluster = cluster(2);
    let [ann, ben, tab] =
        [(0, "ann"), (0, "ben"), (1, "ben")].map(|(shard, sub)| peer(&mut cluster, shard, sub));
    let to_ben = r#"{"type":"send","to":"ben","data":1,"requestId":"1"}"#;
    check(
        &mut cluster,
        ann,
        to_ben,
        &[r#"{"type":"ack","requestId":"1"}"#],
    );
    let direct = [r#"{"type":"direct","from":"ann","data":1,"fromMetadata":{"n":"ann"}}"#];
    assert_eq!(cluster.messages(ben), direct);
    assert_eq!(cluster.messages(tab), direct);
    check(
        &mut cluster,
        ben,
        to_ben,
        &[r#"{"type":"ack","requestId":"1"}"#],
    );
    assert_eq!(cluster.messages(tab).len(), 1);
    let to_self = r#"{"type":"send","to":"ann","data":1,"requestId":"1"}"#;
    check_error(&mut cluster, ann, to_self, "peer_not_found");
}

#[test]
fn the_token_bucket_closes_with_4011_and_a_used_up_token_with_4002() {
    let mut limited = app();
    limited.message_limits = Some(BucketLimits {
        rate_per_sec: 1,
        burst: 2,
    });
    let mut cluster = Cluster::new(1, rights(limited));
    let (client, _) = cluster.connect(0, KEY);
    cluster.send(client, &frames(&[r#"{"type":"ping"}"#; 4]));
    let pong = r#"{"type":"pong"}"#;
    assert_eq!(cluster.messages(client), [pong, pong, "close 4011"]);

    let (client, _) = cluster.connect(0, &token("ann", 10, "{}"));
    cluster.wait(9_749);
    assert!(!cluster.has_received(client));
    cluster.wait(1);
    assert_eq!(cluster.messages(client), ["close 4002"]);
}

#[test]
fn who_is_silent_is_pinged_after_25_s_each_time_and_dropped_after_75() {
    let mut cluster = cluster(1);
    let (client, _) = cluster.connect(0, KEY);
    for _ in 0..3 {
        cluster.wait(24_999);
        assert!(!cluster.has_received(client));
        cluster.wait(1);
        assert_eq!(cluster.take(client), [0x89, 0]);
        let mut pong = Vec::new();
        append_masked_frame(&mut pong, Opcode::Pong, [0; 4], b"");
        cluster.send(client, &pong);
    }
    cluster.wait(25_000);
    cluster.wait(49_999);
    assert!(cluster.is_open(client));
    cluster.wait(1);
    assert!(!cluster.is_open(client));
}

#[test]
fn a_consumer_that_takes_nothing_is_closed_with_1013() {
    let mut cluster = Cluster::with(1, rights(app()), |config| {
        config.limits.outbound_queue_bytes = 1_000;
    });
    let [ann, ben] = ["ann", "ben"].map(|sub| peer(&mut cluster, 0, sub));
    cluster.message(ben, r#"{"type":"subscribe","channel":"room"}"#);
    cluster.take(ben);
    // Within one turn nothing is written: what the channel's buffer cannot keep for all of its
    // members is queued to each, eight times the limit at most.
    let data = "x".repeat(1_000);
    let publish = format!(r#"{{"type":"publish","channel":"room","data":"{data}"}}"#);
    cluster.feed(ann, &frames(&[publish.as_str(); 150]));
    cluster.run();
    assert_eq!(cluster.messages(ben), ["close 1013"]);
    assert!(cluster.is_open(ann));
}

#[test]
fn a_drain_says_goodbye_and_spreads_the_closes() {
    let mut cluster = cluster(1);
    let clients: [_; 4] = std::array::from_fn(|_| cluster.connect(0, KEY).0);
    cluster.input(
        0,
        Input::Drain {
            window_ms: 4_000,
            retry_after_ms: 700,
        },
    );
    cluster.run();
    for client in clients {
        let goodbye = r#"{"type":"going_away","retryAfterMs":700}"#;
        assert_eq!(cluster.messages(client), [goodbye]);
    }
    for closed in 1..=4 {
        cluster.wait(999);
        assert!(clients.iter().all(|client| !cluster.has_received(*client)));
        cluster.wait(1);
        let gone = clients.map(|client| cluster.messages(client));
        let gone: Vec<_> = gone.iter().flatten().collect();
        assert_eq!(gone, ["close 1001"], "after {closed} s");
    }
}

#[test]
fn whom_the_drain_closes_has_not_left_for_the_others() {
    let mut cluster = cluster(2);
    let [watcher, first, second] = ["watcher", "first", "second"].map(|sub| {
        let (client, _) = cluster.connect(0, &token(sub, 3_600, "{}"));
        let subscribe = r#"{"type":"subscribe","channel":"room","presence":true}"#;
        cluster.message(client, subscribe);
        cluster.wait(20);
        cluster.take(client);
        client
    });
    for shard in 0..2 {
        let drain = Input::Drain {
            window_ms: 3_000,
            retry_after_ms: 700,
        };
        cluster.input(shard, drain);
    }
    cluster.run();
    // The places of a shard with three connections: the first third of the window is over.
    let closed = |cluster: &mut Cluster, clients: &[Client]| {
        let (mut closed, mut told) = (Vec::new(), Vec::new());
        for (at, client) in clients.iter().enumerate() {
            for message in cluster.messages(*client) {
                match message.as_str() {
                    "close 1001" => closed.push(at),
                    _ => told.push(message),
                }
            }
        }
        (closed, told)
    };
    let clients = [watcher, first, second];
    // Who joined after them, and the goodbye.
    closed(&mut cluster, &clients);
    cluster.wait(1_000);
    let (gone, told) = closed(&mut cluster, &clients);
    assert_eq!((gone.len(), told), (1, Vec::<String>::new()));
    // Who leaves of itself is told.
    let rest: Vec<_> = (0..3).filter(|at| *at != gone[0]).collect();
    cluster.message(
        clients[rest[0]],
        r#"{"type":"unsubscribe","channel":"room"}"#,
    );
    let (_, told) = closed(&mut cluster, &[clients[rest[1]]]);
    let name = ["watcher", "first", "second"][rest[0]];
    assert_eq!(told.len(), 1, "{told:?}");
    let left = format!(r#""left":[{{"peerId":"{name}""#);
    assert!(told[0].contains(&left), "{told:?}");
}

#[test]
fn who_connects_while_the_drain_begins_hears_of_it_too() {
    let mut cluster = cluster(2);
    let drain = Input::Drain {
        window_ms: 1_000,
        retry_after_ms: 700,
    };
    // A peer that the other shard owns: its registration is under way.
    let upgrade = |sub| {
        format!(
            "GET /v1?{} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            token(sub, 60, "{}")
        )
    };
    let clients = ["ann", "ben", "cat", "dan"].map(|sub| {
        let client = cluster.accept(0);
        cluster.feed(client, upgrade(sub).as_bytes());
        client
    });
    cluster.input(0, drain);
    cluster.run();
    for client in clients {
        let bytes = cluster.take(client);
        let text = String::from_utf8_lossy(&bytes);
        let (welcome, goodbye) = (text.find("welcome"), text.find("going_away"));
        assert!(welcome.is_some() && welcome < goodbye, "{text}");
    }
}

#[test]
fn input_is_held_while_answers_wait_and_goes_on_afterwards() {
    let mut cluster = cluster(1);
    let (client, _) = cluster.connect(0, KEY);
    let id: ConnectionId = client.id;
    let ping = format!(r#"{{"type":"ping","requestId":"{}"}}"#, "x".repeat(120));
    // 1,000 answers of 145 bytes are more than 64 KiB.
    cluster.feed(client, &frames(&vec![ping.as_str(); 1_000]));
    assert!(!cluster.shards[0].wants_input(id));
    let waiting = cluster.shards[0].outbox(id).unwrap().reply_bytes();
    assert!(waiting < 66 * 1_024, "{waiting} bytes wait");
    cluster.run();
    assert!(cluster.shards[0].wants_input(id));
    assert_eq!(cluster.messages(client).len(), 1_000);
}

#[test]
fn a_close_is_answered_with_its_code_and_broken_bytes_with_theirs() {
    let mut cluster = cluster(1);
    for (opcode, payload, expected) in [
        (Opcode::Close, &b"\x0f\xa0bye"[..], "close 4000"),
        (Opcode::Close, b"", "close 1000"),
        (Opcode::Close, b"\x03", "close 1002"),
        (Opcode::Binary, b"x", "close 1003"),
        (Opcode::Text, b"\xff", "close 1007"),
    ] {
        let (client, _) = cluster.connect(0, KEY);
        let mut bytes = Vec::new();
        append_masked_frame(&mut bytes, opcode, [1, 2, 3, 4], payload);
        cluster.send(client, &bytes);
        assert_eq!(cluster.messages(client), [expected]);
        assert!(!cluster.is_open(client));
    }
}

#[test]
fn a_suspended_app_and_a_revoked_key_end_live_connections() {
    let (suspended, revoked) = (
        rights(App {
            suspended: true,
            ..app()
        }),
        Rights::new(2),
    );
    for (rights, expected) in [(suspended, "close 4012"), (revoked, "close 4001")] {
        let mut cluster = cluster(1);
        let (client, _) = cluster.connect(0, KEY);
        cluster.input(0, Input::Rights(Arc::new(rights)));
        cluster.run();
        assert_eq!(cluster.messages(client), [expected]);
    }
}

mod bounds;
mod counts;
mod ends;
mod eviction;
mod feed;
mod freeze;
mod handler;
mod history;
mod looks;
mod lost;
mod memory;
mod presence;
mod recorded;
mod refresh;
mod stores;
mod storms;
mod strangers;
