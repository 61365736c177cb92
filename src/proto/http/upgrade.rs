//! The server's side of the WebSocket opening handshake (RFC 6455, section 4.2).
//!
//! It stands between a parsed request head and the 101 that turns the connection into a
//! WebSocket.
//!
//! It does not authenticate and does not look at path or `Origin`. No subprotocol and no
//! extension is ever selected, so what the client offers of them is ignored.
//!
//! A [`WebSocketKey`] is proof that every check of the handshake has passed.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD};

use super::body::BodyFraming;
use super::error::RequestError;
use super::head::{RequestHead, Version};

/// Bytes of a `Sec-WebSocket-Key`: the base64 of 16 bytes.
const KEY_BYTES: usize = 24;

/// Bytes of a `Sec-WebSocket-Accept`: the base64 of a SHA-1.
const ACCEPT_BYTES: usize = 28;

/// RFC 6455, section 1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Some clients draw the key's characters instead of its bytes, and so set the bits that the last
/// of them has to spare.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    PAD.with_decode_allow_trailing_bits(true),
);

/// The `Sec-WebSocket-Key` of a sound handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketKey([u8; KEY_BYTES]);

/// Checks a WebSocket handshake (RFC 6455, section 4.2.1).
///
/// # Errors
///
/// [`RequestError::NotAnUpgrade`] where the request does not ask for a WebSocket at all,
/// [`RequestError::WrongWebSocketVersion`] where it asks for another version than 13 or for none;
/// the `Upgrade…` errors where the handshake is broken.
pub fn check_upgrade(head: &RequestHead<'_>) -> Result<WebSocketKey, RequestError> {
    if !head.list_contains("upgrade", "websocket") {
        return Err(RequestError::NotAnUpgrade);
    }
    if head.method != "GET" {
        return Err(RequestError::UpgradeMethod);
    }
    if head.version != Version::Http11 {
        return Err(RequestError::UpgradeHttpVersion);
    }
    if !head.list_contains("connection", "upgrade") {
        return Err(RequestError::UpgradeConnection);
    }
    if head.header("sec-websocket-version") != Ok(Some(b"13")) {
        return Err(RequestError::WrongWebSocketVersion);
    }
    if BodyFraming::of(head, u64::MAX)? != BodyFraming::None {
        return Err(RequestError::UpgradeBody);
    }
    let key = head
        .header("sec-websocket-key")
        .ok()
        .flatten()
        .and_then(WebSocketKey::parse);
    key.ok_or(RequestError::UpgradeKey)
}

impl WebSocketKey {
    fn parse(value: &[u8]) -> Option<Self> {
        let key = <[u8; KEY_BYTES]>::try_from(value).ok()?;
        // The decoder asks for room by the length alone: 24 characters could be 18 bytes.
        let mut decoded = [0; 18];
        (LENIENT.decode_slice(key, &mut decoded) == Ok(16)).then_some(Self(key))
    }

    /// Appends the whole 101 answer that accepts the handshake.
    pub fn append_switching_protocols(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\n\
              Upgrade: websocket\r\n\
              Connection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&accept_key(&self.0));
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// The `Sec-WebSocket-Accept` value for a key (RFC 6455, section 4.2.2, item 5.4).
fn accept_key(key: &[u8; KEY_BYTES]) -> [u8; ACCEPT_BYTES] {
    let mut input = [0; KEY_BYTES + ACCEPT_GUID.len()];
    input[..KEY_BYTES].copy_from_slice(key);
    input[KEY_BYTES..].copy_from_slice(ACCEPT_GUID);
    let mut accept = [0; ACCEPT_BYTES];
    let encoded = STANDARD.encode_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, &input), &mut accept);
    debug_assert_eq!(encoded, Ok(ACCEPT_BYTES), "20 bytes are 28 characters");
    accept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::head::parse_head;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const SOUND: [&str; 5] = [
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        KEY,
        "Sec-WebSocket-Version: 13",
    ];

    /// Checks the sound handshake with the header of `line` replaced, added, or, where `line`
    /// ends in `:`, left out.
    #[track_caller]
    fn check(request_line: &str, line: &str, expected: Result<(), RequestError>) {
        let (name, value) = line.split_once(':').unwrap();
        let kept = SOUND
            .iter()
            .filter(|kept| !kept.starts_with(&format!("{name}:")));
        let mut head = format!("{request_line}\r\n");
        for line in kept.chain(std::iter::once(&line).filter(|_| !value.is_empty())) {
            head.push_str(&format!("{line}\r\n"));
        }
        head.push_str("\r\n");
        let outcome = parse_head(head.as_bytes()).and_then(|head| check_upgrade(&head));
        assert_eq!(outcome.map(drop), expected, "{request_line} {line}");
    }

    const GET: &str = "GET /v1?key=a HTTP/1.1";

    #[test]
    fn sound_handshakes() {
        for line in [
            "Upgrade: WebSocket",
            "Upgrade: h2c, websocket",
            "Connection: keep-alive, Upgrade",
            "Connection: upgrade\r\nConnection: keep-alive",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB==",
            "Sec-WebSocket-Key:   dGhlIHNhbXBsZSBub25jZQ== ",
            "Sec-WebSocket-Protocol: chat, superchat",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            "Content-Length: 0",
        ] {
            check(GET, line, Ok(()));
        }
    }

    #[test]
    fn requests_for_no_websocket() {
        check(GET, "Upgrade:", Err(RequestError::NotAnUpgrade));
        check(GET, "Upgrade: h2c", Err(RequestError::NotAnUpgrade));
        check(
            GET,
            "Upgrade: websocket/13",
            Err(RequestError::NotAnUpgrade),
        );
        check(
            "POST /v1 HTTP/1.1",
            "Upgrade:",
            Err(RequestError::NotAnUpgrade),
        );
        check(
            "GET /v1 HTTP/1.0",
            "Upgrade:",
            Err(RequestError::NotAnUpgrade),
        );
    }

    #[test]
    fn other_versions() {
        for line in [
            "Sec-WebSocket-Version:",
            "Sec-WebSocket-Version: 8",
            "Sec-WebSocket-Version: 013",
            "Sec-WebSocket-Version: 13, 8",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13",
        ] {
            check(GET, line, Err(RequestError::WrongWebSocketVersion));
        }
    }

    #[test]
    fn broken_handshakes() {
        use RequestError::*;
        check("POST /v1 HTTP/1.1", "A: b", Err(UpgradeMethod));
        check("get /v1 HTTP/1.1", "A: b", Err(UpgradeMethod));
        check("GET /v1 HTTP/1.0", "A: b", Err(UpgradeHttpVersion));
        check(GET, "Connection:", Err(UpgradeConnection));
        check(GET, "Connection: keep-alive", Err(UpgradeConnection));
        check(GET, "Content-Length: 5", Err(UpgradeBody));
        check(GET, "Transfer-Encoding: chunked", Err(UpgradeBody));
        check(
            GET,
            "Transfer-Encoding: gzip",
            Err(UnsupportedTransferEncoding),
        );
        check(GET, "Content-Length: x", Err(InvalidContentLength));
        for value in [
            "",
            "x",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ==x",
            "dGhlIHNhbXBsZSBub25jZQx=",
            "dGhlIHNhbXBsZSBub25jZQxx",
            "dGhlIHNhbXBsZSBub25j-Q==",
            "dGhlIHNhbXBsZSB1b25jZQ=\u{e9}",
        ] {
            check(GET, &format!("Sec-WebSocket-Key: {value}"), Err(UpgradeKey));
        }
        check(GET, "Sec-WebSocket-Key:", Err(UpgradeKey));
        check(GET, &format!("{KEY}\r\n{KEY}"), Err(UpgradeKey));
    }

    #[test]
    fn the_answer_is_that_of_the_rfc() {
        let key = WebSocketKey::parse(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        let mut out = b"before".to_vec();
        key.append_switching_protocols(&mut out);
        let expected = "beforeHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn accept_keys_agree_with_tungstenite() {
        for seed in 0..100_u8 {
            let key = STANDARD.encode([seed.wrapping_mul(151); 16]);
            let expected = tungstenite::handshake::derive_accept_key(key.as_bytes());
            let key = WebSocketKey::parse(key.as_bytes()).unwrap();
            assert_eq!(accept_key(&key.0), expected.as_bytes());
        }
    }
}
