//! REST requests and responses over a kept-alive connection (RFC 9112).

use crate::client::target::Target;
use crate::failure::Failure;

/// Largest response taken, head and body, in bytes.
const RESPONSE_BYTES_MAX: usize = 4 << 20;
/// Most response headers accepted.
const HEADER_COUNT_MAX: usize = 64;

/// A whole response at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    /// HTTP status.
    pub status: u16,
    /// Its body.
    pub body: &'a [u8],
    /// Bytes of head and body.
    pub wire_bytes: usize,
}

/// Appends a request with the target's API secret; a body is JSON.
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    target: &Target,
    method: &str,
    path: &str,
    body: Option<&[u8]>,
) {
    let secret = target.api_secret.as_deref().unwrap_or_default();
    let head = [
        method,
        " ",
        path,
        " HTTP/1.1\r\nHost: ",
        &target.host,
        "\r\nAuthorization: Bearer ",
        secret,
        "\r\n",
    ];
    for part in head {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(body) = body {
        out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: ");
        out.extend_from_slice(body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

/// Takes one response from the start of `buffer`; `Ok(None)` while it is incomplete.
///
/// # Errors
/// [`Failure::Protocol`] when this is no HTTP response, or one without `Content-Length`.
pub(crate) fn read_response(buffer: &[u8]) -> Result<Option<Response<'_>>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_bytes = match response.parse(buffer) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return still_short(buffer),
        Err(error) => return Err(no_http(buffer, error)),
    };
    let body_bytes = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| {
            std::str::from_utf8(header.value)
                .ok()?
                .trim()
                .parse::<usize>()
                .ok()
        })
        .filter(|bytes| *bytes <= RESPONSE_BYTES_MAX)
        .ok_or_else(|| Failure::Protocol("a response without a usable Content-Length".into()))?;
    let wire_bytes = head_bytes + body_bytes;
    match buffer.get(head_bytes..wire_bytes) {
        Some(body) => Ok(Some(Response {
            status: response.code.unwrap_or_default(),
            body,
            wire_bytes,
        })),
        None => still_short(buffer),
    }
}

/// The failure when an answer is not HTTP. A port of TLS answers plain text with a TLS record.
pub(crate) fn no_http(buffer: &[u8], error: httparse::Error) -> Failure {
    // An alert or a handshake of any version (RFC 8446 section 5.1).
    Failure::Protocol(match buffer {
        [0x15 | 0x16, 3, ..] => "it speaks TLS; use wss://".into(),
        _ => format!("no HTTP response ({error})"),
    })
}

fn still_short(buffer: &[u8]) -> Result<Option<Response<'_>>, Failure> {
    if buffer.len() > RESPONSE_BYTES_MAX {
        return Err(Failure::Protocol("an endless response".into()));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_awaited_at_every_split_and_follow_each_other() {
        let one = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX: y\r\n\r\nhello";
        for cut in 0..one.len() {
            assert_eq!(read_response(&one[..cut]), Ok(None), "cut at {cut}");
        }
        let two = [&one[..], b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n"].concat();
        let first = read_response(&two).expect("valid").expect("whole");
        assert_eq!((first.status, first.body), (200, &b"hello"[..]));
        let second = read_response(&two[first.wire_bytes..])
            .expect("valid")
            .expect("whole");
        assert_eq!((second.status, second.body), (429, &b""[..]));
    }

    #[test]
    fn what_cannot_be_delimited_is_refused() {
        assert!(read_response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(read_response(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n").is_err());
        assert!(read_response(b"\x16\x03\x01\r\n").is_err());
    }
}
