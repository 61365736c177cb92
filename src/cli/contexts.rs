//! Servers that have a name, in a file of the user's own.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::bounded_file::{self, CONFIG_BYTES_MAX};
use crate::config::Environment;
use crate::nearest::nearest;
use crate::private_file;

/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;
/// Bytes of the name of a context.
const NAME_BYTES_MAX: usize = 64;

/// A server with a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Where its admin API is.
    pub admin_url: String,
    /// File with the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token_file: Option<PathBuf>,
    /// Where its clients connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Certificates to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// All of them, as in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The name of the one in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// Returns the file of the contexts; `None` where the environment names no home.
pub(crate) fn file(environment: &Environment) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(environment.get(name)?);
        path.is_absolute().then_some(path)
    };
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(config.join("ringmesh/contexts.toml"))
}

/// Reads the name of a context.
///
/// # Errors
/// What a name is like.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_one = (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with(['.', '-']);
    is_one
        .then(|| text.to_owned())
        .ok_or("expected 1 to 64 of A-Z a-z 0-9 . _ -, without a . or - at the start")
}

impl Contexts {
    /// Reads them; without a file there are none.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or it is none of ours.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let bad = |cause: &dyn std::fmt::Display| {
            Failure::usage(format_args!("{}: {cause}", path.display()))
        };
        let mode = match fs::metadata(path) {
            Ok(metadata) => metadata.permissions().mode(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(bad(&error)),
        };
        if mode & OTHERS != 0 {
            let text = format!("others may read it; run chmod 600 {}", path.display());
            return Err(bad(&text));
        }
        let text = bounded_file::read_text(path, CONFIG_BYTES_MAX).map_err(|error| bad(&error))?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                1 + text[..span.start.min(text.len())].matches('\n').count()
            });
            let words: Vec<_> = error.message().split_whitespace().collect();
            Failure::usage(format_args!(
                "{}:{line}: {}; mend it, or remove it and add the contexts again",
                path.display(),
                words.join(" ")
            ))
        })
    }

    /// Writes them down, for nobody else to read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save(&self, path: &Path) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            let text = toml::to_string(self).map_err(io::Error::other)?;
            let directory = path.parent().unwrap_or(Path::new("."));
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
            private_file::write(path, text.as_bytes())
        };
        write().map_err(|error| {
            Failure::failed(format_args!(
                "{}: {error}; set XDG_CONFIG_HOME to a directory that you may write",
                path.display()
            ))
        })
    }

    /// The context of that name.
    ///
    /// # Errors
    /// There is none, or it is no name.
    pub(crate) fn named(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known = nearest(name, self.contexts.keys().map(String::as_str));
            let meant = known.map_or_else(
                || "ringmesh context list shows them".to_owned(),
                |known| format!("did you mean {known}?"),
            );
            Failure::usage(format_args!("there is no context {name:?}; {meant}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_users_own() {
        let environment =
            |variables: &[(&str, &str)]| -> Environment { variables.iter().copied().collect() };
        let at = |variables: &[(&str, &str)]| file(&environment(variables));
        let path = |text: &str| Some(PathBuf::from(text));
        let expected = path("/h/.config/ringmesh/contexts.toml");
        assert_eq!(at(&[("HOME", "/h")]), expected);
        assert_eq!(at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "rel")]), expected);
        let expected = path("/x/ringmesh/contexts.toml");
        assert_eq!(at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), expected);
        assert_eq!(at(&[]), None);
    }

    #[test]
    fn a_name_is_a_word() {
        for good in ["a", "shop", "rt.example-2", "_", &"x".repeat(64)] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "../x",
            ".x",
            "-x",
            "a/b",
            "a b",
            "a\n",
            "\u{1b}[2J",
            "é",
            "a\0",
            &"x".repeat(65),
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ringmesh/contexts.toml");
        assert_eq!(Contexts::load(&path).unwrap(), Contexts::default());
        let mut contexts = Contexts::default();
        contexts.contexts.insert("a".to_owned(), Context::default());
        contexts.current = Some("a".to_owned());
        contexts.save(&path).unwrap();
        let read = Contexts::load(&path).unwrap();
        assert_eq!(read, contexts);
        assert_eq!(read.current.as_deref(), Some("a"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = Contexts::load(&path).unwrap_err();
        assert_eq!(failure.exit_code, 2);
        assert!(failure.message.contains("chmod 600"), "{failure}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "\ncurent = 1\n").unwrap();
        let failure = Contexts::load(&path).unwrap_err();
        assert!(failure.message.contains("contexts.toml:2: "), "{failure}");
    }
}
