//! Work that has to count: control frames, fragments, requests without a credential, minting.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::abuse::rows::frames;
use crate::abuse::scene::Scene;
use crate::abuse::statistics::ratio;
use crate::abuse::swarm::{Opening, Swarm};
use crate::abuse::verdict::Check;
use crate::client::frame::opcode;
use crate::failure::Failure;

/// Connections of a flood.
const CONNECTIONS: usize = 8;
/// How long a flood lasts.
const TIME: Duration = Duration::from_secs(5);
/// Tokens minted, and patterns of each.
const MINTS: usize = 50;
const PATTERNS: usize = 100;
/// A mint below this costs this much, µs.
const MINT_US_MIN: f64 = 50.0;
/// One with awkward patterns, as a multiple of one without any.
const MINT_TIMES: f64 = 20.0;

/// Pings and empty fragments without pause, at the default rate.
pub(super) fn control_frames(scene: &mut Scene) -> Result<(), Failure> {
    let pingers = scene.join_in(CONNECTIONS, |place, _| Ok(Opening::new(place.with_key()?)))?;
    let fragments = scene.join_in(CONNECTIONS, |place, _| Ok(Opening::new(place.with_key()?)))?;
    scene.begin()?;
    let pings: Arc<[u8]> = frames(opcode::PING, b"", 4_000).into();
    pingers
        .clone()
        .for_each(|it| scene.swarm.flood(it, Arc::clone(&pings)));
    // The first fragment is text and not the last; the others are empty and go on for ever.
    let mut continuation = frames(opcode::CONTINUATION, b"", 1);
    continuation[0] &= 0x7f;
    let endless: Arc<[u8]> = continuation.repeat(4_000).into();
    let mut first = frames(opcode::TEXT, b"{", 1);
    first[0] &= 0x7f;
    for index in fragments.clone() {
        scene.swarm.send(index, &first);
        scene.swarm.flood(index, Arc::clone(&endless));
    }
    let all = |swarm: &Swarm, range: Range<usize>| swarm.closed_with(range, 4011);
    scene.swarm.run(TIME)?;
    scene.end()?;
    let (sent, received) = scene.swarm.traffic(pingers.start..fragments.end);
    scene.saw(format!("{sent} bytes sent, {received} received"));
    let closed = all(&scene.swarm, pingers);
    scene.check(Check::equal(
        "pinging connections closed with 4011",
        closed,
        8,
    ));
    let closed = all(&scene.swarm, fragments);
    scene.check(Check::equal(
        "fragmenting connections closed with 4011",
        closed,
        8,
    ));
    Ok(())
}

/// Requests with a bad credential, one after the other's answer.
pub(super) fn without_credential(scene: &mut Scene) -> Result<(), Failure> {
    scene.begin()?;
    let request = "GET /v1/usage HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk_live_no\r\n\r\n";
    let open = |swarm: &mut Swarm| swarm.open(Opening::new(Vec::new()));
    let mut peers = Vec::new();
    for _ in 0..CONNECTIONS {
        peers.push((open(&mut scene.swarm)?, 0));
    }
    let mut sent = 0;
    let mut failure = None;
    scene.swarm.until(TIME, |swarm| {
        for (index, asked) in &mut peers {
            if !swarm.peer(*index).is_open() {
                match open(swarm) {
                    Ok(again) => (*index, *asked) = (again, 0),
                    Err(error) => failure = Some(error),
                }
            }
            while *asked < swarm.peer(*index).heard.answers() + 16 && *asked < 1 << 40 {
                swarm.send(*index, request.as_bytes());
                *asked += 1;
                sent += 1;
            }
        }
        failure.is_some()
    })?;
    scene.end()?;
    let all = 0..scene.swarm.peers().len();
    let judged = scene.swarm.statuses(all.clone(), 401);
    let refused = scene.swarm.statuses(all.clone(), 429);
    scene.saw(format!("{sent} requests: {}", scene.swarm.endings(all)));
    let what = "share of answers that are 429";
    let share = 100.0 * refused as f64 / (judged + refused).max(1) as f64;
    scene.check(Check::at_least(what, share, 50.0, "%"));
    Ok(())
}

/// Tokens with 100 patterns that are hard to compare, for a key that has 100 of them.
pub(super) fn mint(scene: &mut Scene) -> Result<(), Failure> {
    let app = scene.place.new_app()?;
    let awkward: Vec<String> = (0..PATTERNS)
        .map(|number| format!("{}x{number}", "*b?".repeat(16)))
        .collect();
    let patterns: Vec<&str> = awkward.iter().map(String::as_str).collect();
    let path = format!("/api/internal/v1/apps/{app}/keys");
    let key = scene.place.new_key(&path, &patterns)?;
    scene.place.api_secret = Some(key.api_secret);
    let easy = json!({"peerId": "p"}).to_string();
    let hard = json!({"peerId": "p", "channels": awkward}).to_string();
    // The first of them may pay for what the others use.
    let _first = mint_all(scene, &hard, 1)?;
    let easy_us = mint_all(scene, &easy, MINTS)?;
    scene.begin()?;
    let hard_us = mint_all(scene, &hard, MINTS)?;
    scene.end()?;
    scene.saw(format!(
        "CPU time of a mint: {easy_us:.0} µs without patterns, {hard_us:.0} µs with {PATTERNS}"
    ));
    let times = ratio(hard_us, easy_us, MINT_US_MIN);
    let what = "a mint with awkward patterns, by one without any";
    scene.check(Check::at_most(what, times, MINT_TIMES, ""));
    Ok(())
}

/// CPU time of one of `count` mints, µs.
fn mint_all(scene: &mut Scene, body: &str, count: usize) -> Result<f64, Failure> {
    let request = scene.place.rest("POST", "/v1/tokens", body)?;
    let before = scene.cpu_seconds()?;
    let index = scene.swarm.open(Opening::new(request.repeat(count)))?;
    scene.swarm.until(Duration::from_secs(20), |swarm| {
        swarm.peer(index).heard.answers() >= count as u64 || !swarm.peer(index).is_open()
    })?;
    let minted = scene.swarm.peer(index).heard.status(200);
    if minted < count as u64 {
        let said = scene.swarm.endings(index..index + 1);
        let what = format!("{count} tokens were asked for: {said}");
        return Err(Failure::Protocol(what));
    }
    Ok((scene.cpu_seconds()? - before) * 1e6 / count as f64)
}
