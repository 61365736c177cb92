//! A server of the attack's own: `ringmesh serve` on loopback with the configuration that a row
//! asks for, in a directory of its own, ended with the value.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::failure::Failure;
use crate::limits;

/// Publishable key with all rights.
pub(super) const KEY: &str = "pk_live_abuse";
/// Id of the secret key.
pub(super) const SECRET_KEY_ID: &str = "sk_id_abuse";
/// Its signing secret.
pub(super) const SIGNING_SECRET: &str = "sk_secret_of_the_attack_program_only_0123456789";
/// Its API secret.
pub(super) const API_SECRET: &str = "sk_live_of_the_attack_program_only_0123456789";
/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(20);
/// How long the end may take before it is forced.
const STOP_MAX: Duration = Duration::from_secs(3);

/// What a server is started with.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    settings: BTreeMap<String, String>,
    wishes: BTreeMap<String, String>,
    app: String,
    shards: usize,
    descriptors: Option<u64>,
    /// The key of its certificate, if it speaks TLS.
    pub tls: Option<TlsKey>,
}

/// What a TLS handshake costs the server is mostly a signature with this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsKey {
    /// RSA with 4,096 bits, which costs more than most.
    Rsa4096,
    /// ECDSA on P-256, as most have it.
    P256,
}

impl Setup {
    /// One shard on free ports of loopback, no limit on connects, everything else at its default.
    pub(super) fn new() -> Setup {
        Setup {
            settings: BTreeMap::new(),
            wishes: BTreeMap::new(),
            app: String::new(),
            shards: 1,
            descriptors: None,
            tls: None,
        }
        .set("server.listen", r#"["127.0.0.1:0"]"#)
        .set("admin.listen", r#""127.0.0.1:0""#)
        .set("admin.token_file", r#""admin.token""#)
        .set("store.data_dir", r#""data""#)
        .set("limits.connects_per_address", 0)
        .set("shutdown.drain_ms", 200)
        .set("log.format", r#""json""#)
    }

    /// Sets a key to a TOML value.
    pub(super) fn set(mut self, key: &str, value: impl Display) -> Setup {
        self.settings.insert(key.into(), value.to_string());
        self
    }

    /// Sets a key that older servers do not know; they are started without it.
    pub(super) fn wish(mut self, key: &str, value: impl Display) -> Setup {
        self.wishes.insert(key.into(), value.to_string());
        self
    }

    /// Adds a line to the declared app.
    pub(super) fn app(mut self, line: &str) -> Setup {
        self.app += line;
        self.app += "\n";
        self
    }

    /// Speaks TLS with such a key.
    pub(super) fn with_tls(mut self, key: TlsKey) -> Setup {
        self.tls = Some(key);
        self
    }

    /// Has so many descriptors.
    pub(super) fn with_descriptors(mut self, count: u64) -> Setup {
        self.descriptors = Some(count);
        self
    }

    /// Has so many shards.
    pub(super) fn with_shards(mut self, count: usize) -> Setup {
        self.shards = count;
        self
    }

    /// No rate of messages or requests.
    pub(super) fn without_rates(self) -> Setup {
        self.set("limits.message_rate", 0)
            .set("rest.rate_per_key", 0)
    }

    /// The configuration of a server whose shards have these cores.
    fn text(&self, cores: &[usize]) -> String {
        let settings = self.settings.iter().chain(&self.wishes);
        let settings = settings.map(|(key, it)| format!("{key} = {it}\n"));
        let mut text: String = settings.collect();
        text += &format!(
            "server.shards = {}\nserver.cores = {cores:?}\n",
            self.shards
        );
        let rights = "channel_patterns = [\"**\"]\n\
                      actions = [\"publish\", \"subscribe\", \"presence\", \"send\"]\n";
        text += &format!(
            "[[apps]]\nid = \"app_abuse\"\n{}\n[[apps.keys]]\nid = \"{KEY}\"\n{rights}\
             [[apps.keys]]\nid = \"{SECRET_KEY_ID}\"\n{rights}\
             signing_secret_file = \"signing.secret\"\napi_secret_file = \"api.secret\"\n",
            self.app
        );
        if self.tls.is_some() {
            text += "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
        }
        text
    }
}

/// A running server.
pub(super) struct Server {
    child: Child,
    directory: TempDir,
    executable: PathBuf,
    setup: Setup,
    /// Public address.
    pub public: SocketAddr,
    /// Admin address.
    pub admin: SocketAddr,
    /// Token of the admin API.
    pub admin_token: String,
    /// Settings that this server does not know.
    pub lacks: Vec<String>,
}

impl Server {
    /// Starts the executable and waits until it listens.
    ///
    /// # Errors
    /// [`Failure::Spawn`] with what it said instead.
    pub(super) fn start(executable: &Path, setup: &Setup) -> Result<Server, Failure> {
        match Server::try_start(executable, setup) {
            Err(Failure::Spawn(said)) if names_one_of(&said, &setup.wishes) => {
                let lacks = setup.wishes.keys().cloned().collect();
                let mut known = setup.clone();
                known.wishes.clear();
                let mut server = Server::try_start(executable, &known)?;
                server.lacks = lacks;
                Ok(server)
            }
            outcome => outcome,
        }
    }

    fn try_start(executable: &Path, setup: &Setup) -> Result<Server, Failure> {
        let directory = tempfile::tempdir().map_err(|it| Failure::Spawn(it.to_string()))?;
        if let Some(key) = setup.tls {
            write_certificate(directory.path(), key)?;
        }
        write(directory.path(), "signing.secret", SIGNING_SECRET)?;
        write(directory.path(), "api.secret", API_SECRET)?;
        let (child, (public, admin)) = launch(executable, setup, directory.path())?;
        let token = read(directory.path(), "admin.token")?;
        Ok(Server {
            child,
            directory,
            executable: executable.into(),
            setup: setup.clone(),
            public,
            admin,
            admin_token: token.trim().to_owned(),
            lacks: Vec::new(),
        })
    }

    /// Kills it as `kill -9` does.
    pub(super) fn kill(&mut self) {
        // Then it is not there any more.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    /// Starts it again after [`kill`](Server::kill), with the same addresses and data.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub(super) fn start_again(&mut self) -> Result<(), Failure> {
        let setup = self.setup.clone();
        let setup = setup
            .set("server.listen", format!("[\"{}\"]", self.public))
            .set("admin.listen", format!("\"{}\"", self.admin));
        (self.child, _) = launch(&self.executable, &setup, self.directory.path())?;
        Ok(())
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// PEM file of its certificate.
    pub(super) fn certificate(&self) -> String {
        self.directory.path().join("cert.pem").display().to_string()
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) {
        // A server that has ended is found by `has_ended`.
        let _gone = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Its exit, if it has ended.
    pub(super) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end; `None` after `wait`.
    pub(super) fn wait(&mut self, wait: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + wait;
        loop {
            if let Some(status) = self.has_ended() {
                return Some(status);
            }
            if Instant::now() > end {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        if self.wait(STOP_MAX).is_none() {
            self.kill();
        }
    }
}

/// Starts the executable in that directory, and waits until it listens: at both addresses.
fn launch(
    executable: &Path,
    setup: &Setup,
    directory: &Path,
) -> Result<(Child, (SocketAddr, SocketAddr)), Failure> {
    let cores = limits::server_cores(setup.shards)?;
    write(directory, "ringmesh.toml", &setup.text(&cores))?;
    let mut command = command(executable, setup.descriptors);
    command
        .args(["serve", "--config"])
        .arg(directory.join("ringmesh.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"RINGMESH_") {
            command.env_remove(name);
        }
    }
    let mut child = limits::spawn_on_all_cores(&mut command)
        .map_err(|error| Failure::Spawn(format!("{}: {error}", executable.display())))?;
    let lines = lines_of(&mut child);
    match addresses(&lines) {
        Ok(found) => Ok((child, found)),
        Err(said) => {
            // It may have ended of itself.
            let _ended = child.kill();
            let _status = child.wait();
            Err(Failure::Spawn(said))
        }
    }
}

/// `sh` lowers the limit of descriptors where one is given.
fn command(executable: &Path, descriptors: Option<u64>) -> Command {
    let Some(descriptors) = descriptors else {
        return Command::new(executable);
    };
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(executable);
    command
}

/// The log, line by line; it is read on until the server ends, so that its pipe never fills.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = channel();
    if let Some(stderr) = child.stderr.take() {
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody listens after the start.
                let _unheard = sender.send(line);
            }
        });
    }
    lines
}

/// Public and admin address, or what the server said instead.
fn addresses(lines: &Receiver<String>) -> Result<(SocketAddr, SocketAddr), String> {
    let end = Instant::now() + START_MAX;
    let mut said = String::new();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(found) = listening(&line) {
                    return Ok(found);
                }
                said = line;
            }
            Err(RecvTimeoutError::Disconnected) => return Err(said),
            Err(RecvTimeoutError::Timeout) => return Err(format!("no start in time: {said}")),
        }
    }
}

fn listening(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let event: Value = serde_json::from_str(line).ok()?;
    if event["message"] != "listening" {
        return None;
    }
    let public = event["addresses"].as_str()?.split(',').next()?.trim();
    Some((public.parse().ok()?, event["admin"].as_str()?.parse().ok()?))
}

fn names_one_of(said: &str, keys: &BTreeMap<String, String>) -> bool {
    let names = keys.keys().filter_map(|key| key.rsplit('.').next());
    names.into_iter().any(|name| said.contains(name))
}

fn write(directory: &Path, name: &str, content: &str) -> Result<(), Failure> {
    let path = directory.join(name);
    std::fs::write(&path, content).map_err(|error| Failure::File {
        path: path.display().to_string(),
        cause: error.to_string(),
    })
}

fn read(directory: &Path, name: &str) -> Result<String, Failure> {
    let path = directory.join(name);
    std::fs::read_to_string(&path).map_err(|error| Failure::File {
        path: path.display().to_string(),
        cause: error.to_string(),
    })
}

/// A self-signed certificate.
fn write_certificate(directory: &Path, key: TlsKey) -> Result<(), Failure> {
    let failed = |error: rcgen::Error| Failure::Spawn(format!("no certificate: {error}"));
    let key = match key {
        TlsKey::P256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        TlsKey::Rsa4096 => {
            let algorithm = &rcgen::PKCS_RSA_SHA256;
            rcgen::KeyPair::generate_rsa_for(algorithm, rcgen::RsaKeySize::_4096)
        }
    };
    let key = key.map_err(failed)?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let parameters = rcgen::CertificateParams::new(names).map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    write(directory, "cert.pem", &certificate.pem())?;
    write(directory, "key.pem", &key.serialize_pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_toml_and_wishes_can_be_left_out() {
        let setup = Setup::new()
            .without_rates()
            .wish("limits.memory_bytes", 1_000)
            .app("direct_scope = \"shared-channel\"");
        let mut without = setup.clone();
        without.wishes.clear();
        for (setup, with_wishes) in [(without, false), (setup, true)] {
            let parsed: toml::Table = setup.text(&[0, 2]).parse().expect("TOML");
            let limits = parsed["limits"].as_table().expect("a table");
            assert_eq!(limits.contains_key("memory_bytes"), with_wishes);
            let app = &parsed["apps"].as_array().expect("apps")[0];
            assert_eq!(app["direct_scope"].as_str(), Some("shared-channel"));
            let cores = parsed["server"]["cores"].as_array().expect("a list");
            assert_eq!(cores.len(), 2);
        }
    }

    #[test]
    fn the_addresses_are_taken_from_the_log() {
        let line = r#"{"message":"listening","addresses":"127.0.0.1:1","admin":"127.0.0.1:2"}"#;
        let found = listening(line).expect("both");
        assert_eq!((found.0.port(), found.1.port()), (1, 2));
        assert_eq!(listening(r#"{"message":"starting"}"#), None);
        assert_eq!(listening("text"), None);
    }

    #[test]
    fn an_executable_that_is_none_is_a_failure_with_its_name() {
        let outcome = Server::start(Path::new("/nonexistent/ringmesh"), &Setup::new());
        let failure = outcome.err().expect("nothing to start");
        assert!(failure.to_string().contains("/nonexistent/ringmesh"));
    }
}
