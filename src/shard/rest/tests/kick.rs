//! Kicks: exact counts, and nothing of the peer left when the answer is there.

use std::sync::Arc;

use super::{cluster, request, with_key};
use crate::domain::rights::App;
use crate::events::author::Author;
use crate::events::kind::AuthorKind;
use crate::ids::ConnectionId;
use crate::shard::input::Input;
use crate::shard::query::{Answer, KickQuery, Query};
use crate::shard::testing::{Client, Cluster, app};

fn peer(cluster: &mut Cluster, shard: usize, peer_id: &str, channels: &[&str]) -> Client {
    let body = format!(r#"{{"peerId":"{peer_id}"}}"#);
    let minted = cluster.request(0, &with_key("POST", "/v1/tokens", &body));
    let token = minted.json()["token"].as_str().unwrap().to_owned();
    let (client, _) = cluster.connect(shard, &format!("token={token}"));
    for channel in channels {
        let text = format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#);
        cluster.message(client, &text);
    }
    cluster.take(client);
    client
}

fn kick(cluster: &mut Cluster, shard: usize, peer_id: &str) -> String {
    let path = format!("/v1/peers/{peer_id}");
    cluster.request(shard, &with_key("DELETE", &path, "")).body
}

#[test]
fn every_connection_of_the_peer_is_closed_and_no_other() {
    for shard_count in [1, 2, 4] {
        for from in 0..usize::from(shard_count) {
            let mut cluster = cluster(shard_count);
            let count = usize::from(shard_count);
            let ann: Vec<Client> = (0..5)
                .map(|at| peer(&mut cluster, at % count, "ann", &["a", "b"]))
                .collect();
            let bob = peer(&mut cluster, 0, "bob", &["a"]);
            cluster.take(bob);
            let answer = kick(&mut cluster, from, "ann");
            assert_eq!(answer, r#"{"peerId":"ann","closed":5}"#);
            for client in ann {
                assert_eq!(cluster.messages(client).last().unwrap(), "close 4020");
            }
            let told = cluster.messages(bob);
            let left = r#"{"type":"presence","channel":"a","joined":[],"left":[{"peerId":"ann"}]}"#;
            assert_eq!(told, [left]);
            let answer = kick(&mut cluster, from, "ann");
            assert_eq!(answer, r#"{"peerId":"ann","closed":0}"#);
        }
    }
}

#[test]
fn an_operator_kicks_as_a_backend_does() {
    let mut cluster = cluster(3);
    let ann: Vec<Client> = (0..4)
        .map(|at| peer(&mut cluster, at % 3, "ann", &["a"]))
        .collect();
    for (number, closed) in [(7, 4), (8, 0)] {
        let query = kick_query("ann", None);
        cluster.input(1, Input::Ask { query, number });
        cluster.run();
        let answers = std::mem::take(&mut cluster.effects(1).answers);
        assert_eq!(answers, [(number, Answer::Kicked(closed))]);
    }
    for client in ann {
        assert_eq!(cluster.messages(client).last().unwrap(), "close 4020");
    }
}

fn kick_query(peer: &str, connection: Option<ConnectionId>) -> Query {
    Query::Kick(KickQuery {
        app: Arc::new(app()),
        peer: peer.into(),
        connection,
        by: Author::local(AuthorKind::AdminToken),
    })
}

/// Asks a shard, and returns what it answers.
fn asked(cluster: &mut Cluster, shard: usize, query: Query) -> Answer {
    cluster.input(shard, Input::Ask { query, number: 5 });
    cluster.run();
    let mut answers = std::mem::take(&mut cluster.effects(shard).answers);
    assert_eq!(answers.len(), 1);
    let (number, answer) = answers.remove(0);
    assert_eq!(number, 5);
    answer
}

#[test]
fn an_operator_closes_one_connection_and_the_others_stay() {
    let mut cluster = cluster(3);
    let ann: Vec<Client> = (0..4)
        .map(|at| peer(&mut cluster, at % 3, "ann", &["a"]))
        .collect();
    let one = ann[1];
    for (peer, closed) in [("bob", 0), ("ann", 1), ("ann", 0), ("", 0)] {
        let query = kick_query(peer, Some(one.id));
        let answer = asked(&mut cluster, one.shard, query);
        assert_eq!(answer, Answer::Kicked(closed), "{peer}");
    }
    assert_eq!(cluster.messages(one).last().unwrap(), "close 4020");
    for client in [ann[0], ann[2], ann[3]] {
        let told = cluster.messages(client);
        assert!(!told.iter().any(|it| it == "close 4020"), "{told:?}");
    }
    // Whoever it is.
    let query = kick_query("", Some(ann[0].id));
    assert_eq!(asked(&mut cluster, ann[0].shard, query), Answer::Kicked(1));
    assert_eq!(
        asked(&mut cluster, 2, kick_query("ann", None)),
        Answer::Kicked(2)
    );
    // Of another app it is nobody's.
    let other = peer(&mut cluster, 0, "cid", &[]);
    let mut foreign = kick_query("cid", Some(other.id));
    if let Query::Kick(kick) = &mut foreign {
        kick.app = Arc::new(App {
            id: "app_other".into(),
            ..app()
        });
    }
    assert_eq!(asked(&mut cluster, 0, foreign), Answer::Kicked(0));
}

#[test]
fn an_operator_hears_that_a_shard_is_silent() {
    for asked in 0..2 {
        let mut cluster = cluster(2);
        for shard in 0..2 {
            peer(&mut cluster, shard, "ann", &[]);
        }
        cluster.lose(1 - asked);
        let query = kick_query("ann", None);
        cluster.input(asked, Input::Ask { query, number: 1 });
        cluster.run();
        cluster.wait(31_000);
        let answers = std::mem::take(&mut cluster.effects(asked).answers);
        assert_eq!(answers, [(1, Answer::Unanswered)]);
    }
}

#[test]
fn the_peer_is_gone_from_rosters_and_registry_before_the_answer() {
    let shard_count = 3;
    let mut cluster = cluster(shard_count);
    let channels: Vec<String> = (0..12).map(|at| format!("c{at}")).collect();
    let names: Vec<&str> = channels.iter().map(String::as_str).collect();
    for shard in 0..3 {
        peer(&mut cluster, shard, "ann", &names);
    }
    let client = cluster.accept(0);
    cluster.feed(client, &with_key("DELETE", "/v1/peers/ann", ""));
    // One turn of one shard after the other, until the answer is written: at that moment every
    // shard is asked directly what it still knows.
    for shard in (0..3).cycle() {
        cluster.turn(shard);
        if cluster.has_received(client) {
            break;
        }
    }
    assert_eq!(
        cluster.responses(client)[0].body,
        r#"{"peerId":"ann","closed":3}"#
    );
    for shard in &cluster.shards {
        let (_, owned_channels, owned_peers) = shard.counts();
        assert_eq!((owned_channels, owned_peers), (0, 0));
    }
}

#[test]
fn names_are_decoded_and_other_apps_are_left_alone() {
    let mut cluster = cluster(2);
    peer(&mut cluster, 1, "a/b c", &[]);
    let publishable = cluster.connect(0, "key=pk_live_test").0;
    assert_eq!(
        kick(&mut cluster, 0, "a%2Fb%20c"),
        r#"{"peerId":"a/b c","closed":1}"#
    );
    assert_eq!(cluster.messages(publishable), Vec::<String>::new());
    let narrow = "Authorization: Bearer sk_live_narrow\r\n";
    let response = cluster.request(0, &request("DELETE", "/v1/peers/x", narrow, ""));
    assert_eq!(response.status, 200, "any live secret key of the app may");
}
