//! What a shard's loop sleeps on: one flag that everything which brings news sets.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

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
