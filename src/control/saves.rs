//! When usage is written down: never twice at once, and more seldom the longer it takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle as Task;
use tokio::time::Instant;

use super::engine::{Engine, writing_for};

/// Usage is written to the store this often: what a crash may lose.
pub(super) const SAVE_EVERY: Duration = Duration::from_secs(5);
/// A failing store is tried again this often.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// A save is at most this part of the time, so that a slow disk is left some.
const SAVE_PART: u32 = 10;
/// Usage is written this often, however slow the disk is.
pub(super) const SAVE_EVERY_MAX: Duration = Duration::from_secs(120);
/// A write that has been under way for so long is told about.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// See the top of this file.
pub(super) struct Saves {
    next: Instant,
    under_way: Option<Task<()>>,
}

impl Saves {
    pub(super) fn new() -> Self {
        Self {
            next: Instant::now() + SAVE_EVERY,
            under_way: None,
        }
    }

    pub(super) fn tick(&mut self, engine: &Arc<Engine>) {
        let store = engine.store();
        if let Some(writing) = store.writing_for().filter(|it| *it >= TOLD_AFTER) {
            warn_of_slow_write(writing);
        }
        if let Some(task) = &self.under_way {
            if !task.is_finished() {
                return;
            }
            self.under_way = None;
            self.next = Instant::now() + save_pause(store.last(), store.has_failed());
        }
        if store.has_failed() {
            let soon = Instant::now() + save_pause(store.last(), true);
            self.next = self.next.min(soon);
        }
        if Instant::now() >= self.next {
            let engine = Arc::clone(engine);
            self.under_way = Some(tokio::spawn(async move { engine.save_usage().await }));
        }
    }
}

/// How long after a save that took so long the next one begins.
pub(super) fn save_pause(took: Duration, failed: bool) -> Duration {
    let least = if failed { RETRY_EVERY } else { SAVE_EVERY };
    took.saturating_mul(SAVE_PART).clamp(least, SAVE_EVERY_MAX)
}

/// Once at the first second, then at each power of two of them.
fn warn_of_slow_write(writing: Duration) {
    if writing.as_secs().is_power_of_two() {
        tracing::warn!(
            "{}; changes of apps and keys wait for it",
            writing_for(writing)
        );
    }
}
