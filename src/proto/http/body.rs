//! Request bodies: how long one is, and reading it piece by piece.
//!
//! It stands between a parsed head and the bytes behind it. [`BodyFraming::of`] decides by
//! RFC 9112, section 6, where the body ends; a [`BodyDecoder`] then takes the bytes as they come
//! and leaves the body's content in the place where they were read.
//!
//! It does not buffer and does not look at the content.
//!
//! Requests whose length two parsers could read differently are refused, even where the RFC has a
//! rule for them: after any error of this file the connection has to end, because nobody can say
//! where the next request begins.

use super::chunked::{ChunkedDecoder, ChunkedState};
use super::error::RequestError;
use super::head::{RequestHead, Version};

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body, or an empty one.
    None,
    /// A body of this many bytes, at least one.
    Length(u64),
    /// A body in chunks, whose length shows at its end.
    Chunked,
}

/// What a [`BodyDecoder`] made of the bytes it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyProgress {
    /// Bytes of the input that belonged to the body. Fewer than given only when it is complete:
    /// the rest belongs to the next request.
    pub consumed: usize,
    /// Bytes of content that now stand at the start of the input.
    pub written: usize,
    /// Whether the body is complete.
    pub done: bool,
}

/// Reads one request's body. Bytes come in any pieces; each is looked at once.
///
/// A caller that gathers the body at the end of its buffer goes on like this:
///
/// ```
/// # use ringmesh::proto::http::{BodyDecoder, BodyFraming};
/// let mut decoder = BodyDecoder::new(BodyFraming::Chunked, 32_768);
/// let mut buf = Vec::new();
/// let mut body_end = 0;
/// for read in [&b"3\r\nab"[..], b"c\r\n0\r\n\r", b"\nGET /next"] {
///     buf.extend_from_slice(read);
///     let progress = decoder.decode(&mut buf[body_end..])?;
///     buf.drain(body_end + progress.written..body_end + progress.consumed);
///     body_end += progress.written;
///     if progress.done {
///         break;
///     }
/// }
/// assert_eq!(buf.split_at(body_end), (&b"abc"[..], &b"GET /next"[..]));
/// # Ok::<(), ringmesh::proto::http::RequestError>(())
/// ```
#[derive(Clone, Debug)]
pub struct BodyDecoder(Coding);

#[derive(Clone, Debug)]
enum Coding {
    Identity { remaining: u64 },
    Chunked(ChunkedDecoder),
}

impl BodyFraming {
    /// Decides how the body of a request is framed.
    ///
    /// `Transfer-Encoding` may only be one `chunked`: other codings are 400 rather than 501, for
    /// the API promises 400 for malformed HTTP and has no 501.
    ///
    /// # Errors
    ///
    /// [`RequestError::ConflictingFraming`], [`RequestError::InvalidContentLength`] and
    /// [`RequestError::UnsupportedTransferEncoding`]; [`RequestError::BodyTooLarge`] where more
    /// than `body_bytes_max` bytes are announced.
    pub fn of(head: &RequestHead<'_>, body_bytes_max: u64) -> Result<Self, RequestError> {
        let mut lengths = head.header_values("content-length");
        let mut codings = head.header_values("transfer-encoding");
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(Self::None),
            (Some(_), Some(_)) => Err(RequestError::ConflictingFraming),
            (Some(length), None) => {
                if lengths.next().is_some() {
                    return Err(RequestError::InvalidContentLength);
                }
                match parse_content_length(length) {
                    None => Err(RequestError::InvalidContentLength),
                    Some(0) => Ok(Self::None),
                    Some(length) if length > body_bytes_max => Err(RequestError::BodyTooLarge),
                    Some(length) => Ok(Self::Length(length)),
                }
            }
            (None, Some(coding)) => {
                let sound = head.version == Version::Http11
                    && codings.next().is_none()
                    && coding.eq_ignore_ascii_case(b"chunked");
                sound
                    .then_some(Self::Chunked)
                    .ok_or(RequestError::UnsupportedTransferEncoding)
            }
        }
    }
}

/// How far a [`BodyDecoder`] is, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyState {
    /// So many bytes are missing.
    Length(u64),
    /// See [`ChunkedDecoder::state`].
    Chunked(ChunkedState),
}

impl BodyDecoder {
    /// How far it is, in the middle of a body.
    pub(crate) fn state(&self) -> BodyState {
        match &self.0 {
            Coding::Identity { remaining } => BodyState::Length(*remaining),
            Coding::Chunked(chunked) => BodyState::Chunked(chunked.state()),
        }
    }

    /// The decoder that is so far; `None` if none can be.
    pub(crate) fn at(state: BodyState) -> Option<Self> {
        Some(Self(match state {
            BodyState::Length(0) => return None,
            BodyState::Length(remaining) => Coding::Identity { remaining },
            BodyState::Chunked(state) => Coding::Chunked(ChunkedDecoder::at(state)?),
        }))
    }

    /// A decoder for a body framed like `framing`, of at most `body_bytes_max` bytes of content
    /// where the framing does not announce them.
    #[must_use]
    pub fn new(framing: BodyFraming, body_bytes_max: u64) -> Self {
        Self(match framing {
            BodyFraming::None => Coding::Identity { remaining: 0 },
            BodyFraming::Length(length) => Coding::Identity { remaining: length },
            BodyFraming::Chunked => Coding::Chunked(ChunkedDecoder::new(body_bytes_max)),
        })
    }

    /// Takes the bytes that follow those of the last call, and moves the content among them to
    /// the start of `input`.
    ///
    /// # Errors
    ///
    /// Those of [`ChunkedDecoder::decode`].
    pub fn decode(&mut self, input: &mut [u8]) -> Result<BodyProgress, RequestError> {
        match &mut self.0 {
            Coding::Chunked(chunked) => chunked.decode(input),
            Coding::Identity { remaining } => {
                let taken = usize::try_from(*remaining)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                *remaining -= taken as u64;
                Ok(BodyProgress {
                    consumed: taken,
                    written: taken,
                    done: *remaining == 0,
                })
            }
        }
    }
}

/// Whether the client waits for `100 Continue` before it sends the body (RFC 9110, section
/// 10.1.1). The caller need not send it once bytes of the body are there.
///
/// # Errors
///
/// [`RequestError::ExpectationFailed`] where it expects anything else. HTTP/1.0 has no
/// expectations: there the header means nothing.
pub fn expects_continue(head: &RequestHead<'_>) -> Result<bool, RequestError> {
    if head.version == Version::Http10 {
        return Ok(false);
    }
    let mut expects = false;
    for expectation in head.header_values("expect") {
        if !expectation.eq_ignore_ascii_case(b"100-continue") {
            return Err(RequestError::ExpectationFailed);
        }
        expects = true;
    }
    Ok(expects)
}

/// `1*DIGIT` (RFC 9110, section 8.6): no sign, no list, no whitespace.
fn parse_content_length(value: &[u8]) -> Option<u64> {
    let (first, rest) = value.split_first()?;
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    rest.iter().try_fold(digit(first)?, |length, byte| {
        length.checked_mul(10)?.checked_add(digit(byte)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::head::parse_head;

    const BODY_BYTES_MAX: u64 = 32_768;

    /// What the framing of a request with these header lines is. Their order must not matter.
    #[track_caller]
    fn check(version: &str, headers: &[&str], expected: Result<BodyFraming, RequestError>) {
        let framing = |headers: String| {
            let head = format!("POST / HTTP/{version}\r\nHost: x\r\n{headers}\r\n");
            BodyFraming::of(&parse_head(head.as_bytes())?, BODY_BYTES_MAX)
        };
        let forward = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let backward = headers
            .iter()
            .rev()
            .map(|line| format!("{line}\r\n"))
            .collect();
        assert_eq!(framing(forward), expected, "{headers:?}");
        assert_eq!(framing(backward), expected, "{headers:?} reversed");
    }

    #[test]
    fn content_lengths() {
        use RequestError::{BodyTooLarge, InvalidContentLength};
        let of = |value: &str, expected| {
            check("1.1", &[&format!("Content-Length: {value}")], expected);
            check("1.0", &[&format!("content-length:{value}")], expected);
        };
        of("0", Ok(BodyFraming::None));
        of("5", Ok(BodyFraming::Length(5)));
        of(" 005\t", Ok(BodyFraming::Length(5)));
        of("32768", Ok(BodyFraming::Length(BODY_BYTES_MAX)));
        of("32769", Err(BodyTooLarge));
        of("18446744073709551615", Err(BodyTooLarge));
        for value in [
            "",
            "+5",
            "-1",
            "-0",
            "5, 5",
            "5,5",
            "5 5",
            "5;",
            "0x5",
            "5.0",
            "1e3",
            "\"5\"",
            "five",
            "18446744073709551616",
            "99999999999999999999999999999999",
            "\u{665}",
        ] {
            of(value, Err(InvalidContentLength));
        }
        check(
            "1.1",
            &["Content-Length: 5", "Content-Length: 5"],
            Err(InvalidContentLength),
        );
        check(
            "1.1",
            &["Content-Length: 5", "Content-Length: 6"],
            Err(InvalidContentLength),
        );
        check(
            "1.1",
            &["Content-Length: 5\x0b"],
            Err(RequestError::MalformedHeader),
        );
    }

    #[test]
    fn transfer_encodings() {
        let refused = Err(RequestError::UnsupportedTransferEncoding);
        check(
            "1.1",
            &["Transfer-Encoding: chunked"],
            Ok(BodyFraming::Chunked),
        );
        check(
            "1.1",
            &["transfer-encoding:\t CHUNKED "],
            Ok(BodyFraming::Chunked),
        );
        check("1.0", &["Transfer-Encoding: chunked"], refused);
        for value in [
            "",
            "identity",
            "gzip",
            "gzip, chunked",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "chunked;q=1",
            "\"chunked\"",
            "'chunked'",
            "x chunked",
            "chunked identity",
            "chunke",
            "xchunked",
            "chunked\u{a0}",
        ] {
            check("1.1", &[&format!("Transfer-Encoding: {value}")], refused);
        }
        for other in ["chunked", "identity", "gzip"] {
            let other = format!("Transfer-Encoding: {other}");
            check("1.1", &["Transfer-Encoding: chunked", &other], refused);
        }
    }

    #[test]
    fn whatever_could_smuggle_a_request_is_refused() {
        use RequestError::{ConflictingFraming, MalformedHeader};
        let chunked = "Transfer-Encoding: chunked";
        check(
            "1.1",
            &["Content-Length: 5", chunked],
            Err(ConflictingFraming),
        );
        check(
            "1.1",
            &["Content-Length: 0", chunked],
            Err(ConflictingFraming),
        );
        check(
            "1.0",
            &["Content-Length: 5", chunked],
            Err(ConflictingFraming),
        );
        check(
            "1.1",
            &["Content-Length: 5", "Transfer-Encoding: x"],
            Err(ConflictingFraming),
        );
        check(
            "1.1",
            &["Content-Length: x", chunked],
            Err(ConflictingFraming),
        );
        for line in [
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\t: chunked",
            " Transfer-Encoding: chunked",
            "Transfer-Encoding: \x0bchunked",
            "Transfer-Encoding: chunked\0",
            "Transfer-Encoding:\r\n chunked",
            "Transfer-Encoding: chunked\r\n\t, identity",
            "Content-Length: 5\r\n 6",
            "Content-Length : 5",
            "Content\u{ad}-Length: 5",
        ] {
            check("1.1", &[line, "A: b"], Err(MalformedHeader));
        }
        check(
            "1.1",
            &["A: b\nContent-Length: 5"],
            Err(RequestError::BareLineFeed),
        );
        check(
            "1.1",
            &["Content_Length: 5", "X-Content-Length: 5"],
            Ok(BodyFraming::None),
        );
    }

    #[test]
    fn expectations() {
        let expects = |version: &str, headers: &str| {
            let head = format!("POST / HTTP/{version}\r\nHost: x\r\n{headers}\r\n");
            expects_continue(&parse_head(head.as_bytes()).unwrap())
        };
        assert_eq!(expects("1.1", ""), Ok(false));
        assert_eq!(expects("1.1", "Expect: 100-Continue\r\n"), Ok(true));
        assert_eq!(expects("1.0", "Expect: 100-continue\r\n"), Ok(false));
        assert_eq!(expects("1.0", "Expect: magic\r\n"), Ok(false));
        for value in ["", "200-ok", "100-continue, 100-continue", "100-continue=1"] {
            let failed = Err(RequestError::ExpectationFailed);
            assert_eq!(
                expects("1.1", &format!("Expect: {value}\r\n")),
                failed,
                "{value}"
            );
        }
    }

    #[test]
    fn a_body_of_known_length_ends_where_it_should() {
        let stream = b"hello, worldGET /next";
        for split in 0..=stream.len() {
            let mut decoder = BodyDecoder::new(BodyFraming::Length(12), BODY_BYTES_MAX);
            let mut bytes = *stream;
            let (first, second) = bytes.split_at_mut(split);
            let before = decoder.decode(first).unwrap();
            let after = decoder.decode(second).unwrap();
            assert_eq!(before.done, split >= 12, "split at {split}");
            assert!(after.done, "split at {split}");
            assert_eq!(before.consumed + after.consumed, 12, "split at {split}");
            assert_eq!(
                (before.written, after.written),
                (before.consumed, after.consumed)
            );
            assert_eq!(&bytes, stream, "content of known length stays in place");
        }
    }

    #[test]
    fn no_body_is_done_at_once() {
        let mut decoder = BodyDecoder::new(BodyFraming::None, BODY_BYTES_MAX);
        let done = BodyProgress {
            consumed: 0,
            written: 0,
            done: true,
        };
        assert_eq!(decoder.decode(&mut []), Ok(done));
        assert_eq!(decoder.decode(&mut b"GET /next".to_vec()), Ok(done));
    }
}
