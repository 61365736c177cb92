//! The opening handshake (RFC 6455 section 4.1), client side.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::client::http::no_http;
use crate::client::target::{Credential, Target, percent_encode};
use crate::failure::Failure;

/// RFC 6455 section 1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest response head accepted, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most response headers accepted.
const HEADER_COUNT_MAX: usize = 64;

/// Appends the upgrade request for a connection of `peer_id` (used with tokens only) and returns
/// the `Sec-WebSocket-Accept` that must come back.
///
/// # Errors
/// [`Failure::Usage`] when no credential was given.
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    target: &Target,
    peer_id: &str,
    unix_sec: u64,
    nonce: u128,
) -> Result<String, Failure> {
    let (name, value) = match &target.credential {
        Credential::Key(key) => ("key", percent_encode(key)),
        Credential::Tokens(signer) => ("token", signer.mint(peer_id, unix_sec)?),
        Credential::None => {
            return Err(Failure::Usage(
                "give --key pk_… or --token-secret id:secret".into(),
            ));
        }
    };
    let key = STANDARD.encode(nonce.to_le_bytes());
    let lines = [
        "GET ",
        &target.path,
        "?",
        name,
        "=",
        &value,
        " HTTP/1.1\r\nHost: ",
        &target.host,
        "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Key: ",
        &key,
    ];
    for part in lines {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(origin) = &target.origin {
        out.extend_from_slice(b"\r\nOrigin: ");
        out.extend_from_slice(origin.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
    Ok(accept_of(&key))
}

/// Reads the response at the start of `buffer`: the bytes of its head once complete and right.
///
/// # Errors
/// [`Failure::Rejected`] for an HTTP error, [`Failure::Protocol`] for anything but this handshake.
pub(crate) fn read_response(buffer: &[u8], accept: &str) -> Result<Option<usize>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_bytes = match response.parse(buffer) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) if buffer.len() <= HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => {
            return Err(Failure::Protocol("an endless response head".into()));
        }
        Err(error) => return Err(no_http(buffer, error)),
    };
    let status = response.code.unwrap_or_default();
    if status != 101 {
        let body = String::from_utf8_lossy(&buffer[head_bytes..]);
        return Err(Failure::Rejected {
            status,
            body: body.chars().take(200).collect(),
        });
    }
    let accepted = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
    if accepted.is_none_or(|header| header.value != accept.as_bytes()) {
        return Err(Failure::Protocol("a wrong Sec-WebSocket-Accept".into()));
    }
    Ok(Some(head_bytes))
}

fn accept_of(key: &str) -> String {
    let mut sha1 = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    sha1.update(key.as_bytes());
    sha1.update(ACCEPT_GUID);
    STANDARD.encode(sha1.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn target() -> Target {
        Target {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            host: "h:1".into(),
            path: "/v1".into(),
            tls: None,
            credential: Credential::Key("pk live".into()),
            api_secret: None,
            origin: Some("https://o".into()),
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(
            accept_of("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn an_independent_server_accepts_our_request() {
        let mut request = Vec::new();
        let accept = write_request(&mut request, &target(), "", 0, 42).expect("has a key");
        assert!(request.starts_with(b"GET /v1?key=pk%20live HTTP/1.1\r\nHost: h:1\r\n"));
        assert!(memchr::memmem::find(&request, b"\r\nOrigin: https://o\r\n").is_some());
        let key_at = memchr::memmem::find(&request, b"Key: ").expect("has a nonce") + 5;
        let theirs = tungstenite::handshake::derive_accept_key(&request[key_at..key_at + 24]);
        assert_eq!(accept, theirs);
    }

    #[test]
    fn the_response_is_awaited_at_every_split() {
        let response = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nSEC-websocket-Accept: a=\r\n\r\n";
        for cut in 0..response.len() {
            assert_eq!(
                read_response(&response[..cut], "a="),
                Ok(None),
                "cut at {cut}"
            );
        }
        assert_eq!(read_response(response, "a="), Ok(Some(response.len())));
        assert!(matches!(
            read_response(response, "b="),
            Err(Failure::Protocol(_))
        ));
    }

    #[test]
    fn an_http_error_is_a_rejection() {
        let response = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}";
        let rejected = Failure::Rejected {
            status: 401,
            body: "{}".into(),
        };
        assert_eq!(read_response(response, ""), Err(rejected));
        assert!(matches!(
            read_response(b"SSH-2.0-x\r\n", ""),
            Err(Failure::Protocol(_))
        ));
    }
}
