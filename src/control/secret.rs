//! Generated ids and secrets, and text that must not be printed or left in memory.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::error::ControlError;
use crate::domain::rights::SecretHash;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random characters of an id: 142 bits.
const ID_CHARS: usize = 24;
/// Random characters of a secret: 238 bits.
const SECRET_CHARS: usize = 40;

/// A secret as its holder writes it. Wiped when dropped, never shown by `Debug`; serialized
/// only into the one answer that shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes over a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Returns the secret itself, which must not be logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The SHA-256 of an API secret, by which it is kept and found.
#[must_use]
#[expect(clippy::expect_used, reason = "SHA-256 has 32 bytes")]
pub(super) fn sha256(secret: &[u8]) -> SecretHash {
    digest(&SHA256, secret)
        .as_ref()
        .try_into()
        .expect("32 bytes")
}

/// A new id: `prefix` and random characters.
///
/// # Errors
/// `Unavailable` when the system has no random bytes.
pub(super) fn new_id(prefix: &str) -> Result<String, ControlError> {
    let mut id = prefix.to_owned();
    push_random(&mut id, ID_CHARS)?;
    Ok(id)
}

/// A new secret: `prefix` and random characters.
///
/// # Errors
/// `Unavailable` when the system has no random bytes.
pub(super) fn new_secret(prefix: &str) -> Result<SecretText, ControlError> {
    // With room for all of it: growing would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + SECRET_CHARS));
    text.push_str(prefix);
    push_random(&mut text, SECRET_CHARS)?;
    Ok(SecretText(text))
}

fn push_random(text: &mut String, chars: usize) -> Result<(), ControlError> {
    let mut missing = chars;
    while missing > 0 {
        let mut bytes = Zeroizing::new([0_u8; 64]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice())
            .map_err(|_| ControlError::Unavailable("the system has no random bytes".into()))?;
        // 248 is the largest multiple of 62 in a byte: what is above would favour some.
        for byte in bytes.iter().filter(|byte| **byte < 248).take(missing) {
            text.push(char::from(BASE62[usize::from(byte % 62)]));
            missing -= 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn secrets_have_their_prefix_their_length_and_enough_bits() {
        let secret = new_secret("sk_secret_").unwrap();
        let random = secret.expose().strip_prefix("sk_secret_").unwrap();
        assert_eq!(random.len(), SECRET_CHARS);
        assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(SECRET_CHARS as f64 * 62_f64.log2() >= 192.0);
    }

    #[test]
    fn ids_differ_and_use_the_whole_alphabet() {
        let ids: Vec<_> = (0..200).map(|_| new_id("").unwrap()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        let used: HashSet<_> = ids.iter().flat_map(|id| id.bytes()).collect();
        assert_eq!(used.len(), BASE62.len());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(
            format!("{:?}", SecretText::new("hunter2".into())),
            "SecretText(…)"
        );
    }

    #[test]
    fn sha256_is_the_standard_one() {
        // FIPS 180-4 example: "abc".
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
