//! A certificate chain and its key, from PEM files to what rustls signs with.

use std::path::Path;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use zeroize::Zeroizing;

use super::error::CertificateError;
use crate::bounded_file::{self, PEM_BYTES_MAX};

/// Reads a chain and its key, and makes sure that they belong together.
pub(super) fn load(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    let no_certificate = || CertificateError::NoCertificate(cert.to_owned());
    let chain = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| no_certificate())?;
    if chain.is_empty() {
        return Err(no_certificate());
    }
    let der = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| CertificateError::NoKey(key.to_owned()))?;
    let signing_key = provider
        .key_provider
        .load_private_key(der)
        .map_err(|cause| CertificateError::UnusableKey(key.to_owned(), cause.to_string()))?;
    let certified = CertifiedKey::new(chain, signing_key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => Err(CertificateError::Mismatch {
            cert: cert.to_owned(),
            key: key.to_owned(),
        }),
        Err(cause) => Err(CertificateError::UnusableCertificate(
            cert.to_owned(),
            cause.to_string(),
        )),
    }
}

/// Returns whether the first certificate of a chain is for a host: a name or an IP address.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn covers(cert: &Path, host: &str) -> Result<bool, CertificateError> {
    let unusable =
        |cause: Error| CertificateError::UnusableCertificate(cert.to_owned(), cause.to_string());
    let first = CertificateDer::from_pem_slice(&read(cert)?)
        .map_err(|_| CertificateError::NoCertificate(cert.to_owned()))?;
    let parsed = ParsedCertificate::try_from(&first).map_err(unusable)?;
    let Ok(name) = ServerName::try_from(host) else {
        return Ok(false);
    };
    Ok(verify_server_name(&parsed, &name).is_ok())
}

/// The bytes of a file, wiped from memory afterwards: they may be those of a key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    bounded_file::read(path, PEM_BYTES_MAX)
        .map_err(|cause| CertificateError::Unreadable(path.to_owned(), cause))
}
