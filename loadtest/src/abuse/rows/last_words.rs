//! What arrives together with the end of its connection.

use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::rows::{subscribe, text_frame};
use crate::abuse::scene::Scene;
use crate::abuse::swarm::Opening;
use crate::abuse::verdict::Check;
use crate::client::frame::{self, opcode};
use crate::failure::Failure;

/// Rounds, because some of these faults need luck.
const ROUNDS: usize = 8;
/// Joins and publications of one connection.
const JOINS: usize = 16;
const PUBLISHES: usize = 50;
/// Pipelined requests of one connection.
const REQUESTS: usize = 16;
/// Channels they go to, so that other shards are asked.
const CHANNELS: usize = 4;
/// How long what was written may take, on a busy machine.
const WAIT: Duration = Duration::from_secs(5);
/// Rounds that fail before the others are not tried any more.
const FAILED_ROUNDS: usize = 3;

/// Joins, publications and a close in one write, and the end of the stream behind it: a FIN, over
/// TLS a `close_notify`.
pub(super) fn websocket(scene: &mut Scene) -> Result<(), Failure> {
    let listener = listener(scene)?;
    scene.begin()?;
    let with_fin = scene.place.target.tls.is_none();
    let (mut answered, mut failed) = (0, 0);
    for round in 0..ROUNDS {
        if failed == FAILED_ROUNDS {
            break;
        }
        let before = scene.swarm.peer(listener).heard.count(Kind::Message);
        let name = format!("w{round}");
        let writer = scene.join_in(1, |place, _| Ok(Opening::new(place.as_peer(&name)?)))?;
        let mut bytes = Vec::new();
        for number in 0..JOINS {
            text_frame(&mut bytes, &subscribe(&format!("z{number}"), "s"));
        }
        for number in 0..PUBLISHES {
            let channel = number % CHANNELS;
            let text = format!(r#"{{"type":"publish","channel":"ch{channel}","data":1}}"#);
            text_frame(&mut bytes, &text);
        }
        frame::encode(
            &mut bytes,
            opcode::CLOSE,
            &[&1000u16.to_be_bytes()],
            [1, 2, 3, 4],
        );
        scene.swarm.end_behind(writer.start, &bytes, with_fin);
        let wanted = before + PUBLISHES as u64;
        let done = scene.swarm.until(WAIT, |swarm| {
            let delivered = swarm.peer(listener).heard.count(Kind::Message) >= wanted;
            delivered && !swarm.peer(writer.start).is_open()
        })?;
        failed += usize::from(!done);
        answered += u64::from(scene.swarm.peer(writer.start).heard.close == Some(1000));
    }
    scene.saw(format!("{failed} rounds failed"));
    scene.end()?;
    let delivered = scene.swarm.peer(listener).heard.count(Kind::Message);
    let all = (ROUNDS * PUBLISHES) as u64;
    scene.check(Check::equal("messages delivered", delivered, all));
    scene.check(Check::equal("closes answered", answered, ROUNDS as u64));
    Ok(())
}

/// Pipelined publications over REST in one write, with the end of the stream behind it: over TLS
/// a `close_notify`, in every other round a FIN as well.
pub(super) fn rest(scene: &mut Scene) -> Result<(), Failure> {
    let listener = listener(scene)?;
    scene.begin()?;
    let is_tls = scene.place.target.tls.is_some();
    let mut bytes = Vec::new();
    for number in 0..REQUESTS {
        let path = format!("/v1/channels/ch{}/publish", number % CHANNELS);
        bytes.extend(scene.place.rest("POST", &path, r#"{"data":1}"#)?);
    }
    let (mut answered, mut failed) = (0, 0);
    for round in 0..ROUNDS {
        if failed == FAILED_ROUNDS {
            break;
        }
        let before = scene.swarm.peer(listener).heard.count(Kind::Message);
        // Over TLS the handshake comes first: a request that is answered shows that it is done.
        let hello = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        let writer = scene.swarm.open(Opening::new(hello))?;
        scene
            .swarm
            .until(WAIT, |swarm| swarm.peer(writer).heard.answers() > 0)?;
        let with_fin = !is_tls || round % 2 == 1;
        scene.swarm.end_behind(writer, &bytes, with_fin);
        let wanted = before + REQUESTS as u64;
        let done = scene.swarm.until(WAIT, |swarm| {
            let heard = swarm.peer(writer).heard.answers() > REQUESTS as u64;
            heard && swarm.peer(listener).heard.count(Kind::Message) >= wanted
        })?;
        failed += usize::from(!done);
        // One answer was for the hello.
        let answers = scene.swarm.peer(writer).heard.answers();
        answered += answers.saturating_sub(1);
    }
    scene.saw(format!("{failed} rounds failed"));
    scene.end()?;
    let delivered = scene.swarm.peer(listener).heard.count(Kind::Message);
    let all = (ROUNDS * REQUESTS) as u64;
    scene.check(Check::equal("publications delivered", delivered, all));
    scene.check(Check::equal("requests answered", answered, all));
    Ok(())
}

/// A subscriber of all channels.
fn listener(scene: &mut Scene) -> Result<usize, Failure> {
    let listener = scene.join_in(1, |place, _| Ok(Opening::new(place.as_quiet_peer("ear")?)))?;
    for number in 0..CHANNELS {
        let text = subscribe(&format!("ch{number}"), "s");
        scene.tell_all(listener.clone(), Kind::Ack, |_| text.clone())?;
    }
    Ok(listener.start)
}
