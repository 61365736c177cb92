//! Shards that are frozen.

use super::*;

const PING: &str = r#"{"type":"ping","requestId":"7"}"#;

#[test]
fn a_frozen_shard_serves_nobody_and_goes_on_where_it_was() {
    let mut cluster = Cluster::new(2, rights(app()));
    let ann = peer(&mut cluster, 0, "ann");
    cluster.messages(ann);
    for shard in 0..2 {
        cluster.input(shard, Input::Freeze);
    }
    let shard = &cluster.shards[0];
    assert!(shard.is_frozen() && !shard.accepts() && !shard.wants_input(ann.id));
    assert_eq!(shard.next_deadline_ms(), None);
    // What had been read already waits.
    let mut bytes = Cluster::frame(PING);
    let (connection, bytes) = (ann.id, &mut bytes[..]);
    cluster.input(0, Input::Received { connection, bytes });
    cluster.run();
    cluster.input(0, Input::Time);
    assert!(cluster.messages(ann).is_empty());
    assert!(cluster.shards.iter().all(Shard::is_quiet));
    for shard in 0..2 {
        cluster.input(shard, Input::Thaw);
    }
    assert!(cluster.shards[0].next_deadline_ms().is_some());
    cluster.run();
    assert_eq!(cluster.messages(ann).len(), 1);
    cluster.message(ann, PING);
    assert_eq!(cluster.messages(ann).len(), 1);
}

#[test]
fn what_one_shard_has_asked_another_keeps_it_from_being_quiet() {
    let mut cluster = Cluster::new(2, rights(app()));
    let ann = peer(&mut cluster, 0, "ann");
    let sum = |cluster: &Cluster| {
        let counts = cluster.shards.iter().map(Shard::mesh_counts);
        counts.fold((0, 0), |sum, it| (sum.0 + it.sent, sum.1 + it.received))
    };
    let (sent, received) = sum(&cluster);
    assert_eq!(sent, received);
    // Some of these names are the other shard's.
    for number in 0..16 {
        let subscribe = format!(r#"{{"type":"subscribe","channel":"room-{number}"}}"#);
        let mut bytes = Cluster::frame(&subscribe);
        let (connection, bytes) = (ann.id, &mut bytes[..]);
        cluster.input(0, Input::Received { connection, bytes });
    }
    cluster.input(0, Input::Freeze);
    cluster.input(1, Input::Freeze);
    assert!(!cluster.shards[0].is_quiet());
    assert!(sum(&cluster).0 > sent && sum(&cluster).1 == received);
    cluster.run();
    assert!(cluster.shards.iter().all(Shard::is_quiet));
    assert_eq!(sum(&cluster).0, sum(&cluster).1);
}
