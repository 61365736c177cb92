//! Wakes a shard that sleeps, from any thread.
//!
//! A shard sleeps in one place, its ring, which watches an eventfd beside the sockets. The
//! eventfd is written only while the shard sleeps or is about to: to wake a busy shard costs no
//! call of the kernel. It is never read, because its poll reports each write.
//!
//! Always true: a thread that makes something visible and then calls [`Wake::wake`] is noticed,
//! before the shard sleeps or by ending its sleep. Both sides first write, then pass a fence, then
//! read what the other one writes.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// See the top of this file.
#[derive(Debug)]
pub(super) struct Wake {
    asleep: AtomicBool,
    eventfd: OwnedFd,
}

impl Wake {
    /// Begins for a shard that is awake.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no memory.
        let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if eventfd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            asleep: AtomicBool::new(false),
            // SAFETY: just made, and owned by nobody else.
            eventfd: unsafe { OwnedFd::from_raw_fd(eventfd) },
        })
    }

    /// Returns the eventfd, for the shard's ring to watch.
    #[must_use]
    pub(super) fn raw(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Wakes the shard if it sleeps. Make what is new visible to it before the call.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: the pointer and length describe `one`. The counter cannot overflow in the
            // lifetime of a machine, so the write cannot fail.
            unsafe { libc::write(self.raw(), one.as_ptr().cast(), one.len()) };
        }
    }

    /// Announces that the shard is about to sleep. It must look for news once more after the call.
    pub(super) fn prepare_to_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake and looks for news by itself.
    pub(super) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeping_shard_is_written_to_and_only_once() {
        let wake = Wake::new().unwrap();
        let written = || {
            let mut count = [0_u8; 8];
            // SAFETY: the pointer and length describe `count`.
            let read = unsafe { libc::read(wake.raw(), count.as_mut_ptr().cast(), count.len()) };
            if read == 8 {
                u64::from_ne_bytes(count)
            } else {
                0
            }
        };
        wake.wake();
        assert_eq!(written(), 0, "awake from the start");
        wake.prepare_to_sleep();
        wake.wake();
        wake.wake();
        assert_eq!(written(), 1);
        wake.prepare_to_sleep();
        wake.awake();
        wake.wake();
        assert_eq!(written(), 0, "awake again");
    }
}
