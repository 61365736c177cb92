//! The process's clocks, read here and handed to everything else as values.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::domain::time::Now;

/// Tells the time to everything that takes it as an argument.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts at 0 ms. All shards of a process share one origin.
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
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
        self.origin.elapsed().as_nanos() as u64
    }
}

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
