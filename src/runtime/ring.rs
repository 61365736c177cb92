//! A shard's own io_uring: it tells who connects, and which sockets have become readable or
//! writable. Single reads and writes do not pass through it: `recv` and `send` on a ready
//! socket are cheaper than a submission each, and one scratch buffer serves all of a shard's
//! connections. Many writes at once do: [`SocketRing::send_batch`].
//!
//! Each socket has one multishot poll for both directions, for its whole life. It reports
//! changes (like epoll's edge trigger): a reader that stops early must come back by itself.
//! The poll holds the socket's file, so a socket is shut down, its poll removed, and only then
//! closed.
//!
//! The ring is used by one thread (`SINGLE_ISSUER`) which runs its completions when it asks for
//! them (`DEFER_TASKRUN`): nothing interrupts a shard. It is also where the shard sleeps; other
//! threads end that through an eventfd that the ring watches, see [`Wake`].
//!
//! [`Wake`]: crate::runtime::wake::Wake

use std::io;
use std::os::fd::RawFd;
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::ids::ConnectionId;
use crate::limits::LOOKS_PER_TURN_MAX;
use crate::runtime::preflight::MEMLOCK_BYTES_PER_SHARD;

/// Submissions that fit between two calls of the kernel; more are submitted as they come.
const SUBMISSION_ENTRIES: u32 = 256;
/// Completions that fit; more wait in the kernel (`FEAT_NODROP`).
const COMPLETION_ENTRIES: u32 = 8_192;
// The kernel takes 16 bytes for a completion, 68 for a submission, and less than a page beside.
const _: () = assert!(
    COMPLETION_ENTRIES as u64 * 16 + SUBMISSION_ENTRIES as u64 * 68 + 4_096
        <= MEMLOCK_BYTES_PER_SHARD,
    "the preflight asks for enough locked memory"
);
/// Pause before the kernel is asked again that had no memory: the shard has nothing else to do.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(1);
/// Connection slots that fit beside the tag in a completion's 64 bits.
pub(super) const SLOT_BITS: u32 = 24;
/// Bits of the generation that a completion carries.
const GENERATION_BITS: u32 = 32;

const TAG_POLL: u64 = 1;
const TAG_LISTENER: u64 = 2;
const TAG_IGNORED: u64 = 3;
const TAG_SEND: u64 = 4;
const TAG_WAKE: u64 = 5;

/// What the ring reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RingEvent {
    /// One connection or more wait to be accepted.
    Connecting {
        /// Index of the listener.
        listener: u32,
        /// The poll has ended.
        last: bool,
    },
    /// A socket has changed.
    Ready {
        /// The connection whose socket it is.
        connection: ConnectionId,
        /// There may be bytes, the end of the stream, or an error to read.
        readable: bool,
        /// There may be room to write.
        writable: bool,
        /// The peer has ended the stream, or the socket is broken: reading comes to an end.
        hung_up: bool,
        /// The peer has reset the connection, or both sides have ended: nothing that is written
        /// arrives any more.
        unreachable: bool,
        /// The poll has ended.
        last: bool,
    },
    /// A send of a batch did not take all of its bytes.
    SentShort {
        /// The connection that it was for.
        connection: ConnectionId,
        /// How many it took; the next send tells why not more.
        count: usize,
    },
}

/// How much of what has happened a look at the ring brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaped {
    /// All of it: nothing is left in the kernel.
    All,
    /// A turn's worth; more waits in the kernel.
    CutOff,
}

/// See the top of this file.
pub(super) struct SocketRing {
    ring: IoUring,
    wake: RawFd,
    /// The kernel had no memory, and nobody has asked about that.
    shortage: Option<io::Error>,
}

impl SocketRing {
    /// Sets the ring up on the calling thread, which alone may use it. A write to the eventfd
    /// `wake` ends a [`wait`](Self::wait).
    ///
    /// # Errors
    /// Those of `io_uring_setup(2)` and `io_uring_enter(2)`.
    pub(super) fn new(wake: RawFd) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES)
            .dontfork()
            .build(SUBMISSION_ENTRIES)?;
        let mut ring = Self {
            ring,
            wake,
            shortage: None,
        };
        ring.watch_wake()?;
        Ok(ring)
    }

    fn watch_wake(&mut self) -> io::Result<()> {
        let entry = opcode::PollAdd::new(types::Fd(self.wake), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(TAG_WAKE << 56);
        self.push(&entry)
    }

    /// Blocks the thread until something happens, or the time is over.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let waited = match timeout {
            None => self.ring.submitter().submit_and_wait(1),
            Some(timeout) => {
                let timeout = types::Timespec::from(timeout);
                let arguments = types::SubmitArgs::new().timespec(&timeout);
                self.ring.submitter().submit_with_args(1, &arguments)
            }
        };
        match waited {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            waited => self.tolerate(waited),
        }
    }

    /// What the kernel said that had no memory since the last question; then it was asked again.
    pub(super) fn take_shortage(&mut self) -> Option<io::Error> {
        self.shortage.take()
    }

    /// Starts watching a listener: [`RingEvent::Connecting`] tells of connects. The ring does not
    /// accept by itself: a multishot accept goes on inside the kernel for as long as connections
    /// keep coming.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub(super) fn watch_listener(&mut self, listener: u32, fd: RawFd) -> io::Result<()> {
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(TAG_LISTENER << 56 | u64::from(listener));
        self.push(&entry)
    }

    /// Ends watching a listener.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub(super) fn unwatch_listener(&mut self, listener: u32) -> io::Result<()> {
        let entry = opcode::PollRemove::new(TAG_LISTENER << 56 | u64::from(listener))
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(TAG_IGNORED << 56);
        self.push(&entry)
    }

    /// Starts watching a socket in both directions.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub(super) fn watch(&mut self, connection: ConnectionId, fd: RawFd) -> io::Result<()> {
        let events = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
        let entry = opcode::PollAdd::new(types::Fd(fd), events as u32)
            .multi(true)
            .build()
            .user_data(token(TAG_POLL, connection));
        self.push(&entry)
    }

    /// Ends watching a socket; a last [`RingEvent::Ready`] says when it may be closed.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub(super) fn unwatch(&mut self, connection: ConnectionId) -> io::Result<()> {
        let entry = opcode::PollRemove::new(token(TAG_POLL, connection))
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(TAG_IGNORED << 56);
        self.push(&entry)
    }

    /// Submits what was asked for and hands out what has happened, without waiting. It looks a
    /// bounded number of times: while more keeps coming, what has come is dealt with first.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub(super) fn reap(&mut self, events: &mut Vec<RingEvent>) -> io::Result<Reaped> {
        for _ in 0..LOOKS_PER_TURN_MAX {
            self.look(events)?;
            if !self.has_pending() {
                return Ok(Reaped::All);
            }
        }
        Ok(Reaped::CutOff)
    }

    /// Whether the kernel has something to take or to hand out that needs a call.
    fn has_pending(&mut self) -> bool {
        let submission = self.ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Calls the kernel at most once, and takes what there is.
    fn look(&mut self, events: &mut Vec<RingEvent>) -> io::Result<()> {
        if self.has_pending() {
            self.enter()?;
        }
        let mut wake_ended = false;
        events.extend(self.ring.completion().filter_map(|entry| {
            wake_ended |= entry.user_data() == TAG_WAKE << 56 && !cqueue::more(entry.flags());
            event(&entry)
        }));
        if wake_ended {
            self.watch_wake()?;
        }
        Ok(())
    }

    /// Sends to many sockets in one call of the kernel: a fifth less time than a call for each.
    /// No send waits. Those that did not take all bytes are told as [`RingEvent::SentShort`]
    /// before this returns; other events may be among them.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub(super) fn send_batch<'a>(
        &mut self,
        sends: impl Iterator<Item = (ConnectionId, RawFd, &'a [u8])>,
        events: &mut Vec<RingEvent>,
    ) -> io::Result<()> {
        // With MSG_WAITALL a short send is a failure, which completes in spite of SKIP_SUCCESS.
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        for (connection, fd, bytes) in sends {
            let entry = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), bytes.len() as u32)
                .flags(flags)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(token(TAG_SEND, connection));
            self.push(&entry)?;
        }
        // MSG_DONTWAIT: every send ends within the call that submits it, so that neither the
        // bytes nor the sockets are referred to any longer when the queue is empty. Failures
        // that found no room among the completions wait in the kernel behind older ones.
        loop {
            self.look(events)?;
            let submission = self.ring.submission();
            if submission.is_empty() && !submission.cq_overflow() {
                return Ok(());
            }
        }
    }

    fn enter(&mut self) -> io::Result<()> {
        const GET_EVENTS: u32 = 1; // IORING_ENTER_GETEVENTS: runs deferred task work
        let to_submit = self.ring.submission().len() as u32;
        // SAFETY: no argument structure is passed; submitted entries refer to no memory but
        // that of `send_batch`, which is borrowed until they have ended.
        let entered = unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(to_submit, 0, GET_EVENTS, None)
        };
        self.tolerate(entered)
    }

    /// Interrupted, or the kernel has no room or no memory at the moment: the next call tries
    /// again.
    fn tolerate(&mut self, entered: io::Result<usize>) -> io::Result<()> {
        let Err(error) = entered else {
            return Ok(());
        };
        match error.raw_os_error() {
            Some(libc::EINTR | libc::EBUSY) => Ok(()),
            Some(libc::EAGAIN | libc::ENOMEM) => {
                self.shortage = Some(error);
                thread::sleep(SHORTAGE_PAUSE);
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the entries made in this file point to no memory but what `send_batch`
            // borrows until they have ended, and the files they name stay open until their last
            // completion has been seen.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.enter()?;
        }
    }
}

fn token(tag: u64, connection: ConnectionId) -> u64 {
    debug_assert!(connection.slot < 1 << SLOT_BITS);
    tag << 56 | u64::from(connection.slot) << GENERATION_BITS | u64::from(connection.generation)
}

fn connection_of(token: u64) -> ConnectionId {
    ConnectionId {
        slot: (token >> GENERATION_BITS) as u32 & ((1 << SLOT_BITS) - 1),
        generation: token as u32,
    }
}

fn event(entry: &cqueue::Entry) -> Option<RingEvent> {
    let (token, result) = (entry.user_data(), entry.result());
    let last = !cqueue::more(entry.flags());
    match token >> 56 {
        TAG_POLL => {
            let mask = if result < 0 { 0 } else { result };
            let unreachable = i32::from(libc::POLLERR | libc::POLLHUP);
            let broken = unreachable | i32::from(libc::POLLRDHUP);
            Some(RingEvent::Ready {
                connection: connection_of(token),
                readable: mask & (i32::from(libc::POLLIN) | broken) != 0,
                writable: mask & (i32::from(libc::POLLOUT) | broken) != 0,
                hung_up: mask & broken != 0,
                unreachable: mask & unreachable != 0,
                last,
            })
        }
        TAG_LISTENER => Some(RingEvent::Connecting {
            listener: token as u32,
            last,
        }),
        TAG_SEND => Some(RingEvent::SentShort {
            connection: connection_of(token),
            count: usize::try_from(result).unwrap_or(0),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::runtime::wake::Wake;

    #[test]
    fn a_batch_reaches_everybody_and_tells_who_took_less() {
        let pairs: Vec<_> = (0..300).map(|_| UnixStream::pair().unwrap()).collect();
        let id = |at: usize| ConnectionId {
            slot: at as u32,
            generation: u32::MAX,
        };
        let (full, broken) = (7, 290);
        let mut filled = 0;
        pairs[full].0.set_nonblocking(true).unwrap();
        while let Ok(count) = (&pairs[full].0).write(&[0; 4_096]) {
            filled += count;
        }
        assert!(filled > 0);
        pairs[broken].1.shutdown(std::net::Shutdown::Both).unwrap();

        let mut events = Vec::new();
        let sends = pairs.iter().enumerate();
        let sends = sends.map(|(at, (near, _))| (id(at), near.as_raw_fd(), &b"hello"[..]));
        let wake = Wake::new().unwrap();
        let mut ring = SocketRing::new(wake.raw()).unwrap();
        ring.send_batch(sends, &mut events).unwrap();

        let short = |at| RingEvent::SentShort {
            connection: id(at),
            count: 0,
        };
        assert_eq!(events, [short(full), short(broken)]);
        let whole = (0..pairs.len()).filter(|at| ![full, broken].contains(at));
        for at in whole {
            let mut received = [0; 5];
            (&pairs[at].1).read_exact(&mut received).unwrap();
            assert_eq!(&received, b"hello");
        }
    }

    fn id(at: usize) -> ConnectionId {
        ConnectionId {
            slot: at as u32,
            generation: 1,
        }
    }

    #[test]
    fn a_turn_hears_of_as_many_sockets_as_it_reads() {
        let pairs: Vec<_> = (0..128).map(|_| UnixStream::pair().unwrap()).collect();
        let wake = Wake::new().unwrap();
        let mut ring = SocketRing::new(wake.raw()).unwrap();
        let mut events = Vec::new();
        for (at, (near, _)) in pairs.iter().enumerate() {
            ring.watch(id(at), near.as_raw_fd()).unwrap();
        }
        while ring.reap(&mut events).unwrap() == Reaped::CutOff {}
        events.clear();
        for (_, far) in &pairs {
            (&*far).write_all(b"hello").unwrap();
        }
        assert_eq!(ring.reap(&mut events).unwrap(), Reaped::All);
        let readable =
            |event: &&RingEvent| matches!(event, RingEvent::Ready { readable: true, .. });
        assert_eq!(events.iter().filter(readable).count(), pairs.len());
    }

    #[test]
    fn a_failed_send_is_told_at_once_although_the_completions_have_overflowed() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        let wake = Wake::new().unwrap();
        let mut ring = SocketRing::new(wake.raw()).unwrap();
        for _ in 0..COMPLETION_ENTRIES + 100 {
            let nothing = opcode::Nop::new().build().user_data(TAG_IGNORED << 56);
            ring.push(&nothing).unwrap();
        }
        ring.enter().unwrap();
        assert!(ring.ring.submission().cq_overflow());
        let mut events = Vec::new();
        let send = (id(1), near.as_raw_fd(), &b"hello"[..]);
        ring.send_batch(std::iter::once(send), &mut events).unwrap();
        let (connection, count) = (id(1), 0);
        assert_eq!(events, [RingEvent::SentShort { connection, count }]);
    }

    #[test]
    fn a_wake_ends_a_wait_that_has_no_end_of_its_own() {
        let wake = std::sync::Arc::new(Wake::new().unwrap());
        let mut ring = SocketRing::new(wake.raw()).unwrap();
        let mut events = Vec::new();
        for _ in 0..3 {
            wake.prepare_to_sleep();
            let waker = wake.clone();
            let other = std::thread::spawn(move || waker.wake());
            ring.wait(None).unwrap();
            other.join().unwrap();
            ring.reap(&mut events).unwrap();
        }
        assert_eq!(events, []);
    }
}
