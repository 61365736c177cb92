//! JSON strings as they stand in a text: quoted and escaped.
//!
//! Names reach the server inside JSON and leave it inside JSON. What is echoed is kept as it
//! was written, and what is sent often is escaped once, so that sending is copying.

use std::borrow::Cow;

/// One JSON string, quotes included, borrowed from a text or from a [`JsonString`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonStr<'a>(&'a str);

impl<'a> JsonStr<'a> {
    /// Takes a text that is known to be one JSON string, as [`super::json`] found it or as
    /// [`JsonString`] wrote it.
    #[inline]
    #[must_use]
    pub fn from_escaped(text: &'a str) -> Self {
        debug_assert!(
            text.len() >= 2 && text.starts_with('"') && text.ends_with('"'),
            "not a JSON string: {text}"
        );
        Self(text)
    }

    /// The value `value` of a member, if it is a string.
    #[inline]
    #[must_use]
    pub fn from_value(value: &'a str) -> Option<Self> {
        value.starts_with('"').then(|| Self::from_escaped(value))
    }

    /// The text, with quotes and escapes.
    #[inline]
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The text, with quotes and escapes.
    #[inline]
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0.as_bytes()
    }

    /// The string's value: borrowed, unless there are escapes to resolve. `None` if it has none,
    /// because a surrogate is escaped without its partner.
    #[inline]
    #[must_use]
    pub fn decode(self) -> Option<Cow<'a, str>> {
        if self.0.contains('\\') {
            return serde_json::from_str(self.0).ok().map(Cow::Owned);
        }
        // Both quotes are there, one byte each.
        Some(Cow::Borrowed(&self.0[1..self.0.len() - 1]))
    }
}

/// One JSON string, quotes included, owned: a name that is escaped once and sent often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonString(Box<str>);

impl JsonString {
    /// Escapes `value`: quote, backslash and U+0000–001F, everything else as it is.
    #[expect(
        clippy::expect_used,
        reason = "a string has no part that could fail to serialize"
    )]
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(
            serde_json::to_string(value)
                .expect("a string serializes")
                .into_boxed_str(),
        )
    }

    /// The escaped form, to send.
    #[inline]
    #[must_use]
    pub fn as_json_str(&self) -> JsonStr<'_> {
        JsonStr(&self.0)
    }
}

/// How many bytes stand before the first one that is special in a string: eight at a time, and
/// sixty-four at a time once the string proves to be long, and eight at a time at its end.
#[inline]
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    for _ in 0..SHORT_STRING_WORDS {
        let Some((word, tail)) = rest.split_first_chunk() else {
            break;
        };
        let marks = special_marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return bytes.len() - rest.len() + marks.trailing_zeros() as usize / 8;
        }
        rest = tail;
    }
    bytes.len() - rest.len() + plain_len_long(rest)
}

/// Strings are long from this many times eight bytes on; 2 to 8 measure alike.
const SHORT_STRING_WORDS: usize = 4;

// Not inlined: its loops would crowd the code for short strings out of the registers.
#[inline(never)]
fn plain_len_long(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    // No early end within a chunk, so that the compiler makes vector code of it.
    while let Some((chunk, tail)) = rest.split_first_chunk::<64>()
        && !chunk
            .iter()
            .fold(false, |found, &byte| found | is_special(byte))
    {
        rest = tail;
    }
    while let Some((word, tail)) = rest.split_first_chunk() {
        let marks = special_marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return bytes.len() - rest.len() + marks.trailing_zeros() as usize / 8;
        }
        rest = tail;
    }
    let plain_tail = rest.iter().take_while(|&&byte| !is_special(byte)).count();
    bytes.len() - rest.len() + plain_tail
}

/// Whether the byte ends a string, begins an escape or may not stand in a string.
#[inline]
fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// The top bit of each special byte of `word`. Above the lowest one there may be false marks,
/// because subtraction borrows from the next byte.
#[inline]
fn special_marks(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xFF;
    const TOPS: u64 = ONES * 0x80;
    // A byte below `bound`, itself below 0x80, borrows its top bit; one from 0x80 on is cleared.
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word;
    let quotes = below(word ^ (ONES * u64::from(b'"')), 1);
    let backslashes = below(word ^ (ONES * u64::from(b'\\')), 1);
    (quotes | backslashes | below(word, 0x20)) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_borrows_where_nothing_is_escaped() {
        for text in [r#""""#, r#""room-1""#, "\"né日\u{7f}\""] {
            let decoded = JsonStr::from_escaped(text).decode().unwrap();
            assert_eq!(decoded, text[1..text.len() - 1]);
            assert!(matches!(decoded, Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn decoding_resolves_every_escape() {
        for (text, value) in [
            (r#""a\/b""#, Some("a/b")),
            (r#""\"\\\/\b\f\n\r\t""#, Some("\"\\/\u{8}\u{c}\n\r\t")),
            (r#""\u0064\u00e9\u65E5""#, Some("dé日")),
            (r#""\ud83d\uDE00""#, Some("😀")),
            (r#""\ud83d""#, None),
            (r#""\ude00x""#, None),
            (r#""\ude00\ud83d""#, None),
            (r#""\ud83d\n""#, None),
        ] {
            assert_eq!(
                JsonStr::from_escaped(text).decode().as_deref(),
                value,
                "{text}"
            );
        }
    }

    #[test]
    fn escaping_is_undone_by_decoding() {
        for value in [
            "",
            "room-1",
            "say \"hi\" \\o/",
            "\0\u{1}\u{1f}\n",
            "né😀\u{7f}\u{2028}",
        ] {
            let escaped = JsonString::new(value);
            assert_eq!(escaped.as_json_str().decode().as_deref(), Some(value));
        }
        let escaped = JsonString::new("a\"\\/é\n");
        assert_eq!(
            escaped.as_json_str().as_bytes(),
            r#""a\"\\/é\n""#.as_bytes()
        );
    }

    #[test]
    fn only_strings_are_taken_from_values() {
        assert_eq!(JsonStr::from_value("\"\""), Some(JsonStr("\"\"")));
        for value in ["null", "1", "{}", "[\"a\"]", "true"] {
            assert_eq!(JsonStr::from_value(value), None, "{value}");
        }
    }

    #[test]
    fn strings_end_where_a_plain_search_finds_their_end() {
        let plain = [
            b'a', b' ', b'!', b'#', b'[', b']', 0x7F, 0x80, 0xA2, 0xDC, 0xFF,
        ];
        for length in 0..200 {
            let mut bytes: Vec<u8> = plain.iter().copied().cycle().take(length).collect();
            assert_eq!(plain_len(&bytes), length);
            for at in 0..length {
                let before = bytes[at];
                for special in [b'"', b'\\', 0, 0x1F] {
                    bytes[at] = special;
                    assert_eq!(plain_len(&bytes), at, "{special:#x} in {length} bytes");
                }
                bytes[at] = before;
            }
        }
    }
}
