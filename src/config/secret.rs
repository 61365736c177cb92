//! Secrets that the configuration names: by file, or by environment variable. They never stand
//! in the configuration itself, are wiped from memory when dropped, and no error shows one.

use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::error::ConfigError;
use super::given::Given;
use super::overrides::Environment;
use super::section::Section;
use crate::bounded_file;
use crate::limits::SIGNING_SECRET_BYTES_MIN;

/// Bytes of a secret, generously: what is longer is the wrong file.
const SECRET_BYTES_MAX: usize = 4_096;
/// What an API secret begins with.
const API_PREFIX: &str = "sk_live_";
/// Characters of an API secret behind its prefix: 96 bits, if they are random base64.
const API_CHARS_MIN: usize = 16;

/// A secret, wiped from memory when dropped.
pub(super) type SecretBytes = Zeroizing<Vec<u8>>;

/// What a secret is for, and so what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecretKind {
    /// Signs tokens.
    Signing,
    /// The bearer secret of REST.
    Api,
    /// Shared with another server, which decides what it is.
    Shared,
}

/// A secret from the file or the variable that is named; `None` when neither is.
pub(super) fn secret(
    section: &mut Section<'_>,
    [file_key, variable_key]: [&'static str; 2],
    kind: SecretKind,
    environment: &Environment,
) -> Result<Option<SecretBytes>, ConfigError> {
    let filled = |given: Given<'_>| {
        given
            .text()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let file = section.value(file_key, "a path", None, filled)?;
    let variable = section.value(variable_key, "the name of a variable", None, filled)?;
    let (key, place, mut secret) = match (file, variable) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let text = format!("{file_key} and {variable_key} are both given; keep one");
            section.refuse(&[variable_key], text)?;
            return Ok(None);
        }
        (Some(file), None) => {
            let path = section.resolved(Path::new(&file));
            let shown = path.display();
            match read_secret(&path) {
                Ok(secret) => (file_key, format!("{shown}: "), secret),
                Err(cause) => {
                    let text = format!("{shown} cannot be read: {cause}; give a readable file");
                    section.refuse(&[file_key], text)?;
                    return Ok(None);
                }
            }
        }
        (None, Some(variable)) => {
            section.note_read(&variable);
            // A secret put here in place of a name must not get into the log: no echo.
            let Some(value) = environment.get(&variable) else {
                let text = "the variable it names is not set; set it, or use a file".to_owned();
                section.refuse(&[variable_key], text)?;
                return Ok(None);
            };
            let secret = Zeroizing::new(value.as_encoded_bytes().to_vec());
            (variable_key, String::new(), secret)
        }
    };
    let trimmed = without_line_ends(&secret).len();
    secret.truncate(trimmed);
    match fault_of(&secret, kind) {
        None => Ok(Some(secret)),
        Some(fault) => {
            section.refuse(&[key], format!("{place}{fault}"))?;
            Ok(None)
        }
    }
}

/// Editors and `echo` end a file with a line end, some with more than one.
fn without_line_ends(mut secret: &[u8]) -> &[u8] {
    while let Some(shorter) = secret.strip_suffix(b"\n") {
        secret = shorter.strip_suffix(b"\r").unwrap_or(shorter);
    }
    secret
}

/// What is wrong with a secret, and the remedy. Shows nothing of it.
fn fault_of(secret: &[u8], kind: SecretKind) -> Option<String> {
    let length = secret.len();
    let random = "make a new one with: openssl rand -base64 32";
    if secret.is_empty() || length > SECRET_BYTES_MAX {
        return Some(format!(
            "a secret has 1 to {SECRET_BYTES_MAX} bytes; this one has not"
        ));
    }
    if secret.contains(&0) {
        return Some("there is a NUL byte in it; write the secret as text".to_owned());
    }
    if secret.trim_ascii().len() < length {
        return Some("the secret begins or ends with a blank; remove it".to_owned());
    }
    match kind {
        SecretKind::Signing if length < SIGNING_SECRET_BYTES_MIN => Some(format!(
            "a signing secret has at least {SIGNING_SECRET_BYTES_MIN} bytes, this one has \
             {length}; {random}"
        )),
        SecretKind::Api => match secret.strip_prefix(API_PREFIX.as_bytes()) {
            None => Some(format!(
                "an API secret begins with {API_PREFIX}; this one does not"
            )),
            Some(chars) if chars.len() < API_CHARS_MIN => Some(format!(
                "an API secret has at least {API_CHARS_MIN} random characters behind \
                 {API_PREFIX}, this one has {}; {random}",
                chars.len()
            )),
            Some(chars) if !chars.iter().all(u8::is_ascii_graphic) => {
                Some("an API secret is printable ASCII without blanks; this one is not".to_owned())
            }
            Some(_) => None,
        },
        SecretKind::Signing | SecretKind::Shared => None,
    }
}

/// The file's bytes, as far as they are needed to see that it is too long.
fn read_secret(path: &Path) -> io::Result<SecretBytes> {
    // A byte too many, a line end, and room left over: the buffer never grows, which would
    // leave a copy behind that is not wiped.
    let bytes_max = SECRET_BYTES_MAX + 1 + "\r\n".len();
    let mut secret = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
    bounded_file::open(path)?
        .take(bytes_max as u64)
        .read_to_end(&mut secret)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"0123456789abcdef0123456789abcdef";

    #[test]
    fn line_ends_are_no_part_of_a_secret() {
        for end in ["", "\n", "\r\n", "\n\n", "\r\n\r\n\n"] {
            let file = [b"s e", end.as_bytes()].concat();
            assert_eq!(without_line_ends(&file), b"s e", "{end:?}");
        }
        assert_eq!(without_line_ends(b"\n\n"), b"");
    }

    fn check(kind: SecretKind, secret: &[u8], fault: Option<&str>) {
        let found = fault_of(secret, kind);
        let shown = secret.escape_ascii();
        match (&found, fault) {
            (None, None) => {}
            (Some(found), Some(part)) => assert!(found.contains(part), "{shown}: {found}"),
            _ => panic!("{shown}: {found:?}"),
        }
        // A message shows nothing of the secret.
        let is_long = secret.len() > 3;
        let text = String::from_utf8_lossy(secret).trim().to_owned();
        assert!(!is_long || text == API_PREFIX || !found.unwrap_or_default().contains(&text));
    }

    #[test]
    fn what_is_easily_guessed_or_no_text_is_refused() {
        use SecretKind::{Api, Shared, Signing};
        check(Signing, GOOD, None);
        check(
            Signing,
            &GOOD[1..],
            Some("at least 32 bytes, this one has 31"),
        );
        check(Signing, b"x", Some("openssl rand"));
        check(Shared, b"x", None);
        for kind in [Signing, Api, Shared] {
            check(kind, b"", Some("1 to 4096 bytes"));
            check(kind, &[b'x'; 4_097], Some("1 to 4096 bytes"));
            check(kind, &[GOOD, b" "].concat(), Some("ends with a blank"));
            check(kind, &[GOOD, b"\t"].concat(), Some("ends with a blank"));
            check(kind, &[b"\n", GOOD].concat(), Some("begins or ends"));
            check(kind, &[GOOD, b"\0"].concat(), Some("NUL"));
            check(kind, &[GOOD, b"\0", GOOD].concat(), Some("NUL"));
        }
        check(Api, b"sk_live_0123456789abcdef", None);
        check(Api, b"sk_live_0123456789abcde", Some("this one has 15"));
        check(Api, b"sk_live_", Some("this one has 0"));
        check(Api, GOOD, Some("begins with sk_live_"));
        check(Api, b"sk_live_0123456789 abcdef", Some("printable ASCII"));
    }
}
