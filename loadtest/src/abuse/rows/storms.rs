//! Many that come, go and come back at once.

use std::ops::Range;
use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::rows::subscribe;
use crate::abuse::scene::Scene;
use crate::abuse::swarm::Opening;
use crate::abuse::verdict::Check;
use crate::failure::Failure;

/// Rounds of joining and leaving.
const ROUNDS: usize = 4;
/// How long a round may take.
const ROUND_MAX: Duration = Duration::from_secs(40);
/// How long the server may take to come to rest.
const REST: Duration = Duration::from_secs(4);
/// What may stay resident, MB.
const KEPT_MB: f64 = 50.0;

/// 1,500 members join one channel at once and leave it at once, four times, and are gone.
pub fn memory_returns(scene: &mut Scene) -> Result<(), Failure> {
    let start_mb = scene.memory_mb()?;
    let count = scene.scaled(1_500);
    let members = scene.join_in(count, |place, number| {
        Ok(Opening::new(place.as_peer(&format!("m{number}"))?))
    })?;
    scene.begin()?;
    for _ in 0..ROUNDS {
        all_at_once(scene, &members, &subscribe("storm", "s"))?;
        let leave = r#"{"type":"unsubscribe","channel":"storm","requestId":"u"}"#;
        all_at_once(scene, &members, leave)?;
    }
    scene.swarm.leave_all(members.clone(), false);
    scene.swarm.run(REST)?;
    scene.end()?;
    let kept_mb = scene.memory_mb()? - start_mb;
    let (_, received) = scene.swarm.traffic(members);
    scene.saw(format!("{count} members received {received} bytes"));
    scene.check(Check::at_most("memory kept", kept_mb, KEPT_MB, "MB"));
    Ok(())
}

/// Everybody sends `text`, and everybody is acked.
fn all_at_once(scene: &mut Scene, members: &Range<usize>, text: &str) -> Result<(), Failure> {
    let wanted = scene.swarm.frames(members.clone(), Kind::Ack) + members.len() as u64;
    members
        .clone()
        .for_each(|it| scene.swarm.send_text(it, text));
    let done = scene.swarm.until(ROUND_MAX, |swarm| {
        swarm.frames(members.clone(), Kind::Ack) >= wanted
    })?;
    if !done {
        let open = scene.swarm.open_count(members.clone());
        let what = format!("not all of {} were acked; {open} are open", members.len());
        return Err(Failure::Timeout(what));
    }
    Ok(())
}
