//! Connect tokens, signed by the harness itself with a secret key of the app.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use crate::failure::Failure;

/// Seconds for which a token is valid unless told otherwise: one day, the protocol's maximum.
pub(crate) const LIFETIME_SEC: i64 = 86_400;

/// Signs one token per connection.
pub(crate) struct TokenSigner {
    header: Header,
    lifetime_sec: i64,
    key: EncodingKey,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
}

impl TokenSigner {
    /// From `sk_id_…:sk_secret_…`. A token is valid for `lifetime_sec`; one of 0 or less has
    /// expired when it is signed, to see how a server refuses it.
    ///
    /// # Errors
    /// [`Failure::Usage`] when it is not two parts joined by a colon.
    pub(crate) fn new(id_and_secret: &str, lifetime_sec: i64) -> Result<TokenSigner, Failure> {
        let Some((id, secret)) = id_and_secret
            .split_once(':')
            .filter(|(id, secret)| !id.is_empty() && !secret.is_empty())
        else {
            return Err(Failure::Usage(
                "--token-secret takes key id and signing secret as sk_id_…:sk_secret_…".into(),
            ));
        };
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(id.to_owned());
        Ok(TokenSigner {
            header,
            lifetime_sec,
            key: EncodingKey::from_secret(secret.as_bytes()),
        })
    }

    /// A token for `peer_id`, valid from `unix_sec` on.
    ///
    /// # Errors
    /// [`Failure::Usage`] when signing fails, with the library's reason.
    pub(crate) fn mint(&self, peer_id: &str, unix_sec: u64) -> Result<String, Failure> {
        let exp = unix_sec.saturating_add_signed(self.lifetime_sec);
        let claims = Claims {
            sub: peer_id,
            iat: unix_sec.min(exp),
            exp,
        };
        self.sign(&claims)
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// As [`TokenSigner::mint`].
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String, Failure> {
        encode(&self.header, claims, &self.key)
            .map_err(|error| Failure::Usage(format!("cannot sign a token: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation, decode};

    #[test]
    fn a_token_names_key_and_peer() {
        let now = jsonwebtoken::get_current_timestamp();
        let signer = TokenSigner::new("sk_id_a:sk_secret_b", 60).expect("two parts");
        let token = signer.mint("peer-1", now).expect("signs");
        let key = DecodingKey::from_secret(b"sk_secret_b");
        let data = decode::<serde_json::Value>(&token, &key, &Validation::new(Algorithm::HS256))
            .expect("verifies");
        assert_eq!(data.header.kid.as_deref(), Some("sk_id_a"));
        assert_eq!(data.claims["sub"], "peer-1");
        assert_eq!(data.claims["exp"], now + 60);
    }

    #[test]
    fn half_a_secret_is_refused() {
        for half in ["sk_id_a", "sk_id_a:", ":sk_secret_b"] {
            assert!(TokenSigner::new(half, LIFETIME_SEC).is_err(), "{half}");
        }
    }
}
