//! Presence: peers, not connections, announced before they can be heard, the same on every shard.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::on_shards;
use crate::support::server::Server;
use crate::support::setup::Setup;

const PEERS: usize = 8;

fn ids(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("p{number}")).collect()
}

/// Peers p0… in a channel, each with all that it was told about the others read.
fn gathered(server: &Server, channel: &str) -> Vec<Client> {
    let mut peers: Vec<Client> = Vec::new();
    for (number, id) in ids(0..PEERS).into_iter().enumerate() {
        let mut peer = server.peer(&id);
        assert_eq!(peer.subscribe_for_presence(channel), ids(0..number));
        for other in &mut peers {
            assert_eq!(other.presence(channel), (vec![id.clone()], vec![]));
        }
        peers.push(peer);
    }
    peers
}

#[test]
fn everybody_hears_of_joins_and_leaves() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut peers = gathered(&server, "a");
        // By asking, by closing, and by vanishing.
        let mut asking = peers.pop().unwrap();
        asking.ask(json!({"type": "unsubscribe", "channel": "a"}));
        for peer in &mut peers {
            assert_eq!(peer.presence("a"), (vec![], vec!["p7".into()]));
        }
        peers.pop().unwrap().close(Some(1000));
        for peer in &mut peers {
            assert_eq!(peer.presence("a"), (vec![], vec!["p6".into()]));
        }
        drop(peers.pop());
        for peer in &mut peers {
            assert_eq!(peer.presence("a"), (vec![], vec!["p5".into()]));
        }
        assert_eq!(asking.subscribe_for_presence("a"), ids(0..5));
        for peer in &mut peers {
            assert_eq!(peer.presence("a"), (vec!["p7".into()], vec![]));
        }
        peers.iter_mut().for_each(Client::expect_nothing_queued);
        asking.expect_nothing_queued();
    });
}

#[test]
fn a_peer_with_three_tabs_joins_once_and_leaves_with_the_last() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut watcher = server.peer("watcher");
        watcher.subscribe_for_presence("a");
        let mut tabs: Vec<Client> = (0..3).map(|_| server.peer("tabs")).collect();
        for tab in &mut tabs {
            assert_eq!(tab.subscribe_for_presence("a"), ["watcher"], "not oneself");
        }
        assert_eq!(watcher.presence("a"), (vec!["tabs".into()], vec![]));
        tabs.pop().unwrap().close(None);
        let mut second = tabs.pop().unwrap();
        second.ask(json!({"type": "unsubscribe", "channel": "a"}));
        // The channel's own order shows that nothing was said about the peer until now.
        second.publish("a", json!("left"));
        assert!(watcher.next().contains(r#""data":"left""#));
        assert!(tabs[0].next().contains(r#""data":"left""#));
        drop(tabs);
        assert_eq!(watcher.presence("a"), (vec![], vec!["tabs".into()]));
    });
}

#[test]
fn a_snapshot_is_sent_again_in_full() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut alone = server.peer("alone");
        for _ in 0..2 {
            assert_eq!(alone.subscribe_for_presence("empty"), Vec::<String>::new());
        }
        alone.send(r#"{"type":"subscribe","channel":"empty"}"#);
        alone.expect(r#"{"type":"presence","channel":"empty","joined":[],"left":[]}"#);
        let mut peers = gathered(&server, "a");
        for round in 0..2 {
            let joined = peers[0].subscribe_for_presence("a");
            assert_eq!(joined, ids(1..PEERS), "round {round}");
        }
        peers[1..]
            .iter_mut()
            .for_each(Client::expect_nothing_queued);
    });
}

#[test]
fn metadata_is_that_of_the_first_connection_still_there() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let tab =
            |name: &str| server.with_claims(json!({"sub": "tabs", "peerMetadata": {"name": name}}));
        let entry = |name: &str| json!([{"peerId": "tabs", "metadata": {"name": name}}]);
        let mut watcher = server.peer("watcher");
        watcher.subscribe_for_presence("a");
        let (mut first, mut second) = (tab("first"), tab("second"));
        first.subscribe_for_presence("a");
        let joined = r#"[{"peerId":"tabs","metadata":{"name":"first"}}]"#;
        watcher.expect(&format!(
            r#"{{"type":"presence","channel":"a","joined":{joined},"left":[]}}"#
        ));
        second.subscribe_for_presence("a");
        let mut snapshot = |expected: Value| {
            watcher.subscribe("a");
            let event: Value = serde_json::from_str(&watcher.next()).unwrap();
            assert_eq!(event["joined"], expected);
        };
        snapshot(entry("first"));
        first.ask(json!({"type": "unsubscribe", "channel": "a"}));
        snapshot(entry("second"));
        first.subscribe_for_presence("a");
        snapshot(entry("second"));
        drop((first, second));
        let (joined, left) = watcher.presence("a");
        assert_eq!((joined, left), (vec![], vec!["tabs".into()]));
    });
}

#[test]
fn without_the_action_one_is_listed_and_told_nothing() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut quiet = server.quiet_peer("quiet");
        quiet.subscribe("a");
        let mut watcher = server.peer("watcher");
        assert_eq!(watcher.subscribe_for_presence("a"), ["quiet"]);
        watcher.publish("a", json!(1));
        // The join of the watcher comes before its message in the channel's order.
        quiet.expect(r#"{"type":"message","channel":"a","from":"watcher","data":1}"#);
        let mut other = server.quiet_peer("other");
        other.subscribe("a");
        assert_eq!(watcher.presence("a"), (vec!["other".into()], vec![]));
        quiet.expect_nothing_queued();
    });
}

#[test]
fn a_peer_is_announced_before_anything_of_it_is_heard() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut members: Vec<Client> = (0..4)
            .map(|number| server.peer(&format!("m{number}")))
            .collect();
        for member in &mut members {
            member.subscribe("a");
        }
        for round in 0..10 {
            let id = format!("new{round}");
            let mut joiner = server.peer(&id);
            joiner.subscribe("a");
            for to in ["m0", "m1", "m2", "m3"] {
                joiner.send(json!({"type": "send", "to": to, "data": 0}).to_string());
            }
            for member in &mut members {
                let mut announced = false;
                loop {
                    let event: Value = serde_json::from_str(&member.next()).unwrap();
                    let joined = event["joined"].to_string();
                    announced |= joined.contains(&format!("\"{id}\""));
                    if event["type"] == "direct" && event["from"] == id.as_str() {
                        assert!(announced, "{id} was heard before it was announced");
                        break;
                    }
                }
            }
        }
    });
}

#[test]
fn channels_of_two_apps_are_two() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut ours = server.peer("one");
        ours.subscribe_for_presence("a");
        let mut theirs = server.connect("?key=pk_live_b");
        assert_eq!(theirs.subscribe_for_presence("a"), Vec::<String>::new());
        theirs.publish("a", json!(1));
        let send = json!({"type": "send", "to": "one", "data": 1});
        theirs.ask_refused(send, "peer_not_found");
        ours.expect_nothing_queued();
    });
}

#[test]
fn a_large_roster_is_one_frame_without_its_later_metadata() {
    const MEMBERS: usize = 300;
    // On a busy machine the last of them comes minutes after the first, which answers no pings.
    let server = Setup::new(2).set("limits.drop_after_ms", 3_600_000).start();
    let metadata = json!({"m": "x".repeat(4_000)});
    let mut members: Vec<Client> = Vec::new();
    for number in 0..MEMBERS {
        let mut member = server.with_claims(json!({
            "sub": format!("m{number:03}"), "permissions": ["subscribe"], "peerMetadata": metadata,
        }));
        member.subscribe("a");
        members.push(member);
    }
    let mut watcher = server.peer("watcher");
    watcher.subscribe("a");
    let snapshot = watcher.next();
    assert!(
        (900_000..=1_000_000).contains(&snapshot.len()),
        "{} bytes",
        snapshot.len()
    );
    let snapshot: Value = serde_json::from_str(&snapshot).unwrap();
    let joined = snapshot["joined"].as_array().unwrap();
    assert_eq!(joined.len(), MEMBERS);
    let with = joined
        .iter()
        .take_while(|entry| entry["metadata"] == metadata)
        .count();
    assert!(
        (200..MEMBERS).contains(&with),
        "{with} entries with metadata"
    );
    assert!(
        joined[with..]
            .iter()
            .all(|entry| entry.get("metadata").is_none())
    );
    watcher.expect_nothing_queued();
}
