//! Allow-lists for the `Origin` header (RFC 6454, section 7).
//!
//! It stands between the `allowedOrigins` of a publishable key and the header of a connect. The
//! entries are parsed when a key is loaded; a connect then costs no allocation.
//!
//! It does not answer CORS requests and says nothing about clients other than browsers, which can
//! send any origin they like.
//!
//! What is not an origin is never allowed by a list that is not empty.

use std::error::Error;
use std::fmt;
use std::net::Ipv6Addr;

/// What browsers send for an origin they do not want to name.
const NULL_ORIGIN: &str = "null";

/// One entry of an allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Site {
        scheme: Box<str>,
        host: HostPattern,
        port: Option<u16>,
    },
}

/// Names are compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Name(Box<str>),
    /// Any one label, a dot, and this.
    OneLabelBefore(Box<str>),
    Ipv6(Ipv6Addr),
}

/// Why text is not an entry of an allow-list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginError {
    /// It does not begin with a scheme and `://`.
    MissingScheme,
    /// Something follows the host and port.
    MoreThanOrigin,
    /// The host is empty or malformed.
    InvalidHost,
    /// A `*` stands elsewhere than for the first label of the host.
    MisplacedWildcard,
    /// The port is not a number of 16 bits.
    InvalidPort,
}

/// An origin in its parts, without the scheme's default port.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl OriginPattern {
    /// Parses an entry: `scheme://host`, `scheme://host:port`, either with `*` as the host's
    /// first label, or `null`.
    ///
    /// # Errors
    ///
    /// The [`OriginError`] that says what is wrong with it.
    pub fn parse(entry: &str) -> Result<Self, OriginError> {
        if entry == NULL_ORIGIN {
            return Ok(Self(Kind::Null));
        }
        let Origin { scheme, host, port } = Origin::parse(entry)?;
        let host = if let Some(address) = parse_ipv6(host) {
            HostPattern::Ipv6(address)
        } else {
            let wildcard = host.strip_prefix("*.");
            let name = wildcard.unwrap_or(host);
            if name.contains('*') {
                return Err(OriginError::MisplacedWildcard);
            }
            if !is_host_name(name) {
                return Err(OriginError::InvalidHost);
            }
            let pattern = if wildcard.is_some() {
                HostPattern::OneLabelBefore
            } else {
                HostPattern::Name
            };
            pattern(name.into())
        };
        Ok(Self(Kind::Site {
            scheme: scheme.into(),
            host,
            port,
        }))
    }

    fn matches(&self, origin: &Origin<'_>) -> bool {
        let Kind::Site { scheme, host, port } = &self.0 else {
            return false;
        };
        let host_matches = match host {
            HostPattern::Ipv6(address) => parse_ipv6(origin.host) == Some(*address),
            HostPattern::Name(name) => name.eq_ignore_ascii_case(origin.host),
            HostPattern::OneLabelBefore(parent) => {
                let (label, rest) = origin.host.split_once('.').unwrap_or_default();
                rest.eq_ignore_ascii_case(parent) && is_host_name(label)
            }
        };
        host_matches && *port == origin.port && scheme.eq_ignore_ascii_case(origin.scheme)
    }
}

/// Whether a connect with this `Origin` header is allowed by the list. An empty list allows any,
/// or none.
#[must_use]
pub fn allows(list: &[OriginPattern], origin_header: Option<&str>) -> bool {
    if list.is_empty() {
        return true;
    }
    match origin_header {
        None => false,
        Some(NULL_ORIGIN) => list.contains(&OriginPattern(Kind::Null)),
        Some(header) => Origin::parse(header)
            .is_ok_and(|origin| list.iter().any(|pattern| pattern.matches(&origin))),
    }
}

impl<'a> Origin<'a> {
    /// Takes `scheme://host[:port]` apart. The host is not checked, except that nothing that
    /// ends it, or could be mistaken for its end, is part of it.
    fn parse(text: &'a str) -> Result<Self, OriginError> {
        let (scheme, authority) = text.split_once("://").ok_or(OriginError::MissingScheme)?;
        if !is_scheme(scheme) {
            return Err(OriginError::MissingScheme);
        }
        if authority.contains(['/', '?', '#', '\\', '@', ',', ' ']) {
            return Err(OriginError::MoreThanOrigin);
        }
        // The colons within brackets are the address's own.
        let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match authority[host_end..].split_once(':') {
            None => (authority, None),
            Some((name, port)) => (&authority[..host_end + name.len()], Some(parse_port(port)?)),
        };
        if host.is_empty() {
            return Err(OriginError::InvalidHost);
        }
        Ok(Self {
            scheme,
            host,
            port: port.filter(|port| Some(*port) != default_port(scheme)),
        })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    if is("https") || is("wss") {
        Some(443)
    } else if is("http") || is("ws") {
        Some(80)
    } else {
        None
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A name or IPv4 address as browsers write them: ASCII, labels that are not empty, perhaps a
/// dot behind the last.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(is_label_byte)
    };
    text.strip_suffix('.')
        .unwrap_or(text)
        .split('.')
        .all(is_label)
}

/// An IPv6 address in brackets. Its spellings are equal.
fn parse_ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn parse_port(digits: &str) -> Result<u16, OriginError> {
    // `u16::from_str` would take a sign.
    let parsed = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok());
    parsed.flatten().ok_or(OriginError::InvalidPort)
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingScheme => "an origin begins with a scheme, as in https://example.com",
            Self::MoreThanOrigin => {
                "an origin is scheme, host and port only: leave out user, path and a final slash"
            }
            Self::InvalidHost => {
                "an origin's host is a name (an international one in its xn-- form), \
                 an IPv4 address, or an IPv6 address in brackets"
            }
            Self::MisplacedWildcard => {
                "a * may only be the first label of an origin's host, as in \
                 https://*.example.com; an empty list allows every origin"
            }
            Self::InvalidPort => "an origin's port is a number from 0 to 65535",
        })
    }
}

impl Error for OriginError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Which of `origins` a list of one entry allows. A list with an entry more must agree.
    #[track_caller]
    fn check(entry: &str, allowed: &[&str], refused: &[&str]) {
        let entry_alone = [OriginPattern::parse(entry).unwrap()];
        let other = OriginPattern::parse("other://other").unwrap();
        let entry_and_other = [other, entry_alone[0].clone()];
        for (origins, expected) in [(allowed, true), (refused, false)] {
            for origin in origins {
                let on = |list| allows(list, Some(origin));
                assert_eq!(on(&entry_alone), expected, "{origin} on {entry}");
                assert_eq!(
                    on(&entry_and_other),
                    expected,
                    "{origin} on {entry} and another"
                );
            }
        }
        assert!(!allows(&entry_alone, None), "no origin on {entry}");
    }

    #[test]
    fn an_empty_list_allows_anything() {
        for origin in [
            None,
            Some(""),
            Some("null"),
            Some("https://example.com"),
            Some("x y"),
        ] {
            assert!(allows(&[], origin));
        }
    }

    #[test]
    fn scheme_host_and_port_must_be_equal() {
        check(
            "https://example.com",
            &[
                "https://example.com",
                "HTTPS://EXAMPLE.com",
                "https://example.com:443",
            ],
            &[
                "http://example.com",
                "wss://example.com",
                "https://example.com:80",
                "https://example.com:8443",
                "https://www.example.com",
                "https://example.com.evil.test",
                "https://evilexample.com",
                "https://example.co",
                "https://example.com.",
            ],
        );
        check(
            "HTTP://LocalHost:3000",
            &["http://localhost:3000", "http://localhost:03000"],
            &[
                "http://localhost",
                "http://localhost:3001",
                "https://localhost:3000",
            ],
        );
        check("app://-", &["app://-"], &["app://-:80", "app://"]);
    }

    #[test]
    fn default_ports_may_be_left_out_on_either_side() {
        for (scheme, port, other) in [
            ("http", 80, 443),
            ("ws", 80, 443),
            ("https", 443, 80),
            ("wss", 443, 80),
        ] {
            let (bare, full) = (&format!("{scheme}://x"), &format!("{scheme}://x:{port}"));
            let other = &format!("{scheme}://x:{other}");
            check(bare, &[bare, full], &[other]);
            check(full, &[bare, full], &[other]);
            check(other, &[other], &[bare, full]);
        }
        check("ftp://x:21", &["ftp://x:21"], &["ftp://x"]);
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        check(
            "https://*.example.com:8443",
            &[
                "https://a.example.com:8443",
                "https://a-b_1.Example.COM:8443",
            ],
            &[
                "https://example.com:8443",
                "https://.example.com:8443",
                "https://a.b.example.com:8443",
                "https://aexample.com:8443",
                "https://a.example.com",
                "https://*.example.com:8443",
                "https://a%2e.example.com:8443",
                "https://\u{e9}.example.com:8443",
                "https://a.example.org:8443",
            ],
        );
    }

    #[test]
    fn addresses() {
        check(
            "http://[2001:DB8::1]:8080",
            &[
                "http://[2001:db8::1]:8080",
                "http://[2001:db8:0:0:0:0:0:1]:8080",
            ],
            &[
                "http://[2001:db8::1]",
                "http://[2001:db8::2]:8080",
                "http://2001:db8::1:8080",
            ],
        );
        check(
            "http://[::1]",
            &["http://[::1]:80", "http://[0::1]"],
            &["http://::1", "http://[::1"],
        );
        check(
            "http://127.0.0.1",
            &["http://127.0.0.1"],
            &["http://127.0.0.2", "http://127.1"],
        );
    }

    #[test]
    fn null_is_only_equal_to_null() {
        check(
            "null",
            &["null"],
            &["NULL", "null://null", "", "https://null"],
        );
        check("https://null", &["https://null"], &["null"]);
    }

    #[test]
    fn garbage_is_refused() {
        check(
            "https://example.com",
            &[],
            &[
                "",
                "example.com",
                "//example.com",
                "://example.com",
                "https:example.com",
                "https:/example.com",
                "https://",
                "https://example.com/",
                "https://example.com/x",
                "https://example.com?x",
                "https://example.com#x",
                "https://example.com\\x",
                "https://x@example.com",
                "https://example.com:",
                "https://example.com:+443",
                "https://example.com:65979",
                "https://example.com:443:443",
                "https://example.com https://example.com",
                "https://example.com, https://x",
                " https://example.com",
                "https://example.com ",
                "https://example.com\u{0}",
            ],
        );
    }

    #[test]
    fn entries_that_could_never_match_are_refused_when_loaded() {
        use OriginError::*;
        for (entry, error) in [
            ("", MissingScheme),
            ("*", MissingScheme),
            ("example.com", MissingScheme),
            ("1http://x", MissingScheme),
            ("ht tp://x", MissingScheme),
            ("https://example.com/", MoreThanOrigin),
            ("https://a@example.com", MoreThanOrigin),
            ("https://a, https://b", MoreThanOrigin),
            ("https://", InvalidHost),
            ("https://:443", InvalidHost),
            ("https://a..b", InvalidHost),
            ("https://.a", InvalidHost),
            ("https://*.", InvalidHost),
            ("https://\u{e9}.test", InvalidHost),
            ("https://[::g]", InvalidHost),
            ("https://[::1", InvalidPort),
            ("https://[::1]x", InvalidHost),
            ("https://*.[::1]", InvalidHost),
            ("https://*", MisplacedWildcard),
            ("https://a.*.test", MisplacedWildcard),
            ("https://*a.test", MisplacedWildcard),
            ("https://*.*.test", MisplacedWildcard),
            ("https://a:", InvalidPort),
            ("https://a:x", InvalidPort),
            ("https://a:65536", InvalidPort),
            ("https://a:*", InvalidPort),
        ] {
            assert_eq!(OriginPattern::parse(entry), Err(error), "{entry}");
        }
    }

    proptest! {
        #[test]
        fn an_entry_without_wildcard_allows_itself(
            origin in "[a-z][a-z0-9+.-]{0,5}://([a-z0-9-]{1,4}\\.){0,3}[a-z0-9]{1,4}(:[0-9]{1,4})?",
        ) {
            let list = [OriginPattern::parse(&origin).unwrap()];
            prop_assert!(allows(&list, Some(&origin)));
            prop_assert!(allows(&list, Some(&origin.to_ascii_uppercase())));
        }

        #[test]
        fn no_text_panics(
            entry in "(https?://)?[a*.:\\[\\]0-9/@\u{e9}-]{0,12}",
            header in "(https?://)?[a*.:\\[\\]0-9/@\u{e9}-]{0,12}",
        ) {
            if let Ok(pattern) = OriginPattern::parse(&entry) {
                let _ = allows(&[pattern], Some(&header));
            }
            let list = [OriginPattern::parse("https://*.a").unwrap()];
            let _ = allows(&list, Some(&header));
        }
    }
}
