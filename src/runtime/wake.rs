//! What a shard's loop sleeps on: one flag that everything which brings news sets.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use glommio::io::BufferedFile;

/// A flag that a task of the same executor can wait for.
#[derive(Debug, Default)]
pub struct Wake {
    set: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Wake {
    /// Sets the flag and wakes whoever waits for it.
    pub fn wake(&self) {
        self.set.set(true);
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until the flag is set, and resets it. One task at a time.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Wakes the loop when the ring has news while it sleeps. The eventfd is read only after the
/// loop went to sleep: a busy loop looks at the ring by itself.
pub fn watch_eventfd(eventfd: OwnedFd, asleep: Rc<Wake>, wake: Rc<Wake>) {
    // SAFETY: the descriptor is owned and given away.
    let eventfd = unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) };
    glommio::spawn_local(async move {
        loop {
            asleep.wait().await;
            if eventfd.read_at(0, 8).await.is_err() {
                return;
            }
            wake.wake();
        }
    })
    .detach();
}
