//! `run.json` in the data directory: what a running server tells the commands beside it.
//!
//! The server writes it when it is ready and removes it at its end. A reader believes it only
//! while the store's lock is held, so that the file of a server that was killed counts for
//! nothing, and only if nobody else could have written it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::bounded_file;
use crate::private_file;

const NAME: &str = "run.json";
/// Bytes of the file, and of a token: more is not ours.
const BYTES_MAX: u64 = 64 * 1_024;
/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// What a running server tells about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunFile {
    /// The server's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// `dev` or `serve`.
    pub mode: String,
    /// `http://127.0.0.1:7464`; `None` without an admin listener.
    pub admin_url: Option<String>,
    /// Absolute path of the admin token's file.
    pub token_file: PathBuf,
    /// Where clients are told to connect, if that was set; then `ws://127.0.0.1:8080`, one for each
    /// public listener.
    pub public_urls: Vec<String>,
    /// Absolute path of the configuration; `None` for `dev`.
    pub config_file: Option<PathBuf>,
}

/// A file that may be believed.
pub(crate) struct Live {
    pub run: RunFile,
    /// The user who runs the server.
    owner: u32,
}

/// Why there is no server to be found by a data directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotLive {
    /// There is no file.
    Absent,
    /// The server that wrote it has ended.
    Ended,
    /// It cannot be read, or must not be believed: why.
    Unusable(String),
}

/// Writes down the number of this process in a file of the operator's, whole or not at all.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn write_process_number(file: &Path) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    private_file::write(file, text.as_bytes())
}

impl RunFile {
    /// Writes the file, readable by its owner only, whole or not at all.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn write(&self, data_dir: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        private_file::write(&data_dir.join(NAME), &text)
    }

    /// Removes the file at the server's end.
    pub(crate) fn remove(data_dir: &Path) {
        // What is left over is not believed.
        let _ = fs::remove_file(data_dir.join(NAME));
    }

    /// Reads the file of the server that has its store in `data_dir`.
    ///
    /// # Errors
    /// [`NotLive`]: there is no such server, or its word does not count.
    pub(crate) fn of_live_server(data_dir: &Path) -> Result<Live, NotLive> {
        let unusable = |error: io::Error| NotLive::Unusable(error.to_string());
        let file = match bounded_file::open(&data_dir.join(NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NotLive::Absent),
            Err(error) => return Err(unusable(error)),
        };
        let metadata = file.metadata().map_err(unusable)?;
        let (owner, user) = (metadata.uid(), user());
        if owner != user && user != 0 {
            return Err(NotLive::Unusable("it belongs to another user".into()));
        }
        if metadata.mode() & OTHERS != 0 {
            return Err(NotLive::Unusable("others may read or write it".into()));
        }
        if !is_locked(data_dir).map_err(unusable)? {
            return Err(NotLive::Ended);
        }
        let text = bounded_file::contents(file, BYTES_MAX).map_err(unusable)?;
        let run = serde_json::from_slice(&text)
            .map_err(|_| NotLive::Unusable("no server wrote it".into()))?;
        Ok(Live { run, owner })
    }
}

impl Live {
    /// Reads the admin token. Where the server is another user's, the token must be that user's
    /// file: else whoever can write a `run.json` could have root send any file anywhere.
    ///
    /// # Errors
    /// Whatever the file system says, or that the file is somebody else's.
    pub(crate) fn token(&self) -> io::Result<Zeroizing<String>> {
        let file = bounded_file::open(&self.run.token_file)?;
        if self.owner != user() && file.metadata()?.uid() != self.owner {
            let text = "it does not belong to the user who runs the server";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        bounded_file::text_of(file, BYTES_MAX)
    }
}

/// Whether a server has the directory: it holds its lock for as long as it runs.
fn is_locked(data_dir: &Path) -> io::Result<bool> {
    match File::open(data_dir)?.try_lock_shared() {
        // The lock is given back with the file.
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the address to type on this machine: nobody can connect to 0.0.0.0 reliably.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn run_file(data_dir: &Path) -> RunFile {
        RunFile {
            pid: 7,
            version: "1.2.3".into(),
            mode: "serve".into(),
            admin_url: Some("http://127.0.0.1:7464".into()),
            token_file: data_dir.join("admin.token"),
            public_urls: vec!["ws://127.0.0.1:8080".into()],
            config_file: None,
        }
    }

    #[test]
    fn a_file_is_believed_only_while_the_directory_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let read = || RunFile::of_live_server(dir.path()).map(|live| live.run);
        assert_eq!(read(), Err(NotLive::Absent));
        let file = run_file(dir.path());
        file.write(dir.path()).unwrap();
        assert_eq!(read(), Err(NotLive::Ended));
        let lock = File::open(dir.path()).unwrap();
        lock.lock().unwrap();
        assert_eq!(read(), Ok(file));
        drop(lock);
        assert_eq!(read(), Err(NotLive::Ended));
        RunFile::remove(dir.path());
        assert_eq!(read(), Err(NotLive::Absent));
    }

    #[test]
    fn a_file_that_others_may_touch_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let lock = File::open(dir.path()).unwrap();
        lock.lock().unwrap();
        run_file(dir.path()).write(dir.path()).unwrap();
        let path = dir.path().join(NAME);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        let found = RunFile::of_live_server(dir.path()).map(|live| live.run);
        let expected = NotLive::Unusable("others may read or write it".into());
        assert_eq!(found, Err(expected));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{").unwrap();
        let found = RunFile::of_live_server(dir.path()).map(|live| live.run);
        assert_eq!(found, Err(NotLive::Unusable("no server wrote it".into())));
    }

    #[test]
    fn a_token_is_read_from_where_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let run = run_file(dir.path());
        let live = |owner| Live {
            run: run.clone(),
            owner,
        };
        assert!(live(user()).token().is_err());
        fs::write(&run.token_file, "adm_x\n").unwrap();
        assert_eq!(live(user()).token().unwrap().trim(), "adm_x");
        // Another user's server, and a token that is not that user's.
        let error = live(user() + 1).token().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
