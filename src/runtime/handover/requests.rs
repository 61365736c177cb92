//! Upgrades that somebody waits for, and whether one is under way. They are carried out by the
//! thread that carries out reloads, one after the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::upgrade::{UpgradeDone, UpgradeFailed};
use crate::runtime::signals::Wish;

/// How an upgrade has ended.
pub(in crate::runtime) type Outcome = Result<UpgradeDone, UpgradeFailed>;

/// What the admin API, the signals and the main thread share about upgrades. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::runtime) struct UpgradeRequests(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    /// One was asked for and has not ended.
    is_under_way: bool,
    /// None can be asked for any more.
    is_over: bool,
    waiting: Option<flume::Sender<Outcome>>,
}

impl UpgradeRequests {
    /// Asks for one, by a signal. Returns whether it will be carried out: not while another is
    /// under way.
    pub(in crate::runtime) fn ask_by_signal(&self, wish: &flume::Sender<Wish>) -> bool {
        self.begin(None, wish)
    }

    /// Asks for one. The receiver hears once how it has ended; nothing if the process ends.
    pub(in crate::runtime) fn ask(&self, wish: &flume::Sender<Wish>) -> flume::Receiver<Outcome> {
        let (sender, receiver) = flume::bounded(1);
        if !self.begin(Some(sender.clone()), wish) {
            let cause = match self.locked().is_over {
                true => "the server is shutting down",
                false => "another upgrade is under way",
            };
            // There is room for one.
            let _ = sender.send(Err(UpgradeFailed::new("check", cause)));
        }
        receiver
    }

    fn begin(&self, waiting: Option<flume::Sender<Outcome>>, wish: &flume::Sender<Wish>) -> bool {
        let mut shared = self.locked();
        if shared.is_under_way || shared.is_over {
            return false;
        }
        shared.is_under_way = wish.send(Wish::Upgrade).is_ok();
        if shared.is_under_way {
            shared.waiting = waiting;
        }
        shared.is_under_way
    }

    /// Tells whoever waits how it has ended; another one may be asked for.
    pub(in crate::runtime) fn tell(&self, outcome: Outcome) {
        let mut shared = self.locked();
        shared.is_under_way = false;
        if let Some(waiting) = shared.waiting.take() {
            // Whoever asked may have gone.
            let _ = waiting.send(outcome);
        }
    }

    /// The server ends: whoever waits is let go, and nobody waits any more.
    pub(in crate::runtime) fn end(&self) {
        let mut shared = self.locked();
        shared.is_over = true;
        shared.waiting = None;
    }

    fn locked(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_carried_out_at_a_time_and_every_refusal_says_why() {
        let (wish, wishes) = flume::unbounded();
        let requests = UpgradeRequests::default();
        let first = requests.ask(&wish);
        let second = requests.ask(&wish).recv().unwrap().unwrap_err();
        assert_eq!(second.cause, "another upgrade is under way");
        assert!(!requests.ask_by_signal(&wish));
        assert_eq!(wishes.try_iter().count(), 1);
        requests.tell(Err(UpgradeFailed::new("hello", "it ended")));
        assert_eq!(first.recv().unwrap().unwrap_err().stage, "hello");

        assert!(requests.ask_by_signal(&wish));
        requests.tell(Err(UpgradeFailed::new("hello", "it ended")));
        requests.end();
        let late = requests.ask(&wish).recv().unwrap().unwrap_err();
        assert_eq!(late.cause, "the server is shutting down");
    }
}
