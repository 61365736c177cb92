//! Connections that have not shown a good credential: their number, and their time.

use super::*;
use crate::shard::input::HandshakeStep;

/// One shard that takes three of them.
fn three_strangers() -> Cluster {
    Cluster::with(1, rights(app()), |config| {
        config.limits.unauthenticated_connections_max = 3;
    })
}

fn make_room(cluster: &mut Cluster) -> bool {
    cluster.input(0, Input::MakeRoom);
    cluster.run();
    cluster.shards[0].accepts()
}

fn step(cluster: &mut Cluster, client: Client, step: HandshakeStep) {
    let connection = client.id;
    cluster.input(0, Input::Handshake { connection, step });
}

const TAKEN: HandshakeStep = HandshakeStep::Taken { answered: true };

#[test]
fn the_oldest_idle_one_gives_way() {
    let mut cluster = three_strangers();
    let clients = [(); 3].map(|()| {
        let client = cluster.accept(0);
        cluster.wait(400);
        client
    });
    // A head that dribbles is as idle as one that does not come.
    cluster.feed(clients[0], b"GET /healthz HT");
    let next = cluster.accept(0);
    cluster.wait(400);
    assert!(!cluster.is_open(clients[0]));
    assert!(cluster.is_open(next));
    let next = cluster.accept(0);
    cluster.run();
    assert!(cluster.shards[0].accepts());
    assert!(!cluster.is_open(clients[1]));
    assert!(cluster.is_open(clients[2]) && cluster.is_open(next));
    assert_eq!(
        cluster.shards[0].metrics().counters.unauthenticated_closed,
        2
    );
}

#[test]
fn nobody_gives_way_within_a_round_trip_or_while_the_server_is_awaited() {
    let mut cluster = three_strangers();
    let clients = [(); 4].map(|()| cluster.accept(0));
    cluster.wait(999);
    assert!(!make_room(&mut cluster));
    for client in clients {
        step(&mut cluster, client, HandshakeStep::Due);
    }
    cluster.wait(60_000);
    assert!(!make_room(&mut cluster));
    step(&mut cluster, clients[1], TAKEN);
    cluster.wait(999);
    assert!(!make_room(&mut cluster));
    cluster.wait(1);
    assert!(make_room(&mut cluster));
    assert_eq!(
        clients.map(|client| cluster.is_open(client)),
        [true, false, true, true]
    );
}

#[test]
fn whoever_has_shown_a_good_credential_does_not_count() {
    let mut cluster = three_strangers();
    let member = peer(&mut cluster, 0, "ann");
    let backend = cluster.accept(0);
    let stranger = cluster.accept(0);
    let good = "GET /v1/usage HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk_live_full\r\n\r\n";
    let bad = "GET /v1/usage HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk_live_none\r\n\r\n";
    cluster.send(backend, good.as_bytes());
    cluster.send(stranger, bad.as_bytes());
    assert_eq!(cluster.shards[0].unauthenticated_count(), 1);
    cluster.wait(10_000);
    for _ in 0..3 {
        make_room(&mut cluster);
    }
    assert!(!cluster.is_open(stranger) && cluster.is_open(backend) && cluster.is_open(member));
    assert_eq!(cluster.shards[0].unauthenticated_count(), 0);
}

#[test]
fn the_time_for_the_head_stands_still_while_the_server_is_awaited() {
    let mut cluster = cluster(1);
    let client = cluster.accept(0);
    step(&mut cluster, client, HandshakeStep::Due);
    cluster.wait(60_000);
    assert!(cluster.is_open(client));
    step(&mut cluster, client, TAKEN);
    cluster.wait(4_999);
    assert!(cluster.is_open(client));
    step(&mut cluster, client, HandshakeStep::Due);
    cluster.wait(60_000);
    step(&mut cluster, client, TAKEN);
    cluster.wait(4_999);
    assert!(cluster.is_open(client));
    cluster.wait(1);
    assert!(!cluster.is_open(client));
}

#[test]
fn a_handshake_that_dribbles_gains_no_time() {
    let mut cluster = cluster(1);
    let client = cluster.accept(0);
    for _ in 0..49 {
        cluster.wait(100);
        step(&mut cluster, client, HandshakeStep::Due);
        cluster.wait(1_000);
        let answered = false;
        step(&mut cluster, client, HandshakeStep::Taken { answered });
        assert!(cluster.is_open(client));
    }
    cluster.wait(100);
    assert!(!cluster.is_open(client));
}

#[test]
fn nobody_is_judged_before_what_it_may_have_sent_has_been_read() {
    let mut cluster = Cluster::with(1, rights(app()), |config| {
        (config.limits.ping_after_ms, config.limits.drop_after_ms) = (1_000, 2_000);
    });
    let member = peer(&mut cluster, 0, "ann");
    let stranger = cluster.accept(0);
    let read_until_ms = cluster.now.mono_ms + 999;
    cluster.shards[0].judge_until(read_until_ms);
    cluster.wait(1_000);
    // A ping is no judgement.
    assert_eq!(cluster.take(member), b"\x89\0");
    for _ in 0..10 {
        cluster.wait(1_000);
        assert!(cluster.is_open(member) && cluster.is_open(stranger));
    }
    cluster.send(stranger, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(cluster.responses(stranger)[0].status, 200);
    let other = cluster.accept(0);
    cluster.shards[0].judge_until(cluster.now.mono_ms + 60_000);
    cluster.wait(20);
    assert!(!cluster.is_open(member), "its pong is not there");
    assert!(cluster.is_open(other));
    cluster.wait(5_000);
    assert!(!cluster.is_open(other));
}
