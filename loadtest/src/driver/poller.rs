//! Readiness of all sockets of a load core: one edge-triggered epoll instance and an eventfd that
//! other cores write to wake it.
//!
//! Each socket is registered once, for reading and writing, and never changed again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::clock::timespec;

/// Events taken at once: few, so that what is due for sending is looked at in between.
const EVENTS_PER_WAIT: usize = 64;
/// Token of the waking eventfd.
const WAKE: u64 = u64::MAX;

/// A registration: which client, and which of its successive connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// Index of the client.
    pub client: u32,
    /// Increases with each of its connections, so that an event of an earlier one is known.
    pub generation: u32,
}

/// What a socket is ready for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    /// Whose socket.
    pub token: Token,
    /// Data, end of stream or an error can be read.
    pub is_readable: bool,
    /// The peer has ended the stream: it must be read to its end, because no further edge tells.
    pub is_ending: bool,
    /// Bytes can be written, or a connect is decided.
    pub is_writable: bool,
}

/// The poller.
pub(crate) struct Poller {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    events: Vec<Event>,
}

impl Poller {
    /// `wake` is a non-blocking eventfd.
    ///
    /// # Errors
    /// Of `epoll_create` and `epoll_ctl`.
    pub(crate) fn new(wake: Arc<OwnedFd>) -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &*wake,
            EventData::new_u64(WAKE),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(Poller {
            epoll,
            wake,
            events: Vec::with_capacity(EVENTS_PER_WAIT),
        })
    }

    /// Registers a socket for its lifetime.
    ///
    /// # Errors
    /// Of `epoll_ctl`.
    pub(crate) fn add(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let data = u64::from(token.generation) << 32 | u64::from(token.client);
        Ok(epoll::add(
            &self.epoll,
            socket,
            EventData::new_u64(data),
            flags,
        )?)
    }

    /// Waits at most `timeout_ns` and replaces `ready` with what happened.
    ///
    /// # Errors
    /// Of `epoll_wait`, an interruption excepted.
    pub(crate) fn wait(&mut self, timeout_ns: u64, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        let timeout = timespec(timeout_ns);
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let data = { event.data }.u64();
            if data == WAKE {
                let mut count = [0; 8];
                // Only resets the counter; another reader may have done so.
                let _emptied = rustix::io::read(&*self.wake, &mut count);
                continue;
            }
            let flags = { event.flags };
            let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            ready.push(Ready {
                token: Token {
                    client: data as u32,
                    generation: (data >> 32) as u32,
                },
                is_readable: failed || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                is_ending: failed || flags.contains(EventFlags::RDHUP),
                is_writable: failed || flags.contains(EventFlags::OUT),
            });
        }
        Ok(())
    }
}
