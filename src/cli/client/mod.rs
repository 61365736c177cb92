//! The client of the admin API: what `ringmesh app`, `key` and `stats` do.
//!
//! Plain HTTP: the admin API listens on loopback, or behind a tunnel. The caller prints what comes
//! back.

mod request;
mod show;
mod stats;
mod table;

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::{self, Method, Response};
use ureq::{Agent, Body};
use zeroize::Zeroizing;

pub use request::Request;
pub use show::render;
pub use stats::render as render_stats;

/// How long an answer may take: a change waits for the disk and for every shard.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer: a list of some ten thousand apps.
const ANSWER_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// A connection to one server's admin API.
pub struct AdminClient {
    agent: Agent,
    base: String,
    authorization: Zeroizing<String>,
}

/// Why a command was not carried out: one line with cause and remedy.
#[derive(Debug)]
pub enum ClientError {
    /// The URL or the token cannot be used: bad usage.
    BadUsage(String),
    /// There is no answer from the server.
    Unreachable(String),
    /// The server refuses: its status and message.
    Refused(u16, String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUsage(text) | Self::Unreachable(text) => f.write_str(text),
            Self::Refused(401, _) => f.write_str(
                "the server does not accept the admin token: give the content of its \
                 admin.token_file with --admin-token or RINGMESH_ADMIN_TOKEN",
            ),
            Self::Refused(status, message) => write!(f, "{message} (HTTP {status})"),
        }
    }
}

impl std::error::Error for ClientError {}

impl AdminClient {
    /// A client of the server at `url`, such as `http://127.0.0.1:7464`. Nothing is sent yet.
    ///
    /// # Errors
    /// `BadUsage` for another scheme, or a token that no header can carry.
    pub fn new(url: &str, token: &str) -> Result<Self, ClientError> {
        let base = url.trim_end_matches('/');
        let authority = base.strip_prefix("http://").unwrap_or_default();
        if authority.is_empty() || authority.contains(['/', '?', '#', ' ']) {
            let text = format!("admin URL {url:?} is not like http://127.0.0.1:7464");
            return Err(ClientError::BadUsage(text));
        }
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let text = "the admin token must be printable ASCII: give it with --admin-token or \
                        RINGMESH_ADMIN_TOKEN";
            return Err(ClientError::BadUsage(text.into()));
        }
        let agent = Agent::config_builder()
            .timeout_global(Some(ANSWER_TIME_MAX))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into();
        let authorization = Zeroizing::new(format!("Bearer {token}"));
        Ok(Self {
            agent,
            base: base.to_owned(),
            authorization,
        })
    }

    /// Sends a request and returns the server's JSON.
    ///
    /// # Errors
    /// A [`ClientError`]: the server refused, or could not be reached.
    pub fn run(&self, asked: &Request) -> Result<Value, ClientError> {
        let url = format!("{}{}", self.base, asked.path);
        let request = http::Request::builder()
            .method(asked.method.clone())
            .uri(&url)
            .header("authorization", self.authorization.as_str());
        let bad = |error: http::Error| ClientError::BadUsage(format!("{url}: {error}"));
        let answer = match &asked.body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                let body = Zeroizing::new(json!(body).to_string());
                self.agent.run(request.body(body.as_str()).map_err(bad)?)
            }
            // `Content-Length: 0`, as a POST without a body has it.
            None if asked.method == Method::POST => self.agent.run(request.body("").map_err(bad)?),
            None => self.agent.run(request.body(()).map_err(bad)?),
        };
        let answer = answer.map_err(|error| {
            ClientError::Unreachable(format!(
                "no answer from {}: {error}; is ringmesh running, with its admin API there?",
                self.base
            ))
        })?;
        read(answer)
    }
}

fn read(mut answer: Response<Body>) -> Result<Value, ClientError> {
    let status = answer.status();
    let text = answer
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string();
    let body = text
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok());
    match body {
        Some(body) if status.is_success() => Ok(body),
        Some(Value::Object(body)) if body.contains_key("error") => {
            let message = body
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("no reason given");
            Err(ClientError::Refused(status.as_u16(), message.to_owned()))
        }
        _ => Err(ClientError::Unreachable(format!(
            "the answer (HTTP {}) is not that of a ringmesh admin API: check --admin-url",
            status.as_u16()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_or_token_is_bad_usage() {
        for (url, token) in [
            ("", "t"),
            ("127.0.0.1:7464", "t"),
            ("https://127.0.0.1:7464", "t"),
            ("http://", "t"),
            ("http://a/b", "t"),
            ("http://a b", "t"),
            ("http://a", ""),
            ("http://a", "t\r\nx: y"),
        ] {
            let error = AdminClient::new(url, token).err();
            assert!(
                matches!(error, Some(ClientError::BadUsage(_))),
                "{url} {token}"
            );
        }
        assert!(AdminClient::new("http://[::1]:7464/", "t\n").is_ok());
    }
}
