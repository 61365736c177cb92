//! The places of the admin listener, and which connection gives way when they run out.
//!
//! Anybody who reaches the port may take a place, so a stranger's place is worth little: when all
//! are taken, the connection that has been idle for longest gives way to the next, and if none is
//! idle the oldest. A client that has shown the token has one of a set of places that no stranger
//! can take.
//!
//! Nobody gives way whose request is there and was not looked at: a connection that has been told
//! to leave first reads what has come, and stays if that is a request. So a burst of requests with
//! the token is answered, each of them; it waits in the listener's queue where it is larger than
//! the places.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Connections that have not shown the token.
pub(super) const STRANGERS_MAX: usize = 256;
/// Connections that have.
pub(super) const KNOWN_MAX: usize = 256;
/// Requests with the token that are under way at the same time.
pub(super) const REQUESTS_MAX: usize = 64;
/// Until then a stranger stays as it is: its request may be on its way.
const GRACE: Duration = Duration::from_millis(250);
/// Strangers that are told to leave where descriptors have run out.
const ROOM: usize = 8;

/// All places.
#[derive(Default)]
pub(super) struct Places {
    table: Mutex<Table>,
    /// Told when a place is free again.
    freed: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    taken: BTreeMap<u64, Taken>,
}

struct Taken {
    known: bool,
    busy: bool,
    /// Told to leave: its place is not counted any more.
    leaves: bool,
    /// Rises with everything that happens: the lowest has been as it is for longest.
    since: u64,
    /// The same as a time.
    since_time: Instant,
    leave: Arc<Notify>,
}

/// Whose connection a request came on.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientAddress(pub IpAddr);

/// A connection's place; free again when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    leave: Arc<Notify>,
    begun: AtomicBool,
    streams: AtomicBool,
    ended: AtomicBool,
}

impl Places {
    /// A place for a new connection, which is a stranger's. Another may have to leave for it, which
    /// may take a while.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            let freed = self.freed.notified();
            match self.try_take(Instant::now()) {
                Ok(place) => return place,
                // Whoever comes first: a place that is free, or somebody who may be told to leave.
                Err(wait) => {
                    let _ = tokio::time::timeout(wait, freed).await;
                }
            }
        }
    }

    /// # Errors
    /// Nobody may be told to leave yet: how long to wait.
    fn try_take(self: &Arc<Self>, now: Instant) -> Result<Place, Duration> {
        let mut table = self.table();
        if table.count(false) >= STRANGERS_MAX {
            table.evict_stranger(now)?;
        }
        let leave = Arc::new(Notify::new());
        let number = table.tick();
        let taken = Taken {
            known: false,
            busy: false,
            leaves: false,
            since: number,
            since_time: now,
            leave: Arc::clone(&leave),
        };
        table.taken.insert(number, taken);
        Ok(Place {
            places: Arc::clone(self),
            number,
            leave,
            begun: AtomicBool::new(false),
            streams: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    /// The system gives no connection any more: a few strangers are told to leave.
    pub(super) fn make_room(&self) {
        let mut table = self.table();
        for _ in 0..ROOM {
            if table.evict_stranger(Instant::now()).is_err() {
                return;
            }
        }
    }

    /// Done when nobody has a place any more.
    pub(super) async fn all_left(&self) {
        loop {
            let freed = self.freed.notified();
            if self.table().taken.is_empty() {
                return;
            }
            freed.await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn staying(&self) -> impl Iterator<Item = &Taken> {
        self.taken.values().filter(|it| !it.leaves)
    }

    fn count(&self, known: bool) -> usize {
        self.staying().filter(|it| it.known == known).count()
    }

    /// Tells a stranger to leave, one with a request under way last.
    ///
    /// # Errors
    /// None has been as it is for long enough: how long to wait.
    fn evict_stranger(&mut self, now: Instant) -> Result<(), Duration> {
        let age = |it: &Taken| now.saturating_duration_since(it.since_time);
        let strangers = self.taken.values_mut();
        let strangers = strangers.filter(|it| !it.known && !it.leaves);
        // All of the idle ones go before the busy ones, if they have had their time.
        let first = strangers.min_by_key(|it| {
            let is_new = age(it) < GRACE;
            (is_new, it.busy, it.since)
        });
        let Some(first) = first else {
            return Ok(());
        };
        let left = GRACE.saturating_sub(age(first));
        if !left.is_zero() {
            return Err(left);
        }
        first.leaves = true;
        first.leave.notify_one();
        Ok(())
    }

    /// Tells the known connection to leave that has been idle for longest. Returns whether there is
    /// one.
    fn evict_known(&mut self) -> bool {
        let idle = self.taken.values_mut();
        let idle = idle.filter(|it| it.known && !it.busy && !it.leaves);
        let first = idle.min_by_key(|it| it.since);
        first.is_some_and(|first| {
            first.leaves = true;
            first.leave.notify_one();
            true
        })
    }
}

impl Place {
    /// Done when the connection has been told to leave.
    pub(super) async fn told(&self) {
        self.leave.notified().await;
    }

    /// Whether it has to: no request has come in the meantime. Its place is another's then.
    pub(super) fn must_leave(&self) -> bool {
        if self.ended.load(Ordering::Relaxed) {
            return true;
        }
        let mut table = self.places.table();
        let has_to = table.taken.get(&self.number).is_some_and(|it| it.leaves);
        if has_to {
            table.taken.remove(&self.number);
        }
        has_to
    }

    /// Whether a request has ever begun here.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// What is answered is a stream, which lasts: streams have places of their own, and this one is
    /// free.
    pub(super) fn begin_stream(&self) {
        self.streams.store(true, Ordering::Relaxed);
        self.places.table().taken.remove(&self.number);
        self.places.freed.notify_waiters();
    }

    /// The connection is cut off: its client takes nothing any more.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.leave.notify_one();
    }

    /// Whether what is answered is a stream.
    pub(super) fn streams(&self) -> bool {
        self.streams.load(Ordering::Relaxed)
    }

    /// A request is under way, or no longer. Whoever has one stays.
    pub(super) fn set_busy(&self, busy: bool) {
        self.begun.fetch_or(busy, Ordering::Relaxed);
        let mut table = self.places.table();
        let since = table.tick();
        if let Some(taken) = table.taken.get_mut(&self.number) {
            taken.busy = busy;
            taken.leaves = false;
            taken.since = since;
            taken.since_time = Instant::now();
        }
    }

    /// The request under way has shown the token. `false`: as many of those as may be are under
    /// way.
    #[must_use]
    pub(super) fn set_known(&self) -> bool {
        let mut table = self.places.table();
        let others = table.taken.iter().filter(|(it, _)| **it != self.number);
        if others.filter(|(_, it)| it.known && it.busy).count() >= REQUESTS_MAX {
            return false;
        }
        if table.taken.get(&self.number).is_none_or(|it| it.known) {
            return true;
        }
        if table.count(true) >= KNOWN_MAX && !table.evict_known() {
            return false;
        }
        if let Some(taken) = table.taken.get_mut(&self.number) {
            taken.known = true;
            taken.leaves = false;
        }
        // There is room for a stranger.
        self.places.freed.notify_waiters();
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().taken.remove(&self.number);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the place has been given to another.
    fn is_lost(place: &Place) -> bool {
        let table = place.places.table();
        table.taken.get(&place.number).is_none_or(|it| it.leaves)
    }

    /// Takes places at a time when whoever has one has had it for long enough.
    fn take(places: &Arc<Places>, count: usize) -> Vec<Place> {
        let now = Instant::now() + 10 * GRACE;
        let take = |_| places.try_take(now).ok().unwrap();
        (0..count).map(take).collect()
    }

    /// Takes places that nobody has to leave for, now.
    fn first(places: &Arc<Places>, count: usize) -> Vec<Place> {
        let now = Instant::now();
        let take = |_| places.try_take(now).ok().unwrap();
        (0..count).map(take).collect()
    }

    #[test]
    fn the_longest_idle_stranger_gives_way_and_a_busy_one_last() {
        let places = Arc::new(Places::default());
        let strangers = first(&places, STRANGERS_MAX);
        strangers[0].set_busy(true);
        strangers[1].set_busy(true);
        strangers[1].set_busy(false);
        let _more = take(&places, STRANGERS_MAX - 2);
        let lost: Vec<_> = strangers.iter().map(is_lost).collect();
        assert_eq!(lost[..2], [false, false]);
        assert!(lost[2..].iter().all(|lost| *lost));
        let _more = take(&places, 1);
        assert!(is_lost(&strangers[1]) && !is_lost(&strangers[0]));
        assert!(strangers[1].must_leave() && !strangers[0].must_leave());
        // All others are new: the busy one is all there is.
        let _more = take(&places, 1);
        assert!(is_lost(&strangers[0]));
        assert_eq!(places.table().count(false), STRANGERS_MAX);
    }

    #[test]
    fn nobody_gives_way_before_its_request_can_have_come() {
        let places = Arc::new(Places::default());
        let now = Instant::now();
        let strangers = first(&places, STRANGERS_MAX);
        let wait = places.try_take(now).err().unwrap();
        assert!(wait >= GRACE, "{wait:?}");
        places.make_room();
        assert!(!strangers.iter().any(is_lost));
    }

    #[tokio::test]
    async fn whose_request_comes_before_it_has_left_stays() {
        let places = Arc::new(Places::default());
        let strangers = first(&places, STRANGERS_MAX);
        let _next = take(&places, 2);
        assert!(is_lost(&strangers[0]) && is_lost(&strangers[1]));
        strangers[0].told().await;
        strangers[0].set_busy(true);
        assert!(!strangers[0].must_leave() && strangers[0].set_known());
        assert!(strangers[1].must_leave() && !is_lost(&strangers[0]));
        // A stream has no place that it could lose, and can be cut off.
        strangers[0].begin_stream();
        assert!(!strangers[0].must_leave());
        strangers[0].end();
        strangers[0].told().await;
        assert!(strangers[0].must_leave());
    }

    #[tokio::test]
    async fn who_waits_for_a_place_has_the_first_that_is_free() {
        let places = Arc::new(Places::default());
        let mut strangers = first(&places, STRANGERS_MAX);
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        tokio::task::yield_now().await;
        strangers.truncate(STRANGERS_MAX - 1);
        let _place = waiting.await.unwrap();
        assert!(places.table().count(false) <= STRANGERS_MAX);
    }

    #[test]
    fn no_stranger_takes_the_place_of_one_who_has_shown_the_token() {
        let places = Arc::new(Places::default());
        let one_known = |_| {
            let place = first(&places, 1).remove(0);
            assert!(place.set_known());
            place
        };
        let known: Vec<_> = (0..KNOWN_MAX).map(one_known).collect();
        let _strangers = first(&places, STRANGERS_MAX - 1);
        // Among themselves the idle give way, and those at work do not.
        let next = one_known(0);
        assert!(is_lost(&known[0]));
        let strangers = take(&places, STRANGERS_MAX);
        assert!(!known[1..].iter().any(is_lost) && !is_lost(&next));
        drop(strangers);
        let at_work = &known[1..=REQUESTS_MAX];
        at_work.iter().for_each(|place| place.set_busy(true));
        assert!(!take(&places, 1)[0].set_known());
        assert!(!next.set_known(), "so many requests are under way");
        at_work[0].set_busy(false);
        assert!(next.set_known() && !at_work.iter().any(is_lost));
    }

    #[tokio::test]
    async fn all_have_left_when_the_last_place_is_free() {
        let places = Arc::new(Places::default());
        places.all_left().await;
        let place = places.take().await;
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.all_left().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(place);
        waiting.await.unwrap();
    }
}
