//! Secrets that the configuration names: by file, or by environment variable. They never stand
//! in the configuration itself, are wiped from memory when dropped, and no error shows one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::error::ConfigError;
use super::given::Given;
use super::overrides::Environment;
use super::section::Section;

/// Bytes of a secret, generously: what is longer is the wrong file.
const SECRET_BYTES_MAX: usize = 4_096;

/// A secret, wiped from memory when dropped.
pub(super) type SecretBytes = Zeroizing<Vec<u8>>;

/// A secret from the file or the variable that is named; `None` when neither is.
pub(super) fn secret(
    section: &mut Section<'_>,
    [file_key, variable_key]: [&'static str; 2],
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
    let (key, mut secret) = match (file, variable) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let text = format!("{file_key} and {variable_key} are both given; keep one");
            return Err(section.conflict(&[variable_key], text));
        }
        (Some(file), None) => {
            let path = section.resolved(Path::new(&file));
            let secret = read_secret(&path).map_err(|cause| {
                let text = format!(
                    "{} cannot be read: {cause}; give a readable file",
                    path.display()
                );
                section.conflict(&[file_key], text)
            })?;
            (file_key, secret)
        }
        (None, Some(variable)) => {
            // A secret put here in place of a name must not get into the log: no echo.
            let Some(value) = environment.get(&variable) else {
                let text = "the variable it names is not set; set it, or use a file".to_owned();
                return Err(section.conflict(&[variable_key], text));
            };
            (
                variable_key,
                Zeroizing::new(value.as_encoded_bytes().to_vec()),
            )
        }
    };
    let trimmed = secret
        .strip_suffix(b"\n")
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if let Some(length) = trimmed.map(<[u8]>::len) {
        secret.truncate(length);
    }
    if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
        let text = format!("a secret has 1 to {SECRET_BYTES_MAX} bytes; this one has not");
        return Err(section.conflict(&[key], text));
    }
    Ok(Some(secret))
}

/// The file's bytes, as far as they are needed to see that it is too long.
fn read_secret(path: &Path) -> io::Result<SecretBytes> {
    // A byte too many, a line end, and room left over: the buffer never grows, which would
    // leave a copy behind that is not wiped.
    let bytes_max = SECRET_BYTES_MAX + 1 + "\r\n".len();
    let mut secret = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
    File::open(path)?
        .take(bytes_max as u64)
        .read_to_end(&mut secret)?;
    Ok(secret)
}
