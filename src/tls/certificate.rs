//! A certificate chain and its key, from PEM files to what rustls signs with.

use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use zeroize::Zeroizing;

use super::error::CertificateError;

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

/// The bytes of a file, wiped from memory afterwards: they may be those of a key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|cause| CertificateError::Unreadable(path.to_owned(), cause))
}
