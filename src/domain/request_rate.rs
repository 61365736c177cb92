//! REST requests by key and by address, and apart from these the requests of an address that
//! prove no key: token buckets, exact across all shards.
//!
//! Stands between a request and the work that it would cause. Shared by all shards, which lock
//! one stripe of the table for the time of one look-up: once for each request, never for a
//! message. A bucket per shard would save the lock, but would multiply every limit by the number
//! of shards, or divide it for a backend that keeps one connection. Reads no clock.
//!
//! Memory is bounded: a bucket that is full again is as good as none and is forgotten, a few at
//! each request; and when [`REQUEST_SUBJECTS_MAX`] are known, a new one takes the place of the one
//! that was looked at longest ago.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ahash::{AHashMap, RandomState};

use crate::domain::connect_rate::{Address, Verdict};
use crate::domain::token_bucket::{BucketLimits, TokenBucket};
use crate::limits::REQUEST_SUBJECTS_MAX;

/// Parts of a table with a lock each: many times the shards that serve a request at one moment.
const STRIPES: usize = 16;

/// Buckets that a request looks at to forget them: more than the one it may add.
const FORGET_PER_REQUEST: usize = 2;

/// The limits of all subjects of a kind; a rate of 0 is unlimited.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Requests with one key.
    pub per_key: BucketLimits,
    /// Requests to the API from one address, good or bad.
    pub per_address: BucketLimits,
    /// Requests from one address that prove no key: to whatever path, probes included.
    pub without_key: BucketLimits,
}

impl RequestLimits {
    /// No limit on anything.
    pub const NONE: Self = Self {
        per_key: UNLIMITED,
        per_address: UNLIMITED,
        without_key: UNLIMITED,
    };
}

const UNLIMITED: BucketLimits = BucketLimits {
    rate_per_sec: 0,
    burst: 0,
};

/// What is missing from a bucket, in thousandths of a token, and as of when.
pub type Spent = (i64, u64);

/// What has been spent lately.
#[derive(Debug, Default)]
pub struct SpentBySubject {
    /// With each key, by its id.
    pub keys: Vec<(Box<str>, Spent)>,
    /// From each address.
    pub addresses: Vec<(Address, Spent)>,
    /// From each address, without a key.
    pub strangers: Vec<(Address, Spent)>,
}

/// The requests of all keys and addresses.
#[derive(Debug)]
pub struct RequestRates {
    keys: Table<Box<str>>,
    addresses: Table<Address>,
    strangers: Table<Address>,
}

impl RequestRates {
    /// Begins with nothing counted, under these limits.
    #[must_use]
    pub fn new(limits: &RequestLimits, hasher: &RandomState) -> Self {
        Self {
            keys: Table::new(limits.per_key, hasher),
            addresses: Table::new(limits.per_address, hasher),
            strangers: Table::new(limits.without_key, hasher),
        }
    }

    /// What is missing at that time, of the subjects of each kind that have spent most, up to
    /// `subjects_max`.
    #[must_use]
    pub fn hand_over(&self, now_ms: u64, subjects_max: usize) -> SpentBySubject {
        SpentBySubject {
            keys: self.keys.hand_over(now_ms, subjects_max),
            addresses: self.addresses.hand_over(now_ms, subjects_max),
            strangers: self.strangers.hand_over(now_ms, subjects_max),
        }
    }

    /// Goes on with what another process has handed over, as far as a subject is not known here.
    pub fn take_over(&self, spent: SpentBySubject) {
        self.keys.take_over(spent.keys);
        self.addresses.take_over(spent.addresses);
        self.strangers.take_over(spent.strangers);
    }

    /// Judges a request made with the key of that id, and counts it if it is allowed.
    #[must_use]
    pub fn of_key(&self, key_id: &str, now_ms: u64) -> Verdict {
        self.keys.request(key_id, now_ms)
    }

    /// Judges a request from that address, and counts it if it is allowed.
    #[must_use]
    pub fn of_address(&self, ip: IpAddr, now_ms: u64) -> Verdict {
        self.addresses.request_from(ip, now_ms)
    }

    /// Judges a request from that address that proves no key, and counts it if it is allowed.
    #[must_use]
    pub fn of_stranger(&self, ip: IpAddr, now_ms: u64) -> Verdict {
        self.strangers.request_from(ip, now_ms)
    }
}

/// The buckets of one kind of subject.
#[derive(Debug)]
struct Table<K> {
    limits: BucketLimits,
    stripes: [Mutex<Stripe<K>>; STRIPES],
    stripe_hash: RandomState,
}

/// The buckets of one lock.
///
/// Invariant: each subject of `buckets` is in `oldest_first` once, and no other is.
#[derive(Debug)]
struct Stripe<K> {
    buckets: AHashMap<K, TokenBucket>,
    oldest_first: VecDeque<K>,
}

impl<K> Stripe<K> {
    fn new(hasher: &RandomState) -> Self {
        Self {
            buckets: AHashMap::with_hasher(hasher.clone()),
            oldest_first: VecDeque::new(),
        }
    }
}

impl Table<Address> {
    fn request_from(&self, ip: IpAddr, now_ms: u64) -> Verdict {
        // Without a limit nothing is hashed.
        match self.limits.rate_per_sec {
            0 => Verdict::Allowed,
            _ => self.request(&Address::of(ip), now_ms),
        }
    }
}

impl<K: Hash + Eq + Clone> Table<K> {
    fn new(limits: BucketLimits, hasher: &RandomState) -> Self {
        Self {
            limits,
            stripes: std::array::from_fn(|_| Mutex::new(Stripe::new(hasher))),
            stripe_hash: hasher.clone(),
        }
    }

    fn hand_over(&self, now_ms: u64, subjects_max: usize) -> Vec<(K, Spent)> {
        let mut known = Vec::new();
        for stripe in &self.stripes {
            let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            let buckets = stripe.buckets.iter();
            let spent = buckets.filter(|(_, bucket)| !bucket.is_full(now_ms, &self.limits));
            known.extend(spent.map(|(subject, bucket)| (subject.clone(), bucket.spent())));
        }
        known.sort_unstable_by_key(|(_, (spent, _))| Reverse(*spent));
        known.truncate(subjects_max);
        known
    }

    fn take_over(&self, known: Vec<(K, Spent)>) {
        if self.limits.rate_per_sec == 0 {
            return;
        }
        for (subject, spent) in known {
            let stripe = self.stripe_hash.hash_one(&subject) as usize % STRIPES;
            let mut stripe = self.stripes[stripe]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if !stripe.buckets.contains_key(&subject) {
                *stripe.add(subject) = TokenBucket::with_spent(spent);
            }
        }
    }

    fn request<Q>(&self, subject: &Q, now_ms: u64) -> Verdict
    where
        Q: Hash + Eq + ToOwned + ?Sized,
        Q::Owned: Into<K>,
        K: Borrow<Q>,
    {
        if self.limits.rate_per_sec == 0 {
            return Verdict::Allowed;
        }
        let stripe = self.stripe_hash.hash_one(subject) as usize % STRIPES;
        // The remainder is below the length. What a panic under the lock could leave behind is
        // at worst a bucket that is never forgotten: no reason to stop serving.
        let mut stripe = self.stripes[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        stripe.forget_full(now_ms, &self.limits);
        let bucket = match stripe.buckets.get_mut(subject) {
            Some(bucket) => bucket,
            None => stripe.add(subject.to_owned().into()),
        };
        if bucket.try_take(now_ms, &self.limits) {
            return Verdict::Allowed;
        }
        Verdict::Limited {
            retry_after_ms: bucket.retry_after_ms(now_ms, &self.limits).max(1),
        }
    }
}

impl<K: Hash + Eq + Clone> Stripe<K> {
    fn add(&mut self, subject: K) -> &mut TokenBucket {
        if self.buckets.len() >= REQUEST_SUBJECTS_MAX / STRIPES
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.buckets.remove(&oldest);
        }
        self.oldest_first.push_back(subject.clone());
        self.buckets.entry(subject).or_default()
    }

    /// Forgets buckets that are full again, looking at a few in turn.
    fn forget_full(&mut self, now_ms: u64, limits: &BucketLimits) {
        for _ in 0..FORGET_PER_REQUEST.min(self.oldest_first.len()) {
            let Some(subject) = self.oldest_first.pop_front() else {
                return;
            };
            let full = self
                .buckets
                .get(&subject)
                .is_none_or(|bucket| bucket.is_full(now_ms, limits));
            if full {
                self.buckets.remove(&subject);
            } else {
                self.oldest_first.push_back(subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn limits(rate_per_sec: u32, burst: u32) -> BucketLimits {
        BucketLimits {
            rate_per_sec,
            burst,
        }
    }

    fn rates_of(per_key: BucketLimits, per_address: BucketLimits) -> RequestRates {
        RequestRates::new(
            &RequestLimits {
                per_key,
                per_address,
                ..RequestLimits::NONE
            },
            &RandomState::with_seeds(1, 2, 3, 4),
        )
    }

    /// Requests of one key at the given times; `None` is allowed, else the time to wait.
    #[track_caller]
    fn check(limits: BucketLimits, requests: &[(u64, Option<u64>)]) {
        let rates = rates_of(limits, UNLIMITED);
        for (at, &(now_ms, wait_ms)) in requests.iter().enumerate() {
            let expected = wait_ms.map_or(Verdict::Allowed, |ms| Verdict::Limited {
                retry_after_ms: ms,
            });
            assert_eq!(rates.of_key("sk_id_a", now_ms), expected, "request {at}");
        }
    }

    #[test]
    fn a_burst_then_the_rate() {
        check(
            limits(10, 2),
            &[
                (0, None),
                (0, None),
                (0, Some(100)),
                (99, Some(1)),
                (100, None),
                (100, Some(100)),
            ],
        );
    }

    #[test]
    fn another_process_counts_on() {
        let (limits, one) = (limits(1, 10), [192, 0, 2, 1].into());
        let rates = rates_of(limits, limits);
        for _ in 0..8 {
            assert_eq!(rates.of_key("a", 0), Verdict::Allowed);
        }
        assert_eq!(rates.of_key("b", 0), Verdict::Allowed);
        assert_eq!(rates.of_address(one, 0), Verdict::Allowed);
        // Of what has come back nothing is told.
        assert_eq!(rates.hand_over(1_000, 10).keys.len(), 1);
        let other = rates_of(limits, limits);
        other.take_over(rates.hand_over(500, 1));
        for rates in [&rates, &other] {
            assert_eq!(rates.of_key("a", 500), Verdict::Allowed);
            assert_eq!(rates.of_key("a", 500), Verdict::Allowed);
            assert_ne!(rates.of_key("a", 500), Verdict::Allowed);
            assert_eq!(rates.of_address(one, 500), Verdict::Allowed);
        }
        assert_eq!(known(&other), 2, "only the one that has spent most");
        let unlimited = rates_of(UNLIMITED, UNLIMITED);
        unlimited.take_over(rates.hand_over(500, 10));
        assert_eq!(known(&unlimited), 0);
    }

    #[test]
    fn keys_and_addresses_have_buckets_of_their_own() {
        let rates = rates_of(limits(1, 1), limits(1, 1));
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert_eq!(rates.of_key("a", 0), Verdict::Allowed);
        assert_eq!(rates.of_key("b", 0), Verdict::Allowed);
        assert_eq!(rates.of_address(one, 0), Verdict::Allowed);
        assert_eq!(rates.of_address(other, 0), Verdict::Allowed);
        for verdict in [rates.of_key("a", 0), rates.of_address(one, 0)] {
            assert_ne!(verdict, Verdict::Allowed);
        }
    }

    #[test]
    fn requests_without_a_key_have_buckets_of_their_own() {
        let rates = RequestRates::new(
            &RequestLimits {
                per_key: UNLIMITED,
                per_address: limits(1, 1),
                without_key: limits(1, 2),
            },
            &RandomState::with_seeds(1, 2, 3, 4),
        );
        let ip = [192, 0, 2, 1].into();
        assert_eq!(rates.of_address(ip, 0), Verdict::Allowed);
        assert_eq!(rates.of_stranger(ip, 0), Verdict::Allowed);
        assert_eq!(rates.of_stranger(ip, 0), Verdict::Allowed);
        let limited = Verdict::Limited {
            retry_after_ms: 1_000,
        };
        assert_eq!(rates.of_stranger(ip, 0), limited);
        assert_eq!(
            rates.of_stranger([192, 0, 2, 2].into(), 0),
            Verdict::Allowed
        );
        assert_eq!(rates.of_stranger(ip, 1_000), Verdict::Allowed);
    }

    #[test]
    fn without_a_rate_nothing_is_kept() {
        let rates = rates_of(UNLIMITED, UNLIMITED);
        for _ in 0..1_000 {
            assert_eq!(rates.of_key("a", 0), Verdict::Allowed);
            assert_eq!(
                rates.of_address(Ipv4Addr::LOCALHOST.into(), 0),
                Verdict::Allowed
            );
        }
        assert_eq!(known(&rates), 0);
    }

    #[test]
    fn full_buckets_are_forgotten_and_used_ones_kept() {
        let rates = rates_of(UNLIMITED, limits(1, 1));
        for number in 0..5_000 {
            let _ = rates.of_address(Ipv4Addr::from_bits(number).into(), 0);
        }
        assert_eq!(known(&rates), 5_000);
        let busy = Ipv4Addr::from_bits(77).into();
        for now_ms in 1_000..11_000 {
            let _ = rates.of_address(busy, now_ms);
            let _ = rates.of_address(Ipv4Addr::from_bits(now_ms as u32 % 999).into(), now_ms);
        }
        assert!(known(&rates) <= 1_000, "{}", known(&rates));
        assert_ne!(rates.of_address(busy, 10_999), Verdict::Allowed);
    }

    #[test]
    fn a_full_table_stays_full() {
        let rates = rates_of(UNLIMITED, limits(1, 1));
        for number in 0..REQUEST_SUBJECTS_MAX as u32 * 3 / 2 {
            let address = Ipv4Addr::from_bits(number).into();
            assert_eq!(rates.of_address(address, 0), Verdict::Allowed);
        }
        assert_eq!(known(&rates), REQUEST_SUBJECTS_MAX);
    }

    #[test]
    fn the_limit_is_exact_across_threads() {
        let rates = rates_of(limits(1, 200), UNLIMITED);
        let allowed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let verdict = rates.of_key("a", 0);
                        allowed
                            .fetch_add(usize::from(verdict == Verdict::Allowed), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(allowed.into_inner(), 200);
    }

    fn known(rates: &RequestRates) -> usize {
        let stripes = rates.addresses.stripes.iter();
        let known = stripes.map(|stripe| {
            let stripe = stripe.lock().unwrap();
            assert_eq!(stripe.buckets.len(), stripe.oldest_first.len());
            stripe.buckets.len()
        });
        known.sum::<usize>()
            + rates
                .keys
                .stripes
                .iter()
                .map(|stripe| stripe.lock().unwrap().buckets.len())
                .sum::<usize>()
    }
}
