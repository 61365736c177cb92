//! A session against rustls' own client, in memory: whole, in pieces, and misled.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, SupportedProtocolVersion};

use super::testing::{HOST, Identity};
use super::*;

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The server's end: what a runtime would keep for one connection.
struct Server {
    session: TlsSession,
    plaintext: Vec<u8>,
    output: Vec<u8>,
}

impl Server {
    fn new(config: &TlsConfig) -> Self {
        Self {
            session: TlsSession::new(config).unwrap(),
            plaintext: Vec::new(),
            output: Vec::new(),
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<Progress, TlsFault> {
        let mut input = self.session.held().to_vec();
        input.extend_from_slice(bytes);
        self.session
            .receive(&mut input, &mut self.plaintext, &mut self.output)
    }

    fn encrypt(&mut self, plaintext: &[u8]) {
        self.session.encrypt(plaintext, &mut self.output).unwrap();
    }

    /// Returns how many bytes that has added.
    fn close(&mut self) -> usize {
        let before = self.output.len();
        self.session.close(&mut self.output);
        self.output.len() - before
    }
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from(HOST).unwrap()).unwrap()
}

fn flight(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Hands the server's output over. Returns what the client has to read.
fn deliver(server: &mut Server, client: &mut ClientConnection) -> Vec<u8> {
    let output = std::mem::take(&mut server.output);
    let mut rest = &output[..];
    while !rest.is_empty() {
        client.read_tls(&mut rest).unwrap();
        client.process_new_packets().unwrap();
    }
    let mut plaintext = Vec::new();
    let _ = client.reader().read_to_end(&mut plaintext);
    plaintext
}

/// Completes the handshake, with the client's flights in pieces of `piece` bytes.
fn shake_hands(server: &mut Server, client: &mut ClientConnection, piece: usize) {
    for _ in 0..3 {
        for bytes in flight(client).chunks(piece) {
            server.receive(bytes).unwrap();
        }
        deliver(server, client);
    }
    assert!(!client.is_handshaking());
    assert_eq!(server.session.progress(), Progress::Open);
}

fn connected(
    identity: &Identity,
    version: &'static SupportedProtocolVersion,
) -> (Server, ClientConnection) {
    let config = identity.config(&TicketKeys::generate().unwrap());
    let mut server = Server::new(&config);
    let mut client = client(&Arc::new(identity.client(&[version])));
    shake_hands(&mut server, &mut client, usize::MAX);
    (server, client)
}

#[test]
fn both_versions_and_both_kinds_of_keys_carry_bytes_both_ways() {
    for identity in [Identity::ecdsa(), Identity::rsa()] {
        for version in BOTH {
            let (mut server, mut client) = connected(&identity, version);
            assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(client.protocol_version(), Some(version.version));
            client.writer().write_all(b"hello").unwrap();
            server.receive(&flight(&mut client)).unwrap();
            assert_eq!(server.plaintext, b"hello");
            server.encrypt(b"well met");
            assert_eq!(deliver(&mut server, &mut client), b"well met");
            assert!(server.session.held().is_empty());
        }
    }
}

#[test]
fn a_connection_in_pieces_is_the_same_connection() {
    let identity = Identity::ecdsa();
    let config = identity.config(&TicketKeys::generate().unwrap());
    for version in BOTH {
        let client_config = Arc::new(identity.client(&[version]));
        for piece in [1, 2, 3, 5, 6, 7, 64, 500] {
            let mut server = Server::new(&config);
            let mut client = client(&client_config);
            shake_hands(&mut server, &mut client, piece);
            client.writer().write_all(b"first").unwrap();
            client.writer().write_all(b"second").unwrap();
            client.send_close_notify();
            let mut progress = Progress::Open;
            for bytes in flight(&mut client).chunks(piece) {
                progress = server.receive(bytes).unwrap();
            }
            assert_eq!(server.plaintext, b"firstsecond", "pieces of {piece}");
            assert_eq!(progress, Progress::PeerClosed);
        }
    }
}

#[test]
fn records_are_as_large_as_they_may_be_and_one_call_makes_one() {
    let (mut server, mut client) = connected(&Identity::ecdsa(), &TLS13);
    let plaintext = vec![7; RECORD_PLAINTEXT_BYTES_MAX];
    server.encrypt(&plaintext);
    let body = u16::from_be_bytes([server.output[3], server.output[4]]);
    assert_eq!(usize::from(body) + 5, server.output.len());
    let mut received = deliver(&mut server, &mut client);
    assert_eq!(received, plaintext);
    client.writer().write_all(&plaintext).unwrap();
    for bytes in flight(&mut client).chunks(1_000) {
        server.receive(bytes).unwrap();
    }
    received.clear();
    assert_eq!(server.plaintext, plaintext);
    assert!(server.session.held().is_empty());
}

#[test]
fn a_ticket_of_one_shard_and_certificate_is_good_on_all_others() {
    let mut identity = Identity::ecdsa();
    let tickets = TicketKeys::generate().unwrap();
    for version in BOTH {
        let before = identity.config(&tickets);
        let client_config = Arc::new(identity.client(&[version]));
        identity.renew(&PKCS_ECDSA_P256_SHA256);
        let after = identity.config(&tickets);
        let strange = identity.config(&TicketKeys::generate().unwrap());
        for (config, kind) in [
            (&before, HandshakeKind::Full),
            (&before, HandshakeKind::Resumed),
            (&after, HandshakeKind::Resumed),
        ] {
            let mut server = Server::new(config);
            let mut client = client(&client_config);
            shake_hands(&mut server, &mut client, usize::MAX);
            assert_eq!(client.handshake_kind(), Some(kind), "{version:?}");
        }
        // Unknown ticket keys cost a full handshake, and the client sees the new certificate.
        let mut server = Server::new(&strange);
        let mut client = client(&client_config);
        server.receive(&flight(&mut client)).unwrap();
        let mut rest = &server.output[..];
        client.read_tls(&mut rest).unwrap();
        let error = client.process_new_packets().unwrap_err();
        assert!(
            matches!(error, rustls::Error::InvalidCertificate(_)),
            "{error}"
        );
    }
}

#[test]
fn either_side_may_close_and_the_other_still_hears_it() {
    for version in BOTH {
        let (mut server, mut client) = connected(&Identity::ecdsa(), version);
        server.encrypt(b"last words");
        assert!(server.close() > 0);
        assert_eq!(server.close(), 0, "said once");
        assert_eq!(deliver(&mut server, &mut client), b"last words");
        assert!(client.process_new_packets().unwrap().peer_has_closed());
        client.send_close_notify();
        let closed = server.receive(&flight(&mut client)).unwrap();
        assert_eq!(closed, Progress::PeerClosed);
        let mut output = Vec::new();
        assert!(server.session.encrypt(b"too late", &mut output).is_err());
        assert!(output.is_empty());
    }
    let (mut server, mut client) = connected(&Identity::ecdsa(), &TLS13);
    client.send_close_notify();
    server.receive(&flight(&mut client)).unwrap();
    server.encrypt(b"an answer to a half-closed client");
    assert!(!deliver(&mut server, &mut client).is_empty());
}

#[test]
fn nothing_is_encrypted_before_the_handshake_is_complete() {
    let config = Identity::ecdsa().config(&TicketKeys::generate().unwrap());
    let mut server = Server::new(&config);
    let mut output = Vec::new();
    assert!(server.session.encrypt(b"early", &mut output).is_err());
    assert!(output.is_empty());
    assert_eq!(server.close(), 0);
}

#[test]
fn new_keys_in_the_middle_are_followed_also_while_bytes_are_held() {
    let (mut server, mut client) = connected(&Identity::ecdsa(), &TLS13);
    for _ in 0..3 {
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"behind new keys").unwrap();
        for byte in flight(&mut client) {
            server.receive(&[byte]).unwrap();
            server.encrypt(b"meanwhile");
        }
        assert!(deliver(&mut server, &mut client).starts_with(b"meanwhile"));
    }
    assert_eq!(server.plaintext, b"behind new keys".repeat(3));
}

/// Feeds bytes to a fresh server, whole and byte by byte. Returns the fault and what was said.
#[track_caller]
fn refused(bytes: &[u8]) -> (TlsFault, Vec<u8>) {
    let config = Identity::ecdsa().config(&TicketKeys::generate().unwrap());
    let mut whole = Server::new(&config);
    let fault = whole.receive(bytes).expect_err("must be refused");
    let mut split = Server::new(&config);
    let split_fault = bytes
        .iter()
        .find_map(|byte| split.receive(&[*byte]).err())
        .expect("must be refused in pieces too");
    assert_eq!((&split_fault, &split.output), (&fault, &whole.output));
    assert!(whole.session.encrypt(b"x", &mut Vec::new()).is_err());
    (fault, whole.output)
}

#[test]
fn plain_http_is_answered_in_plain_text() {
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
    ] {
        let (fault, said) = refused(format!("{method} /v1 HTTP/1.1\r\n").as_bytes());
        assert_eq!(fault, TlsFault::PlainHttp);
        let said = String::from_utf8(said).unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{head}"
        );
        assert!(body.contains("HTTPS port"), "{body}");
    }
}

#[test]
fn garbage_is_refused_with_an_alert() {
    for bytes in [
        &b"\0\0\0\0\0\0"[..],
        b"GE\x01\x02\x03\x04",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\x00\x00",
        b"\x17\x03\x03\x00\x02hi",
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
    ] {
        let (fault, said) = refused(bytes);
        assert!(matches!(fault, TlsFault::Protocol(_)), "{fault} {bytes:?}");
        assert!(
            said.starts_with(&[0x15, 3, 3, 0, 2, 2]),
            "{said:?} {bytes:?}"
        );
    }
}

#[test]
fn what_a_handshake_can_make_the_server_hold_is_bounded() {
    // A record longer than records may be.
    let (fault, _) = refused(b"\x16\x03\x01\xff\xff\x01");
    assert!(matches!(fault, TlsFault::Protocol(_)), "{fault}");
    // A ClientHello that announces 60,000 bytes, in records that are each acceptable.
    let mut hello = Vec::new();
    for record in 0..4 {
        hello.extend_from_slice(&[0x16, 3, 1, 0x40, 0]);
        let mut body = vec![0; 1 << 14];
        if record == 0 {
            body[..4].copy_from_slice(&[1, 0, 0xea, 0x60]);
        }
        hello.extend_from_slice(&body);
    }
    let config = Identity::ecdsa().config(&TicketKeys::generate().unwrap());
    let mut server = Server::new(&config);
    let mut held_max = 0;
    let fault = hello.chunks(100).find_map(|bytes| {
        let outcome = server.receive(bytes);
        held_max = held_max.max(server.session.held().len());
        outcome.err()
    });
    assert_eq!(fault, Some(TlsFault::TooLarge));
    // decode_error, fatal.
    assert_eq!(server.output, [0x15, 3, 3, 0, 2, 2, 50]);
    assert!(held_max <= 20 * 1_024, "{held_max}");
}

#[test]
fn old_versions_and_other_protocols_are_refused_with_their_alert() {
    let identity = Identity::ecdsa();
    let mut hello = flight(&mut client(&Arc::new(identity.client(&[&TLS12]))));
    // The extension supported_versions with one version in it (RFC 8446, section 4.2.1).
    let offer = [0, 43, 0, 3, 2, 3, 3];
    let at = hello.windows(offer.len()).position(|bytes| bytes == offer);
    hello[at.unwrap() + offer.len() - 1] = 2;
    let (_, said) = refused(&hello);
    // protocol_version, fatal.
    assert_eq!(said, [0x15, 3, 3, 0, 2, 2, 70]);
    let mut other = identity.client(&[&TLS12]);
    other.alpn_protocols = vec![b"h2".to_vec()];
    let (fault, said) = refused(&flight(&mut client(&Arc::new(other))));
    assert_eq!(
        fault,
        TlsFault::Protocol(rustls::Error::NoApplicationProtocol)
    );
    // no_application_protocol, fatal (RFC 7301, section 3.2).
    assert_eq!(said, [0x15, 3, 3, 0, 2, 2, 120]);
}

/// RFC 7301, section 3.2; with TLS 1.3 the alert stands behind a ServerHello, encrypted.
#[test]
fn a_client_that_offers_only_other_protocols_hears_so() {
    let identity = Identity::ecdsa();
    for version in [&TLS12, &TLS13] {
        let mut config = identity.client(&[version]);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut client = client(&Arc::new(config));
        let mut server = Server::new(&identity.config(&TicketKeys::generate().unwrap()));
        let fault = server.receive(&flight(&mut client)).unwrap_err();
        let expected = rustls::Error::NoApplicationProtocol;
        assert_eq!(fault, TlsFault::Protocol(expected), "{version:?}");
        let mut said = &std::mem::take(&mut server.output)[..];
        while !said.is_empty() {
            client.read_tls(&mut said).unwrap();
        }
        let heard = client.process_new_packets().unwrap_err();
        let expected = rustls::AlertDescription::NoApplicationProtocol;
        assert_eq!(heard, rustls::Error::AlertReceived(expected), "{version:?}");
    }
}

/// Each byte of a ClientHello in turn is another one: what is refused is refused with an alert.
#[test]
fn a_garbled_hello_is_refused_with_an_alert() {
    let identity = Identity::ecdsa();
    let hello = flight(&mut client(&Arc::new(identity.client(&BOTH))));
    let config = identity.config(&TicketKeys::generate().unwrap());
    let mut refused = 0;
    for at in 0..hello.len() {
        let mut garbled = hello.clone();
        garbled[at] ^= 0xff;
        let mut server = Server::new(&config);
        if let Err(fault) = server.receive(&garbled) {
            refused += 1;
            // Alone, or encrypted behind a ServerHello.
            let said = &server.output;
            let is_alert = said.starts_with(&[0x15, 3, 3, 0, 2, 2]) && said.len() == 7;
            assert!(
                is_alert || said.starts_with(&[0x16, 3, 3]),
                "byte {at}: {fault}: {said:?}"
            );
        }
    }
    assert!(refused > hello.len() / 10, "{refused}");
}

#[test]
fn a_proxy_header_in_front_of_the_handshake_is_named() {
    for header in [
        &b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 443\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
    ] {
        let config = Identity::ecdsa().config(&TicketKeys::generate().unwrap());
        let fault = Server::new(&config).receive(header).unwrap_err();
        assert_eq!(fault, TlsFault::ProxyHeader);
    }
}

#[test]
fn a_client_without_alpn_is_welcome() {
    let identity = Identity::ecdsa();
    let mut plain = identity.client(&BOTH);
    plain.alpn_protocols.clear();
    let mut server = Server::new(&identity.config(&TicketKeys::generate().unwrap()));
    shake_hands(&mut server, &mut client(&Arc::new(plain)), usize::MAX);
}

#[test]
fn a_changed_record_is_not_decrypted() {
    const HEADER_BYTES: usize = 5;
    let identity = Identity::ecdsa();
    let config = identity.config(&TicketKeys::generate().unwrap());
    for version in BOTH {
        let client_config = Arc::new(identity.client(&[version]));
        let mut at = HEADER_BYTES;
        loop {
            let mut server = Server::new(&config);
            let mut client = client(&client_config);
            shake_hands(&mut server, &mut client, usize::MAX);
            client.writer().write_all(b"do not touch this").unwrap();
            let mut bytes = flight(&mut client);
            let Some(byte) = bytes.get_mut(at) else {
                break;
            };
            *byte ^= 1;
            assert!(server.receive(&bytes).is_err(), "{version:?}, byte {at}");
            assert!(server.plaintext.is_empty());
            assert!(!server.output.is_empty(), "an alert");
            at += 1;
        }
    }
}

/// The text of the error for these contents of the two files.
fn complaint(cert: Option<&str>, key: Option<&str>) -> String {
    let identity = Identity::ecdsa();
    for (path, text) in [(&identity.cert, cert), (&identity.key, key)] {
        if let Some(text) = text {
            fs::write(path, text).unwrap();
        }
    }
    let error = CertificateFiles::open(&identity.cert, &identity.key).expect_err("refused");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text.replace(&identity.dir.path().display().to_string(), "")
}

#[test]
fn faulty_files_are_named_with_the_remedy() {
    let other = Identity::rsa();
    let other_key = fs::read_to_string(&other.key).unwrap();
    let pem = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(complaint(Some(""), None).contains("/cert.pem holds no readable certificate"));
    assert!(complaint(None, Some("")).contains("/key.pem holds no readable private key"));
    assert!(complaint(Some(pem), None).contains("/cert.pem cannot be used"));
    let bad_key = pem.replace("CERTIFICATE", "PRIVATE KEY");
    assert!(complaint(None, Some(&bad_key)).contains("/key.pem cannot be used"));
    let mismatch = complaint(None, Some(&other_key));
    assert!(
        mismatch.contains("/key.pem does not belong to"),
        "{mismatch}"
    );
    let error = CertificateFiles::open(Path::new("/nowhere/cert.pem"), &other.key).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot read /nowhere/cert.pem: No such file"),
        "{text}"
    );
}

#[test]
fn changed_files_are_read_once_they_have_settled() {
    let mut identity = Identity::ecdsa();
    let (mut files, _) = CertificateFiles::open(&identity.cert, &identity.key).unwrap();
    assert!(files.poll().unwrap().is_none(), "nothing has changed");
    identity.renew(&PKCS_ECDSA_P256_SHA256);
    assert!(files.poll().unwrap().is_none(), "may be half-written");
    assert!(files.poll().unwrap().is_some());
    assert!(files.poll().unwrap().is_none(), "read once");
    // Renewed by a rename, as tools do: the key first, which leaves a mismatch for a while.
    let cert = fs::read(&identity.cert).unwrap();
    identity.renew(&PKCS_ECDSA_P256_SHA256);
    let new_cert = fs::read(&identity.cert).unwrap();
    let swap = |bytes: &[u8]| {
        let beside = identity.dir.path().join("new");
        fs::write(&beside, bytes).unwrap();
        fs::rename(&beside, &identity.cert).unwrap();
    };
    swap(&cert);
    assert!(files.poll().unwrap().is_none());
    assert!(files.poll().is_err(), "told once");
    assert!(files.poll().unwrap().is_none(), "and not again");
    swap(&new_cert);
    assert!(files.poll().unwrap().is_none());
    assert!(files.poll().unwrap().is_some());
    fs::remove_file(&identity.key).unwrap();
    assert!(files.poll().unwrap().is_none());
    assert!(files.poll().is_err());
    assert!(files.reload().is_err(), "on demand it is told every time");
}
