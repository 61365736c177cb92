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

/// A limit that four of the messages below reach.
const QUEUE_BYTES: usize = 32 * 1_024;

/// A reader on shard 1 who does not read, and several who speak to its channel on shard 0.
fn reader_and_speakers() -> (Cluster, Client, [Client; 12]) {
    let mut cluster = Cluster::with(2, rights(app()), |config| {
        config.limits.outbound_queue_bytes = QUEUE_BYTES;
    });
    let reader = peer(&mut cluster, 1, "reader");
    cluster.message(reader, r#"{"type":"subscribe","channel":"hall"}"#);
    cluster.wait(20);
    let speakers = std::array::from_fn(|at| peer(&mut cluster, 0, &format!("speaker-{at}")));
    cluster.messages(reader);
    cluster.stall(reader);
    (cluster, reader, speakers)
}

fn publication() -> String {
    let word = "w".repeat(8 * 1_024 - 200);
    format!(r#"{{"type":"publish","channel":"hall","data":"{word}"}}"#)
}

/// What all of them have said is on its way when all shards are frozen.
fn pause(cluster: &mut Cluster, speakers: &[Client]) {
    for speaker in speakers {
        cluster.feed(*speaker, &Cluster::frame(&publication()));
    }
    for shard in 0..2 {
        cluster.input(shard, Input::Freeze);
    }
    cluster.run();
    for shard in 0..2 {
        cluster.input(shard, Input::Thaw);
    }
    cluster.run();
    cluster.shards[1].check_invariants();
}

#[test]
fn what_a_pause_has_queued_closes_nobody() {
    let (mut cluster, reader, speakers) = reader_and_speakers();
    pause(&mut cluster, &speakers);
    let waiting = cluster.shards[1].waiting_bytes(reader.id);
    assert!(waiting > 2 * QUEUE_BYTES, "{waiting}");
    // As much as ever may wait beside it.
    for speaker in &speakers[..3] {
        cluster.message(*speaker, &publication());
    }
    cluster.read(reader, waiting / 2);
    cluster.shards[1].check_invariants();
    cluster.unstall(reader);
    assert_eq!(cluster.messages(reader).len(), speakers.len() + 3);
    cluster.input(1, Input::EndOfTurn);
    assert_eq!(cluster.shards[1].delivery_bytes_max(reader.id), QUEUE_BYTES);
    assert!(cluster.is_open(reader));
}

#[test]
fn who_does_not_read_gains_no_other_limit_by_a_pause() {
    let (mut cluster, reader, speakers) = reader_and_speakers();
    for speaker in &speakers[..3] {
        cluster.message(*speaker, &publication());
    }
    for _ in 0..3 {
        pause(&mut cluster, &speakers[..2]);
    }
    let max = cluster.shards[1].delivery_bytes_max(reader.id);
    assert!((QUEUE_BYTES..3 * QUEUE_BYTES).contains(&max), "{max}");
    assert!(cluster.shards[1].is_in_session(reader.id));
    for speaker in &speakers[..2] {
        cluster.message(*speaker, &publication());
    }
    assert!(
        !cluster.shards[1].is_in_session(reader.id),
        "it may have more"
    );
}
