//! Pairs of peers that answer each other, started at a fixed rate.

use std::io;
use std::time::{Duration, Instant};

use ringmesh_bench::client::Readers;
use ringmesh_bench::fixture::{text_frame, token_at};
use ringmesh_bench::machine::{Cores, CpuMeter, unix_ms};
use ringmesh_bench::real::Server;

use crate::compare::{Comparison, Contender, Load, Outcome, Runs, at_least_one};
use crate::greeting;
use crate::latencies::Latencies;
use crate::server::{FloorServer, Sending, Work};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Pairs of peers.
    #[arg(long, default_value_t = 100, value_parser = at_least_one::<usize>())]
    pub pairs: usize,
    /// Round trips per second, of all pairs together.
    #[arg(long, default_value_t = 500, value_parser = at_least_one::<u32>())]
    pub rate: u32,
    /// Bytes of `data`.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    #[command(flatten)]
    pub runs: Runs,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<Comparison> {
    let data = format!("\"{}\"", "x".repeat(arguments.payload.saturating_sub(2)));
    let send = |to: usize| {
        text_frame(&format!(
            r#"{{"type":"send","to":"{}","data":{data}}}"#,
            peer(to)
        ))
    };
    let direct = format!(r#"{{"type":"direct","from":"{}","data":{data}}}"#, peer(0));
    let floor = FloorServer {
        greeting: greeting::steps(&query(0), None)?,
        ..FloorServer::new(Work::Relay, send(0).len(), direct.len() + 4)
    };
    let frames: Vec<_> = (0..arguments.pairs * 2).map(|at| send(at ^ 1)).collect();
    let load = Load {
        connections: arguments.pairs * 2,
        title: format!(
            "{} pairs, {} round trips/s",
            arguments.pairs, arguments.rate
        ),
        unit: "round trip",
        columns: &["p50 us", "p99 us"],
        contenders: &[Contender::floor(Sending::Each, &floor), Contender::RINGMESH],
    };
    load.compare(&arguments.runs, |contender, server| {
        measure(arguments, contender, server, &frames)
    })
}

/// Ids of one length, so that all frames have one.
fn peer(number: usize) -> String {
    format!("peer-{number:06}")
}

fn query(number: usize) -> String {
    format!("token={}", token_at(&peer(number), unix_ms()))
}

fn measure(
    arguments: &Arguments,
    contender: &Contender,
    server: &Server,
    frames: &[Vec<u8>],
) -> io::Result<Outcome> {
    let mut sockets = Vec::new();
    for number in 0..arguments.pairs * 2 {
        sockets.push(greeting::connect(contender, server, &query(number), None)?);
    }
    let mut readers = Readers::new(sockets)?;
    let mut started = vec![None; arguments.pairs];
    let mut latencies = Latencies::new()?;
    let interval = Duration::from_secs(1) / arguments.rate;
    let meter = CpuMeter::start(server.pid(), Cores::get().server);
    let start = Instant::now();
    let mut next = start;
    let mut pair = 0;
    while start.elapsed() < arguments.runs.duration() {
        if Instant::now() >= next {
            // A pair that is still busy is left out: its delay is in its own latency.
            if started[pair].is_none() {
                started[pair] = Some(Instant::now());
                readers.send(pair * 2, &frames[pair * 2])?;
            }
            pair = (pair + 1) % arguments.pairs;
            next += interval;
        }
        let mut answers = Vec::new();
        let timeout = next.saturating_duration_since(Instant::now());
        readers.wait(timeout, |at, _| answers.push(at))?;
        for at in answers {
            if at % 2 == 1 {
                readers.send(at, &frames[at])?;
            } else if let Some(begun) = started[at / 2].take() {
                latencies.add(begun.elapsed());
            }
        }
    }
    Ok(Outcome {
        cpu_us: meter.per_unit_us(latencies.count()),
        more: vec![latencies.quantile_us(0.5), latencies.quantile_us(0.99)],
    })
}
