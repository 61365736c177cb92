//! Files that somebody names: read if they are regular ones, and within a limit. A name may lead to
//! a device that never ends, a pipe that nobody writes to, or a file of any size.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Bytes of a configuration, or of a list of contexts.
pub(crate) const CONFIG_BYTES_MAX: u64 = 4 * 1_024 * 1_024;
/// Bytes of certificates, or of a key: a system's whole list of them has some 200 KB.
pub(crate) const PEM_BYTES_MAX: u64 = 4 * 1_024 * 1_024;
/// Bytes of a secret or a token, generously: what is longer is the wrong file.
pub(crate) const SECRET_BYTES_MAX: u64 = 64 * 1_024;
/// Bytes of a backup: 10,000 apps with 50 keys each, three times.
pub(crate) const BACKUP_BYTES_MAX: u64 = 1_024 * 1_024 * 1_024;

/// Opens a regular file for reading.
///
/// # Errors
/// `InvalidInput` if it is something else, and whatever the file system says.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // A pipe would wait for whoever writes to it.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let what = if kind.is_dir() {
        "a directory"
    } else {
        "a device or a pipe"
    };
    let text = format!("it is {what}, and no regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// Returns the content of a regular file of so many bytes at most. It is wiped from memory when
/// dropped: it may be a secret.
///
/// # Errors
/// `InvalidInput` if it is something else, `FileTooLarge` if it is longer, and whatever the file
/// system says.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    contents(open(path)?, bytes_max)
}

/// Returns the content of an open file, as [`read`] does.
///
/// # Errors
/// `FileTooLarge` if it is longer, and whatever the file system says.
pub(crate) fn contents(file: File, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = file.metadata()?.len();
    let too_large = || {
        let text = format!("it has more than {bytes_max} bytes, the limit of such a file");
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    if length > bytes_max {
        return Err(too_large());
    }
    // A file that grows meanwhile, or one of `/proc`, is longer than it says. With room for one
    // byte more the buffer of any other never grows, which would leave a copy behind.
    let room = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    file.take(bytes_max + 1).read_to_end(&mut content)?;
    match content.len() as u64 > bytes_max {
        true => Err(too_large()),
        false => Ok(content),
    }
}

/// Returns the content of a regular file of so many bytes at most, which is text.
///
/// # Errors
/// As [`read`]; `InvalidData` if it is not UTF-8.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<String>> {
    text_of(open(path)?, bytes_max)
}

/// Returns the content of an open file, as [`read_text`] does.
///
/// # Errors
/// `FileTooLarge` if it is longer, `InvalidData` if it is not UTF-8, and whatever the file system
/// says.
pub(crate) fn text_of(file: File, bytes_max: u64) -> io::Result<Zeroizing<String>> {
    let mut content = contents(file, bytes_max)?;
    let text = String::from_utf8(std::mem::take(&mut *content));
    text.map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text")
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_regular_file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for length in [0, 1, 9, 10] {
            fs::write(&path, "x".repeat(length)).unwrap();
            assert_eq!(read(&path, 10).unwrap().len(), length);
            assert_eq!(read_text(&path, 10).unwrap().len(), length);
        }
        fs::write(&path, "x".repeat(11)).unwrap();
        let error = read(&path, 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("more than 10 bytes"), "{error}");
        fs::write(&path, b"\xff").unwrap();
        let error = read_text(&path, 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read(&link, 10).unwrap().as_slice(), b"\xff");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        for path in [Path::new("/dev/zero"), dir.path(), &pipe] {
            let error = read(path, 10).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains("no regular file"), "{error}");
        }
        // The kernel says that it has no bytes, and it has.
        let status = Path::new("/proc/self/status");
        assert!(read(status, 64 * 1_024).unwrap().len() > 100);
        let error = read(status, 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
