//! The limit of WebSocket upgrade attempts from one address in any window of time, exact across
//! all shards.
//!
//! Stands between an upgrade request and the work that it would cause. Shared by all shards,
//! and the one place where they lock: once for each attempt, never for a message, and only
//! against attempts from the same sixteenth of all addresses. It reads no clock: all shards
//! give times of the same one.
//!
//! For each address it keeps the times of the attempts it let through in the last window. What
//! happens to an attempt later (a bad credential, say) does not matter, it counts. An attempt
//! that is turned away here does not: otherwise the clients behind one address, all of them
//! trying again, could keep each other out for good.
//!
//! Memory is bounded: addresses whose window has passed are forgotten, a few at each attempt;
//! and when [`CONNECT_ADDRESSES_MAX`] are known, a new one takes the place of the one known for
//! longest.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ahash::{AHashMap, RandomState};

use crate::limits::CONNECT_ADDRESSES_MAX;

/// Parts of the table with a lock each: many times the shards that connect at one moment.
const STRIPES: usize = 16;

/// Addresses that an attempt looks at to forget them. More than the one it may add, so that
/// the table shrinks while it is used.
const FORGET_PER_ATTEMPT: usize = 2;

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on, and has been counted.
    Allowed,
    /// The address has used up its window.
    Limited {
        /// Milliseconds until the next attempt is allowed; at least 1.
        retry_after_ms: u64,
    },
}

/// An address, and the times of its attempts in milliseconds, the oldest first.
pub type Attempts = (Address, Vec<u64>);

/// The attempts of all addresses.
#[derive(Debug)]
pub struct ConnectRates {
    attempts_max: usize,
    window_ms: u64,
    stripes: [Mutex<Stripe>; STRIPES],
    stripe_hash: RandomState,
}

/// What counts as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// All of its bits.
    V4(u32),
    /// The first 64 bits: a site gets at least that many to itself (RFC 6177, section 2).
    V6Network(u64),
}

/// The addresses of one lock.
///
/// Invariant: each address of `attempts` is in `oldest_first` once, and no other is.
#[derive(Debug)]
struct Stripe {
    /// For each address the times of its attempts, none of them empty, oldest first.
    attempts: AHashMap<Address, VecDeque<u64>>,
    /// Each address with a time before which it need not be looked at.
    oldest_first: VecDeque<(u64, Address)>,
}

impl ConnectRates {
    /// At most `attempts_max` of an address in any `window_ms` milliseconds; 0 of either means
    /// that there is no limit. The keys of the hashes are unknown outside.
    #[must_use]
    pub fn new(attempts_max: u32, window_ms: u64, hasher: &RandomState) -> Self {
        let stripe = |_| {
            Mutex::new(Stripe {
                attempts: AHashMap::with_hasher(hasher.clone()),
                oldest_first: VecDeque::new(),
            })
        };
        Self {
            attempts_max: attempts_max as usize,
            window_ms,
            stripes: std::array::from_fn(stripe),
            stripe_hash: hasher.clone(),
        }
    }

    /// Judges an attempt, and counts it if it is allowed.
    #[must_use]
    pub fn attempt(&self, ip: IpAddr, now_ms: u64) -> Verdict {
        if self.attempts_max == 0 || self.window_ms == 0 {
            return Verdict::Allowed;
        }
        let address = Address::of(ip);
        let stripe = self.stripe_hash.hash_one(address) as usize % STRIPES;
        // The remainder is below the length. What a panic under the lock could leave behind is
        // at worst an address that is never forgotten: no reason to stop serving.
        let mut stripe = self.stripes[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        stripe.forget_passed(now_ms, self.window_ms);
        stripe.attempt(address, now_ms, self.attempts_max, self.window_ms)
    }

    /// The attempts that count at that time, of the addresses with most of them, up to
    /// `addresses_max`.
    #[must_use]
    pub fn hand_over(&self, now_ms: u64, addresses_max: usize) -> Vec<Attempts> {
        let counts = |time_ms: &&u64| time_ms.saturating_add(self.window_ms) > now_ms;
        let mut known = Vec::new();
        for stripe in &self.stripes {
            let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            let attempts = stripe.attempts.iter();
            known.extend(attempts.filter_map(|(address, times_ms)| {
                let times_ms: Vec<u64> = times_ms.iter().filter(counts).copied().collect();
                (!times_ms.is_empty()).then_some((*address, times_ms))
            }));
        }
        known.sort_unstable_by_key(|(_, times_ms)| Reverse(times_ms.len()));
        known.truncate(addresses_max);
        known
    }

    /// Goes on with what another process has handed over, as far as an address is not known here.
    pub fn take_over(&self, known: impl IntoIterator<Item = Attempts>) {
        if self.attempts_max == 0 || self.window_ms == 0 {
            return;
        }
        for (address, mut times_ms) in known {
            times_ms.sort_unstable();
            let count = times_ms.len().saturating_sub(self.attempts_max);
            let Some((first_ms, rest)) = times_ms[count..].split_first() else {
                continue;
            };
            let stripe = self.stripe_hash.hash_one(address) as usize % STRIPES;
            let mut stripe = self.stripes[stripe]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if !stripe.attempts.contains_key(&address) {
                stripe.add(address, *first_ms, self.window_ms);
                let attempts = stripe.attempts.get_mut(&address);
                attempts.into_iter().for_each(|it| it.extend(rest));
            }
        }
    }

    /// Addresses that are known now.
    #[must_use]
    pub fn addresses(&self) -> usize {
        let known = |stripe: &Mutex<Stripe>| {
            stripe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .attempts
                .len()
        };
        self.stripes.iter().map(known).sum()
    }
}

impl Address {
    pub(in crate::domain) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6Network((v6.to_bits() >> 64) as u64),
        }
    }
}

impl Stripe {
    fn attempt(
        &mut self,
        address: Address,
        now_ms: u64,
        attempts_max: usize,
        window_ms: u64,
    ) -> Verdict {
        let Some(times_ms) = self.attempts.get_mut(&address) else {
            self.add(address, now_ms, window_ms);
            return Verdict::Allowed;
        };
        // Shards read the clock a little apart: the times of an address never go back.
        let now_ms = times_ms
            .back()
            .map_or(now_ms, |&latest_ms| latest_ms.max(now_ms));
        while times_ms
            .front()
            .is_some_and(|&time_ms| time_ms.saturating_add(window_ms) <= now_ms)
        {
            times_ms.pop_front();
        }
        match times_ms.front() {
            Some(&oldest_ms) if times_ms.len() >= attempts_max => Verdict::Limited {
                retry_after_ms: oldest_ms.saturating_add(window_ms) - now_ms,
            },
            _ => {
                times_ms.push_back(now_ms);
                Verdict::Allowed
            }
        }
    }

    fn add(&mut self, address: Address, now_ms: u64, window_ms: u64) {
        if self.attempts.len() >= CONNECT_ADDRESSES_MAX / STRIPES
            && let Some((_, oldest)) = self.oldest_first.pop_front()
        {
            self.attempts.remove(&oldest);
        }
        self.attempts.insert(address, VecDeque::from([now_ms]));
        self.oldest_first
            .push_back((now_ms.saturating_add(window_ms), address));
    }

    /// Forgets addresses whose latest attempt has left the window, looking at a few.
    fn forget_passed(&mut self, now_ms: u64, window_ms: u64) {
        for _ in 0..FORGET_PER_ATTEMPT {
            let Some(&(look_ms, address)) = self.oldest_first.front() else {
                return;
            };
            if look_ms > now_ms {
                return;
            }
            self.oldest_first.pop_front();
            let latest_ms = self.attempts.get(&address).and_then(VecDeque::back);
            match latest_ms.map(|latest_ms| latest_ms.saturating_add(window_ms)) {
                Some(look_ms) if look_ms > now_ms => {
                    self.oldest_first.push_back((look_ms, address));
                }
                _ => {
                    self.attempts.remove(&address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    /// Attempts of one address at the given times; `None` is allowed, else the time to wait.
    #[track_caller]
    fn check(attempts_max: u32, window_ms: u64, attempts: &[(u64, Option<u64>)]) {
        let rates = ConnectRates::new(attempts_max, window_ms, &hasher());
        for (at, &(now_ms, wait_ms)) in attempts.iter().enumerate() {
            let expected = wait_ms.map_or(Verdict::Allowed, |ms| Verdict::Limited {
                retry_after_ms: ms,
            });
            assert_eq!(
                rates.attempt(ip("192.0.2.1"), now_ms),
                expected,
                "attempt {at}"
            );
        }
    }

    #[test]
    fn a_window_slides() {
        check(
            2,
            100,
            &[
                (1_000, None),
                (1_060, None),
                (1_060, Some(40)),
                (1_099, Some(1)),
                (1_100, None),
                (1_101, Some(59)),
                (1_160, None),
                (9_000, None),
                (9_000, None),
                (9_000, Some(100)),
            ],
        );
        check(1, 1, &[(0, None), (0, Some(1)), (1, None), (1, Some(1))]);
    }

    #[test]
    fn another_process_counts_on() {
        let rates = ConnectRates::new(3, 1_000, &hasher());
        for (number, now_ms) in [(1, 0), (1, 400), (1, 900), (2, 950), (3, 100)] {
            assert_eq!(rates.attempt(v4(number), now_ms), Verdict::Allowed);
        }
        let known = rates.hand_over(1_200, 2);
        let numbers = known.iter().map(|(_, times_ms)| times_ms.len());
        assert_eq!(numbers.collect::<Vec<_>>(), [2, 1], "those that count");
        let other = ConnectRates::new(3, 1_000, &RandomState::with_seeds(5, 6, 7, 8));
        other.take_over(known.clone());
        other.take_over(known);
        for rates in [&rates, &other] {
            assert_eq!(rates.attempt(v4(1), 1_200), Verdict::Allowed);
            assert_ne!(rates.attempt(v4(1), 1_200), Verdict::Allowed);
        }
        // A smaller limit is kept as well.
        let other = ConnectRates::new(1, 1_000, &hasher());
        other.take_over(rates.hand_over(1_200, 10));
        assert_ne!(other.attempt(v4(1), 1_300), Verdict::Allowed);
        let unlimited = ConnectRates::new(0, 1_000, &hasher());
        unlimited.take_over(rates.hand_over(1_200, 10));
        assert_eq!(unlimited.addresses(), 0);
    }

    #[test]
    fn what_is_turned_away_does_not_count() {
        let mut attempts = vec![(0, None)];
        attempts.extend((1..1_000).map(|ms| (ms, Some(1_000 - ms))));
        attempts.push((1_000, None));
        check(1, 1_000, &attempts);
    }

    #[test]
    fn a_clock_that_is_behind_is_taken_forward() {
        check(
            2,
            100,
            &[(1_000, None), (990, None), (980, Some(100)), (1_100, None)],
        );
        check(
            1,
            100,
            &[
                (u64::MAX - 1, None),
                (u64::MAX - 1, Some(1)),
                (u64::MAX, None),
            ],
        );
    }

    #[test]
    fn zero_is_unlimited_and_keeps_nothing() {
        for rates in [
            ConnectRates::new(0, 1_000, &hasher()),
            ConnectRates::new(5, 0, &hasher()),
        ] {
            for _ in 0..100 {
                assert_eq!(rates.attempt(ip("192.0.2.1"), 0), Verdict::Allowed);
            }
            assert_eq!(rates.addresses(), 0);
        }
    }

    #[test]
    fn what_counts_as_one_address() {
        #[track_caller]
        fn check(first: &str, second: &str, same: bool) {
            let rates = ConnectRates::new(1, 1_000, &hasher());
            assert_eq!(rates.attempt(ip(first), 0), Verdict::Allowed);
            let limited = rates.attempt(ip(second), 0) != Verdict::Allowed;
            assert_eq!(limited, same, "{first} and {second}");
        }
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("::ffff:192.0.2.1", "::ffff:192.0.2.2", false);
        check("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true);
        check("2001:db8:0:1::1", "2001:db8:0:2::1", false);
        check("::1", "0.0.0.0", false);
    }

    #[test]
    fn passed_addresses_are_forgotten() {
        let rates = ConnectRates::new(3, 1_000, &hasher());
        for number in 0..5_000 {
            assert_eq!(
                rates.attempt(v4(number), u64::from(number) / 10),
                Verdict::Allowed
            );
        }
        assert_eq!(rates.addresses(), 5_000);
        // One that goes on is kept, with its attempts, while the others go.
        let busy = v4(1);
        // Each attempt forgets a few of its stripe only: enough for the stripe with the fewest.
        for now_ms in 500..20_000 {
            let _ = rates.attempt(busy, now_ms);
            let _ = rates.attempt(v4(10_000 + now_ms as u32 % 500), now_ms);
        }
        assert!(rates.addresses() <= 501, "{}", rates.addresses());
        assert_ne!(rates.attempt(busy, 19_999), Verdict::Allowed);
        for stripe in &rates.stripes {
            let stripe = stripe.lock().unwrap();
            assert_eq!(stripe.attempts.len(), stripe.oldest_first.len());
        }
    }

    #[test]
    fn a_full_table_drops_the_oldest_and_stays_full() {
        let rates = ConnectRates::new(1, 1_000_000, &hasher());
        let first = ip("203.0.113.9");
        assert_eq!(rates.attempt(first, 0), Verdict::Allowed);
        for network in 0..CONNECT_ADDRESSES_MAX as u128 * 3 / 2 {
            let address = Ipv6Addr::from_bits((0x2001_0db8_0000_0000 + network) << 64);
            assert_eq!(rates.attempt(address.into(), 1), Verdict::Allowed);
        }
        assert_eq!(rates.addresses(), CONNECT_ADDRESSES_MAX);
        assert_eq!(rates.attempt(first, 2), Verdict::Allowed);
        assert_ne!(rates.attempt(first, 3), Verdict::Allowed);
    }

    #[test]
    fn the_limit_is_exact_across_threads() {
        let rates = Arc::new(ConnectRates::new(60, 60_000, &hasher()));
        let allowed: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (rates, allowed) = (Arc::clone(&rates), &allowed);
                scope.spawn(move || {
                    for attempt in 0..400_u32 {
                        let number = (attempt + thread) % 4;
                        if rates.attempt(v4(number), u64::from(attempt)) == Verdict::Allowed {
                            allowed[number as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        for count in allowed {
            assert_eq!(count.into_inner(), 60);
        }
    }

    #[test]
    fn a_poisoned_lock_goes_on() {
        let rates = ConnectRates::new(1, 1_000, &hasher());
        for stripe in &rates.stripes {
            let poisoning = std::thread::scope(|scope| {
                let panicking = || {
                    let _guard = stripe.lock().unwrap();
                    std::panic::resume_unwind(Box::new("poison"));
                };
                scope.spawn(panicking).join()
            });
            assert!(poisoning.is_err() && stripe.is_poisoned());
        }
        assert_eq!(rates.attempt(v4(1), 0), Verdict::Allowed);
        assert_eq!(
            rates.attempt(v4(1), 1),
            Verdict::Limited {
                retry_after_ms: 999
            }
        );
        assert_eq!(rates.addresses(), 1);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list_of_all_attempts(
            attempts_max in 1_u32..5,
            window_ms in 1_u64..300,
            attempts in proptest::collection::vec((0_u64..100, 0_u32..3), 0..150),
        ) {
            let rates = ConnectRates::new(attempts_max, window_ms, &hasher());
            let mut allowed: Vec<(u64, u32)> = Vec::new();
            let mut now_ms = 0;
            for (step_ms, number) in attempts {
                now_ms += step_ms;
                let in_window = allowed
                    .iter()
                    .filter(|(ms, of)| *of == number && now_ms - ms < window_ms)
                    .count();
                let verdict = rates.attempt(v4(number), now_ms);
                prop_assert_eq!(verdict == Verdict::Allowed, in_window < attempts_max as usize);
                if verdict == Verdict::Allowed {
                    allowed.push((now_ms, number));
                }
            }
        }
    }
}
