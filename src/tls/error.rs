//! What can be wrong with a certificate (the operator's doing) and with a connection (the peer's).

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a certificate cannot be used. The text is one line that names the file and the remedy.
#[derive(Debug)]
pub enum CertificateError {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The file of the certificate holds none, or a damaged one.
    NoCertificate(PathBuf),
    /// The file of the key holds none, or an encrypted or damaged one.
    NoKey(PathBuf),
    /// The key is of a kind that TLS does not use, or too short.
    UnusableKey(PathBuf, String),
    /// The first certificate of the chain is not one, or not for this use.
    UnusableCertificate(PathBuf, String),
    /// The key belongs to another certificate.
    Mismatch {
        /// The file of the chain.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The system gave no randomness for ticket keys, or the like.
    Library(String),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, cause) => write!(
                f,
                "cannot read {}: {cause}; check tls.cert and tls.key, and that the server's user \
                 may read both files",
                path.display()
            ),
            Self::NoCertificate(path) => write!(
                f,
                "{} holds no readable certificate; tls.cert must name a PEM file with the \
                 server's certificate first and its issuers behind it",
                path.display()
            ),
            Self::NoKey(path) => write!(
                f,
                "{} holds no readable private key; tls.key must name a PEM file with one \
                 unencrypted key (PKCS #8, PKCS #1 or SEC 1)",
                path.display()
            ),
            Self::UnusableKey(path, cause) => write!(
                f,
                "the key in {} cannot be used: {cause}; use ECDSA P-256 or P-384, RSA of 2,048 \
                 bits or more, or Ed25519",
                path.display()
            ),
            Self::UnusableCertificate(path, cause) => write!(
                f,
                "the certificate in {} cannot be used: {cause}; put the server's own certificate \
                 first in the file",
                path.display()
            ),
            Self::Mismatch { cert, key } => write!(
                f,
                "the key in {} does not belong to the first certificate in {}; put the server's \
                 own certificate first, and name the key it was made with",
                key.display(),
                cert.display()
            ),
            Self::Library(cause) => write!(f, "cannot set TLS up: {cause}"),
        }
    }
}

impl std::error::Error for CertificateError {}

/// Why a connection cannot go on: always a fault of the peer. Its alert has been appended to the
/// output.
#[derive(Debug, PartialEq)]
pub enum TlsFault {
    /// The peer speaks HTTP without TLS.
    PlainHttp,
    /// A proxy sends the PROXY protocol where it is not expected.
    ProxyHeader,
    /// A record or handshake message passes what a connection may hold.
    TooLarge,
    /// Not TLS, or not as the protocol demands.
    Protocol(rustls::Error),
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainHttp => f.write_str("plain HTTP sent to a TLS listener"),
            Self::ProxyHeader => f.write_str("a PROXY protocol header where none is expected"),
            Self::TooLarge => f.write_str("a handshake message is too large"),
            Self::Protocol(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TlsFault {}

impl From<rustls::Error> for TlsFault {
    fn from(error: rustls::Error) -> Self {
        Self::Protocol(error)
    }
}
