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

pub const HOST: &str = "ringmesh.test";
/// Longest wait for anything: machines that run tests are slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A directory with a configuration, a certificate and its key.
pub struct Site {
    pub dir: TempDir,
    trusted: CertificateDer<'static>,
}

impl Site {
    pub fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        let mut site = Self {
            dir: TempDir::new().unwrap(),
            trusted: CertificateDer::from(Vec::new()),
        };
        site.renew(algorithm);
        site
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// Another certificate in the same files.
    pub fn renew(&mut self, algorithm: &'static SignatureAlgorithm) {
        let signing_key = KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let cert = params.self_signed(&signing_key).unwrap();
        self.write("cert.pem", &cert.pem());
        self.write("key.pem", &signing_key.serialize_pem());
        self.trusted = cert.der().clone();
    }

    /// A client that trusts the present certificate only.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
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

    pub fn command(&self, sections: &str) -> Command {
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
    pub fn serve(&self, sections: &str) -> Server {
        let mut child = self.command(sections).spawn().unwrap();
        let (sender, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Server {
            child,
            log,
            address: SocketAddr::from(([0; 4], 0)),
            first: SocketAddr::from(([0; 4], 0)),
        };
        let line = server.logged("listening");
        server.first = first_of(&line, " addresses=").unwrap();
        server.address = first_of(&line, " tls=").unwrap_or(server.first);
        server
    }
}

pub const TLS: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\nshards = 4\n\
    [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
    [limits]\nconnects_per_address = 0\nmessage_rate = 0\nhead_timeout_ms = 10000\n";

pub struct Server {
    pub child: Child,
    log: Receiver<String>,
    /// The first address that speaks TLS, or else the first.
    pub address: SocketAddr,
    /// The first address.
    pub first: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Waits for a line of the log.
    #[track_caller]
    pub fn logged(&self, part: &str) -> String {
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(error) => panic!("no line with {part:?}: {error}"),
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Memory of the process in bytes: `VmRSS` of proc(5).
    pub fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }

    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub fn tls(&self, config: &Arc<ClientConfig>) -> TlsStream {
        tls_over(config, self.tcp()).unwrap()
    }

    pub fn websocket(&self, config: &Arc<ClientConfig>) -> WebSocket<TlsStream> {
        upgraded(self.tls(config))
    }
}

/// The first address of a list in a line of the log.
fn first_of(line: &str, key: &str) -> Option<SocketAddr> {
    let list = line.split(key).nth(1)?.split(' ').next()?;
    list.split(',').next()?.parse().ok()
}

/// Completes a handshake.
pub fn tls_over(config: &Arc<ClientConfig>, mut stream: TcpStream) -> std::io::Result<TlsStream> {
    let name = ServerName::try_from(HOST).unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

pub fn upgraded<S: Read + Write>(stream: S) -> WebSocket<S> {
    let url = format!("ws://{HOST}/v1?key=pk_live_app");
    let (mut socket, _) = match tungstenite::client(url, stream) {
        Ok(done) => done,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(next(&mut socket)["type"], "welcome");
    socket
}

pub fn next<S: Read + Write>(socket: &mut WebSocket<S>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

pub fn send<S: Read + Write>(socket: &mut WebSocket<S>, message: &Value) {
    socket.send(Message::text(message.to_string())).unwrap();
}

/// The connection serves a request.
pub fn round_trip<S: Read + Write>(socket: &mut WebSocket<S>) -> Duration {
    let begun = Instant::now();
    send(socket, &json!({"type": "ping"}));
    assert_eq!(next(socket)["type"], "pong");
    begun.elapsed()
}

/// What still comes until the server ends the stream.
pub fn until_end(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not ended: {error}"),
    }
    bytes
}
