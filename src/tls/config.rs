//! What every TLS connection of the process shares: certificate, versions, ticket keys.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, cipher_suite as suite, default_provider};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, SupportedCipherSuite};

use super::certificate;
use super::error::CertificateError;
use super::validity::Validity;

/// The one application protocol: WebSocket handshakes are HTTP/1.1 requests.
const ALPN: &[u8] = b"http/1.1";
/// Tickets that a TLS 1.3 client gets. A client comes back with one connection, and gets the
/// next ticket then.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// The suites in the order in which the server chooses, whatever the client prefers. Those with
/// SHA-256 come first: processors have instructions for it and none for SHA-384, and hashing is
/// most of a handshake beside its key exchange (`tuning/tls.md`).
const CIPHER_SUITES: [SupportedCipherSuite; 9] = [
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// Keys that encrypt session tickets. A new one is made every six hours, and the one before it
/// is still accepted; none is ever written down. Clones share the keys: with one set for all
/// shards, a client resumes wherever it is accepted, also after a change of certificate.
#[derive(Clone)]
pub struct TicketKeys(Arc<dyn ProducesTickets>);

impl TicketKeys {
    /// Makes new keys, which accept no ticket made before.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, CertificateError> {
        let ticketer =
            Ticketer::new().map_err(|cause| CertificateError::Library(cause.to_string()))?;
        Ok(Self(ticketer))
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

/// What a listener that speaks TLS needs. Never changes; a new certificate makes a new one, and
/// the connections that are live keep the one they began with.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    pub(super) server: Arc<ServerConfig>,
    validity: Option<Validity>,
}

impl TlsConfig {
    /// Reads a certificate chain and its key from PEM files.
    ///
    /// # Errors
    /// What is wrong with the files, as a line for the operator.
    pub fn load(cert: &Path, key: &Path, tickets: &TicketKeys) -> Result<Self, CertificateError> {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: CIPHER_SUITES.to_vec(),
            ..default_provider()
        });
        let certified = certificate::load(cert, key, &provider)?;
        let validity = certified.cert.first().and_then(|der| Validity::of_der(der));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| CertificateError::Library(cause.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.ignore_client_order = true;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ticketer = tickets.0.clone();
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            server: Arc::new(config),
            validity,
        })
    }

    /// Returns from when to when the certificate is good, if it says so.
    #[must_use]
    pub fn validity(&self) -> Option<&Validity> {
        self.validity.as_ref()
    }
}
