//! What one process's control plane hands to the next, and what it keeps still meanwhile.
//!
//! From the copy of the store on until the end, changes wait: so the copy has all of them. The
//! ledger goes over in memory, because the disk is too slow for a pause.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::error::ControlError;

/// How long a store may take to be closed at the end.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);

/// What another process hands over to this one.
pub(crate) struct InheritedControl {
    /// A copy of its store.
    pub store_copy: Vec<u8>,
    /// Hears when the store itself may be opened.
    pub store_released: flume::Receiver<()>,
    /// Its admin listener, and the address that this is configured as.
    pub admin: Option<(TcpListener, SocketAddr)>,
}

/// What is asked of the control thread.
pub(super) enum Handing {
    /// Changes wait until something is said, or nobody can say it; a copy of the store is told.
    /// What is said is where to tell that the store is closed.
    Hold(
        flume::Sender<Result<Vec<u8>, ControlError>>,
        flume::Receiver<flume::Sender<()>>,
    ),
    /// What all apps have used.
    Usage(flume::Sender<Result<Vec<u8>, ControlError>>),
    /// What all apps have used in the process before.
    Adopt(Vec<u8>, flume::Sender<Result<(), ControlError>>),
}

/// A store that nobody changes, until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldStore {
    copy: Vec<u8>,
    /// Says that it is given up.
    give_up: flume::Sender<flume::Sender<()>>,
}

impl HeldStore {
    /// Asks for it.
    pub(super) fn ask(deadline: Instant, ask: impl FnOnce(Handing)) -> Result<Self, ControlError> {
        let (copied, copy) = flume::bounded(1);
        let (give_up, given_up) = flume::bounded(1);
        ask(Handing::Hold(copied, given_up));
        let late = || {
            let text = "the store could not be copied in time: a change waits for the disk";
            Err(ControlError::Unavailable(text.into()))
        };
        let copy = copy.recv_deadline(deadline).unwrap_or_else(|_| late())?;
        Ok(Self { copy, give_up })
    }

    /// Takes the copy of the store's file out.
    pub(crate) fn take_copy(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.copy)
    }

    /// Closes the store, so that another process may open it. Changes are refused from now on.
    pub(crate) fn give_up(&self) {
        let (closed, heard) = flume::bounded(1);
        if self.give_up.send(closed).is_ok() {
            // A disk that hangs keeps the lock: the other process tries for a while.
            let _ = heard.recv_timeout(CLOSE_TIME_MAX);
        }
    }
}

impl Handing {
    /// In a task of its own.
    pub(super) async fn carry_out(self, engine: &Arc<Engine>) {
        // Whoever asked may have given up.
        match self {
            Self::Hold(copied, given_up) => engine.hold(&copied, &given_up).await,
            Self::Usage(answer) => drop(answer.send(engine.usage())),
            Self::Adopt(usage, answer) => drop(answer.send(engine.adopt_usage(&usage))),
        }
    }
}
