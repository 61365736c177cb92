//! TLS handshakes, more at once than can be made before the first of them is late.

use std::time::Duration;

use crate::abuse::scene::Scene;
use crate::abuse::swarm::Opening;
use crate::abuse::verdict::Check;
use crate::clock::{MS, now_ns};
use crate::failure::Failure;

/// Time for a head in the server that is attacked, ms: with RSA-4096 enough for some 700 of them.
pub(super) const HEAD_MS: u64 = 1_000;
/// Clients.
const CLIENTS: usize = 1_500;
/// How long all of them may take: twenty times what their handshakes cost.
const TIME: Duration = Duration::from_secs(40);

/// All connect at once, and come back half a second after they were cut off.
pub(super) fn storm(scene: &mut Scene) -> Result<(), Failure> {
    let count = scene.scaled(CLIENTS);
    scene.begin()?;
    let cpu_before = scene.cpu_seconds()?;
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push((Some(scene.swarm.open(Opening::new(request.to_vec()))?), 0));
    }
    let (mut served, mut cut_off) = (0, 0);
    let mut failure = None;
    scene.swarm.until(TIME, |swarm| {
        clients.retain_mut(|(index, due_ns)| {
            let Some(at) = *index else {
                if now_ns() >= *due_ns {
                    match swarm.open(Opening::new(request.to_vec())) {
                        Ok(again) => *index = Some(again),
                        Err(error) => failure = Some(error),
                    }
                }
                return true;
            };
            let peer = swarm.peer(at);
            if peer.heard.answers() > 0 {
                served += 1;
                swarm.leave(at, false);
                return false;
            }
            if !peer.is_open() {
                cut_off += 1;
                *index = None;
                *due_ns = now_ns() + (400 + at as u64 % 200) * MS;
            }
            true
        });
        clients.is_empty() || failure.is_some()
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    scene.end()?;
    let cpu = scene.cpu_seconds()? - cpu_before;
    scene.saw(format!(
        "{served} of {count} served, {cut_off} cut off, {cpu:.1} s of CPU time"
    ));
    scene.check(Check::equal(
        "clients that were served",
        served,
        count as u64,
    ));
    let what = "attempts that were cut off";
    scene.check(Check::at_most(
        what,
        cut_off as f64,
        count as f64 / 10.0,
        "",
    ));
    Ok(())
}
