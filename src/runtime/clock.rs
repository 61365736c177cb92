//! The process's clocks.

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

    /// Both clocks, in milliseconds.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            mono_ms: self.origin.elapsed().as_millis() as u64,
            unix_ms: unix_ms(),
        }
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
