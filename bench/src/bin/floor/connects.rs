//! Connect, read `welcome`, close; so many at the same time.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use ringmesh_bench::client::{Readers, open};
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, token_at, upgrade_request};
use ringmesh_bench::machine::{CpuMeter, unix_ms};
use ringmesh_bench::real::Server;

use crate::server::{Sending, Work};
use crate::{Contender, Outcome, Runs, SERVER_CORE, compare};

/// The switching-protocols response and a `welcome`, roughly; it decides nothing.
const ANSWER_BYTES: usize = 129 + 151;
/// So many bytes are an answer: no refusal is as long.
const ANSWER_BYTES_MIN: usize = 230;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Connects at the same time.
    #[arg(long, default_value_t = 32)]
    parallel: usize,
    /// Connect with a token instead of a publishable key.
    #[arg(long)]
    token: bool,
    #[command(flatten)]
    runs: Runs,
}

pub fn run(arguments: &Arguments) -> io::Result<()> {
    let query = if arguments.token {
        format!("token={}", token_at("ann", unix_ms()))
    } else {
        format!("key={PUBLISHABLE_KEY}")
    };
    let request = upgrade_request(&query);
    let shape = (request.len(), ANSWER_BYTES);
    let contenders = [
        Contender::floor("floor, send", Work::Answer, Sending::Each, shape),
        Contender::RINGMESH,
    ];
    let kind = if arguments.token { "token" } else { "key" };
    let title = format!("connects with a {kind}, {} at a time", arguments.parallel);
    let columns = ["connects/s"];
    compare(
        &title,
        "connect",
        &columns,
        &arguments.runs,
        &contenders,
        |_, server| measure(arguments, server, request.as_bytes()),
    )
}

fn measure(arguments: &Arguments, server: &Server, request: &[u8]) -> io::Result<Outcome> {
    let (meter, start) = (CpuMeter::start(server.pid(), SERVER_CORE), Instant::now());
    let mut connects = 0;
    while start.elapsed() < arguments.runs.duration() {
        let mut sockets = Vec::new();
        for _ in 0..arguments.parallel {
            let mut socket = open(server.address)?;
            socket.write_all(request)?;
            sockets.push(socket);
        }
        let mut answered = vec![0; sockets.len()];
        let mut readers = Readers::new(sockets)?;
        while answered.iter().any(|bytes| *bytes < ANSWER_BYTES_MIN) {
            readers.wait(Duration::from_secs(5), |at, count| answered[at] += count)?;
        }
        connects += arguments.parallel as u64;
        drop(readers);
    }
    let per_second = connects as f64 / start.elapsed().as_secs_f64();
    // The last closes are dealt with before the time is taken.
    std::thread::sleep(Duration::from_millis(50));
    Ok(Outcome {
        cpu_us: meter.per_unit_us(connects),
        more: vec![per_second],
    })
}
