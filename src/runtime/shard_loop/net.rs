//! The sockets of one shard, what stands between them and the shard, and the ring that watches
//! them: what the parts of the loop that accept, read and write work on, one after the other.

use std::io;

use crate::ids::ConnectionId;
use crate::runtime::ring::{Reaped, RingEvent, SocketRing};
use crate::runtime::sockets::{Socket, Sockets};
use crate::runtime::transport::Transports;

/// See the top of this file.
pub(super) struct Net {
    pub ring: SocketRing,
    pub sockets: Sockets,
    pub transports: Transports,
    /// What the ring has told, as long as nobody has dealt with it.
    pub events: Vec<RingEvent>,
}

impl Net {
    /// Nobody is connected.
    pub(super) fn new(ring: SocketRing, sockets: Sockets, transports: Transports) -> Self {
        Self {
            ring,
            sockets,
            transports,
            events: Vec::new(),
        }
    }

    /// Looks at the ring: what has happened is among the events then.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn look(&mut self) -> io::Result<Reaped> {
        self.ring.reap(&mut self.events)
    }

    /// Shuts a socket down, which is closed when its poll has ended. Returns whether a TLS
    /// handshake on it was begun and not complete; `None` if it has been shut down before.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn shut_down(&mut self, id: ConnectionId) -> io::Result<Option<bool>> {
        let Some(socket) = self.sockets.get_mut(id).filter(|it| !it.closing) else {
            return Ok(None);
        };
        socket.closing = true;
        socket.shutdown(libc::SHUT_RDWR);
        let was_shaking_hands = socket.is_shaking_hands();
        self.ring.unwatch(id)?;
        Ok(Some(was_shaking_hands))
    }

    /// The poll of a socket has told something, if it is not being closed: then the last thing
    /// that it tells closes the socket.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn told(&mut self, id: ConnectionId, last: bool) -> io::Result<Option<&mut Socket>> {
        let is_closing = self.sockets.get(id).is_some_and(|it| it.closing);
        match (is_closing, last) {
            (true, true) => self.sockets.close(id),
            // The shutdown woke the poll while it was to be removed, which then fails.
            (true, false) => self.ring.unwatch(id)?,
            (false, true) => {
                if let Some(socket) = self.sockets.get(id) {
                    self.ring.watch(id, socket.raw())?;
                }
            }
            (false, false) => {}
        }
        Ok(self.sockets.get_mut(id).filter(|_| !is_closing))
    }
}
