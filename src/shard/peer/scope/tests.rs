//! The rule for scopes against its wording, and what it costs.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::LOOK_UPS;
use crate::domain::rights::App;
use crate::shard::testing::{Client, Cluster, app, peer, rights};

fn scoped() -> crate::domain::rights::Rights {
    rights(App {
        direct_needs_shared_channel: true,
        ..app()
    })
}

/// A tab as its client knows it.
struct Tab {
    client: Client,
    peer: usize,
    channels: BTreeSet<usize>,
}

fn command(cluster: &mut Cluster, client: Client, kind: &str, channel: usize) {
    let command = json!({ "type": kind, "channel": format!("room-{channel}") });
    cluster.message(client, &command.to_string());
}

/// Whether the message is acked, and nobody gets what was refused.
fn is_delivered(cluster: &mut Cluster, from: Client, to: usize) -> bool {
    let _ = cluster.messages(from);
    let to = format!("peer {to}");
    let send = json!({ "type": "send", "to": to, "data": 1, "requestId": "r" });
    cluster.message(from, &send.to_string());
    let answers = cluster.messages(from);
    let answers = answers.iter().filter(|it| it.contains(r#""requestId""#));
    let answers: Vec<Value> = answers
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(answers.len(), 1);
    match answers[0]["type"].as_str() {
        Some("ack") => true,
        _ => {
            assert_eq!(answers[0]["code"], "peer_not_found");
            false
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// "Sender and receiver must be in a common channel": the sending connection, and any other
    /// connection of the receiving peer.
    #[test]
    fn a_message_reaches_who_shares_a_channel_and_nobody_else(
        shards in 1_u16..5,
        homes in prop::collection::vec((0_usize..4, 0_usize..4), 2..9),
        steps in prop::collection::vec((0_usize..9, 0_usize..6, any::<bool>()), 1..40),
        sends in prop::collection::vec((0_usize..9, 0_usize..5), 1..12),
    ) {
        let mut cluster = Cluster::new(shards, scoped());
        let mut tabs: Vec<Tab> = Vec::new();
        for (home, number) in homes {
            let home = home % usize::from(shards);
            let client = peer(&mut cluster, home, &format!("peer {number}"));
            tabs.push(Tab { client, peer: number, channels: BTreeSet::new() });
        }
        for (at, channel, subscribe) in steps {
            let at = at % tabs.len();
            let tab = &mut tabs[at];
            let kind = if subscribe { "subscribe" } else { "unsubscribe" };
            command(&mut cluster, tab.client, kind, channel);
            match subscribe {
                true => tab.channels.insert(channel),
                false => tab.channels.remove(&channel),
            };
        }
        cluster.wait(1_000);
        for (from, to) in sends {
            let from = from % tabs.len();
            let shares = |tab: &Tab| !tab.channels.is_disjoint(&tabs[from].channels);
            let mut others = tabs.iter().enumerate().filter(|(at, _)| *at != from);
            let expected = others.any(|(_, it)| it.peer == to && shares(it));
            prop_assert_eq!(is_delivered(&mut cluster, tabs[from].client, to), expected);
        }
    }
}

#[test]
fn the_receivers_tabs_cost_nothing() {
    let mut cluster = Cluster::new(2, scoped());
    for tab in 0..200 {
        let client = peer(&mut cluster, tab % 2, "peer 1");
        for channel in 0..20 {
            command(&mut cluster, client, "subscribe", 1_000 + channel);
        }
    }
    let sender = peer(&mut cluster, 0, "peer 0");
    for channel in 0..100 {
        command(&mut cluster, sender, "subscribe", channel);
    }
    cluster.wait(1_000);
    let before = LOOK_UPS.get();
    assert!(!is_delivered(&mut cluster, sender, 1));
    assert_eq!(
        LOOK_UPS.get() - before,
        100,
        "one for each of the sender's channels"
    );
}

/// The first message asks an owner on another shard, the second finds a common channel at home.
#[test]
fn messages_of_one_sender_keep_their_order() {
    let mut cluster = Cluster::new(2, scoped());
    let sender = peer(&mut cluster, 0, "peer 0");
    let receiver = peer(&mut cluster, 0, "peer 1");
    let channel_of = |cluster: &Cluster, owner: usize| {
        (0..).find(|channel| {
            let shard = &cluster.shards[owner];
            let name = format!("room-{channel}");
            let hash = shard
                .context
                .placement
                .channel_hash(crate::domain::app_id::AppTag::of("app_test"), &name);
            shard.context.placement.owner(hash).shard().index() == owner
        })
    };
    let (here, there) = (
        channel_of(&cluster, 0).unwrap(),
        channel_of(&cluster, 1).unwrap(),
    );
    for client in [sender, receiver] {
        command(&mut cluster, client, "subscribe", there);
    }
    command(&mut cluster, receiver, "subscribe", here);
    cluster.wait(1_000);
    let _ = cluster.messages(receiver);
    // Neither shard hears of the other until all of this was read.
    let mut bytes = Vec::new();
    for text in [
        json!({ "type": "send", "to": "peer 1", "data": 1 }),
        json!({ "type": "subscribe", "channel": format!("room-{here}") }),
    ] {
        bytes.extend(Cluster::frame(&text.to_string()));
    }
    cluster.feed(sender, &bytes);
    cluster.input(0, crate::shard::input::Input::EndOfTurn);
    cluster.feed(
        sender,
        &Cluster::frame(&json!({ "type": "send", "to": "peer 1", "data": 2 }).to_string()),
    );
    cluster.run();
    let directs = cluster.messages(receiver);
    let directs = directs.iter().filter(|it| it.contains(r#""direct""#));
    let data: Vec<Value> = directs
        .map(|it| serde_json::from_str::<Value>(it).unwrap()["data"].clone())
        .collect();
    assert_eq!(data, [1, 2]);
}
