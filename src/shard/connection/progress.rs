//! How a peer takes what waits for it, and how late the server was.

/// What waits because a peer's socket has no room for it.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Blocked {
    /// When the present measurement began; [`NEVER_MS`] while there is room.
    since_ms: u64,
    /// Bytes taken since then.
    taken: usize,
}

/// No deadline.
pub(in crate::shard) const NEVER_MS: u64 = u64::MAX;

/// The last time in which the server did not look at its connections, on the monotonic clock.
/// What they sent in it, at the rate that they may, comes at once.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::shard) struct Stalled {
    /// When it ended, in milliseconds.
    pub until_ms: u64,
    /// How long it took.
    pub late_ms: u64,
}

/// How long a peer may take for [`PROGRESS_BYTES`], in milliseconds.
pub(in crate::shard) const PROGRESS_MS: u64 = 10_000;

/// What a peer that is to be closed, or is answered over HTTP, must read in [`PROGRESS_MS`] as
/// long as more waits: 1 KB/s, a tenth of what the slowest mobile networks carry. So a full
/// queue of 1 MiB is gone after 18 minutes at the latest.
const PROGRESS_BYTES: usize = 10 * 1_024;

impl Blocked {
    /// Whether the socket had no room when it was last offered something.
    #[inline]
    pub(in crate::shard) fn is_blocked(self) -> bool {
        self.since_ms != NEVER_MS
    }

    /// Since when it has no room, and how much it has taken since, if it has none.
    pub(in crate::shard) fn since(self) -> Option<(u64, usize)> {
        let Self { since_ms, taken } = self;
        self.is_blocked().then_some((since_ms, taken))
    }

    /// A socket that has no room since then and has taken so much.
    pub(in crate::shard) fn blocked_since(since_ms: u64, taken: usize) -> Self {
        Self { since_ms, taken }
    }

    /// The socket has taken that many bytes, or none.
    pub(in crate::shard) fn written(&mut self, count: usize, now_ms: u64) {
        if !self.is_blocked() {
            if count == 0 {
                self.restart(now_ms);
            }
            return;
        }
        self.taken += count;
        if self.taken >= PROGRESS_BYTES {
            self.restart(now_ms);
        }
    }

    /// For how long the present measurement has gone on.
    pub(in crate::shard) fn for_ms(self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms)
    }

    pub(in crate::shard) fn restart(&mut self, now_ms: u64) {
        *self = Self {
            since_ms: now_ms,
            taken: 0,
        };
    }

    /// When a peer that has taken too little since then has had that much time.
    pub(in crate::shard) fn ends_ms(self, patience_ms: u64) -> u64 {
        self.since_ms.saturating_add(patience_ms)
    }
}

impl Default for Blocked {
    fn default() -> Self {
        Self {
            since_ms: NEVER_MS,
            taken: 0,
        }
    }
}
