//! The header that a proxy puts in front of a connection: PROXY protocol, version 2 (section 2.2
//! of its specification).
//!
//! Whether the sender may be believed is not known here. Of the header only the source address
//! is used; the extensions behind it are skipped.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the longest header that is read: the addresses, and room for extensions. The
/// specification asks receivers for 536.
pub const HEADER_BYTES_MAX: usize = 4_096;

/// Begins every header; chosen so that no protocol begins like it.
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

/// Not a header of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// It does not begin with the signature.
    Signature,
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
            Self::Signature => "no PROXY protocol v2 header",
            Self::Unknown => "a PROXY header of unknown version, command or family",
            Self::TooLong => "a PROXY header that is too long",
            Self::TooShort => "a PROXY header that is too short for its addresses",
        })
    }
}

impl Error for ProxyHeaderError {}

/// Reads the header at the start of a connection; `None` where more has to come.
///
/// # Errors
/// As soon as the bytes cannot become a header any more.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderError> {
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
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&[command, family]);
        bytes.extend_from_slice(&(rest.len() as u16).to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    /// Parses whole, with more behind, and split at every byte.
    #[track_caller]
    fn check(bytes: &[u8], expected: Result<Option<IpAddr>, ProxyHeaderError>) {
        match expected {
            Ok(source) => {
                let header = Header {
                    bytes: bytes.len(),
                    source,
                };
                let behind = [bytes, b"GET / HTTP/1.1\r\n"].concat();
                assert_eq!(parse(&behind), Ok(Some(header)));
                for split in 0..bytes.len() {
                    assert_eq!(parse(&bytes[..split]), Ok(None), "{split} bytes");
                }
                assert_eq!(parse(bytes), Ok(Some(header)));
            }
            Err(error) => {
                let first = (0..=bytes.len()).find_map(|split| parse(&bytes[..split]).err());
                assert_eq!(first, Some(error));
                assert_eq!(parse(bytes), Err(error));
            }
        }
    }

    fn ipv4() -> Vec<u8> {
        vec![203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb]
    }

    #[test]
    fn the_source_address_is_read() {
        let source = "203.0.113.9".parse().unwrap();
        check(&header(0x21, 0x11, &ipv4()), Ok(Some(source)));
        let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let mut rest = v6.octets().to_vec();
        rest.resize(IPV6_BYTES, 0);
        check(&header(0x21, 0x21, &rest), Ok(Some(v6.into())));
        let mapped: Ipv6Addr = "::ffff:203.0.113.9".parse().unwrap();
        rest[..16].copy_from_slice(&mapped.octets());
        check(&header(0x21, 0x21, &rest), Ok(Some(source)));
    }

    #[test]
    fn extensions_are_skipped() {
        let mut rest = ipv4();
        rest.extend_from_slice(&[0x04, 0, 3, b'a', b'b', b'c']);
        check(&header(0x21, 0x11, &rest), Ok("203.0.113.9".parse().ok()));
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_names_nobody() {
        check(&header(0x20, 0x00, b""), Ok(None));
        check(&header(0x20, 0x11, &ipv4()), Ok(None));
        check(&header(0x20, 0x11, b""), Ok(None));
        check(&header(0x21, 0x00, b""), Ok(None));
        check(&header(0x21, 0x31, &[0; UNIX_BYTES]), Ok(None));
    }

    #[test]
    fn anything_else_is_refused() {
        use ProxyHeaderError::{Signature, TooLong, TooShort, Unknown};
        check(b"GET / HTTP/1.1\r\n", Err(Signature));
        check(
            b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 443\r\n",
            Err(Signature),
        );
        check(b"\r\n\r\n\0\r\nQUIT\r", Err(Signature));
        check(&header(0x11, 0x11, &ipv4()), Err(Unknown));
        check(&header(0x22, 0x11, &ipv4()), Err(Unknown));
        check(&header(0x21, 0x41, &ipv4()), Err(Unknown));
        check(&header(0x21, 0x13, &ipv4()), Err(Unknown));
        check(&header(0x21, 0x11, &ipv4()[..11]), Err(TooShort));
        check(&header(0x21, 0x21, &ipv4()), Err(TooShort));
        let longest = [&ipv4()[..], &[0; HEADER_BYTES_MAX - 28]].concat();
        check(
            &header(0x21, 0x11, &longest),
            Ok("203.0.113.9".parse().ok()),
        );
        let longer = [&longest[..], &[0]].concat();
        check(&header(0x21, 0x11, &longer), Err(TooLong));
    }
}
