//! Everybody is gone at once, and nothing of them stays.

use std::ops::Range;
use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::place::Place;
use crate::abuse::rows::{publish_of, subscribe, text_frame};
use crate::abuse::scene::Scene;
use crate::abuse::swarm::Opening;
use crate::abuse::verdict::Check;
use crate::clock::now_ns;
use crate::failure::Failure;

/// Channels of a client, and clients of a channel.
const CHANNELS: usize = 3;
const PER_CHANNEL: usize = 30;
/// Clients that exit.
const EXITING: usize = 1_000;
/// How long their joins may take.
const JOIN_MAX: Duration = Duration::from_secs(40);
/// How many of them end while the others ping once.
const LEAVING_PER_ROUND: usize = 10;
/// How long the server may take to notice: its timers would, of a silent connection, after 25 s.
const EXIT_MAX: Duration = Duration::from_secs(15);

/// Clients that ping meanwhile: more answers are due than one turn writes.
const NOISY: usize = 400;

/// 1,000 clients end their streams behind a ping while somebody publishes to all of them, and
/// others ask for more answers than a turn writes: nothing of those who left stays. Whoever is lent
/// a publication, then answered, then sent another, and ends before any of that was written, is
/// closed behind all of it.
pub(super) fn mass_exit(scene: &mut Scene) -> Result<(), Failure> {
    let count = scene.scaled(EXITING);
    scene.place.admin_address()?;
    let crowd = crowd(scene, count)?;
    scene.tell_all(crowd.clone(), Kind::Ack, |_| subscribe("leaving", "l"))?;
    let noisy = scene.scaled(NOISY);
    let quiet = |place: &Place, number: usize| {
        Ok(Opening::new(place.as_quiet_peer(&format!("n{number}"))?))
    };
    let noisy = scene.join_in(noisy, quiet)?;
    let publisher = scene.join_in(1, |place, _| Ok(Opening::new(place.as_quiet_peer("loud")?)))?;
    let publisher = publisher.start;
    let publication = publish_of("leaving", 100);
    let mut ping = Vec::new();
    text_frame(&mut ping, r#"{"type":"ping","requestId":"p"}"#);
    scene.begin()?;
    let before = scene.place.metric("ringmesh_connections")?;
    let right = before - count as f64;
    let leaving: Vec<usize> = crowd.collect();
    for some in leaving.chunks(LEAVING_PER_ROUND) {
        for index in noisy.clone() {
            scene.swarm.send(index, &ping);
            scene.swarm.write_now(index);
        }
        for index in some {
            scene.swarm.send_text(publisher, &publication);
            scene.swarm.write_now(publisher);
            scene.swarm.end_behind(*index, &ping, true);
        }
        scene.swarm.turn(Duration::ZERO)?;
    }
    let mut after = scene.place.metric("ringmesh_connections")?;
    let end_ns = now_ns() + EXIT_MAX.as_nanos() as u64;
    while after > right && now_ns() < end_ns {
        scene.swarm.run(Duration::from_millis(200))?;
        after = scene.place.metric("ringmesh_connections")?;
    }
    scene.end()?;
    scene.saw(format!(
        "ringmesh_connections: {before} before, {after} after"
    ));
    let what = "connections of those who left, before any timer";
    scene.check(Check::at_most(what, after - right, 0.0, ""));
    Ok(())
}

/// Clients in their channels.
fn crowd(scene: &mut Scene, count: usize) -> Result<Range<usize>, Failure> {
    let channels = (count * CHANNELS / PER_CHANNEL).max(CHANNELS);
    let crowd = scene.join_in(count, |place, number| {
        Ok(Opening::new(place.as_peer(&format!("p{number}"))?))
    })?;
    for (number, index) in crowd.clone().enumerate() {
        let mut bytes = Vec::new();
        for part in 0..CHANNELS {
            let channel = (number * CHANNELS + part) % channels;
            text_frame(&mut bytes, &subscribe(&format!("r{channel}"), "s"));
        }
        scene.swarm.send(index, &bytes);
    }
    let wanted = (count * CHANNELS) as u64;
    let joined = scene.swarm.until(JOIN_MAX, |swarm| {
        swarm.frames(crowd.clone(), Kind::Ack) >= wanted
    })?;
    if joined {
        return Ok(crowd);
    }
    let endings = scene.swarm.endings(crowd);
    Err(Failure::Timeout(format!(
        "not all joins were acked: {endings}"
    )))
}
