//! Connections that show no credential and stay.

use std::time::{Duration, Instant};

use crate::abuse::exchange;
use crate::abuse::scene::Scene;
use crate::abuse::swarm::Opening;
use crate::abuse::verdict::Check;
use crate::failure::Failure;

/// How long the connections are watched.
const TIME: Duration = Duration::from_secs(3);
/// How long the admin listener may take, seconds.
const ADMIN_SEC: f64 = 2.0;

/// More idle connections than the process has descriptors, each after one `GET /healthz`.
pub(super) fn idle(scene: &mut Scene) -> Result<(), Failure> {
    let limit = match scene.place.pid {
        Some(pid) => descriptor_limit(pid)?,
        None => return Err(Failure::Usage("abuse: this row needs --server-pid".into())),
    };
    let count = limit + 100;
    if count > 12_000 {
        let what = format!("abuse: the server has {limit} descriptors; lower its limit to try");
        return Err(Failure::Usage(what));
    }
    let admin = scene.place.admin_address()?;
    scene.begin()?;
    let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    for number in 0..count {
        scene.swarm.open(Opening::new(request.to_vec()))?;
        if number % 64 == 0 {
            scene.swarm.turn(Duration::from_millis(1))?;
        }
    }
    scene.swarm.run(TIME)?;
    let asked = Instant::now();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let answer = exchange::ask(admin, request.as_bytes(), Duration::from_secs(15));
    let admin_sec = asked.elapsed().as_secs_f64();
    let peers = scene.swarm.peers().iter();
    let held = peers
        .filter(|it| it.is_open() && it.heard.answers() > 0)
        .count();
    scene.end()?;
    let said = answer.map_or_else(|it| it.line(), |it| it.status.to_string());
    scene.saw(format!(
        "{count} connects to a process of {limit} descriptors, {held} stay; admin: {said}"
    ));
    let bound = limit as f64 / 4.0 + 16.0;
    let what = "idle connections without a credential";
    scene.check(Check::at_most(what, held as f64, bound, ""));
    let what = "the admin listener answers after";
    scene.check(Check::at_most(what, admin_sec, ADMIN_SEC, "s"));
    Ok(())
}

/// Soft limit of descriptors of a process, from proc(5).
fn descriptor_limit(pid: u32) -> Result<usize, Failure> {
    let failed = |cause: String| Failure::ServerProcess { pid, cause };
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits"));
    let text = text.map_err(|error| failed(error.to_string()))?;
    soft_limit(&text).ok_or_else(|| failed("odd limits".into()))
}

fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|it| it.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let text = "Limit   Soft Limit   Hard Limit   Units\nMax open files  1024  4096  files\n";
        assert_eq!(soft_limit(text), Some(1_024));
        assert_eq!(soft_limit("Max cpu time unlimited"), None);
    }
}
