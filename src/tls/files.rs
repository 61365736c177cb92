//! The certificate's files over time: when they are to be read again, and what came of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::config::{TicketKeys, TlsConfig};
use super::error::CertificateError;

/// Tells one state of a file from another without reading it: device, inode, length, and the
/// times of change and of modification. A link that points elsewhere now is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    /// Returns the state of a file; `None` while there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self {
            file: (data.dev(), data.ino()),
            bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

/// See [`Version`], of the chain and of the key.
type Versions = [Option<Version>; 2];

/// A chain, its key, and which state of them was read last.
///
/// Always true: `read` is what the files were before they were last read, so a change while
/// they are read is seen as one.
#[derive(Debug)]
pub struct CertificateFiles {
    cert: PathBuf,
    key: PathBuf,
    tickets: TicketKeys,
    read: Versions,
    /// The states at the last check.
    seen: Versions,
}

impl CertificateFiles {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn open(cert: &Path, key: &Path) -> Result<(Self, TlsConfig), CertificateError> {
        let mut files = Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            tickets: TicketKeys::generate()?,
            read: [None; 2],
            seen: [None; 2],
        };
        let config = files.reload()?;
        Ok((files, config))
    }

    /// Reads the files again, changed or not.
    ///
    /// # Errors
    /// What is wrong with them; what was read before stays good.
    pub fn reload(&mut self) -> Result<TlsConfig, CertificateError> {
        self.read = self.versions();
        self.seen = self.read;
        TlsConfig::load(&self.cert, &self.key, &self.tickets)
    }

    /// Reads these files, and watches them from now on.
    ///
    /// # Errors
    /// What is wrong with them; those from before are watched on, and what was read from them
    /// stays good.
    pub fn read_from(
        &mut self,
        cert: PathBuf,
        key: PathBuf,
    ) -> Result<TlsConfig, CertificateError> {
        let before = (
            std::mem::replace(&mut self.cert, cert),
            std::mem::replace(&mut self.key, key),
        );
        let read = self.reload();
        if read.is_err() {
            (self.cert, self.key) = before;
            self.read = self.versions();
            self.seen = self.read;
        }
        read
    }

    /// To be called at regular intervals: reads the files again once they have changed and then
    /// stayed the same from one call to the next, so that nothing half-written is read.
    ///
    /// # Errors
    /// What is wrong with them, once for each change; what was read before stays good.
    pub fn poll(&mut self) -> Result<Option<TlsConfig>, CertificateError> {
        let now = self.versions();
        let settled = std::mem::replace(&mut self.seen, now) == now;
        if now == self.read || !settled {
            return Ok(None);
        }
        self.reload().map(Some)
    }

    fn versions(&self) -> Versions {
        [Version::of(&self.cert), Version::of(&self.key)]
    }
}
