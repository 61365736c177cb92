//! How far ringmesh is from the least that a kernel needs.
//!
//! The floor is a server without a protocol: one thread, one `epoll`, the same bytes to the
//! same number of sockets. It runs beside ringmesh under the same load, each server on core 0
//! and the load on core 1, and what is compared is the server's CPU time per delivery, round
//! trip or connect, `ksoftirqd` of its core included. Runs of all servers take turns, so that
//! what else happens on the machine meets all of them; medians are printed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

mod connects;
mod fan_out;
mod ping_pong;
mod server;
mod uring;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use core_affinity::CoreId;
use ringmesh_bench::machine::median;
use ringmesh_bench::real::{self, Server};

use crate::server::{FloorServer, Sending, Work};

/// The core of the server under test.
const SERVER_CORE: usize = 0;
/// The core of the load.
const LOAD_CORE: usize = 1;

/// Runs a bare server and ringmesh under the same load and compares their CPU time.
#[derive(Parser)]
#[command(
    name = "floor",
    after_help = "Example: cargo run --profile dist -p ringmesh-bench --bin floor -- fan-out"
)]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Subcommand)]
enum Measurement {
    /// One channel: CPU time per delivery.
    FanOut(fan_out::Arguments),
    /// Pairs of peers at a fixed rate: CPU time per round trip, and its latency.
    PingPong(ping_pong::Arguments),
    /// Connect with a publishable key, read `welcome`, close: CPU time per connect.
    Connects(connects::Arguments),
    /// The bare server of a measurement.
    #[command(hide = true)]
    ServeFloor(FloorServer),
    /// ringmesh as the server of a measurement.
    #[command(hide = true)]
    ServeRingmesh,
}

/// What all measurements share.
#[derive(Args, Clone, Debug)]
struct Runs {
    /// How often each server is measured.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long each time.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only servers whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

impl Runs {
    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().measurement {
        Measurement::FanOut(arguments) => fan_out::run(&arguments),
        Measurement::PingPong(arguments) => ping_pong::run(&arguments),
        Measurement::Connects(arguments) => connects::run(&arguments),
        Measurement::ServeFloor(server) => {
            pin(SERVER_CORE);
            server.serve()
        }
        Measurement::ServeRingmesh => real::serve(1, vec![SERVER_CORE]).map_err(io::Error::other),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pin(core: usize) {
    if !core_affinity::set_for_current(CoreId { id: core }) {
        eprintln!("warning: core {core} is not available; the figures mean little");
    }
}

/// A server under test.
#[derive(Clone)]
struct Contender {
    name: &'static str,
    /// `None` is ringmesh.
    floor: Option<FloorServer>,
}

impl Contender {
    const RINGMESH: Self = Self {
        name: "ringmesh",
        floor: None,
    };

    fn floor(name: &'static str, work: Work, sending: Sending, shape: (usize, usize)) -> Self {
        Self {
            name,
            floor: Some(FloorServer {
                work,
                sending,
                request_bytes: shape.0,
                delivery_bytes: shape.1,
            }),
        }
    }

    fn start(&self) -> io::Result<Server> {
        match &self.floor {
            Some(floor) => Server::start(&floor.arguments()),
            None => Server::start(&["serve-ringmesh".into()]),
        }
    }
}

/// What one run of one server came to.
struct Outcome {
    /// Server and softirq time per unit of work, in microseconds.
    cpu_us: f64,
    /// Further figures, named by the measurement.
    more: Vec<f64>,
}

/// Measures the contenders in turn and prints medians beside the first one's.
fn compare(
    title: &str,
    unit: &str,
    columns: &[&str],
    runs: &Runs,
    contenders: &[Contender],
    measure: impl Fn(&Contender, &Server) -> io::Result<Outcome>,
) -> io::Result<()> {
    pin(LOAD_CORE);
    let chosen: Vec<_> = contenders
        .iter()
        .filter(|contender| contender.name.contains(&runs.only))
        .collect();
    let mut outcomes: Vec<Vec<Outcome>> = chosen.iter().map(|_| Vec::new()).collect();
    for _ in 0..runs.runs.max(1) {
        for (contender, outcomes) in chosen.iter().zip(&mut outcomes) {
            let server = contender.start()?;
            outcomes.push(measure(contender, &server)?);
        }
    }
    println!("{title}; medians of {} runs", runs.runs.max(1));
    let mut heads = format!(
        "{:<20} {:>12} {:>8}",
        "server",
        format!("us/{unit}"),
        "ratio"
    );
    columns
        .iter()
        .for_each(|column| heads += &format!(" {column:>12}"));
    println!("{heads}");
    let median_of = |outcomes: &[Outcome], figure: &dyn Fn(&Outcome) -> f64| {
        median(&mut outcomes.iter().map(figure).collect::<Vec<_>>())
    };
    let first = outcomes
        .first()
        .map_or(0.0, |outcomes| median_of(outcomes, &|it| it.cpu_us));
    for (contender, outcomes) in chosen.iter().zip(&outcomes) {
        let cpu_us = median_of(outcomes, &|it| it.cpu_us);
        let mut line = format!(
            "{:<20} {cpu_us:>12.3} {:>8.2}",
            contender.name,
            cpu_us / first
        );
        for column in 0..columns.len() {
            let figure = median_of(outcomes, &|it| it.more.get(column).copied().unwrap_or(0.0));
            line += &format!(" {figure:>12.1}");
        }
        println!("{line}");
    }
    Ok(())
}
