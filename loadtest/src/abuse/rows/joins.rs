//! Very many joins behind one another on one connection, and what has to wait for them.

use std::time::Duration;

use crate::abuse::heard::{Event, Kind};
use crate::abuse::rows::{publish_of, subscribe, text_frame};
use crate::abuse::scene::Scene;
use crate::abuse::swarm::{Opening, Swarm};
use crate::abuse::verdict::Check;
use crate::client::frame::{self, opcode};
use crate::clock::now_ns;
use crate::failure::Failure;

/// Joins of one round: with the live channel, as many as a connection may have.
const JOINS: usize = 99;
/// Rounds.
const ROUNDS: usize = 3;
/// How long a round may take.
const ROUND_MAX: Duration = Duration::from_secs(8);
/// A third of what 99 pauses of 15 ms take one after the other, ms.
const WAIT_MS: f64 = 500.0;
/// Joins that a close has to overtake.
const JOINS_BEFORE_CLOSE: usize = 67;
/// How long a close may take.
const CLOSE_MAX: Duration = Duration::from_secs(3);

/// The longest waits of all rounds, ms.
#[derive(Default)]
struct Waits {
    ack: f64,
    pong: f64,
    live: f64,
    snapshot: f64,
    snapshots: u64,
    too_early: u64,
}

/// 99 subscribes with presence and a ping behind them, and live messages meanwhile.
pub(super) fn pipelined(scene: &mut Scene) -> Result<(), Failure> {
    let joiner = scene.join_in(1, |place, _| Ok(Opening::new(place.as_peer("j")?).logged()))?;
    let live = scene.join_in(1, |place, _| Ok(Opening::new(place.as_peer("live")?)))?;
    let (joiner, live) = (joiner.start, live.start);
    scene.tell_all(joiner..joiner + 1, Kind::Ack, |_| subscribe("live", "s"))?;
    scene.begin()?;
    let mut waits = Waits::default();
    for round in 0..ROUNDS {
        one_round(&mut scene.swarm, (joiner, live), round, &mut waits)?;
    }
    scene.end()?;
    let all = (JOINS * ROUNDS) as u64;
    scene.check(Check::at_most(
        "the last ack came after",
        waits.ack,
        WAIT_MS,
        "ms",
    ));
    scene.check(Check::at_most(
        "the pong behind them came after",
        waits.pong,
        WAIT_MS,
        "ms",
    ));
    let what = "a live message of another channel came after";
    scene.check(Check::at_most(what, waits.live, WAIT_MS, "ms"));
    let what = "the last snapshot came after";
    scene.check(Check::at_most(what, waits.snapshot, WAIT_MS, "ms"));
    scene.check(Check::equal("snapshots", waits.snapshots, all));
    let what = "snapshots before their own ack";
    scene.check(Check::equal(what, waits.too_early, 0));
    Ok(())
}

fn one_round(
    swarm: &mut Swarm,
    (joiner, live): (usize, usize),
    round: usize,
    waits: &mut Waits,
) -> Result<(), Failure> {
    swarm.run(Duration::from_millis(100))?;
    drop(swarm.take_log(joiner));
    let channel = |number: usize| format!("j{round}-{number}");
    let mut bytes = Vec::new();
    for number in 0..JOINS {
        let channel = channel(number);
        text_frame(&mut bytes, &subscribe(&channel, &channel));
    }
    text_frame(&mut bytes, r#"{"type":"ping","requestId":"p"}"#);
    let began_ns = now_ns();
    swarm.send(joiner, &bytes);
    swarm.write_now(joiner);
    swarm.send_text(live, &publish_of("live", 10));
    swarm.write_now(live);
    let mut events = Vec::new();
    swarm.until(ROUND_MAX, |swarm| {
        events.extend(swarm.take_log(joiner));
        let count = |kind| events.iter().filter(|it| it.kind == kind).count();
        count(Kind::Ack) >= JOINS
            && count(Kind::Presence) >= JOINS
            && count(Kind::Pong) > 0
            && count(Kind::Message) > 0
    })?;
    note(&events, began_ns, waits);
    for number in 0..JOINS {
        let channel = channel(number);
        swarm.send_text(
            joiner,
            &format!(r#"{{"type":"unsubscribe","channel":"{channel}"}}"#),
        );
    }
    Ok(())
}

fn note(events: &[Event], began_ns: u64, waits: &mut Waits) {
    let last = |kind: Kind, wanted: usize| {
        let of_kind = events.iter().filter(|it| it.kind == kind);
        let times: Vec<_> = of_kind.map(|it| it.at_ns).collect();
        // What has not come has taken at least the whole round.
        match times.last() {
            Some(last) if times.len() >= wanted => last.saturating_sub(began_ns) as f64 / 1e6,
            _ => ROUND_MAX.as_millis() as f64,
        }
    };
    waits.ack = waits.ack.max(last(Kind::Ack, JOINS));
    waits.pong = waits.pong.max(last(Kind::Pong, 1));
    waits.live = waits.live.max(last(Kind::Message, 1));
    waits.snapshot = waits.snapshot.max(last(Kind::Presence, JOINS));
    let mut acked = std::collections::BTreeSet::new();
    for event in events {
        match (event.kind, event.text("requestId"), event.text("channel")) {
            (Kind::Ack, Some(channel), _) => drop(acked.insert(channel.to_owned())),
            (Kind::Presence, _, Some(channel)) => {
                waits.snapshots += 1;
                waits.too_early += u64::from(!acked.contains(channel));
            }
            _ => {}
        }
    }
}

/// What ends a connection behind 67 joins: a kick, a message that is too long, a binary one.
pub(super) fn closes_behind(scene: &mut Scene) -> Result<(), Failure> {
    scene.begin()?;
    let kick = scene.place.rest("DELETE", "/v1/peers/kicked", "")?;
    let kicker = scene.swarm.open(Opening::new(Vec::new()))?;
    let kicked = behind_joins(scene, "kicked", &[])?;
    scene.swarm.run(Duration::from_millis(20))?;
    scene.swarm.send(kicker, &kick);
    let mut too_long = Vec::new();
    text_frame(&mut too_long, &publish_of("x", 70_000));
    let too_long = behind_joins(scene, "long", &too_long)?;
    let mut binary = Vec::new();
    frame::encode(&mut binary, opcode::BINARY, &[b"x"], [1, 2, 3, 4]);
    let binary = behind_joins(scene, "binary", &binary)?;
    scene.swarm.until(CLOSE_MAX, |swarm| {
        [kicked, too_long, binary]
            .iter()
            .all(|it| !swarm.peer(*it).is_open())
    })?;
    scene.end()?;
    for (what, peer, code) in [
        ("code of a kick behind 67 joins", kicked, 4020),
        ("code of a message that is too long", too_long, 1009),
        ("code of a binary message", binary, 1003),
    ] {
        let seen = scene.swarm.peer(peer).heard.close.unwrap_or_default();
        scene.check(Check::equal(what, seen.into(), code));
    }
    Ok(())
}

fn behind_joins(scene: &mut Scene, name: &str, last: &[u8]) -> Result<usize, Failure> {
    let peer = scene.join_in(1, |place, _| Ok(Opening::new(place.as_peer(name)?)))?;
    let mut bytes = Vec::new();
    for number in 0..JOINS_BEFORE_CLOSE {
        text_frame(&mut bytes, &subscribe(&format!("{name}-{number}"), "s"));
    }
    bytes.extend_from_slice(last);
    scene.swarm.send(peer.start, &bytes);
    scene.swarm.write_now(peer.start);
    Ok(peer.start)
}
