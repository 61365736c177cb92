//! What is counted is recorded: the sums of events are those of the metrics, in a flood too.

use super::*;
use crate::domain::app_id::AppTag;
use crate::domain::trace::{Trace, Traced};
use crate::events::kind::{Cause, Door, Kind};
use crate::events::record::{Detail, Read};
use crate::events::recorder::{Privacy, Recorder, Rings};
use crate::events::ring::Block;
use crate::ids::{AppIndex, ShardId};
use crate::metrics::label::HandshakeRefused;
use crate::shard::input::MemoryLevel;
use crate::shard::query::Query;
use crate::shard::recording::label_of;

pub(super) fn recorded(rings: &Rings) -> Vec<Read> {
    let mut block = Block::default();
    let mut all = Vec::new();
    for ring in [&rings.ends, &rings.routine] {
        for number in ring.readable() {
            assert!(ring.copy(number, &mut block));
            all.extend(block.records().map(|(_, read)| read));
        }
    }
    all
}

/// For how many the records stand that are meant; summaries repeat others.
fn sum(all: &[Read], is_meant: impl Fn(&Read) -> bool) -> u64 {
    let meant = all.iter().filter(|it| !it.is_summary && is_meant(it));
    meant.map(|it| u64::from(it.count)).sum()
}

fn recording_cluster() -> (Cluster, Rings) {
    let mut cluster = super::cluster(1);
    let (recorder, rings) = Recorder::new(Some(ShardId(0)), 1 << 20, Privacy::default());
    cluster.shards[0].record_with(recorder);
    (cluster, rings.unwrap())
}

/// Two members of one channel, one of whom takes nothing, and what the other one publishes.
struct Stalled {
    cluster: Cluster,
    rings: Rings,
    ann: Client,
    ben: Client,
    publish: String,
}

impl Stalled {
    fn new() -> Self {
        let (mut cluster, rings) = recording_cluster();
        let ann = peer(&mut cluster, 0, "ann");
        let ben = peer(&mut cluster, 0, "ben");
        cluster.message(ben, r#"{"type":"subscribe","channel":"hall"}"#);
        cluster.wait(20);
        cluster.stall(ben);
        let data = "x".repeat(60_000);
        Self {
            cluster,
            rings,
            ann,
            ben,
            publish: format!(r#"{{"type":"publish","channel":"hall","data":"{data}"}}"#),
        }
    }
}

#[test]
fn refusals_add_up_by_cause_and_a_flood_of_them_is_few_records() {
    let (mut cluster, rings) = recording_cluster();
    let upgrade = |query: &str| {
        format!(
            "GET /v1?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let requests = [
        upgrade("key=pk_live_other"),
        upgrade("key=sk_live_full"),
        upgrade("key=pk_live_test&token=x"),
        upgrade("token=x"),
        upgrade(&token("a", 0, "{}")),
        "GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /v1/usage HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
    ];
    for round in 0..120 {
        for request in &requests {
            cluster.request(0, request.as_bytes());
        }
        if round % 40 == 0 {
            cluster.wait(600);
        }
    }
    let now = cluster.now;
    cluster.shards[0].end_events(now);
    let all = recorded(&rings);
    let at_connect = |it: &Read| {
        it.kind == Kind::Refused && matches!(it.detail, Detail::Shown(Door::Connect, ..))
    };
    let counters = &cluster.shards[0].metrics().counters;
    for label in HandshakeRefused::ALL {
        let recorded = sum(&all, |it| at_connect(it) && label_of(it.cause) == *label);
        assert_eq!(
            recorded,
            counters.handshakes_refused.get(*label),
            "{label:?}"
        );
    }
    assert_eq!(
        sum(&all, |it| at_connect(it) && it.cause == Cause::WrongKind),
        120
    );
    assert_eq!(
        sum(&all, |it| it.kind == Kind::Refused && !at_connect(it)),
        120
    );
    // Three seconds at most, and two records for each cause in each of them.
    assert!(all.len() <= 7 * 2 * 3, "{}", all.len());
}

#[test]
fn ends_add_up_and_errors_are_summed_for_each_connection() {
    let (mut cluster, rings) = recording_cluster();
    let _ann = peer(&mut cluster, 0, "ann");
    let ben = peer(&mut cluster, 0, "ben");
    for _ in 0..50 {
        cluster.message(ben, "nonsense");
    }
    let now = cluster.now;
    cluster.shards[0].end_events(now);
    let all = recorded(&rings);
    let of = |kind, cause| move |it: &Read| (it.kind, it.cause) == (kind, cause);
    let errors = of(Kind::Error, Cause::MalformedMessage);
    assert_eq!(sum(&all, errors), 50);
    assert_eq!(all.iter().filter(|it| errors(it)).count(), 2);
    assert!(
        all.iter()
            .filter(|it| errors(it))
            .all(|it| it.first == "ben")
    );
    let counters = &cluster.shards[0].metrics().counters;
    assert_eq!(
        sum(&all, of(Kind::Opened, Cause::None)),
        counters.handshakes
    );
    assert_eq!(sum(&all, |it| it.kind == Kind::Closed), counters.handshakes);
    let closed = all
        .iter()
        .find(|it| of(Kind::Closed, Cause::Shutdown)(it) && it.first == "ben")
        .unwrap();
    assert_eq!(closed.number("messagesIn"), Some(50));
}

#[test]
fn who_takes_little_of_much_is_slow_once_in_ten_seconds() {
    let Stalled {
        mut cluster,
        rings,
        ann,
        ben,
        publish,
    } = Stalled::new();
    for _ in 0..12 {
        cluster.message(ann, &publish);
        cluster.make_room(ben, 10_000);
        cluster.wait(100);
    }
    let now = cluster.now;
    cluster.shards[0].end_events(now);
    let all = recorded(&rings);
    let slow: Vec<_> = all.iter().filter(|it| it.kind == Kind::Slow).collect();
    assert_eq!(slow.len(), 1);
    assert_eq!(slow[0].first, "ben");
    assert!(slow[0].number("queuedBytes").unwrap() > (1 << 20) / 2);
    assert!(slow[0].number("blockedMs").is_some());
}

#[test]
fn what_memory_costs_is_recorded() {
    let Stalled {
        mut cluster,
        rings,
        ann,
        publish,
        ..
    } = Stalled::new();
    (0..8).for_each(|_| cluster.message(ann, &publish));
    let memory = Input::Memory {
        level: MemoryLevel::AtCeiling,
        excess_bytes: 1,
    };
    cluster.input(0, memory);
    let upgrade = "GET /v1?key=pk_live_test HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(cluster.request(0, upgrade.as_bytes()).status, 503);
    let now = cluster.now;
    cluster.shards[0].end_events(now);
    let all = recorded(&rings);
    let of = |kind, cause| move |it: &Read| (it.kind, it.cause) == (kind, cause);
    assert_eq!(sum(&all, of(Kind::Refused, Cause::Memory)), 1);
    let mut closed = all.iter().filter(|it| of(Kind::Closed, Cause::Memory)(it));
    assert_eq!(closed.next().unwrap().first, "ben");
    assert!(closed.next().is_none());
}

/// What is traced of these messages, as lines.
fn traced(cluster: &mut Cluster, rings: &[Rings], trace: Trace) -> Vec<String> {
    let before = rings.iter().flat_map(recorded).count();
    for shard in 0..cluster.shards.len() {
        let query = Query::Trace(Arc::new(trace.clone()));
        cluster.input(shard, Input::Ask { query, number: 1 });
    }
    let [ann, bob] = ["ann", "bob"].map(|id| peer(cluster, 0, id));
    cluster.message(bob, r#"{"type":"subscribe","channel":"room/1"}"#);
    for message in [
        r#"{"type":"publish","channel":"room/1","data":1}"#,
        r#"{"type":"publish","channel":"room/2","data":1}"#,
        r#"{"type":"send","to":"bob","data":1}"#,
    ] {
        cluster.message(ann, message);
    }
    cluster.message(bob, r#"{"type":"send","to":"ann","data":"22"}"#);
    cluster.message(bob, r#"{"type":"publish","channel":"room/1","data":1}"#);
    let mut all: Vec<_> = rings.iter().flat_map(recorded).collect();
    assert!(all.len() > before);
    all.retain(|it| it.kind == Kind::Traced);
    let line = |it: &Read| {
        assert_eq!(it.app, Some(trace.app));
        let members = it
            .number("members")
            .map_or_else(String::new, |it| format!(" {it}"));
        format!("{} {} {}{members}", it.first, it.cause.as_str(), it.second)
    };
    let mut lines: Vec<_> = all.iter().map(line).collect();
    lines.sort();
    cluster.close(ann);
    cluster.close(bob);
    lines
}

#[test]
fn what_is_traced_is_recorded_wherever_it_is_ordered_and_nothing_else_is() {
    let trace = |traced| Trace {
        app: AppIndex(0),
        tag: app().id.tag(),
        traced,
        for_ms: 60_000,
    };
    for shards in [1, 3] {
        let fresh = || {
            let mut cluster = super::cluster(shards);
            let mut all = Vec::new();
            for (at, shard) in cluster.shards.iter_mut().enumerate() {
                let shard_id = Some(ShardId(at as u16));
                let (recorder, rings) = Recorder::new(shard_id, 1 << 20, Privacy::default());
                shard.record_with(recorder);
                all.extend(rings);
            }
            (cluster, all)
        };
        let (mut cluster, rings) = fresh();
        let ann = trace(Traced::Peer("ann".into()));
        assert_eq!(
            traced(&mut cluster, &rings, ann.clone()),
            [
                "ann published room/1 1",
                "ann published room/2 0",
                "ann sent bob",
                "bob sent ann",
            ]
        );
        let (mut cluster, rings) = fresh();
        let room = trace(Traced::Channel("room/1".into()));
        assert_eq!(
            traced(&mut cluster, &rings, room),
            ["ann published room/1 1", "bob published room/1 1"]
        );
        for nothing in [
            Trace {
                for_ms: 0,
                ..ann.clone()
            },
            Trace {
                tag: AppTag::of("other"),
                ..ann.clone()
            },
        ] {
            let (mut cluster, rings) = fresh();
            assert!(traced(&mut cluster, &rings, nothing).is_empty());
        }
        // It ends by itself.
        let (mut cluster, rings) = fresh();
        for shard in 0..usize::from(shards) {
            let query = Query::Trace(Arc::new(ann.clone()));
            cluster.input(shard, Input::Ask { query, number: 1 });
        }
        let client = peer(&mut cluster, 0, "ann");
        cluster.wait(60_000);
        cluster.message(client, r#"{"type":"publish","channel":"room/1","data":1}"#);
        let kinds = rings.iter().flat_map(recorded).map(|it| it.kind);
        assert_eq!(kinds.filter(|it| *it == Kind::Traced).count(), 0);
    }
}

#[test]
fn a_flood_of_what_is_traced_is_some_records_and_their_sum() {
    let (mut cluster, rings) = recording_cluster();
    let trace = Trace {
        app: AppIndex(0),
        tag: app().id.tag(),
        traced: Traced::Peer("ann".into()),
        for_ms: 600_000,
    };
    let query = Query::Trace(Arc::new(trace));
    cluster.input(0, Input::Ask { query, number: 1 });
    let ann = peer(&mut cluster, 0, "ann");
    let publish = r#"{"type":"publish","channel":"room/1","data":1}"#;
    (0..1_000).for_each(|_| cluster.message(ann, publish));
    cluster.wait(1_000);
    cluster.message(ann, publish);
    let traced = recorded(&rings);
    let traced: Vec<_> = traced.iter().filter(|it| it.kind == Kind::Traced).collect();
    assert_eq!(traced.len(), 101);
    assert_eq!(traced.iter().map(|it| it.count).sum::<u32>(), 1_001);
}
