//! Request targets: path and query, and percent-decoding.
//!
//! It stands between the raw target of a request head and the routes. They cut names out of the
//! raw path and decode them afterwards, so that an encoded slash is part of a name wherever a
//! plain one is: `app_abc%2Froom-1` and `app_abc/room-1` are the same channel.
//!
//! It does not normalise: `.` and `..`, empty segments and case mean themselves. Nothing here
//! maps a path to a file.
//!
//! What it decodes is valid UTF-8; whether it is a valid channel or peer id is for others to say.

use std::borrow::Cow;

use memchr::memchr;

use super::error::RequestError;

/// A request target, taken apart but not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'b> {
    /// The path as sent. Begins with `/`.
    pub path: &'b str,
    /// What stands behind the first `?`; empty without one.
    pub query: &'b str,
}

impl<'b> Target<'b> {
    /// Takes a request target apart: origin-form, or absolute-form, whose scheme and authority
    /// are checked and ignored (RFC 9112, sections 3.2.1 and 3.2.2).
    ///
    /// # Errors
    ///
    /// [`RequestError::UnsupportedTarget`] for the other forms and for a fragment.
    pub fn parse(target: &'b str) -> Result<Self, RequestError> {
        if memchr(b'#', target.as_bytes()).is_some() {
            return Err(RequestError::UnsupportedTarget);
        }
        let local = if target.starts_with('/') {
            target
        } else {
            strip_authority(target)?
        };
        let (path, query) = local.split_once('?').unwrap_or((local, ""));
        Ok(Self {
            path: if path.is_empty() { "/" } else { path },
            query,
        })
    }

    /// The decoded value of a query parameter that may occur once; empty where it has none.
    ///
    /// `+` stands for itself: neither `encodeURIComponent` nor a credential produces one that
    /// means a space.
    ///
    /// # Errors
    ///
    /// [`RequestError::RepeatedQueryParameter`] where it occurs more than once, in whatever
    /// spelling; [`RequestError::InvalidPercentEncoding`] where its value does not decode. Where
    /// the parameter is a credential, the answer to both is that to a bad one.
    pub fn query_value(&self, name: &str) -> Result<Option<Cow<'b, str>>, RequestError> {
        let mut found = None;
        for parameter in self.query.split('&') {
            let (raw_name, raw_value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !decodes_to(raw_name, name) {
                continue;
            }
            if found.replace(raw_value).is_some() {
                return Err(RequestError::RepeatedQueryParameter);
            }
        }
        found.map(percent_decode).transpose()
    }
}

/// Decodes `%XX` escapes, allocating only where there are any.
///
/// # Errors
///
/// [`RequestError::InvalidPercentEncoding`] for a `%` without two hex digits behind it, and for
/// escapes that decode to something that is not UTF-8.
pub fn percent_decode(raw: &str) -> Result<Cow<'_, str>, RequestError> {
    let mut rest = raw.as_bytes();
    if memchr(b'%', rest).is_none() {
        return Ok(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some(at) = memchr(b'%', rest) {
        let (literal, escape) = rest.split_at(at);
        let [_, high, low, behind @ ..] = escape else {
            return Err(RequestError::InvalidPercentEncoding);
        };
        let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low)) else {
            return Err(RequestError::InvalidPercentEncoding);
        };
        decoded.extend_from_slice(literal);
        decoded.push(high << 4 | low);
        rest = behind;
    }
    decoded.extend_from_slice(rest);
    let decoded = String::from_utf8(decoded).map_err(|_| RequestError::InvalidPercentEncoding)?;
    Ok(Cow::Owned(decoded))
}

/// What follows the authority of an absolute `http` or `https` URI.
fn strip_authority(target: &str) -> Result<&str, RequestError> {
    let (scheme, rest) = target
        .split_once("://")
        .ok_or(RequestError::UnsupportedTarget)?;
    let (authority, local) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    // RFC 9110, section 4.2: an empty host is invalid, and userinfo is never sent.
    if !http || authority.is_empty() || authority.starts_with(':') || authority.contains('@') {
        return Err(RequestError::UnsupportedTarget);
    }
    Ok(local)
}

fn decodes_to(raw: &str, name: &str) -> bool {
    raw == name || raw.contains('%') && percent_decode(raw).is_ok_and(|decoded| decoded == name)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(target: &str, expected: Result<(&str, &str), RequestError>) {
        let parsed = Target::parse(target).map(|target| (target.path, target.query));
        assert_eq!(parsed, expected, "{target:?}");
    }

    #[test]
    fn path_and_query() {
        check("/", Ok(("/", "")));
        check("/v1?key=a", Ok(("/v1", "key=a")));
        check("/v1?", Ok(("/v1", "")));
        check("/v1?a?b&c", Ok(("/v1", "a?b&c")));
        check("/a/../%2e%2E//b", Ok(("/a/../%2e%2E//b", "")));
        check("//evil/v1", Ok(("//evil/v1", "")));
        check(
            "/v1/channels/r\u{f6}m/peers",
            Ok(("/v1/channels/r\u{f6}m/peers", "")),
        );
        check("/http://x/y", Ok(("/http://x/y", "")));
    }

    #[test]
    fn absolute_form_means_its_path() {
        check("http://x/v1?key=a", Ok(("/v1", "key=a")));
        check("HTTPS://[::1]:80/v1", Ok(("/v1", "")));
        check("http://x", Ok(("/", "")));
        check("http://x?key=a/b", Ok(("/", "key=a/b")));
    }

    #[test]
    fn other_forms_are_refused() {
        for target in [
            "",
            "*",
            "x",
            "x:80",
            "v1",
            "http:/v1",
            "http://",
            "http:///v1",
            "http://:80/",
            "?a",
            "http://a@x/",
            "ws://x/v1",
            "ftp://x/",
            "://x/",
            "/v1#a",
            "/v1?a#b",
            "http://x/#",
        ] {
            check(target, Err(RequestError::UnsupportedTarget));
        }
    }

    #[test]
    fn query_values() {
        use RequestError::{InvalidPercentEncoding, RepeatedQueryParameter};
        for (query, expected) in [
            ("", Ok(None)),
            ("key=a", Ok(Some("a"))),
            ("x&key=a=b&y=", Ok(Some("a=b"))),
            ("key", Ok(Some(""))),
            ("key=", Ok(Some(""))),
            ("k%65y=a", Ok(Some("a"))),
            ("key=%61+%2b%C3%A9", Ok(Some("a++\u{e9}"))),
            ("Key=a&keys=b&ke=c&=key&%key=d", Ok(None)),
            ("key=a&x=%zz&%zz=1", Ok(Some("a"))),
            ("key=a&key=a", Err(RepeatedQueryParameter)),
            ("key=a&%6bey=%zz", Err(RepeatedQueryParameter)),
            ("key&key", Err(RepeatedQueryParameter)),
            ("key=%", Err(InvalidPercentEncoding)),
            ("key=%e9", Err(InvalidPercentEncoding)),
        ] {
            let target = Target { path: "/v1", query };
            let value = target.query_value("key");
            assert_eq!(
                value.as_ref().map(Option::as_deref),
                expected.as_ref().copied(),
                "{query}"
            );
        }
    }

    #[test]
    fn percent_decoding_is_strict() {
        assert!(matches!(
            percent_decode("a+b/c"),
            Ok(Cow::Borrowed("a+b/c"))
        ));
        assert_eq!(percent_decode("%41%2f%2F%25%00").unwrap(), "A//%\0");
        assert_eq!(
            percent_decode("%F0%9F%90%8C\u{e9}").unwrap(),
            "\u{1f40c}\u{e9}"
        );
        for raw in [
            "%",
            "%4",
            "a%",
            "%4g",
            "%g4",
            "%%41",
            "% 41",
            "%+4",
            "%u0041",
            "%\u{e9}",
            "%ff",
            "%c3",
            "%c3\u{e9}",
            "%C0%80",
            "%ED%A0%80",
        ] {
            assert_eq!(
                percent_decode(raw),
                Err(RequestError::InvalidPercentEncoding),
                "{raw}"
            );
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text: String, plain: Vec<bool>) {
            let mut plain = plain.iter().copied().chain(std::iter::repeat(false));
            let raw: String = text
                .chars()
                .map(|c| {
                    if c != '%' && plain.next() == Some(true) {
                        return c.to_string();
                    }
                    let mut bytes = [0; 4];
                    c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02x}")).collect()
                })
                .collect();
            prop_assert_eq!(percent_decode(&raw).unwrap(), text);
        }

        #[test]
        fn no_target_panics(target in "[/?#&=%a-fkey0-9:*@.\u{e9}-]{0,24}") {
            if let Ok(parsed) = Target::parse(&target) {
                prop_assert!(parsed.path.starts_with('/'));
                let _ = parsed.query_value("key");
                let _ = percent_decode(parsed.path);
            }
        }
    }
}
