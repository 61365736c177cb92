//! One peer that joins and leaves a large channel all the time.

use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::rows::subscribe;
use crate::abuse::scene::Scene;
use crate::abuse::swarm::Opening;
use crate::abuse::verdict::Check;
use crate::clock::{SECOND, now_ns};
use crate::failure::Failure;

/// Members that hear presence.
const MEMBERS: usize = 4_000;
/// Changes per second, a little below the default rate.
const RATE: u64 = 95;
/// How long.
const TIME: Duration = Duration::from_secs(6);
/// Presence frames of a member for each change, of which most are undone by the next.
const FRAMES_PER_CHANGE: f64 = 0.25;

/// 95 changes a second among 4,000 members.
pub(super) fn churner(scene: &mut Scene) -> Result<(), Failure> {
    let count = scene.scaled(MEMBERS);
    let members = scene.join_in(count, |place, number| {
        Ok(Opening::new(place.as_peer(&format!("m{number}"))?))
    })?;
    scene.tell_all(members.clone(), Kind::Ack, |_| subscribe("busy", "s"))?;
    let churner = scene.join_in(1, |place, _| Ok(Opening::new(place.as_peer("churner")?)))?;
    let churner = churner.start;
    scene.begin()?;
    let frames_before = scene.swarm.frames(members.clone(), Kind::Presence);
    let bytes_before = scene.swarm.traffic(members.clone()).1;
    let sent_before = scene.swarm.peer(churner).sent_bytes;
    let began_ns = now_ns();
    let mut changes = 0;
    scene.swarm.until(TIME, |swarm| {
        while changes < RATE * (now_ns() - began_ns) / SECOND {
            let verb = if changes % 2 == 0 {
                "subscribe"
            } else {
                "unsubscribe"
            };
            swarm.send_text(churner, &format!(r#"{{"type":"{verb}","channel":"busy"}}"#));
            changes += 1;
        }
        false
    })?;
    let sent = scene.swarm.peer(churner).sent_bytes - sent_before;
    scene.swarm.run(Duration::from_millis(500))?;
    scene.end()?;
    let frames = scene.swarm.frames(members.clone(), Kind::Presence) - frames_before;
    let bytes = scene.swarm.traffic(members).1 - bytes_before;
    scene.saw(format!(
        "{changes} changes in {sent} bytes made {frames} frames of {bytes} bytes: {}:1",
        bytes / sent.max(1)
    ));
    let per_change = frames as f64 / count as f64 / changes.max(1) as f64;
    let what = "presence frames of a member for each change";
    scene.check(Check::new(
        what,
        per_change <= FRAMES_PER_CHANGE,
        format!("{per_change:.2}"),
        format!("at most {FRAMES_PER_CHANGE}"),
    ));
    Ok(())
}
