//! PROXY protocol headers: what is accepted is one, by its specification, and the verdict does
//! not change while a header comes byte by byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringmesh::proto::proxy_protocol::{HEADER_BYTES_MAX, Header, parse};

pub(crate) fn run(bytes: &[u8]) {
    let whole = parse(bytes);
    for end in 0..bytes.len() {
        match parse(&bytes[..end]) {
            Ok(None) => {}
            Ok(Some(header)) => {
                assert!(header.bytes <= end);
                assert_eq!(whole, Ok(Some(header)), "whole after {end} bytes");
            }
            Err(_) => assert!(whole.is_err(), "refused after {end} bytes, and then taken"),
        }
    }
    let Ok(found) = whole else {
        return;
    };
    let Some(header) = found else {
        assert!(bytes.len() < HEADER_BYTES_MAX, "more is waited for");
        return;
    };
    let own = &bytes[..header.bytes];
    let expected = match own.first() {
        Some(b'P') => text(own),
        _ => binary(own),
    };
    assert_eq!(expected, Some(header));
}

/// Version 1: section 2.1 of the specification.
fn text(line: &[u8]) -> Option<Header> {
    let words = str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let words: Vec<&str> = words.split(' ').collect();
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family, source, destination, from, to] => {
            let _: (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
            Some(match family {
                "TCP4" => {
                    let _: Ipv4Addr = destination.parse().ok()?;
                    IpAddr::V4(source.parse().ok()?)
                }
                "TCP6" => {
                    let _: Ipv6Addr = destination.parse().ok()?;
                    source.parse::<Ipv6Addr>().ok()?.to_canonical()
                }
                _ => return None,
            })
        }
        _ => return None,
    };
    let bytes = line.len();
    (bytes <= 107).then_some(Header { bytes, source })
}

/// Version 2: section 2.2.
fn binary(header: &[u8]) -> Option<Header> {
    let rest = header.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n")?;
    let [command, family, high, low, addresses @ ..] = rest else {
        return None;
    };
    if addresses.len() != usize::from(u16::from_be_bytes([*high, *low])) {
        return None;
    }
    let source = match (command, family >> 4) {
        (0x20, _) => None,
        (0x21, 1) => Some(IpAddr::from(<[u8; 4]>::try_from(&addresses[..4]).ok()?)),
        (0x21, 2) => {
            let octets = <[u8; 16]>::try_from(&addresses[..16]).ok()?;
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        (0x21, _) => None,
        _ => return None,
    };
    let bytes = header.len();
    Some(Header { bytes, source })
}
