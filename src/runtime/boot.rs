//! From a configuration to running shards, and back to nothing.
//!
//! Everything that can fail for a foreseeable reason is done before the first shard starts.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ahash::RandomState;
use flume::Selector;

use crate::config::ShutdownConfig;
use crate::control::ControlHandle;
use crate::domain::connect_rate::ConnectRates;
use crate::domain::request_rate::RequestRates;
use crate::domain::rights::Rights;
use crate::ids::ShardId;
use crate::metrics::ShardSnapshot;
use crate::proto::forwarded::TrustedProxies;
use crate::runtime::affinity;
use crate::runtime::clock::Clock;
use crate::runtime::command::{CommandSender, Done, ShardCommand, commands};
use crate::runtime::descriptors::{self, PublicDescriptors};
use crate::runtime::listener::{Endpoint, bind_all};
use crate::runtime::memory::Memory;
use crate::runtime::mesh::link_all;
use crate::runtime::shard_loop::{Parts, ShardLoop};
use crate::runtime::transport::Transports;
use crate::runtime::wake::Wake;
use crate::shard::config::Entropy;
use crate::shard::config::ShardConfig;
use crate::shard::config::ShardLimits;
use crate::shard::settings::Settings;
use crate::shard::state::Shard;
use crate::tls::TlsConfig;

/// What the shards are started with.
#[derive(Debug)]
pub struct Options {
    /// Public listeners.
    pub listen: Vec<Endpoint>,
    /// What TLS listeners need; `None` without any.
    pub tls: Option<TlsConfig>,
    /// Proxies whose word about a client's address is believed.
    pub trusted_proxies: TrustedProxies,
    /// Whether connections from those begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Number of shards.
    pub shard_count: u16,
    /// Cores to pin them to, in turn.
    pub cores: Vec<usize>,
    /// Bounds of every connection.
    pub limits: ShardLimits,
    /// See [`ShardConfig::reject_with_close`].
    pub reject_with_close: bool,
    /// See [`ShardConfig::accept_bare_key_id`].
    pub accept_bare_key_id: bool,
    /// REST requests by key and address, shared by all shards.
    pub request_rates: Arc<RequestRates>,
    /// Connects per address, shared by all shards.
    pub connect_rates: Arc<ConnectRates>,
    /// Where the shards report what apps use.
    pub control: Option<ControlHandle>,
    /// The process's memory, and how much it may have.
    pub memory: Arc<Memory>,
    /// Apps and keys to begin with.
    pub rights: Arc<Rights>,
    /// The process's clocks.
    pub clock: Clock,
}

/// Why the shards could not be started.
#[derive(Debug)]
pub enum StartError {
    /// An address could not be bound.
    Bind(SocketAddr, io::Error),
    /// A shard could not be started.
    Shard(ShardId, String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: another program does already; stop it, or choose \
                 another address with --listen, server.listen or tls.listen"
            ),
            Self::Bind(address, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "cannot listen on {address}: not permitted; choose a port above 1023, or grant \
                 the binary cap_net_bind_service"
                )
            }
            Self::Bind(address, error) => write!(
                f,
                "cannot listen on {address}: {error}; choose an address of this machine with \
                 --listen, server.listen or tls.listen"
            ),
            Self::Shard(shard, cause) => write!(f, "shard {shard} could not start: {cause}"),
        }
    }
}

/// What a drain hears next.
enum Drained {
    /// A shard has no connections left.
    Shard,
    /// A second signal cuts the drain short.
    Cut,
}

/// The shards of the process, each on a thread of its own.
pub struct RunningShards {
    commands: Vec<CommandSender>,
    threads: Vec<JoinHandle<()>>,
    drained: flume::Receiver<ShardId>,
    endpoints: Vec<Endpoint>,
}

/// A handle to running shards, which may be cloned and sent to other threads.
#[derive(Clone, Debug)]
pub struct ShardsHandle {
    commands: Vec<CommandSender>,
}

impl ShardsHandle {
    /// Hands a rights snapshot to every shard. The receiver hears once from each that switched.
    #[must_use]
    pub fn switch_rights(&self, rights: &Arc<Rights>) -> flume::Receiver<()> {
        let (done, heard) = Done::pair();
        for commands in &self.commands {
            commands.send(ShardCommand::Rights(rights.clone(), done.clone()));
        }
        heard
    }

    /// Has every shard follow other settings; connections of `proxies` begin with a PROXY
    /// protocol header. The receiver hears once from each that switched.
    #[must_use]
    pub fn switch_settings(
        &self,
        settings: &Arc<Settings>,
        proxies: &TrustedProxies,
    ) -> flume::Receiver<()> {
        let (done, heard) = Done::pair();
        for commands in &self.commands {
            let (settings, proxies) = (settings.clone(), proxies.clone());
            commands.send(ShardCommand::Settings(settings, proxies, done.clone()));
        }
        heard
    }

    /// Gives every shard's new connections that certificate. The receiver hears once from each
    /// that switched.
    #[must_use]
    pub fn switch_tls(&self, config: &TlsConfig) -> flume::Receiver<()> {
        let (done, heard) = Done::pair();
        for commands in &self.commands {
            commands.send(ShardCommand::Tls(config.clone(), done.clone()));
        }
        heard
    }

    /// Asks every shard for a copy of its metrics. The receiver hears once from each.
    #[must_use]
    pub fn stats(&self) -> flume::Receiver<ShardSnapshot> {
        let (sender, receiver) = flume::unbounded();
        for commands in &self.commands {
            commands.send(ShardCommand::Stats(sender.clone()));
        }
        receiver
    }
}

/// Randomness from the operating system, through the process's one cryptography library.
struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        if aws_lc_rs::rand::fill(bytes).is_err() {
            // Without randomness peer ids could be guessed and hash keys known.
            tracing::error!("the operating system's random number generator failed");
            std::process::abort();
        }
    }
}

impl RunningShards {
    /// Binds all listeners, then starts one pinned thread for each shard.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(options: Options) -> Result<Self, StartError> {
        let count = options.shard_count;
        descriptors::make_room();
        let (by_shard, endpoints) =
            bind_all(&options.listen, count).map_err(|(at, error)| StartError::Bind(at, error))?;
        let mut keys = [0; 32];
        SystemEntropy.fill(&mut keys);
        let key = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| keys[at * 8 + byte]));
        let hasher = RandomState::with_seeds(key(0), key(1), key(2), key(3));
        let wakes = (0..count)
            .map(|shard| {
                Wake::new().map(Arc::new).map_err(|error| {
                    let cause = format!("{error}; raise the limit on open files");
                    StartError::Shard(ShardId(shard), cause)
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let links = link_all(&wakes);
        let (drained_sender, drained) = flume::unbounded();
        let mut shards = Self {
            commands: Vec::new(),
            threads: Vec::new(),
            drained,
            endpoints,
        };
        let public = PublicDescriptors::new(count);
        let public = Arc::new(public);
        let options = Arc::new(options);
        let all = by_shard.into_iter().zip(links).zip(wakes).enumerate();
        for (number, ((listeners, (mesh_out, mesh_in)), wake)) in all {
            let shard = ShardId(number as u16);
            let (sender, commands) = commands(shard, wake.clone(), drained_sender.clone());
            let config = ShardConfig {
                shard,
                shard_count: count,
                hasher: hasher.clone(),
                reject_with_close: options.reject_with_close,
                trusted_proxies: options.trusted_proxies.clone(),
                accept_bare_key_id: options.accept_bare_key_id,
                request_rates: options.request_rates.clone(),
                limits: options.limits.clone(),
            };
            let core = options.cores[number % options.cores.len()];
            let (options, descriptors) = (options.clone(), public.clone());
            let memory = options.memory.clone();
            let run = move || -> io::Result<()> {
                affinity::pin(core)?;
                let parts = Parts {
                    shard: new_shard(config, &options),
                    clock: options.clock,
                    listeners,
                    transports: transports(&options),
                    mesh_out,
                    mesh_in,
                    commands,
                    control: options.control.clone(),
                    wake,
                    descriptors,
                    memory,
                };
                ShardLoop::new(parts).and_then(ShardLoop::run)
            };
            let thread = thread::Builder::new()
                .name(format!("shard-{number}"))
                .spawn(move || run().unwrap_or_else(|error| give_up(shard, &error)))
                .map_err(|error| StartError::Shard(shard, error.to_string()))?;
            shards.commands.push(sender);
            shards.threads.push(thread);
        }
        Ok(shards)
    }

    /// Returns the public listeners, with the ports that the kernel chose.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// A handle for the control plane.
    #[must_use]
    pub fn handle(&self) -> ShardsHandle {
        ShardsHandle {
            commands: self.commands.clone(),
        }
    }

    /// Stops accepting, says goodbye to all clients and closes them over the window. Returns when
    /// the last connection has ended or should have, or when `hurry` cuts it short.
    pub fn drain(&self, shutdown: &ShutdownConfig, hurry: &flume::Receiver<()>) {
        let window_ms = shutdown.drain_ms;
        let retry_after_ms = shutdown.retry_after_ms;
        for commands in &self.commands {
            commands.send(ShardCommand::Drain {
                window_ms,
                retry_after_ms,
            });
        }
        let longest = Duration::from_millis(window_ms + shutdown.close_wait_ms);
        let deadline = Instant::now() + longest;
        for _ in &self.commands {
            let next = Selector::new()
                .recv(&self.drained, |_| Drained::Shard)
                // The thread that holds the sender ends with the process.
                .recv(hurry, |_| Drained::Cut)
                .wait_deadline(deadline);
            match next {
                Ok(Drained::Shard) => {}
                Ok(Drained::Cut) => {
                    tracing::warn!("the drain was cut short by a second signal");
                    return;
                }
                Err(_) => {
                    tracing::warn!("some connections did not end within the drain window");
                    return;
                }
            }
        }
    }

    /// Ends the shards.
    ///
    /// # Errors
    /// The first shard whose thread has panicked.
    pub fn stop(self) -> Result<(), StartError> {
        for commands in &self.commands {
            commands.send(ShardCommand::Stop);
        }
        let mut outcome = Ok(());
        for (number, thread) in self.threads.into_iter().enumerate() {
            if thread.join().is_err() {
                let cause = "its thread has panicked".to_owned();
                let failed = StartError::Shard(ShardId(number as u16), cause);
                outcome = outcome.and(Err(failed));
            }
        }
        outcome
    }
}

/// Ends the process: half a mesh is worse than a restart.
fn give_up(shard: ShardId, error: &io::Error) {
    // The log's writer may not come to it.
    let _ = writeln!(io::stderr(), "ringmesh: shard {shard} failed: {error}");
    std::process::exit(1);
}

fn transports(options: &Options) -> Transports {
    let proxies = if options.proxy_protocol {
        options.trusted_proxies.clone()
    } else {
        TrustedProxies::default()
    };
    Transports::new(options.tls.clone(), proxies)
}

fn new_shard(config: ShardConfig, options: &Options) -> Shard {
    let rates = options.connect_rates.clone();
    let entropy = Box::new(SystemEntropy);
    Shard::new(
        config,
        options.rights.clone(),
        rates,
        entropy,
        options.clock.now(),
    )
}
