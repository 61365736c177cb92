//! The real server, as a process of its own: the shards of the library with their runtime,
//! without the command line and the control plane, which idle while connections are served.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::{env, thread};

use ahash::RandomState;
use ringmesh::domain::connect_rate::ConnectRates;
use ringmesh::proto::forwarded::TrustedProxies;
use ringmesh::runtime::boot::{Options, RunningShards};
use ringmesh::runtime::clock::Clock;
use ringmesh::runtime::listener::Endpoint;
use ringmesh::runtime::memory::Memory;
use ringmesh::shard::config::ShardLimits;
use ringmesh::tls::TlsConfig;

use crate::fixture::{rights, unlimited_requests};
use crate::tls::server_config;

/// A server that was started for a measurement; it ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it speaks TLS, if it does.
    tls_address: Option<SocketAddr>,
}

impl Server {
    /// Starts this program again with these arguments and waits for the address that it prints
    /// once it listens.
    ///
    /// # Errors
    /// When it cannot be started or ends before it listens.
    pub fn start(arguments: &[String]) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let mut addresses = line.split_whitespace().map_while(|it| it.parse().ok());
        match addresses.next() {
            Some(address) => Ok(Self {
                child,
                address,
                tls_address: addresses.next(),
            }),
            None => {
                child.kill()?;
                child.wait()?;
                Err(io::Error::other("the server ended before it listened"))
            }
        }
    }

    /// Where it speaks TLS.
    ///
    /// # Errors
    /// When it does not.
    pub fn tls_address(&self) -> io::Result<SocketAddr> {
        let missing = || io::Error::other("the server does not speak TLS");
        self.tls_address.ok_or_else(missing)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended by itself if this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts ringmesh's shards on these cores, on a port of the kernel's choice.
///
/// # Errors
/// The cause as text when they cannot start.
pub fn start(shard_count: u16, cores: Vec<usize>) -> Result<RunningShards, String> {
    start_with(options(None, shard_count, cores))
}

fn start_with(options: Options) -> Result<RunningShards, String> {
    RunningShards::start(options).map_err(|error| error.to_string())
}

/// What shards are started with; with TLS, on a second port too.
#[must_use]
pub fn options(tls: Option<TlsConfig>, shard_count: u16, cores: Vec<usize>) -> Options {
    let clock = Clock::start();
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let endpoint = |tls| Endpoint {
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        tls,
    };
    let mut listen = vec![endpoint(false)];
    listen.extend(tls.is_some().then(|| endpoint(true)));
    Options {
        tls,
        trusted_proxies: TrustedProxies::default(),
        proxy_protocol: false,
        listen,
        shard_count,
        cores,
        follow_queues: false,
        limits: ShardLimits::default(),
        reject_with_close: false,
        explain: false,
        events_bytes: 8 << 20,
        feed_bytes: 4 << 20,
        events_privacy: ringmesh::events::recorder::Privacy::default(),
        accept_bare_key_id: false,
        connect_rates: Arc::new(ConnectRates::new(0, 60_000, &hasher)),
        hasher,
        request_rates: Arc::new(unlimited_requests()),
        rights: Arc::new(rights()),
        control: None,
        memory: Arc::new(Memory::new(u64::MAX)),
        clock,
        start_page: "".into(),
        handler: None,
        history_dir: None,
    }
}

/// Runs ringmesh's shards on these cores, on a port of the kernel's choice, until killed.
/// Prints the address.
///
/// # Errors
/// The cause as text when the shards cannot start.
pub fn serve(shard_count: u16, cores: Vec<usize>) -> Result<(), String> {
    serve_until_killed(&start(shard_count, cores)?)
}

/// The same with TLS on a second port, with a certificate of its own. Prints both addresses.
///
/// # Errors
/// The cause as text when there is no certificate or the shards cannot start.
pub fn serve_tls(shard_count: u16, cores: Vec<usize>) -> Result<(), String> {
    let tls = server_config().map_err(|error| error.to_string())?;
    serve_with(options(Some(tls), shard_count, cores))
}

/// Runs shards with these options until killed. Prints the addresses.
///
/// # Errors
/// The cause as text when the shards cannot start.
pub fn serve_with(options: Options) -> Result<(), String> {
    serve_until_killed(&start_with(options)?)
}

#[expect(
    clippy::print_stdout,
    reason = "tells the parent process where it listens"
)]
fn serve_until_killed(shards: &RunningShards) -> ! {
    let addresses = shards.endpoints().iter().map(|it| it.address.to_string());
    println!("{}", addresses.collect::<Vec<_>>().join(" "));
    loop {
        thread::park();
    }
}
