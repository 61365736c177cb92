//! What TLS costs: in the library alone, at the socket beside plaintext, and those who do not
//! take part in it.
//!
//! ringmesh runs on core 0 and listens with TLS and without; the load is on core 1. Server CPU
//! is that of the server's threads and of core 0's `ksoftirqd`. What the clients offer is on the
//! command line, because it decides what a handshake costs.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

mod connects;
mod fan_out;
mod library;
mod storm;

use std::io;
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use core_affinity::CoreId;
use ringmesh_bench::fixture::PUBLISHABLE_KEY;
use ringmesh_bench::real::{self, Server};
use ringmesh_bench::tls::subscriber;
use rustls::ClientConfig;

/// The core of the server under test.
const SERVER_CORE: usize = 0;
/// The core of the load.
const LOAD_CORE: usize = 1;

/// Measures what TLS costs the server.
#[derive(Parser)]
#[command(
    name = "tls",
    after_help = "Example: cargo run --profile dist -p ringmesh-bench --bin tls -- connects"
)]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Subcommand)]
enum Measurement {
    /// Handshakes in memory: the server's half of them, in the TLS library.
    Library(library::Arguments),
    /// Connect with a publishable key up to `welcome`: server CPU per connect.
    Connects(connects::Arguments),
    /// One channel over wss and over plaintext: server CPU per delivery.
    FanOut(fan_out::Arguments),
    /// Latency of live traffic while 2,000 clients connect.
    Storm(storm::Arguments),
    /// ringmesh as the server of a measurement.
    #[command(hide = true)]
    Serve,
    /// The clients that connect.
    #[command(hide = true)]
    StormClients(storm::Clients),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().measurement {
        Measurement::Library(arguments) => library::run(&arguments),
        Measurement::Connects(arguments) => connects::run(&arguments),
        Measurement::FanOut(arguments) => fan_out::run(&arguments),
        Measurement::Storm(arguments) => storm::run(&arguments),
        Measurement::StormClients(clients) => clients.run(),
        Measurement::Serve => real::serve_tls(1, vec![SERVER_CORE]).map_err(io::Error::other),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts ringmesh, and puts this thread beside it.
fn start() -> io::Result<Server> {
    pin_to_load_core();
    Server::start(&["serve".into()])
}

/// The sockets of clients that have subscribed to one channel over wss.
fn subscribers(
    server: &Server,
    config: &Arc<ClientConfig>,
    count: usize,
) -> io::Result<Vec<TcpStream>> {
    let (address, query) = (server.tls_address()?, format!("key={PUBLISHABLE_KEY}"));
    let one = |_| subscriber(address, config, &query, "bench");
    (0..count).map(one).collect()
}

fn pin_to_load_core() {
    if !core_affinity::set_for_current(CoreId { id: LOAD_CORE }) {
        eprintln!("warning: core {LOAD_CORE} is not available; the figures mean little");
    }
}
