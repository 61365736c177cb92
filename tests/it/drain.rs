//! The end of a server: goodbyes, closes one after another, nothing lost that was accepted.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::on_shards;
use crate::support::setup::Setup;

#[test]
fn closes_are_spread_evenly_over_the_window_and_the_exit_is_clean() {
    const CLIENTS: usize = 24;
    const WINDOW_MS: u64 = 2_400;
    on_shards(|shards| {
        let setup = Setup::new(shards).set("shutdown.drain_ms", WINDOW_MS);
        let mut server = setup.set("shutdown.retry_after_ms", 1_234).start();
        let clients: Vec<Client> = (0..CLIENTS).map(|_| server.anonymous()).collect();
        let start = Instant::now();
        server.signal(Signal::TERM);
        let mut closed_ms: Vec<u64> = std::thread::scope(|scope| {
            let ends: Vec<_> = clients
                .into_iter()
                .map(|mut client| {
                    scope.spawn(move || {
                        client.expect(r#"{"type":"going_away","retryAfterMs":1234}"#);
                        client.expect_close(1001);
                        start.elapsed().as_millis() as u64
                    })
                })
                .collect();
            ends.into_iter().map(|end| end.join().unwrap()).collect()
        });
        assert!(server.exit_status().success());
        closed_ms.sort_unstable();
        // However the kernel has dealt them out to shards, each shard spreads its own evenly:
        // by the middle of the window about half are closed.
        let half = closed_ms.iter().filter(|ms| **ms < WINDOW_MS / 2).count();
        let slack = CLIENTS / 6 + usize::from(shards);
        assert!(
            half.abs_diff(CLIENTS / 2) <= slack,
            "{half} by half-time: {closed_ms:?}"
        );
        let last = closed_ms[CLIENTS - 1];
        assert!(
            (WINDOW_MS - 200..WINDOW_MS + 3_000).contains(&last),
            "{closed_ms:?}"
        );
    });
}

#[test]
fn until_its_close_a_connection_works() {
    on_shards(|shards| {
        let mut server = Setup::new(shards).set("shutdown.drain_ms", 1_500).start();
        let mut reader = server.quiet_peer("reader");
        reader.subscribe("a");
        let mut publishers: Vec<Client> = (0..6)
            .map(|number| server.quiet_peer(&format!("p{number}")))
            .collect();
        server.signal(Signal::INT);
        let mut acked = Vec::new();
        for (number, publisher) in publishers.iter_mut().enumerate() {
            assert!(publisher.next().contains("going_away"));
            publisher.publish("a", json!(number));
            acked.push(number);
        }
        let received: Vec<Value> = reader
            .read_until_close(1001)
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .filter(|event: &Value| event["type"] == "message")
            .collect();
        // The reader may be closed before the last of them were accepted, but misses none before.
        let numbers: Vec<usize> = received
            .iter()
            .map(|event| event["data"].as_u64().unwrap() as usize)
            .collect();
        assert_eq!(numbers, acked[..numbers.len()]);
        drop(publishers);
        assert!(server.exit_status().success());
    });
}

#[test]
fn a_server_that_drains_takes_no_new_connections() {
    let mut server = Setup::new(2).set("shutdown.drain_ms", 30_000).start();
    let mut client = server.anonymous();
    server.signal(Signal::TERM);
    assert!(client.next().contains("going_away"));
    crate::support::until("connects are refused", || {
        std::net::TcpStream::connect(server.public).is_err()
    });
    client.close(Some(1000));
    let start = Instant::now();
    assert!(server.exit_status().success());
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "waited though nobody was left"
    );
}

#[test]
fn a_second_signal_exits_at_once() {
    on_shards(|shards| {
        let mut server = Setup::new(shards).set("shutdown.drain_ms", 60_000).start();
        let mut clients: Vec<Client> = (0..4).map(|_| server.anonymous()).collect();
        server.signal(Signal::TERM);
        for client in &mut clients {
            assert!(client.next().contains("going_away"));
        }
        let start = Instant::now();
        server.signal(Signal::INT);
        server.exit_status();
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
    });
}

#[test]
fn a_server_without_clients_stops_without_waiting() {
    on_shards(|shards| {
        for _ in 0..5 {
            let mut server = Setup::new(shards).set("shutdown.drain_ms", 60_000).start();
            let start = Instant::now();
            server.signal(Signal::TERM);
            assert!(server.exit_status().success());
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "{:?}",
                start.elapsed()
            );
        }
    });
}

#[test]
fn a_killed_server_can_be_started_again_at_once() {
    on_shards(|shards| {
        let mut server = Setup::new(shards).start();
        for _ in 0..3 {
            let mut clients: Vec<Client> = (0..4).map(|_| server.anonymous()).collect();
            clients.iter_mut().for_each(Client::expect_nothing_queued);
            server.kill_and_restart();
            drop(clients);
            server.anonymous().expect_nothing_queued();
        }
    });
}
