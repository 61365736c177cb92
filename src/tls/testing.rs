//! Certificates and clients for tests, in memory except for the files that the server reads.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertifiedKey, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

use super::{TicketKeys, TlsConfig};

pub(super) const HOST: &str = "ringmesh.test";

/// A self-signed certificate and its key, as files.
pub(super) struct Identity {
    pub dir: TempDir,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub der: CertificateDer<'static>,
}

impl Identity {
    pub(super) fn ecdsa() -> Self {
        Self::with(&PKCS_ECDSA_P256_SHA256)
    }

    pub(super) fn rsa() -> Self {
        Self::with(&PKCS_RSA_SHA256)
    }

    fn with(algorithm: &'static SignatureAlgorithm) -> Self {
        let dir = TempDir::new().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let mut identity = Self {
            dir,
            cert,
            key,
            der: CertificateDer::from(Vec::new()),
        };
        identity.renew(algorithm);
        identity
    }

    /// Another certificate in the same files.
    pub(super) fn renew(&mut self, algorithm: &'static SignatureAlgorithm) {
        let CertifiedKey { cert, signing_key } = generate(algorithm);
        fs::write(&self.cert, cert.pem()).unwrap();
        fs::write(&self.key, signing_key.serialize_pem()).unwrap();
        self.der = cert.der().clone();
    }

    pub(super) fn config(&self, tickets: &TicketKeys) -> TlsConfig {
        TlsConfig::load(&self.cert, &self.key, tickets).unwrap()
    }

    /// A client that trusts this certificate only.
    pub(super) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(8);
        config
    }
}

pub(super) fn generate(algorithm: &'static SignatureAlgorithm) -> CertifiedKey<rcgen::KeyPair> {
    let signing_key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    CertifiedKey { cert, signing_key }
}
