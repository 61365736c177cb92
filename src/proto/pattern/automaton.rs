//! The automaton of a pattern's tail, all of its states simulated at once as bits of a few words.
//!
//! State *n* means that *n* literals have been matched. A star is no state of its own: it lets
//! the state it stands at stay where it is. So a byte of input costs a shift and three logical
//! operations for each word, whatever the pattern and whatever the input: there is nothing to
//! backtrack. Built from a tail that begins with a star: once for a key's patterns, on the stack
//! for each use of a token's.

use smallvec::SmallVec;

use super::token::{Token, Tokens};
use crate::limits::PATTERN_BYTES_MAX;

/// Words for any tail: with its star it has fewer literals than a pattern has bytes.
pub(super) const WORDS_MAX: usize = PATTERN_BYTES_MAX.div_ceil(64);

/// A byte that no pattern and no channel contains (it is never part of UTF-8): it stands for
/// characters that occur in no literal.
pub(super) const FRESH: u8 = 0xFF;

/// Rows that need no allocation: more than most patterns have different characters.
const ROWS_INLINE: usize = 24;

/// A set of states, one bit each.
pub(super) type States<const WORDS: usize> = [u64; WORDS];

/// The automaton of a tail with fewer than `64 * WORDS` literals.
pub(super) struct Automaton<const WORDS: usize> {
    /// For each byte: its row in `advancing`.
    row_of: [u8; 256],
    /// For each byte of a literal: the states that it takes to the next one. The first row, of
    /// all other bytes, is empty.
    advancing: SmallVec<[States<WORDS>; ROWS_INLINE]>,
    /// The states that stay on every byte but `/`.
    star: States<WORDS>,
    /// The states that stay on every byte.
    double_star: States<WORDS>,
    /// The state in which all literals have been matched, alone.
    last: States<WORDS>,
}

/// Whether a tail matches all of `input`, in time linear in `input`.
pub(super) fn matches(tail: Tokens<'_>, input: &[u8]) -> bool {
    if fits_one_word(tail) {
        Automaton::<1>::new(tail).matches(input)
    } else {
        Automaton::<WORDS_MAX>::new(tail).matches(input)
    }
}

/// Whether `Automaton<1>` can take this tail.
pub(super) fn fits_one_word(tail: Tokens<'_>) -> bool {
    // Source bytes, of which the first is a star, bound the literals from above.
    tail.rest().len() <= 64
}

impl<const WORDS: usize> Automaton<WORDS> {
    /// Builds the automaton of a tail that begins with a star and whose source has at most
    /// `64 * WORDS` bytes.
    pub(super) fn new(tail: Tokens<'_>) -> Self {
        #[cfg(test)]
        BUILT.with(|built| built.set(built.get() + 1));
        let mut automaton = Self {
            row_of: [0; 256],
            advancing: SmallVec::from_slice(&[[0; WORDS]]),
            star: [0; WORDS],
            double_star: [0; WORDS],
            last: [0; WORDS],
        };
        // At most as many literals as `64 * WORDS - 1`, so `word` stays below `WORDS`.
        let (mut word, mut bit) = (0, 1_u64);
        for token in tail {
            match token {
                Token::Star => automaton.star[word] |= bit,
                Token::DoubleStar => automaton.double_star[word] |= bit,
                Token::Literal(byte) => {
                    let row = &mut automaton.row_of[usize::from(byte)];
                    if *row == 0 {
                        // A tail has fewer than 256 literals, so the number fits.
                        *row = automaton.advancing.len() as u8;
                        automaton.advancing.push([0; WORDS]);
                    }
                    automaton.advancing[usize::from(*row)][word] |= bit;
                    bit = bit.rotate_left(1);
                    word += usize::from(bit == 1);
                }
            }
        }
        automaton.last[word] = bit;
        automaton
    }

    /// The states before any input.
    pub(super) fn start(&self) -> States<WORDS> {
        let mut states = [0; WORDS];
        states[0] = 1;
        states
    }

    /// The states after one more byte.
    #[inline]
    pub(super) fn step(&self, states: &States<WORDS>, byte: u8) -> States<WORDS> {
        self.step_in(&self.advancing, states, byte)
    }

    /// [`step`](Self::step), with the rows already looked up: for loops.
    #[inline]
    fn step_in(&self, rows: &[States<WORDS>], states: &States<WORDS>, byte: u8) -> States<WORDS> {
        #[cfg(test)]
        STEPS.with(|steps| steps.set(steps.get() + 1));
        // `row_of` names rows that exist.
        let advancing = &rows[usize::from(self.row_of[usize::from(byte)])];
        let star_mask = if byte == b'/' { 0 } else { u64::MAX };
        let mut next = [0; WORDS];
        let mut carry = 0;
        for word in 0..WORDS {
            let advanced = states[word] & advancing[word];
            let stays = self.double_star[word] | (self.star[word] & star_mask);
            next[word] = (advanced << 1) | carry | (states[word] & stays);
            carry = advanced >> 63;
        }
        next
    }

    /// Whether the input may end here.
    pub(super) fn accepts(&self, states: &States<WORDS>) -> bool {
        intersect(states, &self.last)
    }

    /// Whether every continuation of the input is accepted, by a `**` that ends the pattern.
    pub(super) fn accepts_all(&self, states: &States<WORDS>) -> bool {
        (0..WORDS).any(|word| states[word] & self.last[word] & self.double_star[word] != 0)
    }

    /// The set without the states that cannot change what is accepted from here on: those
    /// before the furthest state at a `**`. Whatever is accepted from an earlier state passes
    /// that one later, and it is still there then.
    pub(super) fn without_overtaken(&self, states: &States<WORDS>) -> States<WORDS> {
        let mut kept = *states;
        for word in (0..WORDS).rev() {
            let waiting = states[word] & self.double_star[word];
            if waiting != 0 {
                kept[word] &= u64::MAX << waiting.ilog2();
                kept[..word].fill(0);
                break;
            }
        }
        kept
    }

    /// Whether the whole tail matches `input`, in time linear in `input`.
    pub(super) fn matches(&self, input: &[u8]) -> bool {
        let rows = &self.advancing[..];
        let mut states = self.start();
        for &byte in input {
            if states == [0; WORDS] {
                return false;
            }
            states = self.step_in(rows, &states, byte);
        }
        self.accepts(&states)
    }
}

fn intersect<const WORDS: usize>(a: &States<WORDS>, b: &States<WORDS>) -> bool {
    a.iter().zip(b).any(|(a, b)| a & b != 0)
}

#[cfg(test)]
thread_local! {
    /// Calls of [`Automaton::step`] on this thread, for tests of cost without a clock.
    pub(super) static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    /// Automata built on this thread.
    pub(super) static BUILT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}
