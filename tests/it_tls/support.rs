//! A server with a certificate, clients over TLS and over plain TCP.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{KeyPair, SignatureAlgorithm};
use rustix::process::{Pid, Signal, kill_process};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

pub(crate) const HOST: &str = "ringmesh.test";
/// Longest wait for anything: machines that run tests are slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A directory with a configuration, a certificate and its key.
pub(crate) struct Site {
    pub dir: TempDir,
    trusted: CertificateDer<'static>,
}

impl Site {
    pub(crate) fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        Self::with_key(&KeyPair::generate_for(algorithm).unwrap())
    }

    pub(crate) fn with_key(signing_key: &KeyPair) -> Self {
        let mut site = Self {
            dir: TempDir::new().unwrap(),
            trusted: CertificateDer::from(Vec::new()),
        };
        site.certify(&[HOST], signing_key);
        site
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// Another certificate in the same files.
    pub(crate) fn renew(&mut self, algorithm: &'static SignatureAlgorithm) {
        self.certify(&[HOST], &KeyPair::generate_for(algorithm).unwrap());
    }

    /// Another certificate, which ends in so many days.
    pub(crate) fn renew_for_days(&mut self, days: i64, algorithm: &'static SignatureAlgorithm) {
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        let end = end.to_zoned(jiff::tz::TimeZone::UTC);
        let (month, day) = (end.month() as u8, end.day() as u8);
        let end = (end.year().into(), month, day);
        let key = KeyPair::generate_for(algorithm).unwrap();
        self.certify_until(&[HOST], &key, Some(end));
    }

    /// Another certificate, for these names.
    pub(crate) fn renew_for(&mut self, names: &[&str], algorithm: &'static SignatureAlgorithm) {
        self.certify(names, &KeyPair::generate_for(algorithm).unwrap());
    }

    /// Another certificate, for these names, that is marked as that of a CA.
    pub(crate) fn renew_as_ca(&mut self, names: &[&str], algorithm: &'static SignatureAlgorithm) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        self.sign(params, &key);
    }

    /// Another certificate, good up to the beginning of that year.
    pub(crate) fn renew_until(&mut self, year: i32, algorithm: &'static SignatureAlgorithm) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        self.certify_until(&[HOST], &key, Some((year, 1, 1)));
    }

    fn certify(&mut self, names: &[&str], signing_key: &KeyPair) {
        self.certify_until(names, signing_key, None);
    }

    fn certify_until(&mut self, names: &[&str], signing_key: &KeyPair, end: Option<(i32, u8, u8)>) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        if let Some((year, month, day)) = end {
            params.not_after = rcgen::date_time_ymd(year, month, day);
        }
        self.sign(params, signing_key);
    }

    fn sign(&mut self, params: rcgen::CertificateParams, signing_key: &KeyPair) {
        let cert = params.self_signed(signing_key).unwrap();
        self.write("cert.pem", &cert.pem());
        self.write("key.pem", &signing_key.serialize_pem());
        self.trusted = cert.der().clone();
    }

    /// A client that trusts the present certificate only.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    pub(crate) fn command(&self, sections: &str) -> Command {
        let text = format!(
            "[admin]\nlisten = \"\"\n[store]\ndata_dir = \"data\"\n[shutdown]\ndrain_ms = 100\n\
             {sections}\n[[apps]]\nid = \"app\"\n[[apps.keys]]\nid = \"pk_live_app\"\n\
             channel_patterns = [\"**\"]\nactions = [\"subscribe\", \"publish\"]\n"
        );
        self.write("ringmesh.toml", &text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmesh"));
        command
            .args(["serve", "--config"])
            .arg(self.dir.path().join("ringmesh.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// A server with these sections of the configuration, listening.
    pub(crate) fn serve(&self, sections: &str) -> Server {
        Server::start(self.command(sections))
    }
}

pub(crate) const TLS: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\nshards = 4\n\
    [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
    [limits]\nconnects_per_address = 0\nmessage_rate = 0\nhead_timeout_ms = 10000\n";

pub(crate) struct Server {
    pub child: Child,
    log: Receiver<String>,
    /// The first address that speaks TLS, or else the first.
    pub address: SocketAddr,
    /// The first address.
    pub first: SocketAddr,
    /// The address of the admin API; most servers here have none.
    pub admin: Option<SocketAddr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts the command, and waits until it listens.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (sender, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Self {
            child,
            log,
            address: SocketAddr::from(([0; 4], 0)),
            first: SocketAddr::from(([0; 4], 0)),
            admin: None,
        };
        let line = server.logged("listening");
        server.admin = first_of(&line, " admin=");
        server.first = first_of(&line, " addresses=").unwrap();
        server.address = first_of(&line, " tls=").unwrap_or(server.first);
        server
    }

    /// Waits for a line of the log.
    #[track_caller]
    pub(crate) fn logged(&self, part: &str) -> String {
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(error) => panic!("no line with {part:?}: {error}"),
            }
        }
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.admin.unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let page = String::from_utf8(until_end(stream)).unwrap();
        let value = page
            .lines()
            .find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
        value
            .unwrap_or_else(|| panic!("no {name}: {page}"))
            .parse()
            .unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Memory of the process in bytes: `VmRSS` of proc(5).
    pub(crate) fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(crate) fn tls(&self, config: &Arc<ClientConfig>) -> TlsStream {
        tls_over(config, self.tcp()).unwrap()
    }

    pub(crate) fn websocket(&self, config: &Arc<ClientConfig>) -> WebSocket<TlsStream> {
        upgraded(self.tls(config))
    }
}

/// The first address of a list in a line of the log.
fn first_of(line: &str, key: &str) -> Option<SocketAddr> {
    let list = line.split(key).nth(1)?.split(' ').next()?;
    list.split(',').next()?.parse().ok()
}

/// Completes a handshake.
pub(crate) fn tls_over(
    config: &Arc<ClientConfig>,
    mut stream: TcpStream,
) -> std::io::Result<TlsStream> {
    let name = ServerName::try_from(HOST).unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

pub(crate) fn upgraded<S: Read + Write>(stream: S) -> WebSocket<S> {
    let url = format!("ws://{HOST}/v1?key=pk_live_app");
    let (mut socket, _) = match tungstenite::client(url, stream) {
        Ok(done) => done,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(next(&mut socket)["type"], "welcome");
    socket
}

pub(crate) fn next<S: Read + Write>(socket: &mut WebSocket<S>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

pub(crate) fn send<S: Read + Write>(socket: &mut WebSocket<S>, message: &Value) {
    socket.send(Message::text(message.to_string())).unwrap();
}

/// The connection serves a request.
pub(crate) fn round_trip<S: Read + Write>(socket: &mut WebSocket<S>) -> Duration {
    let begun = Instant::now();
    send(socket, &json!({"type": "ping"}));
    assert_eq!(next(socket)["type"], "pong");
    begun.elapsed()
}

/// What still comes until the server ends the stream.
pub(crate) fn until_end(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not ended: {error}"),
    }
    bytes
}
