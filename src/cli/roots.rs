//! Whose certificates a command trusts when it speaks TLS.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::failure::Failure;
use crate::bounded_file::{self, PEM_BYTES_MAX};

/// Reads the certificates of a file, or those of the system.
///
/// # Errors
/// The file cannot be read or has none, or the system has none.
pub(super) fn roots(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let Some(path) = file else {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            return Err(Failure::failed(
                "this system has no certificates to trust; install ca-certificates, or name a \
                 file with --ca",
            ));
        }
        return Ok(found.certs);
    };
    let bad = |cause: &dyn std::fmt::Display| {
        Failure::usage(format_args!(
            "--ca: {}: {cause}; name a file with certificates, PEM",
            path.display()
        ))
    };
    let pem = bounded_file::read(path, PEM_BYTES_MAX).map_err(|error| bad(&error))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(&error))?;
    if certificates.is_empty() {
        return Err(bad(&"it has no certificate in it"));
    }
    Ok(certificates)
}
