//! Connect, read `welcome`, close; so many at the same time.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use ringmesh_bench::client::{Readers, open};
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, token_at, upgrade_request};
use ringmesh_bench::machine::{Cores, CpuMeter, unix_ms};
use ringmesh_bench::real::Server;

use crate::compare::{Comparison, Contender, Load, Outcome, Runs, at_least_one};
use crate::greeting;
use crate::server::{FloorServer, Sending, Work};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Connects at the same time.
    #[arg(long, default_value_t = 32, value_parser = at_least_one::<usize>())]
    pub parallel: usize,
    /// Connect with a token instead of a publishable key.
    #[arg(long)]
    pub token: bool,
    #[command(flatten)]
    pub runs: Runs,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<Comparison> {
    let query = if arguments.token {
        format!("token={}", token_at("ann", unix_ms()))
    } else {
        format!("key={PUBLISHABLE_KEY}")
    };
    let request = upgrade_request(&query);
    let greeting = greeting::steps(&query, None)?;
    let answer_bytes = greeting.iter().map(|step| step.answer_bytes).sum();
    let floor = FloorServer::new(Work::Answer, request.len(), answer_bytes);
    let kind = if arguments.token { "token" } else { "key" };
    let load = Load {
        connections: arguments.parallel,
        title: format!("connects with a {kind}, {} at a time", arguments.parallel),
        unit: "connect",
        columns: &["connects/s"],
        contenders: &[Contender::floor(Sending::Each, &floor), Contender::RINGMESH],
    };
    load.compare(&arguments.runs, |_, server| {
        measure(arguments, server, request.as_bytes(), answer_bytes)
    })
}

fn measure(
    arguments: &Arguments,
    server: &Server,
    request: &[u8],
    answer_bytes: usize,
) -> io::Result<Outcome> {
    let meter = CpuMeter::start(server.pid(), Cores::get().server);
    let start = Instant::now();
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
        while answered.iter().any(|bytes| *bytes < answer_bytes) {
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
