//! Many that come, go and come back at once.

use std::ops::Range;
use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::rosters::Digest;
use crate::abuse::rows::subscribe;
use crate::abuse::scene::Scene;
use crate::abuse::swarm::Opening;
use crate::abuse::verdict::Check;
use crate::clock::now_ns;
use crate::failure::Failure;

/// Rounds of joining and leaving.
const ROUNDS: usize = 4;
/// How long a round may take.
const ROUND_MAX: Duration = Duration::from_secs(40);
/// How long the server may take to come to rest.
const REST: Duration = Duration::from_secs(4);
/// What may stay resident, MB.
const KEPT_MB: f64 = 50.0;

/// Members of a join storm, and how much of a roster each may hear beside the names of all others.
const JOINING: usize = 5_000;
const BESIDE_NAMES: f64 = 1.25;
/// How many times as much CPU time a join among twice as many may take. What it hears is twice as
/// long.
const CPU_TIMES: f64 = 3.0;

/// Half of the members join one channel at once, then all of them another: what a join costs grows
/// as its roster does.
pub(super) fn joins(scene: &mut Scene) -> Result<(), Failure> {
    let count = scene.scaled(JOINING).max(2);
    let members = scene.join_in(count, |place, number| {
        let first = place.as_peer(&member(number))?;
        Ok(Opening::new(first).keeping_rosters())
    })?;
    scene.begin()?;
    let half = members.start..members.start + count / 2;
    let few = join_at_once(scene, half, "half")?;
    let many = join_at_once(scene, members, "all")?;
    scene.swarm.run(REST)?;
    scene.end()?;
    for (joins, cost) in [(count / 2, &few), (count, &many)] {
        scene.saw(format!(
            "{joins} joins: all rosters right after {:.2} s; {:.0} µs of the server's CPU time and \
             {:.0} bytes each, {:.2} of a roster",
            cost.seconds, cost.cpu_us, cost.bytes, cost.rosters
        ));
        let what = format!("members of {joins} that do not know all others");
        scene.check(Check::equal(&what, cost.wrong as u64, 0));
        let what = format!("rosters that each of {joins} heard");
        scene.check(Check::at_most(&what, cost.rosters, BESIDE_NAMES, ""));
    }
    let what = "CPU time of a join among twice as many";
    let times = many.cpu_us / few.cpu_us;
    scene.check(Check::at_most(what, times, CPU_TIMES, "times as much").timed());
    Ok(())
}

/// What a join has cost.
struct Cost {
    seconds: f64,
    cpu_us: f64,
    bytes: f64,
    /// The same in names of all others.
    rosters: f64,
    wrong: usize,
}

fn member(number: usize) -> String {
    format!("m{number:05}")
}

fn join_at_once(scene: &mut Scene, members: Range<usize>, channel: &str) -> Result<Cost, Failure> {
    let count = members.len();
    let mut all = Digest::default();
    (0..count).for_each(|number| all.add(member(number).as_bytes()));
    let before = (scene.cpu_seconds()?, scene.swarm.traffic(members.clone()).1);
    let began_ns = now_ns();
    let text = subscribe(channel, "s");
    for index in members.clone() {
        scene.swarm.send_text(index, &text);
    }
    let mut unknown: Vec<usize> = members.clone().collect();
    let known = scene.swarm.until(ROUND_MAX, |swarm| {
        unknown.retain(|index| {
            let mut others = all;
            others.remove(member(index - members.start).as_bytes());
            let rosters = swarm.peer(*index).heard.rosters.as_ref();
            !rosters.is_some_and(|it| it.is(channel, others))
        });
        unknown.is_empty()
    })?;
    let seconds = (now_ns() - began_ns) as f64 / 1e9;
    let bytes = (scene.swarm.traffic(members).1 - before.1) as f64 / count as f64;
    let name = r#"{"peerId":"m00000"},"#.len();
    Ok(Cost {
        seconds,
        cpu_us: (scene.cpu_seconds()? - before.0) * 1e6 / count as f64,
        bytes,
        rosters: bytes / (name * count) as f64,
        wrong: if known { 0 } else { unknown.len() },
    })
}

/// 1,500 members join one channel at once and leave it at once, four times, and are gone.
pub(super) fn memory_returns(scene: &mut Scene) -> Result<(), Failure> {
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
