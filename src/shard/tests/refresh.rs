//! Another token for an open connection: from the ack on it holds, whole.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

const NOW_SEC: u64 = 1_700_000_000;

/// A token of `sub` that ends so many seconds after the start, and has what is changed.
fn token_with<'a>(
    sub: &'a str,
    ends_sec: u64,
    change: impl FnOnce(&mut MintRequest<'a>),
) -> String {
    let mut request = MintRequest {
        key_id: "sk_id_full",
        sub,
        issued_at_unix: NOW_SEC,
        expires_at_unix: NOW_SEC + ends_sec,
        channels: None,
        permissions: None,
        metadata: None,
        peer_metadata: None,
    };
    change(&mut request);
    mint(&request, &Secret::new(b"sk_secret_full")).unwrap()
}

fn refresh(token: &str) -> String {
    format!(r#"{{"type":"refresh","token":"{token}","requestId":"1"}}"#)
}

fn ack(ends_sec: u64) -> String {
    let ends_sec = NOW_SEC + ends_sec;
    format!(r#"{{"type":"ack","requestId":"1","expiresAt":{ends_sec}}}"#)
}

fn ended(channel: &str) -> String {
    let message = ErrorCode::ChannelNotAuthorized.message();
    let channel = format!(r#""channel":"{channel}""#);
    let code = r#""code":"channel_not_authorized""#;
    format!(r#"{{"type":"error",{code},{channel},"message":"{message}"}}"#)
}

fn subscribe(channel: &str) -> String {
    format!(r#"{{"type":"subscribe","channel":"{channel}","requestId":"s"}}"#)
}

fn publish(channel: &str) -> String {
    format!(r#"{{"type":"publish","channel":"{channel}","data":1}}"#)
}

/// Lets so much time pass, in which the client is heard of now and then.
fn live(cluster: &mut Cluster, client: Client, sec: u64) {
    for at in 1..=sec {
        cluster.wait(1_000);
        if at % 20 == 0 {
            cluster.message(client, r#"{"type":"ping"}"#);
            cluster.take(client);
        }
    }
}

/// The patterns of a token.
fn patterns(sources: &[&str]) -> Vec<Pattern> {
    let parsed = sources.iter().map(|it| Pattern::parse(it).unwrap());
    parsed.collect()
}

#[test]
fn the_new_expiry_counts_whether_it_is_later_or_earlier() {
    for (ends_sec, alive_sec) in [(120, 119), (30, 29)] {
        let mut cluster = cluster(2);
        let (ann, _) = cluster.connect(0, &token("ann", 60, "{}"));
        let later = token_with("ann", ends_sec, |_| ());
        check(&mut cluster, ann, &refresh(&later), &[&ack(ends_sec)]);
        live(&mut cluster, ann, alive_sec);
        assert_eq!(cluster.messages(ann), [] as [&str; 0], "{ends_sec}");
        cluster.wait(1_000);
        assert_eq!(cluster.messages(ann), ["close 4002"], "{ends_sec}");
    }
}

#[test]
fn what_the_new_token_does_not_allow_ends_and_others_are_told() {
    for shard_count in [1, 2, 4] {
        let mut cluster = cluster(shard_count);
        let (ann, _) = cluster.connect(0, &token("ann", 60, "{}"));
        let bob = peer(&mut cluster, usize::from(shard_count) - 1, "bob");
        for channel in ["room/1", "room/2", "hall"] {
            cluster.message(ann, &subscribe(channel));
            cluster.message(bob, &subscribe(channel));
        }
        cluster.wait(100);
        cluster.take(ann);
        cluster.take(bob);
        let channels = patterns(&["room/1", "yard"]);
        let narrow = token_with("ann", 60, |it| it.channels = Some(&channels));
        cluster.message(ann, &refresh(&narrow));
        let mut told = cluster.messages(ann);
        assert_eq!(told.remove(0), ack(60));
        told.sort_unstable();
        assert_eq!(told, [ended("hall"), ended("room/2")]);
        let mut left = cluster.messages(bob);
        left.sort_unstable();
        let left_of = |channel: &str| {
            format!(r#"{{"type":"presence","channel":"{channel}","joined":[],"#)
                + r#""left":[{"peerId":"ann","metadata":{}}]}"#
        };
        assert_eq!(left, [left_of("hall"), left_of("room/2")]);
        // Nothing more of them comes, and the one that stays goes on.
        for channel in ["room/1", "room/2", "hall"] {
            cluster.message(bob, &publish(channel));
        }
        let message = r#"{"type":"message","channel":"room/1","from":"bob","data":1}"#;
        assert_eq!(cluster.messages(ann), [message]);
        let again = subscribe("hall").replace(r#""s""#, r#""1""#);
        check_error(&mut cluster, ann, &again, "channel_not_authorized");
        check(
            &mut cluster,
            ann,
            &subscribe("yard"),
            &[r#"{"type":"ack","requestId":"s"}"#],
        );
        for shard in &cluster.shards {
            shard.check_invariants();
        }
    }
}

#[test]
fn who_may_not_subscribe_any_more_is_in_nothing() {
    let mut cluster = cluster(2);
    let (ann, _) = cluster.connect(0, &token("ann", 60, "{}"));
    cluster.message(ann, &subscribe("a"));
    cluster.wait(100);
    cluster.take(ann);
    let actions = Actions::parse(["publish"]).unwrap();
    let other = token_with("ann", 60, |it| it.permissions = Some(actions));
    check(
        &mut cluster,
        ann,
        &refresh(&other),
        &[&ack(60), &ended("a")],
    );
    let more = token_with("ann", 60, |_| ());
    check(&mut cluster, ann, &refresh(&more), &[&ack(60)]);
    check(
        &mut cluster,
        ann,
        &subscribe("a"),
        &[r#"{"type":"ack","requestId":"s"}"#],
    );
}

#[test]
fn presence_ends_with_the_right_to_it_and_messages_go_on() {
    let mut cluster = cluster(2);
    let (ann, _) = cluster.connect(0, &token("ann", 60, "{}"));
    cluster.message(ann, &subscribe("a"));
    cluster.wait(100);
    cluster.take(ann);
    let actions = Actions::parse(["subscribe"]).unwrap();
    let silent = token_with("ann", 60, |it| it.permissions = Some(actions));
    check(&mut cluster, ann, &refresh(&silent), &[&ack(60)]);
    let bob = peer(&mut cluster, 1, "bob");
    cluster.message(bob, &subscribe("a"));
    cluster.message(bob, &publish("a"));
    let message = r#"{"type":"message","channel":"a","from":"bob","data":1}"#;
    assert_eq!(cluster.messages(ann), [message]);
}

/// Who is in a roster that is built of presence frames: a snapshot, then changes.
fn roster(told: &[String], channel: &str) -> BTreeSet<String> {
    let mut roster: Option<BTreeSet<String>> = None;
    for text in told {
        let it: Value = serde_json::from_str(text).unwrap();
        if it["type"] != "presence" || it["channel"] != channel {
            continue;
        }
        let ids = |list: &Value| {
            let list = list.as_array().unwrap().iter();
            let id = |it: &Value| it["peerId"].as_str().unwrap().to_owned();
            list.map(id).collect::<BTreeSet<String>>()
        };
        let (joined, left) = (ids(&it["joined"]), ids(&it["left"]));
        match &mut roster {
            None => roster = Some(joined),
            Some(roster) => {
                assert!(
                    left.is_subset(roster) && roster.is_disjoint(&joined),
                    "{text}"
                );
                roster.retain(|id| !left.contains(id));
                roster.extend(joined);
            }
        }
    }
    roster.expect("a snapshot")
}

#[test]
fn presence_comes_back_with_the_right_to_it_and_begins_with_a_snapshot() {
    for shard_count in [1, 2, 4] {
        let mut cluster = cluster(shard_count);
        let (ann, _) = cluster.connect(0, &token("ann", 60, "{}"));
        let ben = peer(&mut cluster, usize::from(shard_count) - 1, "ben");
        let with_metadata = subscribe("a").replace('}', r#","includeSenderMetadata":true}"#);
        cluster.message(ann, &with_metadata);
        for client in [ann, ben] {
            cluster.message(client, &subscribe("b"));
        }
        cluster.wait(100);
        cluster.take(ann);
        let silent = token_with("ann", 60, |it| {
            it.permissions = Some(Actions::parse(["subscribe"]).unwrap());
        });
        check(&mut cluster, ann, &refresh(&silent), &[&ack(60)]);
        cluster.message(ben, r#"{"type":"unsubscribe","channel":"b"}"#);
        cluster.message(ben, &subscribe("a"));
        assert_eq!(cluster.messages(ann), [] as [&str; 0]);
        let all = token_with("ann", 60, |_| ());
        let snapshots = |count| ack(60).replace('}', &format!(r#","snapshots":{count}}}"#));
        check(&mut cluster, ann, &refresh(&all), &[&snapshots(2)]);
        // What is sent to a channel follows its snapshot, and that follows the ack after a pause.
        let cy = peer(&mut cluster, 0, "cy");
        cluster.message(ben, &publish("a"));
        cluster.message(cy, &subscribe("a"));
        cluster.message(cy, &subscribe("b"));
        cluster.wait(16);
        assert_eq!(cluster.messages(ann), [] as [&str; 0]);
        cluster.wait(1);
        let mut told = cluster.messages(ann);
        let of_a: Vec<_> = told
            .iter()
            .filter(|it| it.contains(r#""channel":"a""#))
            .collect();
        assert!(of_a[0].contains(r#""joined":[{"peerId":"ben""#), "{told:?}");
        assert!(
            of_a[1].contains(r#""data":1,"fromMetadata":{"n":"ben"}"#),
            "{told:?}"
        );
        cluster.message(ben, r#"{"type":"unsubscribe","channel":"a"}"#);
        told.extend(cluster.messages(ann));
        let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
        let expected: [BTreeSet<String>; 2] = [names(&["cy"]), names(&["cy"])];
        assert_eq!(["a", "b"].map(|it| roster(&told, it)), expected, "{told:?}");
        // Where nothing changes, nothing is told again.
        check(&mut cluster, ann, &refresh(&all), &[&ack(60)]);
        cluster.wait(100);
        assert_eq!(cluster.messages(ann), [] as [&str; 0]);
        for shard in &cluster.shards {
            shard.check_invariants();
        }
    }
}

#[test]
fn who_had_no_presence_from_the_beginning_gets_it_with_the_right() {
    let mut cluster = cluster(2);
    let (deaf, _) = cluster.connect(0, &token_without_presence());
    let ben = peer(&mut cluster, 1, "ben");
    for channel in ["a", "b", "c"] {
        cluster.message(deaf, &subscribe(channel));
        cluster.message(ben, &subscribe(channel));
    }
    cluster.wait(100);
    cluster.take(deaf);
    // Without an id there is no ack. Who leaves is shown nothing, and who subscribes before the
    // snapshot has come waits for it; a second token waits for both.
    let all = refresh(&token_with("deaf", 60, |_| ()));
    let unnamed = all.replace(r#","requestId":"1""#, "");
    let unsubscribe = r#"{"type":"unsubscribe","channel":"b"}"#;
    let frames = frames(&[&*unnamed, unsubscribe, &subscribe("c"), &all]);
    cluster.send(deaf, &frames);
    for _ in 0..4 {
        cluster.wait(20);
    }
    let told = cluster.messages(deaf);
    let of = |what: &str| told.iter().filter(|it| it.contains(what)).count();
    let presence = [r#"channel":"a""#, r#"channel":"b""#, r#"channel":"c""#].map(of);
    assert_eq!(presence, [1, 0, 2], "{told:?}");
    assert_eq!(told.last(), Some(&ack(60)), "{told:?}");
    assert_eq!(told.len(), 5, "{told:?}");
    for shard in &cluster.shards {
        shard.check_invariants();
    }
}

#[test]
fn it_waits_for_the_joins_before_it_and_what_follows_waits_for_it() {
    for shard_count in [1, 2, 4] {
        let mut cluster = cluster(shard_count);
        let (ann, _) = cluster.connect(0, &token("ann", 60, "{}"));
        let channels = patterns(&["a"]);
        let narrow = token_with("ann", 60, |it| it.channels = Some(&channels));
        let again = subscribe("b").replace(r#""s""#, r#""t""#);
        let all = [&*subscribe("a"), &subscribe("b"), &refresh(&narrow), &again];
        cluster.send(ann, &frames(&all));
        for _ in 0..4 {
            cluster.wait(20);
        }
        let told = cluster.messages(ann);
        let at = |begin: &str| {
            let found = told.iter().position(|text| text.starts_with(begin));
            found.unwrap_or_else(|| panic!("{begin}: {told:?}"))
        };
        let snapshots = told.iter().filter(|text| text.contains(r#""presence""#));
        assert_eq!((told.len(), snapshots.count()), (7, 2), "{told:?}");
        let refreshed = at(&ack(60));
        assert!(
            at(r#"{"type":"presence","channel":"b""#) < refreshed,
            "{told:?}"
        );
        assert_eq!(told[refreshed + 1], ended("b"));
        assert!(
            at(r#"{"type":"error","requestId":"t""#) > refreshed,
            "{told:?}"
        );
    }
}

#[test]
fn a_token_that_is_not_good_changes_nothing() {
    let mut cluster = cluster(2);
    let (ann, _) = cluster.connect(0, &token("ann", 60, "{}"));
    cluster.message(ann, &subscribe("a"));
    cluster.wait(100);
    cluster.take(ann);
    let stale = token_with("ann", 0, |_| ());
    let other = token_with("bob", 60, |_| ());
    let foreign = token_with("ann", 60, |it| it.key_id = "sk_id_nobody");
    let sealed = token_with("ann", 60, |it| it.key_id = "sk_id_sealed");
    for (shown, code) in [
        (&*stale, "invalid_token"),
        (&foreign, "invalid_token"),
        (&stale[..stale.len() - 1], "invalid_token"),
        ("", "invalid_token"),
        ("pk_live_test", "invalid_token"),
        (&other, "peer_mismatch"),
        (&sealed, "internal_error"),
    ] {
        check_error(&mut cluster, ann, &refresh(shown), code);
    }
    for text in [
        r#"{"type":"refresh","requestId":"1"}"#,
        r#"{"type":"refresh","token":7,"requestId":"1"}"#,
    ] {
        check_error(&mut cluster, ann, text, "invalid_token");
    }
    let (guest, _) = cluster.connect(1, KEY);
    let good = token_with("ann", 60, |_| ());
    check_error(&mut cluster, guest, &refresh(&good), "action_not_permitted");
    // It is in its channel still, and ends when its own token does.
    cluster.message(guest, &publish("a"));
    assert_eq!(cluster.messages(ann).len(), 1);
    live(&mut cluster, ann, 59);
    cluster.take(ann);
    cluster.wait(1_000);
    assert_eq!(cluster.messages(ann), ["close 4002"]);
}
