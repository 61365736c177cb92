//! Responses, appended to a connection's output without formatting machinery.
//!
//! It stands between an outcome, a status with JSON or an [`ApiError`] with a text, and the bytes
//! that go back. Response bodies are JSON but for one page, always with `Content-Length`.
//!
//! It does not decide outcomes, does not close connections (it only says so to the client), and
//! reads no clock: a `Date` is given by the caller or left out.
//!
//! Header names and values come from closed types, so nothing a peer sent can become a header.

use super::error::{ApiError, RequestError};
use super::head::{RequestHead, Version};

/// Tells a client that waits with its body to send it (RFC 9110, section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const HTML: &str = "text/html; charset=utf-8";
/// A page of text and links.
const PAGE_POLICY: &str =
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The status codes of this server's responses (RFC 9110, section 15; RFC 6585).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub enum Status {
    Ok = 200,
    Created = 201,
    NotModified = 304,
    BadRequest = 400,
    Unauthorized = 401,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    Gone = 410,
    ContentTooLarge = 413,
    UnsupportedMediaType = 415,
    ExpectationFailed = 417,
    UpgradeRequired = 426,
    TooManyRequests = 429,
    RequestHeaderFieldsTooLarge = 431,
    ServiceUnavailable = 503,
}

impl Status {
    /// Returns the number of three digits.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// Returns the phrase behind the number, as the RFCs have it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Created => "Created",
            Self::NotModified => "Not Modified",
            Self::BadRequest => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::RequestTimeout => "Request Timeout",
            Self::Gone => "Gone",
            Self::ContentTooLarge => "Content Too Large",
            Self::UnsupportedMediaType => "Unsupported Media Type",
            Self::ExpectationFailed => "Expectation Failed",
            Self::UpgradeRequired => "Upgrade Required",
            Self::TooManyRequests => "Too Many Requests",
            Self::RequestHeaderFieldsTooLarge => "Request Header Fields Too Large",
            Self::ServiceUnavailable => "Service Unavailable",
        }
    }
}

/// A header beyond those that every response has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseHeader {
    /// `Allow`: the methods of a known path, as in `GET, POST`.
    Allow(&'static str),
    /// `Retry-After`: seconds until another try may succeed.
    RetryAfterSec(u64),
    /// `Upgrade: websocket`, and `upgrade` in `Connection`, as RFC 9110, section 7.8, wants.
    UpgradeWebSocket,
    /// `Sec-WebSocket-Version: 13`, the one version that is spoken.
    WebSocketVersion,
    /// `Accept-Encoding: identity`: what a request's body may be (RFC 9110, section 12.5.3).
    AcceptEncodingIdentity,
    /// `Access-Control-Allow-Origin: *`: pages of any site may read it.
    AllowAnyOrigin,
    /// The body is a page of HTML instead of JSON, and loads nothing.
    Html,
    /// The body is of this media type instead of JSON, and is not to be taken for another.
    MediaType(&'static str),
    /// Another header that every answer of its kind has alike: its name and its value.
    Fixed(&'static str, &'static str),
}

/// What the request, and the server's state, make of the form of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseContext<'a> {
    /// The version of the request.
    pub version: Version,
    /// Whether the connection goes on after the response.
    pub keep_alive: bool,
    /// Whether the request was a HEAD, whose response has no body.
    pub head_only: bool,
    /// The value of `Date` (RFC 9110, section 6.6.1); a server with a clock should send it.
    pub date: Option<&'a str>,
}

impl ResponseContext<'_> {
    /// For the last response of a connection whose request could not be read.
    pub const UNREADABLE: Self = Self {
        version: Version::Http11,
        keep_alive: false,
        head_only: false,
        date: None,
    };

    /// As the request wants it.
    #[must_use]
    pub fn of(head: &RequestHead<'_>) -> Self {
        Self {
            version: head.version,
            keep_alive: head.keep_alive(),
            head_only: head.method == "HEAD",
            date: None,
        }
    }
}

/// Appends a response whose body is `json`; an empty one goes without a content type.
pub fn append_response(
    out: &mut Vec<u8>,
    context: &ResponseContext<'_>,
    status: Status,
    headers: &[ResponseHeader],
    json: &[u8],
) {
    append_head(out, context, status, headers, json.len());
    if !context.head_only {
        out.extend_from_slice(json);
    }
}

/// Appends the answer to a request that fails with `error`, for the reason that `message` gives.
pub fn append_error(
    out: &mut Vec<u8>,
    context: &ResponseContext<'_>,
    error: ApiError,
    message: &str,
    headers: &[ResponseHeader],
) {
    let body = ErrorBody {
        error: error.code(),
        message,
    };
    append_head(out, context, error.status(), headers, body.json_bytes());
    if !context.head_only {
        body.append_json(out);
    }
}

/// Appends the answer to a faulty request. Returns whether the connection goes on after it.
#[must_use]
pub fn append_request_error(
    out: &mut Vec<u8>,
    context: &ResponseContext<'_>,
    error: RequestError,
) -> bool {
    let keep_alive = context.keep_alive && !error.must_close();
    let context = ResponseContext {
        keep_alive,
        ..*context
    };
    // RFC 9110, section 15.5.22: every 426 names the protocol in `Upgrade`.
    let headers: &[ResponseHeader] = match error {
        RequestError::NotAnUpgrade => &[ResponseHeader::UpgradeWebSocket],
        RequestError::WrongWebSocketVersion => &[
            ResponseHeader::UpgradeWebSocket,
            ResponseHeader::WebSocketVersion,
        ],
        _ => &[],
    };
    append_error(out, &context, error.api_error(), error.message(), headers);
    keep_alive
}

/// The body of every response that is not a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorBody<'a> {
    /// The stable code for programs: [`ApiError::code`].
    pub error: &'static str,
    /// The text for people; may change.
    pub message: &'a str,
}

impl ErrorBody<'_> {
    /// Returns how many bytes [`ErrorBody::append_json`] appends.
    #[must_use]
    pub fn json_bytes(&self) -> usize {
        let fixed = r#"{"error":"","message":""}"#.len() + self.error.len();
        fixed + self.message.bytes().map(escaped_bytes).sum::<usize>()
    }

    /// Appends the body, with the message escaped as JSON.
    pub fn append_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"error":""#);
        out.extend_from_slice(self.error.as_bytes());
        out.extend_from_slice(br#"","message":""#);
        for byte in self.message.bytes() {
            append_escaped(out, byte);
        }
        out.extend_from_slice(br#""}"#);
    }
}

/// Appends the head of a response whose body is so many bytes of JSON; none go without a content
/// type.
pub fn append_head(
    out: &mut Vec<u8>,
    context: &ResponseContext<'_>,
    status: Status,
    headers: &[ResponseHeader],
    body_bytes: usize,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    append_decimal(out, u64::from(status.code()));
    out.push(b' ');
    out.extend_from_slice(status.reason().as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(date) = context.date {
        append_header(out, "Date", date);
    }
    if body_bytes > 0 {
        let kind = headers.iter().find_map(|header| match header {
            ResponseHeader::Html => Some(HTML),
            ResponseHeader::MediaType(kind) => Some(*kind),
            _ => None,
        });
        append_header(out, "Content-Type", kind.unwrap_or("application/json"));
    }
    // RFC 9110, section 8.6: it would have to be that of the answer with the body.
    if status != Status::NotModified {
        append_number_header(out, "Content-Length", body_bytes as u64);
    }
    if status == Status::Unauthorized {
        // RFC 9110, section 15.5.2: a 401 names a scheme that would do.
        append_header(out, "WWW-Authenticate", "Bearer");
    }
    for header in headers {
        match *header {
            ResponseHeader::Allow(methods) => append_header(out, "Allow", methods),
            ResponseHeader::RetryAfterSec(wait) => append_number_header(out, "Retry-After", wait),
            ResponseHeader::UpgradeWebSocket => append_header(out, "Upgrade", "websocket"),
            ResponseHeader::WebSocketVersion => append_header(out, "Sec-WebSocket-Version", "13"),
            ResponseHeader::AcceptEncodingIdentity => {
                append_header(out, "Accept-Encoding", "identity");
            }
            ResponseHeader::AllowAnyOrigin => {
                append_header(out, "Access-Control-Allow-Origin", "*");
            }
            ResponseHeader::Html => {
                append_header(out, "Content-Security-Policy", PAGE_POLICY);
                append_header(out, "X-Content-Type-Options", "nosniff");
            }
            ResponseHeader::MediaType(_) => {
                append_header(out, "X-Content-Type-Options", "nosniff");
            }
            ResponseHeader::Fixed(name, value) => append_header(out, name, value),
        }
    }
    let upgrade = headers.contains(&ResponseHeader::UpgradeWebSocket);
    let connection = match (upgrade, context.keep_alive, context.version) {
        (true, true, Version::Http11) => "Upgrade",
        (true, true, Version::Http10) => "Upgrade, keep-alive",
        (true, false, _) => "Upgrade, close",
        (false, true, Version::Http11) => "",
        (false, true, Version::Http10) => "keep-alive",
        (false, false, _) => "close",
    };
    if !connection.is_empty() {
        append_header(out, "Connection", connection);
    }
    out.extend_from_slice(b"\r\n");
}

fn append_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn append_number_header(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    append_decimal(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the decimal digits of `number`.
fn append_decimal(out: &mut Vec<u8>, mut number: u64) {
    const DIGITS_MAX: usize = u64::MAX.ilog10() as usize + 1;
    let mut digits = [0; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    for digit in digits.iter_mut().rev() {
        // Below ten, so it fits.
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Bytes that [`append_escaped`] makes of one.
const fn escaped_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' => r#"\""#.len(),
        0x00..=0x1f => r"\u0000".len(),
        _ => 1,
    }
}

/// Appends one byte of a JSON string (RFC 8259, section 7).
fn append_escaped(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        0x00..=0x1f => {
            let low = b"0123456789abcdef"[usize::from(byte & 0x0f)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), low]);
        }
        _ => out.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::http::head::parse_head;

    const KEEP_ALIVE: ResponseContext<'static> = ResponseContext {
        keep_alive: true,
        ..ResponseContext::UNREADABLE
    };

    /// Compares with lines joined by CR LF; the last one is the body.
    #[track_caller]
    fn check(append: impl FnOnce(&mut Vec<u8>), expected: &[&str]) {
        let mut out = b"before ".to_vec();
        append(&mut out);
        let expected = format!("before {}", expected.join("\r\n"));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn successes() {
        let json = br#"{"a":1}"#;
        check(
            |out| append_response(out, &KEEP_ALIVE, Status::Ok, &[], json),
            &[
                "HTTP/1.1 200 OK",
                "Content-Type: application/json",
                "Content-Length: 7",
                "",
                r#"{"a":1}"#,
            ],
        );
        let dated = ResponseContext {
            date: Some("Thu, 01 Jan 1970 00:00:00 GMT"),
            ..KEEP_ALIVE
        };
        check(
            |out| append_response(out, &dated, Status::Created, &[], b""),
            &[
                "HTTP/1.1 201 Created",
                "Date: Thu, 01 Jan 1970 00:00:00 GMT",
                "Content-Length: 0",
                "",
                "",
            ],
        );
    }

    #[test]
    fn errors() {
        let retry = [ResponseHeader::RetryAfterSec(60)];
        check(
            |out| append_error(out, &KEEP_ALIVE, ApiError::RateLimited, "slow down", &retry),
            &[
                "HTTP/1.1 429 Too Many Requests",
                "Content-Type: application/json",
                "Content-Length: 46",
                "Retry-After: 60",
                "",
                r#"{"error":"rate_limited","message":"slow down"}"#,
            ],
        );
        let closing = ResponseContext::UNREADABLE;
        check(
            |out| append_error(out, &closing, ApiError::Unauthorized, "no", &[]),
            &[
                "HTTP/1.1 401 Unauthorized",
                "Content-Type: application/json",
                "Content-Length: 39",
                "WWW-Authenticate: Bearer",
                "Connection: close",
                "",
                r#"{"error":"unauthorized","message":"no"}"#,
            ],
        );
    }

    #[test]
    fn request_errors_close_where_they_must() {
        check(
            |out| {
                let error = RequestError::InvalidPercentEncoding;
                assert!(append_request_error(out, &KEEP_ALIVE, error));
            },
            &[
                "HTTP/1.1 400 Bad Request",
                "Content-Type: application/json",
                "Content-Length: 85",
                "",
                "{\"error\":\"invalid_request\",\
                 \"message\":\"the request target has a bad percent-encoding\"}",
            ],
        );
        check(
            |out| {
                assert!(!append_request_error(
                    out,
                    &KEEP_ALIVE,
                    RequestError::BodyTooLarge
                ));
            },
            &[
                "HTTP/1.1 413 Content Too Large",
                "Content-Type: application/json",
                "Content-Length: 68",
                "Connection: close",
                "",
                r#"{"error":"invalid_request","message":"the request body is too long"}"#,
            ],
        );
    }

    #[test]
    fn refused_upgrades_name_the_protocol() {
        check(
            |out| {
                assert!(append_request_error(
                    out,
                    &KEEP_ALIVE,
                    RequestError::NotAnUpgrade
                ));
            },
            &[
                "HTTP/1.1 426 Upgrade Required",
                "Content-Type: application/json",
                "Content-Length: 77",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "",
                r#"{"error":"invalid_request","message":"this path takes WebSocket connections"}"#,
            ],
        );
        check(
            |out| {
                let error = RequestError::WrongWebSocketVersion;
                assert!(!append_request_error(out, &KEEP_ALIVE, error));
            },
            &[
                "HTTP/1.1 426 Upgrade Required",
                "Content-Type: application/json",
                "Content-Length: 72",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Connection: Upgrade, close",
                "",
                r#"{"error":"invalid_request","message":"Sec-WebSocket-Version must be 13"}"#,
            ],
        );
    }

    #[test]
    fn the_form_follows_the_request() {
        let with = |request_line: &str, header: &str| {
            let head = format!("{request_line}\r\nHost: x\r\n{header}\r\n");
            let context = ResponseContext::of(&parse_head(head.as_bytes()).unwrap());
            let mut out = Vec::new();
            append_response(&mut out, &context, Status::Ok, &[], b"{}");
            let text = String::from_utf8(out).unwrap();
            let connection = text
                .lines()
                .find_map(|line| line.strip_prefix("Connection: "));
            (connection.map(str::to_owned), text.ends_with("\r\n\r\n{}"))
        };
        let close = Some("close".to_owned());
        assert_eq!(with("GET / HTTP/1.1", ""), (None, true));
        assert_eq!(with("HEAD / HTTP/1.1", ""), (None, false));
        assert_eq!(
            with("GET / HTTP/1.1", "Connection: close\r\n"),
            (close.clone(), true)
        );
        assert_eq!(with("GET / HTTP/1.0", ""), (close, true));
        let kept = Some("keep-alive".to_owned());
        assert_eq!(
            with("GET / HTTP/1.0", "Connection: keep-alive\r\n"),
            (kept, true)
        );
    }

    #[test]
    fn a_head_answer_announces_the_body_it_leaves_out() {
        let context = ResponseContext {
            head_only: true,
            ..KEEP_ALIVE
        };
        let allow = [ResponseHeader::Allow("GET, POST")];
        check(
            |out| append_error(out, &context, ApiError::MethodNotAllowed, "a\nb", &allow),
            &[
                "HTTP/1.1 405 Method Not Allowed",
                "Content-Type: application/json",
                "Content-Length: 48",
                "Allow: GET, POST",
                "",
                "",
            ],
        );
    }

    #[test]
    fn decimals() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX - 1, u64::MAX] {
            check(|out| append_decimal(out, number), &[&number.to_string()]);
        }
    }

    #[track_caller]
    fn check_error_body(message: &str) {
        let body = ErrorBody {
            error: "conflict",
            message,
        };
        let mut out = Vec::new();
        body.append_json(&mut out);
        assert_eq!(out.len(), body.json_bytes());
        let parsed: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({"error": "conflict", "message": message});
        assert_eq!(parsed, expected);
    }

    #[test]
    fn every_ascii_character_is_escaped_where_it_must_be() {
        for byte in 0..=0x7f_u8 {
            check_error_body(&char::from(byte).to_string());
        }
    }

    proptest! {
        #[test]
        fn error_bodies_are_json_of_the_announced_length(message: String) {
            check_error_body(&message);
        }
    }
}
