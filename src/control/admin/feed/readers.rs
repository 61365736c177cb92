//! How many may follow at a time, and how often they may ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::control::admin::answer::Failure;
use crate::domain::token_bucket::{BucketLimits, TokenBucket};
use crate::ids::AppIndex;

/// Readers of one app.
const PER_APP_MAX: usize = 4;
/// Readers of all apps.
const ALL_MAX: usize = 64;
/// How often those of one app may ask; beyond that each waits for a moment first.
const ASKS: BucketLimits = BucketLimits {
    rate_per_sec: 20,
    burst: 40,
};
/// Apps that are remembered although nobody reads; more are forgotten.
const IDLE_MAX: usize = 1_024;

/// All readers.
pub(crate) struct Readers {
    apps: Mutex<HashMap<AppIndex, Of>>,
    began: Instant,
}

/// The readers of an app.
struct Of {
    open: usize,
    asks: TokenBucket,
}

/// One of them, until it is dropped.
pub(super) struct Reader {
    readers: Arc<Readers>,
    app: AppIndex,
    is_too_fast: bool,
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            apps: Mutex::default(),
            began: Instant::now(),
        }
    }
}

impl Readers {
    fn apps(&self) -> MutexGuard<'_, HashMap<AppIndex, Of>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one more read an app's feed.
    ///
    /// # Errors
    /// 429: there are as many as may be.
    pub(super) fn admit(self: &Arc<Self>, app: AppIndex) -> Result<Reader, Failure> {
        let now_ms = self.began.elapsed().as_millis() as u64;
        let mut apps = self.apps();
        if apps.values().map(|it| it.open).sum::<usize>() >= ALL_MAX {
            let text = format!("{ALL_MAX} readers follow feeds, as many as may; try again");
            return Err(Failure::busy(text));
        }
        if apps.len() > IDLE_MAX {
            apps.retain(|_, it| it.open > 0);
        }
        let of = apps.entry(app).or_insert_with(|| Of {
            open: 0,
            asks: TokenBucket::new(now_ms),
        });
        if of.open >= PER_APP_MAX {
            let text = format!("{PER_APP_MAX} readers follow this app, as many as may; try again");
            return Err(Failure::busy(text));
        }
        of.open += 1;
        Ok(Reader {
            readers: Arc::clone(self),
            app,
            is_too_fast: !of.asks.try_take(now_ms, &ASKS),
        })
    }
}

impl Reader {
    /// Whether the app's readers ask so often that this one is to wait.
    pub(super) fn is_too_fast(&self) -> bool {
        self.is_too_fast
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(of) = self.readers.apps().get_mut(&self.app) {
            of.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_some_readers_and_all_apps_have_more() {
        let readers = Arc::new(Readers::default());
        let mut open = Vec::new();
        for index in 0..ALL_MAX / PER_APP_MAX {
            let app = AppIndex(index as u32);
            open.extend((0..PER_APP_MAX).map(|_| readers.admit(app).ok().expect("room")));
            assert!(readers.admit(app).is_err(), "{app:?}");
        }
        assert!(readers.admit(AppIndex(1_000)).is_err(), "all are taken");
        open.pop();
        let one = readers.admit(AppIndex(1_000)).ok().expect("room again");
        drop((open, one));
        assert!(readers.apps().values().all(|it| it.open == 0));
    }

    #[test]
    fn who_asks_too_often_waits() {
        let readers = Arc::new(Readers::default());
        let waits = (0..ASKS.burst + 30).filter(|_| {
            let reader = readers.admit(AppIndex(0)).ok().expect("one at a time");
            reader.is_too_fast()
        });
        assert!(waits.count() > 0);
    }
}
