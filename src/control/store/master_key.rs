//! The master key: 32 random bytes, base64 in a file of mode 0600.
//!
//! It is made once, together with a new store, and never replaced: beside an existing store a
//! missing or wrong key is an error that an operator must mend.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::files;
use super::seal::{MASTER_KEY_BYTES, Sealer};
use crate::bounded_file::{self, SECRET_BYTES_MAX};

/// Why there is no usable master key.
#[derive(Debug)]
pub enum MasterKeyError {
    /// There is no such file, or it cannot be read or made.
    File(PathBuf, io::Error),
    /// It does not contain 32 bytes of base64.
    Malformed(PathBuf),
    /// It is a key, but not the one that this store's secrets were encrypted with.
    Wrong(PathBuf),
}

impl MasterKeyError {
    /// What an operator does about the disk; `None`: it is not to blame.
    #[must_use]
    pub(super) fn remedy_of_disk(&self) -> Option<&'static str> {
        match self {
            Self::File(_, error) => files::remedy_of_disk(error),
            Self::Malformed(_) | Self::Wrong(_) => None,
        }
    }
}

impl fmt::Display for MasterKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "master key {}: {error}", path.display()),
            Self::Malformed(path) => {
                write!(f, "master key {}: not 32 bytes in base64", path.display())
            }
            Self::Wrong(path) => write!(
                f,
                "master key {}: not the key that this store was made with",
                path.display()
            ),
        }
    }
}

/// Reads the key in `path`.
///
/// # Errors
/// When it cannot be read or is no key.
pub(crate) fn load(path: &Path) -> Result<Sealer, MasterKeyError> {
    let sealer = read(path)?;
    files::narrow(path).map_err(|error| MasterKeyError::File(path.into(), error))?;
    Ok(sealer)
}

/// The same, and the mode of the file stays as it is.
///
/// # Errors
/// When it cannot be read or is no key.
pub(crate) fn read(path: &Path) -> Result<Sealer, MasterKeyError> {
    let in_file = |error| MasterKeyError::File(path.into(), error);
    let text = bounded_file::read(path, SECRET_BYTES_MAX).map_err(in_file)?;
    let mut key = Zeroizing::new([0; MASTER_KEY_BYTES]);
    match STANDARD.decode_slice(text.trim_ascii(), key.as_mut_slice()) {
        Ok(MASTER_KEY_BYTES) => Ok(Sealer::new(&key)),
        _ => Err(MasterKeyError::Malformed(path.into())),
    }
}

/// Reads the key in `path`, or makes one when there is no such file. For a new store only.
///
/// # Errors
/// When it cannot be read or made, or is no key.
pub(crate) fn load_or_create(path: &Path) -> Result<Sealer, MasterKeyError> {
    match load(path) {
        Err(MasterKeyError::File(_, error)) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let in_file = |error| MasterKeyError::File(path.into(), error);
    let mut key = Zeroizing::new([0; MASTER_KEY_BYTES]);
    aws_lc_rs::rand::fill(key.as_mut_slice())
        .map_err(|_| in_file(io::Error::other("the system has no random bytes")))?;
    let mut text = Zeroizing::new(STANDARD.encode(key.as_slice()));
    text.push('\n');
    files::write_private(path, text.as_bytes()).map_err(in_file)?;
    tracing::info!(path = %path.display(), "master key made; keep a copy in a safe place");
    Ok(Sealer::new(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &[u8], expected: bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        std::fs::write(&path, content).unwrap();
        assert_eq!(read(&path).is_ok(), expected, "{}", content.escape_ascii());
        assert_eq!(load(&path).is_ok(), expected);
        // What is there is never replaced.
        assert_eq!(load_or_create(&path).is_ok(), expected);
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }

    #[test]
    fn exactly_32_bytes_of_base64_are_a_key() {
        let key = STANDARD.encode([9; 32]);
        check(key.as_bytes(), true);
        check(format!(" {key}\r\n").as_bytes(), true);
        check(b"", false);
        check(STANDARD.encode([9; 31]).as_bytes(), false);
        check(STANDARD.encode([9; 33]).as_bytes(), false);
        check(&[9; 32], false);
        check(b"\xff\xfe", false);
    }

    #[test]
    fn a_made_key_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let sealed = load_or_create(&path).unwrap().seal("c", b"s").unwrap();
        assert_eq!(**load(&path).unwrap().open("c", &sealed).unwrap(), *b"s");
    }

    #[test]
    fn errors_name_the_file() {
        let Err(error) = load(Path::new("/nonexistent/k")) else {
            panic!("a key from nowhere")
        };
        assert!(
            error.to_string().starts_with("master key /nonexistent/k: "),
            "{error}"
        );
    }
}
