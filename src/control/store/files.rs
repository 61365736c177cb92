//! Directories and files that nobody else may read, made so from their first moment.
//!
//! Nothing here knows what the files contain.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

pub(crate) use crate::private_file::{
    create as create_private, publish, unfinished, write as write_private,
};

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
const OTHERS: u32 = 0o077;
const WORLD_WRITABLE: u32 = 0o002;

/// Makes `dir` with mode 0700, or checks the one that is there.
///
/// A wider mode is narrowed where the directory is ours (empty, or with `marker` in it). In a
/// directory with other things in it only a warning is logged: the files are private anyway.
///
/// # Errors
/// `PermissionDenied` for a directory in which anybody may write, and whatever the file system
/// says.
pub(crate) fn private_directory(dir: &Path, marker: &str) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(dir)?;
    let mode = fs::metadata(dir)?.permissions().mode();
    if mode & WORLD_WRITABLE != 0 {
        let text = "everybody may write there; choose a directory of its own";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let ours = dir.join(marker).exists() || fs::read_dir(dir)?.next().is_none();
    if ours {
        fs::set_permissions(dir, Permissions::from_mode(DIRECTORY_MODE))?;
        tracing::warn!(path = %dir.display(), "data directory was open to others; now mode 0700");
    } else {
        tracing::warn!(path = %dir.display(), "data directory is open to others; use mode 0700");
    }
    Ok(())
}

/// Takes the mode of an existing private file back to 0600, and says so in the log.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn narrow(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & OTHERS != 0 {
        fs::set_permissions(path, Permissions::from_mode(FILE_MODE))?;
        tracing::warn!(path = %path.display(), "file was open to others; now mode 0600");
    }
    Ok(())
}

/// What an operator does about a disk that takes nothing; `None`: the disk is not to blame.
#[must_use]
pub(crate) fn remedy_of_disk(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::StorageFull => "the disk that it is on is full: free space there",
        io::ErrorKind::QuotaExceeded => "this user's quota of that disk is used up: raise it",
        io::ErrorKind::FileTooLarge => "raise the file size limit (ulimit -f, LimitFSIZE=)",
        io::ErrorKind::ReadOnlyFilesystem => "mount the disk that it is on for writing again",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_directory_and_file_are_private() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        private_directory(&dir, "x").unwrap();
        assert_eq!(mode(&dir), 0o700);
        write_private(&dir.join("x"), b"secret").unwrap();
        assert_eq!(mode(&dir.join("x")), 0o600);
        assert_eq!(fs::read(dir.join("x")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    fn wider_modes_are_narrowed_where_the_directory_is_ours() {
        let root = tempfile::tempdir().unwrap();
        for (file, expected) in [("store", 0o700), ("other", 0o755)] {
            let dir = root.path().join(file);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(file), b"").unwrap();
            fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
            private_directory(&dir, "store").unwrap();
            assert_eq!(mode(&dir), expected, "{file}");
        }
        let file = root.path().join("store/store");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        narrow(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn a_directory_that_everybody_may_write_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o1777)).unwrap();
        let error = private_directory(root.path(), "x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(mode(root.path()), 0o1777, "left alone");
    }
}
