//! The moment an input arrived, as told by the caller: nothing below `runtime` owns a clock.

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back: for durations and deadlines.
    pub mono_ms: u64,
    /// Unix time in milliseconds: only for expiries, periods and what clients are told.
    pub unix_ms: u64,
}

impl Now {
    /// Unix time in whole seconds.
    #[must_use]
    pub fn unix_sec(self) -> u64 {
        self.unix_ms / 1_000
    }

    /// The monotonic moment at which the wall clock, running on as it does now, shows `unix_ms`.
    #[must_use]
    pub fn mono_at_unix_ms(self, unix_ms: u64) -> u64 {
        self.mono_ms
            .saturating_add(unix_ms.saturating_sub(self.unix_ms))
    }
}
