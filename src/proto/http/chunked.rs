//! The chunked transfer coding, decoded in place (RFC 9112, section 7.1).
//!
//! It stands between the bytes of a chunked body and its content: what arrives is compacted
//! within the buffer it arrived in, so a body costs no second allocation and every byte of it is
//! moved at most once.
//!
//! It gives no meaning to chunk extensions and trailers: they are checked, counted and dropped.
//! A server that keeps neither has no use for them, and they must not become a way to make it
//! read for ever.
//!
//! All bytes given are consumed until the body is complete; the outcome does not depend on how
//! they were cut into pieces.

use super::body::BodyProgress;
use super::error::RequestError;

/// Hex digits of a chunk size. Sixteen fill a `u64`, so that it cannot overflow.
pub const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// Bytes of chunk extensions in one body, which also bounds the length of a chunk's line.
pub const CHUNK_EXTENSION_BYTES_MAX: u32 = 1_024;

/// Bytes of trailers in one body.
pub const TRAILER_BYTES_MAX: u32 = 4_096;

/// Decodes one chunked body.
///
/// Invariant: the sizes of the chunks begun so far never exceed the limit given to
/// [`ChunkedDecoder::new`] in total.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes of content that the chunks still to come may hold.
    allowance: u64,
    extension_bytes: u32,
    trailer_bytes: u32,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeLineFeed { size: u64 },
    Data { remaining: u64 },
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

/// How far a [`ChunkedDecoder`] is, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkedState {
    /// What the next byte belongs to: the place in [`State`].
    pub next: u8,
    /// The size of the chunk, or what is missing of it.
    pub size: u64,
    /// Digits of the size.
    pub digits: u8,
    /// Bytes of content that the chunks still to come may hold.
    pub allowance: u64,
    /// Bytes of extensions and of trailers so far.
    pub extension_bytes: u32,
    /// See `extension_bytes`.
    pub trailer_bytes: u32,
}

impl ChunkedDecoder {
    /// How far it is, in the middle of a body.
    pub(crate) fn state(&self) -> ChunkedState {
        let Self {
            state,
            allowance,
            extension_bytes,
            trailer_bytes,
        } = *self;
        let (next, size, digits) = match state {
            State::Size { size, digits } => (0, size, digits),
            State::Extension { size } => (1, size, 0),
            State::SizeLineFeed { size } => (2, size, 0),
            State::Data { remaining } => (3, remaining, 0),
            State::DataCarriageReturn => (4, 0, 0),
            State::DataLineFeed => (5, 0, 0),
            State::TrailerStart => (6, 0, 0),
            State::TrailerName => (7, 0, 0),
            State::TrailerValue => (8, 0, 0),
            State::TrailerLineFeed => (9, 0, 0),
            State::LastLineFeed => (10, 0, 0),
            State::Done => (11, 0, 0),
        };
        ChunkedState {
            next,
            size,
            digits,
            allowance,
            extension_bytes,
            trailer_bytes,
        }
    }

    /// The decoder that is so far; `None` if none can be in the middle of a body.
    pub(crate) fn at(state: ChunkedState) -> Option<Self> {
        let ChunkedState {
            next,
            size,
            digits,
            allowance,
            extension_bytes,
            trailer_bytes,
        } = state;
        let is_within = digits <= CHUNK_SIZE_DIGITS_MAX
            && extension_bytes <= CHUNK_EXTENSION_BYTES_MAX
            && trailer_bytes <= TRAILER_BYTES_MAX;
        let state = match next {
            0 => State::Size { size, digits },
            1 => State::Extension { size },
            2 => State::SizeLineFeed { size },
            3 => State::Data { remaining: size },
            4 => State::DataCarriageReturn,
            5 => State::DataLineFeed,
            6 => State::TrailerStart,
            7 => State::TrailerName,
            8 => State::TrailerValue,
            9 => State::TrailerLineFeed,
            10 => State::LastLineFeed,
            _ => return None,
        };
        is_within.then_some(Self {
            state,
            allowance,
            extension_bytes,
            trailer_bytes,
        })
    }

    /// A decoder for a body of at most `body_bytes_max` bytes of content.
    #[must_use]
    pub const fn new(body_bytes_max: u64) -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            allowance: body_bytes_max,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }

    /// Takes the bytes that follow those of the last call, and moves the content among them to
    /// the start of `input`. What then lies between `written` and `consumed` is meaningless.
    ///
    /// # Errors
    ///
    /// [`RequestError::MalformedChunk`] for broken framing and for sizes, extensions or trailers
    /// beyond the limits of this file; [`RequestError::BodyTooLarge`] as soon as a chunk's size
    /// shows that the content passes its limit.
    pub fn decode(&mut self, input: &mut [u8]) -> Result<BodyProgress, RequestError> {
        let (mut read, mut written) = (0, 0);
        while read < input.len() && self.state != State::Done {
            if let State::Data { remaining } = &mut self.state {
                let available = input.len() - read;
                let taken = usize::try_from(*remaining)
                    .unwrap_or(usize::MAX)
                    .min(available);
                input.copy_within(read..read + taken, written);
                read += taken;
                written += taken;
                *remaining -= taken as u64;
                if *remaining == 0 {
                    self.state = State::DataCarriageReturn;
                }
            } else {
                self.state = self.after(input[read])?;
                read += 1;
            }
        }
        Ok(BodyProgress {
            consumed: read,
            written,
            done: self.state == State::Done,
        })
    }

    /// The state behind one byte of framing.
    fn after(&mut self, byte: u8) -> Result<State, RequestError> {
        let next = match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                if digits < CHUNK_SIZE_DIGITS_MAX =>
            {
                State::Size {
                    size: size << 4 | hex_value(byte),
                    digits: digits + 1,
                }
            }
            (State::Size { size, digits: 1.. }, b';') => State::Extension { size },
            (State::Size { size, digits: 1.. } | State::Extension { size }, b'\r') => {
                State::SizeLineFeed { size }
            }
            (State::Extension { size }, _) if is_field_byte(byte) => {
                self.extension_bytes += 1;
                if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX {
                    return Err(RequestError::MalformedChunk);
                }
                State::Extension { size }
            }
            (State::SizeLineFeed { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLineFeed { size }, b'\n') => {
                let left = self.allowance.checked_sub(size);
                self.allowance = left.ok_or(RequestError::BodyTooLarge)?;
                State::Data { remaining: size }
            }
            (State::DataCarriageReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size { size: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                self.count_trailer_byte(State::TrailerName)?
            }
            (State::TrailerValue, b'\r') => State::TrailerLineFeed,
            (State::TrailerValue, _) if is_field_byte(byte) => {
                self.count_trailer_byte(State::TrailerValue)?
            }
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            (State::LastLineFeed, b'\n') => State::Done,
            _ => return Err(RequestError::MalformedChunk),
        };
        Ok(next)
    }

    fn count_trailer_byte(&mut self, next: State) -> Result<State, RequestError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(RequestError::MalformedChunk);
        }
        Ok(next)
    }
}

/// The value of an ASCII hex digit.
const fn hex_value(digit: u8) -> u64 {
    // '0'-'9' end in 0-9, letters of either case in 1-6 and have bit 6 set.
    (digit & 0x0f) as u64 + 9 * (digit >> 6) as u64
}

/// Bytes of a field value (RFC 9110, section 5.5): visible, `obs-text`, space and tab.
const fn is_field_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Bytes of a token (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY_BYTES_MAX: u64 = 64;

    /// The content and the bytes left over, or `None` where the body is not complete.
    type Outcome = Result<Option<(Vec<u8>, Vec<u8>)>, RequestError>;

    /// Decodes `pieces` one after the other.
    fn decode(pieces: &[&[u8]]) -> Outcome {
        let mut decoder = ChunkedDecoder::new(BODY_BYTES_MAX);
        let (mut content, mut rest, mut done) = (Vec::new(), Vec::new(), false);
        for piece in pieces {
            let mut piece = piece.to_vec();
            let progress = decoder.decode(&mut piece)?;
            assert!(progress.written <= progress.consumed);
            assert!(progress.done || progress.consumed == piece.len());
            assert!(!done || (progress.done && progress.consumed == 0));
            done = progress.done;
            content.extend_from_slice(&piece[..progress.written]);
            rest.extend_from_slice(&piece[progress.consumed..]);
        }
        Ok(done.then_some((content, rest)))
    }

    /// Decodes `stream` whole, split at every byte, and byte by byte.
    #[track_caller]
    fn check(stream: &[u8], expected: Result<Option<(&str, &str)>, RequestError>) {
        let owned = |(content, rest): (&str, &str)| (content.into(), rest.into());
        let expected = expected.map(|outcome| outcome.map(owned));
        let shown = stream.escape_ascii();
        for split in 0..=stream.len() {
            let (first, second) = stream.split_at(split);
            assert_eq!(
                decode(&[first, second]),
                expected,
                "{shown} split at {split}"
            );
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(decode(&bytes), expected, "{shown} byte by byte");
    }

    #[test]
    fn sound_bodies() {
        for (stream, content, rest) in [
            ("0\r\n\r\n", "", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
            (
                "5\r\nhello\r\n2\r\n, \r\n00005\r\nworld\r\n000\r\n\r\n",
                "hello, world",
                "",
            ),
            (
                "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
                "01234567890123456789",
                "",
            ),
            ("2\r\n\r\n\r\n0\r\n\r\nGET / HTTP", "\r\n", "GET / HTTP"),
            ("1;a=\"b;\tc\";d\r\nx\r\n0;e\r\n\r\n\r\n", "x", "\r\n"),
            (
                "1\r\nx\r\n0\r\nA: b\r\nX-Y:\r\nC:\td \r\n\r\nrest",
                "x",
                "rest",
            ),
            ("0000000000000001\r\nx\r\n0\r\n\r\n", "x", ""),
        ] {
            check(stream.as_bytes(), Ok(Some((content, rest))));
        }
    }

    #[test]
    fn every_proper_prefix_is_incomplete() {
        let stream = b"5;a\r\nhello\r\n0\r\nA: b\r\n\r\n";
        for len in 0..stream.len() {
            check(&stream[..len], Ok(None));
        }
    }

    #[test]
    fn broken_framing() {
        for stream in [
            "\r\n",
            "\n",
            ";a\r\n",
            "g\r\n",
            "+5\r\nhello",
            "-1\r\n",
            "0x5\r\nhello",
            " 5\r\nhello",
            "5 \r\nhello",
            "5 ;a\r\nhello",
            "5\nhello",
            "5\rhello",
            "5\r\r\nhello",
            "5;a\nhello",
            "5;a\rb\r\nhello",
            "5;a\0\r\nhello",
            "5;a\x7f\r\nhello",
            "00000000000000001\r\nx",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "0\r\n\n",
            "0\r\n\rx",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\r\r\n",
            "0\r\nA: \x0b\r\n\r\n",
            "0\r\nA: \x7f\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\n A: b\r\n\r\n",
            "0\r\n: b\r\n\r\n",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "0\r\nA\r\n\r\n",
        ] {
            check(stream.as_bytes(), Err(RequestError::MalformedChunk));
        }
    }

    #[test]
    fn the_content_limit_holds_for_one_chunk_and_for_many() {
        let x64 = "x".repeat(64);
        check(
            format!("40\r\n{x64}\r\n0\r\n\r\n").as_bytes(),
            Ok(Some((&x64, ""))),
        );
        check(b"41\r\n", Err(RequestError::BodyTooLarge));
        check(b"ffffffffffffffff\r\n", Err(RequestError::BodyTooLarge));
        check(
            format!("40\r\n{x64}\r\n1\r\n").as_bytes(),
            Err(RequestError::BodyTooLarge),
        );
        let ones = "1\r\nx\r\n".repeat(64);
        check(format!("{ones}0\r\n\r\n").as_bytes(), Ok(Some((&x64, ""))));
        check(
            format!("{ones}1\r\n").as_bytes(),
            Err(RequestError::BodyTooLarge),
        );
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let outcome = |stream: String| decode(&[stream.as_bytes()]);
        let done = Ok(Some((b"xx".to_vec(), Vec::new())));
        let refused = Err(RequestError::MalformedChunk);

        let extension = "e".repeat(CHUNK_EXTENSION_BYTES_MAX as usize / 2);
        let body = |more| format!("1;{extension}\r\nx\r\n1;{extension}{more}\r\nx\r\n0\r\n\r\n");
        assert_eq!(outcome(body("")), done);
        assert_eq!(outcome(body("e")), refused);

        let value = "v".repeat(TRAILER_BYTES_MAX as usize / 2 - 1);
        let body = |more| format!("2\r\nxx\r\n0\r\na:{value}\r\nb:{value}{more}\r\n\r\n");
        assert_eq!(outcome(body("")), done);
        assert_eq!(outcome(body("v")), refused);
    }

    #[test]
    fn hex_digits() {
        for digit in b"0123456789abcdefABCDEF" {
            let value = char::from(*digit).to_digit(16).unwrap();
            assert_eq!(hex_value(*digit), u64::from(value));
        }
    }

    /// `content` in chunks of the given sizes, cut short or cycled as needed.
    fn encode(content: &[u8], sizes: &[usize]) -> Vec<u8> {
        let (mut stream, mut left) = (Vec::new(), content);
        for size in sizes.iter().cycle() {
            let (chunk, rest) = left.split_at((*size).min(left.len()));
            if chunk.is_empty() {
                break;
            }
            stream.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            stream.extend_from_slice(chunk);
            stream.extend_from_slice(b"\r\n");
            left = rest;
        }
        stream.extend_from_slice(b"0\r\n\r\n");
        stream
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(
            content in prop::collection::vec(any::<u8>(), 0..=BODY_BYTES_MAX as usize),
            sizes in prop::collection::vec(1_usize..20, 1..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            rest in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let stream = [encode(&content, &sizes), rest.clone()].concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
            prop_assert_eq!(decode(&pieces), Ok(Some((content, rest))));
        }

        #[test]
        fn any_bytes_decode_the_same_however_they_are_cut(
            stream in prop::collection::vec(
                prop::sample::select(&b"0012af;:\r\n\r\n\r\nxA \x00\xff"[..]), 0..40),
        ) {
            let whole = decode(&[&stream]);
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(decode(&bytes), whole);
        }
    }
}
