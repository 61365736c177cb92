//! The server does not run for some seconds, as in a paused container, and then judges.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::abuse::scene::Scene;
use crate::abuse::swarm::Opening;
use crate::abuse::verdict::Check;
use crate::failure::Failure;

/// Clients that wait for an answer.
const ASKING: usize = 500;
/// A little longer than a head may take.
const STALL: Duration = Duration::from_millis(5_400);
/// Clients that say nothing.
const QUIET: usize = 300;
/// A little shorter than they may be silent.
const QUIET_STALL: Duration = Duration::from_millis(2_700);

/// Requests that arrived whole while the server stood still.
pub(super) fn requests(scene: &mut Scene) -> Result<(), Failure> {
    let publish = scene
        .place
        .rest("POST", "/v1/channels/c/publish", r#"{"data":1}"#)?;
    let count = scene.scaled(ASKING);
    scene.own_server()?;
    scene.begin_without_strangers()?;
    let mut requests = Vec::new();
    for number in 0..count {
        let websocket = scene.place.as_peer(&format!("p{number}"))?;
        requests.push(if number % 2 == 0 {
            websocket
        } else {
            publish.clone()
        });
        scene.swarm.open(Opening::new(Vec::new()))?;
    }
    scene.swarm.run(Duration::from_millis(300))?;
    scene.own_server()?.signal(Signal::STOP);
    for (index, request) in requests.iter().enumerate() {
        scene.swarm.send(index, request);
        scene.swarm.write_now(index);
    }
    thread::sleep(STALL);
    scene.own_server()?.signal(Signal::CONT);
    let all = 0..count;
    scene.swarm.until(Duration::from_secs(10), |swarm| {
        swarm
            .peers()
            .iter()
            .all(|it| it.heard.answers() > 0 || !it.is_open())
    })?;
    scene.end()?;
    scene.saw(scene.swarm.endings(all.clone()));
    let good = scene.swarm.statuses(all.clone(), 101) + scene.swarm.statuses(all.clone(), 200);
    scene.check(Check::equal(
        "requests that were answered",
        good,
        count as u64,
    ));
    let late = scene.swarm.statuses(all, 408);
    scene.check(Check::equal("called late", late, 0));
    Ok(())
}

/// WebSockets that were quiet before, meanwhile and after, and answer pings.
pub(super) fn quiet(scene: &mut Scene) -> Result<(), Failure> {
    scene.own_server()?;
    let count = scene.scaled(QUIET);
    let peers = scene.join_in(count, |place, _| Ok(Opening::new(place.with_key()?)))?;
    scene.begin_without_strangers()?;
    scene.swarm.run(Duration::from_millis(600))?;
    scene.own_server()?.signal(Signal::STOP);
    thread::sleep(QUIET_STALL);
    scene.own_server()?.signal(Signal::CONT);
    scene.swarm.run(Duration::from_secs(4))?;
    scene.end()?;
    let open = scene.swarm.open_count(peers);
    scene.check(Check::equal(
        "connections that live on",
        open as u64,
        count as u64,
    ));
    Ok(())
}
