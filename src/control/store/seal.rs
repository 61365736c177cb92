//! Encryption of secrets at rest: AES-256-GCM under the master key.
//!
//! The context (what the secret is, and whose) is authenticated with it, so that a sealed
//! secret moved to another row does not open. Nonces are random, 96 bits: one key may seal
//! 2^32 secrets (NIST SP 800-38D, section 8.3), far beyond what keys can be rotated.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Bytes of a master key.
pub(crate) const MASTER_KEY_BYTES: usize = 32;

/// Seals and opens with one master key.
pub(crate) struct Sealer {
    key: RandomizedNonceKey,
}

/// An encrypted secret: nonce, ciphertext and tag. Base64 in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed(Vec<u8>);

/// The cryptographic library refused to encrypt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SealError;

impl Sealer {
    /// A sealer with this master key.
    ///
    /// # Panics
    /// Never: the key has the length that the algorithm asks for.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the only failure is a wrong length")]
    pub(crate) fn new(master_key: &[u8; MASTER_KEY_BYTES]) -> Self {
        let key = RandomizedNonceKey::new(&AES_256_GCM, master_key);
        Self {
            key: key.expect("a key of 32 bytes"),
        }
    }

    /// Encrypts `secret` for `context`.
    ///
    /// # Errors
    /// When the system has no random bytes for the nonce.
    pub(crate) fn seal(&self, context: &str, secret: &[u8]) -> Result<Sealed, SealError> {
        let mut bytes = Vec::with_capacity(NONCE_LEN + secret.len() + AES_256_GCM.tag_len());
        bytes.extend_from_slice(secret);
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(context), &mut bytes);
        let nonce = nonce.map_err(|_| SealError)?;
        bytes.splice(0..0, nonce.as_ref().iter().copied());
        Ok(Sealed(bytes))
    }

    /// Decrypts what was sealed for the same `context` with the same key; otherwise `None`.
    #[must_use]
    pub(crate) fn open(&self, context: &str, sealed: &Sealed) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.0.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = Zeroizing::new(ciphertext.to_vec());
        let secret = self
            .key
            .open_in_place(nonce, Aad::from(context), &mut bytes)
            .ok()?;
        let secret_bytes = secret.len();
        bytes.truncate(secret_bytes);
        Some(bytes)
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; MASTER_KEY_BYTES] = [7; MASTER_KEY_BYTES];

    #[test]
    fn a_secret_opens_with_its_key_and_context_only() {
        let sealer = Sealer::new(&KEY);
        let sealed = sealer.seal("signing sk_id_a", b"hunter2").unwrap();
        assert_eq!(
            **sealer.open("signing sk_id_a", &sealed).unwrap(),
            *b"hunter2"
        );
        assert!(sealer.open("signing sk_id_b", &sealed).is_none());
        assert!(
            Sealer::new(&[8; MASTER_KEY_BYTES])
                .open("signing sk_id_a", &sealed)
                .is_none()
        );
        assert!(!sealed.0.windows(7).any(|window| window == b"hunter2"));
    }

    #[test]
    fn the_same_secret_is_never_sealed_twice_alike() {
        let sealer = Sealer::new(&KEY);
        assert_ne!(
            sealer.seal("c", b"secret").unwrap(),
            sealer.seal("c", b"secret").unwrap()
        );
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let sealer = Sealer::new(&KEY);
        let sealed = sealer.seal("c", b"secret").unwrap();
        for bit in 0..sealed.0.len() * 8 {
            let mut damaged = sealed.clone();
            damaged.0[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open("c", &damaged).is_none(), "bit {bit}");
        }
        for len in 0..sealed.0.len() {
            assert!(
                sealer
                    .open("c", &Sealed(sealed.0[..len].to_vec()))
                    .is_none(),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn json_round_trip() {
        let sealed = Sealer::new(&KEY).seal("c", b"").unwrap();
        let json = serde_json::to_string(&sealed).unwrap();
        assert_eq!(serde_json::from_str::<Sealed>(&json).unwrap(), sealed);
        assert!(serde_json::from_str::<Sealed>("\"no base64!\"").is_err());
    }
}
