//! How long a change of rights takes to hold on all shards while they are under load.
//!
//! Shards share one core, the load has another: publishers fill channels whose subscribers are
//! spread over the shards. What is measured begins when a snapshot is handed out and ends when
//! the last shard has switched, its connections checked against the new rights. What the store
//! takes before that is not in it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use ringmesh_bench::client::{Readers, open_websocket, subscribe};
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, publish_json, rights, text_frame};
use ringmesh_bench::real;

/// Bytes of a published message.
const MESSAGE_BYTES: usize = 150;
/// Channels, each with a publisher.
const CHANNELS: usize = 8;

/// Measures how long a rights change takes to hold on all shards under load.
#[derive(Parser)]
#[command(
    name = "rights",
    after_help = "Example: cargo run --release -p ringmesh-bench --bin rights"
)]
struct Arguments {
    /// Shards, all on core 0.
    #[arg(long, default_value_t = 4)]
    shards: u16,
    /// Subscribed connections.
    #[arg(long, default_value_t = 400)]
    connections: usize,
    /// Changes.
    #[arg(long, default_value_t = 500)]
    changes: usize,
    /// Pause of the publishers between two rounds over all channels, in microseconds; 0 saturates
    /// the core that the shards share.
    #[arg(long, default_value_t = 5_000)]
    pause_us: u64,
    /// Fail when the median is above so many microseconds.
    #[arg(long, default_value_t = 5_000)]
    median_us_max: u128,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> io::Result<bool> {
    core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
    let shards = real::start(arguments.shards, vec![0]).map_err(io::Error::other)?;
    let Some(address) = shards.endpoints().first().map(|it| it.address) else {
        return Err(io::Error::other("the shards listen nowhere"));
    };
    let received = Arc::new(AtomicU64::new(0));
    let subscribers = connect(address, arguments.connections, true)?;
    let publishers = connect(address, CHANNELS, false)?;
    let load = [
        thread::spawn({
            let received = received.clone();
            move || read(subscribers, &received)
        }),
        thread::spawn({
            let pause = Duration::from_micros(arguments.pause_us);
            move || publish(&publishers, pause)
        }),
    ];
    let (handle, began) = (shards.handle(), Instant::now());
    let mut taken = Vec::with_capacity(arguments.changes);
    for _ in 0..arguments.changes {
        let snapshot = Arc::new(rights());
        let start = Instant::now();
        let heard = handle.switch_rights(&snapshot);
        for _ in 0..arguments.shards {
            heard.recv().map_err(io::Error::other)?;
        }
        taken.push(start.elapsed().as_micros());
        thread::sleep(Duration::from_millis(5));
    }
    let megabytes = received.load(Ordering::Relaxed) as f64 / 1e6;
    let rate = megabytes / began.elapsed().as_secs_f64();
    // The publisher may wait in a write to a server that reads no more: the process ends it.
    if load.iter().any(thread::JoinHandle::is_finished) {
        return Err(io::Error::other("the load ended early"));
    }
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize];
    println!(
        "{} changes on {} shards, {} connections, {rate:.1} MB/s delivered meanwhile: \
         median {} us, p99 {} us, max {} us",
        taken.len(),
        arguments.shards,
        arguments.connections,
        at(0.5),
        at(0.99),
        at(1.0),
    );
    Ok(at(0.5) <= arguments.median_us_max)
}

fn connect(address: SocketAddr, count: usize, subscribed: bool) -> io::Result<Vec<TcpStream>> {
    let query = format!("key={PUBLISHABLE_KEY}");
    (0..count)
        .map(|number| {
            let mut socket = open_websocket(address, &query)?;
            if subscribed {
                subscribe(&mut socket, &format!("room-{}", number % CHANNELS))?;
            }
            Ok(socket)
        })
        .collect()
}

/// Counts what the subscribers get.
fn read(sockets: Vec<TcpStream>, received: &AtomicU64) -> io::Result<()> {
    let mut readers = Readers::new(sockets)?;
    loop {
        readers.wait(Duration::from_millis(10), |_, bytes| {
            received.fetch_add(bytes as u64, Ordering::Relaxed);
        })?;
    }
}

/// Publishes to all channels in turn.
fn publish(publishers: &[TcpStream], pause: Duration) -> io::Result<()> {
    loop {
        for (channel, mut publisher) in publishers.iter().enumerate() {
            let json = publish_json(&format!("room-{channel}"), MESSAGE_BYTES);
            publisher.write_all(&text_frame(&json))?;
        }
        thread::sleep(pause);
    }
}
