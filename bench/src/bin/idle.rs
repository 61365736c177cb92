//! What an idle connection with one subscription costs in memory.
//!
//! Opens connections to ringmesh (a process of its own), subscribes each to one of some
//! channels, lets everything settle, and divides what the server's resident memory and the
//! kernel's slabs have grown by. Both ends are on this machine: half of the kernel's part is
//! the client's.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ringmesh_bench::client::{open_websocket, subscribe};
use ringmesh_bench::fixture::PUBLISHABLE_KEY;
use ringmesh_bench::machine::{resident_bytes, unreclaimable_slab_bytes};
use ringmesh_bench::real::{self, Server};
use ringmesh_bench::tls::{Exchange, Suites, client_config, subscriber};

/// Descriptors that a process has open beside its connections.
const OTHER_DESCRIPTORS: u64 = 100;

/// Measures the memory of an idle connection with one subscription.
#[derive(Parser)]
#[command(
    name = "idle",
    after_help = "Example: cargo run --profile dist -p ringmesh-bench --bin idle\n\
                  Each end needs a descriptor per connection (ulimit -n)."
)]
struct Arguments {
    /// Connections.
    #[arg(long, default_value_t = 18_000)]
    connections: usize,
    /// Channels that they are spread over.
    #[arg(long, default_value_t = 100)]
    channels: usize,
    /// Fail above so many bytes of process memory per connection.
    #[arg(long, default_value_t = 2_048)]
    bytes_max: u64,
    /// Over wss.
    #[arg(long)]
    tls: bool,
    /// The server.
    #[arg(long, hide = true)]
    serve: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = if arguments.serve {
        real::serve_tls(1, vec![0]).map_err(io::Error::other)
    } else {
        measure(&arguments)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let needed = arguments.connections as u64 + OTHER_DESCRIPTORS;
    if limit.current.is_some_and(|current| current < needed) {
        return Err(io::Error::other(format!(
            "{needed} descriptors are needed: raise the limit (ulimit -n {needed})"
        )));
    }
    let server = Server::start(&["--serve".into()])?;
    let config = client_config(Exchange::Hybrid, Suites::All, false);
    let connect = |channel: usize| {
        let channel = format!("room-{channel}");
        let query = format!("key={PUBLISHABLE_KEY}");
        if arguments.tls {
            return subscriber(server.tls_address()?, &config, &query, &channel);
        }
        let mut socket = open_websocket(server.address, &query)?;
        subscribe(&mut socket, &channel)?;
        Ok(socket)
    };
    // What the first connections set up is not theirs.
    drop(connect(0)?);
    std::thread::sleep(Duration::from_millis(200));
    let before = (resident_bytes(server.pid()), unreclaimable_slab_bytes());
    let mut sockets = Vec::with_capacity(arguments.connections);
    for number in 0..arguments.connections {
        sockets.push(connect(number % arguments.channels.max(1))?);
    }
    std::thread::sleep(Duration::from_secs(1));
    let count = sockets.len().max(1) as u64;
    let each = resident_bytes(server.pid()).saturating_sub(before.0) / count;
    let kernel = unreclaimable_slab_bytes().saturating_sub(before.1) / count;
    println!(
        "{count} idle connections, one subscription each, {} channels",
        arguments.channels
    );
    println!("process memory per connection:      {each:>6} bytes (VmRSS)");
    println!("kernel slabs per connection:        {kernel:>6} bytes (SUnreclaim, both ends)");
    if each > arguments.bytes_max {
        return Err(io::Error::other(format!(
            "{each} bytes per connection, more than {}",
            arguments.bytes_max
        )));
    }
    Ok(())
}
