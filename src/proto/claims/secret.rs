//! A signing secret, ready for use.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};

/// A signing secret of a key: signs its tokens and verifies them with HS256. Its memory is
/// overwritten when it is dropped.
pub struct Secret {
    pub(super) signing: EncodingKey,
    verifying: DecodingKey,
}

impl Secret {
    /// Takes the secret's bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self {
            signing: EncodingKey::from_secret(bytes),
            verifying: DecodingKey::from_secret(bytes),
        }
    }

    /// Whether `candidate` is this secret. The time taken tells nothing but whether the
    /// lengths are equal.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        verify_slices_are_equal(self.signing.as_bytes(), candidate).is_ok()
    }

    /// Whether `signature`, in base64url, is this secret's for `message`, in constant time.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        crypto::verify(
            signature,
            message.as_bytes(),
            &self.verifying,
            Algorithm::HS256,
        )
        .unwrap_or(false)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
