//! The least important level that is logged, changeable while other threads log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// From the most important to the least.
const LEVELS: [Level; 5] = [
    Level::ERROR,
    Level::WARN,
    Level::INFO,
    Level::DEBUG,
    Level::TRACE,
];

/// Lets events of that level and of the more important ones pass. Clones share the level.
#[derive(Clone)]
pub(super) struct LevelGate {
    /// Index into [`LEVELS`].
    least_important: Arc<AtomicUsize>,
}

impl LevelGate {
    pub(super) fn new(level: Level) -> Self {
        let gate = Self {
            least_important: Arc::default(),
        };
        gate.set(level);
        gate
    }

    pub(super) fn set(&self, level: Level) {
        let index = LEVELS.iter().take_while(|more| **more < level).count();
        self.least_important.store(index, Ordering::Release);
        // Every call site remembers whether it is enabled: ask again.
        tracing::callsite::rebuild_interest_cache();
    }

    fn level(&self) -> Level {
        // `set` stores how many levels are more important than one of them: at most 4.
        LEVELS[self.least_important.load(Ordering::Acquire)]
    }
}

impl<S: Subscriber> Layer<S> for LevelGate {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() <= self.level() {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level()))
    }
}
