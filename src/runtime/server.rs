//! The whole server: what is started in which order, what signals do, and the orderly end.
//!
//! Everything that can fail for a foreseeable reason comes first and ends in one line. The
//! threads that are not shards are started from here, so that they do not inherit a shard's
//! core, and are kept off the shards' cores where there are cores to spare.

mod running;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{self, Path};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::{self, Config, UnreadVariable, in_words_of_dev};

use crate::control::events::Events;
use crate::control::{ControlHandle, ControlPlane, OpenError, RunningControlPlane, Site};
use crate::events::kind::{Cause, Kind};
use crate::events::record::{Record, UNKNOWN};
use crate::log::Log;
use crate::run_file::{RunFile, reachable, write_process_number};
use crate::runtime::affinity;
use crate::runtime::allocator;
use crate::runtime::boot::{RunningShards, ShardsHandle, StartError, draw_hash_keys};
use crate::runtime::certificates::Certificates;
use crate::runtime::clock::Clock;
use crate::runtime::control_link::ControlLink;
use crate::runtime::handed;
use crate::runtime::handover::{Arrival, Lineage, Origin, Successor};
use crate::runtime::listener::Endpoint;
use crate::runtime::node::{InUse, Node};
use crate::runtime::options::{control_options, endpoints, options, token_file};
use crate::runtime::preflight::{self, Machine, PreflightError};
use crate::runtime::reload::{self, Reload};
use crate::runtime::reload_requests::ReloadRequests;
use crate::runtime::service::Service;
use crate::runtime::signals::SignalWatch;
use crate::tls::{CertificateFiles, TlsConfig};

/// How long shards may take to say how many connections they have.
const COUNT_TIME_MAX: Duration = Duration::from_secs(1);

/// Why the server did not start, or did not run to its orderly end.
#[derive(Debug)]
pub(crate) struct ServerError {
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

/// Why the control plane could not be opened: it may be that its address is another's, by mistake.
fn not_opened(config: &Config, error: &OpenError) -> ServerError {
    let admin = config
        .admin
        .listen
        .filter(|_| matches!(error, OpenError::Listen(..)));
    match admin.and_then(handed::in_place_of_admin) {
        Some(error) => ServerError::failed(error),
        None => ServerError::failed(error),
    }
}

/// A server at work.
pub(crate) struct Server {
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
    requests: ReloadRequests,
    service: Service,
    events: Arc<Events>,
    origin: Origin,
    lineage: Arc<Lineage>,
    admin_listener: Option<TcpListener>,
    clock: Clock,
}

impl Server {
    /// Starts the server, in the order in which parts depend on each other. `start_page` makes what
    /// the public listeners show to browsers, of where the admin listener is, and `console` what
    /// that one shows from its first request on. A `successor` goes on for another process.
    ///
    /// # Errors
    /// The first thing that stands in the way, with its remedy.
    pub(crate) fn start(
        config: &Config,
        start_page: impl Fn(Option<SocketAddr>) -> String,
        console: impl Fn(&[Endpoint]) -> Site,
        successor: Option<&Successor>,
    ) -> Result<Self, ServerError> {
        allocator::fix_thresholds();
        let origin = Origin::of_process();
        let machine = preflight::probe(config.server.cores.as_deref(), config.server.shards)?;
        keep_off_shard_cores(&machine);
        let signals = SignalWatch::start().map_err(ServerError::failed)?;
        let (files, tls) = open_certificate(config)?.unzip();
        let certificate = in_use(tls.as_ref());
        let log = crate::log::init(&config.log, words_of(config)).map_err(ServerError::failed)?;
        log_surroundings(config, &machine);
        let (mut arrival, clock) = greet(successor, &machine, config)?;
        let (control, admin_listener) = open_control(config, clock, &mut arrival)?;
        let (admin, handle) = (control.admin_address(), control.handle());
        let hasher = draw_hash_keys();
        let rates = reload::rates(config, &hasher);
        let settings = reload::settings(config, &machine, rates);
        let given = (&settings, &hasher, start_page(admin));
        let options = options((config, clock), &machine, &control, tls, given);
        let memory = options.memory.clone();
        let privacy = options.events_privacy.clone();
        let shards = RunningShards::start_as(options, arrival.take_listeners())?;
        let events = Arc::new(reload::events(config, &shards, privacy, clock));
        let certificates = watch(files, &shards, (certificate.clone(), events.clone()))?;
        let draining = Arc::new(AtomicBool::new(false));
        let requests = ReloadRequests::new(signals.wish.clone(), config.settings.clone());
        events.learn(&control.rights());
        let (shard_count, lineage) = (machine.shard_count, arrival.lineage.clone());
        let node = Node::new(config, shards.endpoints(), admin, shard_count, certificate);
        let asked = (
            requests.clone(),
            signals.upgrades.clone(),
            signals.wish.clone(),
        );
        let told = (events.clone(), node, lineage.clone());
        let link = (shards.handle(), draining.clone());
        let link = ControlLink::new(link, memory, asked, told);
        warn_at_start(config, &control, &events);
        record_node(&events, Cause::Started);
        if config.admin.console {
            handle.show(console(shards.endpoints()));
        }
        let control = control.start(Arc::new(link)).map_err(ServerError::failed)?;
        let service = Service::new(shards.handle(), shard_count).map_err(ServerError::failed)?;
        take_over(arrival, &shards, &handle, &service)?;
        tell(config, shards.endpoints(), admin, (shard_count, &lineage));
        record_node(&events, Cause::Ready);
        Ok(Self {
            shards,
            certificates,
            control,
            handle,
            admin,
            draining,
            signals,
            log,
            reload: Reload::new(config.clone(), machine, hasher, &settings),
            requests,
            service,
            events,
            origin,
            lineage,
            admin_listener,
            clock,
        })
    }

    /// Returns the public listeners.
    #[must_use]
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        self.shards.endpoints()
    }

    /// Returns the address of the admin API, if there is one.
    #[must_use]
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Returns what shards and process record.
    #[must_use]
    pub(crate) fn events(&self) -> Arc<Events> {
        Arc::clone(&self.events)
    }

    /// The control plane, to make changes as the admin API does.
    #[must_use]
    pub(crate) fn control(&self) -> &ControlHandle {
        &self.handle
    }
}

/// Says hello to the process before, if there is one, and goes on with its clock.
fn greet<'s>(
    successor: Option<&'s Successor>,
    machine: &Machine,
    config: &Config,
) -> Result<(Arrival<'s>, Clock), ServerError> {
    let arrival = Arrival::greet(successor, machine.shard_count, config);
    let arrival = arrival.map_err(ServerError::failed)?;
    let clock = arrival.clock();
    Ok((arrival, clock))
}

/// Takes over from the process before, if there is one.
fn take_over(
    arrival: Arrival<'_>,
    shards: &RunningShards,
    control: &ControlHandle,
    service: &Service,
) -> Result<(), ServerError> {
    let over = arrival.take_over(shards, control, service);
    over.map_err(ServerError::failed)
}

/// Opens the control plane, with a copy of its admin listener for a process after this one.
fn open_control(
    config: &Config,
    clock: Clock,
    arrival: &mut Arrival<'_>,
) -> Result<(ControlPlane, Option<TcpListener>), ServerError> {
    let options = control_options(config, clock, arrival.take_control());
    let control = ControlPlane::open(options).map_err(|error| not_opened(config, &error))?;
    let listener = control.admin_listener().map_err(ServerError::failed)?;
    Ok((control, listener))
}

/// Keeps the certificate up to date, if there is one.
fn watch(
    files: Option<CertificateFiles>,
    shards: &RunningShards,
    told: (InUse, Arc<Events>),
) -> Result<Option<Certificates>, ServerError> {
    files
        .map(|files| Certificates::watch(files, shards.handle(), told))
        .transpose()
        .map_err(ServerError::failed)
}

/// Has looked at what a server should not be started with.
fn warn_at_start(config: &Config, control: &ControlPlane, events: &Events) {
    reload::hold_warnings(config, config.admin.listen, events);
    let is_short = control.has_short_token();
    events.hold(Cause::TokenShort, is_short.then_some(""));
}

/// Writes down how commands on this machine find the server. They can be told otherwise, so a
/// failure ends nothing.
fn tell_commands(config: &Config, endpoints: &[Endpoint], admin: Option<SocketAddr>) {
    let absolute = |path: &Path| path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let public_url = |endpoint: &Endpoint| {
        let scheme = if endpoint.tls { "wss" } else { "ws" };
        format!("{scheme}://{}", reachable(endpoint.address))
    };
    let mode = if config.file.is_some() {
        "serve"
    } else {
        "dev"
    };
    let file = RunFile {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: mode.to_owned(),
        admin_url: admin.map(|admin| format!("http://{}", reachable(admin))),
        token_file: absolute(&token_file(config)),
        public_urls: config
            .server
            .public_url
            .iter()
            .map(|url| url.clients())
            .chain(endpoints.iter().map(public_url))
            .collect(),
        config_file: config.file.as_deref().map(absolute),
    };
    if let Err(error) = file.write(&config.store.data_dir) {
        tracing::warn!(%error, "run.json cannot be written: commands need --admin-url");
    }
}

/// Writes down which process serves. Whoever watches the file can be told otherwise, so a failure
/// ends nothing.
fn write_pid(config: &Config) {
    let Some(file) = &config.server.pid_file else {
        return;
    };
    if let Err(error) = write_process_number(file) {
        tracing::error!(path = %file.display(), %error, "server.pid_file cannot be written");
    }
}

/// Says that the server serves: to commands, to whoever watches the process, and to the log.
fn tell(
    config: &Config,
    endpoints: &[Endpoint],
    admin: Option<SocketAddr>,
    (shards, lineage): (u16, &Lineage),
) {
    write_pid(config);
    tell_commands(config, endpoints, admin);
    log_listening(endpoints, admin, shards, lineage);
}

/// Says that the server serves, and where.
fn log_listening(
    endpoints: &[Endpoint],
    admin: Option<SocketAddr>,
    shards: u16,
    lineage: &Lineage,
) {
    let tls_endpoints = endpoints.iter().filter(|it| it.tls);
    tracing::info!(
        addresses = %Addresses(endpoints.iter().map(|it| it.address)),
        admin = %Addresses(admin.into_iter()),
        tls = %Addresses(tls_endpoints.map(|it| it.address)),
        shards,
        generation = lineage.generation,
        "listening"
    );
}

/// Records what the server itself does, with its version.
fn record_node(events: &Events, cause: Cause) {
    record_connected(events, cause, UNKNOWN);
}

/// Records that a drain has begun or ended, with the connections that are left.
fn record_drain(events: &Events, cause: Cause, shards: &ShardsHandle) {
    let left = shards.connections(COUNT_TIME_MAX);
    record_connected(events, cause, left.unwrap_or(UNKNOWN));
}

fn record_connected(events: &Events, cause: Cause, connections: u64) {
    let numbers = [connections];
    let record = Record {
        numbers: &numbers,
        first: env!("CARGO_PKG_VERSION"),
        ..Record::new(Kind::Node, cause)
    };
    events.record(&record);
}

/// How the log names settings: by what sets them, where there is no file.
fn words_of(config: &Config) -> Option<fn(&str) -> Cow<'_, str>> {
    config.file.is_none().then_some(in_words_of_dev)
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

/// Whether all addresses can be listened on, before anything is written.
///
/// # Errors
/// The first that cannot.
pub(crate) fn check_addresses(config: &Config) -> Result<(), ServerError> {
    for endpoint in endpoints(config) {
        std::net::TcpListener::bind(endpoint.address)
            .map_err(|error| StartError::Bind(endpoint, error))?;
    }
    if let Some(address) = config.admin.listen {
        std::net::TcpListener::bind(address).map_err(|error| {
            ServerError::failed(format_args!(
                "admin listener {address}: {}; set admin.listen to a free address, or to \"\" to \
                 turn it off",
                match error.kind() {
                    io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
                    _ => error.to_string(),
                }
            ))
        })?;
    }
    Ok(())
}

/// What operators should know of the machine and of their settings.
fn log_surroundings(config: &Config, machine: &Machine) {
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

/// What the certificate says that the shards are started with.
fn in_use(tls: Option<&TlsConfig>) -> InUse {
    Arc::new(Mutex::new(tls.and_then(TlsConfig::validity).cloned()))
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
