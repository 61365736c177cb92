//! Where clients connect, as they are to be told: a scheme, a host and perhaps a port.

use std::fmt;
use std::net::Ipv6Addr;

/// Characters of a host name (RFC 1035, section 2.3.4).
const HOST_CHARS_MAX: usize = 253;

/// `wss://rt.example.com`; REST is at the same host and port.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicUrl {
    is_tls: bool,
    /// Of IPv6 without brackets.
    host: String,
    port: Option<u16>,
}

impl PublicUrl {
    /// Reads a URL of clients (`wss`, `ws`) or of REST (`https`, `http`), without a path; `None`:
    /// it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_tls = match scheme {
            "wss" | "https" => true,
            "ws" | "http" => false,
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (
                    host,
                    behind
                        .strip_prefix(':')
                        .or(Some("").filter(|_| behind.is_empty()))?,
                )
            }
            None => {
                let (host, port) = rest.split_once(':').unwrap_or((rest, ""));
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                let is_good = (1..=HOST_CHARS_MAX).contains(&host.len());
                (
                    Some(host).filter(|it| is_good && it.bytes().all(allowed))?,
                    port,
                )
            }
        };
        if port.is_empty() && rest.ends_with(':') {
            return None;
        }
        let port = match port {
            "" => None,
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
            _ => return None,
        };
        let host = host.to_ascii_lowercase();
        (port != Some(0)).then_some(Self { is_tls, host, port })
    }

    /// Whether it begins with TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The name or address that a certificate has to be for.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Where clients connect: `wss://rt.example.com`.
    pub(crate) fn clients(&self) -> String {
        self.with(if self.is_tls { "wss" } else { "ws" })
    }

    /// Where backends call: `https://rt.example.com`.
    pub(crate) fn rest(&self) -> String {
        self.with(if self.is_tls { "https" } else { "http" })
    }

    fn with(&self, scheme: &str) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        format!("{scheme}://{host}{port}")
    }
}

impl fmt::Debug for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.clients())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_told_both_ways() {
        for (text, clients, rest) in [
            (
                "wss://rt.example.com",
                "wss://rt.example.com",
                "https://rt.example.com",
            ),
            (
                "https://RT.example.com/",
                "wss://rt.example.com",
                "https://rt.example.com",
            ),
            (
                "ws://10.0.0.1:8080",
                "ws://10.0.0.1:8080",
                "http://10.0.0.1:8080",
            ),
            ("http://[::1]:80", "ws://[::1]:80", "http://[::1]:80"),
            ("wss://[fd00::1]", "wss://[fd00::1]", "https://[fd00::1]"),
        ] {
            let url = PublicUrl::parse(text).unwrap();
            assert_eq!((url.clients(), url.rest()), (clients.into(), rest.into()));
            assert_eq!(url.is_tls(), clients.starts_with("wss"));
        }
        let host = |text| PublicUrl::parse(text).map(|it| it.host().to_owned());
        assert_eq!(host("wss://[::1]:1").as_deref(), Some("::1"));
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "rt.example.com",
            "ftp://a",
            "wss://",
            "wss://a/v1",
            "wss://a?x",
            "wss://u@a",
            "wss://a b",
            "wss://a:",
            "wss://a:0",
            "wss://a:70000",
            "wss://a:x",
            "wss://[::1",
            "wss://[a]",
            "wss://[::1]x",
            "wss://[::1]:",
            "wss:/a",
            "wss://ä.example",
            "wss://a:+1",
        ] {
            assert_eq!(PublicUrl::parse(text), None, "{text}");
        }
    }
}
