//! Histories that take more memory than they may: what gives way, in which order, and what is
//! still true of what is left.

use std::mem;

use serde_json::{Value, json};

use super::*;
use crate::domain::history::{HistoryAck, HistoryRule, HistoryRules, HistoryStore};
use crate::proto::records::{self, Record};

const DAY_SEC: u32 = 86_400;

/// Channels `m/…` keep 100 messages in memory, and channels `d/…` on disk too.
fn with_memory(memory_bytes: usize) -> Cluster {
    let memory = HistoryRule {
        messages: 100,
        ttl_sec: DAY_SEC,
        ..HistoryRule::new("m/**")
    };
    let disk = HistoryRule {
        store: HistoryStore::Disk,
        pattern: HistoryRule::new("d/**").pattern,
        ..memory.clone()
    };
    let mut app = app();
    app.history = Arc::new(HistoryRules::new(&[memory, disk]).unwrap());
    let mut cluster = Cluster::with(1, rights(app), |config| {
        config.limits.history.memory_bytes = memory_bytes;
        // Nobody is pinged.
        config.limits.ping_after_ms = u64::MAX / 2;
        config.limits.drop_after_ms = u64::MAX / 2;
    });
    let now = cluster.now;
    cluster.shards[0].keep_on_disk(&[], true, HistoryAck::Ordered, now);
    cluster
}

/// Publishes, and returns the ack.
#[track_caller]
fn publish(
    cluster: &mut Cluster,
    by: Client,
    channel: &str,
    data: &str,
    id: Option<&str>,
) -> Value {
    let mut request = json!({
        "type": "publish", "channel": channel, "data": data, "requestId": "p", "position": true,
    });
    if let Some(id) = id {
        request["id"] = json!(id);
    }
    cluster.message(by, &request.to_string());
    let mut messages = cluster.messages(by);
    assert_eq!(messages.len(), 1, "{messages:?}");
    let ack: Value = serde_json::from_str(&messages.remove(0)).unwrap();
    assert_eq!(ack["type"], "ack", "{ack}");
    ack
}

/// Publications, ids and numberings that have given way.
fn evicted(cluster: &mut Cluster) -> [u64; 3] {
    let counters = &cluster.shards[0].metrics().counters;
    [
        counters.history_evicted,
        counters.history_ids_evicted,
        counters.history_numberings_evicted,
    ]
}

fn memory(cluster: &Cluster) -> usize {
    cluster.shards[0].histories().0
}

#[test]
fn a_flood_of_ids_in_a_channel_takes_from_itself() {
    const BYTES: usize = 256 * 1_024;
    let mut cluster = with_memory(BYTES);
    let ann = peer(&mut cluster, 0, "ann");
    for other in 0..50 {
        publish(
            &mut cluster,
            ann,
            &format!("m/{other}"),
            "kept",
            Some("m-1"),
        );
    }
    let id = |number: u32| format!("{number:064}");
    let mut gone = 0;
    for number in 0..4_000 {
        publish(&mut cluster, ann, "m/flood", "1", Some(&id(number)));
        assert!(memory(&cluster) <= BYTES, "{} bytes", memory(&cluster));
        let [publications, ids, numberings] = evicted(&mut cluster);
        assert_eq!((publications, numberings), (0, 0), "of {number}");
        assert!(ids - gone <= 300, "{} at once", ids - gone);
        gone = ids;
    }
    // One goes for one that comes.
    assert!((1_000..4_000).contains(&gone), "{gone} of 4000");
    cluster.shards[0].check_invariants();
    assert_eq!(cluster.shards[0].histories().1, 51);
    for (channel, id, is_known) in [
        ("m/flood", id(3_999), true),
        ("m/flood", id(3_800), true),
        ("m/flood", id(0), false),
        ("m/0", "m-1".to_owned(), true),
        ("m/49", "m-1".to_owned(), true),
    ] {
        let ack = publish(&mut cluster, ann, channel, "again", Some(&id));
        assert_eq!(ack.get("duplicate").is_some(), is_known, "{channel} {id}");
    }
}

#[test]
fn ids_and_numberings_outlive_publications_and_ids_outlive_bare_numberings() {
    const BYTES: usize = 40_000;
    let mut cluster = with_memory(BYTES);
    let ann = peer(&mut cluster, 0, "ann");
    let first = publish(&mut cluster, ann, "m/pay", "100", Some("order-1"));
    let bare = publish(&mut cluster, ann, "m/bare", "1", None);
    let data = "x".repeat(1_000);
    for _ in 0..100 {
        publish(&mut cluster, ann, "m/busy", &data, None);
        assert!(memory(&cluster) <= BYTES);
    }
    // Publications have gone, and the numbering goes on.
    let [publications, ids, numberings] = evicted(&mut cluster);
    assert!(publications > 2 && ids == 0 && numberings == 0);
    let next = publish(&mut cluster, ann, "m/bare", "2", None);
    assert_eq!((&next["epoch"], &next["seq"]), (&bare["epoch"], &json!(2)));
    // So many channels that not even their numberings have room.
    for number in 0..300 {
        publish(&mut cluster, ann, &format!("m/{number}"), &data, None);
        assert!(memory(&cluster) <= BYTES);
    }
    let [_, ids, numberings] = evicted(&mut cluster);
    assert!(ids == 0 && numberings > 100, "{ids}, {numberings}");
    let again = publish(&mut cluster, ann, "m/pay", "100", Some("order-1"));
    let expected = (&first["epoch"], &json!(1), &json!(true));
    assert_eq!(
        (&again["epoch"], &again["seq"], &again["duplicate"]),
        expected
    );
    // And so many ids that the oldest go.
    for number in 0..300 {
        publish(
            &mut cluster,
            ann,
            &format!("m/{number}"),
            &data,
            Some("m-1"),
        );
        assert!(memory(&cluster) <= BYTES);
    }
    let [_, ids, _] = evicted(&mut cluster);
    assert!((1..300).contains(&ids), "{ids}");
    let newest = publish(&mut cluster, ann, "m/299", &data, Some("m-1"));
    assert_eq!(newest["duplicate"], true);
    cluster.shards[0].check_invariants();
}

#[test]
fn a_channel_on_disk_goes_on_with_its_numbers_and_its_disk_keeps_what_memory_does_not() {
    let mut cluster = with_memory(40_000);
    let ann = peer(&mut cluster, 0, "ann");
    let epoch = publish(&mut cluster, ann, "d/pay", "1", Some("m-1"))["epoch"].clone();
    publish(&mut cluster, ann, "d/pay", "2", Some("m-2"));
    let flood = |cluster: &mut Cluster| {
        let data = "x".repeat(1_000);
        for number in 0..300 {
            publish(cluster, ann, &format!("m/{number}"), &data, None);
        }
        let (_, numberings) = cluster.shards[0].histories();
        assert!(numberings < 100, "{numberings}");
    };
    for seq in 3..6 {
        flood(&mut cluster);
        let next = publish(&mut cluster, ann, "d/pay", "next", None);
        assert_eq!((&next["epoch"], &next["seq"]), (&epoch, &json!(seq)));
        // Its ids, too, are forgotten in time.
        cluster.wait(121_000);
    }
    let records = mem::take(&mut cluster.effects(0).history);
    let firsts = records::payloads(&records).map(|payload| match Record::read(payload) {
        Some(Record::Publication(it)) => (it.seq, it.first),
        other => panic!("{other:?}"),
    });
    let firsts: Vec<_> = firsts.collect();
    assert_eq!(firsts, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
}

#[test]
fn numberings_on_disk_that_have_no_room_are_counted_and_nothing_is_ended_on_disk() {
    const BYTES: usize = 40_000;
    let mut cluster = with_memory(BYTES);
    let ann = peer(&mut cluster, 0, "ann");
    for number in 0..300 {
        publish(&mut cluster, ann, &format!("d/{number}"), "1", None);
        assert!(memory(&cluster) <= BYTES);
    }
    let [publications, _, numberings] = evicted(&mut cluster);
    assert!(numberings > 100 && publications >= numberings);
    let records = mem::take(&mut cluster.effects(0).history);
    let is_publication =
        |payload: &[u8]| matches!(Record::read(payload), Some(Record::Publication(_)));
    assert_eq!(records::payloads(&records).count(), 300);
    assert!(records::payloads(&records).all(is_publication));
    cluster.shards[0].check_invariants();
}
