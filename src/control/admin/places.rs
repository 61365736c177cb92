//! The places of the admin listener, and which connection gives way when they run out.
//!
//! Anybody who reaches the port may take a place, so a stranger's place is worth little: when all
//! are taken, the connection that has been idle for longest gives way to the next, and if none is
//! idle the oldest. A client that has shown the token has one of a set of places that no stranger
//! can take.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Connections that have not shown the token.
pub const STRANGERS_MAX: usize = 64;
/// Connections that have.
pub const KNOWN_MAX: usize = 64;

/// All places.
#[derive(Default)]
pub struct Places {
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
    /// Rises with everything that happens: the lowest has been as it is for longest.
    since: u64,
    leave: Arc<Notify>,
}

/// A connection's place; free again when dropped.
pub struct Place {
    places: Arc<Places>,
    number: u64,
    leave: Arc<Notify>,
    begun: AtomicBool,
}

impl Places {
    /// A place for a new connection, which is a stranger's. Another may have to leave for it.
    pub fn take(self: &Arc<Self>) -> Place {
        let leave = Arc::new(Notify::new());
        let mut table = self.table();
        if table.count(false) >= STRANGERS_MAX {
            table.evict(false, true);
        }
        let number = table.tick();
        let taken = Taken {
            known: false,
            busy: false,
            since: number,
            leave: Arc::clone(&leave),
        };
        table.taken.insert(number, taken);
        Place {
            places: Arc::clone(self),
            number,
            leave,
            begun: AtomicBool::new(false),
        }
    }

    /// Done when nobody has a place any more.
    pub async fn all_left(&self) {
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

    fn count(&self, known: bool) -> usize {
        self.taken.values().filter(|it| it.known == known).count()
    }

    /// Sends one away; those with a request under way only if they may be, and last. Returns
    /// whether there was one.
    fn evict(&mut self, known: bool, busy_too: bool) -> bool {
        let among = self.taken.iter();
        let among = among.filter(|(_, it)| it.known == known && (busy_too || !it.busy));
        let first = among.min_by_key(|(_, it)| (it.busy, it.since));
        let Some(number) = first.map(|(number, _)| *number) else {
            return false;
        };
        if let Some(taken) = self.taken.remove(&number) {
            taken.leave.notify_one();
        }
        true
    }
}

impl Place {
    /// Done when the place has been given to another.
    pub async fn lost(&self) {
        self.leave.notified().await;
    }

    /// Whether a request has ever begun here.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// A request is under way, or no longer.
    pub fn set_busy(&self, busy: bool) {
        self.begun.fetch_or(busy, Ordering::Relaxed);
        let mut table = self.places.table();
        let since = table.tick();
        if let Some(taken) = table.taken.get_mut(&self.number) {
            taken.busy = busy;
            taken.since = since;
        }
    }

    /// It has shown the token. `false`: all places of those who have are taken by requests
    /// under way.
    #[must_use]
    pub fn set_known(&self) -> bool {
        let mut table = self.places.table();
        if table.taken.get(&self.number).is_none_or(|it| it.known) {
            return true;
        }
        if table.count(true) >= KNOWN_MAX && !table.evict(true, false) {
            return false;
        }
        if let Some(taken) = table.taken.get_mut(&self.number) {
            taken.known = true;
        }
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
        !place.places.table().taken.contains_key(&place.number)
    }

    fn take(places: &Arc<Places>, count: usize) -> Vec<Place> {
        (0..count).map(|_| places.take()).collect()
    }

    #[test]
    fn the_longest_idle_stranger_gives_way_and_a_busy_one_last() {
        let places = Arc::new(Places::default());
        let strangers = take(&places, STRANGERS_MAX);
        strangers[0].set_busy(true);
        strangers[1].set_busy(true);
        strangers[1].set_busy(false);
        let _more = take(&places, STRANGERS_MAX - 2);
        let lost: Vec<_> = strangers.iter().map(is_lost).collect();
        assert_eq!(lost[..2], [false, false]);
        assert!(lost[2..].iter().all(|lost| *lost));
        let _more = take(&places, 1);
        assert!(is_lost(&strangers[1]) && !is_lost(&strangers[0]));
        let full = take(&places, STRANGERS_MAX - 1);
        full.iter().for_each(|place| place.set_busy(true));
        assert!(!is_lost(&strangers[0]));
        let _last = places.take();
        assert!(is_lost(&strangers[0]) && !full.iter().any(is_lost));
        assert_eq!(places.table().taken.len(), STRANGERS_MAX);
    }

    #[test]
    fn no_stranger_takes_the_place_of_one_who_has_shown_the_token() {
        let places = Arc::new(Places::default());
        let known = take(&places, KNOWN_MAX);
        assert!(known.iter().all(Place::set_known));
        let _strangers = take(&places, 3 * STRANGERS_MAX);
        assert!(!known.iter().any(is_lost));
        // Among themselves the idle give way, and those at work do not.
        let next = places.take();
        assert!(next.set_known() && is_lost(&known[0]));
        known.iter().for_each(|place| place.set_busy(true));
        next.set_busy(true);
        assert!(!places.take().set_known());
        assert!(next.set_known(), "it is known already");
    }

    #[tokio::test]
    async fn all_have_left_when_the_last_place_is_free() {
        let places = Arc::new(Places::default());
        places.all_left().await;
        let place = places.take();
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
