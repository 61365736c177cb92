//! What no client should send: bytes that are not TLS, handshakes that stall, grow or go back to
//! what is no longer safe. All of it ends in bounded time, and nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets};

use crate::support::{
    BOTH, HOST, PATIENCE, Server, Site, TLS, TlsStream, round_trip, tls_over, until_end,
};

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

/// The first flight of a client.
fn hello(config: Arc<ClientConfig>) -> Vec<u8> {
    let mut connection = ClientConnection::new(config, HOST.try_into().unwrap()).unwrap();
    let mut flight = Vec::new();
    connection.write_tls(&mut flight).unwrap();
    flight
}

/// What the server has to say to these bytes, until it ends the stream.
fn answer(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = server.tcp();
    stream.write_all(bytes).unwrap();
    until_end(&stream)
}

/// Where the version stands in the record, and in the hello in it.
const RECORD_VERSION: usize = 1;
const HELLO_VERSION: usize = 9;

#[test]
fn older_versions_are_refused_with_an_alert() {
    const PROTOCOL_VERSION: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 70];
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    let mut live = server.websocket(&site.client(&BOTH));
    let modern = hello(site.client(&[&TLS12]));
    // Without supported_versions, which RFC 8446 gave the number 43, as old clients are.
    let offer = [0, 43, 0, 3, 2, 3, 3];
    let at = modern.windows(offer.len()).position(|it| it == offer);
    for minor in [0, 1, 2] {
        let mut old = modern.clone();
        old[at.unwrap()..at.unwrap() + 2].copy_from_slice(&[0x7a, 0x7a]);
        old[RECORD_VERSION + 1] = minor;
        old[HELLO_VERSION + 1] = minor;
        assert_eq!(answer(&server, &old), PROTOCOL_VERSION, "version 3.{minor}");
    }
    // A hello in the form of SSL 2.
    let ssl2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x03\x00\x80";
    assert!(answer(&server, ssl2).len() <= 7);
    round_trip(&mut live);
}

#[test]
fn a_client_that_was_talked_down_can_tell() {
    // The end of the server's random, where it speaks 1.3 too (RFC 8446, section 4.1.3).
    const SENTINEL: &[u8] = b"DOWNGRD\x01";
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    for (version, told) in [(&TLS12, true), (&TLS13, false)] {
        let mut stream = server.tcp();
        stream.write_all(&hello(site.client(&[version]))).unwrap();
        let mut start = [0; 5 + 6 + 32];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(start.ends_with(SENTINEL), told, "{version:?}");
    }
}

#[test]
fn handshakes_that_are_cut_or_grow_are_ended() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    let config = site.client(&BOTH);
    let mut live = server.websocket(&config);
    let whole = hello(config);
    for end in [1, 4, 5, 6, 9, 40, whole.len() - 1] {
        let stream = server.tcp();
        (&stream).write_all(&whole[..end]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(until_end(&stream).is_empty(), "cut at {end}");
    }
    // A hello that announces 60,000 bytes, in records that are each acceptable.
    let mut growing = Vec::new();
    for record in 0..4 {
        growing.extend_from_slice(&[0x16, 3, 1, 0x40, 0]);
        let start = growing.len();
        growing.resize(start + (1 << 14), 0);
        if record == 0 {
            growing[start..start + 4].copy_from_slice(&[1, 0, 0xea, 0x60]);
        }
    }
    let mut stream = server.tcp();
    // It is refused before all of it is there.
    let _ = stream.write_all(&growing);
    assert!(until_end(&stream).len() <= 7);
    round_trip(&mut live);
}

#[test]
fn handshakes_that_wait_hold_little_memory() {
    const WAITING: u64 = 400;
    /// A record that is not whole, and what a connection has anyway.
    const BYTES_EACH_MAX: u64 = 40_000;
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    let config = site.client(&BOTH);
    let mut live = server.websocket(&config);
    let before = server.memory_bytes();
    let mut record = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc];
    record.resize(16_000, 0);
    let waiting: Vec<TcpStream> = (0..WAITING)
        .map(|_| {
            let mut stream = server.tcp();
            stream.write_all(&record).unwrap();
            stream
        })
        .collect();
    // Behind all of them: so they have been read.
    for _ in 0..8 {
        drop(server.websocket(&config));
    }
    round_trip(&mut live);
    let grown = server.memory_bytes().saturating_sub(before);
    assert!(grown / WAITING < BYTES_EACH_MAX, "{grown} bytes");
    drop(waiting);
    round_trip(&mut live);
}

/// A TLS 1.2 connection, and what encrypts a record of the client's from the next on.
struct Renegotiator {
    stream: TcpStream,
    key: LessSafeKey,
    salt: [u8; 4],
    sequence: u64,
}

impl Renegotiator {
    fn new(stream: TlsStream) -> Self {
        let secrets = stream.conn.dangerous_extract_secrets().unwrap();
        let (sequence, ConnectionTrafficSecrets::Aes128Gcm { key, iv }) = secrets.tx else {
            panic!("another cipher suite");
        };
        Self {
            stream: stream.sock,
            key: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap()),
            salt: iv.as_ref()[..4].try_into().unwrap(),
            sequence,
        }
    }

    /// RFC 5288, section 3, and RFC 5246, section 6.2.3.3.
    fn send(&mut self, kind: u8, plaintext: &[u8]) {
        let explicit = self.sequence.to_be_bytes();
        let nonce = [&self.salt[..], &explicit].concat();
        let length = (plaintext.len() as u16).to_be_bytes();
        let aad = [&explicit[..], &[kind, 3, 3], &length].concat();
        let mut body = plaintext.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(&nonce).unwrap();
        let sealed = self
            .key
            .seal_in_place_append_tag(nonce, Aad::from(aad), &mut body);
        sealed.unwrap();
        self.sequence += 1;
        let length = (body.len() as u16 + 8).to_be_bytes();
        let record = [&[kind, 3, 3], &length[..], &explicit, &body].concat();
        self.stream.write_all(&record).unwrap();
    }

    /// The kind of the next record; its body is not looked at.
    fn kind_of_next(&mut self) -> u8 {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header).unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        self.stream.read_exact(&mut body).unwrap();
        header[0]
    }
}

#[test]
fn renegotiation_is_refused_and_then_ends_the_connection() {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    const DATA: u8 = 23;
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    let mut live = server.websocket(&site.client(&BOTH));
    let mut config = Arc::unwrap_or_clone(site.client(&[&TLS12]));
    config.enable_secret_extraction = true;
    let again = hello(Arc::new(config.clone()))[5..].to_vec();
    let stream = tls_over(&Arc::new(config), server.tcp()).unwrap();
    let mut client = Renegotiator::new(stream);
    let get = format!("GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    client.send(DATA, get.as_bytes());
    assert_eq!(client.kind_of_next(), DATA);
    // A warning, no_renegotiation: the connection goes on.
    client.send(HANDSHAKE, &again);
    assert_eq!(client.kind_of_next(), ALERT);
    client.send(DATA, get.as_bytes());
    assert_eq!(client.kind_of_next(), DATA);
    client.send(HANDSHAKE, &again);
    let rest = until_end(&client.stream);
    assert!(rest.len() < 100, "no more than alerts: {rest:?}");
    round_trip(&mut live);
}
