//! A control plane in a scratch directory, with shards that only remember.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use super::plane::OpenError;
use super::store::WriteGate;
use super::{
    AdminOptions, ControlHandle, ControlOptions, ControlPlane, Kick, Later, RunningControlPlane,
    Shards,
};
use crate::control::events::tests::Scene;
use crate::control::events::{Events, LogEvents};
use crate::domain::app_id::AppTag;
use crate::domain::configuration::{ReloadReport, Setting};
use crate::domain::declared::Declared;
use crate::domain::history_page::{HistoryAsked, HistoryTold};
use crate::domain::look::{Look, Seen};
use crate::domain::node_info::NodeInfo;
use crate::domain::rights::Rights;
use crate::domain::time::Now;
use crate::domain::trace::Trace;
use crate::domain::upgrade::{UpgradeDone, UpgradeFailed};
use crate::events::author::Author;
use crate::metrics::report::{NodeReport, ShardReport};
use crate::metrics::text::MetricsPage;

/// Shards that remember the snapshots they have switched to.
pub(super) struct StubShards {
    pub switched: Mutex<Vec<Arc<Rights>>>,
    pub unready: AtomicBool,
    /// Held, a switch does not finish, and no metrics are told.
    pub gate: tokio::sync::Mutex<()>,
    asked: AtomicU32,
    pub scene: Mutex<Scene>,
    events: Arc<Events>,
    /// What the shards see.
    pub seen: Mutex<Vec<Option<Seen>>>,
    /// Who was to be disconnected.
    pub kicked: Mutex<Vec<Kick>>,
}

impl Default for StubShards {
    fn default() -> Self {
        let scene = Scene::new(1 << 20);
        Self {
            switched: Mutex::default(),
            unready: AtomicBool::default(),
            gate: tokio::sync::Mutex::default(),
            asked: AtomicU32::default(),
            events: Arc::clone(&scene.events),
            scene: Mutex::new(scene),
            seen: Mutex::default(),
            kicked: Mutex::default(),
        }
    }
}

impl StubShards {
    /// How often metrics were asked for.
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn rights(&self) -> Arc<Rights> {
        Arc::clone(self.switched.lock().unwrap().last().expect("a switch"))
    }

    pub(super) fn versions(&self) -> Vec<u64> {
        self.switched
            .lock()
            .unwrap()
            .iter()
            .map(|rights| rights.version)
            .collect()
    }
}

impl Shards for StubShards {
    /// Closes as many as there are snapshots.
    fn switch(&self, rights: Arc<Rights>) -> Later<'_, u64> {
        Box::pin(async move {
            let _open = self.gate.lock().await;
            let mut switched = self.switched.lock().unwrap();
            switched.push(rights);
            switched.len() as u64
        })
    }

    fn stats(&self) -> Later<'_, NodeReport> {
        let shard = ShardReport {
            connections: 3,
            ..ShardReport::default()
        };
        let report = NodeReport {
            shards: vec![shard],
            ..NodeReport::default()
        };
        Box::pin(async { report })
    }

    fn node(&self) -> NodeInfo {
        NodeInfo::default()
    }

    fn metrics(&self) -> Later<'_, MetricsPage> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let _open = self.gate.lock().await;
            let mut page = MetricsPage::default();
            page.sample("connections", &[("shard", "0".to_owned())], 3);
            page
        })
    }

    fn settings(&self) -> Vec<Setting> {
        Vec::new()
    }

    fn reload(&self, _by: Author) -> Later<'_, Option<ReloadReport>> {
        Box::pin(async { None })
    }

    fn upgrade(&self) -> Later<'_, Option<Result<UpgradeDone, UpgradeFailed>>> {
        Box::pin(async { Some(Err(UpgradeFailed::new("check", "there is no process"))) })
    }

    fn events(&self) -> &Arc<Events> {
        &self.events
    }

    fn kick(&self, kick: Kick) -> Later<'_, Option<u64>> {
        let count = match kick.connection {
            None => kick.peer.len() as u64,
            Some(_) => 1,
        };
        self.kicked.lock().unwrap().push(kick);
        Box::pin(async move { Some(count) })
    }

    /// Nobody answers.
    fn history(
        &self,
        _app: AppTag,
        _channel: &str,
        _asked: HistoryAsked,
    ) -> Later<'_, Option<HistoryTold>> {
        Box::pin(async { None })
    }

    fn connected(&self, _app: AppTag, peer: &str) -> Later<'_, u64> {
        let count = peer.len() as u64;
        Box::pin(async move { count })
    }

    /// Two shards, each with what a test has put there.
    fn trace(&self, _: Trace) -> Later<'_, bool> {
        Box::pin(async { true })
    }

    fn look(&self, _look: Look) -> Vec<(u16, Later<'_, Option<Seen>>)> {
        let seen = self.seen.lock().unwrap().clone();
        let each = seen.into_iter().map(|seen| -> Later<'_, Option<Seen>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { seen })
        });
        (0..).zip(each).collect()
    }

    fn unready(&self) -> Option<String> {
        self.unready
            .load(Ordering::Relaxed)
            .then(|| "shard 1 does not accept yet".to_owned())
    }
}

/// A control plane at work.
pub(super) struct Server {
    pub running: RunningControlPlane,
    pub handle: ControlHandle,
    pub shards: Arc<StubShards>,
    pub first: Arc<Rights>,
    pub admin: SocketAddr,
    pub token: String,
}

/// A disk that can be full, lose what it was to make durable, or hang.
#[derive(Default)]
pub(super) struct Disk {
    pub full: AtomicBool,
    /// Syncs until one fails; 0: none does.
    pub syncs_until_failure: AtomicU32,
    hanging: Mutex<bool>,
    woken: Condvar,
}

impl Disk {
    pub(super) fn hang(&self, hangs: bool) {
        *self.hanging.lock().unwrap() = hangs;
        self.woken.notify_all();
    }
}

impl WriteGate for Disk {
    fn write(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            // ENOSPC.
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let hanging = self.hanging.lock().unwrap();
        drop(self.woken.wait_while(hanging, |hangs| *hangs).unwrap());
        match self.syncs_until_failure.load(Ordering::SeqCst) {
            0 => Ok(()),
            left => {
                self.syncs_until_failure.store(left - 1, Ordering::SeqCst);
                if left > 1 {
                    return Ok(());
                }
                Err(io::Error::other("lost"))
            }
        }
    }
}

pub(super) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

pub(super) fn options(dir: &Path) -> ControlOptions {
    ControlOptions {
        log_events: LogEvents::Off,
        data_dir: dir.join("data"),
        master_key_file: dir.join("data/master.key"),
        admin: Some(AdminOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token_file: dir.join("admin.token"),
            read_token_file: None,
            protect_metrics: false,
            hosts: vec![],
        }),
        declared: Declared {
            file: Path::new("ringmesh.toml").into(),
            apps: vec![],
        },
        // 2026-01-02T00:00:00Z.
        clock: Arc::new(|| Now {
            mono_ms: 0,
            unix_ms: 1_767_312_000_000,
        }),
        store_gate: None,
        inherited: None,
    }
}

impl Server {
    pub(super) fn start(dir: &Path) -> Self {
        Self::with(options(dir)).unwrap()
    }

    pub(super) fn with(options: ControlOptions) -> Result<Self, OpenError> {
        let token_file = options.admin.as_ref().unwrap().token_file.clone();
        let control = ControlPlane::open(options)?;
        let (handle, first) = (control.handle(), control.rights());
        let admin = control.admin_address().unwrap();
        let token = std::fs::read_to_string(token_file)
            .unwrap()
            .trim()
            .to_owned();
        let shards = Arc::new(StubShards::default());
        let running = control.start(Arc::clone(&shards) as Arc<dyn Shards>)?;
        Ok(Self {
            running,
            handle,
            shards,
            first,
            admin,
            token,
        })
    }

    /// Like [`start`](Self::start), on a disk that may fail.
    pub(super) fn on_disk(dir: &Path) -> (Self, Arc<Disk>) {
        let disk = Arc::new(Disk::default());
        let mut options = options(dir);
        options.store_gate = Some(Arc::clone(&disk) as Arc<dyn WriteGate>);
        (Self::with(options).unwrap(), disk)
    }

    /// Status and JSON body of a request with the token.
    pub(super) fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map_or(String::new(), |body| body.to_string());
        let (token, length) = (&self.token, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        let answer = exchange(self.admin, request.as_bytes());
        (
            answer.status,
            serde_json::from_str(&answer.body).unwrap_or(Value::Null),
        )
    }

    /// Like [`call`](Self::call), where the status must be the given one.
    pub(super) fn expect(
        &self,
        status: u16,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let (found, value) = self.call(method, path, body);
        assert_eq!(found, status, "{method} {path}: {value}");
        value
    }
}

pub(super) struct Answer {
    pub status: u16,
    pub head: String,
    /// The first cookie that is set.
    pub cookie: Option<String>,
    pub body: String,
}

/// Sends bytes and reads the answer to the end of the stream.
pub(super) fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    // A server that closes with our bytes unread resets the stream after its answer.
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let mut cookies = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("set-cookie")
            .then(|| value.to_owned())
    });
    Answer {
        status,
        cookie: cookies.next(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}
