//! How far ringmesh is from the least that a kernel needs.
//!
//! The floor is a server without a protocol: one thread, one `epoll`, the same bytes to the
//! same number of sockets. It runs beside ringmesh under the same load, each server on one core
//! and the load on another, and what is compared is the server's CPU time per delivery, round
//! trip, message or connect, `ksoftirqd` of its core included. Runs of all servers take turns, so
//! that what else happens on the machine meets all of them; medians are printed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

mod compare;
mod connects;
mod fan_out;
mod greeting;
mod headline;
mod inbound;
mod latencies;
mod open_loop;
mod ping_pong;
mod server;
mod table;
mod uring;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringmesh_bench::machine::{Cores, pin};
use ringmesh_bench::real;

use crate::server::FloorServer;

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
    /// All of it: the table of the README, for this machine.
    Headline(headline::Arguments),
    /// One channel, or several: CPU time per delivery.
    FanOut(fan_out::Arguments),
    /// The same with one shard and with two: CPU time per delivery.
    Shards(fan_out::Arguments),
    /// One wide channel at a fixed rate, small ones beside it: latency.
    OpenLoop(open_loop::Arguments),
    /// Publications to empty channels, each with its ack: CPU time per message.
    Inbound(inbound::Arguments),
    /// Pairs of peers at a fixed rate: CPU time per round trip, and its latency.
    PingPong(ping_pong::Arguments),
    /// Connect with a publishable key, read `welcome`, close: CPU time per connect.
    Connects(connects::Arguments),
    /// A server of a measurement.
    #[command(flatten)]
    Serve(Serve),
}

#[derive(Subcommand)]
enum Serve {
    /// The bare server of a measurement.
    #[command(hide = true)]
    ServeFloor {
        #[command(flatten)]
        server: FloorServer,
        #[arg(long)]
        core: usize,
    },
    /// ringmesh as the server of a measurement.
    #[command(hide = true)]
    ServeRingmesh {
        #[arg(long)]
        shards: u16,
        #[arg(long)]
        core: usize,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().measurement {
        Measurement::Serve(server) => server.run(),
        measurement => prepare().and_then(|()| measurement.run()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Serve {
    fn run(&self) -> io::Result<()> {
        match self {
            Self::ServeFloor { server, core } => {
                pin(*core)?;
                server.serve()
            }
            Self::ServeRingmesh { shards, core } => {
                real::serve(*shards, vec![*core]).map_err(io::Error::other)
            }
        }
    }
}

/// Gives the load what it needs.
fn prepare() -> io::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("warning: this build is not optimised, its figures say nothing");
    }
    if Cores::get().count < 2 {
        eprintln!("warning: there is one core; the load shares it with the server");
    }
    pin(Cores::get().load)
}

impl Measurement {
    fn run(&self) -> io::Result<()> {
        let comparison = match self {
            Self::Headline(arguments) => return arguments.run(),
            Self::FanOut(arguments) => fan_out::run(arguments),
            Self::Shards(arguments) => fan_out::run_shards(arguments),
            Self::OpenLoop(arguments) => open_loop::run(arguments),
            Self::Inbound(arguments) => inbound::run(arguments),
            Self::PingPong(arguments) => ping_pong::run(arguments),
            Self::Connects(arguments) => connects::run(arguments),
            Self::Serve(server) => return server.run(),
        };
        println!("{}", comparison?);
        Ok(())
    }
}
