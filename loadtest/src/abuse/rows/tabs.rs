//! One peer with very many connections, and what each of them costs.

use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::rows::subscribe_all;
use crate::abuse::scene::Scene;
use crate::abuse::statistics::ratio;
use crate::abuse::swarm::Opening;
use crate::abuse::verdict::Check;
use crate::failure::Failure;

/// Connections.
const TABS: usize = 3_000;
/// Channels of each.
const CHANNELS: usize = 50;
/// How long the leave may take.
const LEAVE: Duration = Duration::from_secs(3);
/// CPU time of one peer's connections, as a multiple of that of as many peers'.
const TIMES: f64 = 2.0;
/// Tabs of the peer that gets direct messages, and its channels.
const RECEIVER_TABS: usize = 1_000;
const RECEIVER_CHANNELS: usize = 100;
/// Direct messages.
const SENDS: usize = 300;
/// A `send` below this costs this much, µs.
const SEND_US_MIN: f64 = 10.0;
/// A `send` to many tabs, as a multiple of one to a single tab.
const SEND_TIMES: f64 = 6.0;

/// Joins and leaves of 3,000 connections in 50 channels: of one peer, and of 3,000.
pub(super) fn joins_and_leaves(scene: &mut Scene) -> Result<(), Failure> {
    let count = scene.scaled(TABS);
    let many = join_and_leave(scene, count, |number| format!("p{number}"))?;
    // There is no rate: what strangers would wait for is 150,000 commands, whoever sends them.
    scene.begin_without_strangers()?;
    let one = join_and_leave(scene, count, |_| "tabs".to_owned())?;
    scene.end()?;
    scene.saw(format!(
        "CPU time of {count} peers: {:.2} s to join, {:.2} to leave; of one: {:.2} and {:.2}",
        many.0, many.1, one.0, one.1
    ));
    let join = ratio(one.0, many.0, 0.05);
    let what = "CPU time of one peer's joins, by that of many peers'";
    scene.check(Check::at_most(what, join, TIMES, ""));
    let leave = ratio(one.1, many.1, 0.05);
    let what = "CPU time of one peer's leaves, by that of many peers'";
    scene.check(Check::at_most(what, leave, TIMES, ""));
    Ok(())
}

fn join_and_leave(
    scene: &mut Scene,
    count: usize,
    name: impl Fn(usize) -> String,
) -> Result<(f64, f64), Failure> {
    let tabs = scene.join_in(count, |place, number| {
        Ok(Opening::new(place.as_quiet_peer(&name(number))?))
    })?;
    let before = scene.cpu_seconds()?;
    subscribe_all(scene, tabs.clone(), CHANNELS, "tab")?;
    let joined = scene.cpu_seconds()?;
    scene.swarm.leave_all(tabs, false);
    scene.swarm.run(LEAVE)?;
    Ok((joined - before, scene.cpu_seconds()? - joined))
}

/// A `send` to a peer with 1,000 tabs that shares no channel with the sender.
pub(super) fn scoped_send(scene: &mut Scene) -> Result<(), Failure> {
    let count = scene.scaled(RECEIVER_TABS);
    let tabs = scene.join_in(count, |place, _| {
        Ok(Opening::new(place.as_quiet_peer("tabs")?))
    })?;
    let single = scene.join_in(1, |place, _| {
        Ok(Opening::new(place.as_quiet_peer("single")?))
    })?;
    let sender = scene.join_in(1, |place, _| {
        Ok(Opening::new(place.as_quiet_peer("sender")?))
    })?;
    subscribe_all(scene, tabs, RECEIVER_CHANNELS, "theirs")?;
    subscribe_all(scene, single, RECEIVER_CHANNELS, "theirs")?;
    subscribe_all(scene, sender.clone(), RECEIVER_CHANNELS, "mine")?;
    let one_us = send(scene, sender.start, "single")?;
    scene.begin()?;
    let many_us = send(scene, sender.start, "tabs")?;
    scene.end()?;
    scene.saw(format!(
        "CPU time of a send: {one_us:.0} µs to one tab, {many_us:.0} µs to {count}"
    ));
    let times = ratio(many_us, one_us, SEND_US_MIN);
    let what = "a send to many tabs, by one to a single tab";
    scene.check(Check::at_most(what, times, SEND_TIMES, ""));
    Ok(())
}

/// CPU time of one of many sends, µs; each is refused, because no channel is shared.
fn send(scene: &mut Scene, sender: usize, to: &str) -> Result<f64, Failure> {
    let range = sender..sender + 1;
    let wanted = scene.swarm.frames(range.clone(), Kind::Error) + SENDS as u64;
    let before = scene.cpu_seconds()?;
    let text = format!(r#"{{"type":"send","to":"{to}","data":1,"requestId":"x"}}"#);
    (0..SENDS).for_each(|_| scene.swarm.send_text(sender, &text));
    let done = scene.swarm.until(Duration::from_secs(30), |swarm| {
        swarm.frames(range.clone(), Kind::Error) >= wanted
    })?;
    if !done {
        let what = "not every send was refused; the app needs directScope shared-channel";
        return Err(Failure::Timeout(what.into()));
    }
    Ok((scene.cpu_seconds()? - before) * 1e6 / SENDS as f64)
}
