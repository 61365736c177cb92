//! Why the store cannot be opened or written: one line each, with what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::files;
use super::master_key::MasterKeyError;

/// Why the store cannot be opened or written.
#[derive(Debug)]
pub enum StoreError {
    /// The data directory cannot be made or used.
    Directory(PathBuf, io::Error),
    /// Another process has it open.
    InUse(PathBuf),
    /// It was written by a newer version: the format found.
    Newer(PathBuf, String),
    /// It is not what was written: the first fault found.
    Damaged(PathBuf, String),
    /// It cannot be read or made.
    File(PathBuf, io::Error),
    /// A transaction failed. It may be tried again.
    Write(PathBuf, redb::Error),
    /// A new store needs a master key, and the file given is none.
    MasterKey(MasterKeyError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path, error) => {
                let elsewhere = "set store.data_dir to a directory that this user may write";
                let remedy = files::remedy_of_disk(error).unwrap_or(elsewhere);
                write!(f, "data directory {}: {error}; {remedy}", path.display())
            }
            Self::InUse(path) => write!(
                f,
                "data directory {} is in use by another ringmesh process: stop it, or set \
                 store.data_dir to another directory",
                path.display()
            ),
            Self::Newer(path, found) => write!(
                f,
                "store {} has format {found}, written by a newer ringmesh: start that version, \
                 or restore an older backup",
                path.display()
            ),
            Self::Damaged(path, fault) => write!(
                f,
                "store {} is damaged ({fault}): restore it from a backup, or move it away to \
                 begin with an empty one",
                path.display()
            ),
            Self::File(path, error) => {
                let remedy = remedy_of(error);
                write!(f, "store {}: {error}; {remedy}", path.display())
            }
            Self::Write(path, fault) => {
                let (fault, remedy) = match fault {
                    redb::Error::Io(error) => (error.to_string(), remedy_of(error)),
                    fault => (fault.to_string(), CHECK_DISK),
                };
                write!(
                    f,
                    "store {} could not be written: {fault}; {remedy} (it is tried again by \
                     itself, no restart is needed)",
                    path.display()
                )
            }
            Self::MasterKey(error) => {
                let anew = "a new store needs one: remove the file to have a key made, or put 32 \
                            random bytes in base64 there";
                write!(f, "{error}; {}", error.remedy_of_disk().unwrap_or(anew))
            }
        }
    }
}

impl std::error::Error for StoreError {}

const CHECK_DISK: &str = "check the disk that it is on";

/// What an operator does about a fault of the disk under a store that is there.
fn remedy_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "let this user write there again",
        _ => files::remedy_of_disk(error).unwrap_or(CHECK_DISK),
    }
}

impl StoreError {
    /// The store in this file cannot be made.
    pub(super) fn unmade(path: PathBuf, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::File(path, error),
            error => Self::File(path, io::Error::other(error)),
        }
    }
}
