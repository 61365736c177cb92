//! A token bucket: how often one thing may happen, over a given instant.
//!
//! It holds only what has been spent; the limits come with every call, so that a new limit
//! counts at once and a bucket costs 16 bytes. All arithmetic is on integers: tokens are counted
//! in thousandths, of which a rate per second adds a whole number in each millisecond. So
//! nothing is ever rounded, and nothing drifts.

/// Thousandths in a token.
pub const TOKEN_THOUSANDTHS: u32 = 1_000;
const THOUSANDTHS: i64 = TOKEN_THOUSANDTHS as i64;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketLimits {
    /// Tokens that come back in a second; 0 is unlimited.
    pub rate_per_sec: u32,
    /// Tokens of a full bucket; 0 counts as 1.
    pub burst: u32,
}

impl BucketLimits {
    /// Thousandths of tokens in a full bucket. Fits: below 2^42.
    fn capacity(self) -> i64 {
        i64::from(self.burst.max(1)) * THOUSANDTHS
    }

    /// Thousandths of tokens that come back in that time, as far as they can be counted.
    fn refill(self, elapsed_ms: u64) -> i64 {
        let refilled = elapsed_ms.saturating_mul(u64::from(self.rate_per_sec));
        i64::try_from(refilled).unwrap_or(i64::MAX)
    }
}

/// A bucket. A new one is full.
///
/// Invariant: `spent` is what is missing from a full bucket at `as_of_ms`, or below zero what was
/// carried over on top of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenBucket {
    /// What has been spent, in thousandths of a token.
    spent: i64,
    as_of_ms: u64,
}

const _: () = assert!(size_of::<TokenBucket>() <= 16);

impl TokenBucket {
    /// A full bucket at that time.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            spent: 0,
            as_of_ms: now_ms,
        }
    }

    /// Returns what is missing from a full bucket, in thousandths of a token, and as of when.
    #[must_use]
    pub fn spent(&self) -> (i64, u64) {
        (self.spent, self.as_of_ms)
    }

    /// Returns the bucket of which that was [`spent`](Self::spent), within what can be.
    #[must_use]
    pub fn with_spent((spent, as_of_ms): (i64, u64)) -> Self {
        const MOST: i64 = 1 << 50;
        Self {
            spent: spent.clamp(-MOST, MOST),
            as_of_ms,
        }
    }

    /// Takes a token, if there is one at `now_ms`. A time before an earlier one counts as that.
    #[inline]
    #[must_use]
    pub fn try_take(&mut self, now_ms: u64, limits: &BucketLimits) -> bool {
        self.try_take_thousandths(now_ms, limits, TOKEN_THOUSANDTHS)
    }

    /// As [`try_take`](Self::try_take), for what costs so many thousandths of a token.
    #[inline]
    #[must_use]
    pub fn try_take_thousandths(
        &mut self,
        now_ms: u64,
        limits: &BucketLimits,
        thousandths: u32,
    ) -> bool {
        if limits.rate_per_sec == 0 {
            return true;
        }
        self.touch(now_ms, limits);
        let thousandths = i64::from(thousandths);
        let taken = self.spent + thousandths <= limits.capacity();
        self.spent += if taken { thousandths } else { 0 };
        taken
    }

    /// Counts what has come back until now: nothing before that time is carried over.
    pub fn touch(&mut self, now_ms: u64, limits: &BucketLimits) {
        self.spent = self.spent_at(now_ms, *limits);
        self.as_of_ms = self.as_of_ms.max(now_ms);
    }

    /// Whether the last token was asked for before that time.
    #[inline]
    #[must_use]
    pub fn is_older_than(&self, mono_ms: u64) -> bool {
        self.as_of_ms < mono_ms
    }

    /// Lets the tokens of up to `late_ms` come back on top of a full bucket: what a client sent at
    /// its rate while the server did not look arrives all at once. Over any time, no more is
    /// allowed than a full bucket and what comes back in that time.
    pub fn carry_over(&mut self, now_ms: u64, limits: &BucketLimits, late_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.as_of_ms);
        let spent = self.spent.min(limits.capacity());
        let lowest = spent
            .min(0)
            .saturating_sub(limits.refill(late_ms.min(elapsed_ms)));
        self.spent = spent.saturating_sub(limits.refill(elapsed_ms)).max(lowest);
        self.as_of_ms = self.as_of_ms.max(now_ms);
    }

    /// Milliseconds after `now_ms` at which there will be a token; 0 if there is one.
    #[must_use]
    pub fn retry_after_ms(&self, now_ms: u64, limits: &BucketLimits) -> u64 {
        if limits.rate_per_sec == 0 {
            return 0;
        }
        let wanted = self.spent_at(now_ms, *limits) + THOUSANDTHS;
        let missing = wanted
            .saturating_sub(limits.capacity())
            .max(0)
            .unsigned_abs();
        let behind_ms = self.as_of_ms.saturating_sub(now_ms);
        match missing {
            0 => 0,
            _ => behind_ms + missing.div_ceil(u64::from(limits.rate_per_sec)),
        }
    }

    /// Whether nothing is missing at `now_ms`: such a bucket is as good as a new one.
    #[must_use]
    pub fn is_full(&self, now_ms: u64, limits: &BucketLimits) -> bool {
        self.spent_at(now_ms, *limits) <= 0
    }

    #[inline]
    fn spent_at(&self, now_ms: u64, limits: BucketLimits) -> i64 {
        let elapsed_ms = now_ms.saturating_sub(self.as_of_ms);
        // More can be missing than there is room for when the burst has become smaller.
        let spent = self.spent.min(limits.capacity());
        spent
            .saturating_sub(limits.refill(elapsed_ms))
            .max(spent.min(0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(rate_per_sec: u32, burst: u32) -> BucketLimits {
        BucketLimits {
            rate_per_sec,
            burst,
        }
    }

    /// Calls at the given times. Returns how many were allowed.
    fn taken(bucket: &mut TokenBucket, limits: BucketLimits, times_ms: &[u64]) -> usize {
        times_ms
            .iter()
            .filter(|&&now_ms| bucket.try_take(now_ms, &limits))
            .count()
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let limits = limits(100, 200);
        let mut bucket = TokenBucket::default();
        assert_eq!(taken(&mut bucket, limits, &[5_000; 300]), 200);
        assert_eq!(bucket.retry_after_ms(5_000, &limits), 10);
        assert_eq!(taken(&mut bucket, limits, &[5_009]), 0);
        assert_eq!(bucket.retry_after_ms(5_009, &limits), 1);
        assert_eq!(bucket.retry_after_ms(5_010, &limits), 0);
        assert!(!bucket.is_full(6_999, &limits) && bucket.is_full(7_000, &limits));
        assert_eq!(taken(&mut bucket, limits, &[5_010, 5_010]), 1);
        assert_eq!(taken(&mut bucket, limits, &[6_010; 300]), 100);
        assert_eq!(taken(&mut bucket, limits, &[u64::MAX; 300]), 200);
    }

    #[test]
    fn parts_of_a_token_add_up_to_it() {
        let limits = limits(100, 2);
        let mut bucket = TokenBucket::default();
        assert!(bucket.try_take(5_000, &limits));
        for _ in 0..8 {
            assert!(bucket.try_take_thousandths(5_000, &limits, 125));
        }
        assert!(!bucket.try_take_thousandths(5_000, &limits, 125));
        // A tenth of a token has come back by then, and in the next millisecond another.
        assert!(!bucket.try_take_thousandths(5_001, &limits, 125));
        assert!(bucket.try_take_thousandths(5_002, &limits, 125));
        assert!(!bucket.try_take(5_002, &limits));
    }

    #[test]
    fn what_nobody_looked_at_is_carried_over_once() {
        let limits = limits(100, 200);
        let mut bucket = TokenBucket::default();
        assert_eq!(taken(&mut bucket, limits, &[1_000; 300]), 200);
        // Five seconds in which 500 came and nobody looked.
        bucket.carry_over(6_000, &limits, 5_000);
        assert_eq!(bucket.retry_after_ms(6_000, &limits), 0);
        assert_eq!(taken(&mut bucket, limits, &[6_000; 900]), 500);
        bucket.carry_over(6_000, &limits, 5_000);
        assert_eq!(taken(&mut bucket, limits, &[6_000; 900]), 0);
        // An hour of silence, of which the last second was not looked at.
        bucket.carry_over(3_600_000, &limits, 1_000);
        assert!(bucket.is_full(3_600_000, &limits) && !bucket.is_older_than(3_600_000));
        assert_eq!(taken(&mut bucket, limits, &[3_600_000; 900]), 300);
        // What was carried over does not grow by waiting.
        bucket.carry_over(3_610_000, &limits, 1_000);
        assert_eq!(taken(&mut bucket, limits, &[3_700_000; 900]), 300);
    }

    #[test]
    fn nothing_drifts() {
        // A rate that does not divide a second's milliseconds; a burst that never fills up.
        let limits = limits(3, 2);
        let mut bucket = TokenBucket::default();
        let times_ms: Vec<u64> = (1_000..1_001_000).collect();
        assert_eq!(taken(&mut bucket, limits, &times_ms), 2 + 3 * 1_000 - 1);
        assert_eq!(taken(&mut bucket, limits, &[1_001_000, 1_001_000]), 1);
    }

    #[test]
    fn rate_zero_is_unlimited_and_burst_zero_is_one() {
        let mut bucket = TokenBucket::default();
        assert_eq!(taken(&mut bucket, limits(0, 0), &[1; 1_000]), 1_000);
        assert_eq!(bucket.retry_after_ms(1, &limits(0, 0)), 0);
        assert_eq!(taken(&mut bucket, limits(1, 0), &[1; 10]), 1);
    }

    #[test]
    fn time_that_stands_still_or_goes_back_gives_nothing() {
        let limits = limits(1_000, 2);
        let mut bucket = TokenBucket::default();
        assert_eq!(taken(&mut bucket, limits, &[100, 100, 100, 50, 0, 100]), 2);
        assert_eq!(bucket.retry_after_ms(40, &limits), 61);
        assert_eq!(taken(&mut bucket, limits, &[101, 100, 101]), 1);
    }

    #[test]
    fn new_limits_count_at_once() {
        let mut bucket = TokenBucket::default();
        assert_eq!(taken(&mut bucket, limits(1, 100), &[0; 200]), 100);
        assert_eq!(taken(&mut bucket, limits(1, 150), &[0; 200]), 50);
        // Not 150 s: a small bucket is never more than empty.
        assert_eq!(bucket.retry_after_ms(0, &limits(1, 2)), 1_000);
        assert_eq!(taken(&mut bucket, limits(1, 2), &[1_000; 9]), 1);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let limits = limits(u32::MAX, u32::MAX);
        let mut bucket = TokenBucket::default();
        assert_eq!(taken(&mut bucket, limits, &[0, u64::MAX, 0]), 3);
        assert_eq!(bucket.retry_after_ms(0, &limits), 0);
        bucket.carry_over(u64::MAX, &limits, u64::MAX);
        bucket.carry_over(0, &limits, u64::MAX);
        assert_eq!(taken(&mut bucket, limits, &[0, u64::MAX, 0]), 3);
    }

    proptest! {
        /// The definition: from no moment on may more have been taken than a full bucket and
        /// what came back since then.
        #[test]
        fn it_allows_exactly_what_the_definition_does(
            rate in 1_u32..50,
            burst in 1_u32..8,
            steps_ms in proptest::collection::vec(0_u64..120, 1..150),
        ) {
            let limits = limits(rate, burst);
            let mut bucket = TokenBucket::default();
            let mut taken_at_ms: Vec<u64> = Vec::new();
            let mut now_ms = 0;
            for step_ms in steps_ms {
                now_ms += step_ms;
                let allowed = (0..taken_at_ms.len()).all(|first| {
                    let since = taken_at_ms[first];
                    let count = (taken_at_ms.len() - first + 1) as u64;
                    count * 1_000 <= u64::from(burst) * 1_000 + u64::from(rate) * (now_ms - since)
                });
                prop_assert_eq!(bucket.retry_after_ms(now_ms, &limits) == 0, allowed);
                prop_assert_eq!(bucket.try_take(now_ms, &limits), allowed);
                if allowed {
                    taken_at_ms.push(now_ms);
                } else {
                    let wait_ms = bucket.retry_after_ms(now_ms, &limits);
                    let mut later = bucket;
                    prop_assert!(!later.try_take(now_ms + wait_ms - 1, &limits));
                    prop_assert!(later.try_take(now_ms + wait_ms, &limits));
                }
            }
        }
    }
}
