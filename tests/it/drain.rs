//! The end of a server: goodbyes, closes one after another, nothing lost that was accepted.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::client::Client;
use crate::support::on_shards;
use crate::support::raw::Raw;
use crate::support::setup::{Setup, signer};

#[test]
fn closes_are_spread_over_the_window_and_the_exit_is_clean() {
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
        // A busy machine makes closes late, never early: how evenly they are spread is tested
        // with a clock of the test's own.
        assert!(closed_ms[CLIENTS - 1] >= WINDOW_MS - 200, "{closed_ms:?}");
        assert!(closed_ms[0] < closed_ms[CLIENTS - 1], "{closed_ms:?}");
    });
}

#[test]
fn until_its_close_a_connection_works() {
    on_shards(|shards| {
        let mut server = Setup::new(shards).set("shutdown.drain_ms", 4_000).start();
        let mut reader = server.quiet_peer("reader");
        reader.subscribe("a");
        let mut publishers: Vec<Client> = (0..6)
            .map(|number| server.quiet_peer(&format!("p{number}")))
            .collect();
        server.signal(Signal::INT);
        let mut acked = Vec::new();
        for (number, publisher) in publishers.iter_mut().enumerate() {
            assert!(publisher.next().contains("going_away"));
            let id = publisher.request(json!({"type": "publish", "channel": "a", "data": number}));
            match publisher.next_message() {
                Message::Text(text) => {
                    assert_eq!(
                        text.as_str(),
                        format!(r#"{{"type":"ack","requestId":"{id}"}}"#)
                    );
                    acked.push(number);
                }
                // On a busy machine its turn to be closed came first.
                other => assert!(other.is_close(), "{other:?}"),
            }
        }
        let received: Vec<Value> = reader
            .read_until_close(1001)
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .filter(|event: &Value| event["type"] == "message")
            .collect();
        // The reader may be closed before the last of them were accepted, but misses none before.
        let mut numbers: Vec<usize> = received
            .iter()
            .map(|event| event["data"].as_u64().unwrap() as usize)
            .collect();
        numbers.retain(|number| acked.contains(number));
        assert_eq!(numbers, acked[..numbers.len()]);
        drop(publishers);
        assert!(server.exit_status().success());
    });
}

#[test]
fn a_server_that_drains_serves_requests_and_nobody_new() {
    let setup = Setup::new(2).set("shutdown.drain_ms", 600_000);
    let setup = setup.set("shutdown.retry_after_ms", 1_500);
    let backend = signer("sk_id_api") + "api_secret_file = \"api.secret\"\n";
    let mut server = setup.app("app_c", &[backend]).start();
    // Of a load balancer, which keeps it between requests.
    let mut kept = server.raw();
    kept.write("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(kept.response().status, 200);
    let mut client = server.anonymous();
    server.signal(Signal::TERM);
    assert!(client.next().contains("going_away"));
    // Each shard hears of it in a turn of its own.
    crate::support::until("new WebSockets are refused", || {
        let refused = server.attempt("/v1?key=pk_live_a", "");
        refused.status == 503 && refused.header("retry-after") == Some("2")
    });
    kept.write(
        "POST /v1/channels/room/publish HTTP/1.1\r\nHost: a\r\n\
         Authorization: Bearer sk_live_declared_0123456789\r\nContent-Length: 10\r\n\r\n\
         {\"data\":1}",
    );
    let published = kept.response();
    assert_eq!(published.status, 200);
    assert_eq!(published.header("connection"), Some("close"));
    kept.ends();
    let health = server.attempt("/healthz", "");
    health.is_error(503, "internal_error");
    client.close(Some(1000));
    // Nobody is left, so the rest of the window is not waited for.
    assert!(server.exit_status().success());
}

#[test]
fn load_balancers_are_told_before_the_drain_begins() {
    on_shards(|shards| {
        let setup = Setup::new(shards).set("shutdown.delay_ms", 60_000);
        let mut server = setup.set("shutdown.drain_ms", 60_000).start();
        let admin = server.admin_address();
        let mut before = server.peer("before");
        before.subscribe_for_presence("room");
        server.signal(Signal::TERM);
        crate::support::until("the server is unhealthy", || {
            server.attempt("/healthz", "").status == 503
        });
        let mut raw = Raw::open(admin);
        raw.write("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(raw.response().status, 503);
        // Everything else goes on.
        let mut after = server.peer("after");
        assert_eq!(after.subscribe_for_presence("room"), ["before"]);
        assert_eq!(before.presence("room"), (vec!["after".into()], vec![]));
        after.publish("room", json!(1));
        assert!(before.next().contains(r#""data":1"#));
        drop(after);
        assert_eq!(before.presence("room"), (vec![], vec!["after".into()]));
        server.signal(Signal::INT);
        server.exit_status();
    });
}

#[test]
fn whom_the_drain_closes_has_not_left() {
    on_shards(|shards| {
        let mut server = Setup::new(shards).set("shutdown.drain_ms", 1_000).start();
        let mut clients: Vec<Client> = (0..8)
            .map(|number| server.peer(&format!("p{number}")))
            .collect();
        for client in &mut clients {
            client.subscribe_for_presence("room");
        }
        // All have seen all that came.
        let last = clients.len() - 1;
        clients[last].publish("room", json!("ready"));
        for client in &mut clients[..last] {
            while !client.next().contains("ready") {}
        }
        server.signal(Signal::TERM);
        for mut client in clients {
            let told = client.read_until_close(1001);
            assert!(told.iter().all(|it| !it.contains("left")), "{told:?}");
        }
        assert!(server.exit_status().success());
    });
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
        server.signal(Signal::INT);
        server.exit_status();
    });
}

#[test]
fn a_server_without_clients_stops_without_waiting() {
    on_shards(|shards| {
        for _ in 0..5 {
            let mut server = Setup::new(shards).set("shutdown.drain_ms", 60_000).start();
            server.signal(Signal::TERM);
            assert!(server.exit_status().success());
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
