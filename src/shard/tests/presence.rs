//! Joins side by side, and changes told at intervals.

use std::collections::BTreeSet;

use super::*;
use crate::domain::channel::Pace;
use crate::shard::tuning::Tuning;

const PAUSE_MS: u64 = 17;

fn subscribe(channel: &str, request_id: &str) -> String {
    format!(r#"{{"type":"subscribe","channel":"{channel}","requestId":"{request_id}"}}"#)
}

fn publish(channel: &str, data: u32) -> String {
    format!(r#"{{"type":"publish","channel":"{channel}","data":{data}}}"#)
}

fn send_all(cluster: &mut Cluster, client: Client, messages: &[String]) {
    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    cluster.send(client, &frames(&messages));
}

/// What came, each in a word: its type, and its request, data or channel.
fn heard(cluster: &mut Cluster, client: Client) -> Vec<String> {
    let words = cluster.messages(client).into_iter().map(|text| {
        let Ok(it) = serde_json::from_str::<serde_json::Value>(&text) else {
            return text;
        };
        let kind = it["type"].as_str().unwrap_or_default().to_owned();
        let about = [&it["requestId"], &it["data"], &it["channel"]];
        let about = about.into_iter().find(|about| !about.is_null());
        about.map_or(kind.clone(), |about| {
            format!("{kind} {}", about.to_string().replace('"', ""))
        })
    });
    words.collect()
}

/// One connection in "old", another that publishes to it.
fn two(shards: u16) -> (Cluster, Client, Client) {
    let mut cluster = cluster(shards);
    let ann = peer(&mut cluster, 0, "ann");
    let ben = peer(&mut cluster, usize::from(shards) - 1, "ben");
    cluster.message(ann, r#"{"type":"subscribe","channel":"old"}"#);
    cluster.take(ann);
    (cluster, ann, ben)
}

#[test]
fn a_hundred_joins_take_one_pause_and_hold_nothing_else_up() {
    for shards in [1, 2, 3] {
        let (mut cluster, ann, ben) = two(shards);
        let joins: Vec<String> = (0..99)
            .map(|at| subscribe(&format!("new-{at}"), &at.to_string()))
            .collect();
        send_all(&mut cluster, ann, &joins);
        cluster.message(ann, r#"{"type":"ping","requestId":"p"}"#);
        cluster.message(ben, &publish("old", 7));
        let mut now = heard(&mut cluster, ann);
        assert_eq!(now.pop().as_deref(), Some("message 7"));
        assert_eq!(now.pop().as_deref(), Some("pong p"));
        assert_eq!(now.len(), 99);
        assert!(now.iter().all(|it| it.starts_with("ack ")), "{now:?}");
        cluster.wait(PAUSE_MS - 1);
        assert_eq!(heard(&mut cluster, ann), [""; 0]);
        cluster.wait(1);
        let snapshots = heard(&mut cluster, ann);
        assert_eq!(snapshots.len(), 99);
        assert!(snapshots.iter().all(|it| it.starts_with("presence new-")));
    }
}

#[test]
fn the_pause_counts_from_the_write_of_the_ack() {
    let (mut cluster, ann, _) = two(1);
    cluster.stall(ann);
    cluster.message(ann, &subscribe("new", "1"));
    cluster.wait(1_000);
    cluster.unstall(ann);
    assert_eq!(heard(&mut cluster, ann), ["ack 1"]);
    cluster.wait(PAUSE_MS - 1);
    assert_eq!(heard(&mut cluster, ann), [""; 0]);
    cluster.wait(1);
    assert_eq!(heard(&mut cluster, ann), ["presence new"]);
}

#[test]
fn what_is_sent_to_the_channel_follows_the_snapshot() {
    for shards in [1, 2] {
        let (mut cluster, ann, ben) = two(shards);
        cluster.message(ann, &subscribe("new", "1"));
        cluster.message(ben, &publish("new", 1));
        cluster.message(ben, &subscribe("new", "b"));
        cluster.message(ben, &publish("new", 2));
        cluster.message(ben, &publish("old", 3));
        assert_eq!(heard(&mut cluster, ann), ["ack 1", "message 3"]);
        cluster.wait(PAUSE_MS);
        let behind = ["presence new", "message 1", "presence new", "message 2"];
        assert_eq!(heard(&mut cluster, ann), behind);
        cluster.message(ben, &publish("new", 4));
        assert_eq!(heard(&mut cluster, ann), ["message 4"]);
    }
}

#[test]
fn a_direct_message_waits_for_the_joins_before_it_only() {
    let (mut cluster, ann, ben) = two(1);
    let direct = |data| format!(r#"{{"type":"send","to":"ann","data":{data}}}"#);
    cluster.message(ann, &subscribe("new-0", "0"));
    // A join every 10 ms: there is always one under way.
    for at in 1..10 {
        cluster.message(ben, &direct(at));
        cluster.wait(10);
        cluster.message(ann, &subscribe(&format!("new-{at}"), "1"));
        let words = heard(&mut cluster, ann);
        let directs = words.iter().filter(|it| it.starts_with("direct")).count();
        assert_eq!(directs, usize::from(at > 1), "{words:?}");
    }
    cluster.wait(100);
    let words = heard(&mut cluster, ann);
    let place = |word: &str| words.iter().position(|it| it == word);
    assert!(place("presence new-8") < place("direct 9"), "{words:?}");
    assert!(
        cluster.shards[0]
            .connections
            .session(ann.id)
            .unwrap()
            .joining
            .is_none()
    );
}

#[test]
fn a_close_frame_does_not_stand_behind_joins() {
    let (mut cluster, ann, _) = two(1);
    let joins: Vec<String> = (0..67)
        .map(|at| subscribe(&format!("new-{at}"), "1"))
        .collect();
    send_all(&mut cluster, ann, &joins);
    cluster.input(0, Input::Rights(Arc::new(Rights::new(2))));
    cluster.run();
    let words = heard(&mut cluster, ann);
    assert_eq!(words.len(), 68);
    assert_eq!(words.last().map(String::as_str), Some("close 4001"));
    cluster.wait(100);
    assert_eq!(heard(&mut cluster, ann), [""; 0]);
}

#[test]
fn who_unsubscribes_before_the_snapshot_gets_nothing_of_the_channel() {
    for shards in [1, 2] {
        let (mut cluster, ann, ben) = two(shards);
        cluster.message(ann, &subscribe("new", "1"));
        cluster.message(ben, &publish("new", 1));
        cluster.message(ben, r#"{"type":"send","to":"ann","data":2}"#);
        let leave = r#"{"type":"unsubscribe","channel":"new","requestId":"2"}"#;
        cluster.message(ann, leave);
        cluster.wait(100);
        let mut words = heard(&mut cluster, ann);
        words.sort();
        assert_eq!(words, ["ack 1", "ack 2", "direct 2"]);
        cluster.message(ann, &subscribe("new", "3"));
        cluster.wait(100);
        assert_eq!(heard(&mut cluster, ann), ["ack 3", "presence new"]);
    }
}

#[test]
fn a_repeated_subscribe_waits_for_the_snapshot_before_it() {
    for shards in [1, 2] {
        let (mut cluster, ann, _) = two(shards);
        send_all(
            &mut cluster,
            ann,
            &[subscribe("new", "1"), subscribe("new", "2")],
        );
        cluster.message(ann, r#"{"type":"ping","requestId":"p"}"#);
        assert_eq!(heard(&mut cluster, ann), ["ack 1"]);
        cluster.wait(PAUSE_MS);
        assert_eq!(
            heard(&mut cluster, ann),
            ["presence new", "ack 2", "pong p"]
        );
        cluster.wait(PAUSE_MS);
        assert_eq!(heard(&mut cluster, ann), ["presence new"]);
        assert!(cluster.shards[0].wants_input(ann.id));
    }
}

/// What the server keeps for a connection: answers that wait, and snapshots.
fn kept(cluster: &Cluster, client: Client) -> usize {
    let shard = &cluster.shards[client.shard];
    let session = shard.connections.session(client.id).unwrap();
    let snapshots = session.joining.as_ref().map_or(0, |it| it.snapshot_bytes());
    shard.outbox(client.id).unwrap().reply_bytes() + snapshots
}

#[test]
fn whoever_reads_nothing_has_one_large_snapshot_kept() {
    // A roster of 300 KB in each of eight channels.
    let mut cluster = cluster(1);
    let metadata = format!(r#"{{"n":"{}"}}"#, "x".repeat(3_900));
    for at in 0..75 {
        let (member, _) = cluster.connect(0, &token(&format!("peer-{at}"), 3_600, &metadata));
        let joins: Vec<String> = (0..8)
            .map(|at| format!(r#"{{"type":"subscribe","channel":"c-{at}"}}"#))
            .collect();
        send_all(&mut cluster, member, &joins);
    }
    for is_stalled_at_once in [true, false] {
        let ann = peer(&mut cluster, 0, "ann");
        let joins: Vec<String> = (0..8)
            .flat_map(|at| [at, at]) // each of them twice
            .map(|at| subscribe(&format!("c-{at}"), "1"))
            .collect();
        if is_stalled_at_once {
            cluster.stall(ann);
        }
        send_all(&mut cluster, ann, &joins);
        cluster.stall(ann);
        for _ in 0..10 {
            cluster.wait(PAUSE_MS);
            cluster.message(ann, r#"{"type":"ping"}"#);
            let kept = kept(&cluster, ann);
            assert!(kept < 310_000 + 64 * 1_024, "{kept} bytes are kept");
            cluster.shards[0].check_invariants();
        }
        for _ in 0..100 {
            cluster.unstall(ann);
            cluster.wait(PAUSE_MS);
        }
        let words = heard(&mut cluster, ann);
        let count = |word: &str| words.iter().filter(|it| it.starts_with(word)).count();
        assert_eq!((count("ack 1"), count("presence")), (16, 16));
        cluster.end(ann);
    }
}

/// So many members of "hall".
fn hall(shards: u16, members: usize) -> (Cluster, Vec<Client>) {
    let mut cluster = cluster(shards);
    let clients: Vec<Client> = (0..members)
        .map(|at| {
            let client = peer(
                &mut cluster,
                at % usize::from(shards),
                &format!("peer-{at}"),
            );
            cluster.message(client, r#"{"type":"subscribe","channel":"hall"}"#);
            cluster.wait(200);
            client
        })
        .collect();
    for client in &clients {
        cluster.take(*client);
    }
    (cluster, clients)
}

#[test]
fn a_large_channels_changes_are_told_at_intervals_and_undone_ones_not_at_all() {
    for shards in [1, 2] {
        let mut cluster = cluster(shards);
        for shard in &mut cluster.shards {
            let pace = Pace {
                at_once_max: 2,
                peers_per_ms: 1,
                interval_ms_max: 50,
            };
            shard.tune(Tuning {
                pace,
                ..Tuning::default()
            });
        }
        let (ann, ben) = (peer(&mut cluster, 0, "ann"), peer(&mut cluster, 0, "ben"));
        let others: Vec<Client> = (0..30)
            .map(|at| peer(&mut cluster, 0, &format!("peer-{at}")))
            .collect();
        for client in [ann, ben].iter().chain(&others) {
            cluster.message(*client, r#"{"type":"subscribe","channel":"hall"}"#);
            cluster.wait(200);
        }
        let leave = r#"{"type":"unsubscribe","channel":"hall","requestId":"l"}"#;
        cluster.take(ann);
        cluster.take(ben);
        // The first after a quiet time at once.
        cluster.message(ben, leave);
        assert_eq!(heard(&mut cluster, ben), ["ack l"]);
        assert_eq!(heard(&mut cluster, ann), ["presence hall"]);
        // Then none for 32 ms; a join waits for it.
        cluster.message(ben, &subscribe("hall", "j"));
        cluster.message(others[0], leave);
        cluster.wait(31);
        assert_eq!(heard(&mut cluster, ben), [""; 0]);
        assert_eq!(heard(&mut cluster, ann), [""; 0]);
        cluster.wait(1);
        assert_eq!(heard(&mut cluster, ben), ["ack j"]);
        let told = cluster.messages(ann);
        assert_eq!(told.len(), 1, "{told:?}");
        let left = told[0].split_once(r#""left":"#).unwrap();
        assert!(
            left.0.contains("ben") && left.1.contains("peer-0"),
            "{told:?}"
        );
        // What is undone is not told, and those who come are acked.
        cluster.message(ben, leave);
        cluster.message(ben, &subscribe("hall", "again"));
        cluster.message(ben, leave);
        cluster.message(ben, &subscribe("hall", "again"));
        cluster.wait(100);
        let mut words = heard(&mut cluster, ben);
        words.retain(|it| it.starts_with("ack a"));
        assert_eq!(words.len(), 2);
        assert_eq!(heard(&mut cluster, ann), [""; 0]);
    }
}

#[test]
fn only_who_is_not_announced_yet_has_its_publication_told_behind_its_join() {
    let (mut cluster, members) = hall(2, 260);
    let ann = members[0];
    let [ben, cleo, dora] =
        [(0, "ben"), (1, "cleo"), (0, "dora")].map(|(at, sub)| peer(&mut cluster, at, sub));
    cluster.message(dora, &subscribe("hall", "1"));
    assert_eq!(heard(&mut cluster, ann), ["presence hall"]);
    cluster.message(ben, &subscribe("hall", "1"));
    cluster.message(cleo, &publish("hall", 1));
    assert_eq!(heard(&mut cluster, ann), ["message 1"]);
    cluster.message(ben, &publish("hall", 2));
    assert_eq!(heard(&mut cluster, ann), ["presence hall", "message 2"]);
}

#[test]
fn a_snapshot_shows_what_was_announced_and_changes_follow() {
    let (mut cluster, members) = hall(2, 260);
    let roster = |cluster: &mut Cluster, client| {
        let mut roster = std::collections::BTreeSet::new();
        for text in cluster.messages(client) {
            let it: serde_json::Value = serde_json::from_str(&text).unwrap();
            let ids = |list: &str| -> Vec<String> {
                let list = it[list].as_array().into_iter().flatten();
                list.map(|peer| peer["peerId"].as_str().unwrap().to_owned())
                    .collect()
            };
            for left in ids("left") {
                assert!(roster.remove(&left), "{left} left and was not there");
            }
            for joined in ids("joined") {
                assert!(roster.insert(joined), "joined twice");
            }
        }
        roster
    };
    let mut late: Vec<Client> = Vec::new();
    for (at, member) in members.iter().take(20).enumerate() {
        let client = peer(&mut cluster, at % 2, &format!("late-{at}"));
        cluster.message(client, &subscribe("hall", "1"));
        cluster.message(*member, r#"{"type":"unsubscribe","channel":"hall"}"#);
        cluster.wait(at as u64 % 3);
        late.push(client);
    }
    cluster.wait(100);
    cluster.wait(100);
    for (at, client) in late.iter().enumerate() {
        let seen = roster(&mut cluster, *client);
        assert_eq!(seen.len(), 240 + 19, "of late-{at}");
        assert!(!seen.contains(&format!("late-{at}")) && !seen.contains("peer-3"));
    }
    for shard in &cluster.shards {
        shard.check_invariants();
    }
}

#[test]
fn one_roster_is_kept_for_all_whose_queues_have_it() {
    let mut cluster = Cluster::new(1, rights(app()));
    let metadata = format!(r#"{{"x":"{}"}}"#, "m".repeat(3_000));
    for number in 0..20 {
        let token = token(&format!("member-{number}"), 60, &metadata);
        let (member, _) = cluster.connect(0, &token);
        cluster.message(member, r#"{"type":"subscribe","channel":"room"}"#);
    }
    // Tabs of one peer, of which nobody else is told.
    let tabs: Vec<_> = (0..30).map(|_| peer(&mut cluster, 0, "tabs")).collect();
    for tab in tabs {
        cluster.deafen(tab);
        // Without an answer that the roster would wait for.
        cluster.message(tab, r#"{"type":"subscribe","channel":"room"}"#);
    }
    let connections = cluster.shards[0].connections.iter();
    let frames: Vec<_> = connections.flat_map(|it| it.outbox.shared()).collect();
    assert!(frames.len() >= 29, "{} snapshots are shared", frames.len());
    let distinct: BTreeSet<_> = frames.iter().map(|it| it.as_ptr()).collect();
    // The first tab is one whom all others are told of.
    assert!(distinct.len() <= 2, "{} rosters are kept", distinct.len());
}
