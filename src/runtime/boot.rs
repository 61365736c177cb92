//! From a configuration to running shards, and back to nothing.
//!
//! Everything that can fail for a foreseeable reason is done before the first shard starts.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
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
use crate::events::feed::{FeedReader, FeedWriter};
use crate::events::recorder::{Privacy, Recorder, Rings};
use crate::events::ring::Ring;
use crate::ids::ShardId;
use crate::proto::forwarded::TrustedProxies;
use crate::runtime::affinity;
use crate::runtime::clock::Clock;
use crate::runtime::command::{CommandSender, ShardCommand, commands};
use crate::runtime::descriptors::{self, PublicDescriptors};
use crate::runtime::handed::{self, HandedError};
use crate::runtime::handover::{Inherited, matched};
use crate::runtime::histories::{Histories, Share};
use crate::runtime::listener::{Binding, Endpoint, Listeners};
use crate::runtime::memory::Memory;
use crate::runtime::mesh::link_all;
use crate::runtime::shard_loop::{Adoption, LoopParts, ShardLoop};
use crate::runtime::transport::Transports;
use crate::runtime::wake::Wake;
use crate::shard::config::Entropy;
use crate::shard::config::ShardConfig;
use crate::shard::config::ShardLimits;
use crate::shard::handler::Handler;
use crate::shard::state::Shard;
use crate::tls::TlsConfig;

pub use crate::runtime::shards_handle::ShardsHandle;

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
    /// Whether a connect goes to the shard of the core that it comes in on.
    pub follow_queues: bool,
    /// Bounds of every connection.
    pub limits: ShardLimits,
    /// See [`ShardConfig::reject_with_close`].
    pub reject_with_close: bool,
    /// See [`ShardConfig::explain`].
    pub explain: bool,
    /// Memory of each shard's events, in bytes; 0 keeps none.
    pub events_bytes: usize,
    /// Memory of what each shard tells backends, in bytes; 0 keeps nothing.
    pub feed_bytes: usize,
    /// What of whom is kept in events.
    pub events_privacy: Privacy,
    /// See [`ShardConfig::accept_bare_key_id`].
    pub accept_bare_key_id: bool,
    /// Keys of all hashes of the process, see [`draw_hash_keys`].
    pub hasher: RandomState,
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
    /// See [`ShardConfig::start_page`].
    pub start_page: Arc<str>,
    /// See [`ShardConfig::handler`].
    pub handler: Option<Arc<dyn Handler>>,
    /// Where history is kept that is kept on disk; `None`: nowhere. Made when it is needed.
    pub history_dir: Option<PathBuf>,
}

/// Why the shards could not be started.
#[derive(Debug)]
pub enum StartError {
    /// An address could not be bound.
    Bind(Endpoint, io::Error),
    /// What the service manager has opened cannot be used.
    Handed(String),
    /// History on disk cannot be used.
    History(String),
    /// A shard could not be started.
    Shard(ShardId, String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(Endpoint { address, tls }, error) => {
                let setting = match tls {
                    true => "server.listen or tls.listen",
                    false => "server.listen",
                };
                write!(f, "cannot listen on {address}: ")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => write!(
                        f,
                        "another program does already; stop it, or choose another address with \
                         {setting}"
                    ),
                    io::ErrorKind::PermissionDenied => f.write_str(
                        "not permitted; choose a port above 1023, or grant the binary \
                         cap_net_bind_service",
                    ),
                    _ => write!(
                        f,
                        "{error}; choose an address of this machine with {setting}"
                    ),
                }
            }
            Self::Handed(cause) | Self::History(cause) => f.write_str(cause),
            Self::Shard(shard, cause) => write!(f, "shard {shard} could not start: {cause}"),
        }
    }
}

const CUT_SHORT: &str = "the drain was cut short by a second signal";

/// What a drain hears next.
enum Drained {
    /// A shard has come to where it was sent.
    Shard,
    /// A second signal cuts the drain short.
    Cut,
}

/// The shards of the process, each on a thread of its own.
pub struct RunningShards {
    commands: Vec<CommandSender>,
    threads: Vec<JoinHandle<()>>,
    ended: flume::Receiver<ShardId>,
    endpoints: Vec<Endpoint>,
    rings: Vec<Rings>,
    feed_rings: Vec<Arc<Ring>>,
    histories: Arc<Histories>,
    adoptions: Vec<flume::Sender<Adoption>>,
}

/// Randomness from the operating system, through the process's one cryptography library.
pub(super) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        if aws_lc_rs::rand::fill(bytes).is_err() {
            // Without randomness peer ids could be guessed and hash keys known.
            tracing::error!("the operating system's random number generator failed");
            std::process::abort();
        }
    }
}

/// Opens all listeners, or takes those that the process before or the service manager has opened.
fn open_listeners(
    options: &Options,
    inherited: Option<Vec<Inherited>>,
) -> Result<(Vec<Listeners>, Vec<Endpoint>), StartError> {
    let addresses: Vec<_> = options.listen.iter().map(|it| it.address).collect();
    let (handed, retired) = match inherited {
        Some(inherited) => matched(inherited, &options.listen),
        None => {
            let handed = handed::take(&addresses);
            let handed = handed.map_err(|error: HandedError| error.to_string());
            (handed.map_err(StartError::Handed)?, Vec::new())
        }
    };
    let binding = Binding {
        endpoints: &options.listen,
        shard_count: options.shard_count,
        handed,
        retired: retired.into_iter().map(|it| it.socket).collect(),
        cores: options.follow_queues.then_some(&options.cores),
    };
    binding
        .open()
        .map_err(|(endpoint, error)| StartError::Bind(endpoint, error))
}

fn make_wakes(count: u16) -> Result<Vec<Arc<Wake>>, StartError> {
    let make = |shard| {
        Wake::new().map(Arc::new).map_err(|error| {
            let cause = format!("{error}; raise the limit on open files");
            StartError::Shard(ShardId(shard), cause)
        })
    };
    (0..count).map(make).collect()
}

/// Opens what is kept on disk, if something is. Returns a share of it for each shard.
fn open_histories(
    options: &Options,
    wakes: &[Arc<Wake>],
) -> Result<(Histories, Vec<Share>), StartError> {
    let settings = options.limits.history;
    let directory = options.history_dir.clone();
    let histories = Histories::new(directory, settings, options.hasher.clone(), wakes.to_vec());
    let opened = histories.open(&options.rights);
    let shares = opened.map_err(StartError::History)?.unwrap_or_default();
    Ok((histories, shares))
}

/// Draws the keys of a process's hashes, once: shards must place names alike, and nobody outside
/// may know which names collide.
#[must_use]
pub fn draw_hash_keys() -> RandomState {
    let mut keys = [0; 32];
    SystemEntropy.fill(&mut keys);
    let key = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| keys[at * 8 + byte]));
    RandomState::with_seeds(key(0), key(1), key(2), key(3))
}

/// Draws a number that tells this process from any other.
#[must_use]
pub(super) fn draw_number() -> u64 {
    let mut bytes = [0; 8];
    SystemEntropy.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

impl RunningShards {
    /// Binds all listeners, then starts one pinned thread for each shard.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(options: Options) -> Result<Self, StartError> {
        Self::start_as(options, None)
    }

    /// The same, with the listeners of the process before, if there was one: then the shards wait
    /// for what it hands over.
    pub(super) fn start_as(
        options: Options,
        inherited: Option<Vec<Inherited>>,
    ) -> Result<Self, StartError> {
        let count = options.shard_count;
        let adopts = inherited.is_some();
        descriptors::make_room();
        let (by_shard, endpoints) = open_listeners(&options, inherited)?;
        let hasher = options.hasher.clone();
        let wakes = make_wakes(count)?;
        let (histories, shares) = open_histories(&options, &wakes)?;
        let mut shares = shares.into_iter();
        let links = link_all(&wakes);
        let (ended_sender, ended) = flume::unbounded();
        let mut shards = Self::without_any(ended, endpoints, histories);
        let public = Arc::new(PublicDescriptors::new(count));
        let options = Arc::new(options);
        let all = by_shard.into_iter().zip(links).zip(wakes).enumerate();
        for (number, ((listeners, (mesh_out, mesh_in)), wake)) in all {
            let shard = ShardId(number as u16);
            let (sender, commands) = commands(shard, wake.clone(), ended_sender.clone());
            let config = shard_config(shard, hasher.clone(), &options);
            let core = options.cores[number % options.cores.len()];
            let (options, descriptors) = (options.clone(), public.clone());
            let memory = options.memory.clone();
            let privacy = options.events_privacy.clone();
            let (recorder, rings) = Recorder::new(Some(shard), options.events_bytes, privacy);
            shards.rings.extend(rings);
            let (feed, ring) = FeedWriter::new(options.feed_bytes);
            shards.feed_rings.extend(ring);
            let history = shares.next();
            let adoptions = adopts.then(|| shards.await_adoption());
            let run = move || -> io::Result<()> {
                affinity::pin(core)?;
                let parts = LoopParts {
                    shard: new_shard(config, &options, (recorder, feed)),
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
                    history,
                };
                let mut shard = ShardLoop::new(parts)?;
                let may_begin = adoptions.map_or(Ok(true), |it| shard.adopt(&it))?;
                // Otherwise the process is about to end.
                if may_begin { shard.run() } else { Ok(()) }
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

    /// Nothing has been started.
    fn without_any(
        ended: flume::Receiver<ShardId>,
        endpoints: Vec<Endpoint>,
        histories: Histories,
    ) -> Self {
        Self {
            commands: Vec::new(),
            threads: Vec::new(),
            ended,
            endpoints,
            rings: Vec::new(),
            feed_rings: Vec::new(),
            histories: Arc::new(histories),
            adoptions: Vec::new(),
        }
    }

    /// Where the next shard hears what another process hands over.
    fn await_adoption(&mut self) -> flume::Receiver<Adoption> {
        let (adopt, adoptions) = flume::bounded(1);
        self.adoptions.push(adopt);
        adoptions
    }

    /// Returns the public listeners, with the ports that the kernel chose.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Where the shards wait for what another process hands over.
    pub(super) fn adoptions(&self) -> &[flume::Sender<Adoption>] {
        &self.adoptions
    }

    /// Returns where the shards record events: nowhere, if none are kept.
    #[must_use]
    pub fn rings(&self) -> Vec<Rings> {
        self.rings.clone()
    }

    /// Returns a reader of what the shards tell backends.
    #[must_use]
    pub fn feed(&self) -> FeedReader {
        FeedReader::new(self.feed_rings.clone())
    }

    /// A handle for the control plane.
    #[must_use]
    pub fn handle(&self) -> ShardsHandle {
        ShardsHandle {
            commands: self.commands.clone(),
            histories: self.histories.clone(),
        }
    }

    /// Ends the service in order: load balancers are told, WebSockets are closed over the window,
    /// and the last connections end. Returns when no connection is left or should be, or when
    /// `hurry` cuts it short.
    pub fn drain(&self, shutdown: &ShutdownConfig, hurry: &flume::Receiver<()>) {
        self.send_all(|| ShardCommand::AnnounceShutdown);
        let delay = Duration::from_millis(shutdown.delay_ms);
        if !delay.is_zero() && hurry.recv_timeout(delay).is_ok() {
            tracing::warn!("{CUT_SHORT}");
            return;
        }
        let window_ms = shutdown.drain_ms;
        let retry_after_ms = shutdown.retry_after_ms;
        self.send_all(|| ShardCommand::Drain {
            window_ms,
            retry_after_ms,
        });
        if !self.wait_for_all(window_ms + shutdown.close_wait_ms, hurry) {
            return;
        }
        self.send_all(|| ShardCommand::StopAccepting);
        self.wait_for_all(shutdown.close_wait_ms, hurry);
    }

    fn send_all(&self, command: impl Fn() -> ShardCommand) {
        for commands in &self.commands {
            commands.send(command());
        }
    }

    /// Waits for a word of each shard, for so many milliseconds. Returns whether the end goes on.
    fn wait_for_all(&self, longest_ms: u64, hurry: &flume::Receiver<()>) -> bool {
        let deadline = Instant::now() + Duration::from_millis(longest_ms);
        for _ in &self.commands {
            let next = Selector::new()
                .recv(&self.ended, |_| Drained::Shard)
                // The thread that holds the sender ends with the process.
                .recv(hurry, |_| Drained::Cut)
                .wait_deadline(deadline);
            match next {
                Ok(Drained::Shard) => {}
                Ok(Drained::Cut) => {
                    tracing::warn!("{CUT_SHORT}");
                    return false;
                }
                Err(_) => {
                    tracing::warn!("some connections did not end within the drain window");
                    return false;
                }
            }
        }
        true
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
        self.histories.join();
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

fn shard_config(shard: ShardId, hasher: RandomState, options: &Options) -> ShardConfig {
    ShardConfig {
        shard,
        shard_count: options.shard_count,
        hasher,
        reject_with_close: options.reject_with_close,
        explain: options.explain,
        trusted_proxies: options.trusted_proxies.clone(),
        accept_bare_key_id: options.accept_bare_key_id,
        request_rates: options.request_rates.clone(),
        limits: options.limits.clone(),
        start_page: options.start_page.clone(),
        handler: options.handler.clone(),
    }
}

fn new_shard(
    config: ShardConfig,
    options: &Options,
    (recorder, feed): (Recorder, FeedWriter),
) -> Shard {
    let rates = options.connect_rates.clone();
    let entropy = Box::new(SystemEntropy);
    let mut shard = Shard::new(
        config,
        options.rights.clone(),
        rates,
        entropy,
        options.clock.now(),
    );
    shard.record_with(recorder);
    shard.feed_with(feed);
    shard
}
