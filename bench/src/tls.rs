//! Both ends of wss for measurements: a certificate for the server, and a client that says
//! exactly what it offers.
//!
//! The client believes anybody and checks no signature. Its cost is not measured, and the less
//! it takes the less it disturbs what is.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use clap::ValueEnum;
use ringmesh::tls::{TicketKeys, TlsConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    SupportedCipherSuite, version,
};

use crate::client::{open, subscription};
use crate::fixture::upgrade_request;

/// A key exchange that a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Exchange {
    /// What browsers offer: X25519MLKEM768, and X25519 for servers that do not know it.
    Hybrid,
    /// X25519 alone.
    X25519,
    /// P-256 alone.
    P256,
}

/// Cipher suites that a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suites {
    /// All three of TLS 1.3, AES-256 first, as OpenSSL does.
    All,
    /// AES-256 with SHA-384 alone.
    Aes256,
}

/// A fresh self-signed certificate with an ECDSA P-256 key, as a server loads it.
///
/// # Errors
/// When the files cannot be written, or the certificate cannot be made.
pub fn server_config() -> io::Result<TlsConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let rcgen::CertifiedKey { cert, signing_key } = made.map_err(io::Error::other)?;
    let dir = std::env::temp_dir().join(format!("ringmesh-bench-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert_file, cert.pem())?;
    fs::write(&key_file, signing_key.serialize_pem())?;
    let tickets = TicketKeys::generate().map_err(io::Error::other)?;
    let config = TlsConfig::load(&cert_file, &key_file, &tickets).map_err(io::Error::other);
    fs::remove_dir_all(&dir)?;
    config
}

/// A TLS 1.3 client with these offers. With `resume` it keeps tickets, by server name.
#[must_use]
pub fn client_config(exchange: Exchange, suites: Suites, resume: bool) -> Arc<ClientConfig> {
    let mut provider = default_provider();
    provider.kx_groups = match exchange {
        Exchange::Hybrid => vec![kx_group::X25519MLKEM768, kx_group::X25519],
        Exchange::X25519 => vec![kx_group::X25519],
        Exchange::P256 => vec![kx_group::SECP256R1],
    };
    provider.cipher_suites = match suites {
        Suites::All => ALL_SUITES.to_vec(),
        Suites::Aes256 => vec![cipher_suite::TLS13_AES_256_GCM_SHA384],
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    // A provider with suites of TLS 1.3 can speak it.
    #[expect(clippy::expect_used, reason = "see above")]
    let builder = builder
        .with_protocol_versions(&[&version::TLS13])
        .expect("a provider without TLS 1.3");
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = if resume {
        Resumption::in_memory_sessions(4_096)
    } else {
        Resumption::disabled()
    };
    Arc::new(config)
}

const ALL_SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS13_AES_128_GCM_SHA256,
];

/// A connection to a server of that number: tickets are kept for each number.
///
/// # Errors
/// Those of rustls.
pub fn connection(config: &Arc<ClientConfig>, number: usize) -> io::Result<ClientConnection> {
    let name = ServerName::try_from(format!("bench-{number}.localhost"));
    ClientConnection::new(config.clone(), name.map_err(io::Error::other)?).map_err(io::Error::other)
}

/// A blocking wss connection.
pub struct TlsClient {
    /// The client's state.
    pub session: ClientConnection,
    /// What it goes over.
    pub socket: TcpStream,
}

impl TlsClient {
    /// Connects and completes the handshake.
    ///
    /// # Errors
    /// Those of the socket and of rustls.
    pub fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let mut client = Self {
            session: connection(config, 0)?,
            socket: open(address)?,
        };
        while client.session.is_handshaking() {
            client.session.complete_io(&mut client.socket)?;
        }
        Ok(client)
    }

    /// Sends what the session has to say.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Waits for bytes and takes them in: handshake, tickets, or text.
    ///
    /// # Errors
    /// Those of the socket and of rustls, and the end of the stream.
    pub fn take_in(&mut self) -> io::Result<()> {
        if self.session.read_tls(&mut self.socket)? == 0 {
            return Err(io::Error::other("the server closed a connection"));
        }
        self.session
            .process_new_packets()
            .map_err(io::Error::other)?;
        Ok(())
    }

    /// Sends text and reads until what comes ends with `end`.
    ///
    /// # Errors
    /// Those of the socket and of rustls.
    pub fn ask(&mut self, text: &[u8], end: &[u8]) -> io::Result<()> {
        self.session.writer().write_all(text)?;
        self.flush()?;
        let mut seen = Vec::new();
        while !seen.ends_with(end) {
            match self.session.reader().read_to_end(&mut seen) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => drop(outcome?),
            }
            if !seen.ends_with(end) {
                self.take_in()?;
            }
        }
        Ok(())
    }
}

/// Connects with that credential and subscribes. Returns the socket alone: what comes from now on
/// need not be decrypted to be counted.
///
/// # Errors
/// Those of the socket and of rustls, or a refusal.
pub fn subscriber(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    query: &str,
    channel: &str,
) -> io::Result<TcpStream> {
    let mut client = TlsClient::open(address, config)?;
    let request = upgrade_request(query);
    client.ask(request.as_bytes(), b"\"maxMessageSize\":65536}")?;
    let (subscribe, ack) = subscription(channel);
    client.ask(&subscribe, ack)?;
    Ok(client.socket)
}

/// Counts the plaintext in a stream of TLS 1.3 records without keys: a record of a text has one
/// byte for its type and sixteen for its tag.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordCounter {
    header: [u8; 5],
    header_bytes: usize,
    body_left: usize,
    /// Bytes of plaintext in all records that are whole.
    pub plaintext: u64,
    body: usize,
}

impl RecordCounter {
    /// Takes the next bytes of the stream.
    pub fn add(&mut self, mut bytes: &[u8]) {
        const OVERHEAD: usize = 17;
        while !bytes.is_empty() {
            if self.header_bytes < self.header.len() {
                let count = bytes.len().min(self.header.len() - self.header_bytes);
                let end = self.header_bytes + count;
                self.header[self.header_bytes..end].copy_from_slice(&bytes[..count]);
                self.header_bytes = end;
                bytes = &bytes[count..];
                if end == self.header.len() {
                    self.body = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                    self.body_left = self.body;
                }
                continue;
            }
            let count = bytes.len().min(self.body_left);
            self.body_left -= count;
            bytes = &bytes[count..];
            if self.body_left == 0 {
                self.plaintext += self.body.saturating_sub(OVERHEAD) as u64;
                self.header_bytes = 0;
            }
        }
    }
}

/// Believes every certificate and every signature.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_however_they_come() {
        let mut stream = Vec::new();
        for plaintext in [1_usize, 300, 16_384, 2] {
            let body = plaintext + 17;
            stream.extend_from_slice(&[23, 3, 3, (body >> 8) as u8, body as u8]);
            stream.extend(std::iter::repeat_n(7, body));
        }
        for piece in [1, 2, 5, 7, 1_000, stream.len()] {
            let mut counter = RecordCounter::default();
            stream.chunks(piece).for_each(|bytes| counter.add(bytes));
            assert_eq!(counter.plaintext, 1 + 300 + 16_384 + 2, "pieces of {piece}");
        }
    }
}
