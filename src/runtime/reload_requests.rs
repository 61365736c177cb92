//! Reloads that somebody waits for, beside those that a signal asks for: both are carried out by
//! the same thread, one after the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::configuration::{ReloadReport, Setting};
use crate::events::author::Author;
use crate::events::kind::AuthorKind;
use crate::runtime::signals::Wish;

/// What the admin API and the main thread share about the configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ReloadRequests {
    wish: flume::Sender<Wish>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    settings: Vec<Setting>,
    waiting: Vec<flume::Sender<ReloadReport>>,
    /// Who has asked last, and has not been served.
    by: Option<Author>,
}

impl ReloadRequests {
    /// `wish` reaches the main thread; `settings` hold at the start.
    pub(super) fn new(wish: flume::Sender<Wish>, settings: Vec<Setting>) -> Self {
        let shared = Shared {
            settings,
            ..Shared::default()
        };
        Self {
            wish,
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Each key as it holds.
    pub(super) fn settings(&self) -> Vec<Setting> {
        self.locked().settings.clone()
    }

    /// Asks for a reload. The receiver hears once what it did, or that nobody does it any more.
    pub(super) fn ask(&self, by: Author) -> flume::Receiver<ReloadReport> {
        let (sender, receiver) = flume::bounded(1);
        let mut shared = self.locked();
        shared.waiting.push(sender);
        shared.by = Some(by);
        drop(shared);
        if self.wish.send(Wish::Reload).is_err() {
            self.locked().waiting.clear();
        }
        receiver
    }

    /// For whom the configuration is read now.
    pub(super) fn take_author(&self) -> Author {
        let by = self.locked().by.take();
        by.unwrap_or(Author::local(AuthorKind::Signal))
    }

    /// Tells all who wait what a reload did, after which these settings hold.
    pub(super) fn tell(&self, report: &ReloadReport, settings: Option<Vec<Setting>>) {
        let mut shared = self.locked();
        if let Some(settings) = settings {
            shared.settings = settings;
        }
        for waiting in shared.waiting.drain(..) {
            // Whoever asked may have gone.
            let _ = waiting.send(report.clone());
        }
    }

    /// Lets go all who wait: the server ends.
    pub(super) fn end(&self) {
        self.locked().waiting.clear();
    }

    fn locked(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
