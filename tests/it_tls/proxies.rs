//! Proxies that are trusted, and strangers who would like to be.

use std::io::{Read, Write};

use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::support::{BOTH, HOST, Site, tls_over, until_end};

/// A PROXY protocol header for a client's address.
fn proxy_header(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend_from_slice(&client);
    header.extend_from_slice(&[127, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb]);
    header
}

/// The same as a line of text, which is version 1.
fn proxy_line([a, b, c, d]: [u8; 4]) -> Vec<u8> {
    format!("PROXY TCP4 {a}.{b}.{c}.{d} 127.0.0.1 4660 443\r\n").into_bytes()
}

/// The status of an attempt to connect, with these headers behind those bytes.
fn attempt(mut stream: impl Read + Write, headers: &str) -> String {
    let head = format!(
        "GET /v1?key=wrong HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\n\
         Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    String::from_utf8(status.to_vec()).unwrap()
}

const REFUSED: &str = "HTTP/1.1 401";
const LIMITED: &str = "HTTP/1.1 429";

fn behind_proxies(trusted: &str, server: &str, more: &str) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nshards = 2\ntrusted_proxies = [\"{trusted}\"]\n\
         {server}\n[limits]\nconnects_per_address = 2\n{more}"
    )
}

#[test]
fn connects_are_counted_for_the_client_that_a_trusted_proxy_names() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(&behind_proxies("127.0.0.0/8", "", ""));
    let from = |client: &str| attempt(server.tcp(), &format!("X-Forwarded-For: {client}\r\n"));
    for _ in 0..2 {
        assert_eq!(from("203.0.113.1"), REFUSED);
        assert_eq!(from("192.0.2.66, 203.0.113.2"), REFUSED);
    }
    assert_eq!(from("203.0.113.1"), LIMITED);
    assert_eq!(from("198.51.100.1, 203.0.113.2"), LIMITED);
    assert_eq!(from("203.0.113.3"), REFUSED);
}

#[test]
fn strangers_cannot_choose_their_address() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(&behind_proxies("10.0.0.0/8", "proxy_protocol = true", ""));
    assert_eq!(
        attempt(server.tcp(), "X-Forwarded-For: 203.0.113.1\r\n"),
        REFUSED
    );
    assert_eq!(
        attempt(server.tcp(), "X-Forwarded-For: 203.0.113.2\r\n"),
        REFUSED
    );
    assert_eq!(
        attempt(server.tcp(), "X-Forwarded-For: 203.0.113.3\r\n"),
        LIMITED
    );
    let mut stream = server.tcp();
    stream.write_all(&proxy_header([203, 0, 113, 4])).unwrap();
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
    let answer = String::from_utf8(until_end(&stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn a_trusted_proxy_introduces_its_connections() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let tls = "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
    let forms: [fn([u8; 4]) -> Vec<u8>; 2] = [proxy_header, proxy_line];
    let ways = [("", false), (tls, true)].map(|way| forms.map(|form| (way, form)));
    for ((more, is_tls), header) in ways.concat() {
        let server = site.serve(&behind_proxies(
            "127.0.0.0/8",
            "proxy_protocol = true",
            more,
        ));
        let config = site.client(&BOTH);
        let from = |client: [u8; 4]| {
            let mut stream = server.tcp();
            for byte in header(client) {
                stream.write_all(&[byte]).unwrap();
            }
            if is_tls {
                attempt(tls_over(&config, stream).unwrap(), "")
            } else {
                attempt(stream, "")
            }
        };
        assert_eq!(from([203, 0, 113, 1]), REFUSED);
        assert_eq!(from([203, 0, 113, 1]), REFUSED);
        assert_eq!(from([203, 0, 113, 1]), LIMITED);
        assert_eq!(from([203, 0, 113, 2]), REFUSED);
        // Without the header it has nothing to say.
        let mut stream = server.tcp();
        let _ = write!(stream, "GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        assert!(until_end(&stream).is_empty());
    }
}

#[test]
fn a_proxy_header_is_for_those_who_may_send_one() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let tls = "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
    let config = site.client(&BOTH);
    // A stranger's is not TLS; and a trusted proxy sends none unless it is told to.
    for (trusted, proxy_protocol) in [("10.0.0.0/8", "true"), ("127.0.0.0/8", "false")] {
        let proxy_protocol = format!("proxy_protocol = {proxy_protocol}");
        let server = site.serve(&behind_proxies(trusted, &proxy_protocol, tls));
        let mut stream = server.tcp();
        stream.write_all(&proxy_header([203, 0, 113, 4])).unwrap();
        let answer = until_end(&stream);
        assert!(answer.len() <= 7, "no more than an alert: {answer:?}");
        assert_eq!(
            attempt(tls_over(&config, server.tcp()).unwrap(), ""),
            REFUSED
        );
    }
}

#[test]
fn forwarded_addresses_are_believed_over_tls_too_and_only_from_proxies() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let tls = "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
    let config = site.client(&BOTH);
    for (trusted, third) in [("127.0.0.0/8", REFUSED), ("10.0.0.0/8", LIMITED)] {
        let server = site.serve(&behind_proxies(trusted, "", tls));
        let from = |client: &str| {
            let stream = tls_over(&config, server.tcp()).unwrap();
            attempt(stream, &format!("X-Forwarded-For: {client}\r\n"))
        };
        assert_eq!(from("203.0.113.1"), REFUSED);
        assert_eq!(from("203.0.113.2"), REFUSED);
        assert_eq!(from("203.0.113.3"), third, "trusted: {trusted}");
    }
}
