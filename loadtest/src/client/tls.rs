//! Trust settings of `wss` connections: the system's roots, a given CA, or nobody.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::failure::Failure;

/// Where distributions keep their bundle of roots.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Whom to believe.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The system's roots.
    System,
    /// The certificates in this PEM file, and nobody else.
    File(&'a str),
    /// Any certificate.
    Anyone,
}

/// Builds the client configuration, without session resumption: every connect of a storm pays for
/// a whole handshake.
///
/// # Errors
/// [`Failure::File`] for an unreadable or empty bundle, [`Failure::Tls`] otherwise.
pub fn config(trust: Trust<'_>) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Tls(error.to_string()))?;
    let mut config = match trust {
        Trust::System => {
            let path = SYSTEM_ROOTS
                .into_iter()
                .find(|path| std::path::Path::new(path).exists())
                .ok_or_else(|| Failure::Tls("no root certificates on this system".into()))?;
            builder
                .with_root_certificates(read_roots(path)?)
                .with_no_client_auth()
        }
        Trust::File(path) => builder
            .with_root_certificates(read_roots(path)?)
            .with_no_client_auth(),
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyone(provider)))
            .with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn read_roots(path: &str) -> Result<RootCertStore, Failure> {
    let file = |cause: String| Failure::File {
        path: path.to_owned(),
        cause,
    };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| file(error.to_string()))?;
    let parsed: Vec<_> = certificates.filter_map(Result::ok).collect();
    let (added, _) = roots.add_parsable_certificates(parsed);
    if added == 0 {
        return Err(file("no certificate in PEM form".into()));
    }
    Ok(roots)
}

/// `--insecure`: signatures are still checked, identity is not.
#[derive(Debug)]
struct AcceptAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let path = file.path().to_str().expect("UTF-8 path");
        let failure = config(Trust::File(path)).expect_err("empty");
        assert!(failure.to_string().contains(path));
        assert!(config(Trust::Anyone).is_ok());
    }
}
