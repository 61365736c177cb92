//! Version 1: one line of text (section 2.1 of the specification).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Header, ProxyHeaderError};

/// Bytes of the longest line, its end included (section 2.1).
pub(super) const LINE_BYTES_MAX: usize = 107;

/// Begins every line.
pub(super) const PREFIX: &[u8] = b"PROXY ";

/// Reads the line at the start of `bytes`, which begin with [`PREFIX`] as far as they go; `None`
/// where more has to come.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderError> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(line_feed) = memchr::memchr(b'\n', window) else {
        return match window.len() {
            LINE_BYTES_MAX => Err(ProxyHeaderError::TooLong),
            _ => Ok(None),
        };
    };
    let fields = window[..line_feed].strip_suffix(b"\r");
    let fields = fields.and_then(|line| line.strip_prefix(PREFIX));
    let fields = fields.and_then(|fields| str::from_utf8(fields).ok());
    let source = fields.and_then(source).ok_or(ProxyHeaderError::Malformed)?;
    Ok(Some(Header {
        bytes: line_feed + 1,
        source,
    }))
}

/// Whom the proxy speaks for, from what stands behind the prefix; `Some(None)` when it cannot
/// tell. `None`: that is no line of version 1.
fn source(fields: &str) -> Option<Option<IpAddr>> {
    let (family, addresses) = fields.split_once(' ').unwrap_or((fields, ""));
    if family == "UNKNOWN" {
        // Whatever stands behind it is to be ignored.
        return Some(None);
    }
    let mut addresses = addresses.split(' ');
    let (from, to) = (addresses.next()?, addresses.next()?);
    let ports = [addresses.next()?, addresses.next()?];
    if addresses.next().is_some() || !ports.into_iter().all(is_port) {
        return None;
    }
    match family {
        "TCP4" => {
            to.parse::<Ipv4Addr>().ok()?;
            Some(Some(from.parse::<Ipv4Addr>().ok()?.into()))
        }
        "TCP6" => {
            to.parse::<Ipv6Addr>().ok()?;
            Some(Some(from.parse::<Ipv6Addr>().ok()?.to_canonical()))
        }
        _ => None,
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}
