//! Large answers that nobody reads: snapshots of a roster, and its list over REST.

use std::ops::Range;
use std::time::Duration;

use serde_json::json;

use crate::abuse::heard::Kind;
use crate::abuse::rows::subscribe;
use crate::abuse::scene::Scene;
use crate::abuse::swarm::{Opening, Reading};
use crate::failure::Failure;

/// How long the attack is watched.
const TIME: Duration = Duration::from_secs(5);

/// 100 connections subscribe eight times each to a channel whose roster has 1 MB, and read nothing.
pub(super) fn subscribes(scene: &mut Scene) -> Result<(), Failure> {
    members(scene, 1_000, 900)?;
    let attackers = scene.join_in(100, |place, _| {
        Ok(Opening::new(place.with_key()?).reads(Reading::All))
    })?;
    scene.begin()?;
    for index in attackers.clone() {
        scene.swarm.read_at(index, Reading::Nothing);
        (0..8).for_each(|_| {
            scene
                .swarm
                .send_text(index, r#"{"type":"subscribe","channel":"big"}"#)
        });
    }
    scene.swarm.run(TIME)?;
    scene.end()?;
    let (sent, _) = scene.swarm.traffic(attackers.clone());
    let open = scene.swarm.open_count(attackers);
    scene.saw(format!(
        "{sent} bytes sent, handshakes included; {open} of 100 are open"
    ));
    // 64 KB for each of 100, and a few versions of the snapshot.
    scene.check_memory(32.0)
}

/// 150 requests for the peers of a channel of 2,000 with 3.9 KB of metadata each, unread.
pub(super) fn peers(scene: &mut Scene) -> Result<(), Failure> {
    members(scene, 2_000, 3_900)?;
    let first = scene.swarm.peers().len();
    let request = scene.place.rest("GET", "/v1/channels/big/peers", "")?;
    scene.begin()?;
    for _ in 0..150 {
        let opening = Opening::new(request.clone()).reads(Reading::Nothing);
        scene.swarm.open(opening)?;
    }
    scene.swarm.run(TIME)?;
    scene.end()?;
    let all = first..scene.swarm.peers().len();
    let (sent, _) = scene.swarm.traffic(all.clone());
    let open = scene.swarm.open_count(all.clone());
    // What has come in meanwhile tells a 429 from an answer.
    all.clone()
        .for_each(|it| scene.swarm.read_at(it, Reading::All));
    scene.swarm.run(TIME)?;
    scene.saw(format!(
        "{sent} bytes sent, {open} of 150 were open; read later: {}, {} bytes",
        scene.swarm.endings(all.clone()),
        scene.swarm.traffic(all).1
    ));
    // A few renderings of the list, which has 8 MB whole and 1 MB cut.
    scene.check_memory(64.0)
}

/// Members of the channel `big` that are listed with metadata and hear no presence.
pub(super) fn members(
    scene: &mut Scene,
    count: usize,
    bytes: usize,
) -> Result<Range<usize>, Failure> {
    let count = scene.scaled(count);
    let text = "m".repeat(bytes);
    let members = scene.join_in(count, |place, number| {
        Ok(Opening::new(place.with_claims(json!({
            "sub": format!("member-{number}"),
            "permissions": ["subscribe"],
            "peerMetadata": {"x": text},
        }))?))
    })?;
    scene.tell_all(members.clone(), Kind::Ack, |_| subscribe("big", "s"))?;
    Ok(members)
}
