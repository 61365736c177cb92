//! The `Host` of a request: which names the admin listener goes by.
//!
//! A page in a browser may let its own name point at a loopback address (DNS rebinding) and
//! then reads what the listener tells without a token. Such a request carries the page's name.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;

use super::answer::Failure;

/// Characters of a wrong name that are shown.
const SHOWN_CHARS_MAX: usize = 64;

/// The names that are good besides IP addresses and `localhost`, in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostNames(pub std::sync::Arc<[String]>);

impl HostNames {
    /// Whether a `Host` is good, with or without a port.
    fn allows(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else {
            return false;
        };
        if let Some(rest) = host.strip_prefix('[') {
            let address = rest.split_once(']');
            return address.is_some_and(|(address, port)| {
                address.parse::<Ipv6Addr>().is_ok()
                    && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
            });
        }
        let name = match host.rsplit_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return false,
            None => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        name.parse::<Ipv4Addr>().is_ok() || name.eq_ignore_ascii_case("localhost") || self.has(name)
    }

    /// Whether a `Host` is one of the configured names.
    pub(super) fn is_configured(&self, host: &str) -> bool {
        let name = host.split(':').next().unwrap_or_default();
        self.has(name.strip_suffix('.').unwrap_or(name))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|good| name.eq_ignore_ascii_case(good))
    }

    /// Whether a request is for one of the names. One without any is not a browser's.
    ///
    /// # Errors
    /// 421, which names the setting.
    pub(super) fn check(&self, request: &Request) -> Result<(), Failure> {
        let target = request.uri().authority();
        let target = target.map(|authority| authority.as_str().as_bytes());
        let headers = request.headers().get_all(HOST).into_iter();
        let mut hosts = headers.map(|value| value.as_bytes()).chain(target);
        let Some(wrong) = hosts.find(|host| !self.allows(host)) else {
            return Ok(());
        };
        let shown = String::from_utf8_lossy(wrong);
        let shown: String = shown.chars().take(SHOWN_CHARS_MAX).collect();
        let text = format!(
            "Host {shown:?} is no name of the admin listener: use its IP address, or add the name \
             to admin.hosts (RINGMESH_ADMIN__HOSTS)"
        );
        Err(Failure::invalid(StatusCode::MISDIRECTED_REQUEST, text))
    }
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_configured_names_are_good() {
        let names = HostNames(["admin.example".to_owned()].into());
        for good in [
            "127.0.0.1",
            "127.0.0.1:7464",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:7464",
            "localhost",
            "LocalHost:7464",
            "localhost.",
            "admin.example",
            "Admin.Example.:7464",
        ] {
            assert!(names.allows(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:7464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "x.admin.example",
            "localhost:",
            "localhost:80:80x",
            "localhost:http",
            "[::1].evil.example",
            "[evil.example]",
            "[::1]:x",
            "::1",
            "2130706433",
            "localhost\u{0}",
        ] {
            let good = names.allows(bad.as_bytes());
            assert_eq!(good, bad == "localhost:", "{bad:?}");
        }
        assert!(!names.allows(b"\xff"));
    }
}
