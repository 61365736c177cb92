//! The sockets of one shard, under the numbers by which the shard knows its connections.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::runtime::descriptors::PublicDescriptors;
use crate::runtime::read_queue::News;
use crate::runtime::ring::SLOT_BITS;
use crate::runtime::transport::{Gate, Transport};

/// The socket of one connection.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// What its bytes go through; `None`: they are the shard's as they are.
    pub transport: Option<Box<Transport>>,
    /// A write found no room; the ring tells when there is some.
    pub write_blocked: bool,
    /// It stands on the list of sockets to be read.
    pub queued_to_read: bool,
    /// When it was put there, in nanoseconds on the monotonic clock.
    pub ready_ns: u64,
    /// The ring has reported the end of the stream, which it does only once.
    pub hung_up: bool,
    /// Nothing that is written to it arrives any more.
    pub unreachable: bool,
    /// A write has found that nothing goes through any more, which is dealt with later.
    pub broken: bool,
    /// It is shut down and waits for its poll to end.
    pub closing: bool,
    /// It has been read to its end, which is told to the shard later.
    pub departing: bool,
    /// It had news, and was not read, because its connection did not want input.
    pub skipped: bool,
    /// When something of it was used first, in seconds on the monotonic clock; [`UNUSED_SEC`]
    /// before that.
    used_sec: u32,
}

/// How long a socket is new after something of it was used first, in seconds: one at least and two
/// at most, as the clock is cut to whole seconds. A client that comes back has sent its first
/// commands by then. The time before does not count: whoever has to wait stays new.
const NEW_SEC: u32 = 2;
/// Nothing of a socket has been used.
const UNUSED_SEC: u32 = u32::MAX;

/// Whole seconds of the monotonic clock.
fn sec(now: Now) -> u32 {
    (now.mono_ms / 1_000) as u32
}

/// How a read or write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// This many bytes went through.
    Bytes(usize),
    /// Nothing at the moment: the ring tells when to try again.
    WouldBlock,
    /// No more bytes will come: the peer has ended its side of the stream.
    Ended,
    /// The socket is broken, with the number of the system's error: nothing goes through any more.
    Broken(u8),
}

impl Socket {
    fn new(fd: OwnedFd, transport: Option<Box<Transport>>) -> Self {
        Self {
            fd,
            transport,
            write_blocked: false,
            queued_to_read: false,
            ready_ns: 0,
            hung_up: false,
            unreachable: false,
            broken: false,
            closing: false,
            departing: false,
            skipped: false,
            used_sec: UNUSED_SEC,
        }
    }

    /// Returns the descriptor, for the ring to watch.
    #[must_use]
    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether a read of `count` bytes into that much room must be followed by another: a short
    /// one has emptied the socket, and the ring reports what comes later, but not again an end
    /// of the stream that it has reported together with the last bytes.
    #[must_use]
    pub(super) fn has_more(&self, count: usize, room: usize) -> bool {
        count == room || self.hung_up
    }

    /// Notes that its connection wants input again. Returns whether there may be some: news that
    /// was skipped, or what a transport holds. The ring reports everything else.
    pub(super) fn note_wanted(&mut self) -> bool {
        mem::take(&mut self.skipped) || self.transport.is_some()
    }

    /// Whether a TLS handshake on it was begun and is not complete.
    #[must_use]
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.transport.as_ref().is_some_and(|it| it.has_begun())
    }

    /// Whether a peer has hung up before a TLS handshake was begun: it would come to nothing.
    #[must_use]
    pub(super) fn is_given_up(&self) -> bool {
        self.hung_up && self.transport.as_ref().is_some_and(|it| it.is_untouched())
    }

    /// In which line it waits to be read.
    #[must_use]
    pub(super) fn news(&self, now: Now) -> News {
        let age_sec = sec(now).saturating_sub(self.used_sec);
        match self.hung_up {
            true => News::HangUp,
            false if age_sec < NEW_SEC => News::NewInput,
            false => News::Input,
        }
    }

    /// Whether what comes is for the shard, and not for a transport that is opening.
    #[must_use]
    pub(super) fn is_open(&self) -> bool {
        let transport = self.transport.as_ref();
        transport.is_none_or(|it| it.gate() == Gate::Open)
    }

    /// Something that came is used.
    pub(super) fn note_used(&mut self, now: Now) {
        if self.used_sec == UNUSED_SEC {
            self.used_sec = sec(now);
        }
    }

    /// Whether an outbox may be written to it as it is.
    #[must_use]
    pub(super) fn takes_bytes(&self) -> bool {
        !self.closing && !self.broken && !self.write_blocked
    }

    /// Whether its end will be found when it is read. A write would find it as well, and out of
    /// turn: the ends of thousands would come at once.
    #[must_use]
    pub(super) fn is_about_to_end(&self) -> bool {
        self.unreachable && self.queued_to_read
    }

    /// Reads what is there, without waiting.
    pub(super) fn receive(&self, into: &mut [u8]) -> Transfer {
        loop {
            // SAFETY: the pointer and length describe a live mutable slice.
            let count = unsafe {
                libc::recv(
                    self.raw(),
                    into.as_mut_ptr().cast(),
                    into.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            match transfer(count) {
                Some(Transfer::Bytes(0)) => return Transfer::Ended,
                Some(outcome) => return outcome,
                None => {}
            }
        }
    }

    /// Writes as much as there is room for, without waiting.
    pub(super) fn send(&self, bytes: &[u8]) -> Transfer {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        loop {
            // SAFETY: the pointer and length describe a live slice.
            let count =
                unsafe { libc::send(self.raw(), bytes.as_ptr().cast(), bytes.len(), flags) };
            if let Some(outcome) = transfer(count) {
                return outcome;
            }
        }
    }

    /// Writes as much of the slices as there is room for, in order and without waiting.
    pub(super) fn send_slices(&self, slices: &[IoSlice<'_>]) -> Transfer {
        if let [bytes] = slices {
            return self.send(bytes);
        }
        // SAFETY: of this structure of numbers and pointers all zeroes are a value: an empty
        // message to nobody.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        // An `IoSlice` is an `iovec`, as its documentation promises; neither is written to.
        message.msg_iov = slices.as_ptr().cast_mut().cast();
        message.msg_iovlen = slices.len();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        loop {
            // SAFETY: the message describes live slices.
            let count = unsafe { libc::sendmsg(self.raw(), &raw const message, flags) };
            if let Some(outcome) = transfer(count) {
                return outcome;
            }
        }
    }

    /// Ends one or both directions. A socket that is already broken needs no ending.
    pub(super) fn shutdown(&self, how: libc::c_int) {
        // SAFETY: takes no memory.
        unsafe { libc::shutdown(self.raw(), how) };
    }
}

/// `None` when the call is to be made again.
fn transfer(count: libc::ssize_t) -> Option<Transfer> {
    if let Ok(count) = usize::try_from(count) {
        return Some(Transfer::Bytes(count));
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EINTR) => None,
        Some(libc::EAGAIN) => Some(Transfer::WouldBlock),
        errno => Some(Transfer::Broken(
            errno.and_then(|it| it.try_into().ok()).unwrap_or_default(),
        )),
    }
}

/// The sockets of one shard.
#[derive(Debug)]
pub(super) struct Sockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    /// The count over all shards.
    descriptors: Arc<PublicDescriptors>,
}

/// A socket of another process.
#[derive(Debug)]
pub(super) struct Adopted {
    /// Whose it is from now on.
    pub connection: ConnectionId,
    pub fd: OwnedFd,
    pub transport: Option<Box<Transport>>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    socket: Option<Socket>,
    /// The shard has not been told of its end: the number is not free.
    is_kept: bool,
}

impl Sockets {
    /// Begins without sockets.
    #[must_use]
    pub(super) fn new(descriptors: Arc<PublicDescriptors>) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            descriptors,
        }
    }

    /// Whether the process has a descriptor to spare for another connection.
    #[must_use]
    pub(super) fn has_room(&self) -> bool {
        self.descriptors.has_room()
    }

    /// Adds a socket and numbers it; `None` when no number is free.
    pub(super) fn insert(
        &mut self,
        fd: OwnedFd,
        transport: Option<Box<Transport>>,
    ) -> Option<ConnectionId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < 1 << SLOT_BITS => {
                self.slots.push(Slot {
                    generation: 0,
                    socket: None,
                    is_kept: false,
                });
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.socket = Some(Socket::new(fd, transport));
        self.count += 1;
        self.descriptors.opened();
        Some(ConnectionId {
            slot,
            generation: entry.generation,
        })
    }

    /// Takes over sockets of another process, under the numbers that their connections have:
    /// before any other. Returns whether all of these numbers are good.
    #[must_use]
    pub(super) fn adopt(&mut self, adopted: Vec<Adopted>) -> bool {
        let slots = adopted.iter().map(|it| it.connection.slot as usize + 1);
        let slots = slots.max().unwrap_or(0);
        if slots > 1 << SLOT_BITS || !self.slots.is_empty() {
            return false;
        }
        // Numbers that were somebody's are not used again, as far as that is known.
        let generations = adopted.iter().map(|it| it.connection.generation);
        let generation = generations.max().unwrap_or(0);
        self.slots.resize_with(slots, || Slot {
            generation,
            socket: None,
            is_kept: false,
        });
        for Adopted {
            connection,
            fd,
            transport,
        } in adopted
        {
            let slot = &mut self.slots[connection.slot as usize];
            if slot.socket.is_some() {
                return false;
            }
            slot.generation = connection.generation;
            slot.socket = Some(Socket::new(fd, transport));
            self.count += 1;
            self.descriptors.opened();
        }
        let is_free = |slot: &u32| self.slots[*slot as usize].socket.is_none();
        self.free = (0..slots as u32).rev().filter(is_free).collect();
        true
    }

    /// A socket, unless it is closed.
    #[must_use]
    pub(super) fn get(&self, id: ConnectionId) -> Option<&Socket> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.socket
            .as_ref()
            .filter(|_| slot.generation == id.generation)
    }

    /// A socket, unless it is closed.
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.socket
            .as_mut()
            .filter(|_| slot.generation == id.generation)
    }

    /// Closes a socket and frees its number for the next generation, unless that is kept.
    pub(super) fn close(&mut self, id: ConnectionId) {
        if self.get(id).is_some() {
            let slot = &mut self.slots[id.slot as usize];
            slot.socket = None;
            if !slot.is_kept {
                self.free.push(id.slot);
            }
            self.count -= 1;
            self.descriptors.closed();
        }
    }

    /// Keeps the number of a socket, also when that is closed, until it is released.
    pub(super) fn keep_number(&mut self, id: ConnectionId) {
        if self.get(id).is_some() {
            self.slots[id.slot as usize].is_kept = true;
        }
    }

    /// The number of a socket is free when that is closed, or now if it was.
    pub(super) fn release_number(&mut self, id: ConnectionId) {
        let slot = self.slots.get_mut(id.slot as usize);
        let Some(slot) = slot.filter(|it| it.generation == id.generation && it.is_kept) else {
            return;
        };
        slot.is_kept = false;
        if slot.socket.is_none() {
            self.free.push(id.slot);
        }
    }

    /// How many there are, those included that wait for the end of their polls.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_go_through_in_one_piece_and_in_several_until_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut sockets = Sockets::new(Arc::new(PublicDescriptors::new(1)));
        let id = sockets.insert(ours.into(), None).unwrap();
        let socket = sockets.get(id).unwrap();
        let mut into = [0; 8];
        assert_eq!(socket.receive(&mut into), Transfer::WouldBlock);
        theirs.write_all(b"abc").unwrap();
        assert_eq!(socket.receive(&mut into), Transfer::Bytes(3));
        assert_eq!(&into[..3], b"abc");

        assert_eq!(socket.send(b"12"), Transfer::Bytes(2));
        let slices = [b"3".as_slice(), b"", b"45"].map(IoSlice::new);
        assert_eq!(socket.send_slices(&slices), Transfer::Bytes(3));
        socket.shutdown(libc::SHUT_WR);
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"12345");
        assert_eq!(socket.send(b"6"), Transfer::Broken(libc::EPIPE as u8));

        drop(theirs);
        assert_eq!(socket.receive(&mut into), Transfer::Ended);
        sockets.close(id);
        assert!(sockets.get(id).is_none() && sockets.is_empty());
    }

    #[test]
    fn whoever_waits_stays_new_until_a_while_after_something_was_used() {
        let mut sockets = Sockets::new(Arc::new(PublicDescriptors::new(1)));
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let id = sockets.insert(ours.into(), None).unwrap();
        let socket = sockets.get_mut(id).unwrap();
        let at = |sec: u64| Now {
            mono_ms: sec * 1_000,
            unix_ms: 1,
        };
        assert_eq!(socket.news(at(100)), News::NewInput);
        socket.note_used(at(100));
        socket.note_used(at(101));
        assert_eq!(socket.news(at(101)), News::NewInput);
        assert_eq!(socket.news(at(102)), News::Input);
        socket.hung_up = true;
        assert_eq!(socket.news(at(102)), News::HangUp);
    }

    #[test]
    fn a_number_that_is_kept_is_free_when_it_is_released_and_its_socket_is_closed() {
        let mut sockets = Sockets::new(Arc::new(PublicDescriptors::new(1)));
        let open = |sockets: &mut Sockets| {
            let (ours, _) = UnixStream::pair().unwrap();
            sockets.insert(ours.into(), None).unwrap()
        };
        for is_closed_first in [true, false] {
            let kept = open(&mut sockets);
            sockets.keep_number(kept);
            if is_closed_first {
                sockets.close(kept);
                let other = open(&mut sockets);
                assert_ne!(other.slot, kept.slot);
                sockets.close(other);
                sockets.release_number(kept);
            } else {
                sockets.release_number(kept);
                sockets.close(kept);
            }
            let next = open(&mut sockets);
            assert_eq!(next.slot, kept.slot);
            assert_ne!(next.generation, kept.generation);
            sockets.release_number(kept);
            sockets.close(next);
        }
        assert!(sockets.is_empty());
    }
}
