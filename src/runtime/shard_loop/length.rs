//! How much a turn does.
//!
//! Whoever has been there for a while waits, when its message comes, for the rest of the turn that
//! is under way, and then for a turn of its own. While others wait to be let in, in a storm of
//! thousands who come back, turns are short: each part leaves to the next turn what it can when it
//! has done its share, and does its least in any case, so that nobody waits for ever.

/// How long a short turn writes at least, in nanoseconds: about ten outboxes.
const WRITE_NS_MIN: u64 = 50_000;

/// See the top of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// As much as a turn may.
    Whole,
    /// Others wait to be let in, who have every second turn.
    Busy,
    /// It is for those only who have been there for a while.
    Short,
}

/// Until when a turn writes that began at `began_ns` and has come to its writes at `now_ns`, if it
/// is to be short: half of its time. So what is written keeps up with what is read, whoever it is
/// that has sent so much.
pub(super) fn write_until_ns(began_ns: u64, now_ns: u64) -> u64 {
    now_ns + now_ns.saturating_sub(began_ns).max(WRITE_NS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_writes_for_as_long_as_it_has_read() {
        assert_eq!(write_until_ns(1_000_000, 1_300_000), 1_600_000);
        assert_eq!(
            write_until_ns(1_000_000, 1_010_000),
            1_010_000 + WRITE_NS_MIN
        );
    }
}
