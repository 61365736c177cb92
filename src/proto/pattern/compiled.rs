//! A key's patterns, each with the automaton that it needs made once.
//!
//! An automaton takes longer to make than to ask: a key is asked at each command of all its
//! connections, and at each mint with as many questions as the token and the key have patterns
//! together. Tokens keep their patterns as they are: there is one list for each connection.

use super::automaton::{Automaton, WORDS_MAX, fits_one_word};
use super::{Pattern, Tail};

/// The patterns of a key.
///
/// Costs up to 9 KB for a pattern with a star and more behind it, mostly 500 bytes, on top of
/// the pattern itself.
#[derive(Debug)]
pub struct CompiledPatterns(Box<[Compiled]>);

/// A pattern, and what decides about what stands behind its leading literals.
pub(super) struct Compiled {
    pub(super) pattern: Pattern,
    pub(super) decider: Decider,
}

/// The compiled form of [`Tail`].
pub(super) enum Decider {
    /// The name must end here.
    Empty,
    /// Anything without `/` may follow.
    Star,
    /// Anything may follow.
    DoubleStar,
    /// A tail of up to 64 bytes.
    Narrow(Box<Automaton<1>>),
    /// A tail of more than 64 bytes.
    Wide(Box<Automaton<WORDS_MAX>>),
}

impl CompiledPatterns {
    /// Whether one of the patterns matches the channel.
    #[must_use]
    pub fn any_matches(&self, channel: &str) -> bool {
        self.0.iter().any(|compiled| compiled.matches(channel))
    }

    /// Iterates over the patterns, in the order in which the key lists them.
    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter().map(|compiled| &compiled.pattern)
    }

    pub(super) fn compiled(&self) -> &[Compiled] {
        &self.0
    }
}

impl FromIterator<Pattern> for CompiledPatterns {
    fn from_iter<I: IntoIterator<Item = Pattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().map(Compiled::new).collect())
    }
}

impl Compiled {
    pub(super) fn new(pattern: Pattern) -> Self {
        let tail = pattern.tail_tokens();
        let decider = match pattern.tail {
            Tail::Empty => Decider::Empty,
            Tail::Star => Decider::Star,
            Tail::DoubleStar => Decider::DoubleStar,
            Tail::Mixed if fits_one_word(tail) => Decider::Narrow(Box::new(Automaton::new(tail))),
            Tail::Mixed => Decider::Wide(Box::new(Automaton::new(tail))),
        };
        Self { pattern, decider }
    }

    fn matches(&self, channel: &str) -> bool {
        match &self.decider {
            // Compared directly, with no automaton.
            Decider::Empty | Decider::Star | Decider::DoubleStar => self.pattern.matches(channel),
            Decider::Narrow(automaton) => self
                .tail_of(channel)
                .is_some_and(|rest| automaton.matches(rest)),
            Decider::Wide(automaton) => self
                .tail_of(channel)
                .is_some_and(|rest| automaton.matches(rest)),
        }
    }

    /// What of the channel stands behind the leading literals, if both ends are right.
    fn tail_of<'c>(&self, channel: &'c str) -> Option<&'c [u8]> {
        let rest = self.pattern.strip_head(channel.as_bytes())?;
        rest.ends_with(self.pattern.literal_end()).then_some(rest)
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.pattern.fmt(f)
    }
}
