//! One act that ends or changes thousands of connections.

use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::abuse::heard::Kind;
use crate::abuse::rows::subscribe_all;
use crate::abuse::scene::Scene;
use crate::abuse::swarm::Opening;
use crate::abuse::verdict::Check;
use crate::failure::Failure;

/// Connections.
const CONNECTIONS: usize = 4_000;
/// Channels of each.
const CHANNELS: usize = 20;
/// How long the consequences are watched.
const AFTER: Duration = Duration::from_millis(1_500);
/// The admin API.
const APPS: &str = "/api/internal/v1/apps";

/// All connections of one peer are kicked.
pub(super) fn kick(scene: &mut Scene) -> Result<(), Failure> {
    let crowd = crowd(scene, |scene, _| scene.place.as_quiet_peer("crowd"))?;
    let request = scene.place.rest("DELETE", "/v1/peers/crowd", "")?;
    let kicker = scene.swarm.open(Opening::new(Vec::new()))?;
    scene.begin()?;
    scene.swarm.send(kicker, &request);
    let answered = scene.swarm.until(Duration::from_secs(20), |swarm| {
        swarm.peer(kicker).heard.answers() > 0
    })?;
    scene.swarm.run(AFTER)?;
    scene.end()?;
    scene.check(Check::equal("the kick is answered", answered.into(), 1));
    let closed = scene.swarm.closed_with(crowd.clone(), 4020);
    scene.check(Check::equal("closed with 4020", closed, crowd.len() as u64));
    Ok(())
}

/// The key of all of them is revoked.
pub(super) fn revoke(scene: &mut Scene) -> Result<(), Failure> {
    let (key, crowd) = crowd_of_new_key(scene)?;
    scene.begin()?;
    let path = format!("/api/internal/v1/signalling/keys/{key}");
    scene.place.admin("DELETE", &path, &Value::Null)?;
    scene.swarm.run(AFTER)?;
    scene.end()?;
    let closed = scene.swarm.closed_with(crowd.clone(), 4001);
    scene.check(Check::equal("closed with 4001", closed, crowd.len() as u64));
    Ok(())
}

/// The rights of the key of all of them change.
pub(super) fn rights(scene: &mut Scene) -> Result<(), Failure> {
    let (key, crowd) = crowd_of_new_key(scene)?;
    scene.begin()?;
    let path = format!("/api/internal/v1/signalling/keys/{key}");
    let change = json!({"actions": ["subscribe"]});
    let status = scene.place.admin("PATCH", &path, &change)?.status;
    scene.tell_all(crowd.clone(), Kind::Error, |_| {
        r#"{"type":"publish","channel":"c-0","data":1,"requestId":"x"}"#.into()
    })?;
    scene.swarm.run(AFTER)?;
    scene.end()?;
    scene.check(Check::equal("status of the change", status.into(), 200));
    let open = scene.swarm.open_count(crowd.clone());
    scene.check(Check::equal(
        "still connected",
        open as u64,
        crowd.len() as u64,
    ));
    Ok(())
}

/// The server is asked to end, and has a second for its connections.
pub(super) fn drain(scene: &mut Scene) -> Result<(), Failure> {
    scene.own_server()?;
    let crowd = crowd(scene, |scene, number| {
        scene.place.as_quiet_peer(&format!("p{number}"))
    })?;
    scene.begin_without_strangers()?;
    let began = Instant::now();
    scene.own_server()?.signal(Signal::TERM);
    let swarm = &mut scene.swarm;
    swarm.until(Duration::from_secs(15), |swarm| {
        swarm.open_count(crowd.clone()) == 0
    })?;
    let status = scene.own_server()?.wait(Duration::from_secs(15));
    let seconds = began.elapsed().as_secs_f64();
    scene.note_figures();
    let closed = scene.swarm.closed_with(crowd.clone(), 1001);
    scene.check(Check::equal("closed with 1001", closed, crowd.len() as u64));
    let exit = status
        .and_then(|it| it.code())
        .map_or("none".into(), |it| it.to_string());
    scene.check(Check::new("exit code", exit == "0", exit, "0".into()));
    scene.check(Check::at_most("the end came after", seconds, 15.0, "s"));
    Ok(())
}

/// Connections of a key that was made for them.
fn crowd_of_new_key(scene: &mut Scene) -> Result<(String, Range<usize>), Failure> {
    let app = scene.place.new_app()?;
    let path = format!("{APPS}/{app}/keys");
    let key = scene.place.new_key(&path, &["**"])?;
    let crowd = crowd(scene, |scene, number| {
        let rights = ["subscribe", "publish"];
        let claims = json!({"sub": format!("p{number}"), "permissions": rights});
        scene
            .place
            .with_secret(&key.id, &key.signing_secret, claims)
    })?;
    Ok((key.id, crowd))
}

fn crowd(
    scene: &mut Scene,
    first: impl Fn(&Scene, usize) -> Result<Vec<u8>, Failure>,
) -> Result<Range<usize>, Failure> {
    let count = scene.scaled(CONNECTIONS);
    let requests: Vec<_> = (0..count)
        .map(|it| first(scene, it))
        .collect::<Result<_, _>>()?;
    let crowd = scene.join_in(count, |_, number| {
        Ok(Opening::new(requests[number].clone()))
    })?;
    subscribe_all(scene, crowd.clone(), CHANNELS, "c")?;
    Ok(crowd)
}
