//! The whole server: what is started in which order, what signals do, and the orderly end.
//!
//! Everything that can fail for a foreseeable reason comes first and ends in one line. The
//! threads that are not shards are started from here, so that they do not inherit a shard's
//! core, and are kept off the shards' cores where there are cores to spare.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::{self, Config, UnreadVariable};
use crate::control::{
    AdminOptions, ControlHandle, ControlOptions, ControlPlane, RunningControlPlane,
};
use crate::log::Log;
use crate::runtime::affinity;
use crate::runtime::allocator;
use crate::runtime::boot::{Options, RunningShards, StartError};
use crate::runtime::certificates::Certificates;
use crate::runtime::cgroup::Cgroups;
use crate::runtime::clock::Clock;
use crate::runtime::control_link::ControlLink;
use crate::runtime::listener::Endpoint;
use crate::runtime::memory::{Memory, ceiling_bytes};
use crate::runtime::preflight::{self, Machine, PreflightError};
use crate::runtime::reload::{self, Parts, Reload};
use crate::runtime::signals::{SignalWatch, Wish};
use crate::shard::settings::Settings;
use crate::tls::{CertificateFiles, TlsConfig};

/// Longest wait for the log's writer at the end.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// Why the server did not start, or did not run to its orderly end.
#[derive(Debug)]
pub struct ServerError {
    /// 2 for a configuration that this machine cannot satisfy, 1 otherwise.
    pub exit_code: u8,
    /// Cause and remedy, on one line.
    pub message: String,
}

impl ServerError {
    fn failed(cause: impl fmt::Display) -> Self {
        Self {
            exit_code: 1,
            message: cause.to_string(),
        }
    }
}

impl From<PreflightError> for ServerError {
    fn from(error: PreflightError) -> Self {
        Self {
            exit_code: error.exit_code(),
            message: error.to_string(),
        }
    }
}

impl From<StartError> for ServerError {
    fn from(error: StartError) -> Self {
        Self::failed(error)
    }
}

/// A server at work.
pub struct Server {
    shards: RunningShards,
    /// Present with `[tls]`.
    certificates: Option<Certificates>,
    control: RunningControlPlane,
    handle: ControlHandle,
    admin: Option<SocketAddr>,
    draining: Arc<AtomicBool>,
    signals: SignalWatch,
    log: Log,
    reload: Reload,
}

impl Server {
    /// Starts the server, in the order in which parts depend on each other.
    ///
    /// # Errors
    /// The first thing that stands in the way, with its remedy.
    pub fn start(config: &Config) -> Result<Self, ServerError> {
        allocator::fix_thresholds();
        let machine = preflight::probe(config.server.cores.as_deref(), config.server.shards)?;
        keep_off_shard_cores(&machine);
        let signals = SignalWatch::start().map_err(ServerError::failed)?;
        let (files, tls) = open_certificate(config)?.unzip();
        let log = crate::log::init(&config.log).map_err(ServerError::failed)?;
        if let Some(millicores) = machine.cpu_millicores_max {
            tracing::info!(millicores, "the control group has a CPU quota");
        }
        for warning in &machine.warnings {
            tracing::warn!("{warning}");
        }
        if config.rest.accept_bare_key_id {
            reload::warn_of_bare_key_ids();
        }
        warn_of_unread_variables(&config.unread_variables);
        let control = ControlPlane::open(control_options(config)).map_err(ServerError::failed)?;
        let (admin, handle) = (control.admin_address(), control.handle());
        let rates = (
            Arc::new(reload::request_rates(config)),
            Arc::new(reload::connect_rates(config)),
        );
        let settings = reload::settings(config, &machine, rates);
        let options = options(config, &machine, &control, tls, &settings);
        let (clock, memory) = (options.clock, options.memory.clone());
        let shards = RunningShards::start(options)?;
        let certificates = files
            .map(|files| Certificates::watch(files, shards.handle()))
            .transpose()
            .map_err(ServerError::failed)?;
        let draining = Arc::new(AtomicBool::new(false));
        let link = ControlLink::new(shards.handle(), draining.clone(), clock, memory);
        let control = control.start(Arc::new(link)).map_err(ServerError::failed)?;
        let tls_endpoints = shards.endpoints().iter().filter(|it| it.tls);
        let tls_addresses = tls_endpoints.map(|it| it.address);
        tracing::info!(
            addresses = %Addresses(shards.endpoints().iter().map(|it| it.address)),
            admin = %Addresses(admin.into_iter()),
            tls = %Addresses(tls_addresses),
            shards = machine.shard_count,
            "listening"
        );
        Ok(Self {
            shards,
            certificates,
            control,
            handle,
            admin,
            draining,
            signals,
            log,
            reload: Reload::new(config.clone(), machine, &settings),
        })
    }

    /// Returns the public listeners.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        self.shards.endpoints()
    }

    /// Returns the address of the admin API, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The control plane, to make changes as the admin API does.
    #[must_use]
    pub fn control(&self) -> &ControlHandle {
        &self.handle
    }

    /// Serves until a signal ends it, then drains; a second signal cuts the drain short, and
    /// usage is saved all the same. `read` reads the configuration again.
    ///
    /// # Errors
    /// A shard had failed.
    pub fn run(self, read: impl Fn() -> Result<Option<Config>, String>) -> Result<(), ServerError> {
        let Self {
            signals,
            shards,
            certificates,
            control,
            handle,
            draining,
            log,
            mut reload,
            ..
        } = self;
        let parts = Parts {
            shards: shards.handle(),
            certificates: certificates.as_ref(),
            control: &handle,
            log: &log,
        };
        while signals.wishes.recv() == Ok(Wish::Reload) {
            match read() {
                Ok(Some(config)) => reload.apply(config, &parts),
                Ok(None) => tracing::info!("nothing to reload: there is no configuration file"),
                Err(error) => tracing::error!("nothing was reloaded: {error}"),
            }
        }
        draining.store(true, Ordering::Release);
        let shutdown = &reload.current().shutdown;
        tracing::info!(window_ms = shutdown.drain_ms, "draining");
        shards.drain(shutdown, &signals.hurry);
        let outcome = shards.stop();
        control.shutdown();
        tracing::info!("stopped");
        log.flush(LOG_FLUSH);
        Ok(outcome?)
    }
}

/// Pins the calling thread, and so all it starts that is not a shard, to a core that no shard
/// has, if there is one.
fn keep_off_shard_cores(machine: &Machine) {
    let shard_cores = &machine.cores[..machine.cores.len().min(machine.shard_count.into())];
    let allowed = affinity::allowed_cores().unwrap_or_default();
    let spare = allowed
        .into_iter()
        .rev()
        .find(|core| !shard_cores.contains(core));
    // Best effort: the kernel finds them another place at need.
    let _ = spare.map(affinity::pin);
}

fn control_options(config: &Config) -> ControlOptions {
    ControlOptions {
        data_dir: config.store.data_dir.clone(),
        master_key_file: config.store.master_key_file.clone(),
        admin: config.admin.listen.map(|listen| AdminOptions {
            listen,
            token_file: token_file(config),
            protect_metrics: config.admin.protect_metrics,
            hosts: config.admin.hosts.clone(),
        }),
        declared: reload::declared(config),
        clock: {
            let clock = Clock::start();
            Arc::new(move || clock.now())
        },
        store_gate: None,
    }
}

/// The admin token's file: earlier versions made it beside the configuration, and one that is
/// there goes on to be used where the data directory has none.
fn token_file(config: &Config) -> PathBuf {
    const NAME: &str = "admin.token";
    let file = &config.admin.token_file;
    let beside = config.file.as_deref().map(|it| it.with_file_name(NAME));
    match beside {
        Some(beside)
            if *file == config.store.data_dir.join(NAME) && !file.exists() && beside.exists() =>
        {
            tracing::warn!(
                path = %beside.display(),
                "the admin token beside the configuration is used; move it to {}",
                file.display()
            );
            beside
        }
        _ => file.clone(),
    }
}

/// What was set in the environment and has no effect.
fn warn_of_unread_variables(unread: &[UnreadVariable]) {
    for UnreadVariable { name, nearest } in unread {
        let meant = nearest.as_ref();
        let meant = meant.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"));
        tracing::warn!("nothing reads {name}, a variable of the environment{meant}");
    }
}

/// The certificate that `[tls]` names, if there is one.
fn open_certificate(config: &Config) -> Result<Option<(CertificateFiles, TlsConfig)>, ServerError> {
    let open = |tls: &config::TlsConfig| CertificateFiles::open(&tls.cert, &tls.key);
    config
        .tls
        .as_ref()
        .map(open)
        .transpose()
        .map_err(ServerError::failed)
}

/// All public listeners, plain ones first.
fn endpoints(config: &Config) -> Vec<Endpoint> {
    let server = &config.server.listen[..];
    let (plain, tls) = match &config.tls {
        None => (server, &[][..]),
        Some(config::TlsConfig { listen: None, .. }) => (&[][..], server),
        Some(config::TlsConfig {
            listen: Some(listen),
            ..
        }) => (server, &listen[..]),
    };
    let endpoint = |tls| {
        move |address: &SocketAddr| Endpoint {
            address: *address,
            tls,
        }
    };
    let plain = plain.iter().map(endpoint(false));
    plain.chain(tls.iter().map(endpoint(true))).collect()
}

fn options(
    config: &Config,
    machine: &Machine,
    control: &ControlPlane,
    tls: Option<TlsConfig>,
    settings: &Settings,
) -> Options {
    let memory = ceiling_bytes(
        config.limits.memory_bytes,
        Cgroups::of_process().memory_bytes_max(),
    );
    Options {
        memory: Arc::new(Memory::new(memory)),
        listen: endpoints(config),
        tls,
        trusted_proxies: settings.trusted_proxies.clone(),
        proxy_protocol: config.server.proxy_protocol,
        shard_count: machine.shard_count,
        cores: machine.cores.clone(),
        limits: settings.limits.clone(),
        reject_with_close: settings.reject_with_close,
        accept_bare_key_id: settings.accept_bare_key_id,
        request_rates: settings.request_rates.clone(),
        connect_rates: settings.connect_rates.clone(),
        control: Some(control.handle()),
        rights: control.rights(),
        clock: Clock::start(),
    }
}

/// Addresses as a list for people.
struct Addresses<A>(A);

impl<A: Iterator<Item = SocketAddr> + Clone> fmt::Display for Addresses<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.clone().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}
