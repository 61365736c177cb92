//! Trust settings of `wss` connections: the system's roots, a given CA, or nobody.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
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
    /// The certificates in this PEM file, themselves or as issuers, and nobody else.
    File(&'a str),
    /// Any certificate.
    Anyone,
}

/// Builds the client configuration. Without `resume` every connect of a storm pays for a whole
/// handshake.
///
/// # Errors
/// [`Failure::File`] for an unreadable or empty bundle, [`Failure::Tls`] otherwise.
pub fn config(trust: Trust<'_>, resume: bool) -> Result<Arc<ClientConfig>, Failure> {
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
        Trust::File(path) => {
            let pinned = read_certificates(path)?;
            let roots = Arc::new(roots_of(path, &pinned)?);
            let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| Failure::Tls(error.to_string()))?;
            let lenient = Lenient {
                provider,
                known: Some((pinned, chain)),
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(lenient))
                .with_no_client_auth()
        }
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Lenient {
                provider,
                known: None,
            }))
            .with_no_client_auth(),
    };
    if !resume {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(Arc::new(config))
}

fn read_roots(path: &str) -> Result<RootCertStore, Failure> {
    roots_of(path, &read_certificates(path)?)
}

fn read_certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let file = |cause: String| Failure::File {
        path: path.to_owned(),
        cause,
    };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| file(error.to_string()))?;
    Ok(certificates.filter_map(Result::ok).collect())
}

fn roots_of(
    path: &str,
    certificates: &[CertificateDer<'static>],
) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if added == 0 {
        let cause = "no certificate in PEM form".into();
        return Err(Failure::File {
            path: path.to_owned(),
            cause,
        });
    }
    Ok(roots)
}

/// Signatures are always checked; identity less than usual.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    /// Certificates taken as they are, or as issuers. `None`: any certificate will do.
    known: Option<(Vec<CertificateDer<'static>>, Arc<WebPkiServerVerifier>)>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.known {
            // A self-signed certificate is mostly marked as a CA, which the chain would refuse.
            Some((pinned, chain)) if !pinned.contains(end_entity) => {
                chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
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
            &self.provider.signature_verification_algorithms,
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
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let path = file.path().to_str().expect("UTF-8 path");
        let failure = config(Trust::File(path), false).expect_err("empty");
        assert!(failure.to_string().contains(path));
        assert!(config(Trust::Anyone, false).is_ok());
    }
}
