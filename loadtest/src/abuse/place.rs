//! The server under attack as an attacker knows it: addresses, credentials, and the bytes that a
//! connection begins with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::abuse::exchange::{self, Answer};
use crate::client::target::{Target, percent_encode};
use crate::client::token::TokenSigner;
use crate::failure::Failure;

/// Where and with what.
pub(super) struct Place {
    /// The public listener.
    pub target: Arc<Target>,
    /// Publishable key.
    pub key: Option<String>,
    /// Signs tokens.
    pub signer: Option<TokenSigner>,
    /// API secret for REST.
    pub api_secret: Option<String>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
    /// Its token.
    pub admin_token: Option<String>,
    /// Process whose memory and CPU time can be read.
    pub pid: Option<u32>,
}

impl Place {
    /// The request for a WebSocket with the publishable key.
    ///
    /// # Errors
    /// [`Failure::Usage`] without a key.
    pub(super) fn with_key(&self) -> Result<Vec<u8>, Failure> {
        let key = self.key.as_deref().ok_or_else(|| missing("--key"))?;
        Ok(self.upgrade("key", &percent_encode(key)))
    }

    /// The request for a WebSocket of this peer, with all rights of the key.
    ///
    /// # Errors
    /// [`Failure::Usage`] without a signing secret.
    pub(super) fn as_peer(&self, peer: &str) -> Result<Vec<u8>, Failure> {
        self.with_claims(json!({ "sub": peer }))
    }

    /// The request for a WebSocket of a peer that gets no presence.
    ///
    /// # Errors
    /// As [`Place::as_peer`].
    pub(super) fn as_quiet_peer(&self, peer: &str) -> Result<Vec<u8>, Failure> {
        let permissions = ["subscribe", "publish", "send"];
        self.with_claims(json!({ "sub": peer, "permissions": permissions }))
    }

    /// The request for a WebSocket with a token of these claims.
    ///
    /// # Errors
    /// As [`Place::as_peer`].
    pub(super) fn with_claims(&self, claims: Value) -> Result<Vec<u8>, Failure> {
        let signer = self.signer.as_ref();
        let signer = signer.ok_or_else(|| missing("--token-secret"))?;
        Ok(self.upgrade("token", &sign(signer, claims)?))
    }

    /// The same with a secret key that is not the place's own.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a secret that cannot sign.
    pub(super) fn with_secret(
        &self,
        id: &str,
        secret: &str,
        claims: Value,
    ) -> Result<Vec<u8>, Failure> {
        let signer = TokenSigner::new(&format!("{id}:{secret}"), 3_600)?;
        Ok(self.upgrade("token", &sign(&signer, claims)?))
    }

    fn upgrade(&self, name: &str, value: &str) -> Vec<u8> {
        let Target { path, host, .. } = &*self.target;
        format!(
            "GET {path}?{name}={value} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes()
    }

    /// A REST request with the API secret.
    ///
    /// # Errors
    /// [`Failure::Usage`] without one.
    pub(super) fn rest(&self, method: &str, path: &str, body: &str) -> Result<Vec<u8>, Failure> {
        self.rest_with(method, path, body, "")
    }

    /// The same with more header lines, each ended by CRLF.
    ///
    /// # Errors
    /// As [`Place::rest`].
    pub(super) fn rest_with(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &str,
    ) -> Result<Vec<u8>, Failure> {
        let secret = self.api_secret.as_deref();
        let secret = secret.ok_or_else(|| missing("--api-secret"))?;
        let host = &self.target.host;
        let content = match body.len() {
            0 => String::new(),
            bytes => format!("Content-Type: application/json\r\nContent-Length: {bytes}\r\n"),
        };
        Ok(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {secret}\r\n\
             {content}{headers}\r\n{body}"
        )
        .into_bytes())
    }

    /// Asks the admin API and returns status and body.
    ///
    /// # Errors
    /// [`Failure::Usage`] without an admin listener or its token, [`Failure::Timeout`].
    pub(super) fn admin(&self, method: &str, path: &str, body: &Value) -> Result<Answer, Failure> {
        let address = self.admin_address()?;
        let token = self.admin_token.as_deref();
        let token = token.ok_or_else(|| missing("--admin-token"))?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange::ask(address, request.as_bytes(), Duration::from_secs(30))
    }

    /// Makes an app and returns its id.
    ///
    /// # Errors
    /// As [`Place::admin`], [`Failure::Rejected`].
    pub(super) fn new_app(&self) -> Result<String, Failure> {
        let path = "/api/internal/v1/apps";
        let app = created(self.admin("POST", path, &json!({"name": "abuse"}))?)?;
        text_of(&app, "appId")
    }

    /// Makes a secret key with all rights for these patterns; `path` is that of the app's keys.
    ///
    /// # Errors
    /// As [`Place::new_app`].
    pub(super) fn new_key(&self, path: &str, patterns: &[&str]) -> Result<NewKey, Failure> {
        let body = json!({
            "type": "secret",
            "channelPatterns": patterns,
            "actions": ["publish", "subscribe", "presence", "send"],
        });
        let key = created(self.admin("POST", path, &body)?)?;
        Ok(NewKey {
            id: text_of(&key, "keyId")?,
            signing_secret: text_of(&key, "signingSecret")?,
            api_secret: text_of(&key, "apiSecret")?,
        })
    }

    /// Where the admin listener is.
    ///
    /// # Errors
    /// [`Failure::Usage`] when nobody said.
    pub(super) fn admin_address(&self) -> Result<SocketAddr, Failure> {
        self.admin.ok_or_else(|| missing("--admin"))
    }

    /// The sum of a metric over its labels, from the admin listener.
    ///
    /// # Errors
    /// As [`Place::admin`].
    pub(super) fn metric(&self, name: &str) -> Result<f64, Failure> {
        let address = self.admin_address()?;
        exchange::metric(address, self.admin_token.as_deref(), name)
    }
}

/// A key that was made for an attack.
pub(super) struct NewKey {
    /// Its id.
    pub id: String,
    /// Signs tokens.
    pub signing_secret: String,
    /// For REST.
    pub api_secret: String,
}

fn created(answer: Answer) -> Result<Value, Failure> {
    let rejected = Failure::Rejected {
        status: answer.status,
        body: answer.body.clone(),
    };
    match serde_json::from_str(&answer.body) {
        Ok(object) if answer.status == 201 => Ok(object),
        _ => Err(rejected),
    }
}

fn text_of(object: &Value, field: &str) -> Result<String, Failure> {
    let text = object[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Failure::Protocol(format!("an answer without {field}")))
}

fn sign(signer: &TokenSigner, mut claims: Value) -> Result<String, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.unwrap_or_default().as_secs();
    claims["iat"] = now.into();
    claims["exp"] = (now + 3_600).into();
    signer.sign(&claims)
}

/// What a row cannot do without.
pub(super) fn missing(option: &str) -> Failure {
    Failure::Usage(format!("abuse: this row needs {option}, or --spawn"))
}
