//! WebSocket pings without pause, however their answers are read.

use std::sync::Arc;
use std::time::Duration;

use crate::abuse::rows::frames;
use crate::abuse::scene::Scene;
use crate::abuse::swarm::{Opening, Reading};
use crate::client::frame::{self, opcode};
use crate::failure::Failure;

/// How long.
const TIME: Duration = Duration::from_secs(6);
/// Bytes written at once: more than a server reads at once.
const WRITE_BYTES: usize = 256 * 1024;
/// A few KB for the connections, and room for what the process does of itself, MB.
const MEMORY_MB: f64 = 16.0;

/// Empty pings on eight connections, pongs read at once.
pub(super) fn empty(scene: &mut Scene) -> Result<(), Failure> {
    flood(scene, 8, 0, Reading::All)
}

/// The longest pings on one connection, pongs not read.
pub(super) fn unread(scene: &mut Scene) -> Result<(), Failure> {
    flood(scene, 1, 125, Reading::Nothing)
}

/// The longest pings on one connection, pongs read at 4 MB/s.
pub(super) fn slow(scene: &mut Scene) -> Result<(), Failure> {
    flood(scene, 1, 125, Reading::Paced(4_000_000))
}

fn flood(
    scene: &mut Scene,
    connections: usize,
    bytes: usize,
    reading: Reading,
) -> Result<(), Failure> {
    // Ordinary sockets: what their kernels buffer must have been written before it can be kept.
    let peers = scene.join_in(connections, |place, _| Ok(Opening::new(place.with_key()?)))?;
    match reading {
        // Without a rate, strangers share the server with as many pings as it can answer.
        Reading::All => scene.begin_without_strangers()?,
        _ => scene.begin()?,
    }
    let pings = WRITE_BYTES / (bytes + frame::HEAD_BYTES);
    let pattern: Arc<[u8]> = frames(opcode::PING, &vec![b'p'; bytes], pings).into();
    for index in peers.clone() {
        scene.swarm.read_at(index, reading);
        scene.swarm.flood(index, Arc::clone(&pattern));
    }
    scene.swarm.run(TIME)?;
    scene.end()?;
    let (sent, received) = scene.swarm.traffic(peers.clone());
    let open = scene.swarm.open_count(peers.clone());
    scene.saw(format!(
        "{sent} bytes sent, {received} received, {open} of {connections} still open: {}",
        scene.swarm.endings(peers)
    ));
    scene.check_memory(MEMORY_MB)
}
