//! A client of the public listener: one WebSocket, plain or over TLS.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::{Response, Uri};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

use crate::cli::failure::Failure;
use crate::cli::roots::roots;
use crate::cli::terminal::printable;
use crate::cli::untrusted::untrusted;

/// How long a connect may take, and an answer.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the server's answer to a close is waited for.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);
/// The close code of an end without a close frame (RFC 6455, section 7.4.1).
const NO_STATUS: u16 = 1_005;

/// What a WebSocket is read from and written to.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A connection that has its welcome.
pub(super) struct Connection {
    socket: WebSocket<Box<dyn Stream>>,
    /// The same stream, to set its timeouts.
    stream: TcpStream,
    /// The first frame.
    pub welcome: String,
}

/// Why nothing more comes.
#[derive(Debug)]
pub(super) enum End {
    /// The server has closed: code and reason.
    Closed(u16, String),
    /// The connection is lost.
    Lost(String),
    /// Nothing came for as long as was given.
    TimedOut,
}

impl From<End> for Failure {
    fn from(end: End) -> Self {
        match end {
            End::Closed(code, reason) => Self::failed(format_args!(
                "the server closed the connection: {code} {}; ringmesh why tells more",
                printable(&reason)
            )),
            End::Lost(cause) => Self::failed(format_args!("the connection is lost: {cause}")),
            End::TimedOut => Self::failed("nothing came in time"),
        }
    }
}

/// Whether clients can connect to a URL.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_url(url: &str) -> Result<(), Failure> {
    Target::of(url, "").map(drop)
}

/// Where clients connect, as it was given.
struct Target {
    uri: Uri,
    /// For people, without the credential.
    base: String,
    is_tls: bool,
    host: String,
    port: u16,
}

impl Target {
    fn of(url: &str, query: &str) -> Result<Self, Failure> {
        let bad = |cause: &dyn std::fmt::Display| {
            Failure::usage(format_args!(
                "--url: {url:?}: {cause}; give one such as ws://127.0.0.1:8080 or \
                 wss://rt.example.com"
            ))
        };
        let (scheme, rest) = url.split_once("://").unwrap_or(("ws", url));
        let rest = rest.trim_end_matches('/');
        let rest = rest.strip_suffix("/v1").unwrap_or(rest);
        let (scheme, is_tls) = match scheme {
            "ws" | "http" => ("ws", false),
            "wss" | "https" => ("wss", true),
            _ => return Err(bad(&"its scheme is none of a WebSocket")),
        };
        if rest.is_empty() || rest.ends_with(':') || rest.contains(['/', '?', '#', '@', ' ']) {
            return Err(bad(&"it is no host, or more than that and a port"));
        }
        let uri: Uri = format!("{scheme}://{rest}/v1?{query}")
            .parse()
            .map_err(|error| bad(&error))?;
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| bad(&"it has no host"))?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            base: format!("{scheme}://{rest}"),
            is_tls,
            uri,
        })
    }

    fn unreachable(&self, error: &dyn std::fmt::Display, ca: Option<&Path>) -> Failure {
        let (base, text) = (&self.base, error.to_string());
        if text.contains("InvalidContentType") {
            return Failure::failed(format_args!(
                "{base} does not speak TLS; say ws:// instead of wss://"
            ));
        }
        if !text.contains("certificate") {
            return Failure::no_server(format_args!(
                "no answer from {base}: {text}; is ringmesh there?"
            ));
        }
        Failure::failed(untrusted(
            base,
            &text,
            (ca, "--url, or set server.public_url"),
        ))
    }
}

impl Connection {
    /// Connects, and reads the welcome.
    ///
    /// # Errors
    /// There is no server at `url`, or it refuses.
    pub(super) fn open(url: &str, query: &str, ca: Option<&Path>) -> Result<Self, Failure> {
        let target = Target::of(url, query)?;
        let stream =
            connect(&target.host, target.port).map_err(|error| target.unreachable(&error, ca))?;
        let own = stream.try_clone().map_err(Failure::failed)?;
        let transport: Box<dyn Stream> = match target.is_tls {
            false => Box::new(stream),
            true => Box::new(encrypted(stream, &target.host, ca)?),
        };
        let opened = tungstenite::client(target.uri.clone(), transport);
        let (socket, _) = opened.map_err(|error| match error {
            HandshakeError::Failure(Error::Http(answer)) => refused(&answer),
            HandshakeError::Failure(Error::Protocol(_) | Error::HttpFormat(_))
                if !target.is_tls =>
            {
                Failure::failed(format_args!(
                    "{} does not speak HTTP; say wss:// if it speaks TLS",
                    target.base
                ))
            }
            HandshakeError::Failure(error) => target.unreachable(&error, ca),
            HandshakeError::Interrupted(_) => target.unreachable(&"it takes too long", ca),
        })?;
        let mut connection = Self {
            socket,
            stream: own,
            welcome: String::new(),
        };
        match connection.next_within(ANSWER_TIME_MAX) {
            Ok(text) => {
                connection.welcome = text;
                Ok(connection)
            }
            Err(End::Closed(code, reason)) => Err(Failure::refused(format_args!(
                "the server refuses the connection: {code} {}",
                printable(&reason)
            ))),
            Err(End::Lost(cause)) => Err(target.unreachable(&cause, ca)),
            Err(End::TimedOut) => Err(target.unreachable(&"it says no welcome", ca)),
        }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) fn send(&mut self, frame: String) -> Result<(), End> {
        let sent = self.socket.send(Message::text(frame));
        sent.map_err(|error| End::Lost(error.to_string()))
    }

    /// The next frame, as its text, for which is waited for so long at most. Pings are answered
    /// on the way.
    ///
    /// # Errors
    /// Nothing more comes.
    pub(super) fn next_within(&mut self, time: Duration) -> Result<String, End> {
        let begun = Instant::now();
        loop {
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(End::TimedOut);
            }
            // Without it the connection works all the same.
            let _ = self.stream.set_read_timeout(Some(left));
            if let Some(outcome) = self.read() {
                return outcome;
            }
        }
    }

    /// The next frame, however long it takes.
    ///
    /// # Errors
    /// Nothing more comes.
    pub(super) fn next(&mut self) -> Result<String, End> {
        let _ = self.stream.set_read_timeout(None);
        loop {
            match self.read() {
                None | Some(Err(End::TimedOut)) => {}
                Some(outcome) => return outcome,
            }
        }
    }

    /// Reads once; `None`: nothing that anybody waits for.
    fn read(&mut self) -> Option<Result<String, End>> {
        Some(match self.socket.read() {
            Ok(Message::Text(text)) => Ok(text.as_str().to_owned()),
            Ok(Message::Close(frame)) => {
                // Answers it. Nobody waits for whether that arrives.
                let _ = self.socket.flush();
                Err(
                    frame.map_or(End::Closed(NO_STATUS, String::new()), |frame| {
                        End::Closed(frame.code.into(), frame.reason.to_string())
                    }),
                )
            }
            Ok(_) => return None,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::Interrupted => return None,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(End::TimedOut)
            }
            Err(error) => Err(End::Lost(error.to_string())),
        })
    }

    /// Says goodbye, so that nobody looks for a fault.
    pub(super) fn close(mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        if self.socket.close(Some(frame)).is_ok() {
            let begun = Instant::now();
            while begun.elapsed() < CLOSE_TIME_MAX && self.next_within(CLOSE_TIME_MAX).is_ok() {}
        }
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ANSWER_TIME_MAX) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
                stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn encrypted(
    stream: TcpStream,
    host: &str,
    ca: Option<&Path>,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Failure> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots(ca)?);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Failure::failed)?
        .with_root_certificates(store)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Failure::usage(format_args!("--url: {host}: {error}")))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(Failure::failed)?;
    Ok(StreamOwned::new(connection, stream))
}

/// What the server has answered instead of a WebSocket.
fn refused(answer: &Response<Option<Vec<u8>>>) -> Failure {
    let body = answer.body().as_deref().unwrap_or_default();
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    // A listener with TLS, or none of ringmesh.
    let unknown = "it gives no reason; if it speaks TLS, say wss://";
    let message = body["message"].as_str().unwrap_or(unknown);
    let status = answer.status().as_u16();
    let text = format!(
        "the server refuses the connection: {} (HTTP {status})",
        printable(message)
    );
    match status {
        // It takes nobody just now.
        429 | 503 => Failure::no_server(text),
        401 => Failure::refused(format_args!(
            "{text}; ringmesh events --kind refused says why"
        )),
        _ => Failure::refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_people_give_them() {
        for (url, base, port) in [
            ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080", 8_080),
            ("ws://127.0.0.1:8080/v1/", "ws://127.0.0.1:8080", 8_080),
            ("127.0.0.1:8080", "ws://127.0.0.1:8080", 8_080),
            ("http://[::1]:1", "ws://[::1]:1", 1),
            ("wss://rt.example", "wss://rt.example", 443),
            ("https://rt.example/", "wss://rt.example", 443),
        ] {
            let target = Target::of(url, "key=k").ok().unwrap();
            assert_eq!((target.base.as_str(), target.port), (base, port), "{url}");
            assert_eq!(target.uri.to_string(), format!("{base}/v1?key=k"));
            assert_eq!(target.is_tls, base.starts_with("wss"));
        }
        for url in [
            "", "ws://", "ftp://a", "ws://a/b", "ws://u@a", "ws://a b", "ws://a?x",
        ] {
            let failure = Target::of(url, "key=k").err().unwrap();
            assert_eq!(failure.exit_code, 2, "{url}");
            assert!(failure.message.contains("give one such as"), "{failure}");
        }
    }
}
