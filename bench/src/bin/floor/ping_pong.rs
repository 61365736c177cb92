//! Pairs of peers that answer each other, started at a fixed rate.

use std::io;
use std::time::{Duration, Instant};

use ringmesh_bench::client::{Readers, open, open_websocket};
use ringmesh_bench::fixture::{text_frame, token_at};
use ringmesh_bench::machine::{CpuMeter, unix_ms};
use ringmesh_bench::real::Server;

use crate::server::{Sending, Work};
use crate::{Contender, Outcome, Runs, SERVER_CORE, compare};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Pairs of peers.
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// Round trips per second, of all pairs together.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Bytes of `data`.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    #[command(flatten)]
    runs: Runs,
}

pub fn run(arguments: &Arguments) -> io::Result<()> {
    let data = format!("\"{}\"", "x".repeat(arguments.payload.saturating_sub(2)));
    let send = |to: usize| {
        text_frame(&format!(
            r#"{{"type":"send","to":"{}","data":{data}}}"#,
            peer(to)
        ))
    };
    let direct = format!(r#"{{"type":"direct","from":"{}","data":{data}}}"#, peer(0));
    let shape = (send(0).len(), direct.len() + 4);
    let contenders = [
        Contender::floor("floor, send", Work::Relay, Sending::Each, shape),
        Contender::RINGMESH,
    ];
    let title = format!(
        "{} pairs, {} round trips/s",
        arguments.pairs, arguments.rate
    );
    let columns = ["p50 us", "p99 us"];
    compare(
        &title,
        "round trip",
        &columns,
        &arguments.runs,
        &contenders,
        |contender, server| {
            let frames: Vec<_> = (0..arguments.pairs * 2).map(|at| send(at ^ 1)).collect();
            measure(arguments, contender, server, &frames)
        },
    )
}

/// Ids of one length, so that all frames have one.
fn peer(number: usize) -> String {
    format!("peer-{number:06}")
}

fn measure(
    arguments: &Arguments,
    contender: &Contender,
    server: &Server,
    frames: &[Vec<u8>],
) -> io::Result<Outcome> {
    let mut sockets = Vec::new();
    for number in 0..arguments.pairs * 2 {
        sockets.push(match contender.floor {
            Some(_) => open(server.address)?,
            None => {
                let token = token_at(&peer(number), unix_ms());
                open_websocket(server.address, &format!("token={token}"))?
            }
        });
    }
    let mut readers = Readers::new(sockets)?;
    let mut started = vec![None; arguments.pairs];
    let mut latencies_us = Vec::new();
    let interval = Duration::from_secs(1) / arguments.rate.max(1);
    let (meter, start) = (CpuMeter::start(server.pid(), SERVER_CORE), Instant::now());
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
                latencies_us.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    let cpu_us = meter.per_unit_us(latencies_us.len() as u64);
    latencies_us.sort_by(f64::total_cmp);
    let quantile = |part: f64| {
        let at = (latencies_us.len() as f64 * part) as usize;
        latencies_us.get(at).copied().unwrap_or_default()
    };
    Ok(Outcome {
        cpu_us,
        more: vec![quantile(0.5), quantile(0.99)],
    })
}
