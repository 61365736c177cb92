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
    AdminOptions, ControlHandle, ControlOptions, ControlPlane, Later, RunningControlPlane, Shards,
};
use crate::domain::declared::Declared;
use crate::domain::rights::Rights;
use crate::domain::time::Now;
use crate::metrics::report::{NodeReport, ShardReport};
use crate::metrics::text::MetricsPage;

/// Shards that remember the snapshots they have switched to.
#[derive(Default)]
pub struct StubShards {
    pub switched: Mutex<Vec<Arc<Rights>>>,
    pub unready: AtomicBool,
    /// Held, a switch does not finish, and no metrics are told.
    pub gate: tokio::sync::Mutex<()>,
    asked: AtomicU32,
}

impl StubShards {
    /// How often metrics were asked for.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn rights(&self) -> Arc<Rights> {
        Arc::clone(self.switched.lock().unwrap().last().expect("a switch"))
    }

    pub fn versions(&self) -> Vec<u64> {
        self.switched
            .lock()
            .unwrap()
            .iter()
            .map(|rights| rights.version)
            .collect()
    }
}

impl Shards for StubShards {
    fn switch(&self, rights: Arc<Rights>) -> Later<'_, ()> {
        Box::pin(async move {
            let _open = self.gate.lock().await;
            self.switched.lock().unwrap().push(rights);
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

    fn metrics(&self) -> Later<'_, MetricsPage> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let _open = self.gate.lock().await;
            let mut page = MetricsPage::default();
            page.sample("connections", &[("shard", "0".to_owned())], 3);
            page
        })
    }

    fn unready(&self) -> Option<String> {
        self.unready
            .load(Ordering::Relaxed)
            .then(|| "shard 1 does not accept yet".to_owned())
    }
}

/// A control plane at work.
pub struct Server {
    pub running: RunningControlPlane,
    pub handle: ControlHandle,
    pub shards: Arc<StubShards>,
    pub first: Arc<Rights>,
    pub admin: SocketAddr,
    pub token: String,
}

/// A disk that can be full, lose what it was to make durable, or hang.
#[derive(Default)]
pub struct Disk {
    pub full: AtomicBool,
    /// Syncs until one fails; 0: none does.
    pub syncs_until_failure: AtomicU32,
    hanging: Mutex<bool>,
    woken: Condvar,
}

impl Disk {
    pub fn hang(&self, hangs: bool) {
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

pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

pub fn options(dir: &Path) -> ControlOptions {
    ControlOptions {
        data_dir: dir.join("data"),
        master_key_file: dir.join("data/master.key"),
        admin: Some(AdminOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token_file: dir.join("admin.token"),
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
    }
}

impl Server {
    pub fn start(dir: &Path) -> Self {
        Self::with(options(dir)).unwrap()
    }

    pub fn with(options: ControlOptions) -> Result<Self, OpenError> {
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
    pub fn on_disk(dir: &Path) -> (Self, Arc<Disk>) {
        let disk = Arc::new(Disk::default());
        let mut options = options(dir);
        options.store_gate = Some(Arc::clone(&disk) as Arc<dyn WriteGate>);
        (Self::with(options).unwrap(), disk)
    }

    /// Status and JSON body of a request with the token.
    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
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
    pub fn expect(&self, status: u16, method: &str, path: &str, body: Option<Value>) -> Value {
        let (found, value) = self.call(method, path, body);
        assert_eq!(found, status, "{method} {path}: {value}");
        value
    }
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Sends bytes and reads the answer to the end of the stream.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
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
    Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}
