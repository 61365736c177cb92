//! An echo of WebSocket messages by the code that serves ringmesh's clients, for conformance
//! suites: listeners, io_uring, TLS, HTTP, upgrade, frame codec, connection loop and outbox are
//! those of the server. Only what a message means is another's, and messages may be binary and
//! long.
//!
//! Prints the address for `ws` and that for `wss`, then serves until it is killed.

#![expect(clippy::print_stderr, reason = "a program's output")]

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use ringmesh::proto::ws::frame::{Opcode, append_frame};
use ringmesh::runtime::boot::Options;
use ringmesh::shard::config::ShardLimits;
use ringmesh::shard::handler::{Handler, Message};
use ringmesh_bench::fixture::PUBLISHABLE_KEY;
use ringmesh_bench::real::{options, serve_with};
use ringmesh_bench::tls::server_config;

/// The longest message of the suite that this serves: 16 MiB.
const MESSAGE_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// Echoes WebSocket messages over plain TCP and over TLS.
#[derive(Parser)]
#[command(name = "echo", after_help = AFTER_HELP)]
struct Arguments {
    /// Shards.
    #[arg(long, default_value_t = 2)]
    shards: u16,
}

const AFTER_HELP: &str = "Clients connect to /v1?key=pk_live_bench. \
                          Example: cargo run --release -p ringmesh-bench --bin echo";

/// Sends each message back as it came.
#[derive(Debug)]
struct Echo;

impl Handler for Echo {
    fn message(&self, message: Message<'_>, frames: &mut Vec<u8>) {
        match message {
            Message::Text(text) => append_frame(frames, Opcode::Text, text.as_bytes()),
            Message::Binary(bytes) => append_frame(frames, Opcode::Binary, bytes),
        }
    }
}

fn main() -> ExitCode {
    // Help names the key as a literal.
    debug_assert!(AFTER_HELP.contains(PUBLISHABLE_KEY));
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> io::Result<()> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let cores: Vec<usize> = cores.iter().map(|core| core.id).collect();
    let usual = options(Some(server_config()?), arguments.shards, cores);
    let limits = ShardLimits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        ..usual.limits.clone()
    };
    let options = Options {
        limits,
        handler: Some(Arc::new(Echo)),
        ..usual
    };
    serve_with(options).map_err(io::Error::other)
}
