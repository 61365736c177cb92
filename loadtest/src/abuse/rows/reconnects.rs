//! Everybody is gone at once, and perhaps comes back.

use std::ops::Range;
use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::place::Place;
use crate::abuse::rows::{publish_of, subscribe, text_frame};
use crate::abuse::scene::Scene;
use crate::abuse::swarm::{Opening, Swarm};
use crate::abuse::verdict::Check;
use crate::clock::{MS, now_ns};
use crate::failure::Failure;

/// Channels of a client.
const CHANNELS: usize = 3;
/// Clients of a channel that come back, and of one that exit.
const RETURNING_PER_CHANNEL: usize = 90;
const EXITING_PER_CHANNEL: usize = 30;
/// Clients that come back.
const RETURNING: usize = 4_000;
/// How long all of them may take.
const RETURN_MAX: Duration = Duration::from_secs(40);
/// Clients that exit.
const EXITING: usize = 1_000;
/// How many of them end between two publications.
const LEAVING_PER_MESSAGE: usize = 10;
/// How long the server may take to notice.
const EXIT_MAX: Duration = Duration::from_secs(3);

/// 4,000 clients drop by a reset and come back after 400 to 600 ms, as published clients do.
pub fn storm(scene: &mut Scene) -> Result<(), Failure> {
    let count = scene.clients(RETURNING);
    let channels = channels(count, RETURNING_PER_CHANNEL);
    let crowd = crowd(scene, count, channels)?;
    scene.begin()?;
    scene.swarm.leave_all(crowd, true);
    let began_ns = now_ns();
    let mut clients: Vec<_> = (0..count)
        .map(|number| Client::new(number, began_ns))
        .collect();
    let mut cut_off = 0;
    let mut failure = None;
    let Scene { swarm, place, .. } = scene;
    let all_back = swarm.until(RETURN_MAX, |swarm| {
        let mut back = 0;
        for client in &mut clients {
            match client.step(swarm, place, channels) {
                Ok(Step::Back) => back += 1,
                Ok(Step::CutOff) => cut_off += 1,
                Ok(Step::Away) => {}
                Err(error) => failure = Some(error),
            }
        }
        back == count || failure.is_some()
    })?;
    let seconds = (now_ns() - began_ns) as f64 / 1e9;
    if let Some(failure) = failure {
        return Err(failure);
    }
    scene.end()?;
    let all = 0..scene.swarm.peers().len();
    scene.saw(format!(
        "all back: {all_back}, after {seconds:.1} s; {cut_off} cut off meanwhile: {}",
        scene.swarm.endings(all.clone())
    ));
    scene.check(Check::new(
        "the clients",
        all_back,
        (if all_back {
            "all came back"
        } else {
            "did not all come back"
        })
        .into(),
        "all come back".into(),
    ));
    let slow = scene.swarm.closed_with(all, 1013);
    scene.check(Check::equal("closed with 1013", slow, 0));
    Ok(())
}

enum Step {
    Away,
    CutOff,
    Back,
}

struct Client {
    number: usize,
    due_ns: u64,
    peer: Option<usize>,
    is_told: bool,
}

impl Client {
    fn new(number: usize, began_ns: u64) -> Client {
        Client {
            number,
            due_ns: began_ns + spread_ms(number) * MS,
            peer: None,
            is_told: false,
        }
    }

    fn step(&mut self, swarm: &mut Swarm, place: &Place, channels: usize) -> Result<Step, Failure> {
        let Some(index) = self.peer else {
            if now_ns() >= self.due_ns {
                let first = place.as_peer(&format!("p{}", self.number))?;
                self.peer = Some(swarm.open(Opening::new(first))?);
                self.is_told = false;
            }
            return Ok(Step::Away);
        };
        let peer = swarm.peer(index);
        if !peer.is_open() {
            self.peer = None;
            self.due_ns = now_ns() + spread_ms(self.number + index) * MS;
            return Ok(Step::CutOff);
        }
        if peer.heard.count(Kind::Ack) >= CHANNELS as u64 {
            return Ok(Step::Back);
        }
        if !self.is_told && peer.heard.count(Kind::Welcome) > 0 {
            swarm.send(index, &subscribes(self.number, channels));
            self.is_told = true;
        }
        Ok(Step::Away)
    }
}

/// 400 to 600 ms, as published clients wait.
fn spread_ms(number: usize) -> u64 {
    400 + (number as u64).wrapping_mul(2_654_435_761) % 200
}

/// The three channels of a client.
fn subscribes(number: usize, channels: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in 0..CHANNELS {
        let channel = (number * CHANNELS + part) % channels;
        text_frame(&mut bytes, &subscribe(&format!("r{channel}"), "s"));
    }
    bytes
}

/// Channels for so many clients.
fn channels(count: usize, per_channel: usize) -> usize {
    (count * CHANNELS / per_channel).max(CHANNELS)
}

fn crowd(scene: &mut Scene, count: usize, channels: usize) -> Result<Range<usize>, Failure> {
    let crowd = scene.join_in(count, |place, number| {
        Ok(Opening::new(place.as_peer(&format!("p{number}"))?))
    })?;
    let wanted = (count * CHANNELS) as u64;
    for (number, index) in crowd.clone().enumerate() {
        scene.swarm.send(index, &subscribes(number, channels));
        if number % 64 == 0 {
            scene.swarm.run(Duration::from_millis(5))?;
        }
    }
    let joined = scene.swarm.until(RETURN_MAX, |swarm| {
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

/// 1,000 clients end their streams behind a ping while somebody publishes to all of them: nothing
/// of them stays. Whoever ends while its part of a publication waits to be written, and while the
/// pong does, is closed behind both.
pub fn mass_exit(scene: &mut Scene) -> Result<(), Failure> {
    let count = scene.scaled(EXITING);
    scene.place.admin_address()?;
    let crowd = crowd(scene, count, channels(count, EXITING_PER_CHANNEL))?;
    scene.tell_all(crowd.clone(), Kind::Ack, |_| subscribe("leaving", "l"))?;
    let publisher = scene.join_in(1, |place, _| Ok(Opening::new(place.as_quiet_peer("loud")?)))?;
    let publisher = publisher.start;
    let publication = publish_of("leaving", 100);
    let mut ping = Vec::new();
    text_frame(&mut ping, r#"{"type":"ping","requestId":"p"}"#);
    scene.begin()?;
    let before = scene.place.metric("ringmesh_connections")?;
    for (number, index) in crowd.enumerate() {
        if number % LEAVING_PER_MESSAGE == 0 {
            scene.swarm.send_text(publisher, &publication);
            scene.swarm.write_now(publisher);
        }
        scene.swarm.end_behind(index, &ping, true);
    }
    scene.swarm.run(EXIT_MAX)?;
    let after = scene.place.metric("ringmesh_connections")?;
    scene.end()?;
    let left = after - (before - count as f64);
    scene.saw(format!(
        "ringmesh_connections: {before} before, {after} after"
    ));
    let what = "connections of those who left, after 3 s";
    scene.check(Check::at_most(what, left, 0.0, ""));
    Ok(())
}
