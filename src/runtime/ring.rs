//! A shard's own io_uring: it accepts, and it tells which sockets have become readable or
//! writable. Data does not pass through it: `recv` and `send` on a ready socket are cheaper
//! than a submission each, and one scratch buffer serves all of a shard's connections.
//!
//! Each socket has one multishot poll for both directions, for its whole life. It reports
//! changes (like epoll's edge trigger): whoever stops reading early must come back by itself.
//! The poll holds the socket's file, so a socket is shut down, its poll removed, and only then
//! closed.
//!
//! The ring is used by one thread (`SINGLE_ISSUER`) which runs its completions when it asks for
//! them (`DEFER_TASKRUN`): nothing interrupts a shard. While the shard sleeps, an eventfd wakes
//! it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{Ordering, fence};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::ids::ConnectionId;

/// Submissions that fit between two calls of the kernel; more are submitted as they come.
const SUBMISSION_ENTRIES: u32 = 256;
/// Completions that fit; more wait in the kernel (`FEAT_NODROP`).
const COMPLETION_ENTRIES: u32 = 4_096;
/// Connection slots that fit beside the tag in a completion's 64 bits.
pub const SLOT_BITS: u32 = 24;
/// Bits of the generation that a completion carries.
const GENERATION_BITS: u32 = 32;

const TAG_POLL: u64 = 1;
const TAG_ACCEPT: u64 = 2;
const TAG_IGNORED: u64 = 3;

/// What the ring reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingEvent {
    /// A listener accepted a socket.
    Accepted {
        /// Index of the listener.
        listener: u32,
        /// The socket, close-on-exec and non-blocking.
        socket: RawFd,
        /// The listener accepts no more until it is told to.
        stopped: bool,
    },
    /// A listener could not accept, and stopped.
    AcceptFailed {
        /// Index of the listener.
        listener: u32,
        /// Why.
        errno: i32,
    },
    /// A socket has changed.
    Ready {
        /// Whose.
        connection: ConnectionId,
        /// There may be bytes, the end of the stream, or an error to read.
        readable: bool,
        /// There may be room to write.
        writable: bool,
        /// The peer has ended the stream, or the socket is broken: reading comes to an end.
        hung_up: bool,
        /// The poll has ended.
        last: bool,
    },
}

/// See the top of this file.
pub struct SocketRing {
    ring: IoUring,
    _eventfd: OwnedFd,
}

impl SocketRing {
    /// Sets the ring up on the calling thread, which alone may use it.
    ///
    /// # Errors
    /// Those of `io_uring_setup(2)`, `eventfd(2)` and `io_uring_register(2)`.
    pub fn new(eventfd: OwnedFd) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES)
            .dontfork()
            .build(SUBMISSION_ENTRIES)?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        Ok(Self {
            ring,
            _eventfd: eventfd,
        })
    }

    /// Lets the eventfd tell what happens from now on. Answers whether something has happened
    /// already, so that the caller must not sleep.
    pub fn prepare_to_sleep(&mut self) -> bool {
        self.ring.completion().enable_eventfd();
        // Pairs with the kernel's order: it marks the work, then looks whether to signal.
        fence(Ordering::SeqCst);
        let submission = self.ring.submission();
        let pending = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        pending || !self.ring.completion().is_empty()
    }

    /// The loop is awake: it looks for itself, the eventfd need not be told.
    pub fn awake(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// Starts accepting on a listener; every socket comes as a [`RingEvent::Accepted`].
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub fn accept(&mut self, listener: u32, fd: RawFd) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(types::Fd(fd))
            .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            .build()
            .user_data(TAG_ACCEPT << 56 | u64::from(listener));
        self.push(&entry)
    }

    /// Ends accepting on a listener.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub fn stop_accepting(&mut self, listener: u32) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(TAG_ACCEPT << 56 | u64::from(listener))
            .build()
            .user_data(TAG_IGNORED << 56);
        self.push(&entry)
    }

    /// Starts watching a socket in both directions.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub fn watch(&mut self, connection: ConnectionId, fd: RawFd) -> io::Result<()> {
        let events = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
        let entry = opcode::PollAdd::new(types::Fd(fd), events as u32)
            .multi(true)
            .build()
            .user_data(poll_token(connection));
        self.push(&entry)
    }

    /// Ends watching a socket; a last [`RingEvent::Ready`] says when it may be closed.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub fn unwatch(&mut self, connection: ConnectionId) -> io::Result<()> {
        let entry = opcode::PollRemove::new(poll_token(connection))
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(TAG_IGNORED << 56);
        self.push(&entry)
    }

    /// Submits what was asked for and hands out what has happened, without waiting.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub fn reap(&mut self, events: &mut Vec<RingEvent>) -> io::Result<()> {
        loop {
            let pending = {
                let submission = self.ring.submission();
                !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
            };
            if pending {
                self.enter()?;
            }
            let before = events.len();
            events.extend(self.ring.completion().filter_map(|entry| event(&entry)));
            if !pending || events.len() == before {
                return Ok(());
            }
        }
    }

    fn enter(&mut self) -> io::Result<()> {
        const GET_EVENTS: u32 = 1; // IORING_ENTER_GETEVENTS: runs deferred task work
        let to_submit = self.ring.submission().len() as u32;
        // SAFETY: no argument structure is passed; submitted entries refer to no memory.
        let entered = unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(to_submit, 0, GET_EVENTS, None)
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Interrupted, or the kernel has no room at the moment: the next turn tries again.
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the entries made in this file point to no memory, and the files they name
            // stay open until their last completion has been seen.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.enter()?;
        }
    }
}

fn poll_token(connection: ConnectionId) -> u64 {
    debug_assert!(connection.slot < 1 << SLOT_BITS);
    TAG_POLL << 56
        | u64::from(connection.slot) << GENERATION_BITS
        | u64::from(connection.generation)
}

fn event(entry: &cqueue::Entry) -> Option<RingEvent> {
    let (token, result) = (entry.user_data(), entry.result());
    let last = !cqueue::more(entry.flags());
    match token >> 56 {
        TAG_POLL => {
            let mask = if result < 0 { 0 } else { result };
            let broken = i32::from(libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP);
            Some(RingEvent::Ready {
                connection: ConnectionId {
                    slot: (token >> GENERATION_BITS) as u32 & ((1 << SLOT_BITS) - 1),
                    generation: token as u32,
                },
                readable: mask & (i32::from(libc::POLLIN) | broken) != 0,
                writable: mask & (i32::from(libc::POLLOUT) | broken) != 0,
                hung_up: mask & broken != 0,
                last,
            })
        }
        TAG_ACCEPT if result >= 0 => Some(RingEvent::Accepted {
            listener: token as u32,
            socket: result,
            stopped: last,
        }),
        TAG_ACCEPT => Some(RingEvent::AcceptFailed {
            listener: token as u32,
            errno: -result,
        }),
        _ => None,
    }
}
