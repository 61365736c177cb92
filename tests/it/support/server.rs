//! The real executable, started, watched and ended.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::admin::Api;
use super::client::Client;
use super::lines::Lines;
use super::raw::{Raw, Response, handshake};
use super::setup::Setup;
use super::token::token;
use super::until;

/// A running server. Ended with the value.
pub(crate) struct Server {
    child: Child,
    /// The process that has taken over from it.
    successor: Option<Pid>,
    pub log: Lines,
    pub output: Lines,
    pub public: SocketAddr,
    admin: Option<SocketAddr>,
    setup: Option<Setup>,
}

impl Drop for Server {
    #[expect(
        clippy::print_stderr,
        reason = "what the harness shows of a failed test"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let ended = self.child.try_wait();
            let log = self.log.so_far().join("\n");
            eprintln!("the server of the failed test (exit: {ended:?}) said:\n{log}");
        }
        if let Some(pid) = self.successor {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    #[track_caller]
    pub(crate) fn serve(setup: Setup) -> Self {
        let mut command = ringmesh();
        command.arg("serve").arg("--config").arg(setup.config());
        Self::start(command, setup)
    }

    /// `ringmesh dev` in its directory, on ports that the system chooses, with its app and keys.
    #[track_caller]
    pub(crate) fn dev() -> Self {
        let setup = Setup::new(1);
        let mut command = ringmesh();
        command
            .args(["dev", "--listen", "0", "--admin", ":0", "--shards", "1"])
            .env("RINGMESH_LOG__FORMAT", "json")
            .current_dir(setup.dir());
        let server = Self::start(command, setup);
        server.output.find("the keys", |line| {
            line.contains("publishable key").then_some(())
        });
        server
    }

    /// Starts a command that serves, and waits until it listens.
    #[track_caller]
    pub(crate) fn start(mut command: Command, setup: Setup) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let output = Lines::of(child.stdout.take().unwrap());
        let mut server = Self {
            child,
            successor: None,
            log,
            output,
            public: SocketAddr::from(([0; 4], 0)),
            admin: None,
            setup: Some(setup),
        };
        (server.public, server.admin) = server.log.find("the addresses", listening);
        server
    }

    /// A client with the publishable key of `app_a`.
    #[track_caller]
    pub(crate) fn anonymous(&self) -> Client {
        self.connect("?key=pk_live_a")
    }

    /// A client of `app_a` with all rights and this peer id.
    #[track_caller]
    pub(crate) fn peer(&self, id: &str) -> Client {
        self.with_claims(json!({"sub": id}))
    }

    /// The same without the `presence` action: it gets no presence frames.
    #[track_caller]
    pub(crate) fn quiet_peer(&self, id: &str) -> Client {
        self.with_claims(json!({"sub": id, "permissions": ["publish", "subscribe", "send"]}))
    }

    /// A client of `app_a` with a token of these claims.
    #[track_caller]
    pub(crate) fn with_claims(&self, claims: Value) -> Client {
        self.connect(&format!("?token={}", token("sk_id_a", claims)))
    }

    #[track_caller]
    pub(crate) fn connect(&self, query: &str) -> Client {
        Client::connect(self.public, query, &[])
    }

    #[track_caller]
    pub(crate) fn raw(&self) -> Raw {
        Raw::open(self.public)
    }

    /// What a handshake is answered with, be it refused or not.
    #[track_caller]
    pub(crate) fn attempt(&self, target: &str, headers: &str) -> Response {
        let mut raw = self.raw();
        raw.write(handshake(target, headers));
        raw.response()
    }

    /// The admin API, without its prefix.
    #[track_caller]
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin.expect("no admin listener")
    }

    /// The admin API with its token.
    #[track_caller]
    pub(crate) fn admin(&self) -> Api {
        let token = std::fs::read_to_string(self.dir().join("data/admin.token")).unwrap();
        Api {
            address: self.admin_address(),
            bearer: token.trim().into(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.setup.as_ref().unwrap().dir()
    }

    /// Writes the configuration again, changed.
    pub(crate) fn reconfigure(&mut self, change: impl FnOnce(Setup) -> Setup) {
        let setup = change(self.setup.take().unwrap());
        setup.config();
        self.setup = Some(setup);
    }

    /// What it was started with, to start another in the same directory; ends this one.
    pub(crate) fn into_setup(mut self) -> Setup {
        self.setup.take().unwrap()
    }

    pub(crate) fn pid(&self) -> Pid {
        self.successor
            .unwrap_or_else(|| Pid::from_child(&self.child))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Whether the process has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks for an upgrade, which must come to its end. Returns what is told of it.
    #[track_caller]
    pub(crate) fn upgrade(&mut self) -> Value {
        let admin = self.admin();
        let mut raw = Raw::open(admin.address);
        raw.wait_longer();
        raw.write(admin.request("POST", "/api/internal/v1/upgrade", None));
        let response = raw.response();
        assert_eq!(response.status, 200, "{response:?}");
        let done = response.json();
        self.upgraded(&done);
        done
    }

    /// An upgrade has come to its end.
    pub(crate) fn upgraded(&mut self, done: &Value) {
        let pid = i32::try_from(done["pid"].as_i64().unwrap()).unwrap();
        self.successor = Pid::from_raw(pid);
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        let mut status = None;
        until("the server's exit", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Kills it without warning and starts it again on the same addresses.
    #[track_caller]
    pub(crate) fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let (public, admin) = (self.public, self.admin_address());
        // A connection of another test may have got one of the ports meanwhile.
        until("its ports are free", || {
            [public, admin]
                .map(TcpListener::bind)
                .iter()
                .all(Result::is_ok)
        });
        self.reconfigure(|setup| {
            setup
                .set("server.listen", format!("[\"{public}\"]"))
                .set("admin.listen", format!("\"{admin}\""))
        });
        *self = Self::serve(self.setup.take().unwrap());
        assert_eq!((self.public, self.admin), (public, Some(admin)));
    }

    /// Memory of the process in bytes: `VmRSS` of proc(5).
    pub(crate) fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }
}

/// The executable under test.
pub(crate) fn ringmesh() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmesh"));
    // The configuration is the test's alone.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"RINGMESH_") {
            command.env_remove(name);
        }
    }
    command
}

/// The public and the admin address in a line of the log.
fn listening(line: &str) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let event: Value = serde_json::from_str(line).ok()?;
    if event["message"] != "listening" {
        return None;
    }
    let public = event["addresses"]
        .as_str()?
        .split(',')
        .next()?
        .parse()
        .ok()?;
    Some((
        public,
        event["admin"].as_str().and_then(|it| it.parse().ok()),
    ))
}
