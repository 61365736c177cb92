//! Addresses as people type them: `8090`, `:8090`, `localhost:8090`, `[::1]:8090`.

use std::net::{Ipv4Addr, SocketAddr};

/// Reads an address. A port alone is one of this machine's loopback.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    let port = text.strip_prefix(':').unwrap_or(text);
    let port = port
        .strip_prefix("localhost:")
        .filter(|_| port.len() == text.len())
        .unwrap_or(port);
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if is_number => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        _ => text.parse().ok(),
    }
}

/// Returns the address in full, or what was typed where that is none: somebody else says what is
/// wrong with it.
pub(super) fn in_full(text: String) -> String {
    address(&text).map_or(text, |address| address.to_string())
}

/// Reads the URL of an admin listener: `http://` may be left out, and before a port the host.
/// Returns it without a slash at its end.
///
/// # Errors
/// What is wrong with it.
pub(super) fn admin_url(text: &str) -> Result<String, String> {
    let bare = text.trim_end_matches('/');
    let url = match address(bare) {
        Some(address) => format!("http://{address}"),
        None if bare.contains("://") => bare.to_owned(),
        None => format!("http://{bare}"),
    };
    let host = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let host = host.unwrap_or_default();
    if host.is_empty()
        || host.ends_with(':')
        || host.contains(['/', '?', '#', '@', ' '])
        || !host.is_ascii()
    {
        return Err(format!(
            "{text:?} is not like 7464, 127.0.0.1:7464 or https://ringmesh.example:7464, without \
             a path"
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_read() {
        for (text, expected) in [
            ("8090", "127.0.0.1:8090"),
            (":8090", "127.0.0.1:8090"),
            ("localhost:8090", "127.0.0.1:8090"),
            ("[::1]:8090", "[::1]:8090"),
            ("0.0.0.0:0", "0.0.0.0:0"),
        ] {
            assert_eq!(in_full(text.to_owned()), expected);
        }
        for text in ["", ":", "8090x", "::8090", ":localhost:80", "70000", "a:80"] {
            assert_eq!(address(text), None, "{text}");
            assert_eq!(in_full(text.to_owned()), text);
        }
    }

    #[test]
    fn an_admin_url_may_be_short() {
        for (text, expected) in [
            ("7464", "http://127.0.0.1:7464"),
            (":7464", "http://127.0.0.1:7464"),
            ("localhost:7464", "http://127.0.0.1:7464"),
            ("rt.example:7464", "http://rt.example:7464"),
            ("https://rt.example/", "https://rt.example"),
            ("http://[::1]:7464", "http://[::1]:7464"),
        ] {
            assert_eq!(admin_url(text).as_deref(), Ok(expected));
        }
        for text in [
            "",
            "http://",
            "ftp://a",
            "http://a/b",
            "http://a b",
            "a?b",
            "u:p@a",
        ] {
            assert!(admin_url(text).is_err(), "{text}");
        }
    }
}
