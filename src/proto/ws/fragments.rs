//! The text of a message while it arrives in fragments.
//!
//! It stands between the fragments' payloads, which may be cut anywhere, and one `String`. Each
//! fragment is judged when it comes: text that cannot become UTF-8 is refused with the fragment
//! that shows it. So the message needs no second look when it is complete.
//!
//! It does not know frames, and leaves it to the caller that the bytes stay within the limit.

use smallvec::SmallVec;

use super::close::Fault;

/// The fragments of one message so far.
///
/// Always holds: `text` followed by `begun` is what was pushed, and `begun` is empty or the
/// beginning, one to three bytes long, of a character that the next fragment may complete.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    text: String,
    begun: SmallVec<[u8; 4]>,
}

impl Fragments {
    /// Bytes pushed so far.
    pub(super) fn len(&self) -> usize {
        self.text.len() + self.begun.len()
    }

    /// What was pushed so far.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.text.as_bytes(), &self.begun].concat()
    }

    /// Adds a fragment. The allocation grows by doubling, but not beyond `message_bytes_max`,
    /// which the message is known to stay within.
    ///
    /// # Errors
    /// [`Fault::InvalidUtf8`] where no further fragment could make this UTF-8.
    pub(super) fn push(&mut self, fragment: &[u8], message_bytes_max: usize) -> Result<(), Fault> {
        self.reserve(fragment.len(), message_bytes_max);
        let fragment = self.complete_begun(fragment)?;
        match simdutf8::compat::from_utf8(fragment) {
            Ok(text) => self.text.push_str(text),
            Err(error) if error.error_len().is_none() => {
                let (whole, begun) = fragment.split_at(error.valid_up_to());
                let whole = simdutf8::basic::from_utf8(whole).map_err(|_| Fault::InvalidUtf8)?;
                self.text.push_str(whole);
                self.begun.extend_from_slice(begun);
            }
            Err(_) => return Err(Fault::InvalidUtf8),
        }
        Ok(())
    }

    /// The message, when its last fragment has been pushed.
    ///
    /// # Errors
    /// [`Fault::InvalidUtf8`] where the last character is not complete.
    pub(super) fn finish(self) -> Result<String, Fault> {
        if self.begun.is_empty() {
            Ok(self.text)
        } else {
            Err(Fault::InvalidUtf8)
        }
    }

    /// Completes the character that the fragments so far have only begun, from the front of
    /// `fragment`; returns the rest of `fragment`, which is empty if it did not suffice.
    fn complete_begun<'a>(&mut self, mut fragment: &'a [u8]) -> Result<&'a [u8], Fault> {
        while !self.begun.is_empty() {
            let Some((&byte, rest)) = fragment.split_first() else {
                break;
            };
            fragment = rest;
            self.begun.push(byte);
            match str::from_utf8(&self.begun) {
                Ok(character) => {
                    self.text.push_str(character);
                    self.begun.clear();
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(Fault::InvalidUtf8),
            }
        }
        Ok(fragment)
    }

    fn reserve(&mut self, additional: usize, message_bytes_max: usize) {
        let needed = self.len() + additional;
        let capacity = self.text.capacity();
        if needed > capacity {
            let grown = capacity
                .saturating_mul(2)
                .min(message_bytes_max)
                .max(needed);
            self.text.reserve_exact(grown - self.text.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(fragments: &[&[u8]]) -> Result<String, Fault> {
        let message_bytes_max = fragments.iter().map(|fragment| fragment.len()).sum();
        let mut message = Fragments::default();
        let mut pushed_bytes = 0;
        for fragment in fragments {
            message.push(fragment, message_bytes_max)?;
            pushed_bytes += fragment.len();
            assert_eq!(message.len(), pushed_bytes);
        }
        message.finish()
    }

    /// Assembles `bytes` from one fragment, from any two, and from one per byte, and expects
    /// the verdict of the standard library.
    fn check(bytes: &[u8]) {
        let expected = String::from_utf8(bytes.to_vec()).map_err(|_| Fault::InvalidUtf8);
        assert_eq!(assemble(&[bytes]), expected, "{bytes:x?}");
        for cut in 0..=bytes.len() {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(
                assemble(&[front, back]),
                expected,
                "{bytes:x?} cut at {cut}"
            );
            assert_eq!(
                assemble(&[front, b"", back]),
                expected,
                "{bytes:x?} cut at {cut}"
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(assemble(&single), expected, "{bytes:x?} byte by byte");
    }

    #[test]
    fn text_of_all_widths() {
        check(b"");
        check(b"plain");
        check("κόσμε, 水, 🦀 and \u{10ffff}".as_bytes());
        check("\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}".as_bytes());
    }

    #[test]
    fn what_is_not_utf8() {
        check(b"\x80");
        check(b"a\xc3");
        check(b"a\xc3(");
        check(b"\xc0\xaf");
        check(b"\xed\xa0\x80");
        check(b"\xf0\x9f\xa6");
        check(b"\xf4\x90\x80\x80");
        check(b"\xf8\x88\x80\x80\x80");
    }

    #[test]
    fn a_fragment_that_cannot_become_utf8_is_refused_at_once() {
        let mut message = Fragments::default();
        message.push(b"\xce\xba\xf4", 100).unwrap();
        assert_eq!(message.push(b"\x90", 100), Err(Fault::InvalidUtf8));
    }

    #[test]
    fn the_allocation_stays_within_the_limit() {
        let mut message = Fragments::default();
        for _ in 0..100 {
            message.push(b"0123456789", 1_000).unwrap();
            assert!(message.text.capacity() <= 1_000);
        }
        assert_eq!(message.len(), 1_000);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(
            proptest::sample::select(b"a\x80\x90\xa0\xbf\xc2\xe0\xed\xf0\xf4\xff".as_slice()),
            0..8,
        )) {
            check(&bytes);
        }
    }
}
