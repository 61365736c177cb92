//! Why the store cannot be opened or written: one line each, with what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

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
            Self::Directory(path, error) => write!(
                f,
                "data directory {}: {error}; set store.data_dir to a directory that this user \
                 may write",
                path.display()
            ),
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
            Self::File(path, error) => write!(f, "store {}: {error}", path.display()),
            Self::Write(path, fault) => {
                let (fault, remedy) = remedy_of(fault);
                write!(
                    f,
                    "store {} could not be written: {fault}; {remedy} (it is tried again by \
                     itself, no restart is needed)",
                    path.display()
                )
            }
            Self::MasterKey(error) => write!(
                f,
                "{error}; a new store needs one: remove the file to have a key made, or put 32 \
                 random bytes in base64 there"
            ),
        }
    }
}

impl std::error::Error for StoreError {}

/// What went wrong with the disk, and what an operator does about it.
fn remedy_of(fault: &redb::Error) -> (String, &'static str) {
    let redb::Error::Io(error) = fault else {
        return (fault.to_string(), "check the disk that it is on");
    };
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull => "the disk that it is on is full: free space there",
        io::ErrorKind::QuotaExceeded => "this user's quota of that disk is used up: raise it",
        io::ErrorKind::FileTooLarge => "raise the file size limit (ulimit -f, LimitFSIZE=)",
        io::ErrorKind::ReadOnlyFilesystem => "mount the disk that it is on for writing again",
        io::ErrorKind::PermissionDenied => "let this user write there again",
        _ => "check the disk that it is on",
    };
    (error.to_string(), remedy)
}
