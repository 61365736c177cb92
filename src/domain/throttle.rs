//! A limit of one line a minute for warnings that remotes can cause any number of times.

use std::sync::atomic::{AtomicU64, Ordering};

/// Between two warnings of one kind, in milliseconds: often enough to be seen, too seldom to
/// fill a log.
const PAUSE_MS: u64 = 60_000;

/// Lets one warning of a kind pass each minute, and counts those that it keeps back. Shared by
/// all shards: exact enough for a log, and without a lock.
#[derive(Debug)]
pub struct Throttle {
    /// When the next warning may pass, in milliseconds on the monotonic clock.
    passes_ms: AtomicU64,
    kept_back: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

impl Throttle {
    /// Begins open: the first warning passes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            passes_ms: AtomicU64::new(0),
            kept_back: AtomicU64::new(0),
        }
    }

    /// Whether a warning would pass now. For causes that take work to find.
    #[must_use]
    pub fn is_open(&self, now_ms: u64) -> bool {
        self.passes_ms.load(Ordering::Relaxed) <= now_ms
    }

    /// Returns how often it has happened since the last warning, this time included, when one
    /// passes now; `None` when it is kept back.
    #[must_use]
    pub fn pass(&self, now_ms: u64) -> Option<u64> {
        let passes_ms = self.passes_ms.load(Ordering::Relaxed);
        let passed = passes_ms <= now_ms
            && self
                .passes_ms
                .compare_exchange(
                    passes_ms,
                    now_ms.saturating_add(PAUSE_MS),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if passed {
            return Some(self.kept_back.swap(0, Ordering::Relaxed) + 1);
        }
        self.kept_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_passes_each_minute_with_the_number_of_all() {
        let throttle = Throttle::new();
        assert!(throttle.is_open(5));
        assert_eq!(throttle.pass(5), Some(1));
        assert!(!throttle.is_open(60_004));
        for now_ms in [5, 6, 60_004] {
            assert_eq!(throttle.pass(now_ms), None);
        }
        assert!(throttle.is_open(60_005));
        assert_eq!(throttle.pass(60_005), Some(4));
        assert_eq!(throttle.pass(60_006), None);
        assert_eq!(throttle.pass(u64::MAX), Some(2));
    }

    #[test]
    fn of_many_at_one_moment_one_passes_and_all_are_counted() {
        let throttle = Throttle::new();
        let passed: u64 = std::thread::scope(|scope| {
            let run = || (0..1_000).filter_map(|_| throttle.pass(1)).sum::<u64>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert!((1..=4_000).contains(&passed), "{passed}");
        let rest = throttle.pass(60_001).unwrap();
        assert_eq!(passed + rest, 4_001);
    }
}
