//! Request heads: finding where one ends, and reading what it says.
//!
//! It stands between a connection's buffer and everything that asks about a request. httparse
//! does the tokenizing; this file refuses what httparse lets through and RFC 9112 does not:
//! lines ended by a bare LF, HTTP/1.1 without exactly one `Host`, more than a few empty lines.
//!
//! It does not look into the target, the body's framing or the handshake, and gives no meaning to
//! headers beyond those that every request needs: `Host`, `Connection`, `Authorization`.
//!
//! A [`RequestHead`] borrows from the buffer and allocates nothing. Every head that
//! [`find_head_end`] delimits is either parsed whole or refused.

use memchr::memchr_iter;

use super::error::RequestError;
use crate::proto::proxy_protocol;

/// Headers of one request. Browsers behind two proxies send about thirty.
pub const HEADER_COUNT_MAX: usize = 64;

/// Empty lines that are tolerated before a request line (RFC 9112, section 2.2, asks for one).
const LEADING_EMPTY_LINES_MAX: usize = 4;

const EMPTY_LINE: &[u8] = b"\r\n";

/// The HTTP versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, and no keep-alive unless asked for.
    Http10,
    /// HTTP/1.1: the only one that a WebSocket can begin with.
    Http11,
}

/// What the `Authorization` header holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization<'b> {
    /// There is no `Bearer` header. Other schemes do not count: they are between the client and a
    /// proxy in front of this server, as Basic authentication often is.
    Absent,
    /// The credential of one `Bearer` header (RFC 6750, section 2.1); not empty, visible ASCII.
    Bearer(&'b str),
    /// Several `Bearer` headers, or one without a readable credential. To be refused like a bad
    /// one.
    Unusable,
}

/// A request head, borrowed from the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct RequestHead<'b> {
    /// The method as sent: method names are case-sensitive.
    pub method: &'b str,
    /// The request target as sent; see [`Target::parse`](super::target::Target::parse).
    pub target: &'b str,
    /// The HTTP version of the request line.
    pub version: Version,
    headers: [httparse::Header<'b>; HEADER_COUNT_MAX],
    header_count: usize,
}

/// Looks for the end of the request head at the start of `buf`: the number of bytes up to and
/// including the blank line, or `None` where more have to come.
///
/// `from` is how many bytes earlier calls have searched in vain (`buf.len()` of the last one), so
/// that a head that arrives in pieces is searched once.
///
/// # Errors
///
/// [`RequestError::HeadTooLarge`] where the head does not end within `head_bytes_max` bytes,
/// [`RequestError::MalformedRequestLine`] at once where it begins as none can, but TLS does;
/// [`RequestError::ProxyHeader`] where it begins as the PROXY protocol does.
pub fn find_head_end(
    buf: &[u8],
    from: usize,
    head_bytes_max: usize,
) -> Result<Option<usize>, RequestError> {
    let window = &buf[..buf.len().min(head_bytes_max)];
    let first = window.get(leading_empty_bytes(window));
    if from == 0 && first.is_some_and(|byte| byte.is_ascii_control() && !b"\r\n".contains(byte)) {
        return Err(unexpected(buf, RequestError::MalformedRequestLine));
    }
    // A blank line that earlier calls saw the beginning of starts at most two bytes back (its
    // predecessor's LF and its own CR). One that follows the tolerated empty lines ends a head
    // that holds nothing, hence the step back to the last one's LF.
    let start = from
        .saturating_sub(2)
        .max(leading_empty_bytes(window).saturating_sub(1));
    let unsearched = window.get(start..).unwrap_or_default();
    for line_feed in memchr_iter(b'\n', unsearched) {
        match &unsearched[line_feed + 1..] {
            [b'\n', ..] => return Ok(Some(start + line_feed + 2)),
            [b'\r', b'\n', ..] => return Ok(Some(start + line_feed + 3)),
            _ => {}
        }
    }
    if window.len() == head_bytes_max {
        Err(RequestError::HeadTooLarge)
    } else {
        Ok(None)
    }
}

/// Parses a whole request head, as delimited by [`find_head_end`].
///
/// # Errors
///
/// The [`RequestError`] that says what is wrong with it; the connection cannot go on.
pub fn parse_head(head: &[u8]) -> Result<RequestHead<'_>, RequestError> {
    // httparse takes a bare LF for a line end. Others do not, and whoever smuggles lives off the
    // difference.
    if memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r') {
        return Err(RequestError::BareLineFeed);
    }
    let lines = &head[leading_empty_bytes(head)..];
    let mut headers = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(lines) {
        Ok(httparse::Status::Complete(parsed)) if parsed == lines.len() => {}
        Ok(_) => return Err(RequestError::MalformedRequestLine),
        Err(error) => return Err(unexpected(head, error.into())),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(RequestError::MalformedRequestLine);
    };
    let version = if minor == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let header_count = request.headers.len();
    let head = RequestHead {
        method,
        target,
        version,
        headers,
        header_count,
    };
    head.check_host()?;
    Ok(head)
}

impl<'b> RequestHead<'b> {
    /// The value of a header that may occur once, without surrounding whitespace. Names are
    /// compared without case.
    ///
    /// # Errors
    ///
    /// [`RequestError::RepeatedHeader`] where it occurs more than once.
    pub fn header(&self, name: &str) -> Result<Option<&'b [u8]>, RequestError> {
        let mut values = self.header_values(name);
        let value = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(RequestError::RepeatedHeader),
        }
    }

    /// All values of a header in the order in which they were sent.
    pub fn header_values(&self, name: &str) -> impl DoubleEndedIterator<Item = &'b [u8]> {
        self.headers[..self.header_count]
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// Whether the comma-separated list in a header, over all its occurrences, has `token`;
    /// compared without case (RFC 9110, section 5.6.1).
    #[must_use]
    pub fn list_contains(&self, name: &str, token: &str) -> bool {
        self.header_values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the client wants to keep the connection after the answer (RFC 9112, section 9.3).
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        !self.list_contains("connection", "close")
            && (self.version == Version::Http11 || self.list_contains("connection", "keep-alive"))
    }

    /// The credential of the `Authorization` header.
    #[must_use]
    pub fn authorization(&self) -> Authorization<'b> {
        let mut credentials = self.header_values("authorization").filter_map(bearer);
        let Some(credential) = credentials.next() else {
            return Authorization::Absent;
        };
        let is_only = credentials.next().is_none();
        let credential = Some(credential)
            .filter(|credential| is_only && !credential.is_empty())
            .filter(|credential| credential.iter().all(u8::is_ascii_graphic))
            .and_then(|credential| str::from_utf8(credential).ok());
        credential.map_or(Authorization::Unusable, Authorization::Bearer)
    }

    /// RFC 9112, section 3.2: exactly one well-formed `Host`, which only HTTP/1.0 may leave out.
    fn check_host(&self) -> Result<(), RequestError> {
        match self.header("host")? {
            Some(host) if !host.iter().copied().all(is_host_byte) => Err(RequestError::InvalidHost),
            None if self.version == Version::Http11 => Err(RequestError::MissingHost),
            _ => Ok(()),
        }
    }
}

/// What is wrong with bytes that do not begin a request.
fn unexpected(bytes: &[u8], error: RequestError) -> RequestError {
    if proxy_protocol::is_likely(bytes) {
        RequestError::ProxyHeader
    } else {
        error
    }
}

/// Bytes of the tolerated empty lines that `buf` begins with.
fn leading_empty_bytes(buf: &[u8]) -> usize {
    let lines = buf
        .chunks_exact(EMPTY_LINE.len())
        .take(LEADING_EMPTY_LINES_MAX);
    lines.take_while(|line| *line == EMPTY_LINE).count() * EMPTY_LINE.len()
}

/// What stands behind the scheme `Bearer` in a value of `Authorization`; `None` for any other
/// scheme (RFC 9110, section 11.1: compared without case, one or more spaces behind it).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, credential) = value.split_at_checked("Bearer".len())?;
    let ends = credential.first().is_none_or(|byte| *byte == b' ');
    (ends && scheme.eq_ignore_ascii_case(b"Bearer")).then(|| credential.trim_ascii_start())
}

/// Bytes of `uri-host [ ":" port ]` (RFC 3986, section 3.2.2): names, addresses, escapes.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

impl From<httparse::Error> for RequestError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            httparse::Error::Version => Self::UnsupportedVersion,
            httparse::Error::HeaderName | httparse::Error::HeaderValue => Self::MalformedHeader,
            httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => {
                Self::MalformedRequestLine
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_BYTES_MAX: usize = 1_024;

    /// Feeds `head` followed by other bytes, whole and split at every byte, then parses it.
    #[track_caller]
    fn check(head: &str, expected: Result<(&str, &str), RequestError>) {
        let stream = [head.as_bytes(), b"GET /next"].concat();
        for split in 0..=stream.len() {
            let found = match find_head_end(&stream[..split], 0, HEAD_BYTES_MAX) {
                Ok(None) => find_head_end(&stream, split, HEAD_BYTES_MAX),
                found => found,
            };
            assert_eq!(found, Ok(Some(head.len())), "{head:?} split at {split}");
        }
        let mut searched = 0;
        while find_head_end(&stream[..searched + 1], searched, HEAD_BYTES_MAX) == Ok(None) {
            searched += 1;
        }
        assert_eq!(searched + 1, head.len(), "{head:?} byte by byte");

        let parsed = parse_head(head.as_bytes());
        let parsed = parsed.map(|head| (head.method, head.target));
        assert_eq!(parsed, expected, "{head:?}");
    }

    fn parsed(head: &str) -> RequestHead<'_> {
        parse_head(head.as_bytes()).unwrap()
    }

    #[test]
    fn well_formed_heads() {
        check("GET / HTTP/1.1\r\nHost: x\r\n\r\n", Ok(("GET", "/")));
        check(
            "GET /v1?key=a%20b HTTP/1.1\r\nHost:x:80\r\n\r\n",
            Ok(("GET", "/v1?key=a%20b")),
        );
        check("DELETE /v1/peers/a HTTP/1.1\r\nhOST: [::1]:80\r\n\r\n", {
            Ok(("DELETE", "/v1/peers/a"))
        });
        check(
            "POST http://x/a HTTP/1.1\r\nHost: \r\nA:\tb\t\r\n\r\n",
            Ok(("POST", "http://x/a")),
        );
        check("GET / HTTP/1.0\r\n\r\n", Ok(("GET", "/")));
    }

    #[test]
    fn a_few_empty_lines_may_precede_the_request() {
        let head = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for lines in 0..=LEADING_EMPTY_LINES_MAX {
            check(&("\r\n".repeat(lines) + head), Ok(("GET", "/")));
        }
        let nothing = "\r\n".repeat(LEADING_EMPTY_LINES_MAX + 1);
        check(&nothing, Err(RequestError::MalformedRequestLine));
    }

    #[test]
    fn what_begins_like_no_request_is_refused_before_it_ends() {
        for buf in [&b"\x16"[..], b"\r\n\x16\x03\x01", b"\0", b"\x7fGET"] {
            let refused = Err(RequestError::MalformedRequestLine);
            assert_eq!(find_head_end(buf, 0, 100), refused, "{buf:?}");
        }
        for buf in [&b"G"[..], b"\r", b"\r\n", b"\n"] {
            assert_eq!(find_head_end(buf, 0, 100), Ok(None), "{buf:?}");
        }
    }

    #[test]
    fn bare_line_feeds_are_refused_as_soon_as_the_head_ends() {
        for head in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\n",
            "GET / HTTP/1.1\r\nHost: x\n\n",
            "GET / HTTP/1.1\r\nA: b\nHost: x\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "\r\n\n",
            "\n\n",
        ] {
            check(head, Err(RequestError::BareLineFeed));
        }
    }

    #[test]
    fn malformed_heads() {
        use RequestError::*;
        for (head, error) in [
            ("PRI * HTTP/2.0\r\n\r\n", UnsupportedVersion),
            ("GET / HTTP/1.2\r\nHost: x\r\n\r\n", UnsupportedVersion),
            ("GET / http/1.1\r\nHost: x\r\n\r\n", UnsupportedVersion),
            ("GET / a HTTP/1.1\r\nHost: x\r\n\r\n", UnsupportedVersion),
            ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", MalformedRequestLine),
            ("GET /\r\nHost: x\r\n\r\n", MalformedRequestLine),
            ("GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", MalformedRequestLine),
            ("G(T / HTTP/1.1\r\nHost: x\r\n\r\n", MalformedRequestLine),
            ("GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", MalformedRequestLine),
            ("GET / HTTP/1.1 \r\nHost: x\r\n\r\n", MalformedRequestLine),
            ("GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", MalformedRequestLine),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", MalformedHeader),
            ("GET / HTTP/1.1\r\n Host: x\r\n\r\n", MalformedHeader),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
                MalformedHeader,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\r\n\r\n",
                MalformedHeader,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
                MalformedHeader,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
                MalformedHeader,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n",
                MalformedHeader,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
                MalformedHeader,
            ),
            ("GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", MalformedHeader),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nA\x0b: b\r\n\r\n",
                MalformedHeader,
            ),
            ("GET / HTTP/1.1\r\n\r\n", MissingHost),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
                RepeatedHeader,
            ),
            (
                "GET / HTTP/1.0\r\nHost: x\r\nhost: y\r\n\r\n",
                RepeatedHeader,
            ),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", InvalidHost),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", InvalidHost),
            ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", InvalidHost),
        ] {
            check(head, Err(error));
        }
    }

    #[test]
    fn a_cut_head_is_refused_by_the_parser_itself() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for cut in 0..head.len() {
            assert!(parse_head(&head[..cut]).is_err(), "cut at {cut}");
        }
        let two = [&head[..], &head[..]].concat();
        assert_eq!(
            parse_head(&two).unwrap_err(),
            RequestError::MalformedRequestLine
        );
    }

    #[test]
    fn the_head_limit_is_exact() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let (len, too_large) = (head.len(), Err(RequestError::HeadTooLarge));
        assert_eq!(find_head_end(head, 0, len), Ok(Some(len)));
        assert_eq!(find_head_end(head, 0, len - 1), too_large);
        assert_eq!(find_head_end(&head[..len - 2], 0, len - 1), Ok(None));
        assert_eq!(find_head_end(&head[..len - 1], 0, len - 1), too_large);
        assert_eq!(find_head_end(head, 2 * len, len - 1), too_large);
    }

    #[test]
    fn the_header_limit_is_exact() {
        let with = |count: usize| {
            let headers: String = (1..count).map(|n| format!("a{n}: b\r\n")).collect();
            format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
        };
        check(&with(HEADER_COUNT_MAX), Ok(("GET", "/")));
        check(
            &with(HEADER_COUNT_MAX + 1),
            Err(RequestError::TooManyHeaders),
        );
    }

    #[test]
    fn headers_are_found_without_case_and_trimmed() {
        let text = "GET / HTTP/1.1\r\nhost: x\r\nA: 1 \r\nB:\r\na:  2\r\nC: \u{e9}\r\n\r\n";
        let head = parsed(text);
        assert_eq!(head.header("Host"), Ok(Some(&b"x"[..])));
        assert_eq!(head.header("b"), Ok(Some(&b""[..])));
        assert_eq!(head.header("d"), Ok(None));
        assert_eq!(head.header("A"), Err(RequestError::RepeatedHeader));
        assert_eq!(head.header_values("a").collect::<Vec<_>>(), [b"1", b"2"]);
    }

    #[test]
    fn list_tokens() {
        let text = "GET / HTTP/1.1\r\nHost: x\r\nA: b,\tC ,,d e\r\nA: F\r\nBcd: g\r\n\r\n";
        let head = parsed(text);
        let has = |token| head.list_contains("a", token);
        assert!(["b", "c", "d e", "f"].into_iter().all(has));
        assert!(!["d", "e", "g", "bc", "b,"].into_iter().any(has));
    }

    #[test]
    fn persistence_by_version_and_connection() {
        let keeps = |version: &str, headers: &str| {
            parsed(&format!("GET / HTTP/{version}\r\nHost: x\r\n{headers}\r\n")).keep_alive()
        };
        assert!(keeps("1.1", ""));
        assert!(keeps("1.1", "Connection: Upgrade\r\n"));
        assert!(!keeps("1.1", "Connection: Close\r\n"));
        assert!(!keeps(
            "1.1",
            "Connection: keep-alive\r\nConnection: x, close\r\n"
        ));
        assert!(!keeps("1.0", ""));
        assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
        assert!(!keeps("1.0", "Connection: keep-alive, close\r\n"));
    }

    #[test]
    fn bearer_credentials() {
        use Authorization::*;
        for (headers, expected) in [
            ("", Absent),
            ("Authorization: Bearer sk_live_a\r\n", Bearer("sk_live_a")),
            (
                "authorization: bearer   sk_id_a:sk_secret_b \r\n",
                Bearer("sk_id_a:sk_secret_b"),
            ),
            ("Authorization: Bearer\r\n", Unusable),
            ("Authorization: Bearer \r\n", Unusable),
            ("Authorization: Bearers a\r\n", Absent),
            ("Authorization: Bearer a b\r\n", Unusable),
            ("Authorization: Bearer \u{e9}\r\n", Unusable),
            ("Authorization: Basic YTpi\r\n", Absent),
            (
                "Authorization: Digest username=\"a\", realm=\"Bearer b\"\r\n",
                Absent,
            ),
            ("Authorization: \r\n", Absent),
            (
                "Authorization: Basic YTpi\r\nAuthorization: Bearer a\r\n",
                Bearer("a"),
            ),
            (
                "Authorization: Bearer a\r\nAuthorization: Bearer a\r\n",
                Unusable,
            ),
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
            assert_eq!(parsed(&text).authorization(), expected, "{headers:?}");
        }
    }
}
