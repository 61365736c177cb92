//! TLS between a socket and the shard, without either: bytes in, bytes out.
//!
//! rustls does the protocol (versions 1.2 and 1.3, aws-lc-rs for the cryptography); this module
//! decides what is configured, when certificates are read again, and how much memory a peer may
//! make a connection hold. It opens no socket and starts no thread: the owner of the socket
//! drives a [`TlsSession`], and a thread with a clock drives the [`CertificateFiles`].
//!
//! Nothing is kept on the server for a resumption: tickets hold it all, encrypted with
//! [`TicketKeys`] that every shard and every certificate of the process share.

mod certificate;
mod config;
mod error;
mod files;
mod session;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod validity;

pub(crate) use certificate::covers;
pub use config::{TicketKeys, TlsConfig};
pub use error::{CertificateError, TlsFault};
pub use files::CertificateFiles;
pub use session::{Progress, RECORD_PLAINTEXT_BYTES_MAX, TlsSession};
pub use validity::Validity;
