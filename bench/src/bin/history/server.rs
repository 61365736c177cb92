//! The server of a measurement: one shard on the server's core, and where channels are kept.

use std::io;
use std::path::{Path, PathBuf};

use ringmesh_bench::machine::{Cores, pin, raise_descriptor_limit};
use ringmesh_bench::real::{Server, options, serve_with};

/// A day: longer than any measurement.
const NEVER_MS: u64 = 86_400_000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    core: usize,
    /// Where channels on disk are.
    #[arg(long)]
    directory: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn serve(&self) -> io::Result<()> {
        let _ = raise_descriptor_limit();
        let mut options = options(None, 1, vec![self.core]);
        options.history_dir.clone_from(&self.directory);
        // The load only counts bytes: pings would be taken for deliveries.
        options.limits.ping_after_ms = NEVER_MS;
        options.limits.drop_after_ms = NEVER_MS;
        serve_with(options).map_err(io::Error::other)
    }
}

/// Starts the server, and keeps the load on a core of its own. Threads of the server beside the
/// shard may use both.
pub(crate) fn start(directory: Option<&Path>) -> io::Result<Server> {
    if cfg!(debug_assertions) {
        eprintln!("warning: this build is not optimised, its figures say nothing");
    }
    let cores = Cores::get();
    if cores.count < 2 {
        eprintln!("warning: there is one core; the load shares it with the server");
    }
    let mut arguments = vec!["serve".into(), format!("--core={}", cores.server)];
    let directory = directory.map(|it| format!("--directory={}", it.display()));
    arguments.extend(directory);
    let server = Server::start(&arguments)?;
    pin(cores.load)?;
    let _ = raise_descriptor_limit();
    Ok(server)
}
