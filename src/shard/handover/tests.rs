//! Shards that hand over to others, and what they do with bytes that nobody has written.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{Handed, ImportError};
use crate::domain::history::{HistoryRule, HistoryRules};
use crate::domain::rights::Rights;
use crate::ids::{ConnectionRef, ShardId};
use crate::shard::input::Input;
use crate::shard::state::Shard;
use crate::shard::testing::{Client, Cluster, app, peer, rights};

/// What the first release with hand-overs has written, see [`the_first_format_is_read`].
const FIRST_FORMAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/handover/format-1.cbor");
/// A ping of the protocol in two frames, the first of 14 bytes.
const PIECES: &[u8] = b"\x01\x88\0\0\0\0{\"type\":\x80\x97\0\0\0\0\"ping\",\"requestId\":\"7\"}";
const SUBSCRIBE: &str = r#"{"type":"subscribe","channel":"hall","includeSenderMetadata":true}"#;

fn with_history() -> Rights {
    let rule = HistoryRule {
        messages: 4,
        ..HistoryRule::new("hall")
    };
    let mut app = app();
    app.history = Arc::new(HistoryRules::new(&[rule]).unwrap());
    rights(app)
}

/// Connections of each kind: in a channel, not reading, amid a message, amid a request, without a
/// request, about to close.
fn lively(shards: u16) -> (Cluster, [Client; 2]) {
    let mut cluster = Cluster::new(shards, with_history());
    let last = usize::from(shards) - 1;
    let [ann, bob, tab] = [(0, "ann"), (last, "bob"), (last, "ann")]
        .map(|(shard, name)| peer(&mut cluster, shard, name));
    for client in [ann, bob, tab] {
        cluster.message(client, SUBSCRIBE);
        cluster.wait(20);
        cluster.messages(client);
    }
    for number in 0..6 {
        let publish =
            format!(r#"{{"type":"publish","channel":"hall","data":{number},"id":"m-{number}"}}"#);
        cluster.message(ann, &publish);
    }
    cluster.messages(bob);
    cluster.deafen(tab);
    cluster.message(
        bob,
        r#"{"type":"publish","channel":"hall","data":"unread"}"#,
    );
    cluster.messages(ann);
    // A message in pieces, of which the second is not whole.
    cluster.send(bob, &PIECES[..20]);
    let requests = [
        "POST /v1/channels/hall/publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Authorization: Bearer sk_id_full:sk_live_full\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\n{\"dat",
        "POST /v1/channels/hall/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
        "GET /v1/heal",
    ];
    for request in requests {
        let client = cluster.accept(0);
        cluster.send(client, request.as_bytes());
    }
    let leaving = peer(&mut cluster, 0, "carl");
    cluster.messages(leaving);
    cluster.send(leaving, &[0x83, 0x80, 0, 0, 0, 0]);
    (cluster, [ann, bob])
}

fn export(cluster: &mut Cluster) -> Vec<Vec<u8>> {
    for shard in 0..cluster.shards.len() {
        cluster.input(shard, Input::Freeze);
    }
    cluster.run();
    let shards = cluster.shards.iter_mut();
    shards.map(|shard| shard.export().state).collect()
}

/// Shards that go on with that, each connection where it was.
fn import(states: &[impl AsRef<[u8]>], shards: u16) -> Result<Cluster, ImportError> {
    let handed = Handed::read(states)?;
    let mut cluster = Cluster::new(shards, with_history());
    cluster.wait(1_000);
    let places: Vec<ConnectionRef> = handed
        .connections()
        .map(|(shard, connection)| ConnectionRef {
            home: ShardId(shard.0 % shards).into(),
            connection,
        })
        .collect();
    let now = cluster.now;
    for shard in &mut cluster.shards {
        shard.import(&handed, &places, now)?;
    }
    Ok(cluster)
}

fn check(cluster: &Cluster) {
    let shards: Vec<&Shard> = cluster.shards.iter().collect();
    shards.iter().for_each(|shard| shard.check_invariants());
    Shard::check_agreed(&shards);
}

#[test]
fn others_go_on_and_nobody_is_told() {
    for shards in [1, 2, 3] {
        let (mut before, [ann, bob]) = lively(shards);
        let states = export(&mut before);
        let mut cluster = import(&states, shards).unwrap();
        check(&cluster);
        let counts = |cluster: &Cluster| {
            let counts = cluster.shards.iter().map(Shard::counts);
            counts.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.2))
        };
        assert_eq!(counts(&cluster), counts(&before));
        cluster.run();
        assert_eq!(cluster.messages(ann), [] as [String; 0]);
        cluster.message(
            ann,
            r#"{"type":"publish","channel":"hall","data":1,"requestId":"p","position":true}"#,
        );
        let told = cluster.messages(ann);
        assert!(told[0].contains(r#""seq":8"#), "{told:?}");
        let heard = cluster.messages(bob);
        assert!(heard[0].contains(r#""data":1"#), "{heard:?}");
        cluster.send(bob, &PIECES[20..]);
        assert_eq!(cluster.messages(bob).len(), 1, "an answer");
        check(&cluster);
    }
}

#[test]
fn whoever_gives_up_goes_on_as_if_nothing_had_been() {
    let (mut cluster, [ann, bob]) = lively(2);
    export(&mut cluster);
    for shard in 0..2 {
        cluster.input(shard, Input::Thaw);
    }
    cluster.run();
    check(&cluster);
    cluster.message(ann, r#"{"type":"publish","channel":"hall","data":1}"#);
    assert_eq!(cluster.messages(bob).len(), 1);
}

#[test]
fn a_state_that_is_too_large_is_not_handed_over() {
    let (mut cluster, _) = lively(1);
    let state = export(&mut cluster).remove(0);
    for bytes_max in (0..state.len()).step_by(11) {
        let refused = cluster.shards[0].export_within(bytes_max).unwrap_err();
        assert_eq!(refused.bytes_max, bytes_max);
    }
    let whole = cluster.shards[0].export_within(state.len()).unwrap();
    assert_eq!(whole.state, state);
}

#[test]
fn what_is_cut_is_refused() {
    let (mut cluster, _) = lively(1);
    let state = export(&mut cluster).remove(0);
    for end in 0..state.len() {
        assert!(Handed::read(&[&state[..end]]).is_err(), "{end}");
    }
    let twice = import(&[&state, &state], 1);
    assert!(twice.is_err(), "each connection twice");
}

#[test]
fn no_byte_makes_a_shard_panic() {
    let (mut cluster, _) = lively(1);
    let state = export(&mut cluster).remove(0);
    let mut refused = 0;
    for at in 0..state.len() {
        let mut changed = state.clone();
        changed[at] ^= 1 << (at % 8);
        if let Ok(mut cluster) = import(&[&changed], 1) {
            cluster.input(0, Input::EndOfTurn);
        } else {
            refused += 1;
        }
    }
    assert!(refused > state.len() / 4, "{refused} of {}", state.len());
}

/// `HANDOVER_FORMAT=write` writes the file: once, with the release that brings a format.
#[test]
fn the_first_format_is_read() {
    if std::env::var("HANDOVER_FORMAT").is_ok_and(|it| it == "write") {
        let (mut cluster, _) = lively(1);
        let path = Path::new(FIRST_FORMAT);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, export(&mut cluster).remove(0)).unwrap();
    }
    let state = fs::read(FIRST_FORMAT).unwrap();
    let mut cluster = import(&[state], 1).unwrap();
    check(&cluster);
    assert_eq!(cluster.shards[0].counts().0, 7);
    assert_eq!(cluster.shards[0].subscriptions(), 3);
    assert_eq!(cluster.shards[0].histories().1, 1);
    cluster.run();
    check(&cluster);
}
