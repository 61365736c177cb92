//! One publisher of large messages within the default rate, and very many subscribers.

use std::ops::Range;
use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::rows::{publish_of, subscribe};
use crate::abuse::scene::Scene;
use crate::abuse::swarm::{Opening, Reading};
use crate::abuse::verdict::Check;
use crate::clock::{SECOND, now_ns};
use crate::failure::Failure;

/// Bytes of `data`.
const MESSAGE_BYTES: usize = 60_000;
/// Messages at once, and then per second: a little below the default.
const BURST: u64 = 190;
const RATE: u64 = 95;
/// What slow readers read.
const SLOW_BYTES_PER_S: u64 = 200_000;
/// How long.
const TIME: Duration = Duration::from_secs(8);
/// The outbox limit once, because large frames are shared, and 100 KB for each connection, MB.
const MEMORY_MB: f64 = 256.0;

/// 2,000 subscribers that stop reading.
pub(super) fn stalled(scene: &mut Scene) -> Result<(), Failure> {
    let members = members(scene, 2_000, |opening| opening.reads(Reading::All))?;
    scene.begin()?;
    members
        .clone()
        .for_each(|it| scene.swarm.read_at(it, Reading::Nothing));
    let _sent = publish(scene)?;
    scene.end()?;
    tell(scene, &members);
    scene.check_memory(MEMORY_MB)
}

/// 500 subscribers that read as fast as they can.
pub(super) fn reading(scene: &mut Scene) -> Result<(), Failure> {
    // Ordinary sockets: one that buffers 4 KB cannot take 6 MB/s, and whoever is behind by the
    // limit is closed.
    let members = members(scene, 500, |opening| opening)?;
    scene.begin()?;
    let _sent = publish(scene)?;
    scene.end()?;
    tell(scene, &members);
    let closed = scene.swarm.closed_with(members.clone(), 1013);
    let ended = members.len() - scene.swarm.open_count(members);
    scene.check(Check::equal("readers closed with 1013", closed, 0));
    scene.check(Check::equal("readers that were cut off", ended as u64, 0));
    scene.check_memory(MEMORY_MB)
}

/// 48 subscribers that read 200 KB/s each: less than a tenth of what is published.
pub(super) fn slow(scene: &mut Scene) -> Result<(), Failure> {
    let members = members(scene, 48, |opening| opening.reads(Reading::All))?;
    scene.begin()?;
    let pace = Reading::Paced(SLOW_BYTES_PER_S);
    members.clone().for_each(|it| scene.swarm.read_at(it, pace));
    let (sent, due) = publish(scene)?;
    scene.end()?;
    tell(scene, &members);
    let ended = members.len() - scene.swarm.open_count(members);
    scene.check(Check::equal("readers that were closed", ended as u64, 0));
    let share = sent as f64 / due as f64;
    let what = "share of the messages that the publisher could send";
    scene.check(Check::at_most(what, share, 0.5, ""));
    scene.check_memory(MEMORY_MB)
}

/// 16 subscribers that read, and one that does not.
pub(super) fn one_stuck(scene: &mut Scene) -> Result<(), Failure> {
    let members = members(scene, 17, |opening| opening)?;
    let (stuck, reading) = (members.start, members.start + 1..members.end);
    scene.begin()?;
    scene.swarm.read_at(stuck, Reading::Nothing);
    let (sent, due) = publish(scene)?;
    scene.end()?;
    // It still finds out why.
    scene.swarm.read_at(stuck, Reading::All);
    scene.swarm.run(Duration::from_secs(1))?;
    tell(scene, &members);
    let ended = reading.len() - scene.swarm.open_count(reading);
    scene.check(Check::equal("readers that were closed", ended as u64, 0));
    let closed = scene.swarm.closed_with(stuck..stuck + 1, 1013);
    scene.check(Check::equal(
        "who reads nothing, closed with 1013",
        closed,
        1,
    ));
    let share = sent as f64 / due as f64;
    let what = "share of the messages that the publisher could send";
    // More than half: the machine may be too busy for all of them.
    scene.check(Check::at_least(what, share, 0.5, ""));
    scene.check_memory(MEMORY_MB)
}

fn members(
    scene: &mut Scene,
    count: usize,
    shape: fn(Opening) -> Opening,
) -> Result<Range<usize>, Failure> {
    let count = scene.scaled(count);
    let members = scene.join_in(count, |place, number| {
        let first = place.as_quiet_peer(&format!("m{number}"))?;
        Ok(shape(Opening::new(first)))
    })?;
    scene.tell_all(members.clone(), Kind::Ack, |_| subscribe("flooded", "s"))?;
    Ok(members)
}

/// A connection of its own publishes within its rate, as far as it is read from. Returns how many
/// messages were sent, and how many were due.
fn publish(scene: &mut Scene) -> Result<(u64, u64), Failure> {
    let publisher = scene.join_in(1, |place, _| Ok(Opening::new(place.as_quiet_peer("loud")?)))?;
    let publisher = publisher.start;
    let text = publish_of("flooded", MESSAGE_BYTES);
    let begin_ns = now_ns();
    let (mut sent, mut due) = (0, BURST);
    scene.swarm.until(TIME, |swarm| {
        due = BURST + RATE * (now_ns() - begin_ns) / SECOND;
        // What the socket has not taken is not sent again and again from memory.
        if sent < due && swarm.is_idle(publisher) {
            swarm.send_text(publisher, &text);
            sent += 1;
        }
        false
    })?;
    let closed = scene.swarm.closed_with(publisher..publisher + 1, 4011);
    scene.saw(format!(
        "{sent} messages of {MESSAGE_BYTES} bytes were sent"
    ));
    if closed > 0 {
        scene.saw("the publisher was closed with 4011: the rate is below the default".into());
    }
    Ok((sent, due))
}

fn tell(scene: &mut Scene, members: &Range<usize>) {
    let (_, received) = scene.swarm.traffic(members.clone());
    let open = scene.swarm.open_count(members.clone());
    let closed = scene.swarm.closed_with(members.clone(), 1013);
    scene.saw(format!(
        "{} subscribers received {received} bytes; {open} are open, {closed} read 1013",
        members.len()
    ));
}
