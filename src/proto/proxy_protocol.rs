//! The header that a proxy puts in front of a connection: PROXY protocol, version 1 (a line of
//! text) or 2 (binary; section 2.2 of its specification). Proxies choose; the first byte tells.
//!
//! Whether the sender may be believed is not known here. Of the header only the source address
//! is used; the extensions behind it are skipped.

mod text;

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the longest header that is read: the addresses, and room for extensions. The
/// specification asks receivers for 536.
pub const HEADER_BYTES_MAX: usize = 4_096;

/// Begins every header of version 2; chosen so that no protocol begins like it.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length of the rest.
const FIXED_BYTES: usize = 16;
const VERSION: u8 = 2;
const COMMAND_LOCAL: u8 = 0;
const COMMAND_PROXY: u8 = 1;
const FAMILY_UNSPECIFIED: u8 = 0;
const FAMILY_IPV4: u8 = 1;
const FAMILY_IPV6: u8 = 2;
const FAMILY_UNIX: u8 = 3;
/// Two addresses and two ports.
const IPV4_BYTES: usize = 12;
const IPV6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;

/// A header that was read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length: what follows is the connection's own.
    pub bytes: usize,
    /// Whom the proxy speaks for; `None` when it speaks for itself, or cannot tell.
    pub source: Option<IpAddr>,
}

/// Not a header of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// It does not begin like one.
    Signature,
    /// A line of version 1 that is none.
    Malformed,
    /// Another version, or a command or family that does not exist.
    Unknown,
    /// Longer than any that is needed.
    TooLong,
    /// Shorter than its addresses.
    TooShort,
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "no PROXY protocol header",
            Self::Malformed => "a malformed PROXY protocol v1 header",
            Self::Unknown => "a PROXY header of unknown version, command or family",
            Self::TooLong => "a PROXY header that is too long",
            Self::TooShort => "a PROXY header that is too short for its addresses",
        })
    }
}

impl Error for ProxyHeaderError {}

/// Whether bytes begin as a header of either version does. For those who did not expect one.
#[must_use]
pub fn is_likely(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE) || bytes.starts_with(text::PREFIX)
}

/// Reads the header at the start of a connection; `None` where more has to come.
///
/// # Errors
/// As soon as the bytes cannot become a header any more.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderError> {
    let compared = bytes.len().min(text::PREFIX.len());
    if !bytes.is_empty() && bytes[..compared] == text::PREFIX[..compared] {
        return text::parse(bytes);
    }
    parse_binary(bytes)
}

fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderError> {
    let compared = bytes.len().min(SIGNATURE.len());
    if bytes[..compared] != SIGNATURE[..compared] {
        return Err(ProxyHeaderError::Signature);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(None);
    };
    let [.., command, family, length_high, length_low] = *fixed;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let address_bytes = match family >> 4 {
        FAMILY_UNSPECIFIED => 0,
        FAMILY_IPV4 => IPV4_BYTES,
        FAMILY_IPV6 => IPV6_BYTES,
        FAMILY_UNIX => UNIX_BYTES,
        _ => return Err(ProxyHeaderError::Unknown),
    };
    // The low half is the transport: none, stream or datagram.
    if command >> 4 != VERSION || command & 0xf > COMMAND_PROXY || family & 0xf > 2 {
        return Err(ProxyHeaderError::Unknown);
    }
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong);
    }
    let is_local = command & 0xf == COMMAND_LOCAL;
    // A proxy that speaks for itself may leave the addresses out.
    if !is_local && length < address_bytes {
        return Err(ProxyHeaderError::TooShort);
    }
    let Some(addresses) = rest.get(..length) else {
        return Ok(None);
    };
    let source = match family >> 4 {
        _ if is_local => None,
        FAMILY_IPV4 => addresses
            .first_chunk()
            .map(|octets: &[u8; 4]| IpAddr::V4(Ipv4Addr::from(*octets))),
        FAMILY_IPV6 => addresses
            .first_chunk()
            .map(|octets: &[u8; 16]| Ipv6Addr::from(*octets).to_canonical()),
        _ => None,
    };
    Ok(Some(Header {
        bytes: FIXED_BYTES + length,
        source,
    }))
}

#[cfg(test)]
mod tests;
