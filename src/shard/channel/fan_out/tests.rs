//! Fan-out sentence by sentence, on one shard in memory.

use crate::proto::ws::frame::{Opcode, append_masked_frame};
use crate::shard::input::Input;
use crate::shard::testing::{Client, Cluster, app, peer, rights, token_without_presence};

/// Connections of one shard: the first publishes, the others are subscribed to "room".
fn room<const COUNT: usize>() -> (Cluster, [Client; COUNT]) {
    let mut cluster = Cluster::new(1, rights(app()));
    let clients = std::array::from_fn(|at| peer(&mut cluster, 0, &format!("peer-{at}")));
    for client in &clients[1..] {
        subscribe(&mut cluster, *client, "room");
    }
    for client in clients {
        cluster.take(client);
    }
    (cluster, clients)
}

fn subscribe(cluster: &mut Cluster, client: Client, channel: &str) {
    cluster.message(
        client,
        &format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#),
    );
}

/// Messages of one client in a turn that goes on.
fn feed(cluster: &mut Cluster, client: Client, messages: &[&str]) {
    let mut bytes = Vec::new();
    for message in messages {
        append_masked_frame(&mut bytes, Opcode::Text, [1, 2, 3, 4], message.as_bytes());
    }
    cluster.feed(client, &bytes);
}

fn publish(channel: &str, data: &str) -> String {
    format!(r#"{{"type":"publish","channel":"{channel}","data":"{data}","requestId":"{data}"}}"#)
}

/// What came, each by its `data` or its type.
fn heard(cluster: &mut Cluster, client: Client) -> Vec<String> {
    let words = cluster.messages(client).into_iter().map(|text| {
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
        let word = frame["data"].as_str().or(frame["type"].as_str());
        word.unwrap().to_owned()
    });
    words.collect()
}

#[test]
fn a_turns_publications_are_one_write_to_every_member_but_the_publisher() {
    let (mut cluster, [ann, ben, cleo]) = room();
    feed(&mut cluster, ann, &[&publish("room", "1")]);
    feed(
        &mut cluster,
        ben,
        &[&publish("room", "2"), &publish("room", "3")],
    );
    feed(&mut cluster, ann, &[&publish("room", "4")]);
    cluster.input(0, Input::EndOfTurn);
    let one = cluster.offer(cleo) / 4;
    assert_eq!(cluster.offer(cleo), one * 4);
    cluster.run();
    assert_eq!(heard(&mut cluster, ann), ["ack", "ack"]);
    assert_eq!(heard(&mut cluster, ben), ["1", "ack", "ack", "4"]);
    assert_eq!(heard(&mut cluster, cleo), ["1", "2", "3", "4"]);
}

#[test]
fn a_member_of_two_channels_gets_both() {
    let (mut cluster, [ann, ben, cleo]) = room();
    subscribe(&mut cluster, ben, "lobby");
    cluster.take(ben);
    let both = [
        publish("lobby", "1"),
        publish("room", "2"),
        publish("lobby", "3"),
    ];
    feed(&mut cluster, ann, &[&both[0], &both[1], &both[2]]);
    cluster.run();
    let mut of_ben = heard(&mut cluster, ben);
    assert_eq!(
        of_ben.iter().filter(|it| *it != "2").collect::<Vec<_>>(),
        ["1", "3"]
    );
    of_ben.sort();
    assert_eq!(of_ben, ["1", "2", "3"]);
    assert_eq!(heard(&mut cluster, cleo), ["2"]);
}

#[test]
fn a_membership_ends_behind_what_was_published_before() {
    let (mut cluster, [ann, ben, cleo]) = room();
    feed(&mut cluster, ann, &[&publish("room", "before")]);
    let leave = r#"{"type":"unsubscribe","channel":"room","requestId":"1"}"#;
    feed(&mut cluster, ben, &[leave]);
    feed(&mut cluster, ann, &[&publish("room", "after")]);
    cluster.run();
    assert_eq!(heard(&mut cluster, ben), ["before", "ack"]);
    assert_eq!(heard(&mut cluster, cleo), ["before", "presence", "after"]);
    subscribe(&mut cluster, ben, "room");
    feed(&mut cluster, ann, &[&publish("room", "again")]);
    cluster.run();
    assert_eq!(heard(&mut cluster, ben), ["presence", "again"]);
}

#[test]
fn a_direct_message_stays_behind_the_publications_before_it() {
    let (mut cluster, [ann, ben, _]) = room();
    let direct = r#"{"type":"send","to":"peer-1","data":"direct"}"#;
    feed(
        &mut cluster,
        ann,
        &[&publish("room", "1"), direct, &publish("room", "2")],
    );
    cluster.run();
    assert_eq!(heard(&mut cluster, ben), ["1", "direct", "2"]);
}

#[test]
fn what_a_socket_does_not_take_waits_for_it_alone() {
    let (mut cluster, [ann, ben, cleo]) = room();
    feed(
        &mut cluster,
        ann,
        &[&publish("room", "1"), &publish("room", "2")],
    );
    cluster.input(0, Input::EndOfTurn);
    let all = cluster.offer(cleo);
    // Ends in the middle of a frame, which nothing may interrupt.
    cluster.stall(ben);
    cluster.make_room(ben, 10);
    cluster.flush_client(ben);
    assert_eq!(cluster.offer(ben), all - 10);
    assert_eq!(cluster.offer(cleo), all);
    cluster.shards[0].check_invariants();
    assert_eq!(cluster.shards[0].waiting_bytes(ben.id), all - 10);
    cluster.run();
    assert_eq!(heard(&mut cluster, cleo), ["1", "2"]);
}

#[test]
fn a_socket_without_room_does_not_keep_the_channels_buffer() {
    let (mut cluster, [ann, ben, cleo]) = room();
    feed(&mut cluster, ann, &[&publish("room", "1")]);
    cluster.input(0, Input::EndOfTurn);
    assert!(cluster.offer(ben) > 0);
    cluster.flush_client(cleo);
    let (_, channel) = cluster.shards[0].channels.iter().next().unwrap();
    assert_eq!(channel.fan_out.behind(), 0);
    let outbox = cluster.shards[0].outbox(ben.id).unwrap();
    assert!(outbox.delivery_bytes() > 0 && !outbox.is_untried());
    cluster.run();
    assert_eq!(heard(&mut cluster, ben), ["1"]);
}

#[test]
fn a_buffer_that_would_grow_too_large_is_copied_and_begun_anew() {
    let (mut cluster, [ann, ben, cleo]) = room();
    let word = "w".repeat(60_000);
    for _ in 0..5 {
        feed(
            &mut cluster,
            ann,
            &[&publish("room", "x").replace("\"data\":\"x\"", &format!("\"data\":\"{word}\""))],
        );
        cluster.shards[0].check_invariants();
        let (_, channel) = cluster.shards[0].channels.iter().next().unwrap();
        assert!(channel.unsent(0).len() <= super::BUFFER_BYTES_MAX);
    }
    cluster.run();
    for client in [ben, cleo] {
        assert_eq!(heard(&mut cluster, client), [&*word; 5]);
    }
}

/// How many members of "room" share what they have not been sent.
fn sharing(cluster: &Cluster) -> u32 {
    let channels = cluster.shards[0].channels.iter();
    channels.map(|(_, channel)| channel.fan_out.behind()).sum()
}

#[test]
fn presence_that_all_members_want_is_kept_once_and_in_order() {
    let (mut cluster, [ann, ben, cleo, dora]) = room();
    cluster.message(dora, r#"{"type":"unsubscribe","channel":"room"}"#);
    for client in [ann, ben, cleo, dora] {
        cluster.take(client);
    }
    feed(&mut cluster, ann, &[&publish("room", "1")]);
    feed(
        &mut cluster,
        dora,
        &[r#"{"type":"subscribe","channel":"room"}"#],
    );
    feed(&mut cluster, ann, &[&publish("room", "2")]);
    cluster.input(0, Input::EndOfTurn);
    // Who joined has its roster in its own outbox, and is sent what came behind it.
    assert_eq!(sharing(&cluster), 2);
    cluster.run();
    for client in [ben, cleo] {
        assert_eq!(heard(&mut cluster, client), ["1", "presence", "2"]);
    }
    assert_eq!(heard(&mut cluster, dora), ["presence", "2"]);
}

#[test]
fn presence_that_some_do_not_want_reaches_the_others_only() {
    let (mut cluster, [ann, ben, cleo]) = room();
    let (deaf, _) = cluster.connect(0, &token_without_presence());
    subscribe(&mut cluster, deaf, "room");
    for client in [ann, ben, cleo, deaf] {
        cluster.take(client);
    }
    subscribe(&mut cluster, ann, "room");
    assert_eq!(sharing(&cluster), 0);
    assert_eq!(heard(&mut cluster, ben), ["presence"]);
    assert_eq!(heard(&mut cluster, cleo), ["presence"]);
    assert_eq!(heard(&mut cluster, deaf), [""; 0]);
}

#[test]
fn a_connection_that_ends_while_it_is_lent_a_buffer_is_closed() {
    let (mut cluster, [ann, ben, cleo]) = room();
    // Lent in one turn, copied behind an answer in the next, flushed in neither.
    feed(&mut cluster, ann, &[&publish("room", "1")]);
    cluster.input(0, Input::EndOfTurn);
    feed(&mut cluster, ben, &[r#"{"type":"ping"}"#]);
    feed(&mut cluster, ann, &[&publish("room", "2")]);
    cluster.input(0, Input::EndOfTurn);
    cluster.shards[0].check_invariants();
    for client in [ben, cleo] {
        cluster.end(client);
    }
    cluster.run();
    assert!(!cluster.is_open(ben) && !cluster.is_open(cleo));
    assert!(cluster.is_open(ann));
}
