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
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono_ms: self.origin.elapsed().as_millis() as u64,
            unix_ms: unix.as_millis() as u64,
        }
    }
}
