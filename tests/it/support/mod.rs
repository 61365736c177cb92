//! What the tests share: the server as a process, and clients that do not use its code.

pub mod admin;
pub mod client;
pub mod lines;
pub mod raw;
pub mod server;
pub mod setup;
pub mod token;

use std::time::{Duration, Instant};

/// How long anything that must come may take on a busy machine. An upper bound only: tests wait
/// for conditions, never for time to pass.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How promptly a healthy client is served, whatever others do to the server.
pub const PROMPT: Duration = Duration::from_secs(2);

/// Waits until a condition holds that has no event of its own.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: still not");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a test with 1, 2 and 4 shards, side by side; a failure names the count.
#[track_caller]
pub fn on_shards(test: impl Fn(u16) + Sync) {
    std::thread::scope(|scope| {
        let test = &test;
        let runs = [1, 2, 4].map(|shards| {
            let run = std::thread::Builder::new().name(format!("{shards} shards"));
            (
                shards,
                run.spawn_scoped(scope, move || test(shards)).unwrap(),
            )
        });
        let failed: Vec<u16> = runs
            .into_iter()
            .filter_map(|(shards, run)| run.join().err().map(|_| shards))
            .collect();
        assert!(
            failed.is_empty(),
            "failed with {failed:?} shards, see above"
        );
    });
}
