//! Why a configuration was refused: the place, the cause and the remedy, in one line.
//!
//! Every fault in here is the operator's to put right; there is no kind for our own mistakes.
//! Texts never contain a secret: secrets are named by file or variable, and what those hold is
//! never shown.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::redact::redacted;

/// A refused configuration. Its `Display` is one line naming place, cause and remedy.
#[derive(Debug)]
pub(crate) struct ConfigError {
    /// Where the fault is.
    pub place: Place,
    /// What it is. Boxed to keep results small.
    pub fault: Box<Fault>,
}

impl ConfigError {
    /// A fault at a place.
    #[must_use]
    pub(crate) fn new(place: Place, fault: Fault) -> Self {
        Self {
            place,
            fault: Box::new(fault),
        }
    }
}

/// Where a fault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The file as a whole.
    File(PathBuf),
    /// A line without a key: what stands there is not TOML.
    Line {
        /// Path of the configuration file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Offset of the first byte that is wrong, from 0.
        offset: usize,
    },
    /// A key in the file.
    Key {
        /// Path of the configuration file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Offset of the key or its value, from 0.
        offset: usize,
        /// Dotted name of the key, `limits.message_rate`.
        key: String,
    },
    /// Not in the file: an environment variable or a command-line argument, by its name.
    Override(String),
}

/// What is wrong there.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The configuration file cannot be read.
    Unreadable(io::Error),
    /// Not text as TOML wants it.
    NotUtf8 {
        /// Offset of the first byte that does not belong, from 0.
        offset: usize,
        /// The byte there.
        byte: u8,
    },
    /// Not TOML; the parser's words.
    Syntax(String),
    /// There is no such key.
    UnknownKey {
        /// The known key that looks most like it, dotted.
        nearest: Option<String>,
    },
    /// A key without a default is missing.
    Missing {
        /// What it should be.
        expected: String,
    },
    /// A wrong type or an impossible value.
    Unexpected {
        /// What would be right.
        expected: String,
        /// What was typed.
        found: String,
        /// What the key is when it is left out.
        default: Option<String>,
    },
    /// The value contradicts something else; cause and remedy.
    Conflict(String),
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A secret may have been put in place of something else.
        let text = format!("{}: {}", self.place, self.fault);
        f.write_str(&redacted(&text))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Line { path, line, .. } => write!(f, "{}:{line}", path.display()),
            Self::Key {
                path, line, key, ..
            } => write!(f, "{}:{line}: {}", path.display(), Clipped::key(key)),
            Self::Override(name) => f.write_str(name),
        }
    }
}

/// Bytes of a key that are shown at most. The longest known one has 48.
const KEY_BYTES_MAX: usize = 400;

/// Bytes of a fault that are shown at most. What was typed stands in it, and may be as long as the
/// file; our own longest text has 300.
const FAULT_BYTES_MAX: usize = 1_000;

/// A text as it is shown: of a very long one, its beginning.
pub(super) struct Clipped<'a> {
    text: &'a str,
    bytes_max: usize,
}

impl<'a> Clipped<'a> {
    /// A key that somebody typed.
    pub(super) fn key(text: &'a str) -> Self {
        let bytes_max = KEY_BYTES_MAX;
        Self { text, bytes_max }
    }
}

impl fmt::Display for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.len() <= self.bytes_max {
            return f.write_str(self.text);
        }
        let end = self.text.floor_char_boundary(self.bytes_max);
        write!(f, "{}…", &self.text[..end])
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text)?;
        let bytes_max = FAULT_BYTES_MAX;
        let text = &text;
        Clipped { text, bytes_max }.fmt(f)
    }
}

impl Fault {
    /// Writes cause and remedy, with all that was typed.
    fn write(&self, f: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => {
                write!(
                    f,
                    "cannot be read: {cause}; check the path and its permissions"
                )
            }
            Self::NotUtf8 { offset, byte } => write!(
                f,
                "not UTF-8: byte 0x{byte:02x} at offset {offset}; save the file as UTF-8 without \
                 other encodings in it"
            ),
            Self::Syntax(cause) => write!(f, "not TOML: {cause}; see https://toml.io"),
            Self::UnknownKey {
                nearest: Some(nearest),
            } => {
                write!(f, "unknown key; did you mean {nearest}?")
            }
            Self::UnknownKey { nearest: None } => write!(f, "unknown key; remove it"),
            Self::Missing { expected } => write!(f, "missing; give {expected}"),
            Self::Unexpected {
                expected,
                found,
                default,
            } => {
                write!(f, "expected {expected}, found {found}")?;
                match default {
                    Some(default) => write!(f, "; leave it out for the default, {default}"),
                    None => Ok(()),
                }
            }
            Self::Conflict(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_length_is_named_in_a_line_that_can_be_read() {
        let place = |key: String| Place::Key {
            path: "ringmesh.toml".into(),
            line: 2,
            offset: 9,
            key,
        };
        let shown = KEY_BYTES_MAX / "é".len();
        let long = place("é".repeat(3_000)).to_string();
        assert_eq!(long, format!("ringmesh.toml:2: {}…", "é".repeat(shown)));
        let whole = place("é".repeat(shown)).to_string();
        assert!(whole.ends_with('é'), "{whole}");
    }

    #[test]
    fn a_fault_of_any_length_ends_with_its_first_thousand_bytes() {
        let fault = Fault::Conflict("é".repeat(3_000)).to_string();
        assert_eq!(fault, format!("{}…", "é".repeat(FAULT_BYTES_MAX / 2)));
    }
}
