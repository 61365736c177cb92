//! Ends of connections that still have something to read, and read it slowly.

use std::time::Duration;

use serde_json::json;

use crate::abuse::heard::Kind;
use crate::abuse::rows::{publish_of, snapshots, subscribe};
use crate::abuse::scene::Scene;
use crate::abuse::swarm::{Opening, Reading};
use crate::abuse::verdict::Check;
use crate::client::frame::{self, opcode};
use crate::failure::Failure;

/// Messages of 60,000 bytes: together below the 1 MiB that may wait.
const MESSAGES: u64 = 14;
const MESSAGE_BYTES: usize = 60_000;
/// Bytes per second that slow readers take.
const SLOW: u64 = 250_000;
/// How long reading everything may take.
const READ_MAX: Duration = Duration::from_secs(20);
/// How old a connection is when it closes: its first deadline, of 5 s, is near.
const AGE: Duration = Duration::from_millis(3_800);

/// The client closes, and goes on reading.
pub(super) fn close(scene: &mut Scene) -> Result<(), Failure> {
    scene.begin()?;
    let reader = reader(scene)?;
    scene.swarm.run(AGE)?;
    fill(scene, reader)?;
    let mut bytes = Vec::new();
    frame::encode(
        &mut bytes,
        opcode::CLOSE,
        &[&1000u16.to_be_bytes()],
        [1, 2, 3, 4],
    );
    scene.swarm.send(reader, &bytes);
    scene.swarm.write_now(reader);
    read_to_the_end(scene, reader, 1000)
}

/// The peer is kicked, and goes on reading.
pub(super) fn kick(scene: &mut Scene) -> Result<(), Failure> {
    scene.begin()?;
    let reader = reader(scene)?;
    fill(scene, reader)?;
    let request = scene.place.rest("DELETE", "/v1/peers/slow", "")?;
    scene.swarm.open(Opening::new(request))?;
    read_to_the_end(scene, reader, 4020)
}

/// The app is suspended, and its peer goes on reading.
pub(super) fn suspend(scene: &mut Scene) -> Result<(), Failure> {
    let app = scene.place.new_app()?;
    let path = format!("/api/internal/v1/apps/{app}");
    let key = scene.place.new_key(&format!("{path}/keys"), &["**"])?;
    let claims = |name: &str| json!({"sub": name, "permissions": ["subscribe", "publish"]});
    scene.begin()?;
    let pair = scene.join_in(2, |place, number| {
        let name = if number == 0 { "slow" } else { "loud" };
        let first = place.with_secret(&key.id, &key.signing_secret, claims(name))?;
        Ok(Opening::new(first).reads(Reading::All))
    })?;
    let (reader, loud) = (pair.start, pair.start + 1);
    scene.tell_all(reader..loud, Kind::Ack, |_| subscribe("c", "s"))?;
    scene.swarm.read_at(reader, Reading::Nothing);
    publish(scene, loud)?;
    let change = json!({"status": "suspended"});
    scene.place.admin("PATCH", &path, &change)?;
    read_to_the_end(scene, reader, 4012)
}

/// A subscriber that is about to read nothing.
fn reader(scene: &mut Scene) -> Result<usize, Failure> {
    let reader = scene.join_in(1, |place, _| {
        Ok(Opening::new(place.as_quiet_peer("slow")?).reads(Reading::All))
    })?;
    scene.tell_all(reader.clone(), Kind::Ack, |_| subscribe("c", "s"))?;
    scene.swarm.read_at(reader.start, Reading::Nothing);
    Ok(reader.start)
}

fn fill(scene: &mut Scene, _reader: usize) -> Result<(), Failure> {
    let loud = scene.join_in(1, |place, _| Ok(Opening::new(place.as_quiet_peer("loud")?)))?;
    publish(scene, loud.start)
}

fn publish(scene: &mut Scene, loud: usize) -> Result<(), Failure> {
    let text = publish_of("c", MESSAGE_BYTES);
    (0..MESSAGES).for_each(|_| scene.swarm.send_text(loud, &text));
    // The application's pong tells that all of them have been taken.
    scene.tell_all(loud..loud + 1, Kind::Pong, |_| r#"{"type":"ping"}"#.into())
}

fn read_to_the_end(scene: &mut Scene, reader: usize, code: u16) -> Result<(), Failure> {
    scene.swarm.read_at(reader, Reading::Paced(SLOW));
    scene.swarm.until(READ_MAX, |swarm| {
        let peer = swarm.peer(reader);
        peer.heard.close.is_some() || !peer.is_open()
    })?;
    scene.end()?;
    let heard = &scene.swarm.peer(reader).heard;
    let (messages, close) = (heard.count(Kind::Message), heard.close.unwrap_or_default());
    scene.check(Check::equal("messages that were read", messages, MESSAGES));
    scene.check(Check::equal(
        "close code behind them",
        close.into(),
        code.into(),
    ));
    Ok(())
}

/// A list of 1 MB, read at 150 KB/s without a pause: over a connection that ends behind it, by
/// HTTP/1.0, and kept alive for less than the reading takes.
pub(super) fn peers_list(scene: &mut Scene) -> Result<(), Failure> {
    snapshots::members(scene, 250, 3_900)?;
    let path = "/v1/channels/big/peers";
    let requests = [
        scene
            .place
            .rest_with("GET", path, "", "Connection: close\r\n")?,
        as_http_1_0(scene.place.rest("GET", path, "")?),
        scene.place.rest("GET", path, "")?,
    ];
    scene.begin()?;
    let first = scene.swarm.peers().len();
    for request in requests {
        scene
            .swarm
            .open(Opening::new(request).reads(Reading::Paced(150_000)))?;
    }
    let all = first..first + 3;
    scene.swarm.until(READ_MAX, |swarm| {
        let mut peers = swarm.peers()[all.clone()].iter();
        peers.all(|it| it.heard.answers() > 0 || !it.is_open())
    })?;
    scene.end()?;
    let names = ["Connection: close", "HTTP/1.0", "a short keep-alive"];
    for (index, name) in all.zip(names) {
        let heard = &scene.swarm.peer(index).heard;
        let (read, announced) = (heard.body_bytes, heard.announced_bytes);
        scene.check(Check::new(
            &format!("bytes read with {name}"),
            read == announced && read > 500_000,
            read.to_string(),
            format!("{announced}, as announced"),
        ));
    }
    Ok(())
}

fn as_http_1_0(request: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(&request);
    text.replacen("HTTP/1.1", "HTTP/1.0", 1).into_bytes()
}
