//! Where the load goes and with which credential: a URL, resolved once.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::client::token::TokenSigner;
use crate::failure::Failure;

/// How WebSocket connections prove who they are.
pub(crate) enum Credential {
    /// A publishable key: the server names the peers.
    Key(String),
    /// A secret key: every connection gets its own signed token.
    Tokens(Box<TokenSigner>),
    /// None: only REST requests are made.
    None,
}

/// TLS settings, with the name to verify.
pub(crate) struct Tls {
    /// Trust anchors and provider.
    pub config: Arc<ClientConfig>,
    /// Name expected in the certificate.
    pub server_name: ServerName<'static>,
}

/// A resolved server.
pub(crate) struct Target {
    /// First address of the host.
    pub address: SocketAddr,
    /// For the `Host` header.
    pub host: String,
    /// Path of the WebSocket endpoint.
    pub path: String,
    /// Present for `wss`.
    pub tls: Option<Tls>,
    /// For WebSocket connections.
    pub credential: Credential,
    /// `Authorization: Bearer` of REST requests.
    pub api_secret: Option<String>,
    /// `Origin` header, for keys with allowed origins.
    pub origin: Option<String>,
}

/// A URL taken apart, before any look-up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// `wss`.
    pub is_tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Explicit or the scheme's default.
    pub port: u16,
    /// At least `/`.
    pub path: String,
}

impl Url {
    /// Takes `ws://host[:port][/path]` or `wss://…` apart. Without a path, it is `/v1`.
    ///
    /// # Errors
    /// [`Failure::Usage`], saying what is wrong with the URL.
    pub(crate) fn parse(text: &str) -> Result<Url, Failure> {
        let wrong =
            |what: &str| Failure::Usage(format!("--url {text}: {what} (like ws://127.0.0.1:8080)"));
        let (is_tls, rest) = match text.split_once("://") {
            Some(("ws", rest)) => (false, rest),
            Some(("wss", rest)) => (true, rest),
            _ => return Err(wrong("the scheme must be ws or wss")),
        };
        if rest.contains(['?', '#', '@']) {
            return Err(wrong(
                "give the credential with --key or --token-secret, not in the URL",
            ));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => match v6.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, port)) => (host, port.strip_prefix(':')),
                None => return Err(wrong("the bracket of the address is not closed")),
            },
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let port = match port {
            None if is_tls => 443,
            None => 80,
            Some(digits) => digits
                .parse()
                .map_err(|_| wrong("the port must be 1-65535"))?,
        };
        let path = if path.is_empty() || path == "/" {
            "/v1"
        } else {
            path
        };
        Ok(Url {
            is_tls,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// First address of the host.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when the name does not resolve.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, Failure> {
        let unreachable = |cause: String| Failure::Unreachable {
            address: format!("{}:{}", self.host, self.port),
            cause,
        };
        (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| unreachable(error.to_string()))?
            .next()
            .ok_or_else(|| unreachable("the name has no address".into()))
    }
}

/// Percent-encodes everything that is not unreserved in a URL.
pub(crate) fn percent_encode(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            // Writing to a String does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, is_tls: bool, host: &str, port: u16, path: &str) {
        let expected = Url {
            is_tls,
            host: host.into(),
            port,
            path: path.into(),
        };
        assert_eq!(Url::parse(text), Ok(expected), "{text}");
    }

    #[test]
    fn urls() {
        check("ws://127.0.0.1:8080", false, "127.0.0.1", 8080, "/v1");
        check("ws://127.0.0.1:8080/", false, "127.0.0.1", 8080, "/v1");
        check("wss://example.com", true, "example.com", 443, "/v1");
        check("ws://[::1]:9/v2", false, "::1", 9, "/v2");
        check("ws://[::1]", false, "::1", 80, "/v1");
    }

    #[test]
    fn wrong_urls_say_what_is_wrong() {
        for (text, what) in [
            ("http://h", "scheme"),
            ("h:80", "scheme"),
            ("ws://:80", "host"),
            ("ws://h:x", "port"),
            ("ws://h:70000", "port"),
            ("ws://[::1", "bracket"),
            ("ws://h/v1?key=pk", "credential"),
        ] {
            let failure = Url::parse(text).expect_err(text).to_string();
            assert!(failure.contains(what), "{text}: {failure}");
        }
    }

    #[test]
    fn encoding() {
        assert_eq!(percent_encode("a b/ü~"), "a%20b%2F%C3%BC~");
    }
}
