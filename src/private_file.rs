//! A file that nobody else may read, made so from its first moment: it appears under its name
//! complete and durable, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const FILE_MODE: u32 = 0o600;

/// Opens a new, empty file with mode 0600 for reading and writing, over any leftover of a
/// start that was cut short.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
}

/// Makes a private file with this content: complete and durable once it has its name.
///
/// # Errors
/// Whatever the file system says; there is no file of that name then.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = unfinished(path);
    let mut file = create(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    publish(&unfinished, path)
}

/// The name that a file has until it is complete.
#[must_use]
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Gives a finished file its name, durably.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn publish(unfinished: &Path, path: &Path) -> io::Result<()> {
    fs::rename(unfinished, path)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_leftover_of_a_cut_short_start_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        fs::write(
            root.path().join("x.new"),
            b"half of it, longer than the whole",
        )
        .unwrap();
        write(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(mode(&path), 0o600);
    }
}
