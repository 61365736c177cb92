//! How connections end by the clock or by their own doing: silence, expiry, too many messages.

use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::Message;

use crate::support::client::Client;
use crate::support::on_shards;
use crate::support::raw::{handshake, text_frame};
use crate::support::setup::{ALL_ACTIONS, Setup, key};
use crate::support::token::now_sec;

#[test]
fn a_silent_client_is_pinged_and_lives_as_long_as_it_answers() {
    on_shards(|shards| {
        let setup = Setup::new(shards).set("limits.ping_after_ms", 200);
        let server = setup.set("limits.drop_after_ms", 4_000).start();
        let mut client = server.quiet_peer("a");
        let start = Instant::now();
        let mut pings = 0;
        while start.elapsed() < Duration::from_millis(5_000) {
            // tungstenite answers each ping when it reads on.
            match client.next_message() {
                Message::Ping(_) => pings += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(
            pings >= 3,
            "{pings} pings in more than the limit of silence"
        );
        client.subscribe("a");
    });
}

#[test]
fn a_client_that_does_not_answer_pings_is_dropped_and_leaves() {
    on_shards(|shards| {
        let setup = Setup::new(shards).set("limits.ping_after_ms", 200);
        let server = setup.set("limits.drop_after_ms", 4_000).start();
        let mut watcher = server.peer("watcher");
        watcher.subscribe_for_presence("a");
        let mut dead = server.raw();
        dead.write(handshake("/v1?key=pk_live_a", ""));
        assert_eq!(dead.response().status, 101);
        let start = Instant::now();
        dead.write(text_frame(r#"{"type":"subscribe","channel":"a"}"#));
        assert_eq!(watcher.presence("a").0.len(), 1);
        assert_eq!(watcher.presence("a").1.len(), 1);
        assert!(
            start.elapsed() >= Duration::from_millis(2_000),
            "{:?}",
            start.elapsed()
        );
        let mut pings = 0;
        let opcodes = std::iter::from_fn(|| {
            dead.frame_or_end()
                .map(|(opcode, _)| opcode)
                .inspect(|it| pings += u32::from(*it == 9))
        });
        assert!(opcodes.count() >= 3, "welcome, snapshot and ping");
        assert_eq!(
            pings, 1,
            "one ping for one silence, and no close frame to one who is dead"
        );
    });
}

#[test]
fn the_ping_of_the_protocol_counts_as_a_sign_of_life() {
    let setup = Setup::new(1).set("limits.ping_after_ms", 60_000);
    let server = setup.set("limits.drop_after_ms", 61_000).start();
    let mut client = server.anonymous();
    client.send(r#"{"type":"ping","requestId":"1"}"#);
    client.expect(r#"{"type":"pong","requestId":"1"}"#);
    client.send(r#"{"type":"ping"}"#);
    client.expect(r#"{"type":"pong"}"#);
}

#[test]
fn a_token_ends_its_connection_shortly_before_it_expires() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut watcher = server.peer("watcher");
        watcher.subscribe_for_presence("a");
        let start = Instant::now();
        // At least four seconds from now.
        let exp = now_sec() + 5;
        let mut client = server.with_claims(json!({"sub": "short", "exp": exp}));
        assert_eq!(client.subscribe_for_presence("a"), ["watcher"]);
        assert_eq!(watcher.presence("a").0, ["short"]);
        client.expect_close(4002);
        let lasted = start.elapsed();
        assert!(lasted > Duration::from_millis(1_500), "{lasted:?}");
        assert!(now_sec() <= exp + 10, "{lasted:?}");
        assert_eq!(watcher.presence("a").1, ["short"]);
    });
}

#[test]
fn a_client_that_sends_too_fast_is_closed() {
    let keys = [key("pk_live_c", &["**"], ALL_ACTIONS)];
    let app = "app_c\nlimits.message_rate = 1\nlimits.message_burst = 3";
    let setup = Setup::new(2).app(app, &keys).set("limits.message_rate", 1);
    let server = setup.set("limits.message_burst", 20).start();
    // Everything counts, malformed messages too; the app's own limit goes before the server's.
    for (query, burst) in [("?key=pk_live_a", 20), ("?key=pk_live_c", 3)] {
        let mut client = server.connect(query);
        let messages = ["{\"type\":\"ping\"}", "no json", "{\"type\":\"ping\"}"];
        let frames = messages.map(text_frame).concat().repeat(30);
        client.send_bytes(&frames);
        let answers = client.read_until_close(4011).len();
        // A second or two may pass on a busy machine, and let as many more through.
        assert!(
            (burst..burst + 15).contains(&answers),
            "{answers} answers for {query}"
        );
    }
    let mut patient: Client = server.connect("?key=pk_live_c");
    patient.expect_nothing_queued();
}

#[test]
fn a_rate_of_zero_is_no_limit() {
    let server = Setup::new(1).start();
    let mut client = server.anonymous();
    client.send_bytes(&text_frame(r#"{"type":"ping"}"#).repeat(2_000));
    for _ in 0..2_000 {
        client.expect(r#"{"type":"pong"}"#);
    }
}
