//! Settings of `wss` connections: what is offered, and whom to trust: the system's roots, a given
//! CA, or anybody.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{
    CryptoProvider, SupportedKxGroup, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::failure::Failure;

/// Where distributions keep their bundle of roots.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Key exchanges offered, as browsers offer them: shares for X25519MLKEM768 and X25519, the curves
/// of NIST for servers without either. Named here because the provider's own list depends on the
/// features that other crates of a build ask for, and it decides what a handshake costs.
const KEY_EXCHANGES: [&dyn SupportedKxGroup; 4] = [
    kx_group::X25519MLKEM768,
    kx_group::X25519,
    kx_group::SECP256R1,
    kx_group::SECP384R1,
];

/// Whom to believe.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
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
/// [`Failure::File`] for an unreadable or empty bundle, [`Failure::Untrusted`] without any roots.
pub(crate) fn config(trust: Trust<'_>, resume: bool) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(CryptoProvider {
        kx_groups: KEY_EXCHANGES.to_vec(),
        ..aws_lc_rs::default_provider()
    });
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failure_of(&error))?;
    let mut config = match trust {
        Trust::System => {
            let path = SYSTEM_ROOTS
                .into_iter()
                .find(|path| std::path::Path::new(path).exists())
                .ok_or_else(|| Failure::Untrusted("this system has no root certificates".into()))?;
            builder
                .with_root_certificates(read_roots(path)?)
                .with_no_client_auth()
        }
        Trust::File(path) => {
            let pinned = read_certificates(path)?;
            let roots = Arc::new(roots_of(path, &pinned)?);
            let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| Failure::Untrusted(error.to_string()))?;
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
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// The same configuration for one client that resumes its own sessions, as a browser does.
pub(crate) fn resuming(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = Resumption::in_memory_sessions(1);
    Arc::new(config)
}

/// What an error of the handshake means to whoever gave the URL.
pub(crate) fn failure_of(error: &rustls::Error) -> Failure {
    match error {
        rustls::Error::InvalidMessage(_) => {
            Failure::Protocol("its answer is not TLS; for a plaintext server use ws://".into())
        }
        rustls::Error::InvalidCertificate(CertificateError::Other(cause))
            // The verifier's only word for a self-signed certificate that is marked as a CA.
            if cause.to_string() == "CaUsedAsEndEntity" =>
        {
            Failure::Untrusted("it is self-signed".into())
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Failure::Untrusted("nobody here knows its issuer".into())
        }
        rustls::Error::InvalidCertificate(cause) => Failure::Untrusted(cause.to_string()),
        other => Failure::Tls(other.to_string()),
    }
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
    fn the_offer_is_that_of_browsers_whatever_else_is_built() {
        let config = config(Trust::Anyone, false).expect("no file is read");
        let provider = config.crypto_provider();
        let names: Vec<_> = provider
            .kx_groups
            .iter()
            .map(|group| group.name())
            .collect();
        use rustls::NamedGroup::{X25519, X25519MLKEM768, secp256r1, secp384r1};
        assert_eq!(names, [X25519MLKEM768, X25519, secp256r1, secp384r1]);
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let path = file.path().to_str().expect("UTF-8 path");
        let failure = config(Trust::File(path), false).expect_err("empty");
        assert!(failure.to_string().contains(path));
        assert!(config(Trust::Anyone, false).is_ok());
    }
}
