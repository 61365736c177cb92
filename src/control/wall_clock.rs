//! The time of day as the books keep it: the wall clock is believed while the monotonic clock
//! agrees with it.
//!
//! A wall clock jumps (a bad time server, a machine that was restored) and may jump back. What
//! it says after a jump is believed only when it has gone on saying so for some minutes; until
//! then the time runs on as before. Without this a jump of a second could end a billing period.

use std::sync::Arc;

use crate::domain::time::Now;

/// A step that is believed at once, in milliseconds: time servers correct seconds, and a leap
/// second is one.
const STEP_MS: u64 = 10_000;
/// How long the clock must keep to a new time before it is believed, in milliseconds.
const HOLD_MS: u64 = 3 * 60_000;

/// Reads the wall clock and the monotonic clock at the same moment.
pub(super) type Clocks = Arc<dyn Fn() -> Now + Send + Sync>;

/// The believed time. Begins with the first moment it is shown, which it believes.
#[derive(Debug, Default)]
pub(super) struct WallClock {
    /// Wall clock less monotonic clock.
    offset_ms: Option<i128>,
    /// Another offset, and the monotonic moment since which the clock has kept to it.
    claim: Option<(i128, u64)>,
}

impl WallClock {
    /// The believed Unix time in milliseconds. Show it every moment there is, once a second at
    /// least: between two it notices nothing.
    pub(super) fn believed_ms(&mut self, now: Now) -> u64 {
        let seen = i128::from(now.unix_ms) - i128::from(now.mono_ms);
        let offset = *self.offset_ms.get_or_insert(seen);
        if is_near(seen, offset) {
            self.offset_ms = Some(seen);
            self.claim = None;
            return now.unix_ms;
        }
        let since_ms = match self.claim {
            Some((claimed, since_ms)) if is_near(seen, claimed) => since_ms,
            _ => {
                tracing::warn!(
                    by_seconds = i64::try_from((seen - offset) / 1_000).unwrap_or(i64::MAX),
                    "the system's clock has jumped; billing periods follow it if it stays so \
                     for {} minutes",
                    HOLD_MS / 60_000
                );
                now.mono_ms
            }
        };
        if now.mono_ms.saturating_sub(since_ms) >= HOLD_MS {
            tracing::warn!("the system's clock has kept to its new time: periods follow it now");
            self.offset_ms = Some(seen);
            self.claim = None;
            return now.unix_ms;
        }
        self.claim = Some((seen, since_ms));
        let believed = (i128::from(now.mono_ms) + offset).max(0);
        u64::try_from(believed).unwrap_or(u64::MAX)
    }
}

fn is_near(one: i128, other: i128) -> bool {
    one.abs_diff(other) <= u128::from(STEP_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_767_225_600_000;
    const DAY_MS: i64 = 86_400_000;

    /// The believed time less the true one, in milliseconds, after seconds in each of which the
    /// clock is wrong by so much.
    fn error_after(seconds: impl IntoIterator<Item = i64>) -> i64 {
        let mut clock = WallClock::default();
        let mut error = 0;
        for (second, wrong_ms) in seconds.into_iter().enumerate() {
            let mono_ms = 1_000 * second as u64;
            let true_ms = START_MS + mono_ms;
            let unix_ms = true_ms.checked_add_signed(wrong_ms).unwrap();
            error = clock.believed_ms(Now { mono_ms, unix_ms }) as i64 - true_ms as i64;
        }
        error
    }

    fn held(wrong_ms: i64, seconds: usize) -> impl Iterator<Item = i64> {
        [0].into_iter()
            .chain(std::iter::repeat_n(wrong_ms, seconds))
    }

    #[test]
    fn a_jump_is_believed_when_the_clock_keeps_to_it() {
        for jump in [40 * DAY_MS, -DAY_MS, 7_200_000, -11_000] {
            assert_eq!(error_after(held(jump, 2)), 0, "{jump}");
            assert_eq!(error_after(held(jump, 180)), 0, "{jump}");
            assert_eq!(error_after(held(jump, 181)), jump, "{jump}");
            let back = held(jump, 170).chain([0; 20]).chain(held(jump, 170));
            assert_eq!(error_after(back), 0, "{jump}: not twice the same doubt");
        }
    }

    #[test]
    fn small_steps_and_slow_drift_are_believed_at_once() {
        for step in [1, -1_000, 9_999] {
            assert_eq!(error_after(held(step, 1)), step);
        }
        let drift = (0..3_600).map(|second| second * 20);
        assert_eq!(error_after(drift), 3_599 * 20);
    }

    #[test]
    fn a_clock_that_jumps_about_is_not_believed() {
        let wild = (0..600).map(|second| second % 7 * DAY_MS);
        assert_eq!(error_after(wild), 0);
    }

    #[test]
    fn no_clock_is_too_far_off() {
        let mut clock = WallClock::default();
        for unix_ms in [u64::MAX, 0, u64::MAX] {
            clock.believed_ms(Now {
                mono_ms: 5,
                unix_ms,
            });
        }
    }
}
