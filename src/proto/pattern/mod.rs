//! The channel-pattern language: which channels a key or a token opens.
//!
//! | glob | matches |
//! |---|---|
//! | `*` | any run of characters, empty too, without `/` |
//! | `**` | any run of characters, `/` included |
//! | `\*`, `\\` | that character |
//! | anything else, a `\` before another character included | itself |
//!
//! Stands between the strings of keys and tokens and every check of a channel. It does not know
//! which names are valid channels. A run of three stars or more means what `**` means.
//!
//! Everything works on bytes: a pattern's literals are whole characters, so on valid UTF-8 no
//! match ever begins or ends inside one. Always holds: matching takes time linear in the
//! channel, and containment takes a bounded number of steps and errs only towards no.

mod automaton;
mod compiled;
mod containment;
mod token;

use std::fmt;

use crate::limits::PATTERN_BYTES_MAX;
use token::{Token, Tokens};

pub use compiled::CompiledPatterns;
pub use containment::all_contained;

/// An accepted pattern.
///
/// It keeps its source and where the leading literals end: those and a last star are compared
/// directly, and what else there is becomes an automaton on the stack when it is needed. So a
/// pattern costs 24 bytes and its text, however many connections hold one. A key's patterns are
/// [compiled](CompiledPatterns) instead.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    source: Box<str>,
    /// Bytes of `source` before the first star.
    head_bytes: u16,
    /// Whether those contain an escape, so that they differ from what they match.
    head_escaped: bool,
    tail: Tail,
}

const _: () = assert!(size_of::<Pattern>() <= 24);
const _: () = assert!(PATTERN_BYTES_MAX <= u16::MAX as usize);

/// What follows the leading literals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// The end: the pattern is a literal name.
    Empty,
    /// A single `*`, and the end.
    Star,
    /// A single `**`, and the end.
    DoubleStar,
    /// A star and more: decided by an automaton.
    Mixed,
}

/// Why a string is no pattern: a fault of the key or the token that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// It has no bytes.
    Empty,
    /// It has more than [`PATTERN_BYTES_MAX`] bytes.
    TooLong,
    /// It ends with a `\` that escapes nothing.
    TrailingBackslash,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a channel pattern must not be empty"),
            Self::TooLong => write!(f, "a channel pattern has at most {PATTERN_BYTES_MAX} bytes"),
            Self::TrailingBackslash => {
                f.write_str(r"a channel pattern must not end with a lone \ (write \\ to match one)")
            }
        }
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Accepts or refuses a pattern.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong with it.
    pub fn parse(source: &str) -> Result<Self, PatternError> {
        if source.is_empty() {
            return Err(PatternError::Empty);
        }
        if source.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        let mut tokens = Tokens::of(source.as_bytes());
        let mut head_bytes = source.len();
        let mut head_escaped = false;
        let mut tail = Tail::Empty;
        loop {
            let before_bytes = tokens.rest().len();
            if tokens.rest() == br"\" {
                return Err(PatternError::TrailingBackslash);
            }
            tail = match (tail, tokens.next()) {
                (_, None) => break,
                (Tail::Empty, Some(Token::Literal(_))) => {
                    head_escaped |= before_bytes - tokens.rest().len() > 1;
                    Tail::Empty
                }
                (Tail::Empty, Some(star)) => {
                    head_bytes = source.len() - before_bytes;
                    if star == Token::Star {
                        Tail::Star
                    } else {
                        Tail::DoubleStar
                    }
                }
                (_, Some(_)) => Tail::Mixed,
            };
        }
        // Fits: at most PATTERN_BYTES_MAX.
        Ok(Self {
            source: source.into(),
            head_bytes: head_bytes as u16,
            head_escaped,
            tail,
        })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the whole of `channel` matches.
    #[must_use]
    pub fn matches(&self, channel: &str) -> bool {
        let Some(rest) = self.strip_head(channel.as_bytes()) else {
            return false;
        };
        match self.tail {
            Tail::Empty => rest.is_empty(),
            Tail::Star => memchr::memchr(b'/', rest).is_none(),
            Tail::DoubleStar => true,
            Tail::Mixed => {
                rest.ends_with(self.literal_end()) && automaton::matches(self.tail_tokens(), rest)
            }
        }
    }

    /// Literals with which all that the pattern matches ends: all of those behind the last
    /// star, or none where one of them is escaped.
    fn literal_end(&self) -> &[u8] {
        let source = self.source.as_bytes();
        // A star that is itself escaped is a literal: what follows it is an end all the same.
        let end = memchr::memrchr(b'*', source).map_or(source, |star| &source[star + 1..]);
        match memchr::memchr(b'\\', end) {
            None => end,
            Some(_) => b"",
        }
    }

    /// The channel without the leading literals, if it begins with them.
    fn strip_head<'c>(&self, channel: &'c [u8]) -> Option<&'c [u8]> {
        let head = self.head();
        if !self.head_escaped {
            return channel.strip_prefix(head);
        }
        Tokens::of(head).try_fold(channel, |rest, token| match (token, rest.split_first()) {
            (Token::Literal(literal), Some((&byte, rest))) if literal == byte => Some(rest),
            _ => None,
        })
    }

    /// The source up to the first star.
    fn head(&self) -> &[u8] {
        // `head_bytes` is never above the length of `source`, so the default is never taken.
        self.source
            .as_bytes()
            .get(..usize::from(self.head_bytes))
            .unwrap_or_default()
    }

    /// The tokens from the first star on.
    fn tail_tokens(&self) -> Tokens<'_> {
        // As in `head`.
        let tail = self.source.as_bytes().get(usize::from(self.head_bytes)..);
        Tokens::of(tail.unwrap_or_default())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// Whether one of two texts may end the other.
fn common_end(one: &[u8], other: &[u8]) -> bool {
    one.ends_with(other) || other.ends_with(one)
}

#[cfg(test)]
mod tests;
