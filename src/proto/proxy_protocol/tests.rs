//! Both versions from the outside: bytes in any pieces, and never more than their bounds.

use proptest::prelude::*;

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

fn line(fields: &str) -> Vec<u8> {
    format!("PROXY {fields}\r\n").into_bytes()
}

#[test]
fn a_line_of_text_names_the_source_too() {
    let source = "203.0.113.9".parse().unwrap();
    check(
        &line("TCP4 203.0.113.9 10.0.0.1 4660 443"),
        Ok(Some(source)),
    );
    check(&line("TCP4 203.0.113.9 10.0.0.1 0 65535"), Ok(Some(source)));
    check(
        &line("TCP6 2001:db8::7 fd00::1 4660 443"),
        Ok("2001:db8::7".parse().ok()),
    );
    check(
        &line("TCP6 ::ffff:203.0.113.9 fd00::1 1 2"),
        Ok(Some(source)),
    );
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = line(&format!("TCP6 {longest} {longest} 65535 65535"));
    check(
        &longest,
        Ok("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().ok()),
    );
}

#[test]
fn a_line_may_name_nobody() {
    check(&line("UNKNOWN"), Ok(None));
    check(&line("UNKNOWN ffff:: é \t 1 2 3"), Ok(None));
    let longest = line(&format!(
        "UNKNOWN {}",
        "x".repeat(text::LINE_BYTES_MAX - 16)
    ));
    assert_eq!(longest.len(), text::LINE_BYTES_MAX);
    check(&longest, Ok(None));
}

#[test]
fn any_other_line_is_refused() {
    use ProxyHeaderError::{Malformed, Signature, TooLong};
    for fields in [
        "",
        "TCP4",
        "TCP5 203.0.113.9 10.0.0.1 4660 443",
        "tcp4 203.0.113.9 10.0.0.1 4660 443",
        "UNKNOWNS",
        "TCP4 203.0.113.9 10.0.0.1 4660",
        "TCP4 203.0.113.9 10.0.0.1 4660 443 ",
        "TCP4 203.0.113.9 10.0.0.1 4660 443 1",
        "TCP4  203.0.113.9 10.0.0.1 4660 443",
        "TCP4 203.0.113.9 10.0.0.1 4660 65536",
        "TCP4 203.0.113.9 10.0.0.1 +4660 443",
        "TCP4 203.0.113.9 10.0.0.1 -1 443",
        "TCP4 203.0.113.9 10.0.0.1  443",
        "TCP4 203.0.113.256 10.0.0.1 4660 443",
        "TCP4 203.0.113.09 10.0.0.1 4660 443",
        "TCP4 2001:db8::7 fd00::1 4660 443",
        "TCP6 203.0.113.9 10.0.0.1 4660 443",
        "TCP4 203.0.113.9 10.0.0 4660 443",
        "TCP4\t203.0.113.9 10.0.0.1 4660 443",
    ] {
        check(&line(fields), Err(Malformed));
    }
    check(b"PROXY UNKNOWN\n", Err(Malformed));
    check(b"PROXY UNKNOWN \xff\r\n", Err(Malformed));
    check(b"PROXX UNKNOWN\r\n", Err(Signature));
    check(b"PROXY\r\n", Err(Signature));
    let longer = line(&format!(
        "UNKNOWN {}",
        "x".repeat(text::LINE_BYTES_MAX - 15)
    ));
    check(&longer, Err(TooLong));
}

#[test]
fn a_header_is_recognized_where_none_is_expected() {
    assert!(is_likely(&header(0x21, 0x11, &ipv4())));
    assert!(is_likely(&line("UNKNOWN")));
    assert!(!is_likely(b"GET / HTTP/1.1\r\n"));
    assert!(!is_likely(b"\r\n\r\n\0\r\nQUIT"));
    assert!(!is_likely(b""));
}

/// Bytes that come close to a header of either version.
fn near_header() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "PROXY ",
        "TCP4 ",
        "TCP6 ",
        "UNKNOWN",
        "203.0.113.9 ",
        "::1 ",
        "4660 ",
        "443",
        "\r",
        "\n",
        "\r\n",
        " ",
        "é",
    ]);
    let text = prop::collection::vec(words, 0..12).prop_map(|words| words.concat().into_bytes());
    let behind = prop::collection::vec(any::<u8>(), 0..64);
    let binary = behind.prop_map(|behind| [&SIGNATURE[..], &behind].concat());
    prop_oneof![text, binary, prop::collection::vec(any::<u8>(), 0..300)]
}

proptest! {
    /// What was decided about some bytes holds whatever follows, and is decided in time.
    #[test]
    fn a_verdict_is_final_and_bounded(bytes in near_header(), more in near_header()) {
        let all = [&bytes[..], &more].concat();
        match parse(&bytes) {
            Ok(None) => {
                prop_assert!(bytes.len() < HEADER_BYTES_MAX);
                if bytes.starts_with(text::PREFIX) {
                    prop_assert!(bytes.len() < text::LINE_BYTES_MAX);
                }
            }
            Ok(Some(header)) => {
                prop_assert!((1..=bytes.len()).contains(&header.bytes));
                prop_assert_eq!(parse(&all), Ok(Some(header)));
                prop_assert_eq!(parse(&bytes[..header.bytes]), Ok(Some(header)));
                for split in 0..header.bytes {
                    prop_assert_eq!(parse(&bytes[..split]), Ok(None));
                }
            }
            Err(error) => prop_assert_eq!(parse(&all), Err(error)),
        }
    }

    #[test]
    fn what_proxies_write_is_read(from: Ipv4Addr, from_v6: Ipv6Addr, ports: (u16, u16)) {
        let (near, far) = ports;
        let text = line(&format!("TCP4 {from} 127.0.0.1 {near} {far}"));
        let header = Header { bytes: text.len(), source: Some(from.into()) };
        prop_assert_eq!(parse(&text), Ok(Some(header)));
        let text = line(&format!("TCP6 {from_v6} ::1 {near} {far}"));
        let header = Header { bytes: text.len(), source: Some(from_v6.to_canonical()) };
        prop_assert_eq!(parse(&text), Ok(Some(header)));
    }
}
