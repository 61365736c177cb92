//! Carries changes out: durable in the store, then in force on every shard, then answered.
//!
//! Changes run one at a time, so snapshot versions reach the shards in order. Reads never wait
//! for a change: they see the registry of the last one that was answered. The books (store and
//! ledger) are locked for the moment of a write and never across an await.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::ControlError;
use super::declared::Declared;
use super::operation::{Operation, Outcome, plan};
use super::registry::Registry;
use super::shards::Shards;
use super::store::{Edit, Store, StoreError};
use super::usage::Ledger;
use crate::domain::usage::UsageDelta;

/// The control plane's state, shared by the admin API and the control loop.
pub struct Engine {
    registry: RwLock<Arc<Registry>>,
    books: Mutex<Books>,
    /// Held for the whole of a change.
    change: tokio::sync::Mutex<()>,
    shards: Arc<dyn Shards>,
    clock: fn() -> u64,
    store_writes: AtomicU64,
    store_failed: AtomicBool,
}

/// What is written down.
pub struct Books {
    /// `None` after the end.
    pub store: Option<Store>,
    /// What has been used.
    pub ledger: Ledger,
}

impl Engine {
    /// With what was opened. `clock` answers Unix time in milliseconds.
    pub fn new(
        registry: Arc<Registry>,
        books: Books,
        shards: Arc<dyn Shards>,
        clock: fn() -> u64,
    ) -> Self {
        Self {
            registry: RwLock::new(registry),
            books: Mutex::new(books),
            change: tokio::sync::Mutex::new(()),
            shards,
            clock,
            store_writes: AtomicU64::new(0),
            store_failed: AtomicBool::new(false),
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

    /// Transactions of the store since the start.
    #[must_use]
    pub fn store_writes(&self) -> u64 {
        self.store_writes.load(Ordering::Relaxed)
    }

    /// Why the node is not ready, if it is not.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if self.store_failed.load(Ordering::Relaxed) {
            return Some("the store cannot be written; see the log".into());
        }
        self.shards.unready()
    }

    /// Carries a change out. Answers when it is durable and the last shard has switched.
    ///
    /// Not cancel safe: run it to its end in a task of its own, or the shards may be left
    /// without a snapshot that the store has.
    ///
    /// # Errors
    /// Those of [`plan`]; `Unavailable` when the store fails, and nothing has changed then.
    pub async fn change(&self, operation: Operation) -> Result<Outcome, ControlError> {
        let _turn = self.change.lock().await;
        let registry = self.registry();
        let change = plan(&registry, operation, (self.clock)())?;
        let next = Arc::new(registry.edited(&change.edits)?);
        self.write(&change.edits)?;
        self.put_in_force(next, &change.edits).await;
        Ok(change.outcome)
    }

    /// Replaces the declared apps. Answers when the last shard has switched.
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

    /// Takes in peaks and begins periods. Call it once a second.
    pub fn tick(&self) {
        self.books().ledger.tick((self.clock)() / 1_000);
    }

    /// Writes down what has been used. A failing store is tried again the next time.
    pub fn save_usage(&self) {
        let edits = self.books().ledger.take_unsaved();
        if !edits.is_empty() && self.write(&edits).is_err() {
            self.books().ledger.mark_unsaved();
        }
    }

    /// Waits for the change under way, writes down what has been used and closes the store.
    /// What comes later is answered with `Unavailable`.
    pub async fn end(&self) {
        let _turn = self.change.lock().await;
        self.tick();
        self.save_usage();
        self.books().store = None;
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
            books.ledger.follow(&next, (self.clock)() / 1_000);
        }
        self.shards.switch(Arc::new(next.rights())).await;
        *self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn write(&self, edits: &[Edit]) -> Result<(), ControlError> {
        let mut books = self.books();
        let Some(store) = &mut books.store else {
            return Err(ControlError::Unavailable(
                "the server is shutting down".into(),
            ));
        };
        let result: Result<(), StoreError> = store.commit(edits);
        self.store_writes.store(store.commits(), Ordering::Relaxed);
        self.store_failed.store(result.is_err(), Ordering::Relaxed);
        result.map_err(|error| {
            tracing::error!(%error, "store");
            error.into()
        })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
