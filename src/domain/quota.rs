//! The message quota of an app, shared by all shards without a shared word per message.
//!
//! One atomic counts what has been granted in the present period. A shard takes messages from
//! it in blocks (a [`QuotaLease`]) that shrink to one near the limit: the blocks together never
//! exceed the limit. What a block has left goes back with [`QuotaLease::give_back`], once a
//! second and when the rights change, so that an idle shard strands nothing.
//!
//! The gate grants up to a limit that the caller brings along (it belongs to the rights
//! snapshot). It knows no clock: the control plane says when a period begins.

use std::sync::atomic::{AtomicU64, Ordering};

/// Messages in one block at most.
const BLOCK_MAX: u64 = 1_024;
/// A block is at most this part of what remains, over all shards: with every shard holding a
/// full block, at most one message in 64 is leased and not yet used.
const BLOCK_PART: u64 = 64;
const GRANTED_BITS: u32 = 48;
const GRANTED_MAX: u64 = (1 << GRANTED_BITS) - 1;

/// What has been granted to all shards in the present period.
///
/// Alone on its cache lines: shards write it once a block, and the words beside it would suffer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct QuotaGate {
    /// The period's number (16 bits, wrapping) above the messages granted in it (48 bits): in
    /// one word, so that no block is ever charged to a period other than the one it came from.
    word: AtomicU64,
}

impl QuotaGate {
    /// Begins a period with nothing granted. Blocks of the previous one are void.
    pub fn begin_period(&self) {
        // Relaxed here and below: the word carries no other data with it.
        let _ = self
            .word
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                Some(pack(period_of(word).wrapping_add(1), 0))
            });
    }

    /// Counts everything up to `used` as granted, if less was: what was counted before a
    /// restart, while there was no limit, or as overage.
    pub fn raise_to(&self, used: u64) {
        let used = used.min(GRANTED_MAX);
        let _ = self
            .word
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                (granted_of(word) < used).then(|| pack(period_of(word), used))
            });
    }

    /// Messages granted in this period, those in shards' blocks included.
    #[must_use]
    pub fn granted(&self) -> u64 {
        granted_of(self.word.load(Ordering::Relaxed))
    }

    /// The present period's number: it says of two moments whether they lie in one period.
    #[inline]
    #[must_use]
    pub fn period(&self) -> u16 {
        period_of(self.word.load(Ordering::Relaxed))
    }

    /// Takes a block for one of `shards` shards; empty when nothing remains below `limit`.
    fn lease(&self, limit: u64, shards: u16) -> QuotaLease {
        let limit = limit.min(GRANTED_MAX);
        let share = BLOCK_PART * u64::from(shards.max(1));
        let mut block = 0;
        let taken = self
            .word
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let remaining = limit.saturating_sub(granted_of(word));
                block = (remaining / share).clamp(1, BLOCK_MAX).min(remaining);
                (block > 0).then(|| word + block)
            });
        match taken {
            // `block` is at most BLOCK_MAX.
            Ok(word) => QuotaLease {
                period: period_of(word),
                left: block as u16,
            },
            Err(word) => QuotaLease {
                period: period_of(word),
                left: 0,
            },
        }
    }

    fn give_back(&self, lease: QuotaLease) {
        let _ = self
            .word
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                // The block was added to this period's count, which only this can make smaller.
                (period_of(word) == lease.period).then(|| word - u64::from(lease.left))
            });
    }
}

/// A shard's block of one app's quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLease {
    period: u16,
    left: u16,
}

impl QuotaLease {
    /// Uses one message of the quota. `false`: it is used up, and nothing was counted here.
    ///
    /// `limit` is the app's in the present snapshot; `None` is unlimited and costs nothing.
    /// `shards` is how many may hold a block.
    #[inline]
    #[must_use]
    pub fn take(&mut self, gate: &QuotaGate, limit: Option<u64>, shards: u16) -> bool {
        let Some(limit) = limit else { return true };
        if self.left == 0 || self.period != gate.period() {
            *self = gate.lease(limit, shards);
            if self.left == 0 {
                return false;
            }
        }
        self.left -= 1;
        true
    }

    /// Returns what is left. Call it about once a second and when the rights change: otherwise
    /// the rest of an idle shard's block is lost to the others, and a lowered limit is late.
    pub fn give_back(&mut self, gate: &QuotaGate) {
        if self.left > 0 {
            gate.give_back(std::mem::take(self));
        }
    }
}

fn pack(period: u16, granted: u64) -> u64 {
    u64::from(period) << GRANTED_BITS | granted
}

fn period_of(word: u64) -> u16 {
    (word >> GRANTED_BITS) as u16
}

fn granted_of(word: u64) -> u64 {
    word & GRANTED_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one by one from the leases in turn until all refuse in one round. Returns how many
    /// were granted.
    fn drain(gate: &QuotaGate, limit: u64, leases: &mut [QuotaLease]) -> u64 {
        let shards = leases.len() as u16;
        let mut granted = 0;
        loop {
            let before = granted;
            for lease in &mut *leases {
                granted += u64::from(lease.take(gate, Some(limit), shards));
            }
            if granted == before {
                return granted;
            }
        }
    }

    #[test]
    fn everything_is_granted_and_nothing_more() {
        for limit in [0, 1, 2, 63, 64, 65, 1_000, 100_000, 1_000_003] {
            for shards in [1, 2, 4, 7, 64] {
                let gate = QuotaGate::default();
                let mut leases = vec![QuotaLease::default(); shards];
                assert_eq!(drain(&gate, limit, &mut leases), limit, "{shards} shards");
                assert!(!leases[0].take(&gate, Some(limit), shards as u16));
            }
        }
    }

    #[test]
    fn threads_together_never_pass_the_limit() {
        let gate = QuotaGate::default();
        let limit = 300_007;
        let total: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|worker: u64| {
                    let gate = &gate;
                    scope.spawn(move || {
                        let (mut lease, mut granted) = (QuotaLease::default(), 0);
                        for turn in 0..200_000 {
                            granted += u64::from(lease.take(gate, Some(limit), 4));
                            if turn % (1_000 + worker) == 0 {
                                lease.give_back(gate);
                            }
                        }
                        granted
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .sum()
        });
        // 800,000 attempts, so the limit is reached; what idle workers hold may be missing.
        assert!(total <= limit, "{total}");
        assert!(total >= limit - 4 * BLOCK_MAX, "{total}");
    }

    #[test]
    fn leased_and_unused_is_at_most_a_sixty_fourth_of_what_remains() {
        let (gate, shards, limit) = (QuotaGate::default(), 8_u16, 100_000);
        let mut leases = [QuotaLease::default(); 8];
        for lease in &mut leases {
            assert!(lease.take(&gate, Some(limit), shards));
        }
        assert!(gate.granted() <= limit / BLOCK_PART, "{}", gate.granted());
    }

    #[test]
    fn what_is_given_back_can_be_used_by_others() {
        let (gate, limit) = (QuotaGate::default(), 10_000);
        let (mut idle, mut busy) = (QuotaLease::default(), QuotaLease::default());
        assert!(idle.take(&gate, Some(limit), 2));
        let granted = drain(&gate, limit, std::slice::from_mut(&mut busy));
        assert!(granted < limit - 1, "the idle shard holds some");
        idle.give_back(&gate);
        let rest = drain(&gate, limit, std::slice::from_mut(&mut busy));
        assert_eq!(1 + granted + rest, limit);
    }

    #[test]
    fn a_new_period_voids_the_blocks_of_the_old() {
        let (gate, limit) = (QuotaGate::default(), 1_000_000);
        let mut lease = QuotaLease::default();
        assert!(lease.take(&gate, Some(limit), 1));
        gate.begin_period();
        let mut stale = lease;
        stale.give_back(&gate);
        assert_eq!(
            gate.granted(),
            0,
            "nothing of the old period is taken from the new"
        );
        assert_eq!(drain(&gate, limit, std::slice::from_mut(&mut lease)), limit);
    }

    #[test]
    fn earlier_use_counts_against_the_limit_and_never_comes_back() {
        let gate = QuotaGate::default();
        gate.raise_to(70);
        gate.raise_to(60);
        let mut lease = QuotaLease::default();
        assert_eq!(drain(&gate, 100, std::slice::from_mut(&mut lease)), 30);
        assert_eq!(
            drain(&gate, 50, std::slice::from_mut(&mut lease)),
            0,
            "a lowered limit"
        );
        assert_eq!(
            drain(&gate, 120, std::slice::from_mut(&mut lease)),
            20,
            "a raised limit"
        );
    }

    #[test]
    fn no_limit_grants_without_counting() {
        let (gate, mut lease) = (QuotaGate::default(), QuotaLease::default());
        assert!((0..10_000).all(|_| lease.take(&gate, None, 1)));
        assert_eq!(gate.granted(), 0);
        assert!(!lease.take(&gate, Some(0), 1));
    }

    #[test]
    fn the_largest_counts_do_not_spill_into_the_period() {
        let gate = QuotaGate::default();
        gate.raise_to(u64::MAX);
        assert_eq!((gate.granted(), gate.period()), (GRANTED_MAX, 0));
        let mut lease = QuotaLease::default();
        assert!(!lease.take(&gate, Some(u64::MAX), 1));
    }
}
