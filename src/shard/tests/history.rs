//! Channels with history: numbers, resumes, ids, and what is kept for how long.

use serde_json::{Value, json};

use super::*;
use crate::domain::history::{HistoryRule, HistoryRules};
use crate::domain::rights::Rights;
use crate::ids::AppIndex;
use crate::proto::ws::frame::Header;

const PAUSE_MS: u64 = 17;

/// Channels `h…` keep 10 messages for a minute, the others nothing.
fn with_history(shards: u16) -> Cluster {
    with_rule(shards, 10, 1 << 20)
}

fn with_rule(shards: u16, messages: u32, memory_bytes: usize) -> Cluster {
    Cluster::with(shards, rules(1, messages), |config| {
        config.limits.history.memory_bytes = memory_bytes;
        // Nobody is pinged.
        config.limits.ping_after_ms = u64::MAX / 2;
        config.limits.drop_after_ms = u64::MAX / 2;
    })
}

fn rules(version: u64, messages: u32) -> Rights {
    let rule = HistoryRule {
        messages,
        ttl_sec: 60,
        ..HistoryRule::new("h**")
    };
    let mut app = app();
    app.history = Arc::new(HistoryRules::new(&[rule]).unwrap());
    at_version(version, rights(app))
}

fn at_version(version: u64, mut rights: Rights) -> Rights {
    rights.version = version;
    rights
}

fn send(cluster: &mut Cluster, client: Client, message: &Value) {
    cluster.message(client, &message.to_string());
}

/// What has come, as JSON.
fn heard(cluster: &mut Cluster, client: Client) -> Vec<Value> {
    let messages = cluster.messages(client).into_iter();
    messages
        .map(|it| serde_json::from_str(&it).unwrap())
        .collect()
}

/// One request and the one answer to it.
#[track_caller]
fn ask(cluster: &mut Cluster, client: Client, request: Value) -> Value {
    send(cluster, client, &request);
    let mut heard = heard(cluster, client);
    assert_eq!(heard.len(), 1, "{request}: {heard:?}");
    heard.remove(0)
}

fn publish(cluster: &mut Cluster, client: Client, data: u64) -> Value {
    let request = json!({
        "type": "publish", "channel": "h", "data": data, "requestId": "p", "position": true,
    });
    ask(cluster, client, request)
}

/// Subscribes, and waits until the snapshot and all that follows it has come. Returns the ack, and
/// what came behind the snapshot.
fn subscribe(cluster: &mut Cluster, client: Client, since: Value) -> (Value, Vec<Value>) {
    let mut request = json!({"type": "subscribe", "channel": "h", "requestId": "s"});
    for (key, value) in since.as_object().unwrap() {
        request[key] = value.clone();
    }
    let ack = ask(cluster, client, request);
    assert_eq!(ack["type"], "ack", "{ack}");
    cluster.wait(PAUSE_MS);
    let mut heard = heard(cluster, client);
    assert_eq!(heard.remove(0)["type"], "presence");
    (ack, heard)
}

fn seqs(messages: &[Value]) -> Vec<u64> {
    messages
        .iter()
        .map(|it| it["seq"].as_u64().unwrap())
        .collect()
}

fn data(messages: &[Value]) -> Vec<u64> {
    messages
        .iter()
        .map(|it| it["data"].as_u64().unwrap())
        .collect()
}

#[test]
fn publications_are_numbered_for_all_members_and_nobody_else() {
    for shards in [1, 3] {
        let mut cluster = with_history(shards);
        let ann = peer(&mut cluster, 0, "ann");
        let ben = peer(&mut cluster, usize::from(shards) - 1, "ben");
        for channel in ["h", "plain"] {
            let request = json!({
                "type": "subscribe", "channel": channel,
                "includeSenderMetadata": channel == "h",
            });
            send(&mut cluster, ann, &request);
        }
        cluster.wait(PAUSE_MS);
        cluster.take(ann);
        let first = publish(&mut cluster, ben, 1);
        let second = publish(&mut cluster, ben, 2);
        assert_eq!(first["seq"], 1);
        let epoch = first["epoch"].as_str().unwrap();
        assert_eq!(epoch.len(), 8);
        let expected = format!(r#"{{"type":"ack","requestId":"p","epoch":"{epoch}","seq":2}}"#);
        assert_eq!(second, serde_json::from_str::<Value>(&expected).unwrap());
        send(
            &mut cluster,
            ben,
            &json!({"type": "publish", "channel": "plain", "data": 3}),
        );
        let texts = cluster.messages(ann);
        let head = r#"{"type":"message","channel":"h","from":"ben","data":"#;
        assert_eq!(
            texts,
            [
                format!(r#"{head}1,"fromMetadata":{{"n":"ben"}},"seq":1}}"#),
                format!(r#"{head}2,"fromMetadata":{{"n":"ben"}},"seq":2}}"#),
                r#"{"type":"message","channel":"plain","from":"ben","data":3}"#.to_owned(),
            ]
        );
        let plain = json!({
            "type": "publish", "channel": "plain", "data": 4, "requestId": "p", "position": true,
        });
        let ack = ask(&mut cluster, ben, plain);
        assert_eq!((&ack["epoch"], &ack["seq"]), (&Value::Null, &json!(0)));
        assert!(ack.as_object().unwrap().contains_key("epoch"));
        cluster.shards.iter().for_each(Shard::check_invariants);
    }
}

#[test]
fn who_comes_back_gets_what_was_missed_and_then_what_comes() {
    for shards in [1, 2, 3] {
        let mut cluster = with_history(shards);
        let ann = peer(&mut cluster, 0, "ann");
        let ben = peer(&mut cluster, usize::from(shards) - 1, "ben");
        let (ack, _) = subscribe(&mut cluster, ann, json!({"position": true}));
        assert!(ack.get("recovered").is_none() && ack["seq"] == 0, "{ack}");
        let epoch = ack["epoch"].clone();
        publish(&mut cluster, ben, 1);
        assert_eq!(seqs(&heard(&mut cluster, ann)), [1]);
        cluster.close(ann);
        // Nobody is there, and the channel goes on.
        for data in 2..=4 {
            publish(&mut cluster, ben, data);
        }
        let again = peer(&mut cluster, 0, "ann");
        let since = json!({"since": {"epoch": epoch, "seq": 1}});
        let (ack, missed) = subscribe(&mut cluster, again, since);
        assert_eq!(
            (&ack["recovered"], &ack["count"], &ack["seq"], &ack["epoch"]),
            (&json!(true), &json!(3), &json!(4), &epoch)
        );
        assert_eq!(
            (seqs(&missed), data(&missed)),
            (vec![2, 3, 4], vec![2, 3, 4])
        );
        publish(&mut cluster, ben, 5);
        assert_eq!(seqs(&heard(&mut cluster, again)), [5]);
        cluster.shards.iter().for_each(Shard::check_invariants);
    }
}

#[test]
fn what_is_published_in_the_pause_follows_the_replay() {
    for shards in [1, 2] {
        let mut cluster = with_history(shards);
        let (ann, ben) = (peer(&mut cluster, 0, "ann"), peer(&mut cluster, 0, "ben"));
        (1..=3).for_each(|data| _ = publish(&mut cluster, ben, data));
        let request = json!({
            "type": "subscribe", "channel": "h", "requestId": "s", "since": {"last": 2},
            "includeSenderMetadata": true,
        });
        let ack = ask(&mut cluster, ann, request);
        assert_eq!((&ack["count"], &ack["seq"]), (&json!(2), &json!(3)));
        publish(&mut cluster, ben, 4);
        assert!(heard(&mut cluster, ann).is_empty(), "before the snapshot");
        cluster.wait(PAUSE_MS);
        let heard = heard(&mut cluster, ann);
        assert_eq!(heard[0]["type"], "presence");
        assert_eq!(seqs(&heard[1..]), [2, 3, 4]);
        assert!(heard[1..].iter().all(|it| it["fromMetadata"]["n"] == "ben"));
    }
}

#[test]
fn what_cannot_be_had_is_said_and_not_replayed() {
    let mut cluster = with_history(2);
    let ben = peer(&mut cluster, 1, "ben");
    for data in 1..=12 {
        publish(&mut cluster, ben, data);
    }
    let epoch = publish(&mut cluster, ben, 13)["epoch"].clone();
    for (since, recovered, count) in [
        (json!({"epoch": epoch, "seq": 3}), true, 10),
        (json!({"epoch": epoch, "seq": 13}), true, 0),
        (json!({"epoch": epoch, "seq": 2}), false, 0),
        (json!({"epoch": epoch, "seq": 14}), false, 0),
        (json!({"epoch": epoch, "seq": u64::MAX}), false, 0),
        (json!({"epoch": "another1", "seq": 3}), false, 0),
        (json!({"epoch": "of another server", "seq": 3}), false, 0),
        (json!({"last": 1_000}), true, 10),
        (json!({"last": 0}), true, 0),
    ] {
        let ann = peer(&mut cluster, 0, "ann");
        let (ack, missed) = subscribe(&mut cluster, ann, json!({"since": since}));
        let told = (&ack["recovered"], &ack["count"], &ack["seq"], &ack["epoch"]);
        assert_eq!(
            told,
            (&json!(recovered), &json!(count), &json!(13), &epoch),
            "{since}"
        );
        assert_eq!(missed.len(), count);
        cluster.close(ann);
    }
    // More than may be asked for, and a channel that keeps nothing.
    let ann = peer(&mut cluster, 0, "ann");
    let mut request = json!({
        "type": "subscribe", "channel": "h", "requestId": "s", "since": {"last": 1_001},
    });
    assert_eq!(
        ask(&mut cluster, ann, request.clone())["code"],
        "malformed_message"
    );
    request["channel"] = json!("plain");
    request["since"] = json!({"epoch": epoch, "seq": 1});
    let ack = ask(&mut cluster, ann, request);
    let expected = json!({
        "type": "ack", "requestId": "s", "epoch": null, "seq": 0, "recovered": false, "count": 0,
    });
    assert_eq!(ack, expected);
}

#[test]
fn a_repeated_id_is_published_once() {
    for shards in [1, 3] {
        let mut cluster = with_history(shards);
        let ann = peer(&mut cluster, 0, "ann");
        let ben = peer(&mut cluster, usize::from(shards) - 1, "ben");
        let cat = peer(&mut cluster, 0, "cat");
        subscribe(&mut cluster, ann, json!({}));
        let request = json!({
            "type": "publish", "channel": "h", "data": 1, "requestId": "p", "id": "m-1",
        });
        let first = ask(&mut cluster, ben, request.clone());
        assert_eq!(first, json!({"type": "ack", "requestId": "p"}));
        // From another connection of the same peer, and from another peer.
        let tab = peer(&mut cluster, 0, "ben");
        let again = ask(&mut cluster, tab, request.clone());
        assert_eq!(
            (&again["seq"], &again["duplicate"]),
            (&json!(1), &json!(true))
        );
        let other = ask(&mut cluster, cat, request.clone());
        assert!(other.get("duplicate").is_none());
        assert_eq!(seqs(&heard(&mut cluster, ann)), [1, 2]);
        // It is remembered for two minutes.
        cluster.wait(120_000);
        assert_eq!(ask(&mut cluster, ben, request.clone())["duplicate"], true);
        cluster.wait(1);
        assert!(ask(&mut cluster, ben, request).get("duplicate").is_none());
        assert_eq!(
            cluster
                .shards
                .iter()
                .map(|it| it.histories().1)
                .sum::<usize>(),
            1
        );
    }
}

#[test]
fn what_is_kept_goes_in_its_time_and_the_channel_with_it() {
    let mut cluster = with_history(2);
    let ben = peer(&mut cluster, 1, "ben");
    publish(&mut cluster, ben, 1);
    cluster.wait(30_000);
    let epoch = publish(&mut cluster, ben, 2)["epoch"].clone();
    let count = |cluster: &Cluster| {
        cluster
            .shards
            .iter()
            .map(|it| it.histories().1)
            .sum::<usize>()
    };
    cluster.wait(30_000);
    let ann = peer(&mut cluster, 0, "ann");
    let (ack, kept) = subscribe(&mut cluster, ann, json!({"since": {"last": 9}}));
    assert_eq!((seqs(&kept), &ack["epoch"]), (vec![2], &epoch));
    cluster.close(ann);
    for _ in 0..3 {
        cluster.wait(30_000);
    }
    assert_eq!(count(&cluster), 0);
    cluster.close(ben);
    cluster.shards.iter().for_each(Shard::check_vacant);
    // The next numbering has another name.
    let ben = peer(&mut cluster, 1, "ben");
    let ack = publish(&mut cluster, ben, 3);
    assert!(ack["epoch"] != epoch && ack["seq"] == 1, "{ack}");
}

#[test]
fn the_channel_that_was_used_least_recently_gives_way() {
    let mut cluster = with_rule(1, 1_000, 40_000);
    let ben = peer(&mut cluster, 0, "ben");
    let publish = |cluster: &mut Cluster, channel: &str| {
        let data = "x".repeat(1_000);
        let request = json!({
            "type": "publish", "channel": channel, "data": data, "requestId": "p",
            "position": true,
        });
        ask(cluster, ben, request)
    };
    let epoch = publish(&mut cluster, "h/old")["epoch"].clone();
    publish(&mut cluster, "h/used");
    for _ in 0..100 {
        publish(&mut cluster, "h/new");
        publish(&mut cluster, "h/used");
        assert!(cluster.shards[0].histories().0 <= 40_000);
        cluster.shards[0].check_invariants();
    }
    let ann = peer(&mut cluster, 0, "ann");
    let mut since = |channel: &str, since: Value| {
        let request = json!({
            "type": "subscribe", "channel": channel, "requestId": "s", "since": since,
        });
        let ack = ask(&mut cluster, ann, request);
        cluster.wait(PAUSE_MS);
        cluster.take(ann);
        ack
    };
    // It says so: what is gone is not to be had, and the numbering goes on.
    let ack = since("h/old", json!({"epoch": epoch, "seq": 0}));
    assert_eq!((&ack["recovered"], &ack["seq"]), (&json!(false), &json!(1)));
    let ack = since("h/old", json!({"epoch": epoch, "seq": 1}));
    assert_eq!(ack["recovered"], true);
    assert!(since("h/used", json!({"last": 1_000}))["count"].as_u64() > Some(5));
    // Very many channels have no room for their numberings, and those give way, too.
    for number in 0..2_000 {
        publish(&mut cluster, &format!("h/{number}"));
        assert!(cluster.shards[0].histories().0 <= 40_000);
    }
    assert!(cluster.shards[0].histories().1 < 100);
    cluster.shards[0].check_invariants();
}

#[test]
fn a_long_replay_leaves_in_portions_and_other_channels_go_on() {
    let mut cluster = with_rule(1, 1_000, 1 << 22);
    let (ann, ben) = (peer(&mut cluster, 0, "ann"), peer(&mut cluster, 0, "ben"));
    for number in 0..20 {
        let data = format!("{number}{}", "x".repeat(40_000));
        send(
            &mut cluster,
            ben,
            &json!({"type": "publish", "channel": "h", "data": data}),
        );
    }
    send(
        &mut cluster,
        ann,
        &json!({"type": "subscribe", "channel": "plain"}),
    );
    cluster.wait(PAUSE_MS);
    cluster.take(ann);
    let request = json!({
        "type": "subscribe", "channel": "h", "requestId": "s", "since": {"last": 20},
    });
    assert_eq!(ask(&mut cluster, ann, request)["count"], 20);
    cluster.stall(ann);
    cluster.wait(PAUSE_MS);
    cluster.make_room(ann, 10_000);
    cluster.run();
    let queued = |cluster: &Cluster| cluster.shards[0].outbox(ann.id).unwrap().reply_bytes();
    assert!(queued(&cluster) <= 64 * 1_024, "{}", queued(&cluster));
    // What comes in another channel is behind one portion only.
    send(
        &mut cluster,
        ben,
        &json!({"type": "publish", "channel": "plain", "data": 1}),
    );
    send(
        &mut cluster,
        ben,
        &json!({"type": "publish", "channel": "h", "data": "live"}),
    );
    let mut bytes = cluster.take(ann);
    for _ in 0..200 {
        cluster.read(ann, 5_000);
        assert!(queued(&cluster) <= 64 * 1_024);
        bytes.extend(cluster.take(ann));
        cluster.shards[0].check_invariants();
    }
    cluster.unstall(ann);
    bytes.extend(cluster.take(ann));
    let messages = crate::shard::testing::messages(&bytes);
    let messages = messages
        .iter()
        .map(|it| serde_json::from_str::<Value>(it).unwrap());
    let messages: Vec<Value> = messages.collect();
    let plain = messages
        .iter()
        .position(|it| it["channel"] == "plain")
        .unwrap();
    assert!(plain <= 3, "behind {plain}");
    let of_h: Vec<Value> = messages
        .into_iter()
        .filter(|it| it["channel"] == "h" && it["type"] == "message")
        .collect();
    assert_eq!(seqs(&of_h), (1..=21).collect::<Vec<u64>>());
}

#[test]
fn many_large_replays_wait_for_each_other() {
    let mut cluster = with_rule(2, 1_000, 1 << 26);
    let (ann, ben) = (peer(&mut cluster, 0, "ann"), peer(&mut cluster, 1, "ben"));
    let data = "x".repeat(60_000);
    for at in 0..80 * 3 {
        let channel = format!("h{}", at % 30);
        send(
            &mut cluster,
            ben,
            &json!({"type": "publish", "channel": channel, "data": data}),
        );
    }
    let joins: Vec<String> = (0..30)
        .map(|at| {
            json!({
                "type": "subscribe", "channel": format!("h{at}"), "requestId": at.to_string(),
                "since": {"last": 8},
            })
            .to_string()
        })
        .collect();
    let joins: Vec<&str> = joins.iter().map(String::as_str).collect();
    cluster.send(ann, &frames(&joins));
    let mut bytes = cluster.take(ann);
    for _ in 0..60 {
        cluster.wait(PAUSE_MS);
        bytes.extend(cluster.take(ann));
        cluster.shards.iter().for_each(Shard::check_invariants);
    }
    let mut counts = std::collections::BTreeMap::new();
    let mut rest = &bytes[..];
    while let Ok(Some((header, head_bytes))) = Header::decode(rest) {
        let end = head_bytes + header.payload_len as usize;
        let message: Value = serde_json::from_slice(&rest[head_bytes..end]).unwrap();
        *counts
            .entry(message["type"].as_str().unwrap().to_owned())
            .or_insert(0) += 1;
        rest = &rest[end..];
    }
    assert_eq!(counts["ack"], 30);
    assert_eq!(counts["message"], 240);
}

#[test]
fn a_changed_rule_holds_and_the_numbering_goes_on() {
    let mut cluster = with_history(2);
    let ben = peer(&mut cluster, 0, "ben");
    for data in 1..=5 {
        publish(&mut cluster, ben, data);
    }
    switch(&mut cluster, rules(2, 2));
    let ack = publish(&mut cluster, ben, 6);
    assert_eq!(ack["seq"], 6);
    let ann = peer(&mut cluster, 1, "ann");
    let (_, kept) = subscribe(&mut cluster, ann, json!({"since": {"last": 9}}));
    assert_eq!(seqs(&kept), [5, 6]);
    // No rule, no history: and nothing of it is left.
    switch(&mut cluster, at_version(3, rights(app())));
    assert_eq!(publish(&mut cluster, ben, 7)["epoch"], Value::Null);
    assert!(heard(&mut cluster, ann)[0].get("seq").is_none());
    assert!(cluster.shards.iter().all(|it| it.histories().1 == 0));
    cluster.shards.iter().for_each(Shard::check_invariants);
}

fn switch(cluster: &mut Cluster, rights: Rights) {
    let rights = Arc::new(rights);
    for shard in 0..cluster.shards.len() {
        cluster.input(shard, Input::Rights(rights.clone()));
    }
    cluster.run();
}

/// How many histories there are on all shards.
fn histories(cluster: &Cluster) -> usize {
    cluster.shards.iter().map(|shard| shard.histories().1).sum()
}

/// The rights in which another app has the id of that of [`rules`].
fn made_again(version: u64) -> Rights {
    let rules = rules(version, 10);
    let before = rules.apps().next().unwrap();
    let mut app = app();
    (app.index, app.history) = (AppIndex(before.index.0 + 1), before.history.clone());
    at_version(version, rights(app))
}

#[test]
fn an_app_that_is_made_again_has_nothing_of_the_one_before() {
    for shards in [1, 3] {
        let mut cluster = with_history(shards);
        let ben = peer(&mut cluster, 0, "ben");
        let first = publish(&mut cluster, ben, 1);
        // The shards are told at once of the end of the one and of the other.
        switch(&mut cluster, made_again(2));
        assert_eq!(histories(&cluster), 0);
        assert_eq!(cluster.messages(ben), ["close 4001"]);
        let ann = peer(&mut cluster, usize::from(shards) - 1, "ann");
        let since = json!({"epoch": first["epoch"], "seq": 0});
        let (ack, heard) = subscribe(&mut cluster, ann, json!({ "since": since }));
        assert_eq!(
            (&ack["recovered"], heard.len()),
            (&json!(false), 0),
            "{ack}"
        );
        let ack = publish(&mut cluster, ann, 2);
        assert!(ack["seq"] == 1 && ack["epoch"] != first["epoch"], "{ack}");
        cluster.shards.iter().for_each(Shard::check_invariants);
    }
}

#[test]
fn nothing_of_an_earlier_app_is_shown_before_all_of_it_is_forgotten() {
    let mut cluster = with_history(1);
    let ben = peer(&mut cluster, 0, "ben");
    let names: Vec<String> = (0..20).map(|at| format!("h{at}")).collect();
    for channel in &names {
        let request = json!({"type": "publish", "channel": channel, "data": 1});
        send(&mut cluster, ben, &request);
    }
    cluster.shards[0].limit_portions(1);
    cluster.input(0, Input::EndOfTurn);
    cluster.input(0, Input::Rights(Arc::new(made_again(2))));
    assert!(cluster.shards[0].is_behind_rights());
    assert!(histories(&cluster) > 15);
    // One that is looked at late is judged by whoever asks for it.
    let ask = b"GET /v1/channels/h19/history HTTP/1.1\r\nHost: x\r\n";
    let ask = [&ask[..], b"Authorization: Bearer sk_live_full\r\n\r\n"].concat();
    let backend = cluster.accept(0);
    cluster.feed(backend, &ask);
    assert!(cluster.shards[0].is_behind_rights());
    cluster.run();
    let answer = String::from_utf8(cluster.take(backend)).unwrap();
    assert!(answer.contains(r#""messages":[]"#), "{answer}");
    assert!(!cluster.shards[0].is_behind_rights());
    // The one that was asked for has begun anew.
    assert_eq!(histories(&cluster), 1);
    cluster.shards[0].check_invariants();
}

#[test]
fn what_an_app_keeps_ends_with_it_and_not_while_it_is_suspended() {
    for shards in [1, 3] {
        let mut cluster = with_history(shards);
        let ben = peer(&mut cluster, 0, "ben");
        let first = publish(&mut cluster, ben, 1);
        let suspended = |version, suspended| {
            let mut app = app();
            app.history = rules(version, 10).apps().next().unwrap().history.clone();
            app.suspended = suspended;
            at_version(version, rights(app))
        };
        switch(&mut cluster, suspended(2, true));
        assert_eq!(histories(&cluster), 1);
        switch(&mut cluster, suspended(3, false));
        let ben = peer(&mut cluster, 0, "ben");
        let ack = publish(&mut cluster, ben, 2);
        assert!(ack["seq"] == 2 && ack["epoch"] == first["epoch"], "{ack}");
        switch(&mut cluster, Rights::new(4));
        assert_eq!(histories(&cluster), 0);
        cluster.shards.iter().for_each(Shard::check_invariants);
    }
}
