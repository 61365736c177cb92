//! Portions: strangers are served in between, and every promise is kept all the same.

use std::sync::Arc;

use crate::domain::rights::{App, Rights};
use crate::shard::input::Input;
use crate::shard::testing::{Client, Cluster, app, peer, rights, token};

fn subscribed(cluster: &mut Cluster, shard: usize, id: &str, channels: usize) -> Client {
    let client = peer(cluster, shard, id);
    for channel in 0..channels {
        let join = format!(r#"{{"type":"subscribe","channel":"room/{channel}"}}"#);
        cluster.message(client, &join);
    }
    client
}

/// How many of the clients still have a session.
fn alive(cluster: &Cluster, clients: &[Client]) -> usize {
    let is_alive = |it: &&Client| {
        cluster.shards[it.shard]
            .connections
            .cost_of_end(it.id)
            .is_some()
    };
    clients.iter().filter(is_alive).count()
}

/// Lets turns of one shard pass until nothing is left. Returns how many sessions each of them
/// ended.
fn ended_by_turn(cluster: &mut Cluster, shard: usize, clients: &[Client]) -> Vec<usize> {
    let mut ended = Vec::new();
    while cluster.shards[shard].portions.any() {
        let before = alive(cluster, clients);
        cluster.turn(shard);
        ended.push(before - alive(cluster, clients));
    }
    cluster.run();
    ended
}

const KICK: &[u8] =
    b"DELETE /v1/peers/ann HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_live_full\r\n\r\n";

#[test]
fn a_kick_is_answered_when_all_are_gone_and_nobody_waits_for_it() {
    for (shards, channels) in [(1, 1), (1, 20), (3, 2)] {
        let mut cluster = Cluster::new(shards, rights(app()));
        for shard in &mut cluster.shards {
            shard.limit_portions(50);
        }
        let bob = subscribed(&mut cluster, 0, "bob", 1);
        let tabs: Vec<Client> = (0..40)
            .map(|at| subscribed(&mut cluster, at % usize::from(shards), "ann", channels))
            .collect();
        cluster.wait(1_000);
        cluster.take(bob);
        let backend = cluster.accept(0);
        cluster.feed(backend, KICK);
        let mut turns = 0;
        loop {
            let before = alive(&cluster, &tabs);
            for shard in 0..usize::from(shards) {
                cluster.turn(shard);
            }
            let ended = before - alive(&cluster, &tabs);
            // A shard that hears of the kick behind its turn is already in the next one.
            let turns_each = if shards == 1 { 1 } else { 2 };
            assert!(ended <= usize::from(shards) * turns_each * 6, "{ended}");
            turns += 1;
            if cluster.has_received(backend) {
                break;
            }
            assert!(turns < 200);
        }
        // At the moment of the answer nothing of the peer is left anywhere.
        assert!(turns > 2, "{turns}");
        assert_eq!(alive(&cluster, &tabs), 0);
        for shard in &cluster.shards {
            let mut known = shard.peers.registry.iter();
            assert!(known.all(|(peer, _)| peer == "bob"));
            let channels = shard.channels.iter();
            let mut rosters = channels.filter_map(|(_, it)| it.owned.as_ref());
            assert!(rosters.all(|owned| !owned.roster().contains("ann")));
        }
        cluster.run();
        let answers = cluster.responses(backend);
        assert_eq!(answers[0].body, r#"{"peerId":"ann","closed":40}"#);
        for tab in tabs {
            assert_eq!(cluster.messages(tab).last().unwrap(), "close 4020");
        }
        cluster.wait(1_000);
        let told = cluster.messages(bob);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(r#""left":[{"peerId":"ann""#));
    }
}

#[test]
fn a_turn_ends_a_hundred_sessions_or_ten_with_a_hundred_channels() {
    for (tabs, channels, per_turn) in [(400, 1, 114), (40, 100, 10)] {
        let mut cluster = Cluster::new(1, rights(app()));
        let tabs: Vec<Client> = (0..tabs)
            .map(|at| subscribed(&mut cluster, 0, &format!("{at}"), channels))
            .collect();
        cluster.wait(1_000);
        cluster.input(0, Input::EndOfTurn);
        let revoked = Input::Rights(Arc::new(Rights::new(2)));
        cluster.input(0, revoked);
        assert!(alive(&cluster, &tabs) >= tabs.len() - per_turn);
        let ended = ended_by_turn(&mut cluster, 0, &tabs);
        assert!(ended.iter().all(|ended| *ended <= per_turn), "{ended:?}");
        assert_eq!(alive(&cluster, &tabs), 0);
        for tab in tabs {
            assert_eq!(cluster.messages(tab).last().unwrap(), "close 4001");
        }
    }
}

/// No command is judged by rights that have been replaced, whoever has been looked at.
#[test]
fn new_rights_hold_at_once_for_every_command() {
    let mut cluster = Cluster::new(1, rights(app()));
    let clients: Vec<Client> = (0..20)
        .map(|at| peer(&mut cluster, 0, &format!("{at}")))
        .collect();
    cluster.shards[0].limit_portions(1);
    let publish = r#"{"type":"publish","channel":"a","data":1,"requestId":"r"}"#;
    let suspended = || {
        rights(App {
            suspended: true,
            ..app()
        })
    };
    cluster.input(0, Input::EndOfTurn);
    cluster.input(0, Input::Rights(Arc::new(suspended())));
    // Back again before the walk is over, and suspended once more.
    cluster.input(0, Input::Rights(Arc::new(rights(app()))));
    let last = clients[19];
    cluster.feed(last, &Cluster::frame(publish));
    cluster.input(0, Input::Rights(Arc::new(suspended())));
    let before_last = clients[18];
    cluster.feed(before_last, &Cluster::frame(publish));
    assert!(cluster.shards[0].is_switching_rights());
    assert!(alive(&cluster, &clients) >= 17);
    cluster.run();
    assert_eq!(
        cluster.messages(last),
        [r#"{"type":"ack","requestId":"r"}"#, "close 4012"]
    );
    assert_eq!(cluster.messages(before_last), ["close 4012"]);
    assert_eq!(alive(&cluster, &clients), 0);
    assert!(!cluster.shards[0].is_switching_rights());
}

#[test]
fn a_drain_in_portions_is_even_and_said_once() {
    for (shards, portion) in [(1, 1), (2, 30), (1, 1_024)] {
        let mut cluster = Cluster::new(shards, rights(app()));
        let count = 40;
        let clients: Vec<Client> = (0..count)
            .map(|at| peer(&mut cluster, at % usize::from(shards), &format!("{at}")))
            .collect();
        for shard in 0..usize::from(shards) {
            cluster.shards[shard].limit_portions(portion);
            let drain = Input::Drain {
                window_ms: 4_000,
                retry_after_ms: 500,
            };
            cluster.input(shard, drain);
        }
        cluster.run();
        for client in &clients {
            let told = cluster.messages(*client);
            assert_eq!(told, [r#"{"type":"going_away","retryAfterMs":500}"#]);
        }
        for tenth in 1..=10 {
            cluster.wait(400);
            let expected = count - count * tenth / 10;
            let alive = alive(&cluster, &clients);
            assert!(
                alive.abs_diff(expected) <= 1,
                "{alive} instead of {expected}"
            );
        }
        for client in &clients {
            assert_eq!(cluster.messages(*client), ["close 1001"]);
        }
    }
}

#[test]
fn tokens_that_expire_in_one_second_end_over_many_turns() {
    let mut cluster = Cluster::new(1, rights(app()));
    let clients: Vec<Client> = (0..300)
        .map(|at| {
            let credential = token(&format!("{at}"), 60, "{}");
            cluster.connect(0, &credential).0
        })
        .collect();
    let stranger = peer(&mut cluster, 0, "zoe");
    cluster.input(0, Input::EndOfTurn);
    cluster.now.mono_ms += 59_900;
    cluster.now.unix_ms += 59_900;
    cluster.feed(stranger, &Cluster::frame(r#"{"type":"ping"}"#));
    cluster.input(0, Input::Time);
    let first = clients.len() - alive(&cluster, &clients);
    assert!((1..=128).contains(&first), "{first} in one turn");
    let ended = ended_by_turn(&mut cluster, 0, &clients);
    assert!(ended.iter().all(|ended| *ended <= 128), "{ended:?}");
    assert_eq!(alive(&cluster, &clients), 0);
    for client in clients {
        assert_eq!(cluster.messages(client), ["close 4002"]);
    }
    assert_eq!(cluster.messages(stranger), [r#"{"type":"pong"}"#]);
}
