//! The process runs out of memory: who is let in, and who has to go.

use super::*;
use crate::metrics::label::Dropped;
use crate::shard::input::MemoryLevel;

fn tell(cluster: &mut Cluster, level: MemoryLevel, excess_bytes: usize) {
    cluster.input(
        0,
        Input::Memory {
            level,
            excess_bytes,
        },
    );
}

/// Publishes into a channel without anybody reading: each member of it holds all of it.
fn publish_unread(cluster: &mut Cluster, by: Client, channel: &str, count: usize) {
    let data = "x".repeat(10_000);
    let text = format!(r#"{{"type":"publish","channel":"{channel}","data":"{data}"}}"#);
    for _ in 0..count {
        cluster.feed(by, &frames(&[&text]));
        cluster.input(0, Input::EndOfTurn);
    }
}

#[test]
fn the_worst_consumers_go_first_and_the_healthy_never() {
    // More than the publisher may have waiting before it is held back.
    let mut cluster = Cluster::with(1, rights(app()), |config| {
        config.limits.outbound_queue_bytes = 4 << 20;
    });
    let publisher = peer(&mut cluster, 0, "publisher");
    let [worst, bad, healthy] = ["worst", "bad", "healthy"].map(|id| peer(&mut cluster, 0, id));
    for (client, channels) in [(worst, &["a", "b"][..]), (bad, &["b"]), (healthy, &["c"])] {
        for channel in channels {
            let subscribe = format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#);
            cluster.message(client, &subscribe);
        }
    }
    publish_unread(&mut cluster, publisher, "a", 20);
    publish_unread(&mut cluster, publisher, "b", 20);
    publish_unread(&mut cluster, publisher, "c", 4);
    let held = |cluster: &Cluster, client: Client| cluster.shards[0].waiting_bytes(client.id);
    assert!(held(&cluster, worst) > 400_000, "{}", held(&cluster, worst));
    assert!(held(&cluster, bad) > 200_000 && held(&cluster, healthy) > 40_000);

    tell(&mut cluster, MemoryLevel::Near, 0);
    let dropped = |cluster: &mut Cluster| {
        let counters = &cluster.shards[0].metrics().counters;
        counters.dropped.get(Dropped::Memory)
    };
    assert_eq!(dropped(&mut cluster), 0);
    tell(&mut cluster, MemoryLevel::AtCeiling, 300_000);
    assert_eq!(dropped(&mut cluster), 1);
    assert!(held(&cluster, worst) < 1_000 && held(&cluster, bad) > 200_000);
    tell(&mut cluster, MemoryLevel::AtCeiling, usize::MAX);
    assert_eq!(dropped(&mut cluster), 2);
    assert!(held(&cluster, bad) < 1_000 && held(&cluster, healthy) > 40_000);

    cluster.run();
    let end = [b"\x88".as_slice(), &[25], &1_013_u16.to_be_bytes()].concat();
    for client in [worst, bad] {
        let received = cluster.take(client);
        assert!(
            received
                .windows(4)
                .any(|it| it[0] == end[0] && it[2..] == end[2..])
        );
    }
    assert_eq!(
        cluster.messages(healthy).len(),
        1 + 4,
        "an ack and all of it"
    );
    check(
        &mut cluster,
        publisher,
        r#"{"type":"ping"}"#,
        &[r#"{"type":"pong"}"#],
    );
}

#[test]
fn nobody_new_is_let_in_while_it_is_tight() {
    let mut cluster = cluster(1);
    let member = peer(&mut cluster, 0, "ann");
    let upgrade = "GET /v1?key=pk_live_test HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tell(&mut cluster, MemoryLevel::Near, 0);
    let refused = cluster.request(0, upgrade.as_bytes());
    assert_eq!(refused.status, 503);
    check(
        &mut cluster,
        member,
        r#"{"type":"ping"}"#,
        &[r#"{"type":"pong"}"#],
    );
    tell(&mut cluster, MemoryLevel::Normal, 0);
    cluster.connect(0, KEY);
}

#[test]
fn a_quiet_shard_keeps_no_buffers_and_goes_on() {
    let mut cluster = cluster(1);
    let ann = peer(&mut cluster, 0, "ann");
    assert!(cluster.shards[0].unused_bytes() > 0, "welcome has left");
    cluster.input(0, Input::Quiet);
    assert_eq!(cluster.shards[0].unused_bytes(), 0);
    let pong = r#"{"type":"pong","requestId":"p"}"#;
    check(&mut cluster, ann, &pong.replace("pong", "ping"), &[pong]);
}
