//! Bookkeeping of what must arrive: every message of every stream once, in order.
//!
//! A subscriber that joins while a stream flows must get everything published after its `ack`; it
//! may get a little before. So a stream is entered with the first sequence that must arrive, the
//! first arrival may be earlier, and from there on there is no gap.

use std::collections::HashSet;

use crate::failure::Failure;
use crate::stamp::Stamp;

/// Missing messages remembered, to tell a late one from a doubled one.
const MISSING_COUNT_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Entry {
    stream: u32,
    next: u32,
    has_started: bool,
}

/// What one connection has received of its streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    last: usize,
}

/// What went wrong on one load core.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    lost: u64,
    doubled: u64,
    reordered: u64,
    misdirected: u64,
    missing: HashSet<(u32, u32, u32)>,
    first: Option<String>,
}

impl Ledger {
    /// From now on everything of `stream` from `first` on must arrive. A stream that is entered
    /// already stays as it is.
    pub(crate) fn expect(&mut self, stream: u32, first: u32) {
        if self.position(stream).is_none() {
            self.entries.push(Entry {
                stream,
                next: first,
                has_started: false,
            });
        }
    }

    /// Takes an arrival that needs no entry yet: before the `ack` of a subscription.
    pub(crate) fn accept_early(&mut self, stamp: Stamp) {
        if self.position(stamp.stream).is_none() {
            let Stamp {
                stream, sequence, ..
            } = stamp;
            self.entries.push(Entry {
                stream,
                next: sequence,
                has_started: true,
            });
        }
    }

    /// Enters an arrival at connection `client`. Returns whether it was new and in order.
    pub(crate) fn arrived(&mut self, faults: &mut Faults, client: u32, stamp: Stamp) -> bool {
        let Stamp {
            stream, sequence, ..
        } = stamp;
        let Some(at) = self.position(stream) else {
            faults.misdirected += 1;
            faults.note(|| format!("connection {client} got stream {stream}, not its own"));
            return false;
        };
        let entry = &mut self.entries[at];
        let may_begin = !entry.has_started && sequence < entry.next;
        if sequence == entry.next || may_begin {
            entry.next = sequence.wrapping_add(1);
            entry.has_started = true;
            return true;
        }
        if sequence > entry.next {
            faults.gap(client, stream, entry.next, sequence);
            entry.next = sequence + 1;
            entry.has_started = true;
        } else {
            faults.behind(client, stream, sequence);
        }
        false
    }

    /// Whether everything before `end` has arrived.
    pub(crate) fn is_complete(&self, stream: u32, end: u32) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.stream == stream && entry.next >= end)
    }

    /// Ends a stream: what is missing before `end` is lost.
    pub(crate) fn finish(&mut self, faults: &mut Faults, client: u32, stream: u32, end: u32) {
        if let Some(at) = self.position(stream) {
            let entry = self.entries.swap_remove(at);
            if entry.next < end {
                faults.gap(client, stream, entry.next, end);
            }
        }
    }

    /// Forgets a stream, complete or not.
    pub(crate) fn forget(&mut self, stream: u32) {
        self.entries.retain(|entry| entry.stream != stream);
    }

    /// Whether `stream` is entered.
    pub(crate) fn knows(&self, stream: u32) -> bool {
        self.entries.iter().any(|entry| entry.stream == stream)
    }

    fn position(&mut self, stream: u32) -> Option<usize> {
        // Streams arrive in turn, or one of them does all the time.
        for at in [self.last, self.last + 1] {
            if self
                .entries
                .get(at)
                .is_some_and(|entry| entry.stream == stream)
            {
                self.last = at;
                return Some(at);
            }
        }
        let at = self
            .entries
            .iter()
            .position(|entry| entry.stream == stream)?;
        self.last = at;
        Some(at)
    }
}

impl Faults {
    fn gap(&mut self, client: u32, stream: u32, from: u32, to: u32) {
        self.lost += u64::from(to - from);
        let room = MISSING_COUNT_MAX.saturating_sub(self.missing.len());
        self.missing.extend(
            (from..to)
                .take(room)
                .map(|sequence| (client, stream, sequence)),
        );
        self.note(|| format!("connection {client} stream {stream} got no {from}, next came {to}"));
    }

    fn behind(&mut self, client: u32, stream: u32, sequence: u32) {
        if self.missing.remove(&(client, stream, sequence)) {
            self.lost -= 1;
            self.reordered += 1;
        } else {
            self.doubled += 1;
        }
        self.note(|| format!("connection {client} stream {stream} got {sequence} again or late"));
    }

    /// Counts something delivered to the wrong connection.
    pub(crate) fn misdirected(&mut self, text: impl FnOnce() -> String) {
        self.misdirected += 1;
        self.note(text);
    }

    /// Counts an answer or announcement that came twice.
    pub(crate) fn doubled(&mut self, text: impl FnOnce() -> String) {
        self.doubled += 1;
        self.note(text);
    }

    /// Counts `count` answers or announcements that never came.
    pub(crate) fn lost(&mut self, count: u64, text: impl FnOnce() -> String) {
        if count > 0 {
            self.lost += count;
            self.note(text);
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.first.is_none() {
            self.first = Some(text());
        }
    }

    /// How much went wrong so far.
    pub(crate) fn count(&self) -> u64 {
        self.lost + self.doubled + self.reordered + self.misdirected
    }

    /// The verdict.
    ///
    /// # Errors
    /// [`Failure::Incorrect`] with all counts and the first case, if anything went wrong.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        let Some(first) = &self.first else {
            return Ok(());
        };
        Err(Failure::Incorrect(format!(
            "{} lost, {} doubled, {} reordered, {} misdirected; first: {first}",
            self.lost, self.doubled, self.reordered, self.misdirected
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds sequences of stream 5, expected from `first`, and finishes at `end`.
    fn check(first: u32, arrivals: &[u32], end: u32, expected: &str) {
        let (mut ledger, mut faults) = (Ledger::default(), Faults::default());
        ledger.expect(4, 0);
        ledger.expect(5, first);
        for sequence in arrivals {
            let stamp = Stamp {
                stream: 5,
                sequence: *sequence,
                intended_ns: 0,
            };
            ledger.arrived(&mut faults, 1, stamp);
        }
        ledger.finish(&mut faults, 1, 5, end);
        let verdict = match faults.verdict() {
            Ok(()) => String::from("right"),
            Err(failure) => failure.to_string(),
        };
        assert!(verdict.contains(expected), "{arrivals:?}: {verdict}");
    }

    #[test]
    fn verdicts() {
        check(0, &[0, 1, 2], 3, "right");
        check(2, &[2, 3], 4, "right");
        check(2, &[1, 2, 3], 4, "right");
        check(0, &[], 0, "right");
        check(0, &[1, 2], 3, "1 lost, 0 doubled");
        check(0, &[0, 1], 3, "1 lost, 0 doubled");
        check(0, &[0, 0, 1], 2, "0 lost, 1 doubled");
        check(0, &[1, 0], 2, "0 lost, 0 doubled, 1 reordered");
        check(2, &[3], 4, "1 lost");
        check(2, &[1, 3], 4, "1 lost");
        check(0, &[0, 5, 6], 7, "4 lost");
    }

    #[test]
    fn a_foreign_stream_is_misdirected() {
        let (mut ledger, mut faults) = (Ledger::default(), Faults::default());
        ledger.expect(1, 0);
        let stamp = Stamp {
            stream: 2,
            sequence: 0,
            intended_ns: 0,
        };
        assert!(!ledger.arrived(&mut faults, 9, stamp));
        assert!(
            faults
                .verdict()
                .is_err_and(|f| f.to_string().contains("1 misdirected"))
        );
    }

    #[test]
    fn what_comes_before_the_ack_sets_the_beginning() {
        let (mut ledger, mut faults) = (Ledger::default(), Faults::default());
        let stamp = |sequence| Stamp {
            stream: 2,
            sequence,
            intended_ns: 0,
        };
        ledger.accept_early(stamp(7));
        assert!(ledger.arrived(&mut faults, 1, stamp(7)));
        ledger.expect(2, 9);
        assert!(!ledger.is_complete(2, 9));
        assert!(ledger.arrived(&mut faults, 1, stamp(8)));
        assert!(ledger.is_complete(2, 9));
        assert_eq!(faults.verdict(), Ok(()));
    }
}
