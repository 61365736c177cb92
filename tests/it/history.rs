//! Channels with history: who comes back gets what was missed, once and in order.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::on_shards;
use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup, key, signer};

fn server(shards: u16) -> Server {
    let rule = r#"history = [{ pattern = "h/**", messages = 100 }]"#;
    let keys = [key("pk_live_a", &["**"], ALL_ACTIONS), signer("sk_id_a")];
    let setup = Setup::new(shards).no_apps();
    setup.app(&format!("app_a\n{rule}"), &keys).start()
}

/// Sends a command and returns the answer to it, with what came before.
#[track_caller]
fn ask(client: &mut Client, command: Value) -> (Value, Vec<Value>) {
    let id = client.request(command);
    let mut before = Vec::new();
    loop {
        let message: Value = serde_json::from_str(&client.next()).unwrap();
        if message["requestId"] == id.as_str() {
            return (message, before);
        }
        before.push(message);
    }
}

#[track_caller]
fn publish(client: &mut Client, channel: &str, data: u64) -> Value {
    let command = json!({
        "type": "publish", "channel": channel, "data": data, "id": format!("m-{data}"),
        "position": true,
    });
    ask(client, command).0
}

/// The next messages, which are numbered from there to there, as their numbers are their data.
#[track_caller]
fn expect(client: &mut Client, channel: &str, numbers: std::ops::RangeInclusive<u64>) {
    for seq in numbers {
        client.expect(&format!(
            r#"{{"type":"message","channel":"{channel}","from":"ann","data":{seq},"seq":{seq}}}"#
        ));
    }
}

#[test]
fn who_was_away_gets_what_was_missed_and_then_what_comes() {
    on_shards(|shards| {
        let server = server(shards);
        let mut ann = server.quiet_peer("ann");
        let mut epochs = Vec::new();
        // Some of these channels are owned by each shard.
        let channels: Vec<String> = (0..8).map(|at| format!("h/{at}")).collect();
        for channel in &channels {
            let mut ben = server.quiet_peer("ben");
            let subscribe = json!({"type": "subscribe", "channel": channel, "position": true});
            let (ack, _) = ask(&mut ben, subscribe);
            assert_eq!((&ack["seq"], ack.get("recovered")), (&json!(0), None));
            epochs.push(ack["epoch"].clone());
            for data in 1..=3 {
                assert_eq!(publish(&mut ann, channel, data)["seq"], data);
            }
            expect(&mut ben, channel, 1..=3);
            ben.close(Some(1_000));
            for data in 4..=40 {
                publish(&mut ann, channel, data);
            }
        }
        let mut ben = server.quiet_peer("ben");
        for (channel, epoch) in channels.iter().zip(&epochs) {
            let since = json!({"epoch": epoch, "seq": 3});
            let subscribe = json!({"type": "subscribe", "channel": channel, "since": since});
            let (ack, _) = ask(&mut ben, subscribe);
            let told = (&ack["recovered"], &ack["count"], &ack["seq"], &ack["epoch"]);
            assert_eq!(told, (&json!(true), &json!(37), &json!(40), epoch));
            expect(&mut ben, channel, 4..=40);
            publish(&mut ann, channel, 41);
            expect(&mut ben, channel, 41..=41);
            // What was acked is not published again, whoever's ack was lost.
            let again = publish(&mut server.quiet_peer("ann"), channel, 7);
            assert_eq!(
                (&again["seq"], &again["duplicate"]),
                (&json!(7), &json!(true))
            );
            ben.expect_nothing_queued();
        }
    });
}

#[test]
fn what_is_gone_is_said_to_be() {
    on_shards(|shards| {
        let server = server(shards);
        let mut ann = server.quiet_peer("ann");
        for data in 1..=150 {
            publish(&mut ann, "h/1", data);
        }
        let (ack, _) = ask(
            &mut server.quiet_peer("ben"),
            json!({"type": "subscribe", "channel": "h/1", "position": true}),
        );
        let epoch = &ack["epoch"];
        for (since, recovered) in [
            (json!({"epoch": epoch, "seq": 50}), true),
            (json!({"epoch": epoch, "seq": 49}), false),
            (json!({"epoch": epoch, "seq": 151}), false),
            (json!({"epoch": "AAAAAAAA", "seq": 149}), false),
        ] {
            let mut ben = server.quiet_peer("ben");
            let subscribe = json!({"type": "subscribe", "channel": "h/1", "since": since});
            let (ack, _) = ask(&mut ben, subscribe);
            assert_eq!(
                (&ack["recovered"], &ack["seq"]),
                (&json!(recovered), &json!(150))
            );
            if recovered {
                expect(&mut ben, "h/1", 51..=150);
            }
            ben.expect_nothing_queued();
        }
        // A channel without a rule is as it ever was.
        let mut ben = server.quiet_peer("ben");
        let subscribe = json!({"type": "subscribe", "channel": "x", "since": {"last": 3}});
        let (ack, _) = ask(&mut ben, subscribe);
        assert_eq!(
            (&ack["epoch"], &ack["recovered"]),
            (&Value::Null, &json!(false))
        );
        ann.publish("x", json!(1));
        ben.expect(r#"{"type":"message","channel":"x","from":"ann","data":1}"#);
    });
}

#[test]
fn a_large_replay_comes_whole() {
    let server = server(2);
    let mut ann = server.quiet_peer("ann");
    let fill = "x".repeat(20_000);
    for _ in 1..=45 {
        ann.publish("h/1", json!(fill));
    }
    let mut ben = server.quiet_peer("ben");
    let subscribe = json!({
        "type": "subscribe", "channel": "h/1", "since": {"last": 45},
    });
    let (ack, _) = ask(&mut ben, subscribe);
    assert_eq!(
        (&ack["recovered"], &ack["count"]),
        (&json!(true), &json!(45))
    );
    for seq in 1..=45 {
        let message: Value = serde_json::from_str(&ben.next()).unwrap();
        assert_eq!(message["seq"], seq);
        assert_eq!(message["data"].as_str().map(str::len), Some(fill.len()));
    }
    ben.expect_nothing_queued();
}
