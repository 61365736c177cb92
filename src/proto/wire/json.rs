//! Validates one JSON text and finds the members of its object, in a single pass.
//!
//! Stands between the payload of a text message and [`super::command`], which knows what the
//! members mean. Nothing is decoded, copied or allocated: a member is its key and its value
//! exactly as the sender wrote them. Containers inside a value are walked with a bit per open
//! level instead of recursion, so a hostile text costs neither stack nor memory.
//!
//! What is accepted is the grammar of RFC 8259, no more and no less: `1e400` and integers of
//! any length are numbers, a lone surrogate escape is a character of a string, a byte order
//! mark or anything after the object is an error. UTF-8 is the caller's: a `&str` holds it.

use std::fmt;

use super::string::{JsonStr, plain_len};
use crate::limits::JSON_DEPTH_MAX;

/// Why a text is not an object this server reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonFault {
    /// The text breaks the grammar of RFC 8259.
    Syntax,
    /// Containers are nested deeper than [`JSON_DEPTH_MAX`] levels.
    TooDeep,
    /// The text starts with something other than `{`.
    NotAnObject,
}

impl JsonFault {
    /// What is wrong, for the sender.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Syntax => "the message is not valid JSON",
            Self::TooDeep => "the message is nested deeper than 128 levels",
            Self::NotAnObject => "the message is not a JSON object",
        }
    }
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for JsonFault {}

// `Skimmer::container` has a bit for each level below the first, and the message is a constant.
const _: () = assert!(JSON_DEPTH_MAX == 128);

/// Calls `visit` with the key and the value of each member of the object `text`, in order,
/// duplicates included. A value is its exact bytes, without the whitespace around it.
///
/// Members are visited while the rest of the text is still unread: what `visit` has collected
/// may be used only once this function has returned `Ok`.
///
/// # Errors
/// [`JsonFault`], when `text` is not one JSON object or is nested too deep. The object itself
/// is level 1.
#[inline]
pub fn for_each_member<'a>(
    text: &'a str,
    mut visit: impl FnMut(JsonStr<'a>, &'a str),
) -> Result<(), JsonFault> {
    let mut skimmer = Skimmer {
        bytes: text.as_bytes(),
        at: 0,
    };
    skimmer.whitespace();
    if skimmer.peek() != b'{' {
        return Err(JsonFault::NotAnObject);
    }
    skimmer.at += 1;
    skimmer.whitespace();
    if skimmer.peek() == b'}' {
        skimmer.at += 1;
    } else {
        loop {
            let key_start = skimmer.at;
            skimmer.string()?;
            // Both spans start and end beside ASCII bytes, so they are sliced between characters.
            let key = JsonStr::from_escaped(&text[key_start..skimmer.at]);
            skimmer.colon()?;
            let value_start = skimmer.at;
            skimmer.value()?;
            visit(key, &text[value_start..skimmer.at]);
            skimmer.whitespace();
            match skimmer.take() {
                b',' => skimmer.whitespace(),
                b'}' => break,
                _ => return Err(JsonFault::Syntax),
            }
        }
    }
    skimmer.whitespace();
    if skimmer.at == text.len() {
        Ok(())
    } else {
        Err(JsonFault::Syntax)
    }
}

/// Reads forward over a JSON text. A method named after a part of the grammar stands on the
/// part's first byte and leaves on the first byte behind it. After an error it is of no use.
//
// Written here, although libraries validate JSON, because every message passes through it and
// neither of them is faster on what clients send. Nanoseconds per text on one core of an AMD
// EPYC 7003 with AVX2, `--release`, best of 800 runs: this; serde_json into a struct of
// `RawValue`; simd-json with reused buffers and tape, its mutable copy of the text included.
//
//   text                                   bytes      this   RawValue   simd-json
//   publish of a small object                 59        60        135         157
//   publish of an object, requestId          155       121        257         261
//   mixed JSON                             1,013     1,012      1,506       1,902
//   mixed JSON                            16,432    16,480     22,619      30,861
//   mixed JSON                            65,620    63,959     87,153     121,073
//   one long string                        1,023       109        294         314
//   one long string                       16,383       708      2,467       3,370
//   one long string                       65,535     2,608      9,234      13,852
//   JSON written into a string            12,922    14,776     15,267      16,691
//   a string, two thirds escapes          65,042    96,884    134,464     171,907
//   nothing but nested empty arrays       64,843   137,634    122,238     199,389
struct Skimmer<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Skimmer<'_> {
    /// The next byte, or at the end NUL, which JSON allows nowhere.
    #[inline]
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    fn take(&mut self) -> u8 {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    #[inline]
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn whitespace(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// The colon after a key, and the whitespace around it.
    #[inline]
    fn colon(&mut self) -> Result<(), JsonFault> {
        self.whitespace();
        if self.take() != b':' {
            return Err(JsonFault::Syntax);
        }
        self.whitespace();
        Ok(())
    }

    #[inline]
    fn value(&mut self) -> Result<(), JsonFault> {
        match self.peek() {
            b'{' | b'[' => self.container(),
            _ => self.scalar(),
        }
    }

    #[inline]
    fn scalar(&mut self) -> Result<(), JsonFault> {
        match self.peek() {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => Err(JsonFault::Syntax),
        }
    }

    #[inline]
    fn literal(&mut self, literal: &[u8]) -> Result<(), JsonFault> {
        if self.rest().starts_with(literal) {
            self.at += literal.len();
            Ok(())
        } else {
            Err(JsonFault::Syntax)
        }
    }

    #[inline]
    fn number(&mut self) -> Result<(), JsonFault> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One digit or more.
    #[inline]
    fn digits(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start {
            Err(JsonFault::Syntax)
        } else {
            Ok(())
        }
    }

    // Inlined into every caller: a fifth of the time of a short text.
    #[inline(always)]
    fn string(&mut self) -> Result<(), JsonFault> {
        if self.take() != b'"' {
            return Err(JsonFault::Syntax);
        }
        loop {
            match self.take() {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                0..0x20 => return Err(JsonFault::Syntax),
                _ => self.at += plain_len(self.rest()),
            }
        }
    }

    /// What follows the backslash of an escape.
    #[inline]
    fn escape(&mut self) -> Result<(), JsonFault> {
        match self.take() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    if !self.take().is_ascii_hexdigit() {
                        return Err(JsonFault::Syntax);
                    }
                }
                Ok(())
            }
            _ => Err(JsonFault::Syntax),
        }
    }

    /// An object or array below the outermost object, with all that is inside.
    fn container(&mut self) -> Result<(), JsonFault> {
        // A bit for each container that is open below the outermost object, the innermost lowest:
        // 1 is an object, 0 an array.
        let mut open_objects: u128 = 0;
        let mut level = 1;
        'value: loop {
            let opening = self.peek();
            if matches!(opening, b'{' | b'[') {
                if level == JSON_DEPTH_MAX {
                    return Err(JsonFault::TooDeep);
                }
                level += 1;
                open_objects = open_objects << 1 | u128::from(opening == b'{');
                self.at += 1;
                self.whitespace();
                // `[` and `]`, `{` and `}` are two apart in ASCII.
                if self.peek() != opening + 2 {
                    if opening == b'{' {
                        self.key()?;
                    }
                    continue 'value;
                }
            } else {
                self.scalar()?;
                self.whitespace();
            }
            // Behind a value, or before the end of an empty container.
            loop {
                let in_object = open_objects & 1 == 1;
                match self.take() {
                    b',' => {
                        self.whitespace();
                        if in_object {
                            self.key()?;
                        }
                        continue 'value;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return Err(JsonFault::Syntax),
                }
                open_objects >>= 1;
                level -= 1;
                if level == 1 {
                    return Ok(());
                }
                self.whitespace();
            }
        }
    }

    /// A member's key with its colon, up to the value.
    #[inline]
    fn key(&mut self) -> Result<(), JsonFault> {
        self.string()?;
        self.colon()
    }
}

#[cfg(test)]
mod tests;
