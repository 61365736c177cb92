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

    /// The monotonic clock in nanoseconds: for measuring. The same on all shards.
    #[inline]
    #[must_use]
    pub fn mono_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

fn now_at(mono_ns: u64) -> Now {
    const NS_PER_MS: u64 = 1_000_000;
    Now {
        mono_ms: mono_ns / NS_PER_MS,
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
