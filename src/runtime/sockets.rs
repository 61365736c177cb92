//! The sockets of one shard, under the numbers by which the shard knows its connections.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::ids::ConnectionId;
use crate::runtime::descriptors::PublicDescriptors;
use crate::runtime::ring::SLOT_BITS;
use crate::runtime::transport::Transport;

/// The socket of one connection.
#[derive(Debug)]
pub struct Socket {
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
    /// It is shut down and waits for its poll to end.
    pub closing: bool,
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
    /// The socket is broken: nothing goes through any more.
    Broken,
}

impl Socket {
    /// Returns the descriptor, for the ring to watch.
    #[must_use]
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether a read of `count` bytes into that much room must be followed by another: a short
    /// one has emptied the socket, and the ring reports what comes later, but not again an end
    /// of the stream that it has reported together with the last bytes.
    #[must_use]
    pub fn has_more(&self, count: usize, room: usize) -> bool {
        count == room || self.hung_up
    }

    /// Whether a TLS handshake on it was begun and is not complete.
    #[must_use]
    pub fn is_shaking_hands(&self) -> bool {
        self.transport.as_ref().is_some_and(|it| it.has_begun())
    }

    /// Whether a peer has hung up before a TLS handshake was begun: it would come to nothing.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.hung_up && self.transport.as_ref().is_some_and(|it| it.is_untouched())
    }

    /// Whether an outbox may be written to it as it is.
    #[must_use]
    pub fn takes_bytes(&self) -> bool {
        !self.closing && !self.write_blocked
    }

    /// Reads what is there, without waiting.
    pub fn receive(&self, into: &mut [u8]) -> Transfer {
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
    pub fn send(&self, bytes: &[u8]) -> Transfer {
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
    pub fn send_slices(&self, slices: &[IoSlice<'_>]) -> Transfer {
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
    pub fn shutdown(&self, how: libc::c_int) {
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
        _ => Some(Transfer::Broken),
    }
}

/// The sockets of one shard.
#[derive(Debug)]
pub struct Sockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    /// The count over all shards.
    descriptors: Arc<PublicDescriptors>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    socket: Option<Socket>,
}

impl Sockets {
    /// Begins without sockets.
    #[must_use]
    pub fn new(descriptors: Arc<PublicDescriptors>) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            descriptors,
        }
    }

    /// Whether the process has a descriptor to spare for another connection.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.descriptors.has_room()
    }

    /// Adds a socket and numbers it; `None` when no number is free.
    pub fn insert(
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
                });
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.socket = Some(Socket {
            fd,
            transport,
            write_blocked: false,
            queued_to_read: false,
            ready_ns: 0,
            hung_up: false,
            closing: false,
        });
        self.count += 1;
        self.descriptors.opened();
        Some(ConnectionId {
            slot,
            generation: entry.generation,
        })
    }

    /// A socket, unless it is closed.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<&Socket> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.socket
            .as_ref()
            .filter(|_| slot.generation == id.generation)
    }

    /// A socket, unless it is closed.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.socket
            .as_mut()
            .filter(|_| slot.generation == id.generation)
    }

    /// Closes a socket and frees its number for the next generation.
    pub fn close(&mut self, id: ConnectionId) {
        if self.get(id).is_some() {
            self.slots[id.slot as usize].socket = None;
            self.free.push(id.slot);
            self.count -= 1;
            self.descriptors.closed();
        }
    }

    /// How many there are, those included that wait for the end of their polls.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
