//! Storms, counted: what many do at once costs bytes and frames that do not depend on the clock.

use std::collections::BTreeSet;

use super::*;

/// Joins that come in one millisecond.
const JOINS_PER_MS: usize = 20;

fn name(number: usize) -> String {
    format!("peer-{number:05}")
}

/// So many peers join one channel, each in a turn of its own. Returns the bytes and the presence
/// frames that each of them was sent on average.
#[track_caller]
fn storm(count: usize) -> (usize, f64) {
    let mut cluster = cluster(1);
    let clients: Vec<Client> = (0..count)
        .map(|it| peer(&mut cluster, 0, &name(it)))
        .collect();
    for client in &clients {
        cluster.take(*client);
    }
    let subscribe = Cluster::frame(r#"{"type":"subscribe","channel":"storm"}"#);
    for (at, client) in clients.iter().enumerate() {
        cluster.feed(*client, &subscribe);
        cluster.turn(0);
        if at % JOINS_PER_MS == 0 {
            cluster.wait(1);
        }
    }
    cluster.wait(1_000);
    let (mut bytes, mut frames) = (0, 0);
    for (at, client) in clients.iter().enumerate() {
        let mut told = BTreeSet::new();
        for text in cluster.messages(*client) {
            let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(frame["left"].as_array().map(Vec::len), Some(0), "{text}");
            for entry in frame["joined"].as_array().unwrap() {
                let id = entry["peerId"].as_str().unwrap().to_owned();
                assert!(told.insert(id), "told twice: {entry}");
            }
            bytes += text.len();
            frames += 1;
        }
        let others: BTreeSet<_> = (0..count).filter(|it| *it != at).map(name).collect();
        assert_eq!(told, others);
    }
    (bytes / count, frames as f64 / count as f64)
}

#[test]
fn a_join_among_many_costs_each_name_once_and_few_frames() {
    let (bytes, frames) = storm(300);
    let (bytes_of_many, frames_of_many) = storm(1_200);
    // Four times as many names, each told once, and no more frames than before: changes of a large
    // channel are told together.
    assert!(bytes_of_many <= 4 * bytes, "{bytes}, then {bytes_of_many}");
    assert!(frames_of_many <= frames, "{frames}, then {frames_of_many}");
}

#[test]
fn nothing_is_queued_for_peers_that_have_reset() {
    let mut cluster = cluster(1);
    let clients: Vec<Client> = (0..10).map(|it| peer(&mut cluster, 0, &name(it))).collect();
    for client in &clients {
        cluster.message(*client, r#"{"type":"subscribe","channel":"room"}"#);
    }
    cluster.wait(100);
    for client in &clients {
        cluster.take(*client);
    }
    let (gone, stays) = clients.split_at(9);
    for client in gone {
        let connection = client.id;
        cluster.input(0, Input::Unreachable { connection });
    }
    // The last words of the first are heard, by whoever is there.
    cluster.message(
        gone[0],
        r#"{"type":"publish","channel":"room","data":"bye"}"#,
    );
    for client in gone {
        assert!(!cluster.has_received(*client));
        cluster.close(*client);
    }
    cluster.run();
    let told = cluster.messages(stays[0]);
    assert!(told[0].contains(r#""data":"bye""#), "{told:?}");
    let left: usize = told[1..]
        .iter()
        .map(|it| it.matches("peerId").count())
        .sum();
    assert_eq!(left, 9);
    cluster.shards[0].check_invariants();
}

#[test]
fn a_peer_that_has_reset_leaves_its_place_to_the_connection_with_which_it_comes_back() {
    let mut cluster = Cluster::new(
        1,
        rights(App {
            connections_max: Some(1),
            overages: false,
            ..app()
        }),
    );
    let (first, welcome) = cluster.connect(0, "key=pk_live_test");
    assert!(welcome.contains("welcome"), "{welcome}");
    let (_, refused) = cluster.connect(0, "key=pk_live_test");
    assert_eq!(refused, "close 4010");
    let connection = first.id;
    // Twice, as when a socket is told of twice: it had one place only.
    for _ in 0..2 {
        cluster.input(0, Input::Unreachable { connection });
    }
    let (_, welcome) = cluster.connect(0, "key=pk_live_test");
    assert!(welcome.contains("welcome"), "{welcome}");
    cluster.close(first);
    cluster.run();
    let (_, refused) = cluster.connect(0, "key=pk_live_test");
    assert_eq!(refused, "close 4010");
    cluster.shards[0].check_invariants();
}
