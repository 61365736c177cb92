//! What operators see: rows that were there while it was looked at, and all that stayed there.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::domain::look::{
    ChannelOrder, ConnectionOrder, Filter, Look, ROWS_MAX, Rows, Seen, SeenRows,
};
use crate::shard::input::Input;
use crate::shard::query::{Answer, Query};
use crate::shard::testing::{Client, Cluster, app, peer, rights};

fn rows(limit: usize) -> Rows {
    Rows {
        app: app().id.tag(),
        matching: None,
        after: None,
        limit,
    }
}

fn ask(cluster: &mut Cluster, shard: usize, number: u64, look: Look) {
    let query = Query::Look(look);
    cluster.input(shard, Input::Ask { query, number });
}

/// What was answered, by number.
fn answers(cluster: &mut Cluster, shard: usize) -> BTreeMap<u64, Seen> {
    let answers = cluster.effects(shard).answers.drain(..);
    let seen = answers.map(|(number, answer)| match answer {
        Answer::Seen(seen) => (number, *seen),
        other => panic!("{other:?}"),
    });
    seen.collect()
}

/// Asks, and lets time pass until there is an answer.
fn see(cluster: &mut Cluster, shard: usize, look: Look) -> Seen {
    ask(cluster, shard, 1, look);
    for _ in 0..20_000 {
        cluster.turn(shard);
        if let Some(seen) = answers(cluster, shard).remove(&1) {
            return seen;
        }
        cluster.wait(1);
    }
    panic!("no answer");
}

/// The names of rows, and their numbers.
fn shown(seen: &Seen) -> Vec<(String, u64)> {
    let row = |name: &str, number| (name.to_owned(), number);
    match &seen.rows {
        SeenRows::Channels(rows) => {
            let rows = rows.iter();
            rows.map(|(at, it)| row(&at.name, it.connections)).collect()
        }
        SeenRows::Peers(rows) => {
            let rows = rows.iter();
            rows.map(|(at, it)| row(&at.name, it.connections.len() as u64))
                .collect()
        }
        SeenRows::Connections(rows) => {
            let rows = rows.iter();
            rows.map(|(at, it)| row(&at.name, it.channels as u64))
                .collect()
        }
        other => panic!("{other:?}"),
    }
}

fn connect(cluster: &mut Cluster, count: usize) {
    for at in 0..count {
        peer(cluster, 0, &format!("p{at:02}"));
    }
}

fn join(cluster: &mut Cluster, client: Client, channel: &str) {
    let text = format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#);
    cluster.message(client, &text);
}

#[test]
fn lists_show_who_is_connected_to_what() {
    let mut cluster = Cluster::new(1, rights(app()));
    let ann = [peer(&mut cluster, 0, "ann"), peer(&mut cluster, 0, "ann")];
    let bob = peer(&mut cluster, 0, "bob");
    for (client, channels) in [(ann[0], &["a", "b/1"][..]), (ann[1], &["a"]), (bob, &["a"])] {
        channels
            .iter()
            .for_each(|it| join(&mut cluster, client, it));
    }
    let pair = |name: &str, number| (name.to_owned(), number);
    let channels = |order| Look::Channels(rows(10), order);
    let seen = see(&mut cluster, 0, channels(ChannelOrder::Name));
    assert_eq!(shown(&seen), [pair("a", 3), pair("b/1", 1)]);
    assert!(seen.is_complete && !seen.has_more);
    cluster.message(bob, r#"{"type":"publish","channel":"a","data":1}"#);
    let seen = see(&mut cluster, 0, Look::Channels(rows(1), ChannelOrder::Rate));
    assert_eq!(shown(&seen), [pair("a", 3)]);
    assert!(seen.has_more);
    let seen = see(&mut cluster, 0, Look::Members(rows(10), "a".into()));
    assert_eq!(shown(&seen), [pair("ann", 2), pair("bob", 1)]);
    let seen = see(&mut cluster, 0, Look::Members(rows(10), "nobody".into()));
    assert_eq!(shown(&seen), []);
    let after = Rows {
        after: Some("ann".into()),
        ..rows(10)
    };
    assert_eq!(
        shown(&see(&mut cluster, 0, Look::Peers(after))),
        [pair("bob", 1)]
    );
    let look = Look::Connections(rows(10), Filter::default(), ConnectionOrder::MessagesIn);
    let seen = see(&mut cluster, 0, look);
    assert_eq!(shown(&seen).len(), 3);
    let seen = see(&mut cluster, 0, Look::Peer(app().id.tag(), "ann".into()));
    assert_eq!(shown(&seen).len(), 2);
    let seen = see(&mut cluster, 0, Look::Channel(app().id.tag(), "a".into()));
    let SeenRows::Channel(Some(state)) = seen.rows else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (state.row.peers, state.row.connections, state.published),
        (2, 3, 1)
    );
    assert_eq!(state.row.rate_milli, 100);
}

#[test]
fn who_has_been_there_for_longest_comes_first_however_long_that_is() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    let mut cluster = Cluster::new(1, rights(app()));
    cluster.now.mono_ms += 200 * DAY_MS;
    let now_ms = cluster.now.mono_ms;
    for (name, days) in [("new", 10), ("old", 60), ("older", 110)] {
        let client = peer(&mut cluster, 0, name);
        let connection = cluster.shards[0].connections.get_mut(client.id).unwrap();
        connection.account.opened_ms = now_ms - days * DAY_MS;
    }
    let look = Look::Connections(rows(2), Filter::default(), ConnectionOrder::Oldest);
    let seen = see(&mut cluster, 0, look);
    let names: Vec<_> = shown(&seen).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["older", "old"]);
}

#[test]
fn a_turn_looks_at_a_bounded_number_of_slots_and_a_millisecond_at_one_portion() {
    let mut cluster = Cluster::new(1, rights(app()));
    connect(&mut cluster, 40);
    cluster.shards[0].limit_walks(7);
    let pattern = crate::proto::pattern::Pattern::parse("p*").ok();
    let matching = Rows {
        matching: pattern,
        ..rows(5)
    };
    ask(&mut cluster, 0, 1, Look::Peers(matching));
    // The first one is done in this millisecond, and one in each that follows.
    let mut portions = 1;
    while answers(&mut cluster, 0).is_empty() {
        // More turns in the same millisecond do nothing.
        for _ in 0..3 {
            cluster.turn(0);
        }
        portions += 1;
        cluster.wait(1);
    }
    let slots = cluster.shards[0].connections.slot_count() as usize;
    assert!(portions >= slots.div_ceil(7), "{portions} for {slots}");
    assert_eq!(cluster.shards[0].dearest_portion(), 7);
}

#[test]
fn one_walk_goes_on_four_wait_and_the_next_is_refused() {
    let mut cluster = Cluster::new(1, rights(app()));
    connect(&mut cluster, 20);
    cluster.shards[0].limit_walks(1);
    for number in 0..6 {
        ask(&mut cluster, 0, number, Look::Peers(rows(10)));
    }
    let refused = answers(&mut cluster, 0);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[&5].rows, SeenRows::Busy);
    let mut seen = BTreeMap::new();
    for _ in 0..1_000 {
        cluster.wait(1);
        seen.append(&mut answers(&mut cluster, 0));
    }
    assert_eq!(seen.len(), 5);
    assert!(
        seen.values()
            .all(|it| it.is_complete && shown(it).len() == 10)
    );
}

#[test]
fn a_question_ends_after_ten_seconds_with_what_was_found() {
    let mut cluster = Cluster::new(1, rights(app()));
    connect(&mut cluster, 20);
    cluster.shards[0].limit_walks(1);
    ask(&mut cluster, 0, 1, Look::Peers(rows(10)));
    ask(&mut cluster, 0, 2, Look::Peers(rows(10)));
    cluster.turn(0);
    cluster.wait(10_000);
    cluster.turn(0);
    let seen = answers(&mut cluster, 0);
    assert!(!seen[&1].is_complete && !seen[&2].is_complete, "{seen:?}");
    assert!(seen[&1].walked >= 1 && seen[&2].walked == 0);
}

/// What happens beside a walk.
#[derive(Clone, Copy, Debug)]
enum Step {
    Connect(usize),
    Leave(usize),
    Join(usize, usize),
    Part(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..6usize).prop_map(Step::Connect),
        1 => (0..12usize).prop_map(Step::Leave),
        3 => (0..12usize, 0..5usize).prop_map(|(client, to)| Step::Join(client, to)),
        2 => (0..12usize, 0..5usize).prop_map(|(client, of)| Step::Part(client, of)),
    ];
    prop::collection::vec(step, 1..40)
}

fn channel(at: usize) -> String {
    format!("c{at}")
}

/// Names that are there now.
fn there(cluster: &Cluster, look: &Look) -> BTreeSet<String> {
    let shard = &cluster.shards[0];
    let sessions = shard.connections.iter().filter_map(|it| it.session());
    match look {
        Look::Channels(..) => {
            let channels = shard.channels.iter();
            let owned = channels.filter(|(_, it)| {
                it.owned
                    .as_ref()
                    .is_some_and(|owned| !owned.roster().is_empty())
            });
            owned
                .map(|(_, it)| it.key.name.as_str().to_owned())
                .collect()
        }
        Look::Members(_, name) => {
            let mut channels = shard.channels.iter();
            let channel = channels.find(|(_, it)| it.key.name.as_str() == &**name);
            let members = channel.map_or(&[][..], |(_, it)| &it.members);
            let slots: BTreeSet<_> = members.iter().map(|it| it.connection_slot).collect();
            let members = shard
                .connections
                .iter()
                .filter(|it| slots.contains(&it.id.slot));
            let members = members.filter_map(|it| it.session());
            members.map(|it| it.peer.id.as_str().to_owned()).collect()
        }
        _ => sessions.map(|it| it.peer.id.as_str().to_owned()).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn rows_were_there_meanwhile_and_none_is_missed_that_stayed(
        before in steps(),
        beside in steps(),
        portion in 1usize..4,
        kind in 0..4u8,
    ) {
        let mut cluster = Cluster::new(1, rights(app()));
        let mut clients = Vec::new();
        let mut go = |cluster: &mut Cluster, step: Step| match step {
            Step::Connect(id) if clients.len() < 12 => {
                clients.push(peer(cluster, 0, &format!("p{id}")));
            }
            Step::Connect(_) => {}
            Step::Leave(at) if at < clients.len() => {
                cluster.close(clients.remove(at));
                cluster.run();
            }
            Step::Join(at, to) if at < clients.len() => join(cluster, clients[at], &channel(to)),
            Step::Part(at, of) if at < clients.len() => {
                let channel = channel(of);
                let text = format!(r#"{{"type":"unsubscribe","channel":"{channel}"}}"#);
                cluster.message(clients[at], &text);
            }
            _ => {}
        };
        before.iter().for_each(|step| go(&mut cluster, *step));
        cluster.wait(100);
        let look = match kind {
            0 => Look::Channels(rows(ROWS_MAX), ChannelOrder::Name),
            1 => Look::Members(rows(ROWS_MAX), channel(0).into()),
            2 => Look::Connections(rows(ROWS_MAX), Filter::default(), ConnectionOrder::Newest),
            _ => Look::Peers(rows(ROWS_MAX)),
        };
        cluster.shards[0].limit_walks(portion);
        let mut always = there(&cluster, &look);
        let mut ever = always.clone();
        ask(&mut cluster, 0, 1, look.clone());
        let mut beside = beside.iter();
        let mut found = answers(&mut cluster, 0);
        for _ in 0..1_000 {
            if !found.is_empty() {
                break;
            }
            if let Some(step) = beside.next() {
                go(&mut cluster, *step);
            }
            // What is there when it is looked at next.
            let now = there(&cluster, &look);
            always.retain(|name| now.contains(name));
            ever.extend(now);
            cluster.wait(1);
            found.append(&mut answers(&mut cluster, 0));
        }
        let seen = found.remove(&1).expect("an answer");
        prop_assert!(seen.is_complete);
        let rows: BTreeSet<_> = shown(&seen).into_iter().map(|(name, _)| name).collect();
        prop_assert!(rows.is_subset(&ever), "{:?} of {:?}", rows, ever);
        prop_assert!(always.is_subset(&rows), "{:?} of {:?}", rows, always);
    }
}
