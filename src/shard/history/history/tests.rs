//! A history against a plain list of what was published.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::history::{HistoryAck, HistoryFsync};
use crate::domain::history_page::Page;
use crate::domain::peer::{JsonName, PeerInfo};
use crate::proto::wire::event::Event;
use crate::proto::wire::string::JsonStr;
use crate::shard::history::page;

const EPOCH: [u8; 6] = [1, 2, 3, 4, 5, 6];

fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

fn rule(messages: u32, bytes: u32, ttl_sec: u32) -> HistoryRule {
    HistoryRule {
        messages,
        bytes,
        ttl_sec,
        ..HistoryRule::new("**")
    }
}

fn history(rule: &HistoryRule) -> History {
    History::new(Epoch::of(EPOCH), rule, &hasher())
}

fn peer(id: &str, metadata: Option<&str>) -> SharedPeer {
    Arc::new(PeerInfo {
        id: JsonName::new(id),
        metadata: metadata.map(Box::from),
    })
}

fn at(ms: u64) -> Now {
    Now {
        mono_ms: ms,
        unix_ms: 1_700_000_000_000 + ms,
    }
}

fn publish(history: &mut History, from: &SharedPeer, data: &str, ms: u64) -> u64 {
    let mut frame = Vec::new();
    encode::message(&mut frame, "\"c\"", from, data);
    let new = New {
        frame: &frame,
        from,
        id: None,
    };
    let mut numbered = Vec::new();
    let position = history.append(new, at(ms), &mut numbered);
    let payload = String::from_utf8(encode::payload(&numbered).to_vec()).unwrap();
    assert_eq!(payload, text(from, data, None, position.seq));
    position.seq
}

/// The payload of a frame, made in another way.
fn text(from: &SharedPeer, data: &str, metadata: Option<&str>, seq: u64) -> String {
    let event = Event::Message {
        channel: JsonStr::from_escaped("\"c\""),
        from: JsonStr::from_escaped(from.id.json()),
        data: data.as_bytes(),
        from_metadata: metadata.map(str::as_bytes),
    };
    let mut payload = Vec::new();
    event.append_to(&mut payload);
    payload.pop();
    format!("{},\"seq\":{seq}}}", String::from_utf8(payload).unwrap())
}

/// The texts that a replay brings, in portions.
fn texts(mut replay: Replay) -> Vec<String> {
    let mut bytes = Vec::new();
    while !replay.is_over() {
        for (frame, range) in replay.next_portion() {
            bytes.extend_from_slice(&frame[range]);
        }
    }
    crate::shard::testing::messages(&bytes)
}

const LIMITS: HistorySettings = HistorySettings {
    memory_bytes: 1 << 20,
    dedupe_sec: 120,
    replay_messages: 1_000,
    replay_bytes: 1 << 20,
    fsync: HistoryFsync::Interval,
    ack: HistoryAck::Ordered,
};

fn resume(history: &mut History, seq: u64) -> Resumed {
    let epoch = Some(Epoch::of(EPOCH));
    history.resume(Since::After(epoch, seq), false, &LIMITS)
}

proptest! {
    /// What is kept is what the bounds say, and a replay is exactly what is behind a position, or
    /// it is said that it cannot be had.
    #[test]
    fn nothing_is_forgotten_that_is_said_to_be_kept(
        bounds in (1_u32..40, 1_024_u32..6_000, 1_u32..20),
        steps in prop::collection::vec((0_usize..400, 0_u64..900, 0_u8..12), 1..120),
    ) {
        let (messages, bytes, ttl_sec) = bounds;
        let mut history = history(&rule(messages, bytes, ttl_sec));
        let peers = [peer("alice", None), peer("bob", Some(r#"{"n":"bob"}"#))];
        let mut published: Vec<(String, String)> = Vec::new();
        let mut now_ms = 0;
        for (size, ms, what) in steps {
            now_ms += ms;
            let from = &peers[usize::from(what) % 2];
            if what == 11 {
                history.expire(now_ms, 0, usize::MAX);
            } else {
                let data = format!("\"{}\"", "x".repeat(size));
                let seq = publish(&mut history, from, &data, now_ms);
                prop_assert_eq!(seq, published.len() as u64 + 1);
                let metadata = from.metadata.as_deref();
                published.push((
                    text(from, &data, None, seq),
                    text(from, &data, metadata, seq),
                ));
            }
            history.check();
            let (first, last) = (history.first(), history.position().seq);
            prop_assert!(history.len() <= messages as usize);
            prop_assert!(history.len() <= 1 || history.frame_bytes() <= bytes as usize);
            prop_assert_eq!(last, published.len() as u64);
            for seq in [0, first.saturating_sub(2), first - 1, first, (first + last) / 2, last,
                last + 1]
            {
                let resumed = resume(&mut history, seq);
                prop_assert_eq!(resumed.recovered, Some(seq + 1 >= first && seq <= last));
                if resumed.recovered == Some(true) {
                    let wanted = published[seq as usize..].iter().map(|(plain, _)| plain);
                    prop_assert!(texts(resumed.replay).iter().eq(wanted));
                } else {
                    prop_assert!(resumed.replay.is_over());
                }
            }
            let newest = history.resume(Since::Last(3), true, &LIMITS);
            let count = 3.min(history.len());
            prop_assert_eq!(newest.replay.count() as usize, count);
            let wanted = &published[published.len() - count..];
            let wanted = wanted.iter().map(|(_, with_metadata)| with_metadata);
            prop_assert!(texts(newest.replay).iter().eq(wanted));
        }
        history.expire(now_ms + 20_000, 0, usize::MAX);
        prop_assert_eq!(history.len(), 0);
        prop_assert_eq!(history.position().seq, published.len() as u64);
    }
}

#[test]
fn another_numbering_and_wild_positions_are_lost() {
    let mut history = history(&rule(10, 4_096, 60));
    let alice = peer("alice", None);
    (0..3).for_each(|_| _ = publish(&mut history, &alice, "1", 0));
    let known = Some(Epoch::of(EPOCH));
    for since in [
        Since::After(None, 1),
        Since::After(Some(Epoch::of([9; 6])), 1),
        Since::After(known, 4),
        Since::After(known, u64::MAX),
    ] {
        let resumed = history.resume(since, false, &LIMITS);
        assert_eq!(
            (resumed.recovered, resumed.replay.count()),
            (Some(false), 0)
        );
        assert_eq!(resumed.position, Some(history.position()));
    }
    let now = history.resume(Since::Now, false, &LIMITS);
    assert_eq!(
        (now.recovered, now.position),
        (None, Some(history.position()))
    );
    assert_eq!(resume(&mut history, 3).recovered, Some(true));
}

#[test]
fn a_replay_has_limits() {
    let mut history = history(&rule(100, 1 << 20, 60));
    let bob = peer("bob", Some(&format!("{{\"n\":\"{}\"}}", "x".repeat(1_000))));
    for _ in 0..20 {
        publish(&mut history, &bob, "1", 0);
    }
    // Of the longer ones, whose numbers have two digits.
    let frame = history.frame_bytes() / 20 + 1;
    let with = |messages, bytes| HistorySettings {
        replay_messages: messages,
        replay_bytes: bytes,
        ..LIMITS
    };
    let epoch = Some(Epoch::of(EPOCH));
    let mut after = |seq, metadata, limits| {
        let resumed = history.resume(Since::After(epoch, seq), metadata, &limits);
        resumed.recovered == Some(true)
    };
    assert!(after(10, false, with(10, 1 << 20)));
    assert!(!after(9, false, with(10, 1 << 20)));
    assert!(after(10, false, with(100, 11 * frame)));
    assert!(!after(8, false, with(100, 11 * frame)));
    assert!(!after(10, true, with(100, 11 * frame)));
    assert!(after(10, true, with(100, 20_000)));
    // Of the newest there are as many as fit.
    let mut last = |count, metadata, limits| {
        let resumed = history.resume(Since::Last(count), metadata, &limits);
        resumed.replay.count()
    };
    assert_eq!(last(20, false, with(7, 1 << 20)), 7);
    assert_eq!(last(20, false, with(100, 11 * frame)), 11);
    assert_eq!(last(20, true, with(100, 5_000)), 4);
    assert_eq!(last(0, false, with(100, 5_000)), 0);
}

#[test]
fn what_gives_way_is_told_by_the_first_number() {
    let mut history = history(&rule(10, 4_096, 60));
    let alice = peer("alice", None);
    (0..5).for_each(|_| _ = publish(&mut history, &alice, "1", 0));
    let before = history.memory();
    while history.evict() {}
    assert!(history.memory() < before);
    assert_eq!((history.first(), history.position().seq), (6, 5));
    assert_eq!(resume(&mut history, 4).recovered, Some(false));
    assert_eq!(resume(&mut history, 5).recovered, Some(true));
    assert_eq!(publish(&mut history, &alice, "1", 0), 6);
    assert_eq!(resume(&mut history, 5).replay.count(), 1);
    assert_eq!(history.forget(Epoch::of([7; 6])), 1);
    assert_eq!((history.first(), history.position().seq), (1, 0));
    assert_eq!(resume(&mut history, 0).recovered, Some(false));
}

#[test]
fn the_disk_keeps_what_only_memory_has_ended() {
    let mut history = history(&rule(10, 1 << 20, 60));
    let alice = peer("alice", None);
    (0..5).for_each(|_| _ = publish(&mut history, &alice, "1", 0));
    (0..3).for_each(|_| assert!(history.evict()));
    assert_eq!((history.first(), history.first_stored()), (4, 1));
    // The rule says how many at most.
    (0..7).for_each(|_| _ = publish(&mut history, &alice, "1", 1_000));
    assert_eq!((history.first(), history.first_stored()), (4, 3));
    // What is too much in memory is so on disk, too.
    (0..2).for_each(|_| _ = publish(&mut history, &alice, "1", 1_000));
    assert_eq!((history.first(), history.first_stored()), (5, 5));
    assert!(history.evict());
    assert_eq!((history.first(), history.first_stored()), (6, 5));
    history.expire(61_000, 0, 100);
    assert_eq!((history.first(), history.first_stored()), (15, 15));
}

#[test]
fn what_gives_way_gives_its_room_back() {
    let mut history = history(&rule(1_000, 1 << 20, 60));
    for number in 0..1_000 {
        publish(&mut history, &peer(&format!("user-{number}"), None), "1", 0);
    }
    while history.len() > 1 {
        assert!(history.evict());
    }
    history.check();
    assert!(history.memory() < 40_000, "{}", history.memory());
    let shown = history.shown(1_000).unwrap();
    assert_eq!(shown.from, "\"user-999\"");
    assert!(history.evict() && !history.evict());
    assert!(history.memory() < 1_000, "{}", history.memory());
}

#[test]
fn a_smaller_rule_is_followed_in_steps() {
    let mut history = history(&rule(100, 1 << 20, 60));
    let alice = peer("alice", None);
    (0..100).for_each(|_| _ = publish(&mut history, &alice, "1", 0));
    history.set_rule(&rule(10, 1 << 20, 60));
    publish(&mut history, &alice, "1", 0);
    assert_eq!(history.len(), 101 - GOES_FOR_ONE_MAX);
    assert_eq!(history.expire(0, 0, 50), 50);
    assert_eq!(history.expire(0, 0, 1_000), 91 - GOES_FOR_ONE_MAX - 50);
    assert_eq!((history.len(), history.first()), (10, 92));
}

#[test]
fn a_thousand_messages_of_128_bytes_take_at_most_300_kb() {
    let mut history = history(&rule(1_000, 1 << 20, 3_600));
    let peers: Vec<_> = (0..20)
        .map(|it| peer(&format!("user-{it}"), None))
        .collect();
    let data = format!("\"{}\"", "x".repeat(126));
    for number in 0..5_000 {
        publish(&mut history, &peers[number % peers.len()], &data, 0);
    }
    assert_eq!(history.len(), 1_000);
    assert!(history.memory() <= 300_000, "{}", history.memory());
    // And one message takes no more than a message.
    let mut small = self::history(&rule(1_000, 1 << 20, 3_600));
    publish(&mut small, &peers[0], &data, 0);
    assert!(small.memory() <= 2_500, "{}", small.memory());
}

#[test]
fn a_page_shows_data_as_it_was_sent() {
    let mut history = history(&rule(10, 4_096, 60));
    let peers = [peer("a\"b", Some(r#"{"n":1}"#)), peer("server", None)];
    for (at, data) in [r#"{"a": [1, "}"]}"#, "null", "\"é\""].iter().enumerate() {
        publish(&mut history, &peers[at % 2], data, at as u64);
    }
    let known = Some(Epoch::of(EPOCH));
    let page = |since, limit, is_newest_first| {
        let page = Page {
            since,
            limit,
            is_newest_first,
            tells_size: false,
        };
        let body = page::render(Some(&history), "\"c\"", &page);
        body.map(|it| String::from_utf8(it).unwrap())
    };
    let epoch = Epoch::of(EPOCH);
    let head = format!(
        r#"{{"channel":"c","epoch":"{}","first":1,"last":3,"messages":["#,
        epoch.as_str()
    );
    let entries = [
        (
            r#"1,"timeMs":1700000000000,"from":"a\"b","data":{"a": [1, "}"]}"#,
            r#"{"n":1}"#,
        ),
        (
            r#"2,"timeMs":1700000000001,"from":"server","data":null"#,
            "",
        ),
        (
            r#"3,"timeMs":1700000000002,"from":"a\"b","data":"é""#,
            r#"{"n":1}"#,
        ),
    ];
    let entries = entries.map(|(entry, metadata)| match metadata {
        "" => format!(r#"{{"seq":{entry}}}"#),
        _ => format!(r#"{{"seq":{entry},"fromMetadata":{metadata}}}"#),
    });
    let [one, two, three] = &entries;
    for (asked, messages, more) in [
        ((None, 100, false), format!("{one},{two},{three}"), false),
        ((None, 2, false), format!("{one},{two}"), true),
        ((None, 2, true), format!("{three},{two}"), true),
        (
            (Some((known, 1)), 100, false),
            format!("{two},{three}"),
            false,
        ),
        ((Some((known, 2)), 1, true), three.clone(), false),
        ((Some((known, 3)), 1, false), String::new(), false),
    ] {
        let (since, limit, is_newest_first) = asked;
        let body = page(since, limit, is_newest_first).unwrap();
        assert_eq!(body, format!(r#"{head}{messages}],"more":{more}}}"#));
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
    }
    for since in [
        (None, 1),
        (Some(Epoch::of([9; 6])), 1),
        (known, 4),
        (known, u64::MAX),
    ] {
        assert!(page(Some(since), 10, false).is_err(), "{since:?}");
    }
}

#[test]
fn a_channel_that_keeps_nothing_has_an_empty_page() {
    let nothing = Page {
        since: None,
        limit: 10,
        is_newest_first: false,
        tells_size: false,
    };
    let body = page::render(None, "\"c\"", &nothing).unwrap();
    let body = String::from_utf8(body).unwrap();
    let expected = r#"{"channel":"c","epoch":null,"first":0,"last":0,"messages":[],"more":false}"#;
    assert_eq!(body, expected);
}

#[test]
fn operators_are_told_how_much_is_kept() {
    let page = Page {
        since: None,
        limit: 1,
        is_newest_first: true,
        tells_size: true,
    };
    let told = |history: Option<&History>| -> serde_json::Value {
        let body = page::render(history, "\"c\"", &page).unwrap();
        serde_json::from_slice(&body).unwrap()
    };
    let nothing = told(None);
    assert_eq!(
        (&nothing["count"], &nothing["bytes"]),
        (&0.into(), &0.into())
    );
    let mut history = history(&rule(2, 4_096, 60));
    for at in 0..3 {
        publish(&mut history, &peer("a", None), "1", at);
    }
    let kept = told(Some(&history));
    // Each with the two bytes of a frame's head.
    let frame = 2 + r#"{"type":"message","channel":"c","from":"a","data":1,"seq":2}"#.len();
    assert_eq!(
        (&kept["first"], &kept["last"], &kept["count"]),
        (&2.into(), &3.into(), &2.into())
    );
    assert_eq!(kept["bytes"], 2 * frame, "{kept}");
    assert_eq!(kept["messages"].as_array().unwrap().len(), 1);
}
