//! The client of the admin API: HTTP to a listener on loopback or behind a tunnel, or HTTPS to a
//! proxy in front of it. The caller prints what comes back.

mod request;
mod show;
mod stats;
mod stream;
mod words;

use std::fmt;
use std::io::BufReader;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use serde_json::{Value, json};
use ureq::http::{self, Method, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, AsSendBody, Body, Timeout};
use zeroize::Zeroizing;

use super::failure::Failure;
use super::find::Found;
use super::roots::roots;
use super::terminal::Terminal;
use super::untrusted::untrusted;
use crate::redact::secret_in;

pub(super) use request::{Request, escaped};
pub(crate) use show::env_file;
pub(super) use show::render;
pub(super) use stats::{ORDERS, Part, render as render_stats};
pub(super) use stream::Sent;
use stream::read_stream;
use words::in_arguments;

/// How long a server may be silent after a question, which it answers within 7 s however busy its
/// shards are; and how long connecting may take.
const SILENT_TIME_MAX: Duration = Duration::from_secs(8);
/// How long an answer may take: a change waits for the disk and for every shard.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// How long an upgrade may take: the server's own limits are shorter.
const UPGRADE_TIME_MAX: Duration = Duration::from_secs(3_800);
/// How long a stream may be silent: it shows a sign of life every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Bytes of an answer: a list of some ten thousand apps.
const ANSWER_BYTES_MAX: u64 = 16 * 1_024 * 1_024;
/// Bytes of a backup: 10,000 apps with 50 keys each, three times.
const DOWNLOAD_BYTES_MAX: u64 = 1_024 * 1_024 * 1_024;

/// How to come by a good token.
const TOKEN_REMEDY: &str = "set RINGMESH_ADMIN_TOKEN to what is in admin.token of the server's \
                            data directory, or name that file with --admin-token-file";
/// What the public listener says to a path of the admin API.
const ELSEWHERE: &str = "no such path";

/// A connection to one server's admin API.
pub(super) struct AdminClient {
    agent: Agent,
    base: String,
    /// The header, or why there is no token to put into it.
    authorization: Result<Zeroizing<String>, String>,
    /// Said before the first change, where that is not on this machine.
    announcement: Option<String>,
    /// The file with whom is trusted.
    ca: Option<PathBuf>,
    terminal: Terminal,
}

/// Why a command was not carried out: one line with cause and remedy.
#[derive(Debug)]
pub(super) enum ClientError {
    /// The URL, the token or a file cannot be used: bad usage.
    BadUsage(String),
    /// There is no answer from the server.
    Unreachable(String),
    /// What answers is not what was meant.
    Failed(String),
    /// The server refuses: its status and message.
    Refused(u16, String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUsage(text) | Self::Unreachable(text) | Self::Failed(text) => {
                f.write_str(text)
            }
            Self::Refused(401, _) => {
                write!(
                    f,
                    "the server does not accept the admin token: {TOKEN_REMEDY}"
                )
            }
            Self::Refused(404, message) if message == ELSEWHERE => f.write_str(
                "the server there has no admin API, as its public listener has none: check \
                 --admin-url",
            ),
            Self::Refused(status, message) => {
                write!(f, "{} (HTTP {status})", in_arguments(message))
            }
        }
    }
}

impl std::error::Error for ClientError {}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::BadUsage(_) | ClientError::Refused(400, _) => Self::usage(error),
            ClientError::Unreachable(_) => Self::no_server(error),
            ClientError::Refused(401 | 403 | 404 | 409 | 410, _) => Self::refused(error),
            ClientError::Failed(_) | ClientError::Refused(..) => Self::failed(error),
        }
    }
}

impl AdminClient {
    /// A client of a server that was found. Nothing is sent yet.
    ///
    /// # Errors
    /// `BadUsage` for a token that no header can carry, or certificates that cannot be read.
    pub(super) fn new(found: &Found, terminal: Terminal) -> Result<Self, ClientError> {
        let authorization = match &found.token {
            Ok(token) => Ok(header_of(token)?),
            Err(why) => Err(why.clone()),
        };
        let tls = if found.url.starts_with("https://") {
            tls_config(found)?
        } else {
            TlsConfig::default()
        };
        let agent = Agent::config_builder()
            .timeout_global(Some(ANSWER_TIME_MAX))
            .timeout_connect(Some(SILENT_TIME_MAX))
            .timeout_recv_response(Some(SILENT_TIME_MAX))
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(tls)
            .build()
            .into();
        let announcement = (!is_on_loopback(&found.url)).then(|| match &found.context {
            Some(name) => format!("on {name} ({})", found.url),
            None => format!("on {}", found.url),
        });
        Ok(Self {
            agent,
            base: found.url.clone(),
            authorization,
            announcement,
            ca: found.ca.clone(),
            terminal,
        })
    }

    /// Sends a request and returns the server's JSON.
    ///
    /// # Errors
    /// A [`ClientError`]: the server refused, or could not be reached.
    pub(super) fn run(&self, asked: &Request) -> Result<Value, ClientError> {
        read(self.send(asked)?)
    }

    /// Sends a request and returns the bytes that it is answered with.
    ///
    /// # Errors
    /// As [`run`](Self::run); `Failed` if the answer breaks off.
    pub(super) fn download(&self, asked: &Request) -> Result<Vec<u8>, ClientError> {
        let request = self.begun(asked)?.body(());
        let request = request.map_err(|error| self.bad(&error))?;
        let mut answer = self.send_patiently(request, ANSWER_TIME_MAX)?;
        if !answer.status().is_success() {
            read(answer)?;
            return Err(ClientError::Failed("the answer is empty".to_owned()));
        }
        let body = answer.body_mut().with_config().limit(DOWNLOAD_BYTES_MAX);
        body.read_to_vec().map_err(|error| {
            ClientError::Failed(format!("the answer broke off: {error}; try it again"))
        })
    }

    fn send(&self, asked: &Request) -> Result<Response<Body>, ClientError> {
        if asked.is_change()
            && let Some(announcement) = &self.announcement
        {
            self.terminal.note(announcement);
        }
        let request = self.begun(asked)?;
        let bad = |error| self.bad(&error);
        let answer = match &asked.body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                let body = Zeroizing::new(json!(body).to_string());
                self.answer(asked, request.body(body.as_str()).map_err(bad)?)
            }
            // `Content-Length: 0`, as a POST without a body has it.
            None if asked.method == Method::POST => {
                self.answer(asked, request.body("").map_err(bad)?)
            }
            None => self.answer(asked, request.body(()).map_err(bad)?),
        };
        answer.map_err(|error| self.unreachable(&error))
    }

    /// The answer to a request. That to a change may come late.
    fn answer(
        &self,
        asked: &Request,
        request: http::Request<impl AsSendBody>,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(request);
        if asked.is_upgrade() {
            let request = request.timeout_global(None);
            let request = request.timeout_recv_response(Some(UPGRADE_TIME_MAX));
            return self.agent.run(request.build());
        }
        self.agent.run(match asked.is_change() {
            true => request.timeout_recv_response(Some(ANSWER_TIME_MAX)).build(),
            false => request.build(),
        })
    }

    /// Reads a stream of events, and shows each. `last` is where to go on after it. Returns why it
    /// has ended; `None`: nobody looks any more.
    ///
    /// # Errors
    /// As with [`run`](Self::run), or an event cannot be shown.
    pub(super) fn follow(
        &self,
        asked: &Request,
        last: &mut Option<String>,
        show: &mut dyn FnMut(Sent<'_>) -> Result<bool, Failure>,
    ) -> Result<Option<String>, Failure> {
        let mut request = self.begun(asked)?.header("accept", "text/event-stream");
        if let Some(last) = &last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(()).map_err(|error| self.bad(&error))?;
        let answer = self.send_patiently(request, SILENCE_MAX)?;
        if !answer.status().is_success() {
            // What it says is the error.
            let _ = read(answer)?;
            return Ok(Some("the server sends no stream".to_owned()));
        }
        let stream = answer.into_body().into_reader();
        read_stream(BufReader::new(stream), last, show)
    }

    /// Sends a request whose answer may take long, but may not be silent for longer than that.
    fn send_patiently(
        &self,
        request: http::Request<()>,
        silence_max: Duration,
    ) -> Result<Response<Body>, ClientError> {
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(None)
            .timeout_per_read(Some(silence_max))
            .build();
        let answer = self.agent.run(request);
        answer.map_err(|error| self.unreachable(&error))
    }

    /// A request with its credential.
    fn begun(&self, asked: &Request) -> Result<http::request::Builder, ClientError> {
        let authorization = match &self.authorization {
            Ok(authorization) => authorization,
            Err(why) => return Err(self.without_token(why)),
        };
        // It would stand in the log of every proxy on the way.
        if let Some((prefix, what)) = secret_in(&asked.path) {
            return Err(ClientError::BadUsage(format!(
                "{what} ({prefix}…) was given where a name or an id is meant; give the id of the \
                 key, sk_id_…"
            )));
        }
        let url = format!("{}{}", self.base, asked.path);
        self.terminal.detail(&format!("{} {url}", asked.method));
        Ok(http::Request::builder()
            .method(asked.method.clone())
            .uri(&url)
            .header("authorization", authorization.as_str()))
    }

    fn bad(&self, error: &http::Error) -> ClientError {
        ClientError::BadUsage(format!("{}: {error}", self.base))
    }

    /// Whoever has no token is told first whether there is a server to have one for.
    fn without_token(&self, why: &str) -> ClientError {
        match self.agent.get(format!("{}/healthz", self.base)).call() {
            Ok(_) => ClientError::BadUsage(format!("{why}: {TOKEN_REMEDY}")),
            Err(error) => self.unreachable(&error),
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> ClientError {
        let base = &self.base;
        if let ureq::Error::Timeout(Timeout::RecvResponse | Timeout::Global) = error {
            return ClientError::Unreachable(format!(
                "no answer from {base}: it takes connections and says nothing, for {} s to a \
                 question and {} s to a change; is that ringmesh, and is its machine well?",
                SILENT_TIME_MAX.as_secs(),
                ANSWER_TIME_MAX.as_secs()
            ));
        }
        let text = error.to_string();
        if text.contains("certificate") {
            let ca = self.ca.as_deref();
            return ClientError::Failed(untrusted(base, &text, (ca, "--admin-url")));
        }
        ClientError::Unreachable(format!(
            "no answer from {base}: {text}; is ringmesh running, with its admin API there?"
        ))
    }
}

fn header_of(token: &str) -> Result<Zeroizing<String>, ClientError> {
    let token = token.trim();
    if token.is_empty() {
        let text = format!("the admin token is empty: {TOKEN_REMEDY}");
        return Err(ClientError::BadUsage(text));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let text = format!(
            "the admin token has a blank or another character in it that tokens have not: \
             {TOKEN_REMEDY}"
        );
        return Err(ClientError::BadUsage(text));
    }
    Ok(Zeroizing::new(format!("Bearer {token}")))
}

fn tls_config(found: &Found) -> Result<TlsConfig, ClientError> {
    let trusted = roots(found.ca.as_deref()).map_err(|it| ClientError::BadUsage(it.message))?;
    let trusted = trusted.iter();
    let trusted = trusted.map(|certificate| Certificate::from_der(certificate).to_owned());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(trusted.collect())))
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .build())
}

/// Whether a URL leads to this machine.
fn is_on_loopback(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let address = host.parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback()) || host == "localhost"
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
        _ => Err(ClientError::Failed(format!(
            "the answer (HTTP {}) is not that of a ringmesh admin API: check --admin-url",
            status.as_u16()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(url: &str, token: &str) -> Found {
        Found {
            url: url.to_owned(),
            token: Ok(Zeroizing::new(token.to_owned())),
            ca: None,
            public_url: None,
            context: Some("shop".to_owned()),
            origin: String::new(),
        }
    }

    #[test]
    fn a_bad_token_is_bad_usage() {
        for token in ["", " \n", "t\r\nx: y", "a b"] {
            let error = AdminClient::new(&found("http://a", token), Terminal::default()).err();
            assert!(matches!(error, Some(ClientError::BadUsage(_))), "{token:?}");
        }
        assert!(AdminClient::new(&found("http://a", "t\n"), Terminal::default()).is_ok());
    }

    #[test]
    fn another_machine_is_announced() {
        for (url, expected) in [
            ("http://127.0.0.1:7464", None),
            ("http://[::1]:7464", None),
            ("http://localhost:7464", None),
            ("https://rt.example", Some("on shop (https://rt.example)")),
            ("http://10.0.0.1:1", Some("on shop (http://10.0.0.1:1)")),
        ] {
            let mut found = found(url, "t");
            found.url = url.replace("https", "http");
            let client = AdminClient::new(&found, Terminal::default()).unwrap();
            let expected = expected.map(|text| text.replace("https", "http"));
            assert_eq!(client.announcement, expected);
        }
    }
}
