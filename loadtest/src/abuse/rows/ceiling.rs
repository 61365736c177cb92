//! A process that is made to keep more than it may.

use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::rows::subscribe;
use crate::abuse::scene::Scene;
use crate::abuse::swarm::{Opening, Reading};
use crate::abuse::verdict::Check;
use crate::failure::Failure;

/// `limits.memory_bytes` of the server that is attacked, bytes.
pub(super) const CEILING_BYTES: u64 = 160 << 20;
/// How far above it the memory may come for a moment: what one turn takes, and what the server does
/// not count.
const OVERSHOOT: f64 = 1.1;
/// How long.
const TIME: Duration = Duration::from_secs(10);
/// Bytes of a direct message.
const MESSAGE_BYTES: usize = 50_000;
/// Peers that do not read.
const VICTIMS: usize = 800;

/// 800 peers that do not read are sent direct messages of 50 KB, each another one: 0.8 GB would be
/// within the limits of the connections.
pub(super) fn direct(scene: &mut Scene) -> Result<(), Failure> {
    let count = scene.scaled(VICTIMS);
    let victims = scene.join_in(count, |place, number| {
        let first = place.as_quiet_peer(&format!("v{number}"))?;
        Ok(Opening::new(first).reads(Reading::All))
    })?;
    let healthy = scene.join_in(1, |place, _| Ok(Opening::new(place.as_quiet_peer("ok")?)))?;
    let senders = scene.join_in(4, |place, _| Ok(Opening::new(place.as_quiet_peer("s")?)))?;
    scene.tell_all(healthy.clone(), Kind::Ack, |_| subscribe("ok", "s"))?;
    scene.begin()?;
    victims
        .clone()
        .for_each(|it| scene.swarm.read_at(it, Reading::Nothing));
    let data = "d".repeat(MESSAGE_BYTES);
    let mut sent = 0;
    scene.swarm.until(TIME, |swarm| {
        for sender in senders.clone() {
            while swarm.is_idle(sender) && swarm.peer(sender).is_open() && sent < 24 * count {
                let to = sent % count;
                let text = format!(r#"{{"type":"send","to":"v{to}","data":"{data}{sent}"}}"#);
                swarm.send_text(sender, &text);
                sent += 1;
                swarm.write_now(sender);
            }
        }
        sent >= 24 * count
    })?;
    scene.swarm.run(Duration::from_secs(1))?;
    let is_healthy = scene.swarm.peer(healthy.start).is_open();
    scene.end()?;
    scene.saw(format!(
        "{sent} direct messages of {MESSAGE_BYTES} bytes were sent"
    ));
    let peak = scene.report.memory_peak_mb.unwrap_or_default();
    let ceiling_mb = CEILING_BYTES as f64 / 1_048_576.0;
    let what = "memory of the server";
    scene.check(Check::at_most(what, peak, ceiling_mb * OVERSHOOT, "MB"));
    scene.check(Check::new(
        "a connection that waits for nothing",
        is_healthy,
        (if is_healthy { "is open" } else { "was closed" }).into(),
        "it stays open".into(),
    ));
    Ok(())
}
