//! Publications: who gets them, in which order, byte for byte, whichever shards are involved.

use serde_json::json;

use crate::support::client::Client;
use crate::support::on_shards;
use crate::support::raw::frame;
use crate::support::setup::Setup;

/// So many that every shard has some of them, nearly always.
const PEERS: usize = 8;

fn message(channel: &str, from: &str, data: &str) -> String {
    format!(r#"{{"type":"message","channel":"{channel}","from":"{from}","data":{data}}}"#)
}

#[test]
fn every_subscriber_but_the_publishing_connection_gets_a_message() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut peers: Vec<Client> = (0..PEERS)
            .map(|number| server.quiet_peer(&format!("p{number}")))
            .collect();
        for channel in ["a", "room/42", "é \"q\""] {
            let named = channel.replace('"', "\\\"");
            for peer in &mut peers {
                peer.subscribe(channel);
            }
            for publisher in 0..PEERS {
                peers[publisher].publish(channel, json!(publisher));
                let expected = message(&named, &format!("p{publisher}"), &publisher.to_string());
                for (_, peer) in peers
                    .iter_mut()
                    .enumerate()
                    .filter(|(at, _)| *at != publisher)
                {
                    peer.expect(&expected);
                }
            }
        }
        // Nobody got a message twice, and no publisher its own.
        peers.iter_mut().for_each(Client::expect_nothing_queued);
    });
}

#[test]
fn another_connection_of_the_publishing_peer_gets_the_message() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut tabs: Vec<Client> = (0..4).map(|_| server.quiet_peer("me")).collect();
        tabs.iter_mut().for_each(|tab| tab.subscribe("a"));
        tabs[0].publish("a", json!("mine"));
        for tab in &mut tabs[1..] {
            tab.expect(&message("a", "me", r#""mine""#));
        }
        tabs[1].publish("a", json!("next"));
        tabs[0].expect(&message("a", "me", r#""next""#));
    });
}

#[test]
fn publishing_needs_no_subscription_and_reaches_subscribers_only() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut publisher = server.quiet_peer("pub");
        let mut inside: Vec<Client> = (0..PEERS)
            .map(|number| server.quiet_peer(&format!("in{number}")))
            .collect();
        let mut outside = server.quiet_peer("out");
        let mut other_app = server.connect("?key=pk_live_b");
        inside.iter_mut().for_each(|peer| peer.subscribe("a"));
        outside.subscribe("b");
        other_app.subscribe_for_presence("a");
        publisher.publish("a", json!(1));
        publisher.publish("nobody/is/here", json!(2));
        for peer in &mut inside {
            peer.expect(&message("a", "pub", "1"));
        }
        // After its ack, an unsubscribe holds: the next message is not delivered any more.
        let mut leaving = inside.pop().unwrap();
        leaving.ask(json!({"type": "unsubscribe", "channel": "a"}));
        publisher.publish("a", json!(3));
        publisher.publish("b", json!(4));
        inside
            .iter_mut()
            .for_each(|peer| peer.expect(&message("a", "pub", "3")));
        outside.expect(&message("b", "pub", "4"));
        leaving.subscribe("b");
        publisher.publish("b", json!(5));
        leaving.expect(&message("b", "pub", "5"));
        outside.expect(&message("b", "pub", "5"));
        other_app.expect_nothing_queued();
        publisher.expect_nothing_queued();
    });
}

#[test]
fn data_is_passed_on_byte_for_byte() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut publisher = server.quiet_peer("pub");
        let mut subscribers: Vec<Client> = (0..4)
            .map(|number| server.quiet_peer(&format!("s{number}")))
            .collect();
        subscribers.iter_mut().for_each(|peer| peer.subscribe("a"));
        let long = format!("\"{}\"", "é".repeat(32_000));
        for data in [
            "null",
            "1e400",
            "-0.0",
            "123456789012345678901234567890",
            r#""\u0041\/\ud800""#,
            "{ \"b\" : 1,\t\"a\":\r\n[ 1 , 2 ] , \"b\":2 }",
            "\"\u{2028}\u{10ffff}\"",
            &long,
        ] {
            publisher.send(format!(
                r#"{{"data": {data} ,"x":[],"type":"publish","channel":"\u0061"}}"#
            ));
            for peer in &mut subscribers {
                peer.expect(&message("a", "pub", data));
            }
            publisher.send(format!(
                r#"{{"type":"publish","d\u0061ta":0,"channel":"a","\u0064ata":{data}}}"#
            ));
            for peer in &mut subscribers {
                peer.expect(&message("a", "pub", data));
            }
        }
    });
}

#[test]
fn all_subscribers_see_one_order_that_keeps_each_publishers() {
    const MESSAGES: usize = 60;
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut readers: Vec<Client> = (0..PEERS)
            .map(|number| server.quiet_peer(&format!("r{number}")))
            .collect();
        readers.iter_mut().for_each(|reader| reader.subscribe("a"));
        std::thread::scope(|scope| {
            for number in 0..4 {
                let mut publisher = server.quiet_peer(&format!("w{number}"));
                scope.spawn(move || {
                    // In one write, so that they are taken in one turn.
                    let text = |at| {
                        format!(r#"{{"type":"publish","channel":"a","data":[{number},{at}]}}"#)
                    };
                    let frames = (0..MESSAGES).map(|at| frame(0x81, text(at).as_bytes()));
                    publisher.send_bytes(&frames.collect::<Vec<_>>().concat());
                    publisher.publish("a", json!([number, MESSAGES]));
                });
            }
        });
        let count = 4 * (MESSAGES + 1);
        let first: Vec<String> = (0..count).map(|_| readers[0].next()).collect();
        for number in 0..4 {
            let of_one = first
                .iter()
                .filter(|text| text.contains(&format!("\"w{number}\"")));
            let expected = (0..=MESSAGES)
                .map(|at| message("a", &format!("w{number}"), &format!("[{number},{at}]")));
            assert!(of_one.cloned().eq(expected), "out of order: {first:?}");
        }
        for reader in &mut readers[1..] {
            first.iter().for_each(|text| reader.expect(text));
            reader.expect_nothing_queued();
        }
    });
}

#[test]
fn an_ack_means_that_later_subscribers_do_not_get_it() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut publisher = server.quiet_peer("pub");
        for round in 0..12 {
            let channel = format!("c{round}");
            publisher.publish(&channel, json!("before"));
            let mut late = server.quiet_peer("late");
            late.subscribe(&channel);
            publisher.publish(&channel, json!("after"));
            late.expect(&message(&channel, "pub", r#""after""#));
        }
    });
}

#[test]
fn sender_metadata_is_for_those_who_ask() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let metadata = json!({"name": "Ada"});
        let permissions = ["publish", "subscribe", "send"];
        let mut sender = server.with_claims(
            json!({"sub": "ada", "peerMetadata": metadata, "permissions": permissions}),
        );
        let mut plain = server.quiet_peer("plain");
        let subscribe = |include: bool| {
            let mut command = json!({"type": "subscribe", "channel": "a"});
            command["includeSenderMetadata"] = json!(include);
            command
        };
        let mut curious: Vec<Client> = (0..PEERS)
            .map(|number| server.quiet_peer(&format!("c{number}")))
            .collect();
        curious
            .iter_mut()
            .for_each(|peer| peer.ask(subscribe(true)));
        sender.ask(subscribe(true));
        plain.subscribe("a");
        sender.publish("a", json!(1));
        let with = message("a", "ada", "1").replace("\"data\":1}", "\"data\":1,");
        let with = format!(r#"{with}"fromMetadata":{{"name":"Ada"}}}}"#);
        plain.expect(&message("a", "ada", "1"));
        curious.iter_mut().for_each(|peer| peer.expect(&with));
        // A later subscribe replaces the choice, either way.
        curious[0].ask(subscribe(false));
        plain.ask(subscribe(true));
        sender.publish("a", json!(1));
        curious[0].expect(&message("a", "ada", "1"));
        plain.expect(&with);
        curious[1].expect(&with);
        // Who has none sends none.
        curious[0].publish("a", json!(2));
        sender.expect(&message("a", "c0", "2"));
    });
}

#[test]
fn a_token_narrows_what_its_key_allows() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut client = server.with_claims(json!({
            "sub": "a", "channels": ["room-*", "app/**"], "permissions": ["publish", "subscribe"],
        }));
        for channel in ["room-", "room-42", "app/", "app/x/y"] {
            client.subscribe(channel);
            client.publish(channel, json!(0));
        }
        for channel in ["room", "room-4/2", "Room-42", "app", "x/room-1"] {
            for kind in ["subscribe", "publish"] {
                let command = json!({"type": kind, "channel": channel, "data": 0});
                client.ask_refused(command, "channel_not_authorized");
            }
        }
        client.ask_refused(
            json!({"type": "send", "to": "a", "data": 0}),
            "action_not_permitted",
        );
        let mut reader = server.with_claims(json!({"sub": "r", "permissions": ["subscribe"]}));
        reader.subscribe("room-42");
        let publish = json!({"type": "publish", "channel": "room-42", "data": 0});
        reader.ask_refused(publish, "action_not_permitted");
    });
}
