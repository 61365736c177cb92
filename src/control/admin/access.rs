//! Who may use the admin API: the bearer of the token in a file of mode 0600, and for reading the
//! bearer of another one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::session::Role;
use crate::bounded_file::{self, SECRET_BYTES_MAX};
use crate::control::error::ControlError;
use crate::control::secret::{new_secret, sha256};
use crate::control::store::files;
use crate::domain::rights::SecretHash;

/// Bytes of a token that is hard to guess; a shorter one is warned about.
const TOKEN_BYTES_GOOD: usize = 16;

/// The token, and what it protects.
pub(crate) struct Access {
    /// Hashes are compared, so that neither content nor length shows in the time taken.
    token_sha256: SecretHash,
    /// Of the token that may only read, if there is one.
    read_token_sha256: Option<SecretHash>,
    /// Whether `/metrics` needs the token too.
    pub protect_metrics: bool,
    /// Whether the token is easy to guess.
    pub is_short: bool,
}

/// Why there is no admin token.
#[derive(Debug)]
pub(crate) enum TokenError {
    /// The file cannot be read or made.
    File(PathBuf, io::Error),
    /// It contains no token.
    Empty(PathBuf),
    /// A new one cannot be made.
    NoRandomBytes(ControlError),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => {
                let elsewhere = "set admin.token_file to a file that this user may read and make";
                let remedy = files::remedy_of_disk(error).unwrap_or(elsewhere);
                write!(f, "admin token {}: {error}; {remedy}", path.display())
            }
            Self::Empty(path) => write!(
                f,
                "admin token {}: the file has no token in it; remove it to have one made",
                path.display()
            ),
            Self::NoRandomBytes(error) => write!(f, "admin token: {error}"),
        }
    }
}

impl Access {
    /// Reads the token, or makes one when there is no such file; and the one that may only read,
    /// which is not made.
    ///
    /// # Errors
    /// When one cannot be read or made, or is empty.
    pub(crate) fn new(
        token_file: &Path,
        read_token_file: Option<&Path>,
        protect_metrics: bool,
    ) -> Result<Self, TokenError> {
        let content = match read(token_file) {
            Err(TokenError::File(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                make(token_file)?
            }
            content => content?,
        };
        let read_token_sha256 = match read_token_file {
            Some(file) => Some(hash_of(file, &read(file)?)?),
            None => None,
        };
        Ok(Self {
            token_sha256: hash_of(token_file, &content)?,
            read_token_sha256,
            protect_metrics,
            is_short: content.trim_ascii().len() < TOKEN_BYTES_GOOD,
        })
    }

    /// What an `Authorization` header allows. Takes the same time for all of one length.
    #[must_use]
    pub(super) fn allows(&self, authorization: Option<&[u8]>) -> Option<Role> {
        let (scheme, token) = authorization?.split_at_checked(7)?;
        let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
        is_bearer.then(|| self.role_of(token)).flatten()
    }

    /// What a token allows. Takes the same time for all of one length.
    #[must_use]
    pub(super) fn role_of(&self, token: &[u8]) -> Option<Role> {
        let shown = sha256(token.trim_ascii());
        let is = |hash: &SecretHash| verify_slices_are_equal(&shown, hash).is_ok();
        let (is_admin, is_reader) = (
            is(&self.token_sha256),
            self.read_token_sha256.as_ref().is_some_and(is),
        );
        match (is_admin, is_reader) {
            (true, _) => Some(Role::Admin),
            (false, true) => Some(Role::Reader),
            (false, false) => None,
        }
    }
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let in_file = |error| TokenError::File(file.into(), error);
    let content = bounded_file::read(file, SECRET_BYTES_MAX).map_err(in_file)?;
    files::narrow(file).map_err(in_file)?;
    Ok(content)
}

fn make(file: &Path) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let token = new_secret("adm_").map_err(TokenError::NoRandomBytes)?;
    let line = Zeroizing::new(format!("{}\n", token.expose()).into_bytes());
    let in_file = |error| TokenError::File(file.into(), error);
    files::write_private(file, &line).map_err(in_file)?;
    tracing::info!(path = %file.display(), "admin token made");
    Ok(line)
}

fn hash_of(file: &Path, content: &[u8]) -> Result<SecretHash, TokenError> {
    let token = content.trim_ascii();
    if token.is_empty() {
        return Err(TokenError::Empty(file.into()));
    }
    if token.len() < TOKEN_BYTES_GOOD {
        tracing::warn!(path = %file.display(), "admin token is short: easy to guess");
    }
    Ok(sha256(token))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn access(content: &str) -> Result<Access, TokenError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        std::fs::write(&path, content).unwrap();
        Access::new(&path, None, false)
    }

    #[test]
    fn only_the_token_is_good() {
        let access = access("adm_0123456789abcdef\n").unwrap();
        for (header, good) in [
            (Some("Bearer adm_0123456789abcdef"), true),
            (Some("bearer   adm_0123456789abcdef "), true),
            (Some("Bearer adm_0123456789abcdeg"), false),
            (Some("Bearer adm_0123456789abcde"), false),
            (Some("Bearer "), false),
            (Some("Basic adm_0123456789abcdef"), false),
            (Some("adm_0123456789abcdef"), false),
            (Some(""), false),
            (None, false),
        ] {
            let allowed = access.allows(header.map(str::as_bytes));
            assert_eq!(allowed, good.then_some(Role::Admin), "{header:?}");
        }
    }

    #[test]
    fn a_token_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        Access::new(&path, None, false).unwrap();
        let token = std::fs::read_to_string(&path).unwrap();
        assert!(token.starts_with("adm_") && token.len() > 40, "{token}");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let access = Access::new(&path, None, false).unwrap();
        assert_eq!(access.role_of(token.trim().as_bytes()), Some(Role::Admin));
    }

    #[test]
    fn another_token_may_only_read_and_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let (file, read_file) = (dir.path().join("a"), dir.path().join("r"));
        let error = Access::new(&file, Some(&read_file), false).err();
        assert!(error.expect("no file").to_string().contains("/r: "));
        std::fs::write(&read_file, "read_0123456789abcdef").unwrap();
        let access = Access::new(&file, Some(&read_file), false).unwrap();
        assert_eq!(access.role_of(b"read_0123456789abcdef"), Some(Role::Reader));
        assert_eq!(access.role_of(b"read_0123456789abcde"), None);
    }

    #[test]
    fn an_empty_token_is_refused() {
        for content in ["", "\n", " \t\n"] {
            let error = access(content).err().expect("no token").to_string();
            assert!(error.contains("no token in it"), "{error}");
        }
    }
}
