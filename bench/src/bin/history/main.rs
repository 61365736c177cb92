//! What channels with history cost beside others: a shard in memory, a server at its sockets, and
//! the same with a disk.
//!
//! All figures are CPU time, and what is compared takes turns within one run: the time of day
//! would tell what else the machine does.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

mod disk;
mod in_memory;
mod replays;
mod rooms;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Measures what channels with history cost.
#[derive(Parser)]
#[command(
    name = "history",
    after_help = "Examples: cargo run --release -p ringmesh-bench --bin history -- in-memory\n\
                  cargo run --release -p ringmesh-bench --bin history -- fan-out\n\
                  cargo run --release -p ringmesh-bench --bin history -- replay\n\
                  cargo run --release -p ringmesh-bench --bin history -- disk /var/tmp/x"
)]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Subcommand)]
enum Measurement {
    /// One shard without sockets: fan-out, memory, and replays beside the same bytes live.
    InMemory(in_memory::Arguments),
    /// Server CPU per delivery in a channel with history, beside one without.
    FanOut(rooms::Arguments),
    /// Server CPU of clients that return and get what they have missed, beside the same live.
    Replay(replays::Arguments),
    /// CPU and latency at 100,000 publications/s: without history, in memory, on disk.
    Disk(disk::Arguments),
    /// The server of a measurement.
    #[command(hide = true)]
    Serve(server::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().measurement {
        Measurement::InMemory(arguments) => {
            in_memory::run(&arguments);
            Ok(())
        }
        Measurement::FanOut(arguments) => rooms::run(&arguments),
        Measurement::Replay(arguments) => replays::run(&arguments),
        Measurement::Disk(arguments) => disk::run(&arguments),
        Measurement::Serve(arguments) => arguments.serve(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// So many rounds of several things, one after the other. Returns the figures of each.
fn in_turn<const N: usize, E>(
    rounds: usize,
    mut measure: impl FnMut(usize) -> Result<Duration, E>,
) -> Result<[Vec<f64>; N], E> {
    let mut figures = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (at, figures) in figures.iter_mut().enumerate() {
            figures.push(measure(at)?.as_secs_f64());
        }
    }
    Ok(figures)
}

/// The median of some figures, in microseconds, and the least and the most of them.
fn shown(figures: &mut [f64], units: usize) -> String {
    let us = |seconds: f64| seconds * 1e6 / units.max(1) as f64;
    let median = us(ringmesh_bench::machine::median(figures));
    let (least, most) = (figures.first(), figures.last());
    let [least, most] = [least, most].map(|it| us(it.copied().unwrap_or_default()));
    format!("{median:>9.3} us ({least:.3} to {most:.3})")
}

/// The median of what one is of the other, turn by turn: what else the machine does meets both.
fn ratio(ones: &[f64], others: &[f64]) -> f64 {
    let ratios = ones.iter().zip(others).map(|(one, other)| one / other);
    ringmesh_bench::machine::median(&mut ratios.collect::<Vec<_>>())
}
