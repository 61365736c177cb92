//! A connection that does not read is closed, and nobody else notices.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::on_shards;
use crate::support::raw::{Raw, handshake, text_frame};
use crate::support::server::Server;
use crate::support::setup::Setup;

/// Subscribes to channels and then never reads again. Returns its peer id, too.
fn deaf_subscriber(server: &Server, channels: &[&str]) -> (String, Raw) {
    let mut raw = server.raw();
    raw.write(handshake("/v1?key=pk_live_a", ""));
    assert_eq!(raw.response().status, 101);
    let welcome: Value = serde_json::from_slice(&raw.frame().1).unwrap();
    let peer_id = welcome["peerId"].as_str().unwrap().to_owned();
    for channel in channels {
        raw.write(text_frame(&format!(
            r#"{{"type":"subscribe","channel":"{channel}","requestId":"{channel}"}}"#
        )));
        let ack = format!(r#"{{"type":"ack","requestId":"{channel}"}}"#);
        while raw.frame().1 != ack.as_bytes() {}
    }
    (peer_id, raw)
}

/// Reads what there is for a connection that was closed, and returns how many messages that were.
fn read_to_the_end(raw: &mut Raw) -> usize {
    let mut messages = 0;
    loop {
        match raw.frame() {
            (8, payload) => {
                assert_eq!(&payload[..2], &1013_u16.to_be_bytes());
                return messages;
            }
            (_, payload) => messages += usize::from(payload.starts_with(br#"{"type":"message""#)),
        }
    }
}

/// Publishes far more than the kernel and the limit hold; the reader gets each before the next.
fn publish_to(publisher: &mut Client, reader: &mut Client) {
    let data = "x".repeat(60_000);
    for number in 0..400 {
        publisher.publish("a", json!([number, data]));
        let text = reader.next();
        let expected = format!(r#""data":[{number},"x"#);
        assert!(text.contains(&expected), "{}", &text[..100]);
    }
}

#[test]
fn who_does_not_read_is_closed_and_the_others_get_everything() {
    on_shards(|shards| {
        let server = Setup::new(shards)
            .set("limits.outbound_queue_bytes", 200_000)
            .start();
        let before = server.memory_bytes();
        let mut watcher = server.peer("watcher");
        watcher.subscribe_for_presence("watched");
        let mut deaf: BTreeMap<String, Raw> = (0..4)
            .map(|_| deaf_subscriber(&server, &["watched", "a"]))
            .collect();
        let mut publisher = server.quiet_peer("pub");
        let mut reader = server.quiet_peer("reader");
        reader.subscribe("a");
        std::thread::scope(|scope| {
            scope.spawn(|| publish_to(&mut publisher, &mut reader));
            let mut here = 0;
            while !deaf.is_empty() {
                let (joined, left) = watcher.presence("watched");
                here += joined.len();
                // Whoever reads now still finds out why.
                for peer_id in left {
                    let messages = read_to_the_end(&mut deaf.remove(&peer_id).unwrap());
                    // Neither the server nor its kernel keeps much for who reads nothing.
                    assert!(messages < 16, "{messages} messages were kept");
                }
            }
            assert_eq!(here, 4);
        });
        watcher.expect_nothing_queued();
        let grown = server.memory_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes more memory");
    });
}

#[test]
fn a_burst_within_the_limit_is_delivered_to_a_late_reader() {
    let server = Setup::new(2).start();
    let (_, mut deaf) = deaf_subscriber(&server, &["a"]);
    let mut publisher = server.quiet_peer("pub");
    let data = "x".repeat(10_000);
    for _ in 0..90 {
        publisher.publish("a", json!(data));
    }
    let mut messages = 0;
    while messages < 90 {
        let (opcode, payload) = deaf.frame();
        // On a busy machine it has been silent for so long that it is asked for a sign of life.
        assert!([1, 9].contains(&opcode), "{opcode}");
        messages += u32::from(payload.starts_with(br#"{"type":"message""#));
    }
}

#[test]
fn answers_are_no_deliveries_and_only_hold_the_asker_back() {
    let server = Setup::new(1)
        .set("limits.outbound_queue_bytes", 71_680)
        .start();
    let mut client = server.anonymous();
    let request = text_frame(&format!(
        r#"{{"type":"ping","requestId":"{}"}}"#,
        "x".repeat(100)
    ));
    let expected = format!(r#"{{"type":"pong","requestId":"{}"}}"#, "x".repeat(100));
    const REQUESTS: usize = 100_000;
    let mut stream = client.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::io::Write::write_all(&mut stream, &request.repeat(REQUESTS)).unwrap();
        });
        // Others on the shard are served while the asker is held back.
        let mut other = server.anonymous();
        other.expect_nothing_queued();
        for _ in 0..REQUESTS {
            client.expect(&expected);
        }
    });
}
