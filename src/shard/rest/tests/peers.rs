//! Lists of peers: pages, their bounds, and what is kept of those that nobody reads.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{cluster, outcome, request, with_key};
use crate::domain::peer::SharedChannel;
use crate::limits::{PEERS_BYTES_MAX, REST_UNREAD_BYTES_PER_KEY_MAX};
use crate::shard::frame::Frame;
use crate::shard::mesh_message::PeersPage;
use crate::shard::state::Shard;
use crate::shard::testing::{Client, Cluster};

const PATH: &str = "/v1/channels/room/peers";

/// A peer in `room` with as many bytes of metadata.
fn join(cluster: &mut Cluster, shard: usize, id: &str, metadata_bytes: usize) -> Client {
    let body = json!({
        "peerId": id,
        // Nobody is told who comes.
        "permissions": ["subscribe"],
        "peerMetadata": { "m": "x".repeat(metadata_bytes) },
    });
    let minted = cluster.request(0, &with_key("POST", "/v1/tokens", &body.to_string()));
    let token = format!("token={}", minted.json()["token"].as_str().unwrap());
    let (client, _) = cluster.connect(shard, &token);
    cluster.message(client, r#"{"type":"subscribe","channel":"room"}"#);
    cluster.take(client);
    client
}

fn list(cluster: &mut Cluster, shard: usize, query: &str) -> Value {
    let response = cluster.request(shard, &with_key("GET", &format!("{PATH}{query}"), ""));
    assert_eq!(response.status, 200, "{}", response.body);
    assert!(response.body.len() <= PEERS_BYTES_MAX + 1_000);
    response.json()
}

fn ids(list: &Value) -> Vec<&str> {
    let peers = list["peers"].as_array().unwrap().iter();
    peers.map(|peer| peer["peerId"].as_str().unwrap()).collect()
}

#[test]
fn pages_hold_everybody_once_in_order() {
    for shard_count in [1, 3] {
        let mut cluster = cluster(shard_count);
        let all: BTreeSet<String> = (0..23).map(|at| format!("{}%", at * 7)).collect();
        for (at, id) in all.iter().enumerate() {
            join(&mut cluster, at % usize::from(shard_count), id, 1);
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        for limit in [1, 2, 22, 23, 24, 10_000] {
            let (mut seen, mut after) = (Vec::new(), String::new());
            loop {
                let page = list(&mut cluster, 0, &format!("?limit={limit}{after}"));
                let ids = ids(&page);
                assert!(ids.len() <= limit);
                seen.extend(ids.iter().map(|id| (*id).to_owned()));
                let Some(next) = page["next"].as_str() else {
                    break;
                };
                assert_eq!((ids.len(), Some(&next)), (limit, ids.last()));
                after = format!("&after={}", next.replace('%', "%25"));
            }
            assert_eq!(seen, all, "pages of {limit}");
        }
        // Behind an id that nobody has; and behind the last one.
        let page = list(&mut cluster, 0, "?after=2");
        let behind: Vec<&str> = all.iter().copied().filter(|id| *id > "2").collect();
        assert_eq!(ids(&page), behind);
        assert_eq!(ids(&list(&mut cluster, 0, "?after=~")), [""; 0]);
    }
}

#[test]
fn what_no_page_can_be() {
    let mut cluster = cluster(1);
    for query in [
        "?limit=0",
        "?limit=10001",
        "?limit=-1",
        "?limit=+1",
        "?limit=",
        "?limit=x",
        "?limit=1&limit=1",
        "?limit=99999999999999999999",
        "?after=",
        "?after=%C3%A9",
        "?after=%zz",
        "?after=a&after=a",
    ] {
        let response = cluster.request(0, &with_key("GET", &format!("{PATH}{query}"), ""));
        assert_eq!(
            outcome(&response),
            (400, "invalid_request".into()),
            "{query}"
        );
    }
    // Authentication comes first, rights before what the query says would be told anyway.
    let response = cluster.request(0, &request("GET", &format!("{PATH}?limit=0"), "", ""));
    assert_eq!(response.status, 401);
}

#[test]
fn a_list_without_a_limit_ends_at_a_megabyte() {
    for (shard_count, count) in [(1, 400), (2, 600)] {
        let mut cluster = cluster(shard_count);
        for at in 0..count {
            join(&mut cluster, 0, &format!("peer-{at:04}"), 3_900);
        }
        let (mut seen, mut query) = (Vec::new(), String::new());
        loop {
            let page = list(&mut cluster, 0, &query);
            seen.extend(ids(&page).iter().map(|id| (*id).to_owned()));
            let Some(next) = page["next"].as_str() else {
                break;
            };
            assert_eq!(page["peers"].as_array().unwrap().len(), 265);
            query = format!("?after={next}");
        }
        let all: Vec<String> = (0..count).map(|at| format!("peer-{at:04}")).collect();
        assert_eq!(seen, all);
    }
}

/// Order, and each peer's metadata, while the order is kept, not sorted for each request.
#[test]
fn large_rosters_are_listed_as_small_ones_are() {
    let mut cluster = cluster(1);
    let mut clients = Vec::new();
    for at in 0..1_200 {
        clients.push(join(
            &mut cluster,
            0,
            &format!("{}", (at * 7_919) % 1_200),
            at % 7,
        ));
    }
    // A second tab, whose metadata counts once the first is gone.
    join(&mut cluster, 0, "5", 50);
    // Joins of so large a channel are announced, and complete, at intervals.
    cluster.wait(200);
    for (at, client) in clients.into_iter().enumerate() {
        let id = (at * 7_919) % 1_200;
        if id == 5 || id.is_multiple_of(3) {
            cluster.end(client);
        }
    }
    cluster.run();
    let all = list(&mut cluster, 0, "");
    let mut expected: Vec<String> = (0..1_200)
        .filter(|id| id % 3 != 0)
        .map(|id| id.to_string())
        .collect();
    expected.sort();
    assert_eq!(ids(&all), expected);
    let five = all["peers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["peerId"] == "5");
    assert_eq!(five.unwrap()["metadata"]["m"].as_str().unwrap().len(), 50);
}

/// Clients that ask and do not read: a key's unread answers are bounded, whatever the number of
/// its connections, and it is served again when they have been read.
#[test]
fn unread_lists_are_bounded_for_each_key() {
    for shard_count in [1, 2] {
        let mut cluster = cluster(shard_count);
        for at in 0..300 {
            join(&mut cluster, 0, &format!("peer-{at:04}"), 3_900);
        }
        let deaf: Vec<Client> = (0..40)
            .map(|_| {
                let client = cluster.accept(0);
                cluster.deafen(client);
                cluster.send(client, &with_key("GET", PATH, ""));
                client
            })
            .collect();
        let shard = &cluster.shards[0];
        let unread = |client: &Client| shard.outbox(client.id).unwrap().reply_bytes();
        let total: usize = deaf.iter().map(unread).sum();
        assert!(total <= REST_UNREAD_BYTES_PER_KEY_MAX + 100_000, "{total}");
        assert!(
            total >= REST_UNREAD_BYTES_PER_KEY_MAX - PEERS_BYTES_MAX,
            "{total}"
        );
        let refused = cluster.request(0, &with_key("GET", PATH, ""));
        assert_eq!(outcome(&refused), (429, "rate_limited".into()));
        assert!(refused.head.contains("Retry-After: 1"));
        // Another key is served, and so is everything but lists.
        let other = "Authorization: Bearer sk_live_sealed\r\n";
        assert_eq!(
            cluster.request(0, &request("GET", PATH, other, "")).status,
            200
        );
        assert_eq!(
            cluster.request(0, &with_key("GET", "/v1/usage", "")).status,
            200
        );
        for (at, client) in deaf.iter().enumerate() {
            match at % 2 {
                0 => cluster.hear(*client),
                _ => cluster.close(*client),
            }
        }
        assert_eq!(cluster.request(0, &with_key("GET", PATH, "")).status, 200);
        assert!(cluster.shards[0].rest.unread.is_empty());
    }
}

#[test]
fn equal_lists_are_one_piece_of_memory() {
    let mut cluster = cluster(1);
    for at in 0..30 {
        join(&mut cluster, 0, &format!("peer-{at:04}"), 3_900);
    }
    let key = cluster.shards[0]
        .context
        .placement
        .channel_hash(crate::domain::app_id::AppTag::of("app_test"), "room");
    let channel = cluster.shards[0].channels.channel_key(
        crate::domain::app_id::AppTag::of("app_test"),
        key,
        "room",
    );
    let one = body_of(&mut cluster.shards[0], &channel);
    let other = body_of(&mut cluster.shards[0], &channel);
    assert!(std::sync::Arc::ptr_eq(&one, &other));
    join(&mut cluster, 0, "zoe", 1);
    let third = body_of(&mut cluster.shards[0], &channel);
    assert!(!std::sync::Arc::ptr_eq(&one, &third));
}

fn body_of(shard: &mut Shard, channel: &SharedChannel) -> Frame {
    let page = PeersPage {
        limit: usize::MAX,
        after: None,
    };
    shard.rest.peers_body(channel, &page, &mut shard.channels)
}
