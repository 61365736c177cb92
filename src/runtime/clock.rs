//! The process's clocks, read here and handed to everything else as values.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::domain::time::Now;

/// Tells the time to everything that takes it as an argument.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When it stood at 0, in nanoseconds of the system's monotonic clock, which all processes of
    /// a machine share.
    origin_ns: u64,
}

impl Clock {
    /// A clock that starts at 0 ms. All shards of a process share one origin.
    #[must_use]
    pub fn start() -> Self {
        Self::since(system_ns())
    }

    /// A clock that goes on for another process's, which stood at 0 then.
    #[must_use]
    pub(crate) fn since(origin_ns: u64) -> Self {
        Self { origin_ns }
    }

    /// When it stood at 0, in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub(crate) fn origin_ns(&self) -> u64 {
        self.origin_ns
    }

    /// Reads both clocks, in milliseconds.
    #[must_use]
    pub fn now(&self) -> Now {
        now_at(self.mono_ns())
    }

    /// Both clocks, in milliseconds, and the monotonic one in nanoseconds.
    #[must_use]
    pub fn now_and_ns(&self) -> (Now, u64) {
        let mono_ns = self.mono_ns();
        (now_at(mono_ns), mono_ns)
    }

    /// Both clocks some time after `then`, in milliseconds: reads the monotonic one only.
    #[must_use]
    pub fn after(&self, then: Now) -> Now {
        let mono_ms = ms(self.mono_ns());
        let unix_ms = then.unix_ms + mono_ms.saturating_sub(then.mono_ms);
        Now { mono_ms, unix_ms }
    }

    /// The monotonic clock in nanoseconds: for measuring. The same on all shards.
    #[inline]
    #[must_use]
    pub fn mono_ns(&self) -> u64 {
        system_ns().saturating_sub(self.origin_ns)
    }
}

/// The system's monotonic clock in nanoseconds.
#[inline]
fn system_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative.
    now.tv_sec as u64 * NS_PER_SEC + now.tv_nsec as u64
}

const NS_PER_SEC: u64 = 1_000_000_000;
/// Nanoseconds of a millisecond.
pub const NS_PER_MS: u64 = 1_000_000;

/// Whole milliseconds.
#[inline]
#[must_use]
pub fn ms(ns: u64) -> u64 {
    ns / NS_PER_MS
}

fn now_at(mono_ns: u64) -> Now {
    Now {
        mono_ms: ms(mono_ns),
        unix_ms: unix_ms(),
    }
}

/// Unix time in milliseconds; 0 on a machine whose clock stands before 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_clock_of_the_same_origin_tells_the_same_time() {
        let clock = Clock::start();
        let (before_ns, other) = (clock.mono_ns(), Clock::since(clock.origin_ns()));
        assert!((before_ns..=before_ns + 60 * NS_PER_SEC).contains(&other.mono_ns()));
        assert!(clock.mono_ns() >= before_ns);
    }

    #[test]
    fn both_clocks_go_on_from_an_earlier_reading() {
        let clock = Clock::start();
        let then = Now {
            mono_ms: 0,
            unix_ms: 1_700_000_000_000,
        };
        let now = clock.after(then);
        assert_eq!(now.unix_ms - then.unix_ms, now.mono_ms);
        let ahead = Now {
            mono_ms: u64::MAX,
            ..then
        };
        assert_eq!(clock.after(ahead).unix_ms, ahead.unix_ms);
    }
}
