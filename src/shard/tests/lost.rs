//! Every wait ends: when a shard that was asked is silent for too long, and at once when it is
//! lost.

use super::*;
use crate::ids::AppIndex;
use crate::shard::rest::tests::with_key;

/// Longer than any question is kept.
const TOO_LONG_MS: u64 = 30_000;

/// How a shard goes: it says nothing, or the others are told that it is gone.
#[derive(Clone, Copy, Debug)]
enum Gone {
    Silent,
    Lost,
}

const BOTH: [Gone; 2] = [Gone::Silent, Gone::Lost];

/// A name with that prefix that a shard owns, as a channel and as a peer: both are hashed alike.
fn owned_by(cluster: &Cluster, shard: usize, prefix: &str) -> String {
    let placement = &cluster.shards[0].context.placement;
    let mut names = (0..).map(|at| format!("{prefix}{at}"));
    let is_owner = |name: &String| {
        let hash = placement.channel_hash(AppIndex(0), name);
        placement.owner(hash).index() == shard
    };
    names.find(is_owner).unwrap()
}

/// Lets a shard go, and the others find out.
fn go(cluster: &mut Cluster, shard: usize, gone: Gone) {
    match gone {
        Gone::Silent => {
            cluster.wait(TOO_LONG_MS - 1);
            cluster.wait(1);
        }
        Gone::Lost => cluster.lose(shard),
    }
}

/// The text messages that have come.
fn texts(cluster: &mut Cluster, client: Client) -> Vec<String> {
    let messages = cluster.messages(client).into_iter();
    messages.filter(|text| !text.is_empty()).collect()
}

#[track_caller]
fn check_backend_error(texts: &[String], request_id: &str) {
    let begin = format!(r#"{{"type":"error","requestId":"{request_id}","code":"backend_error","#);
    assert!(
        texts.len() == 1 && texts[0].starts_with(&begin),
        "{texts:?}"
    );
}

#[test]
fn a_publication_whose_owner_is_gone_is_a_backend_error() {
    for gone in BOTH {
        let mut cluster = cluster(2);
        let (ann, _) = cluster.connect(0, KEY);
        let channel = owned_by(&cluster, 1, "room");
        cluster.silence(1);
        cluster.message(
            ann,
            &format!(r#"{{"type":"publish","channel":"{channel}","data":1,"requestId":"7"}}"#),
        );
        assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
        go(&mut cluster, 1, gone);
        check_backend_error(&texts(&mut cluster, ann), "7");
        assert_eq!(cluster.shards[0].bytes_held(ann.id).unwrap().awaited, 0);
        cluster.shards[0].check_invariants();
    }
}

#[test]
fn a_publication_is_not_given_up_a_moment_too_early() {
    let mut cluster = cluster(2);
    let (ann, _) = cluster.connect(0, KEY);
    let channel = owned_by(&cluster, 1, "room");
    cluster.silence(1);
    cluster.message(
        ann,
        &format!(r#"{{"type":"publish","channel":"{channel}","data":1,"requestId":"7"}}"#),
    );
    cluster.wait(TOO_LONG_MS - 1);
    assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
    let next_ms = cluster.shards[0].next_deadline_ms();
    assert_eq!(next_ms, Some(cluster.now.mono_ms + 1));
}

#[test]
fn requests_whose_owner_is_gone_are_unavailable_and_their_connections_go_on() {
    for gone in BOTH {
        for (method, path, body) in [
            ("POST", "/v1/channels/CHANNEL/publish", r#"{"data":1}"#),
            ("GET", "/v1/channels/CHANNEL/peers", ""),
            ("DELETE", "/v1/peers/PEER", ""),
        ] {
            let mut cluster = cluster(2);
            let path = path.replace("CHANNEL", &owned_by(&cluster, 1, "room"));
            let path = path.replace("PEER", &owned_by(&cluster, 1, "peer"));
            let client = cluster.accept(0);
            cluster.silence(1);
            cluster.send(client, &with_key(method, &path, body));
            assert!(!cluster.has_received(client), "{path}");
            go(&mut cluster, 1, gone);
            let answers = cluster.responses(client);
            assert_eq!(answers.len(), 1, "{path}");
            assert_eq!(answers[0].status, 503, "{path}");
            assert_eq!(answers[0].json()["error"], "internal_error", "{path}");
            cluster.send(client, &with_key("GET", "/v1/usage", ""));
            assert_eq!(cluster.responses(client)[0].status, 200, "{path}");
        }
    }
}

#[test]
fn input_that_waits_for_a_lost_shards_link_goes_on() {
    let mut cluster = cluster(2);
    let (ann, _) = cluster.connect(0, KEY);
    let channel = owned_by(&cluster, 1, "room");
    let publish = format!(r#"{{"type":"publish","channel":"{channel}","data":1}}"#);
    let message = crate::shard::mesh_message::MeshMessage::Throttle(true);
    let from = crate::ids::ShardId(1);
    cluster.input(0, Input::Mesh { from, message });
    cluster.silence(1);
    cluster.message(ann, &publish);
    cluster.message(ann, r#"{"type":"ping","requestId":"1"}"#);
    assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
    cluster.lose(1);
    assert_eq!(
        texts(&mut cluster, ann),
        [r#"{"type":"pong","requestId":"1"}"#]
    );
}
