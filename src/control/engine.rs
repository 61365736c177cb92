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
use super::credential::secret_key;
use super::error::ControlError;
use super::ledger::{Ledger, Passed};
use super::outcome::Outcome;
use super::registry::Registry;
use super::shards::Shards;
use super::store::{Edit, Snapshot};
use super::wall_clock::{Clocks, WallClock};
use super::writer::{StoreWriter, WriterState};
use crate::domain::declared::Declared;
use crate::domain::rights::{Key, Rights, beginning};
use crate::domain::time::Now;
use crate::domain::usage::UsageDelta;
use crate::events::author::Author;
use crate::events::kind::{AuthorKind, Cause, Kind};
use crate::events::record::Record;

/// A store that has been writing for so long makes the node unready: changes wait for it.
const WRITING_TIME_MAX: Duration = Duration::from_secs(10);

/// Changes that wait for those before them; more are refused. Whoever asked may have given up
/// and asked again, and each waits all the same.
const WAITING_MAX: usize = 128;

/// The control plane's state, shared by the admin API and the control loop.
pub(super) struct Engine {
    registry: RwLock<Arc<Registry>>,
    /// The same as the shards have it.
    rights: RwLock<Arc<Rights>>,
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
    pub(super) fn new(
        registry: Arc<Registry>,
        store: StoreWriter,
        ledger: Ledger,
        shards: Arc<dyn Shards>,
        clock: Clocks,
    ) -> Self {
        let wall_clock = WallClock::default();
        Self {
            rights: RwLock::new(Arc::new(registry.rights())),
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
    pub(super) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The secret key that a credential of the REST API proves: an API secret, or a key's id and
    /// signing secret with a colon between.
    #[must_use]
    pub(super) fn secret_key(&self, credential: &str) -> Option<Arc<Key>> {
        let rights = self.rights.read().unwrap_or_else(PoisonError::into_inner);
        secret_key(&rights, credential, self.now_unix_ms()).cloned()
    }

    /// The shards.
    #[must_use]
    pub(super) fn shards(&self) -> &dyn Shards {
        &*self.shards
    }

    /// Both clocks.
    #[must_use]
    pub(super) fn now(&self) -> Now {
        (self.clock)()
    }

    /// The wall clock, in Unix milliseconds.
    #[must_use]
    pub(super) fn now_unix_ms(&self) -> u64 {
        (self.clock)().unix_ms
    }

    /// The store's state.
    #[must_use]
    pub(super) fn store(&self) -> &WriterState {
        self.store.state()
    }

    /// Why the node is not ready, if it is not.
    #[must_use]
    pub(super) fn unready(&self) -> Option<String> {
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
    pub(super) async fn change(&self, change: Change, by: Author) -> Result<Outcome, ControlError> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            let text = format!("{WAITING_MAX} changes wait already; is the disk slow?");
            return Err(ControlError::Unavailable(text));
        };
        let _turn = self.change.lock().await;
        let registry = self.registry();
        let (cause, fields) = change.told();
        let decision = decide(&registry, change, (self.clock)().unix_ms)?;
        let next = Arc::new(registry.edited(&decision.edits)?);
        self.store.write(decision.edits.clone(), registry).await?;
        let closed = self.put_in_force(next, &decision.edits).await;
        self.record_change(cause, &decision.edits, &fields, (closed, &by));
        Ok(decision.outcome)
    }

    /// Replaces the declared apps. Returns when the last shard has switched.
    ///
    /// Not cancel safe, as [`change`](Self::change).
    ///
    /// # Errors
    /// Those of [`Registry::redeclared`], and nothing has changed then.
    pub(super) async fn redeclare(&self, declared: Declared) -> Result<(), ControlError> {
        let _turn = self.change.lock().await;
        let next = Arc::new(self.registry().redeclared(&declared)?);
        let closed = self.put_in_force(next, &[]).await;
        let by = Author::local(AuthorKind::Configuration);
        self.record_change(Cause::Declared, &[], "", (closed, &by));
        Ok(())
    }

    fn record_change(
        &self,
        cause: Cause,
        edits: &[Edit],
        fields: &str,
        (closed, by): (u64, &Author),
    ) {
        let object = edits.iter().find_map(|edit| match edit {
            Edit::PutApp(row) => Some(shown(&row.record.app_id)),
            Edit::PutKey(row) => Some(shown(&row.record.key_id)),
            Edit::DeleteApp(id) | Edit::DeleteKey(id) => Some(shown(id)),
            Edit::PutUsage(_) => None,
        });
        let numbers = [closed, by.session_number()];
        let record = Record {
            numbers: &numbers,
            first: object.as_deref().unwrap_or_default(),
            second: fields,
            ..Record::new(Kind::Rights, cause)
        };
        self.shards.events().record(&record.by(by));
    }

    /// Returns the store as it is now, with what has been used so far.
    ///
    /// # Errors
    /// `Unavailable`: the store cannot be read, or is closed.
    pub(super) async fn snapshot(&self, by: &Author) -> Result<Snapshot, ControlError> {
        self.save_usage().await;
        let snapshot = self.store.snapshot().await?;
        let numbers = [by.session_number()];
        let record = Record {
            numbers: &numbers,
            first: "backup",
            ..Record::new(Kind::Admin, Cause::Backup)
        };
        self.shards.events().record(&record.by(by));
        Ok(snapshot)
    }

    /// Adds up what shards have counted.
    pub(super) fn merge_usage(&self, deltas: &[UsageDelta]) {
        let passed = self.books().ledger.merge(deltas);
        for Passed {
            app,
            used,
            allowed,
            is_all,
        } in passed
        {
            let cause = match is_all {
                true => Cause::QuotaReached,
                false => Cause::QuotaNear,
            };
            let numbers = [used, allowed];
            let record = Record {
                app: Some(app),
                numbers: &numbers,
                first: "messages",
                ..Record::new(Kind::Quota, cause)
            };
            self.shards.events().record(&record);
        }
    }

    /// Takes in peaks and begins periods. Call it once a second, and when a period is due.
    /// Returns how long it is until the next one is, if there is any.
    pub(super) fn tick(&self) -> Option<Duration> {
        let mut books = self.books();
        let now_ms = books.now_ms(&self.clock);
        books.ledger.tick(now_ms / 1_000);
        let due_ms = books.ledger.next_period_unix()?.saturating_mul(1_000);
        Some(Duration::from_millis(due_ms.saturating_sub(now_ms)))
    }

    /// Writes down what has been used. A failing store is written all the same, to find out
    /// whether it still fails, and what could not be written is tried again the next time.
    pub(super) async fn save_usage(&self) {
        let _turn = self.change.lock().await;
        self.save().await;
    }

    /// Waits for the change under way, writes down what has been used and closes the store.
    /// What comes later is answered with `Unavailable`.
    pub(super) async fn end(&self) {
        let _turn = self.change.lock().await;
        self.tick();
        self.save().await;
        self.store.close().await;
    }

    /// Writes usage down, tells a copy of the store, and keeps changes waiting until the store is
    /// given up, and then told to be closed, or nobody can say so any more.
    pub(super) async fn hold(
        &self,
        copied: &flume::Sender<Result<Vec<u8>, ControlError>>,
        given_up: &flume::Receiver<flume::Sender<()>>,
    ) {
        let _turn = self.change.lock().await;
        self.tick();
        self.save().await;
        let copy = self.store.copy().await;
        if copied.send(copy).is_err() {
            return;
        }
        if let Ok(closed) = given_up.recv_async().await {
            self.store.close().await;
            // Whoever asked may have given up.
            let _ = closed.send(());
        }
    }

    /// What all apps have used, for another process.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be written.
    pub(super) fn usage(&self) -> Result<Vec<u8>, ControlError> {
        self.tick();
        let rows = self.books().ledger.rows();
        let failed = |error: serde_json::Error| ControlError::Unavailable(error.to_string());
        serde_json::to_vec(&rows).map_err(failed)
    }

    /// Goes on with what apps have used in another process.
    ///
    /// # Errors
    /// `Invalid`: it cannot be read.
    pub(super) fn adopt_usage(&self, usage: &[u8]) -> Result<(), ControlError> {
        let rows = serde_json::from_slice(usage);
        let rows = rows.map_err(|error| ControlError::Invalid(format!("usage: {error}")))?;
        let mut books = self.books();
        let now_unix = books.now_ms(&self.clock) / 1_000;
        books.ledger = Ledger::new(rows);
        books.ledger.follow(&self.registry(), now_unix);
        // The process before has not written all of it.
        books.ledger.mark_unsaved();
        Ok(())
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

    /// Returns how many connections were closed for it.
    async fn put_in_force(&self, next: Arc<Registry>, edits: &[Edit]) -> u64 {
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
        let rights = Arc::new(next.rights());
        let closed = self.shards.switch(Arc::clone(&rights)).await;
        *self.rights.write().unwrap_or_else(PoisonError::into_inner) = rights;
        *self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner) = next;
        closed
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
pub(super) fn writing_for(time: Duration) -> String {
    format!(
        "the store has been writing for {} s: the disk is slow",
        time.as_secs()
    )
}

/// What is told of an id: a publishable key is a credential, of which only the beginning is.
fn shown(id: &str) -> String {
    match id.starts_with("pk_live_") {
        true => beginning(id),
        false => id.to_owned(),
    }
}

#[cfg(test)]
mod tests;
