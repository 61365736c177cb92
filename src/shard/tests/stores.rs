//! Channels that are kept on disk: who is told when, and what another shard goes on with.

use std::mem;

use serde_json::{Value, json};

use super::*;
use crate::domain::history::{HistoryAck, HistoryRule, HistoryRules, HistoryStore};
use crate::domain::history_page::{Forgotten, HistoryAsked, HistoryTold};
use crate::domain::rights::Rights;
use crate::ids::AppIndex;
use crate::proto::records::{self, Publication, Record};
use crate::proto::wire::position::{Epoch, Position};
use crate::shard::channel::refill::Lacking;
use crate::shard::history::restored::{Found, FoundId};
use crate::shard::query::{Answer, HistoryQuery, Query};
use crate::shard::rest::tests::with_key;

fn on_disk() -> Rights {
    let rule = HistoryRule {
        messages: 10,
        store: HistoryStore::Disk,
        ..HistoryRule::new("h")
    };
    let mut app = app();
    app.history = Arc::new(HistoryRules::new(&[rule]).unwrap());
    rights(app)
}

fn cluster(shards: u16, is_open: bool, ack: HistoryAck) -> Cluster {
    let mut cluster = Cluster::new(shards, on_disk());
    let now = cluster.now;
    for shard in &mut cluster.shards {
        shard.keep_on_disk(&[], is_open, ack, now);
    }
    cluster
}

fn publish(cluster: &mut Cluster, client: Client, data: u64) {
    let request = json!({
        "type": "publish", "channel": "h", "data": data, "id": format!("m-{data}"),
        "requestId": "p", "position": true,
    });
    cluster.message(client, &request.to_string());
}

fn heard(cluster: &mut Cluster, client: Client) -> Vec<Value> {
    let messages = cluster.messages(client).into_iter();
    let read = |it: String| serde_json::from_str(&it).unwrap();
    messages.map(read).collect()
}

/// The shard that has something to hand over, and its records.
fn records_of(cluster: &mut Cluster) -> (usize, Vec<u8>) {
    let owner = cluster.shards.iter().position(Shard::has_records).unwrap();
    let records = mem::take(&mut cluster.effects(owner).history);
    (owner, records)
}

fn settle(cluster: &mut Cluster, owner: usize, batch: u64, is_stored: bool) {
    cluster.input(owner, Input::Stored { batch, is_stored });
    cluster.run();
}

fn publications(batch: &[u8]) -> Vec<Publication<'_>> {
    let read = records::payloads(batch).filter_map(|payload| match Record::read(payload)? {
        Record::Publication(it) => Some(it),
        _ => None,
    });
    read.collect()
}

#[test]
fn an_ack_waits_until_the_publication_is_stored() {
    for (shards, home) in [(1, 0), (2, 0), (2, 1)] {
        let mut cluster = cluster(shards, true, HistoryAck::Stored);
        let ann = peer(&mut cluster, home, "ann");
        publish(&mut cluster, ann, 1);
        let (owner, records) = records_of(&mut cluster);
        assert_eq!(publications(&records)[0].id, "m-1");
        cluster.shards[owner].records_handed_over(7);
        assert!(!cluster.shards[owner].has_records());
        settle(&mut cluster, owner, 6, true);
        assert_eq!(heard(&mut cluster, ann), [] as [Value; 0]);
        settle(&mut cluster, owner, 7, true);
        let told = heard(&mut cluster, ann);
        assert_eq!(
            (&told[0]["type"], &told[0]["seq"]),
            (&json!("ack"), &json!(1))
        );

        // One that cannot be stored is an error, and so is the same again.
        for (batch, is_stored) in [(8, false), (9, true)] {
            publish(&mut cluster, ann, 2);
            let (owner, _) = records_of(&mut cluster);
            cluster.shards[owner].records_handed_over(batch);
            settle(&mut cluster, owner, batch, is_stored);
            let told = heard(&mut cluster, ann);
            assert_eq!(told[0]["code"], "backend_error", "{told:?}");
        }
        // One that comes again waits too, for the first may be on its way.
        publish(&mut cluster, ann, 3);
        publish(&mut cluster, ann, 3);
        assert_eq!(heard(&mut cluster, ann), [] as [Value; 0]);
        let (owner, records) = records_of(&mut cluster);
        assert_eq!(publications(&records).len(), 1);
        cluster.shards[owner].records_handed_over(10);
        settle(&mut cluster, owner, 10, true);
        let told = heard(&mut cluster, ann);
        let seqs: Vec<_> = told
            .iter()
            .map(|it| (&it["seq"], it.get("duplicate")))
            .collect();
        let expected = [(&json!(3), None), (&json!(3), Some(&json!(true)))];
        assert_eq!(seqs, expected);
    }
}

#[test]
fn acks_that_do_not_wait_come_at_once_and_without_a_disk_nothing_is_recorded() {
    let mut cluster = cluster(1, true, HistoryAck::Ordered);
    let ann = peer(&mut cluster, 0, "ann");
    publish(&mut cluster, ann, 1);
    assert_eq!(heard(&mut cluster, ann)[0]["seq"], 1);
    assert_eq!(publications(&records_of(&mut cluster).1).len(), 1);

    let mut cluster = Cluster::new(1, on_disk());
    let ann = peer(&mut cluster, 0, "ann");
    publish(&mut cluster, ann, 1);
    assert_eq!(heard(&mut cluster, ann)[0]["seq"], 1);
    assert!(!cluster.shards[0].has_records());
}

/// Somebody comes back from there to channel "h", whose last number is 12.
#[track_caller]
fn check_resumed(cluster: &mut Cluster, from: Position, recovered: bool) {
    let ben = peer(cluster, 1, "ben");
    let since = json!({"epoch": from.epoch.as_str(), "seq": from.seq});
    let request = json!({"type": "subscribe", "channel": "h", "since": since, "requestId": "s"});
    cluster.message(ben, &request.to_string());
    cluster.wait(17);
    let told = heard(cluster, ben);
    assert_eq!(
        (&told[0]["recovered"], &told[0]["seq"]),
        (&json!(recovered), &json!(12))
    );
    let messages = told.iter().filter(|it| it["type"] == "message");
    let seqs: Vec<_> = messages.map(|it| it["seq"].as_u64().unwrap()).collect();
    let expected: Vec<_> = (from.seq + 1..=12).filter(|_| recovered).collect();
    assert_eq!(seqs, expected);
}

#[test]
fn another_process_goes_on_with_what_was_recorded() {
    let mut first = cluster(1, true, HistoryAck::Ordered);
    let ann = peer(&mut first, 0, "ann");
    for data in 1..=12 {
        publish(&mut first, ann, data);
    }
    let (_, records) = records_of(&mut first);
    let published = publications(&records);
    let last = published.last().unwrap();
    assert_eq!((last.seq, last.first), (12, 3));
    let earlier = Epoch::parse(last.epoch).unwrap();
    let position = |epoch, seq| Position { epoch, seq };
    let epoch = Epoch::of([9; 6]);
    let kept = records::payloads(&records).skip(2);
    let found = Found {
        app: last.app.into(),
        channel: last.channel.into(),
        position: position(epoch, 12),
        earlier: [position(earlier, 12)].into(),
        records: kept.map(Box::from).collect(),
        ids: [FoundId {
            from: "ann".into(),
            id: "m-2".into(),
            seq: 2,
            unix_ms: first.now.unix_ms,
        }]
        .into(),
    };

    let mut second = Cluster::new(2, on_disk());
    let now = second.now;
    let hash = |shard: &Shard| {
        let placement = &shard.context.placement;
        placement.owner(placement.channel_hash(app().id.tag(), "h"))
    };
    let owner = usize::from(hash(&second.shards[0]).shard().0);
    second.shards[owner].keep_on_disk(&[found], true, HistoryAck::Ordered, now);
    let since = [
        (earlier, 5, true),
        (earlier, 13, false),
        (epoch, 2, true),
        (epoch, 1, false),
    ];
    for (epoch, seq, recovered) in since {
        check_resumed(&mut second, Position { epoch, seq }, recovered);
    }
    // Its ids are known, also those of what is not kept any more, and its numbers go on.
    let ann = peer(&mut second, 0, "ann");
    publish(&mut second, ann, 2);
    let again = heard(&mut second, ann).remove(0);
    assert_eq!(
        (&again["seq"], &again["duplicate"]),
        (&json!(2), &json!(true))
    );
    publish(&mut second, ann, 12);
    publish(&mut second, ann, 13);
    let told = heard(&mut second, ann);
    assert_eq!(
        (&told[0]["seq"], &told[0]["duplicate"]),
        (&json!(12), &json!(true))
    );
    assert_eq!(
        (&told[1]["seq"], &told[1]["epoch"]),
        (&json!(13), &json!(epoch.as_str()))
    );
}

#[test]
fn a_frozen_shard_is_quiet_when_the_disk_has_what_it_was_handed() {
    let mut cluster = cluster(1, true, HistoryAck::Stored);
    let ann = peer(&mut cluster, 0, "ann");
    publish(&mut cluster, ann, 1);
    cluster.input(0, Input::Freeze);
    assert!(
        !cluster.shards[0].is_quiet(),
        "a record is to be handed over"
    );
    records_of(&mut cluster);
    cluster.shards[0].records_handed_over(7);
    cluster.run();
    assert!(!cluster.shards[0].is_quiet(), "an ack waits for it");
    settle(&mut cluster, 0, 7, true);
    assert!(cluster.shards[0].is_quiet());
    assert_eq!(heard(&mut cluster, ann).len(), 1);
}

#[test]
fn what_any_shard_is_told_to_forget_is_recorded_at_the_owner() {
    for asked in 0..3 {
        let mut cluster = cluster(3, true, HistoryAck::Ordered);
        let ann = peer(&mut cluster, asked, "ann");
        publish(&mut cluster, ann, 1);
        let (owner, _) = records_of(&mut cluster);
        cluster.shards[owner].records_handed_over(1);
        let forget = with_key("DELETE", "/v1/channels/h/history", "");
        assert_eq!(cluster.request(asked, &forget).json()["deleted"], 1);
        let (recorded_at, batch) = records_of(&mut cluster);
        let mut told = records::payloads(&batch).filter_map(Record::read);
        assert_eq!(recorded_at, owner);
        assert!(matches!(told.next(), Some(Record::Forgotten(_))));
        assert_eq!(told.next(), None);
    }
}

/// A batch with a record that channel "h" is forgotten, and nothing else, has been stored or not.
#[track_caller]
fn settle_forgotten(cluster: &mut Cluster, batch: u64, is_stored: bool) {
    let (owner, records) = records_of(cluster);
    let mut told = records::payloads(&records).filter_map(Record::read);
    assert!(matches!(told.next(), Some(Record::Forgotten(_))));
    assert_eq!(told.next(), None);
    cluster.shards[owner].records_handed_over(batch);
    settle(cluster, owner, batch, is_stored);
}

#[test]
fn a_history_is_forgotten_when_that_is_stored() {
    let forget = with_key("DELETE", "/v1/channels/h/history", "");
    for asked in 0..2 {
        let mut cluster = cluster(2, true, HistoryAck::Stored);
        let ann = peer(&mut cluster, 0, "ann");
        publish(&mut cluster, ann, 1);
        let (owner, _) = records_of(&mut cluster);
        cluster.shards[owner].records_handed_over(1);
        settle(&mut cluster, owner, 1, true);
        // What was refused once is not there any more, and is recorded again each time.
        for (batch, is_stored, deleted) in [(10, false, 1), (20, true, 0), (30, true, 0)] {
            let backend = cluster.accept(asked);
            cluster.send(backend, &forget);
            assert!(cluster.responses(backend).is_empty(), "{batch}: too early");
            settle_forgotten(&mut cluster, batch, is_stored);
            let answer = cluster.responses(backend).remove(0);
            match is_stored {
                true => assert_eq!(answer.json()["deleted"], deleted, "{answer:?}"),
                false => assert!(answer.body.contains("delete it again"), "{answer:?}"),
            }
            assert_eq!(answer.status, if is_stored { 200 } else { 503 });

            let query = Query::History(HistoryQuery {
                app: app().id.tag(),
                channel: "h".into(),
                asked: HistoryAsked::Forget,
            });
            cluster.input(asked, Input::Ask { query, number: 7 });
            cluster.run();
            assert_eq!(cluster.effects(asked).answers, [], "{batch}: too early");
            settle_forgotten(&mut cluster, batch + 1, is_stored);
            let forgotten = Forgotten {
                count: 0,
                is_refused: !is_stored,
            };
            let told = Answer::History(HistoryTold::Forgotten(forgotten));
            assert_eq!(mem::take(&mut cluster.effects(asked).answers), [(7, told)]);
        }
    }
}

#[test]
fn what_is_not_on_disk_is_forgotten_at_once() {
    let mut cluster = cluster(2, true, HistoryAck::Stored);
    let forget = with_key("DELETE", "/v1/channels/other/history", "");
    assert_eq!(cluster.request(0, &forget).json()["deleted"], 0);
    assert!(!cluster.shards.iter().any(Shard::has_records));
}

/// What a shard records again of channel "h", from a number of its epoch on, in pieces.
fn recorded_again(cluster: &mut Cluster, from: u64, bytes_max: usize) -> (Vec<u8>, usize) {
    let (mut all, mut next, mut pieces) = (Vec::new(), Some(from), 0);
    while let Some(seq) = next {
        let lacking = Lacking {
            app: "app_test",
            channel: "h",
            is_forgotten: false,
            from: &|_| Some((seq, false)),
        };
        let mut piece = Vec::new();
        next = cluster.shards[0]
            .record_again(&lacking, &mut piece, bytes_max)
            .map(|rest| rest.seq);
        all.append(&mut piece);
        pieces += 1;
    }
    (all, pieces)
}

#[test]
fn what_a_disk_lacks_is_recorded_again_as_it_was() {
    let mut cluster = cluster(1, true, HistoryAck::Stored);
    let ann = peer(&mut cluster, 0, "ann");
    for data in 1..=12 {
        publish(&mut cluster, ann, data);
    }
    let (_, records) = records_of(&mut cluster);
    cluster.shards[0].records_handed_over(1);
    settle(&mut cluster, 0, 1, false);
    heard(&mut cluster, ann);
    // Of twelve ten are kept.
    let (again, pieces) = recorded_again(&mut cluster, 5, 300);
    assert!(pieces > 1, "{pieces} pieces");
    let first = |it: &Publication<'_>| (it.seq, it.frame.to_vec(), it.id.to_owned());
    let facts = |it: &Publication<'_>| (it.time_ms, it.ttl_sec, it.from.to_owned());
    let (known, again) = (publications(&records), publications(&again));
    assert_eq!(again.len(), 8);
    for (known, again) in known[4..].iter().zip(&again) {
        assert_eq!(first(known), first(again));
        assert_eq!(facts(known), facts(again));
        assert_eq!((known.metadata, again.first), (again.metadata, 3));
    }
    // Those that wait for it again are told that it is stored, as soon as it is.
    publish(&mut cluster, ann, 12);
    assert!(cluster.shards[0].has_records());
    cluster.effects(0).history.clear();
    cluster.shards[0].records_handed_over(2);
    settle(&mut cluster, 0, 2, true);
    assert_eq!(heard(&mut cluster, ann)[0]["duplicate"], true);
}

#[test]
fn what_is_not_kept_any_more_is_a_gap_that_the_disk_is_told_of() {
    let mut cluster = cluster(1, true, HistoryAck::Ordered);
    let ann = peer(&mut cluster, 0, "ann");
    for data in 1..=12 {
        publish(&mut cluster, ann, data);
    }
    let (again, _) = recorded_again(&mut cluster, 1, 1 << 20);
    let first = records::payloads(&again).next().and_then(Record::read);
    let Some(Record::Numbering(first)) = first else {
        panic!("{first:?}");
    };
    assert_eq!(first.last, 2);
    assert_eq!(publications(&again).len(), 10);
}

#[test]
fn an_app_that_ends_is_forgotten_on_disk_too() {
    let another = || {
        let mut app = app();
        app.index = AppIndex(7);
        app.history = on_disk().apps().next().unwrap().history.clone();
        let mut rights = rights(app);
        rights.version = 2;
        rights
    };
    for next in [Rights::new(2), another()] {
        let mut cluster = cluster(2, true, HistoryAck::Ordered);
        let ann = peer(&mut cluster, 0, "ann");
        publish(&mut cluster, ann, 1);
        records_of(&mut cluster);
        let next = Arc::new(next);
        (0..2).for_each(|shard| cluster.input(shard, Input::Rights(next.clone())));
        cluster.run();
        let (_, records) = records_of(&mut cluster);
        let forgotten = records::payloads(&records).filter(|payload| {
            let record = Record::read(payload);
            matches!(record, Some(Record::Forgotten(_)))
        });
        assert_eq!(forgotten.count(), 1);
    }
}
