//! The executable over TLS and behind proxies: clients that are not ours, certificates that
//! change, handshakes that stall, storms.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustix::process::{Pid, Signal, kill_process};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

const HOST: &str = "ringmesh.test";
/// Longest wait for anything: machines that run tests are slow and shared.
const PATIENCE: Duration = Duration::from_secs(20);
const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A directory with a configuration, a certificate and its key.
struct Site {
    dir: TempDir,
    trusted: CertificateDer<'static>,
}

impl Site {
    fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        let mut site = Self {
            dir: TempDir::new().unwrap(),
            trusted: CertificateDer::from(Vec::new()),
        };
        site.renew(algorithm);
        site
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// Another certificate in the same files.
    fn renew(&mut self, algorithm: &'static SignatureAlgorithm) {
        let signing_key = KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let cert = params.self_signed(&signing_key).unwrap();
        self.write("cert.pem", &cert.pem());
        self.write("key.pem", &signing_key.serialize_pem());
        self.trusted = cert.der().clone();
    }

    /// A client that trusts the present certificate only.
    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
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

    fn command(&self, sections: &str) -> Command {
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
    fn serve(&self, sections: &str) -> Server {
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
        };
        let line = server.logged("listening");
        let addresses = line.split("addresses=").nth(1).unwrap();
        server.address = addresses
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        server
    }
}

const TLS: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\nshards = 4\n\
    [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
    [limits]\nconnects_per_address = 0\nmessage_rate = 0\nhead_timeout_ms = 10000\n";

struct Server {
    child: Child,
    log: Receiver<String>,
    address: SocketAddr,
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
    fn logged(&self, part: &str) -> String {
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(error) => panic!("no line with {part:?}: {error}"),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn tls(&self, config: &Arc<ClientConfig>) -> TlsStream {
        tls_over(config, self.tcp()).unwrap()
    }

    fn websocket(&self, config: &Arc<ClientConfig>) -> WebSocket<TlsStream> {
        upgraded(self.tls(config))
    }
}

/// Completes a handshake.
fn tls_over(config: &Arc<ClientConfig>, mut stream: TcpStream) -> std::io::Result<TlsStream> {
    let name = ServerName::try_from(HOST).unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

fn upgraded<S: Read + Write>(stream: S) -> WebSocket<S> {
    let url = format!("ws://{HOST}/v1?key=pk_live_app");
    let (mut socket, _) = match tungstenite::client(url, stream) {
        Ok(done) => done,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(next(&mut socket)["type"], "welcome");
    socket
}

fn next<S: Read + Write>(socket: &mut WebSocket<S>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

fn send<S: Read + Write>(socket: &mut WebSocket<S>, message: &Value) {
    socket.send(Message::text(message.to_string())).unwrap();
}

/// The connection answers.
fn round_trip<S: Read + Write>(socket: &mut WebSocket<S>) -> Duration {
    let begun = Instant::now();
    send(socket, &json!({"type": "ping"}));
    assert_eq!(next(socket)["type"], "pong");
    begun.elapsed()
}

/// What still comes until the server ends the stream.
fn until_end(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not ended: {error}"),
    }
    bytes
}

#[test]
fn clients_talk_over_both_versions_with_both_kinds_of_keys() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256] {
        let site = Site::new(algorithm);
        let server = site.serve(TLS);
        for version in BOTH {
            let config = site.client(&[version]);
            let mut reader = server.websocket(&config);
            send(
                &mut reader,
                &json!({"type": "subscribe", "channel": "a/b", "requestId": "1"}),
            );
            while next(&mut reader)["type"] != "ack" {}
            let mut writer = server.websocket(&config);
            // Larger than a record, and than what is read at once.
            let data = "x".repeat(60_000);
            for _ in 0..10 {
                send(
                    &mut writer,
                    &json!({"type": "publish", "channel": "a/b", "data": data}),
                );
                assert_eq!(next(&mut reader)["data"], data);
            }
        }
    }
}

#[test]
fn sessions_are_resumed_on_every_shard() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    for version in BOTH {
        let config = site.client(&[version]);
        for attempt in 0..16 {
            let socket = server.websocket(&config);
            let kind = socket.get_ref().conn.handshake_kind();
            let expected = if attempt == 0 {
                HandshakeKind::Full
            } else {
                HandshakeKind::Resumed
            };
            assert_eq!(kind, Some(expected), "{version:?}, attempt {attempt}");
        }
    }
}

#[test]
fn a_drain_ends_the_stream_in_order() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let mut server = site.serve(TLS);
    let mut socket = server.websocket(&site.client(&BOTH));
    server.signal(Signal::TERM);
    assert_eq!(next(&mut socket)["type"], "going_away");
    let Message::Close(Some(close)) = socket.read().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!(u16::from(close.code), 1_001);
    let _ = socket.flush();
    // An end without `close_notify` would be an error here.
    assert_eq!(socket.get_mut().read(&mut [0]).unwrap(), 0);
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn plain_http_on_a_tls_port_is_told_so() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    let mut stream = server.tcp();
    write!(stream, "POST /v1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
    // More than the server reads before it answers: the answer must survive it.
    let _ = stream.write_all(&[b'x'; 100_000]);
    let answer = String::from_utf8(until_end(&stream)).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(answer.contains("https://"), "{answer}");
}

#[test]
fn what_is_not_tls_is_closed() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    let mut live = server.websocket(&site.client(&BOTH));
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        &[0; 1_000],
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut stream = server.tcp();
        stream.write_all(garbage).unwrap();
        let alert = until_end(&stream);
        assert!(alert.len() <= 7, "no more than an alert: {alert:?}");
    }
    round_trip(&mut live);
}

#[test]
fn handshakes_that_stall_are_given_up() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(&TLS.replace("head_timeout_ms = 10000", "head_timeout_ms = 500"));
    let config = site.client(&BOTH);
    let begun = Instant::now();
    let silent = server.tcp();
    let mut partial = server.tcp();
    partial.write_all(b"\x16\x03\x01\x01\x00\x01").unwrap();
    let mut unheard = server.tls(&config);
    let mut slow = server.tcp();
    let slow_ended = loop {
        // One byte at a time of a record that never ends.
        if slow.write_all(b"\x16").is_err() || begun.elapsed() > PATIENCE {
            break begun.elapsed();
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert!(slow_ended < PATIENCE);
    assert!(until_end(&silent).is_empty());
    assert!(until_end(&partial).is_empty());
    let mut answer = String::new();
    let _ = unheard.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn certificates_change_under_live_connections() {
    let mut site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    let first = site.client(&BOTH);
    let mut live = server.websocket(&first);

    site.renew(&PKCS_RSA_SHA256);
    server.signal(Signal::HUP);
    server.logged("new connections get the certificate");
    let second = site.client(&BOTH);
    server.websocket(&second);
    round_trip(&mut live);

    site.renew(&PKCS_ECDSA_P256_SHA256);
    server.logged("new connections get the certificate");
    let third = site.client(&BOTH);
    server.websocket(&third);

    site.write("key.pem", "not a key");
    server.logged("the certificate in use is kept");
    server.signal(Signal::HUP);
    server.logged("the certificate in use is kept");
    server.websocket(&third);
    round_trip(&mut live);
    // A session outlives the certificate that it was begun with.
    let resumed = server.websocket(&first);
    let kind = resumed.get_ref().conn.handshake_kind();
    assert_eq!(kind, Some(HandshakeKind::Resumed));
}

#[test]
fn a_certificate_that_cannot_be_used_ends_the_start() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    site.write("key.pem", "not a key");
    let output = site.command(TLS).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("key.pem holds no readable private key"),
        "{text}"
    );
}

/// Handshakes of a storm: all of their first flights are under way before any is answered.
const STORM_THREADS: usize = 4;
const STORM_CONNECTS_EACH: usize = 500;

#[test]
fn a_storm_of_handshakes_starves_nobody() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let one_shard = TLS.replace("shards = 4", "shards = 1");
    let server = site.serve(&one_shard);
    let config = site.client(&[&TLS13]);
    let mut live = server.websocket(&config);
    let together = Arc::new(Barrier::new(STORM_THREADS + 1));
    let storm: Vec<_> = (0..STORM_THREADS)
        .map(|_| {
            let (config, together, address) = (config.clone(), together.clone(), server.address);
            thread::spawn(move || {
                let streams: Vec<_> = (0..STORM_CONNECTS_EACH)
                    .map(|_| TcpStream::connect(address).unwrap())
                    .collect();
                together.wait();
                let begun = Instant::now();
                for stream in &streams {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    send_first_flight(&config, stream);
                }
                for mut stream in &streams {
                    // The first byte of the server's flight: the costly part is done.
                    stream.read_exact(&mut [0]).unwrap();
                }
                begun.elapsed()
            })
        })
        .collect();
    together.wait();
    let mut trips = Vec::new();
    while !storm.iter().all(thread::JoinHandle::is_finished) {
        trips.push(round_trip(&mut live));
    }
    let took = storm
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .max()
        .unwrap();
    trips.sort();
    let worst = trips[trips.len() - 1];
    assert!(trips.len() > 20, "{} round trips in {took:?}", trips.len());
    assert!(worst < took / 4, "{worst:?} of {took:?}");
}

fn send_first_flight(config: &Arc<ClientConfig>, mut stream: &TcpStream) {
    let name = ServerName::try_from(HOST).unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).unwrap();
    connection.write_tls(&mut stream).unwrap();
}

/// A PROXY protocol header for a client's address.
fn proxy_header(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend_from_slice(&client);
    header.extend_from_slice(&[127, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb]);
    header
}

/// The status of an attempt to connect, with these headers behind those bytes.
fn attempt(mut stream: impl Read + Write, headers: &str) -> String {
    let head = format!(
        "GET /v1?key=wrong HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\n\
         Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    String::from_utf8(status.to_vec()).unwrap()
}

const REFUSED: &str = "HTTP/1.1 401";
const LIMITED: &str = "HTTP/1.1 429";

fn behind_proxies(trusted: &str, server: &str, more: &str) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nshards = 2\ntrusted_proxies = [\"{trusted}\"]\n\
         {server}\n[limits]\nconnects_per_address = 2\n{more}"
    )
}

#[test]
fn connects_are_counted_for_the_client_that_a_trusted_proxy_names() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(&behind_proxies("127.0.0.0/8", "", ""));
    let from = |client: &str| attempt(server.tcp(), &format!("X-Forwarded-For: {client}\r\n"));
    for _ in 0..2 {
        assert_eq!(from("203.0.113.1"), REFUSED);
        assert_eq!(from("192.0.2.66, 203.0.113.2"), REFUSED);
    }
    assert_eq!(from("203.0.113.1"), LIMITED);
    assert_eq!(from("198.51.100.1, 203.0.113.2"), LIMITED);
    assert_eq!(from("203.0.113.3"), REFUSED);
}

#[test]
fn strangers_cannot_choose_their_address() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(&behind_proxies("10.0.0.0/8", "proxy_protocol = true", ""));
    assert_eq!(
        attempt(server.tcp(), "X-Forwarded-For: 203.0.113.1\r\n"),
        REFUSED
    );
    assert_eq!(
        attempt(server.tcp(), "X-Forwarded-For: 203.0.113.2\r\n"),
        REFUSED
    );
    assert_eq!(
        attempt(server.tcp(), "X-Forwarded-For: 203.0.113.3\r\n"),
        LIMITED
    );
    let mut stream = server.tcp();
    stream.write_all(&proxy_header([203, 0, 113, 4])).unwrap();
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
    let answer = String::from_utf8(until_end(&stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn a_trusted_proxy_introduces_its_connections() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let tls = "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
    for (more, is_tls) in [("", false), (tls, true)] {
        let server = site.serve(&behind_proxies(
            "127.0.0.0/8",
            "proxy_protocol = true",
            more,
        ));
        let config = site.client(&BOTH);
        let from = |client: [u8; 4]| {
            let mut stream = server.tcp();
            for byte in proxy_header(client) {
                stream.write_all(&[byte]).unwrap();
            }
            if is_tls {
                attempt(tls_over(&config, stream).unwrap(), "")
            } else {
                attempt(stream, "")
            }
        };
        assert_eq!(from([203, 0, 113, 1]), REFUSED);
        assert_eq!(from([203, 0, 113, 1]), REFUSED);
        assert_eq!(from([203, 0, 113, 1]), LIMITED);
        assert_eq!(from([203, 0, 113, 2]), REFUSED);
        // Without the header it has nothing to say.
        let mut stream = server.tcp();
        let _ = write!(stream, "GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        assert!(until_end(&stream).is_empty());
    }
}
