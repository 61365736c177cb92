//! Whether all that one pattern matches is matched by another.
//!
//! The general question is a search through sets of states, but a glob leaves little to search.
//! Feed the inner pattern to the outer one's automaton, with the inner literals as they are:
//!
//! - For an inner `*`, one fresh character (that is in no literal) is the hardest text: it
//!   leaves the outer pattern only states that stay on it, and those stay on anything without
//!   `/`. If the outer pattern survives that, it survives every other run.
//! - For an inner `**`, the same argument between slashes leaves one fresh character, or such
//!   characters with a slash between each two. Only the number of slashes is open, and after
//!   as many as the outer pattern has states, one more changes nothing.
//!
//! So without `**` one pass decides, and each `**` multiplies the cases by a small number. Cases
//! that leave the same states are one. What is left can still be made to grow exponentially,
//! therefore a [`Budget`] ends the search, with the answer no.

use ahash::AHashSet;

use super::automaton::{Automaton, FRESH, States};
use super::compiled::{Compiled, CompiledPatterns, Decider};
use super::token::{Token, Tokens};
use super::{Pattern, common_end};

/// Steps for one answer. Two hundred thousand take about a millisecond; patterns that are not
/// made to be expensive take fewer than a hundred for each pair that must be looked at.
const STEPS_MAX: u32 = 1 << 18;

/// What remembering one case costs, in steps: bounds their number, and so the memory, to
/// 16,384 cases of at most 56 bytes.
const STEPS_PER_CASE: u32 = 16;

/// Whether each pattern of `list` is contained in one pattern of `grantor`.
///
/// Exact as long as the search through all pairs stays within a fixed number of steps, which
/// only patterns with many `**` made for the purpose do not; after that the answer is no.
#[must_use]
pub fn all_contained(list: &[Pattern], grantor: &CompiledPatterns) -> bool {
    let mut budget = Budget::default();
    list.iter().all(|inner| {
        let mut outers = grantor.compiled().iter();
        outers.any(|outer| contained(inner, outer, &mut budget))
    })
}

/// The steps that are left.
pub(super) struct Budget {
    steps: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: STEPS_MAX }
    }
}

impl Budget {
    /// Takes some. Returns false when there are not enough.
    fn take(&mut self, steps: u32) -> bool {
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or(0);
        left.is_some()
    }
}

/// Whether `inner` is contained in `outer`; no when the budget ends before that is known.
pub(super) fn contained(inner: &Pattern, outer: &Compiled, budget: &mut Budget) -> bool {
    if *inner == outer.pattern {
        return true;
    }
    let mut inner_tokens = Tokens::of(inner.source.as_bytes());
    // A star of the inner pattern where the outer has a literal never fits.
    let head = outer.pattern.head();
    if !Tokens::of(head).all(|literal| inner_tokens.next() == Some(literal)) {
        return false;
    }
    match &outer.decider {
        Decider::Empty => inner_tokens.next().is_none(),
        Decider::Star => inner_tokens.all(|token| match token {
            Token::Literal(byte) => byte != b'/',
            Token::Star => true,
            Token::DoubleStar => false,
        }),
        Decider::DoubleStar => true,
        // All that the two match ends alike as far as both ends are literal.
        Decider::Narrow(_) | Decider::Wide(_)
            if !common_end(inner.literal_end(), outer.pattern.literal_end()) =>
        {
            false
        }
        Decider::Narrow(automaton) => Search::new(automaton).run(inner_tokens, budget),
        Decider::Wide(automaton) => Search::new(automaton).run(inner_tokens, budget),
    }
}

/// One case: what is left of the inner pattern, and the outer pattern's states before it.
type Case<'p, const WORDS: usize> = (Tokens<'p>, States<WORDS>);

/// The search for a text that the inner pattern matches and the outer does not.
struct Search<'p, const WORDS: usize> {
    outer: &'p Automaton<WORDS>,
    /// Cases that have not been looked at.
    open: Vec<Case<'p, WORDS>>,
    /// Every case that was ever opened, by the bytes left of the inner pattern's source.
    known: AHashSet<(usize, States<WORDS>)>,
}

impl<'p, const WORDS: usize> Search<'p, WORDS> {
    fn new(outer: &'p Automaton<WORDS>) -> Self {
        Self {
            outer,
            open: Vec::new(),
            known: AHashSet::new(),
        }
    }

    /// Whether there is no such text.
    fn run(mut self, inner: Tokens<'p>, budget: &mut Budget) -> bool {
        let mut case = (inner, self.outer.start());
        loop {
            if !self.covered(case, budget) {
                return false;
            }
            match self.open.pop() {
                Some(next) => case = next,
                None => return true,
            }
        }
    }

    /// Whether the outer pattern survives a case up to the inner one's end, or up to its next
    /// `**`, where it opens further cases.
    fn covered(&mut self, (mut inner, mut states): Case<'p, WORDS>, budget: &mut Budget) -> bool {
        loop {
            if self.outer.accepts_all(&states) {
                return true;
            }
            // Without states there is a text: every inner pattern can be completed.
            if !budget.take(1) || states == [0; WORDS] {
                return false;
            }
            states = match inner.next() {
                None => return self.outer.accepts(&states),
                Some(Token::Literal(byte)) => self.outer.step(&states, byte),
                Some(Token::Star) => self.outer.step(&states, FRESH),
                Some(Token::DoubleStar) => return self.open_cases(inner, &states, budget),
            };
        }
    }

    /// Opens a case for each number of slashes that an inner `**` may contain. False when the
    /// budget ends.
    fn open_cases(
        &mut self,
        inner: Tokens<'p>,
        before: &States<WORDS>,
        budget: &mut Budget,
    ) -> bool {
        let mut states = self
            .outer
            .without_overtaken(&self.outer.step(before, FRESH));
        loop {
            if self.known.insert((inner.rest().len(), states)) {
                if !budget.take(STEPS_PER_CASE) {
                    return false;
                }
                self.open.push((inner, states));
            }
            if !budget.take(2) {
                return false;
            }
            let slashed = self.outer.step(&states, b'/');
            let next = self
                .outer
                .without_overtaken(&self.outer.step(&slashed, FRESH));
            if next == states {
                return true;
            }
            states = next;
        }
    }
}
