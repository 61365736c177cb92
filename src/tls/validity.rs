//! From when to when a certificate is good, and for which names.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::error::CertificateError;
use crate::bounded_file::{self, PEM_BYTES_MAX};

/// What a certificate says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// Seconds since 1970 from which on it is good.
    pub not_before_unix: i64,
    /// Seconds since 1970 up to which it is good.
    pub not_after_unix: i64,
    /// The names that it is for.
    pub names: Vec<String>,
}

impl Validity {
    /// Reads the first certificate of a PEM file, which is the server's own.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn of_file(cert: &Path) -> Result<Self, CertificateError> {
        let pem = bounded_file::read(cert, PEM_BYTES_MAX)
            .map_err(|cause| CertificateError::Unreadable(cert.to_owned(), cause))?;
        let first = CertificateDer::pem_slice_iter(&pem).next();
        let first = first.and_then(Result::ok);
        first
            .and_then(|der| Self::of_der(&der))
            .ok_or_else(|| CertificateError::NoCertificate(cert.to_owned()))
    }

    /// Reads a certificate; `None`: it is none.
    #[must_use]
    pub(super) fn of_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|names| &names.value.general_names[..]);
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        Some(Self {
            not_before_unix: validity.not_before.timestamp(),
            not_after_unix: validity.not_after.timestamp(),
            names: names.unwrap_or_default().iter().filter_map(name).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_names_of_a_certificate_are_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["rt.example.com".to_owned(), "*.example.com".to_owned()];
        let mut params = rcgen::CertificateParams::new(names.to_vec()).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let certificate = params.self_signed(&key).unwrap();
        let validity = Validity::of_der(certificate.der()).unwrap();
        assert_eq!(validity.not_before_unix, 1_767_225_600);
        assert_eq!(validity.not_after_unix, 1_775_001_600);
        assert_eq!(validity.names, names);
        assert_eq!(Validity::of_der(b"no certificate"), None);
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cert.pem");
        assert!(Validity::of_file(&path).is_err());
        std::fs::write(&path, "nothing").unwrap();
        let error = Validity::of_file(&path).unwrap_err().to_string();
        assert!(error.contains("cert.pem"), "{error}");
    }
}
