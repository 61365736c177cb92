//! Who may use the admin API: the bearer of the token in a file of mode 0600.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::control::error::ControlError;
use crate::control::secret::{new_secret, sha256};
use crate::control::store::files;
use crate::domain::rights::SecretHash;

/// Bytes of a token that is hard to guess; a shorter one is warned about.
const TOKEN_BYTES_GOOD: usize = 16;

/// The token, and what it protects.
pub struct Access {
    /// Hashes are compared, so that neither content nor length shows in the time taken.
    token_sha256: SecretHash,
    /// Whether `/metrics` needs the token too.
    pub protect_metrics: bool,
}

/// Why there is no admin token.
#[derive(Debug)]
pub enum TokenError {
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
            Self::File(path, error) => write!(
                f,
                "admin token {}: {error}; set admin.token_file to a file that this user may \
                 read and make",
                path.display()
            ),
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
    /// Reads the token, or makes one when there is no such file.
    ///
    /// # Errors
    /// When it cannot be read or made, or is empty.
    pub fn new(token_file: &Path, protect_metrics: bool) -> Result<Self, TokenError> {
        let in_file = |error| TokenError::File(token_file.into(), error);
        let content = match std::fs::read(token_file) {
            Ok(content) => {
                files::narrow(token_file).map_err(in_file)?;
                Zeroizing::new(content)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = new_secret("adm_").map_err(TokenError::NoRandomBytes)?;
                let line = Zeroizing::new(format!("{}\n", token.expose()).into_bytes());
                files::write_private(token_file, &line).map_err(in_file)?;
                tracing::info!(path = %token_file.display(), "admin token made");
                line
            }
            Err(error) => return Err(in_file(error)),
        };
        let token = content.trim_ascii();
        if token.is_empty() {
            return Err(TokenError::Empty(token_file.into()));
        }
        if token.len() < TOKEN_BYTES_GOOD {
            tracing::warn!(path = %token_file.display(), "admin token is short: easy to guess");
        }
        Ok(Self {
            token_sha256: sha256(token),
            protect_metrics,
        })
    }

    /// Whether an `Authorization` header is good. Takes the same time for all of one length.
    #[must_use]
    pub fn allows(&self, authorization: Option<&[u8]>) -> bool {
        let Some((scheme, token)) = authorization.and_then(|value| value.split_at_checked(7))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer ")
            && verify_slices_are_equal(&sha256(token.trim_ascii()), &self.token_sha256).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn access(content: &str) -> Result<Access, TokenError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        std::fs::write(&path, content).unwrap();
        Access::new(&path, false)
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
            assert_eq!(access.allows(header.map(str::as_bytes)), good, "{header:?}");
        }
    }

    #[test]
    fn a_token_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        Access::new(&path, false).unwrap();
        let token = std::fs::read_to_string(&path).unwrap();
        assert!(token.starts_with("adm_") && token.len() > 40, "{token}");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let access = Access::new(&path, false).unwrap();
        assert!(access.allows(Some(format!("Bearer {}", token.trim()).as_bytes())));
    }

    #[test]
    fn an_empty_token_is_refused() {
        for content in ["", "\n", " \t\n"] {
            let error = access(content).err().expect("no token").to_string();
            assert!(error.contains("no token in it"), "{error}");
        }
    }
}
