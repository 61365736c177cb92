//! What the tests share: the server as a process, and clients that do not use its code.

pub(crate) mod admin;
pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod disk;
pub(crate) mod lines;
pub(crate) mod raw;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod syscalls;
pub(crate) mod token;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything that must come may take on a busy machine. An upper bound only: tests wait
/// for conditions, never for time to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds that has no event of its own.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: still not");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that nobody has, and that the system gives to nobody: it lies below those that it chooses
/// from (32768 and above, `net.ipv4.ip_local_port_range`).
pub(crate) fn own_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another process that does the same begins elsewhere.
    let from = (std::process::id() % u32::from(COUNT)) as u16;
    let next = || FIRST + (from + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
    let mut ports = (0..COUNT).map(|_| next());
    let is_free = |port: &u16| TcpListener::bind(("::", *port)).is_ok();
    ports.find(is_free).unwrap()
}

/// Runs a test with 1, 2 and 4 shards, side by side; a failure names the count.
#[track_caller]
pub(crate) fn on_shards(test: impl Fn(u16) + Sync) {
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
