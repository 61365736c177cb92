//! Requests without pause on few connections, whose answers are read.

use std::sync::Arc;
use std::time::Duration;

use crate::abuse::scene::Scene;
use crate::abuse::swarm::Opening;
use crate::failure::Failure;

/// Connections.
const CONNECTIONS: usize = 8;
/// How long.
const TIME: Duration = Duration::from_secs(8);
/// Requests written at once: more than a server reads at once.
const REQUESTS: usize = 7_500;
/// A few hundred KB for the connections, and room for what the process does of itself, MB.
const MEMORY_MB: f64 = 16.0;

/// `GET /healthz`, which needs no credential.
pub(super) fn health(scene: &mut Scene) -> Result<(), Failure> {
    flood(scene, "/healthz", "")
}

/// A path that is not there.
pub(super) fn not_found(scene: &mut Scene) -> Result<(), Failure> {
    flood(scene, "/nothing-here", "")
}

/// A path that needs a credential, with a bad one.
pub(super) fn unauthorized(scene: &mut Scene) -> Result<(), Failure> {
    flood(
        scene,
        "/v1/usage",
        "Authorization: Bearer sk_live_of_nobody\r\n",
    )
}

fn flood(scene: &mut Scene, path: &str, headers: &str) -> Result<(), Failure> {
    scene.begin()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let pattern: Arc<[u8]> = request.repeat(REQUESTS).into_bytes().into();
    for _ in 0..CONNECTIONS {
        let index = scene.swarm.open(Opening::new(Vec::new()))?;
        scene.swarm.flood(index, Arc::clone(&pattern));
    }
    scene.swarm.run(TIME)?;
    scene.end()?;
    let (sent, received) = scene.swarm.traffic(0..CONNECTIONS);
    let endings = scene.swarm.endings(0..CONNECTIONS);
    scene.saw(format!("{sent} bytes sent, {received} received: {endings}"));
    scene.check_memory(MEMORY_MB)
}
