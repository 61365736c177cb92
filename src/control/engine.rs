//! Carries changes out: durable in the store, then in force on every shard, then answered.
//!
//! Changes run one at a time, so snapshot versions reach the shards in order. Reads never wait
//! for a change: they see the registry of the last one that was answered. Nothing here blocks:
//! the store has a thread of its own, and the ledger is locked for a moment and never across an
//! await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::change::{Change, decide};
use super::error::ControlError;
use super::ledger::Ledger;
use super::outcome::Outcome;
use super::registry::Registry;
use super::shards::Shards;
use super::store::Edit;
use super::wall_clock::{Clocks, WallClock};
use super::writer::{StoreWriter, WriterState};
use crate::domain::declared::Declared;
use crate::domain::usage::UsageDelta;

/// A store that has been writing for so long makes the node unready: changes wait for it.
const WRITING_TIME_MAX: Duration = Duration::from_secs(10);

/// Changes that wait for those before them; more are refused. Whoever asked may have given up
/// and asked again, and each waits all the same.
const WAITING_MAX: usize = 128;

/// The control plane's state, shared by the admin API and the control loop.
pub struct Engine {
    registry: RwLock<Arc<Registry>>,
    books: Mutex<Books>,
    store: StoreWriter,
    /// Held for the whole of a change, and while usage is written down.
    change: tokio::sync::Mutex<()>,
    waiting: Semaphore,
    shards: Arc<dyn Shards>,
    clock: Clocks,
}

/// What has been used, and the time by which it is counted.
struct Books {
    ledger: Ledger,
    wall_clock: WallClock,
}

impl Engine {
    /// With what was opened.
    pub fn new(
        registry: Arc<Registry>,
        store: StoreWriter,
        ledger: Ledger,
        shards: Arc<dyn Shards>,
        clock: Clocks,
    ) -> Self {
        let wall_clock = WallClock::default();
        Self {
            registry: RwLock::new(registry),
            books: Mutex::new(Books { ledger, wall_clock }),
            store,
            change: tokio::sync::Mutex::new(()),
            waiting: Semaphore::new(WAITING_MAX),
            shards,
            clock,
        }
    }

    /// Apps and keys as of the last answered change.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The shards.
    #[must_use]
    pub fn shards(&self) -> &dyn Shards {
        &*self.shards
    }

    /// The store's state.
    #[must_use]
    pub fn store(&self) -> &WriterState {
        self.store.state()
    }

    /// Why the node is not ready, if it is not.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if let Some(failure) = self.store().failure() {
            return Some(failure);
        }
        let slow = self
            .store()
            .writing_for()
            .filter(|it| *it >= WRITING_TIME_MAX);
        slow.map(writing_for).or_else(|| self.shards.unready())
    }

    /// Carries a change out. Returns when it is durable and the last shard has switched.
    ///
    /// Not cancel safe: run it to its end in a task of its own, or the shards may be left
    /// without a snapshot that the store has.
    ///
    /// # Errors
    /// Those of [`decide`]; `Unavailable` when the store fails or too many changes wait, and
    /// nothing has changed then.
    pub async fn change(&self, change: Change) -> Result<Outcome, ControlError> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            let text = format!("{WAITING_MAX} changes wait already; is the disk slow?");
            return Err(ControlError::Unavailable(text));
        };
        let _turn = self.change.lock().await;
        let registry = self.registry();
        let decision = decide(&registry, change, (self.clock)().unix_ms)?;
        let next = Arc::new(registry.edited(&decision.edits)?);
        self.store.write(decision.edits.clone(), registry).await?;
        self.put_in_force(next, &decision.edits).await;
        Ok(decision.outcome)
    }

    /// Replaces the declared apps. Returns when the last shard has switched.
    ///
    /// Not cancel safe, as [`change`](Self::change).
    ///
    /// # Errors
    /// Those of [`Registry::redeclared`], and nothing has changed then.
    pub async fn redeclare(&self, declared: Declared) -> Result<(), ControlError> {
        let _turn = self.change.lock().await;
        let next = Arc::new(self.registry().redeclared(&declared)?);
        self.put_in_force(next, &[]).await;
        Ok(())
    }

    /// Adds up what shards have counted.
    pub fn merge_usage(&self, deltas: &[UsageDelta]) {
        self.books().ledger.merge(deltas);
    }

    /// Takes in peaks and begins periods. Call it once a second, and when a period is due.
    /// Returns how long it is until the next one is, if there is any.
    pub fn tick(&self) -> Option<Duration> {
        let mut books = self.books();
        let now_ms = books.now_ms(&self.clock);
        books.ledger.tick(now_ms / 1_000);
        let due_ms = books.ledger.next_period_unix()?.saturating_mul(1_000);
        Some(Duration::from_millis(due_ms.saturating_sub(now_ms)))
    }

    /// Writes down what has been used. A failing store is written all the same, to find out
    /// whether it still fails, and what could not be written is tried again the next time.
    pub async fn save_usage(&self) {
        let _turn = self.change.lock().await;
        self.save().await;
    }

    /// Waits for the change under way, writes down what has been used and closes the store.
    /// What comes later is answered with `Unavailable`.
    pub async fn end(&self) {
        let _turn = self.change.lock().await;
        self.tick();
        self.save().await;
        self.store.close().await;
    }

    /// Within [`change`](Self::change): the usage of an app that is being deleted must not be
    /// written behind its deletion.
    async fn save(&self) {
        let failing = self.store().has_failed();
        let edits = {
            let ledger = &mut self.books().ledger;
            if failing {
                // What of it the store has is not known.
                ledger.mark_unsaved();
            }
            ledger.take_unsaved()
        };
        if edits.is_empty() && !failing {
            return;
        }
        if self.store.write(edits, self.registry()).await.is_err() {
            // It has been logged.
            self.books().ledger.mark_unsaved();
        }
    }

    async fn put_in_force(&self, next: Arc<Registry>, edits: &[Edit]) {
        {
            let mut books = self.books();
            for edit in edits {
                if let Edit::DeleteApp(app_id) = edit {
                    books.ledger.forget(app_id);
                }
            }
            // Before the shards switch: they may report a new app's usage at once.
            let now_unix = books.now_ms(&self.clock) / 1_000;
            books.ledger.follow(&next, now_unix);
        }
        self.shards.switch(Arc::new(next.rights())).await;
        *self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// The believed Unix time in milliseconds.
    fn now_ms(&mut self, clock: &Clocks) -> u64 {
        self.wall_clock.believed_ms(clock())
    }
}

/// For people who ask whether the node is well.
#[must_use]
pub fn writing_for(time: Duration) -> String {
    format!(
        "the store has been writing for {} s: the disk is slow",
        time.as_secs()
    )
}

#[cfg(test)]
mod tests;
