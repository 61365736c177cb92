//! Events as they are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::book::NS_PER_MS;
use super::*;
use crate::events::kind::Keep;
use crate::events::kind::{AuthorKind, By, Cause, CredentialKind, Door, Kind};
use crate::events::record::Record;
use crate::events::record::{Detail, SocketEnd};
use crate::events::recorder::{Privacy, Recorder};
use crate::ids::{ConnectionId, ShardId};

const STARTED_UNIX_MS: u64 = 1_772_366_000_000;

/// Two shards that somebody writes for, under a clock that stands still.
pub(crate) struct Scene {
    pub events: Arc<Events>,
    shards: Vec<Recorder>,
    now_ns: Arc<AtomicU64>,
    /// By what the wall clock has jumped, in milliseconds.
    stepped_ms: Arc<AtomicU64>,
}

impl Scene {
    pub(crate) fn new(bytes: usize) -> Self {
        let made =
            (0..2).map(|shard| Recorder::new(Some(ShardId(shard)), bytes, Privacy::default()));
        let (shards, rings): (Vec<_>, Vec<_>) = made.unzip();
        let now_ns = Arc::new(AtomicU64::new(3_600_000_000_000));
        let stepped_ms = Arc::new(AtomicU64::new(0));
        let clock = {
            let (now_ns, stepped_ms) = (Arc::clone(&now_ns), Arc::clone(&stepped_ms));
            move || {
                let mono_ns = now_ns.load(Ordering::Relaxed);
                let stepped_ms = stepped_ms.load(Ordering::Relaxed);
                Moment {
                    mono_ns,
                    unix_ms: STARTED_UNIX_MS + mono_ns / NS_PER_MS + stepped_ms,
                }
            }
        };
        let rings = rings.into_iter().flatten().collect();
        Self {
            events: Arc::new(Events::new(rings, Privacy::default(), Box::new(clock))),
            shards,
            now_ns,
            stepped_ms,
        }
    }

    /// The wall clock jumps ahead.
    pub(super) fn step_ms(&self, ms: u64) {
        self.stepped_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn pass_ms(&self, ms: u64) {
        self.now_ns.fetch_add(ms * NS_PER_MS, Ordering::Relaxed);
    }

    pub(crate) fn record(&mut self, shard: usize, record: &Record<'_>) {
        let now_ns = self.now_ns.load(Ordering::Relaxed);
        self.shards[shard].record(record, now_ns);
    }

    fn closed(&mut self, shard: usize, peer: &str, cause: Cause) {
        let record = Record {
            detail: Detail::Closed(By::Server, SocketEnd::Orderly),
            code: 1_013,
            connection: Some(ConnectionId {
                slot: 4,
                generation: 7,
            }),
            address: Some("203.0.113.9".parse().unwrap()),
            numbers: &[1_049_102, 81_233, 4_120, 9_920_133, 31, 12],
            first: peer,
            ..Record::new(Kind::Closed, cause)
        };
        self.record(shard, &record);
    }

    fn find(&self, parameters: &str) -> Value {
        let query = self.query(parameters).unwrap();
        serde_json::to_value(self.events.find(&query)).unwrap()
    }

    fn query(&self, parameters: &str) -> Result<Query, String> {
        let pairs = parameters.split('&').filter(|it| !it.is_empty());
        Query::parse(pairs.map(|it| it.split_once('=').unwrap()), &self.events)
    }

    /// The peers of the events that are found.
    fn peers(&self, parameters: &str) -> Vec<String> {
        let found = self.find(parameters);
        let events = found["events"].as_array().unwrap().iter();
        events
            .map(|it| it["peer"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

#[test]
fn an_event_is_told_with_names_times_and_a_remedy() {
    let mut scene = Scene::new(1 << 20);
    scene.closed(1, "alice", Cause::SlowConsumer);
    let found = scene.find("");
    let event = &found["events"][0];
    assert_eq!(event["kind"], "closed");
    assert_eq!(event["time"], "2026-03-01T12:53:20.000Z");
    assert_eq!(event["shard"], 1);
    assert_eq!(event["connection"], "1.4.7");
    assert_eq!(event["code"], 1_013);
    assert_eq!(event["by"], "server");
    assert_eq!(event["cause"], "slow_consumer");
    assert_eq!(event["queuedBytes"], 1_049_102);
    assert_eq!(event["durationMs"], 81_233);
    assert_eq!(event["channels"], 12);
    assert_eq!(event["address"], "203.0.113.9");
    assert!(event["text"].as_str().unwrap().contains("took too little"));
    assert!(event["remedy"].as_str().unwrap().contains("outbound_queue"));
    assert!(event["id"].as_str().unwrap().ends_with(".1.e.0"));
    assert_eq!(found["complete"], true);
    assert_eq!(found["lost"], 0);
    assert_eq!(found["oldest"]["ends"], Value::Null);
}

#[test]
fn filters_choose_and_exclude() {
    let mut scene = Scene::new(1 << 20);
    scene.closed(0, "alice", Cause::SlowConsumer);
    scene.pass_ms(1_000);
    scene.closed(1, "alan", Cause::Kicked);
    scene.pass_ms(1_000);
    let refused = Record {
        detail: Detail::Shown(Door::Connect, CredentialKind::Token, 0),
        code: 401,
        address: Some("198.51.100.1".parse().unwrap()),
        first: "bob",
        ..Record::new(Kind::Refused, Cause::TokenExpired)
    };
    scene.record(0, &refused);
    let error = Record {
        first: "eve",
        second: "room/1",
        ..Record::new(Kind::Error, Cause::ChannelNotAuthorized)
    };
    scene.record(1, &error);
    for (parameters, peers) in [
        ("", &["alice", "alan", "bob", "eve"][..]),
        ("peer=alice", &["alice"]),
        ("peer=al*", &["alice", "alan"]),
        ("kind=closed", &["alice", "alan"]),
        ("kind=-closed", &["bob", "eve"]),
        ("kind=closed,refused&cause=-kicked", &["alice", "bob"]),
        ("cause=token_expired", &["bob"]),
        ("code=401,1013&peer=bob", &["bob"]),
        ("code=channel_not_authorized", &["eve"]),
        ("channel=room/*", &["eve"]),
        ("address=198.51.100.1", &["bob"]),
        ("address=203.0.113.0/24", &["alice", "alan"]),
        ("connection=1.4.7", &["alan"]),
        ("since=1s", &["alan", "bob", "eve"]),
        ("until=2026-03-01T12:53:20.500Z", &["alice"]),
        ("since=1772369601&until=1772369601", &["alan"]),
        ("limit=2", &["bob", "eve"]),
        ("app=app_other", &[]),
        ("key=sk_id_other", &[]),
    ] {
        assert_eq!(scene.peers(parameters), peers, "{parameters}");
    }
    for wrong in [
        "kind=opend",
        "cause=x",
        "limit=0",
        "limit=1001",
        "since=yesterday",
        "address=10.0.0",
        "after=x",
        "wrong=1",
        "code=x",
    ] {
        assert!(scene.query(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_cursor_goes_on_and_an_event_goes_back() {
    let mut scene = Scene::new(1 << 20);
    for number in 0..6 {
        scene.closed(number % 2, &format!("p{number}"), Cause::Kicked);
        scene.pass_ms(10);
    }
    let newest = scene.find("limit=2");
    let first = newest["events"][0]["id"].as_str().unwrap();
    assert_eq!(
        scene.peers(&format!("limit=2&before={first}")),
        ["p2", "p3"]
    );
    assert_eq!(scene.peers(&format!("after={first}")), ["p5"]);
    let cursor = newest["cursor"].as_str().unwrap().to_owned();
    assert_eq!(scene.peers(&format!("after={cursor}")), [""; 0]);
    scene.closed(0, "p6", Cause::Kicked);
    assert_eq!(scene.peers(&format!("after={cursor}")), ["p6"]);
    assert_eq!(scene.peers(&format!("before={cursor}")).len(), 6);
    // A cursor of another process begins anew.
    let other = cursor.replacen(cursor.split('-').next().unwrap(), "k3", 1);
    assert_eq!(scene.peers(&format!("after={other}")).len(), 7);
}

/// Whoever goes back from page to page sees everything once, though more comes meanwhile.
#[test]
fn pages_back_leave_nothing_out() {
    let mut scene = Scene::new(1 << 20);
    for number in 0..60 {
        let shard = usize::from(number % 3 == 0);
        scene.closed(shard, &format!("p{number}"), Cause::Kicked);
        scene.pass_ms(u64::from(number % 4 == 0));
    }
    let newest = scene.find("limit=7");
    let mut before = newest["events"][0]["id"].as_str().unwrap().to_owned();
    let peers = |found: &Value| -> Vec<String> {
        let events = found["events"].as_array().unwrap().iter();
        events
            .map(|it| it["peer"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut seen = peers(&newest);
    loop {
        let mut query = scene.query(&format!("limit=7&before={before}")).unwrap();
        query.page();
        let found = serde_json::to_value(scene.events.find(&query)).unwrap();
        let page = peers(&found);
        if page.is_empty() {
            break;
        }
        seen.splice(..0, page);
        before = found["cursor"].as_str().unwrap().to_owned();
        scene.closed(0, "late", Cause::Kicked);
    }
    let all: Vec<_> = (0..60).map(|number| format!("p{number}")).collect();
    let mut sorted = seen.clone();
    sorted.sort();
    let mut expected = all;
    expected.sort();
    assert_eq!(sorted, expected);
}

#[test]
fn what_names_no_ring_is_no_place() {
    let mut scene = Scene::new(1 << 20);
    scene.closed(0, "alice", Cause::Kicked);
    let found = scene.find("");
    let id = found["events"][0]["id"].as_str().unwrap();
    let cursor = found["cursor"].as_str().unwrap();
    assert!(scene.query(&format!("before={id}")).is_ok());
    for wrong in [
        id.replace(".0.e.", ".9.e."),
        format!("{cursor}.1"),
        cursor.rsplit_once('.').unwrap().0.to_owned(),
    ] {
        for name in ["after", "before"] {
            assert!(scene.query(&format!("{name}={wrong}")).is_err(), "{wrong}");
        }
    }
}

/// Whoever goes on from cursor to cursor sees everything once, however few it asks for at a time,
/// and however late it comes.
#[test]
fn pages_forward_leave_nothing_out() {
    let mut scene = Scene::new(1 << 20);
    let mut cursor = scene.find("")["cursor"].as_str().unwrap().to_owned();
    let mut first_id = String::new();
    for number in 0..60 {
        scene.closed(number % 2, &format!("p{number}"), Cause::Kicked);
        scene.pass_ms(if number % 3 == 0 { 60_000 } else { 1 });
        if number == 0 {
            let found = scene.find("");
            first_id = found["events"][0]["id"].as_str().unwrap().to_owned();
        }
    }
    let all: Vec<_> = (0..60).map(|number| format!("p{number}")).collect();
    let mut seen = Vec::new();
    loop {
        let found = scene.find(&format!("after={cursor}&limit=7"));
        cursor = found["cursor"].as_str().unwrap().to_owned();
        assert_eq!(found["lost"], 0);
        let events = found["events"].as_array().unwrap();
        if events.is_empty() {
            break;
        }
        let peers = events.iter().map(|it| it["peer"].as_str().unwrap());
        seen.extend(peers.map(str::to_owned));
    }
    assert_eq!(seen, all);
    assert_eq!(scene.peers(&format!("after={first_id}&limit=7")), all[1..8]);
}

#[test]
fn what_is_overwritten_is_counted_and_the_oldest_is_told() {
    let mut scene = Scene::new(64 << 10);
    scene.closed(0, "first", Cause::Kicked);
    let cursor = scene.find("")["cursor"].as_str().unwrap().to_owned();
    for _ in 0..2_000 {
        scene.pass_ms(1);
        scene.closed(0, "later", Cause::Kicked);
    }
    let found = scene.find(&format!("after={cursor}&limit=1000"));
    let lost = found["lost"].as_u64().unwrap();
    let all = scene.find("limit=1000")["events"].as_array().unwrap().len() as u64;
    assert_eq!(lost + all, 2_000);
    assert!(found["oldest"]["ends"].is_string());
    assert!(scene.events.retained_sec(Keep::Ends) < 2.0);
    assert!(scene.events.retained_sec(Keep::Routine) > 3_000.0);
}

#[test]
fn a_story_tells_what_came_before_each_end() {
    let mut scene = Scene::new(1 << 20);
    let opened = Record {
        first: "alice",
        ..Record::new(Kind::Opened, Cause::None)
    };
    scene.record(0, &opened);
    scene.pass_ms(120_000);
    scene.record(1, &opened);
    scene.pass_ms(1_000);
    let slow = Record {
        first: "alice",
        ..Record::new(Kind::Slow, Cause::None)
    };
    scene.record(1, &slow);
    scene.closed(0, "bob", Cause::Kicked);
    scene.pass_ms(1_000);
    scene.closed(1, "alice", Cause::SlowConsumer);
    for _ in 0..6 {
        scene.pass_ms(100);
        scene.closed(0, "alice", Cause::Kicked);
    }
    let query = scene.query("peer=alice").unwrap();
    let stories = serde_json::to_value(scene.events.stories(&query, Some(3))).unwrap();
    assert_eq!(stories["connected"], 3);
    let told = stories["stories"].as_array().unwrap();
    assert_eq!(told.len(), 5);
    assert!(told.iter().all(|it| it["end"]["cause"] == "kicked"));
    let before = told[4]["before"].as_array().unwrap();
    let kinds: Vec<_> = before
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["opened", "slow", "closed", "closed"]);
}

/// What the manual says that a kind has of its own: names in backticks of its third column.
fn fields_in_the_manual(kind: Kind) -> Vec<&'static str> {
    let manual = include_str!("../../docs/admin-api.md");
    let (_, section) = manual
        .split_once("| kind | when | fields of its own |")
        .unwrap();
    let row = section
        .lines()
        .find(|line| {
            let (kinds, _) = line
                .trim_start_matches("| ")
                .split_once(" | ")
                .unwrap_or_default();
            kinds
                .split(", ")
                .any(|it| it.trim_matches('`') == kind.as_str())
        })
        .unwrap_or_else(|| panic!("{kind:?}"));
    let fields = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
    fields.split('`').skip(1).step_by(2).collect()
}

/// An event of which everything is known.
fn known(kind: Kind, detail: Detail, code: u16, is_to: bool) -> Value {
    let mut scene = Scene::new(1 << 20);
    let numbers = [1, 2, 3, 4, 5, 6];
    let record = Record {
        detail,
        code,
        is_to,
        errno: 32,
        numbers: &numbers[..kind.numbers().len()],
        first: "first",
        second: "second",
        address: Some("203.0.113.9".parse().unwrap()),
        connection: Some(ConnectionId {
            slot: 1,
            generation: 2,
        }),
        ..Record::new(kind, crate::events::text::causes(kind).next().unwrap())
    };
    scene.record(0, &record);
    scene.find(&format!("kind={}", kind.as_str()))["events"][0].clone()
}

#[test]
fn every_kind_has_the_fields_of_the_manual() {
    for kind in Kind::ALL {
        let events = [401, 4_001]
            .into_iter()
            .zip([false, true])
            .map(|(code, is_to)| {
                let detail = match kind {
                    Kind::Refused | Kind::Opened => {
                        Detail::Shown(Door::Connect, CredentialKind::Token, 2)
                    }
                    Kind::Closed => Detail::Closed(By::Server, SocketEnd::CloseTimeout),
                    Kind::Kicked | Kind::Rights | Kind::Admin => Detail::Done(AuthorKind::Session),
                    _ => Detail::None,
                };
                known(*kind, detail, code, is_to)
            });
        let events: Vec<_> = events.collect();
        let fields = fields_in_the_manual(*kind);
        assert!(!fields.is_empty(), "{kind:?}");
        // Values that a field can have stand in brackets there.
        let values = ["connect", "rest", "close_timeout", "reset", "write_failed"];
        for field in fields.iter().filter(|it| !values.contains(it)) {
            let is_there = events.iter().any(|event| !event[field].is_null());
            assert!(is_there, "{kind:?} {field}: {events:?}");
        }
        let numbers = kind.numbers().iter();
        for number in numbers.filter(|_| *kind != Kind::Closed) {
            assert!(
                fields.contains(number),
                "{kind:?}: the manual lacks {number}"
            );
        }
    }
    // Those of a close stand in the manual's example.
    let closed = known(
        Kind::Closed,
        Detail::Closed(By::Server, SocketEnd::Orderly),
        1_013,
        false,
    );
    let manual = include_str!("../../docs/admin-api.md");
    for (field, _) in closed.as_object().unwrap() {
        let is_there = manual.contains(&format!("\"{field}\": ")) || field == "errno";
        assert!(is_there || field == "channel", "{field}");
    }
}
