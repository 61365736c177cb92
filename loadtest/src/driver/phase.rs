//! What the conductor and the load cores tell each other: a few atomics and one eventfd per core.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::failure::Failure;
use crate::measure::recorder::Window;

/// Shared by all threads of a run.
pub(crate) struct Phase {
    /// Load cores.
    pub core_count: u32,
    /// Connections that have their `welcome`.
    pub open: AtomicU32,
    /// Cores whose workload is set up.
    pub ready: AtomicU32,
    /// Cores whose counted workload is complete.
    pub finished: AtomicU32,
    /// Cores that will publish nothing more.
    pub stopped: AtomicU32,
    window: Mutex<Option<Window>>,
    to_ns: AtomicU64,
    go: AtomicBool,
    aborted: AtomicBool,
    failure: Mutex<Option<Failure>>,
    wakers: Vec<Arc<OwnedFd>>,
}

impl Phase {
    /// For `core_count` load cores.
    ///
    /// # Errors
    /// [`Failure::Executor`] when the system refuses an eventfd.
    pub(crate) fn new(core_count: u32) -> Result<Phase, Failure> {
        let wakers = (0..core_count)
            .map(|_| eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::Executor(error.to_string()))?;
        Ok(Phase {
            core_count,
            open: AtomicU32::new(0),
            ready: AtomicU32::new(0),
            finished: AtomicU32::new(0),
            stopped: AtomicU32::new(0),
            window: Mutex::new(None),
            to_ns: AtomicU64::new(u64::MAX),
            go: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            failure: Mutex::new(None),
            wakers,
        })
    }

    /// Lets the load begin.
    pub(crate) fn start(&self, window: Window) {
        *self.window.lock().unwrap_or_else(PoisonError::into_inner) = Some(window);
        self.to_ns.store(window.to_ns, Ordering::Release);
        self.go.store(true, Ordering::Release);
        self.wake_all();
    }

    /// The window, once the load may begin.
    pub(crate) fn started(&self) -> Option<Window> {
        if !self.go.load(Ordering::Acquire) {
            return None;
        }
        *self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// End of the window, ns; `u64::MAX` until a counted workload is complete on all cores.
    pub(crate) fn to_ns(&self) -> u64 {
        self.to_ns.load(Ordering::Acquire)
    }

    /// Ends the window of a counted workload.
    pub(crate) fn end(&self, to_ns: u64) {
        self.to_ns.store(to_ns, Ordering::Release);
        self.wake_all();
    }

    /// Whether all cores have added themselves to `counter`.
    pub(crate) fn all(&self, counter: &AtomicU32) -> bool {
        counter.load(Ordering::Acquire) >= self.core_count
    }

    /// Ends the run without a result; the first failure is the one reported.
    pub(crate) fn fail(&self, failure: Failure) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
        self.aborted.store(true, Ordering::Release);
        drop(first);
        self.wake_all();
    }

    /// Whether somebody failed.
    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// The first failure.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The eventfd of a core.
    pub(crate) fn waker(&self, core: usize) -> Arc<OwnedFd> {
        Arc::clone(&self.wakers[core])
    }

    /// Wakes one core.
    pub(crate) fn wake(&self, core: usize) {
        // A full counter means that the core is being woken already.
        let _pending = rustix::io::write(&*self.wakers[core], &1u64.to_ne_bytes());
    }

    /// Wakes all cores.
    pub(crate) fn wake_all(&self) {
        (0..self.wakers.len()).for_each(|core| self.wake(core));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_kept() {
        let phase = Phase::new(2).expect("eventfds");
        assert!(!phase.is_aborted());
        phase.fail(Failure::Timeout("first".into()));
        phase.fail(Failure::Timeout("second".into()));
        assert!(phase.is_aborted());
        assert_eq!(phase.failure(), Some(Failure::Timeout("first".into())));
    }
}
