//! What an idle connection with one subscription costs ringmesh, a process of its own, in memory.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

use std::io;
use std::process::ExitCode;

use clap::Parser;
use ringmesh_bench::client::{open_websocket, subscribe};
use ringmesh_bench::fixture::{PRESENCE_KEY, PUBLISHABLE_KEY};
use ringmesh_bench::idle;
use ringmesh_bench::machine::raise_descriptor_limit;
use ringmesh_bench::real::{self, Server};
use ringmesh_bench::tls::{Exchange, Suites, client_config, subscriber};

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
    /// With a key that sees presence.
    #[arg(long)]
    presence: bool,
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
    let most = idle::connections_max(raise_descriptor_limit());
    if most < arguments.connections as u64 {
        return Err(io::Error::other(format!(
            "only {most} connections are possible: raise the limit on open files (ulimit -n), or \
             the range of local ports (net.ipv4.ip_local_port_range), or use --connections"
        )));
    }
    let server = Server::start(&["--serve".into()])?;
    let config = client_config(Exchange::Hybrid, Suites::All, false);
    let key = match arguments.presence {
        true => PRESENCE_KEY,
        false => PUBLISHABLE_KEY,
    };
    let query = format!("key={key}");
    let memory = idle::measure(server.pid(), arguments.connections, |number| {
        let channel = format!("room-{}", number % arguments.channels.max(1));
        if arguments.tls {
            return subscriber(server.tls_address()?, &config, &query, &channel);
        }
        let mut socket = open_websocket(server.address, &query)?;
        subscribe(&mut socket, &channel)?;
        Ok(socket)
    })?;
    let idle::Memory {
        connections,
        process,
        kernel,
    } = memory;
    let sees = if arguments.presence {
        ", with presence"
    } else {
        ""
    };
    println!(
        "{connections} idle connections, one subscription each, {} channels{sees}",
        arguments.channels
    );
    println!("process memory per connection:      {process:>6} bytes (VmRSS)");
    println!("kernel slabs per connection:        {kernel:>6} bytes (SUnreclaim, both ends)");
    if process > arguments.bytes_max {
        return Err(io::Error::other(format!(
            "{process} bytes per connection, more than {}",
            arguments.bytes_max
        )));
    }
    Ok(())
}
