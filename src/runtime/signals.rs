//! Signals: what each one means, and a thread that hears them while all others may be waiting.
//!
//! A signal without a meaning is caught and logged: its default would end the process without
//! a drain, with usage unsaved.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXFSZ,
};
use signal_hook::iterator::Signals;

use crate::runtime::handover::UpgradeRequests;

/// Signals that end a process by default and have no meaning here. SIGXFSZ comes with a write
/// beyond the file size limit; without it the write fails, and its caller reports that.
const MEANINGLESS: [i32; 5] = [SIGUSR1, SIGALRM, SIGVTALRM, SIGQUIT, SIGXFSZ];

/// What a signal asks of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR2: hand over to a new process.
    Upgrade,
    /// The first SIGTERM or SIGINT: drain and end.
    Stop,
}

/// The signals of this process, heard by a thread of their own.
#[derive(Debug)]
pub(super) struct SignalWatch {
    /// The wishes, in the order in which they came.
    pub wishes: flume::Receiver<Wish>,
    /// Wishes of others than signals.
    pub wish: flume::Sender<Wish>,
    /// Hears once, at the second SIGTERM or SIGINT: end now, but in order.
    pub hurry: flume::Receiver<()>,
    /// Whether SIGTERM or SIGINT has come.
    pub is_stopping: Arc<AtomicBool>,
    /// Upgrades that were asked for, by signals and by others.
    pub upgrades: UpgradeRequests,
}

impl SignalWatch {
    /// Takes over the signals of this process. A third SIGTERM or SIGINT ends it at once, with
    /// exit code 1.
    ///
    /// # Errors
    /// A handler or the thread cannot be had.
    pub(super) fn start() -> io::Result<Self> {
        let heard = [SIGTERM, SIGINT, SIGHUP, SIGUSR2];
        let heard = heard.into_iter().chain(MEANINGLESS);
        let mut signals = Signals::new(heard)?;
        let (wish, wishes) = flume::unbounded();
        let (hurried, hurry) = flume::bounded(1);
        let (is_stopping, upgrades) = (Arc::<AtomicBool>::default(), UpgradeRequests::default());
        let mut hearing = Hearing {
            stops: 0,
            wish: wish.clone(),
            hurried,
            is_stopping: is_stopping.clone(),
            upgrades: upgrades.clone(),
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in signals.forever() {
                    if hearing.hear(signal) == Heard::Exit {
                        std::process::exit(1);
                    }
                }
            })?;
        Ok(Self {
            wishes,
            wish,
            hurry,
            is_stopping,
            upgrades,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    GoOn,
    Exit,
}

struct Hearing {
    stops: u32,
    wish: flume::Sender<Wish>,
    hurried: flume::Sender<()>,
    is_stopping: Arc<AtomicBool>,
    upgrades: UpgradeRequests,
}

impl Hearing {
    /// Neither channel has a reader any more when the server has ended: there is nothing left
    /// to ask for then.
    fn hear(&mut self, signal: i32) -> Heard {
        match signal {
            SIGHUP => {
                let _ = self.wish.send(Wish::Reload);
            }
            SIGTERM | SIGINT => {
                self.stops += 1;
                self.is_stopping.store(true, Ordering::Release);
                match self.stops {
                    1 => {
                        let _ = self.wish.send(Wish::Stop);
                    }
                    2 => {
                        let _ = self.hurried.try_send(());
                    }
                    _ => return Heard::Exit,
                }
            }
            SIGUSR2 => {
                if !self.upgrades.ask_by_signal(&self.wish) {
                    tracing::warn!(
                        "SIGUSR2 is ignored: an upgrade is under way, or the server is ending"
                    );
                }
            }
            other => {
                let name = signal_hook::low_level::signal_name(other).unwrap_or("a signal");
                tracing::warn!("{name} is ignored: it has no meaning here");
            }
        }
        Heard::GoOn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stop_drains_the_second_hurries_and_the_third_exits() {
        let (wish, wishes) = flume::unbounded();
        let (hurried, hurry) = flume::bounded(1);
        let mut hearing = Hearing {
            stops: 0,
            wish,
            hurried,
            is_stopping: Arc::default(),
            upgrades: UpgradeRequests::default(),
        };
        for signal in [SIGUSR2, SIGUSR2, SIGHUP].into_iter().chain(MEANINGLESS) {
            assert_eq!(hearing.hear(signal), Heard::GoOn, "{signal}");
        }
        assert_eq!(hearing.hear(SIGTERM), Heard::GoOn);
        assert!(hurry.is_empty());
        assert_eq!(hearing.hear(SIGINT), Heard::GoOn);
        assert_eq!(hurry.try_recv(), Ok(()));
        assert_eq!(hearing.hear(SIGHUP), Heard::GoOn);
        assert_eq!(hearing.hear(SIGTERM), Heard::Exit);
        let wishes: Vec<_> = wishes.try_iter().collect();
        let first = [Wish::Upgrade, Wish::Reload, Wish::Stop];
        assert_eq!(wishes[..3], first, "one upgrade at a time");
        assert_eq!(wishes[3..], [Wish::Reload]);
        assert!(hearing.is_stopping.load(Ordering::Acquire));
    }
}
