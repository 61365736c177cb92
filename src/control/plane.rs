//! The control thread: opened before the shards, started with them, ended after them.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle as Task;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::admin::pages::{Showcase, Site};
use super::admin::{self, HostNames, Listening, Sessions, TokenError};
use super::change::Change;
use super::compile::Compiler;
use super::engine::Engine;
use super::error::ControlError;
use super::events::{Events, LogEvents, LogTail};
use super::handover::{Handing, HeldStore, InheritedControl};
use super::ledger::Ledger;
use super::outcome::Outcome;
use super::registry::Registry;
use super::sampler::Sampler;
use super::saves::Saves;
use super::shards::Shards;
use super::store::{self, Rows, SourceOpened, StoreError, StoreSource, WriteGate};
use super::wall_clock::Clocks;
use super::writer::StoreWriter;
use crate::domain::declared::Declared;
use crate::domain::rights::Rights;
use crate::domain::usage::UsageDelta;
use crate::events::author::Author;
use crate::events::kind::{AuthorKind, Cause};

/// How long the end waits for a disk that hangs. A service manager has less patience with what
/// comes after the drain.
const END_TIME_MAX: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);
/// How long a taken port is tried, and the pause between two attempts.
const PORT_TIME_MAX: Duration = Duration::from_secs(1);
const PORT_PAUSE: Duration = Duration::from_millis(50);
/// Reports of shards that wait to be merged. A shard that finds it full keeps its counts for
/// its next report.
const REPORTS_MAX: usize = 1_024;

/// What the control plane is started with.
pub(crate) struct ControlOptions {
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// File of the master key; made when missing.
    pub master_key_file: PathBuf,
    /// The admin listener, or none.
    pub admin: Option<AdminOptions>,
    /// What the configuration declares.
    pub declared: Declared,
    /// Which events are logged.
    pub log_events: LogEvents,
    /// How it reads the clocks.
    pub clock: Clocks,
    /// For tests: stands between the store and its disk.
    pub store_gate: Option<Arc<dyn WriteGate>>,
    /// What another process hands over to this one.
    pub inherited: Option<InheritedControl>,
}

/// What the admin listener is started with.
pub(crate) struct AdminOptions {
    /// Address to listen on; port 0 picks one.
    pub listen: SocketAddr,
    /// The file of its bearer token; made when missing.
    pub token_file: PathBuf,
    /// The file of the token that may only read, if there is one.
    pub read_token_file: Option<PathBuf>,
    /// Whether `/metrics` needs the token too.
    pub protect_metrics: bool,
    /// Names that requests may be for, besides IP addresses and `localhost`; in lower case.
    pub hosts: Vec<String>,
}

/// Why the control plane cannot start: one line that names cause and remedy.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The store cannot be opened.
    Store(StoreError),
    /// The admin token cannot be read or made.
    Token(TokenError),
    /// The admin listener cannot be bound.
    Listen(SocketAddr, std::io::Error),
    /// The declared apps contradict the store.
    Declared(ControlError),
    /// The system: no thread, no event loop.
    System(std::io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Token(error) => error.fmt(f),
            Self::Listen(address, error) => write!(
                f,
                "admin listener {address}: {error}; set admin.listen to a free address, or to \
                 \"\" to turn it off"
            ),
            Self::Declared(error) => error.fmt(f),
            Self::System(error) => write!(f, "control thread: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// What a missing or wrong master key costs, and the ways out.
const MASTER_KEY_LOST: &str = "\
    the signing and TURN secrets in the store cannot be read: tokens of its keys and POST \
    /v1/tokens get 503, and no secret key can be made or rotated; publishable keys and API \
    secrets go on. Put the copy of the master key back and start again. If there is none, those \
    secrets are lost: begin with another store.data_dir, and declare the keys there with their \
    old ids, so that clients go on (\"A lost master key\" in src/docs/operating.md)";

/// The control plane before its shards: everything is open and nothing runs.
pub(crate) struct ControlPlane {
    registry: Arc<Registry>,
    rights: Arc<Rights>,
    store: StoreSource,
    ledger: Ledger,
    admin: Option<Listening>,
    clock: Clocks,
    log_events: LogEvents,
    handle: ControlHandle,
    reports: mpsc::Receiver<Vec<UsageDelta>>,
    requests: mpsc::UnboundedReceiver<Request>,
}

/// The control plane at work.
pub(crate) struct RunningControlPlane {
    thread: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// How the rest of the process talks to the control thread. Cheap to clone; from any thread.
#[derive(Clone)]
pub struct ControlHandle {
    reports: mpsc::Sender<Vec<UsageDelta>>,
    requests: mpsc::UnboundedSender<Request>,
    showcase: Showcase,
    sessions: Arc<Sessions>,
    clock: Clocks,
    /// Whether the admin listener accepts.
    serving: watch::Sender<bool>,
}

impl fmt::Debug for ControlHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlHandle").finish_non_exhaustive()
    }
}

enum Request {
    Change(Change, oneshot::Sender<Result<Outcome, ControlError>>),
    Redeclare(Declared, oneshot::Sender<Result<(), ControlError>>),
    Hand(Handing),
}

/// The answer to a request, when it comes: to be awaited in any executor, or waited for.
pub struct Promise<T>(oneshot::Receiver<Result<T, ControlError>>);

impl ControlPlane {
    /// Opens the store, binds the admin listener and makes the first snapshot.
    ///
    /// A missing or wrong master key is logged and does not fail.
    ///
    /// # Errors
    /// One line for each cause, see [`OpenError`].
    pub(crate) fn open(options: ControlOptions) -> Result<Self, OpenError> {
        let (inherited, admin) = options.inherited.map_or((None, None), |it| {
            (Some((it.store_copy, it.store_released)), it.admin)
        });
        let is_first = inherited.is_none();
        let (data_dir, gate) = (&options.data_dir, options.store_gate.clone());
        let opened = match inherited {
            None => store::open(data_dir, &options.master_key_file, gate).map(Into::into),
            Some(inherited) => {
                store::open_copy(data_dir, &options.master_key_file, gate, inherited)
            }
        };
        let opened: SourceOpened = opened.map_err(OpenError::Store)?;
        let sealer = opened.sealer.inspect_err(|error| {
            tracing::error!(%error, "{MASTER_KEY_LOST}");
        });
        let Rows { apps, keys, usage } = opened.rows;
        let rows = Rows {
            apps,
            keys,
            usage: Vec::new(),
        };
        let registry = Registry::load(Compiler::new(sealer.ok()), rows).map_err(|error| {
            let file = options.data_dir.join(store::FILE_NAME);
            OpenError::Store(StoreError::Damaged(file, error.to_string()))
        })?;
        let registry = registry
            .redeclared(&options.declared)
            .map_err(OpenError::Declared)?;
        let mut ledger = Ledger::new(usage);
        ledger.follow(&registry, (options.clock)().unix_sec());
        let bind = |given| bind(given, admin);
        let admin = options.admin.map(bind).transpose()?;
        let (serving, _) = watch::channel(is_first);
        let (report_sender, reports) = mpsc::channel(REPORTS_MAX);
        let (request_sender, requests) = mpsc::unbounded_channel();
        Ok(Self {
            rights: Arc::new(registry.rights()),
            registry: Arc::new(registry),
            store: opened.source,
            ledger,
            admin,
            clock: Arc::clone(&options.clock),
            log_events: options.log_events,
            handle: ControlHandle {
                reports: report_sender,
                requests: request_sender,
                showcase: Showcase::default(),
                sessions: Arc::default(),
                clock: Arc::clone(&options.clock),
                serving,
            },
            reports,
            requests,
        })
    }

    /// The first snapshot, for the shards to begin with.
    #[must_use]
    pub(crate) fn rights(&self) -> Arc<Rights> {
        Arc::clone(&self.rights)
    }

    /// For shards and signals.
    #[must_use]
    pub(crate) fn handle(&self) -> ControlHandle {
        self.handle.clone()
    }

    /// A copy of the admin listener, for the process after this one.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub(crate) fn admin_listener(&self) -> std::io::Result<Option<TcpListener>> {
        let admin = self.admin.as_ref();
        admin.map(|admin| admin.listener.try_clone()).transpose()
    }

    /// Where the admin API listens.
    #[must_use]
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
            .as_ref()
            .and_then(|admin| admin.listener.local_addr().ok())
    }

    /// Whether the admin token is easy to guess.
    #[must_use]
    pub(crate) fn has_short_token(&self) -> bool {
        self.admin
            .as_ref()
            .is_some_and(|admin| admin.access.is_short)
    }

    /// Starts the control thread. Call it from outside the shards: a thread inherits the core
    /// that its maker is pinned to.
    ///
    /// # Errors
    /// `System` when there is no thread or event loop to be had.
    pub(crate) fn start(self, shards: Arc<dyn Shards>) -> Result<RunningControlPlane, OpenError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(OpenError::System)?;
        let store = StoreWriter::start(self.store).map_err(OpenError::System)?;
        let log = LogTail::new(self.log_events, shards.events());
        let engine = Engine::new(self.registry, store, self.ledger, shards, self.clock);
        let engine = Arc::new(engine);
        let (stop, stopped) = watch::channel(false);
        let sampler = Arc::new(Sampler::default());
        let admin = self.admin.map(|listening| {
            let (showcase, sessions) = (self.handle.showcase.clone(), self.handle.sessions.clone());
            let shown = (showcase, sessions, Arc::clone(&sampler));
            let told = (self.handle.serving.subscribe(), stopped.clone());
            admin::serve(listening, Arc::clone(&engine), shown, told)
        });
        let parts = (engine, sampler, log);
        let serve = run(parts, admin, self.reports, self.requests, stopped);
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || runtime.block_on(serve))
            .map_err(OpenError::System)?;
        Ok(RunningControlPlane { thread, stop })
    }
}

impl RunningControlPlane {
    /// Ends it: finishes the change under way, merges every report that was made before, writes
    /// usage down and closes the store. Call it when the shards have made their last report.
    pub(crate) fn shutdown(self) {
        // Without a receiver the thread has ended already.
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the control thread has panicked");
        }
    }
}

impl ControlHandle {
    /// Reports what a shard has counted since its last report, about once a second. Never
    /// blocks.
    ///
    /// # Errors
    /// The deltas, when they cannot be taken now: add them to the next report.
    pub fn report_usage(&self, deltas: Vec<UsageDelta>) -> Result<(), Vec<UsageDelta>> {
        self.reports
            .try_send(deltas)
            .map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Asks for a change, as the admin API does.
    #[must_use]
    pub fn change(&self, change: Change) -> Promise<Outcome> {
        let (sender, receiver) = oneshot::channel();
        // Where the thread has ended, the sender goes with the request, and so says it.
        let _ = self.requests.send(Request::Change(change, sender));
        Promise(receiver)
    }

    /// Shows pages on the admin listener, to anybody.
    pub fn show(&self, site: Site) {
        self.showcase.show(site);
    }

    /// Makes a code that signs in to the console once, within a minute.
    ///
    /// # Errors
    /// `Unavailable` when the system has no random bytes.
    pub(crate) fn sign_in_code(&self) -> Result<Zeroizing<String>, ControlError> {
        self.sessions.code((self.clock)())
    }

    /// Keeps changes waiting from now on, and copies the store.
    ///
    /// # Errors
    /// `Unavailable`: the store cannot be written or read, or not in time.
    pub(crate) fn hold(&self, deadline: std::time::Instant) -> Result<HeldStore, ControlError> {
        HeldStore::ask(deadline, |handing| self.hand(handing))
    }

    /// What all apps have used, by what was reported before, for another process.
    ///
    /// # Errors
    /// `Unavailable`: not in time.
    pub(crate) fn usage(&self, deadline: std::time::Instant) -> Result<Vec<u8>, ControlError> {
        let (answer, heard) = flume::bounded(1);
        self.hand(Handing::Usage(answer));
        heard
            .recv_deadline(deadline)
            .unwrap_or_else(|_| Err(late()))
    }

    /// Goes on with what apps have used in another process.
    ///
    /// # Errors
    /// `Invalid`: it cannot be read; `Unavailable`: not in time.
    pub(crate) fn adopt_usage(
        &self,
        usage: Vec<u8>,
        deadline: std::time::Instant,
    ) -> Result<(), ControlError> {
        let (answer, heard) = flume::bounded(1);
        self.hand(Handing::Adopt(usage, answer));
        heard
            .recv_deadline(deadline)
            .unwrap_or_else(|_| Err(late()))
    }

    fn hand(&self, handing: Handing) {
        // Where the thread has ended, whoever asked hears nothing in time.
        let _ = self.requests.send(Request::Hand(handing));
    }

    /// Whether the admin listener accepts from now on; what has come waits.
    pub(crate) fn set_serving(&self, is_serving: bool) {
        self.serving.send_replace(is_serving);
    }

    /// Replaces the declared apps (SIGHUP).
    #[must_use]
    pub fn reload_declared(&self, declared: Declared) -> Promise<()> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.requests.send(Request::Redeclare(declared, sender));
        Promise(receiver)
    }
}

impl<T> Promise<T> {
    /// Blocks the thread until the answer comes. Not from a shard.
    ///
    /// # Errors
    /// Those of the change; `Unavailable` when the control plane has ended.
    pub fn wait(self) -> Result<T, ControlError> {
        self.0.blocking_recv().unwrap_or_else(|_| Err(ended()))
    }
}

impl<T> Future for Promise<T> {
    type Output = Result<T, ControlError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or_else(|_| Err(ended())))
    }
}

fn ended() -> ControlError {
    ControlError::Unavailable("the server is shutting down".into())
}

/// That an answer did not come in time.
fn late() -> ControlError {
    ControlError::Unavailable("the control thread did not answer in time".into())
}

fn bind(
    options: AdminOptions,
    inherited: Option<(TcpListener, SocketAddr)>,
) -> Result<Listening, OpenError> {
    let access = admin::Access::new(
        &options.token_file,
        options.read_token_file.as_deref(),
        options.protect_metrics,
    );
    let access = access.map_err(OpenError::Token)?;
    let is_there = |(it, configured): &(TcpListener, SocketAddr)| {
        *configured == options.listen || it.local_addr().is_ok_and(|it| it == options.listen)
    };
    let inherited = inherited.filter(is_there);
    let listener = inherited
        .map_or_else(|| listen(options.listen), |(listener, _)| Ok(listener))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| OpenError::Listen(options.listen, error))?;
    Ok(Listening {
        listener,
        access,
        hosts: HostNames(options.hosts.into()),
    })
}

/// Tries a taken port for a second: a killed predecessor's is free a moment after its end.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let deadline = std::time::Instant::now() + PORT_TIME_MAX;
    loop {
        match TcpListener::bind(address) {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && std::time::Instant::now() < deadline =>
            {
                std::thread::sleep(PORT_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

async fn run(
    (engine, sampler, log): (Arc<Engine>, Arc<Sampler>, LogTail),
    admin: Option<impl Future<Output = ()> + Send + 'static>,
    mut reports: mpsc::Receiver<Vec<UsageDelta>>,
    mut requests: mpsc::UnboundedReceiver<Request>,
    mut stopped: watch::Receiver<bool>,
) {
    let admin = admin.map(tokio::spawn);
    let mut saves = Saves::new();
    let mut telling = Telling::new(log);
    sampler.run(&engine);
    let mut next_tick = Instant::now();
    loop {
        // All four are cancel safe: the losers of a turn are asked again in the next.
        tokio::select! {
            _ = stopped.changed() => break,
            Some(deltas) = reports.recv() => engine.merge_usage(&deltas),
            Some(request) = requests.recv() => {
                if let Request::Hand(Handing::Usage(_)) = request {
                    // Whoever asks has reported before.
                    while let Ok(deltas) = reports.try_recv() {
                        engine.merge_usage(&deltas);
                    }
                }
                carry_out(request, Arc::clone(&engine));
            }
            () = tokio::time::sleep_until(next_tick) => {
                // A period that is due before the next tick begins on time.
                let due = engine.tick().filter(|due| !due.is_zero()).unwrap_or(TICK);
                next_tick = Instant::now() + due.min(TICK);
                saves.tick(&engine);
                let events = engine.shards().events();
                events.tick();
                events.hold(Cause::StoreFailed, engine.store().failure().as_deref());
                telling.tick(events);
            }
        }
    }
    while let Ok(deltas) = reports.try_recv() {
        engine.merge_usage(&deltas);
    }
    if tokio::time::timeout(END_TIME_MAX, engine.end())
        .await
        .is_err()
    {
        tracing::error!(
            "the disk hangs: the server ends without the last save of its usage, and changes that \
             wait for the disk are not made"
        );
    }
    // What happened since the last second, the end of the drain among it.
    let events = engine.shards().events();
    events.tick();
    telling.end(events).await;
    if let Some(admin) = admin {
        // The task only fails by a panic, which has been reported.
        let _ = admin.await;
    }
}

/// Tells the log what is recorded, never twice at once. That reads rings of many megabytes, so it
/// is not done on the control thread.
struct Telling {
    log: Arc<Mutex<LogTail>>,
    under_way: Option<Task<()>>,
}

impl Telling {
    fn new(log: LogTail) -> Self {
        Self {
            log: Arc::new(Mutex::new(log)),
            under_way: None,
        }
    }

    fn tick(&mut self, events: &Arc<Events>) {
        if self.under_way.as_ref().is_none_or(Task::is_finished) {
            self.under_way = Some(self.begin(events));
        }
    }

    /// Tells the rest.
    async fn end(mut self, events: &Arc<Events>) {
        // Both only fail by a panic, which has been reported.
        if let Some(task) = self.under_way.take() {
            let _ = task.await;
        }
        let _ = self.begin(events).await;
    }

    fn begin(&self, events: &Arc<Events>) -> Task<()> {
        let (log, events) = (Arc::clone(&self.log), Arc::clone(events));
        tokio::task::spawn_blocking(move || {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.tick(&events);
        })
    }
}

/// In a task of its own: a change is never cut off, and reports go on while shards switch.
fn carry_out(request: Request, engine: Arc<Engine>) {
    tokio::spawn(async move {
        // Changes of others come by the admin API.
        let by = Author::local(AuthorKind::Server);
        // Whoever asked may have gone; the change holds all the same.
        match request {
            Request::Change(change, answer) => {
                let _ = answer.send(engine.change(change, by).await);
            }
            Request::Redeclare(declared, answer) => {
                let _ = answer.send(engine.redeclare(declared).await);
            }
            Request::Hand(handing) => handing.carry_out(&engine).await,
        }
    });
}

#[cfg(test)]
mod tests;
