//! Every wait ends: when a shard that was asked is silent for too long, and at once when it is
//! lost.

use smallvec::smallvec;

use super::recorded::recorded;
use super::*;
use crate::domain::app_id::AppTag;
use crate::domain::peer::SharedChannel;
use crate::events::kind::{Cause, Kind};
use crate::events::recorder::{Privacy, Recorder};
use crate::ids::{ShardId, Ticket};
use crate::shard::mesh_message::{DirectResult, Hold, Lag, Lateness, MeshMessage};
use crate::shard::rest::tests::with_key;
use crate::shard::state::Shard;
use crate::shard::testing::messages;
use crate::shard::tuning::Tuning;

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
        let hash = placement.channel_hash(AppTag::of("app_test"), name);
        placement.owner(hash).shard().index() == shard
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

/// Nobody on these shards waits for anything.
#[track_caller]
fn check_quiet(cluster: &mut Cluster, shards: &[usize]) {
    for shard in shards {
        cluster.shards[*shard].check_invariants();
        assert_eq!(cluster.shards[*shard].context.questions.iter().count(), 0);
        assert!(cluster.shards[*shard].peers.scopes.is_empty());
        assert!(cluster.shards[*shard].channels.barriers.is_empty());
    }
}

/// What a command on shard 0 brings when shard 1 is gone, which owns what it is about; and
/// nothing before.
#[track_caller]
fn check_command(cluster: &mut Cluster, client: Client, command: &str, gone: Gone) {
    cluster.message(client, command);
    assert_eq!(texts(cluster, client), Vec::<String>::new(), "{command}");
    go(cluster, 1, gone);
    check_backend_error(&texts(cluster, client), "7");
    assert_eq!(
        cluster.shards[0].bytes_held(client.id).unwrap().awaited,
        0,
        "{command}"
    );
    check_quiet(cluster, &[0]);
}

#[test]
fn a_publication_whose_owner_is_gone_is_a_backend_error() {
    for gone in BOTH {
        let mut cluster = cluster(2);
        let (ann, _) = cluster.connect(0, KEY);
        let channel = owned_by(&cluster, 1, "room");
        cluster.silence(1);
        let publish =
            format!(r#"{{"type":"publish","channel":"{channel}","data":1,"requestId":"7"}}"#);
        check_command(&mut cluster, ann, &publish, gone);
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
            ("GET", "/v1/channels/CHANNEL/history", ""),
            ("DELETE", "/v1/channels/CHANNEL/history", ""),
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
    let message = MeshMessage::Throttle { throttled: true };
    let from = ShardId(1);
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

/// A publisher on the first shard, and a member on the second one, of a channel that `owner` owns.
/// Returns the publisher, the channel, and a publication.
fn publisher(cluster: &mut Cluster, owner: usize) -> (Client, SharedChannel, String) {
    let name = owned_by(cluster, owner, "room");
    let member = peer(cluster, 1, "member");
    let subscribe = format!(r#"{{"type":"subscribe","channel":"{name}"}}"#);
    cluster.message(member, &subscribe);
    let (ann, _) = cluster.connect(0, KEY);
    let shard = &cluster.shards[0];
    let app = AppTag::of("app_test");
    let hash = shard.context.placement.channel_hash(app, &name);
    let channel = shard.channels.channel_key(app, hash, &name);
    let publish = format!(r#"{{"type":"publish","channel":"{name}","data":1,"requestId":"1"}}"#);
    (ann, channel, publish)
}

#[test]
fn publishers_do_not_wait_for_an_owner_that_is_gone() {
    let mut cluster = cluster(2);
    let (ann, channel, publish) = publisher(&mut cluster, 1);
    let hold = Hold {
        channel,
        is_held: true,
    };
    let (from, message) = (ShardId(1), MeshMessage::Hold(Box::new(hold)));
    cluster.input(0, Input::Mesh { from, message });
    cluster.message(ann, &publish);
    assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
    cluster.lose(1);
    cluster.wait(TOO_LONG_MS);
    check_backend_error(&texts(&mut cluster, ann), "1");
}

#[test]
fn publishers_do_not_wait_for_members_that_are_gone() {
    let mut cluster = cluster(2);
    let (ann, channel, publish) = publisher(&mut cluster, 0);
    let lateness = Lateness {
        late: 1,
        ..Lateness::default()
    };
    let lag = Lag { channel, lateness };
    let (from, message) = (ShardId(1), MeshMessage::Lag(Box::new(lag)));
    cluster.input(0, Input::Mesh { from, message });
    cluster.message(ann, &publish);
    assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
    cluster.lose(1);
    cluster.wait(TOO_LONG_MS);
    let texts = texts(&mut cluster, ann);
    assert!(
        texts.len() == 1 && texts[0].contains(r#""type":"ack""#),
        "{texts:?}"
    );
}

#[test]
fn a_subscription_whose_owner_is_gone_is_a_backend_error_and_counts_no_more() {
    for gone in BOTH {
        let mut cluster = Cluster::with(2, rights(app()), |config| {
            config.limits.channels_per_connection = 1;
        });
        let (ann, _) = cluster.connect(0, KEY);
        let channel = owned_by(&cluster, 1, "room");
        cluster.silence(1);
        let subscribe = format!(r#"{{"type":"subscribe","channel":"{channel}","requestId":"7"}}"#);
        check_command(&mut cluster, ann, &subscribe, gone);
        let here = owned_by(&cluster, 0, "room");
        let subscribe = format!(r#"{{"type":"subscribe","channel":"{here}","requestId":"8"}}"#);
        cluster.message(ann, &subscribe);
        assert_eq!(
            texts(&mut cluster, ann),
            [r#"{"type":"ack","requestId":"8"}"#]
        );
    }
}

#[test]
fn a_join_that_is_complete_too_late_leaves_no_member_behind() {
    let mut cluster = cluster(2);
    let (ann, _) = cluster.connect(0, KEY);
    let channel = owned_by(&cluster, 1, "room");
    let subscribe = format!(r#"{{"type":"subscribe","channel":"{channel}","requestId":"7"}}"#);
    cluster.feed(ann, &Cluster::frame(&subscribe));
    cluster.turn(0);
    cluster.input(1, Input::EndOfTurn);
    let late = std::mem::take(&mut cluster.effects(1).mesh[0]);
    assert!(matches!(late[..], [MeshMessage::Joined(_)]), "{late:?}");
    cluster.wait(TOO_LONG_MS);
    check_backend_error(&texts(&mut cluster, ann), "7");
    for message in late {
        let from = ShardId(1);
        cluster.input(0, Input::Mesh { from, message });
    }
    cluster.run();
    assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
    let shards: Vec<&Shard> = cluster.shards.iter().collect();
    Shard::check_quiet(&shards);
    assert_eq!(cluster.shards[1].counts().1, 0, "the channel is gone");
}

#[test]
fn a_leave_that_is_complete_too_late_leaves_no_member_behind() {
    let mut cluster = cluster(2);
    let (ann, _) = cluster.connect(0, KEY);
    let channel = owned_by(&cluster, 1, "room");
    for (command, request_id) in [("subscribe", 7), ("unsubscribe", 8)] {
        let command =
            format!(r#"{{"type":"{command}","channel":"{channel}","requestId":"{request_id}"}}"#);
        cluster.feed(ann, &Cluster::frame(&command));
    }
    cluster.turn(0);
    cluster.input(1, Input::EndOfTurn);
    let mut late = std::mem::take(&mut cluster.effects(1).mesh[0]).into_iter();
    let from = ShardId(1);
    // The join is answered in time, after the leave was asked for.
    cluster.wait(TOO_LONG_MS - 1);
    let message = late.next().unwrap();
    assert!(matches!(message, MeshMessage::Joined(_)), "{message:?}");
    cluster.input(0, Input::Mesh { from, message });
    cluster.run();
    texts(&mut cluster, ann);
    cluster.wait(1);
    check_backend_error(&texts(&mut cluster, ann), "8");
    for message in late {
        assert!(matches!(message, MeshMessage::Left(_)), "{message:?}");
        cluster.input(0, Input::Mesh { from, message });
    }
    cluster.wait(1_000);
    let shards: Vec<&Shard> = cluster.shards.iter().collect();
    Shard::check_quiet(&shards);
}

#[test]
fn an_unsubscription_whose_owner_is_gone_is_a_backend_error() {
    for gone in BOTH {
        let mut cluster = cluster(2);
        let (ann, _) = cluster.connect(0, KEY);
        let channel = owned_by(&cluster, 1, "room");
        cluster.message(
            ann,
            &format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#),
        );
        cluster.wait(1_000);
        texts(&mut cluster, ann);
        cluster.silence(1);
        let unsubscribe =
            format!(r#"{{"type":"unsubscribe","channel":"{channel}","requestId":"7"}}"#);
        check_command(&mut cluster, ann, &unsubscribe, gone);
    }
}

#[test]
fn a_direct_message_whose_receivers_owner_is_gone_is_a_backend_error() {
    for gone in BOTH {
        let mut cluster = cluster(2);
        let (ann, _) = cluster.connect(0, KEY);
        let bob = owned_by(&cluster, 1, "bob");
        cluster.silence(1);
        let send = format!(r#"{{"type":"send","to":"{bob}","data":1,"requestId":"7"}}"#);
        check_command(&mut cluster, ann, &send, gone);
    }
}

#[test]
fn a_direct_message_waits_for_the_homes_that_its_receivers_owner_names() {
    let mut cluster = cluster(3);
    let (ann, _) = cluster.connect(0, KEY);
    let bob = owned_by(&cluster, 1, "bob");
    let send = format!(r#"{{"type":"send","to":"{bob}","data":1,"requestId":"7"}}"#);
    cluster.feed(ann, &Cluster::frame(&send));
    let sent = std::mem::take(&mut cluster.effects(0).mesh[1]);
    let [MeshMessage::Send(send)] = &sent[..] else {
        panic!("{sent:?}");
    };
    let result = DirectResult {
        send: send.send,
        homes: Some(Arc::new(smallvec![ShardId(1).into(), ShardId(2).into()])),
        delivered: false,
    };
    let message = MeshMessage::DirectResult(result);
    let from = ShardId(1);
    cluster.input(0, Input::Mesh { from, message });
    cluster.lose(1);
    assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
    cluster.lose(2);
    check_backend_error(&texts(&mut cluster, ann), "7");
    check_quiet(&mut cluster, &[0]);
}

#[test]
fn a_direct_message_whose_receivers_home_is_silent_is_a_backend_error() {
    let mut cluster = cluster(3);
    let (ann, _) = cluster.connect(0, KEY);
    let bob = owned_by(&cluster, 1, "bob");
    peer(&mut cluster, 2, &bob);
    cluster.silence(2);
    let send = format!(r#"{{"type":"send","to":"{bob}","data":1,"requestId":"7"}}"#);
    cluster.message(ann, &send);
    assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
    cluster.wait(TOO_LONG_MS);
    check_backend_error(&texts(&mut cluster, ann), "7");
}

#[test]
fn a_direct_message_that_one_home_has_waits_for_no_other() {
    let mut cluster = cluster(3);
    let (ann, _) = cluster.connect(0, KEY);
    let bob = owned_by(&cluster, 1, "bob");
    for shard in [1, 2] {
        peer(&mut cluster, shard, &bob);
    }
    cluster.silence(2);
    let send = format!(r#"{{"type":"send","to":"{bob}","data":1,"requestId":"7"}}"#);
    cluster.message(ann, &send);
    assert_eq!(
        texts(&mut cluster, ann),
        [r#"{"type":"ack","requestId":"7"}"#]
    );
    check_quiet(&mut cluster, &[0, 1]);
}

#[test]
fn direct_messages_behind_one_whose_scope_is_unknown_go_on() {
    for gone in BOTH {
        let scoped = App {
            direct_needs_shared_channel: true,
            ..app()
        };
        let mut cluster = Cluster::new(2, rights(scoped));
        let (ann, _) = cluster.connect(0, KEY);
        let bob = owned_by(&cluster, 0, "bob");
        let receiver = peer(&mut cluster, 0, &bob);
        let (here, there) = (owned_by(&cluster, 0, "room"), owned_by(&cluster, 1, "room"));
        let subscribe = |channel: &str| format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#);
        cluster.message(ann, &subscribe(&there));
        cluster.message(receiver, &subscribe(&here));
        cluster.wait(1_000);
        cluster.silence(1);
        let send = |id| format!(r#"{{"type":"send","to":"{bob}","data":{id},"requestId":"{id}"}}"#);
        // About the first, shard 1 is asked; the second finds a channel here, and waits.
        cluster.message(ann, &send(7));
        cluster.message(ann, &subscribe(&here));
        cluster.wait(1_000);
        cluster.message(ann, &send(8));
        texts(&mut cluster, ann);
        texts(&mut cluster, receiver);
        go(&mut cluster, 1, gone);
        let answers = texts(&mut cluster, ann);
        check_backend_error(&answers[..1], "7");
        assert_eq!(answers[1..], [r#"{"type":"ack","requestId":"8"}"#]);
        let received = texts(&mut cluster, receiver);
        assert!(received.len() == 1 && received[0].contains(r#""data":8"#));
        check_quiet(&mut cluster, &[0]);
    }
}

#[test]
fn a_connection_whose_peers_owner_is_gone_is_closed_to_try_again() {
    for gone in BOTH {
        let mut cluster = cluster(2);
        let token = token(&owned_by(&cluster, 1, "ann"), 3_600, "{}");
        cluster.silence(1);
        let client = cluster.accept(0);
        cluster.send(client, &upgrade(&token));
        let bytes = cluster.take(client);
        assert!(bytes.starts_with(b"HTTP/1.1 101"));
        assert!(bytes.ends_with(b"\r\n\r\n"), "nothing behind the head");
        go(&mut cluster, 1, gone);
        assert_eq!(messages(&cluster.take(client)), ["close 1013"]);
        check_quiet(&mut cluster, &[0]);
        cluster.close(client);
        cluster.shards[0].check_vacant();
    }
}

/// A request for a WebSocket with that credential.
fn upgrade(credential: &str) -> Vec<u8> {
    format!(
        "GET /v1?{credential} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

#[test]
fn a_kick_that_a_home_or_an_owner_of_channels_does_not_confirm_is_unavailable() {
    for gone in BOTH {
        for connection_on in [0, 1] {
            let mut cluster = cluster(2);
            let bob = owned_by(&cluster, 0, "bob");
            let channel = owned_by(&cluster, 1, "room");
            let connection = peer(&mut cluster, connection_on, &bob);
            cluster.message(
                connection,
                &format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#),
            );
            let client = cluster.accept(0);
            cluster.silence(1);
            let kick = with_key("DELETE", &format!("/v1/peers/{bob}"), "");
            cluster.send(client, &kick);
            assert!(!cluster.has_received(client));
            go(&mut cluster, 1, gone);
            let answers = cluster.responses(client);
            assert_eq!(answers[0].status, 503, "a connection on {connection_on}");
            assert_eq!(answers[0].json()["error"], "internal_error");
            check_quiet(&mut cluster, &[0]);
        }
    }
}

#[test]
fn a_kick_waits_for_the_owner_of_a_channel_that_the_connection_is_leaving() {
    let mut cluster = cluster(2);
    let bob = owned_by(&cluster, 0, "bob");
    let channel = owned_by(&cluster, 1, "room");
    let connection = peer(&mut cluster, 0, &bob);
    let command = |kind| format!(r#"{{"type":"{kind}","channel":"{channel}"}}"#);
    cluster.message(connection, &command("subscribe"));
    let client = cluster.accept(0);
    cluster.silence(1);
    cluster.message(connection, &command("unsubscribe"));
    let kick = with_key("DELETE", &format!("/v1/peers/{bob}"), "");
    cluster.send(client, &kick);
    assert!(!cluster.has_received(client), "bob is listed still");
}

#[test]
fn a_join_waits_for_no_home_that_is_gone() {
    for gone in BOTH {
        let mut cluster = cluster(2);
        let channel = owned_by(&cluster, 0, "room");
        let subscribe = format!(r#"{{"type":"subscribe","channel":"{channel}","requestId":"7"}}"#);
        let bob = peer(&mut cluster, 1, "bob");
        cluster.message(bob, &subscribe);
        let (ann, _) = cluster.connect(0, KEY);
        cluster.silence(1);
        cluster.message(ann, &subscribe);
        assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
        let due_ms = cluster.shards[0].channels.next_barrier_ms();
        match gone {
            Gone::Silent => {
                cluster.wait(due_ms.unwrap() - cluster.now.mono_ms - 1);
                assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
                cluster.wait(1);
            }
            Gone::Lost => cluster.lose(1),
        }
        assert_eq!(
            texts(&mut cluster, ann),
            [r#"{"type":"ack","requestId":"7"}"#]
        );
        cluster.wait(1_000);
        assert!(texts(&mut cluster, ann)[0].starts_with(r#"{"type":"presence""#));
        check_quiet(&mut cluster, &[0]);
    }
}

#[test]
fn a_member_whose_snapshot_cannot_be_asked_for_again_is_closed_to_try_again() {
    for gone in BOTH {
        let mut cluster = cluster(2);
        let (recorder, rings) = Recorder::new(Some(ShardId(0)), 1 << 20, Privacy::default());
        cluster.shards[0].record_with(recorder);
        let channels = ["room", "hall"].map(|prefix| owned_by(&cluster, 1, prefix));
        let (ann, _) = cluster.connect(0, KEY);
        for shard in &mut cluster.shards {
            shard.tune(Tuning {
                snapshot_bytes_max: 1,
                ..Tuning::default()
            });
        }
        // The second snapshot finds no room beside the first one, and is asked for again.
        for channel in &channels {
            cluster.feed(
                ann,
                &Cluster::frame(&format!(
                    r#"{{"type":"subscribe","channel":"{channel}","requestId":"1"}}"#
                )),
            );
        }
        cluster.run();
        cluster.silence(1);
        cluster.wait(1_000);
        assert!(
            !texts(&mut cluster, ann)
                .iter()
                .any(|it| it.contains("close"))
        );
        go(&mut cluster, 1, gone);
        assert_eq!(texts(&mut cluster, ann).last().unwrap(), "close 1013");
        let now = cluster.now;
        cluster.shards[0].end_events(now);
        let all = recorded(&rings.unwrap());
        let mut ends = all.iter().filter(|it| it.kind == Kind::Closed);
        assert!(ends.any(|it| it.cause == Cause::ShardSilent && it.code == 1_013));
    }
}

#[test]
fn the_answer_to_another_question_is_no_answer() {
    let mut cluster = cluster(2);
    let (ann, _) = cluster.connect(0, KEY);
    let channel = owned_by(&cluster, 1, "room");
    cluster.silence(1);
    cluster.message(
        ann,
        &format!(r#"{{"type":"publish","channel":"{channel}","data":1,"requestId":"7"}}"#),
    );
    let from = ShardId(1);
    for generation in 1..100 {
        let ticket = Ticket {
            slot: 0,
            generation,
        };
        let message = MeshMessage::Registered { ticket };
        cluster.input(0, Input::Mesh { from, message });
    }
    cluster.run();
    assert_eq!(texts(&mut cluster, ann), Vec::<String>::new());
    cluster.lose(1);
    check_backend_error(&texts(&mut cluster, ann), "7");
}
