//! Where a shard's bytes go: a socket, a socket behind a transport, or many sockets at once.

use std::io::{self, IoSlice};

use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::runtime::clock::Clock;
use crate::runtime::ring::{RingEvent, SocketRing};
use crate::runtime::sockets::{Socket, Sockets, Transfer};
use crate::runtime::transport::{Gate, Transports};
use crate::shard::flush::{Flushed, Sink, WriteBatch, Wrote};
use crate::shard::outbound::outbox::Finish;

impl From<Transfer> for Wrote {
    #[inline]
    fn from(transfer: Transfer) -> Self {
        match transfer {
            Transfer::Bytes(count) => Self::Taken(count),
            Transfer::WouldBlock => Self::NoRoom,
            Transfer::Ended => Self::Broken(0),
            Transfer::Broken(errno) => Self::Broken(errno),
        }
    }
}

/// A socket that takes a shard's bytes as they are.
#[derive(Debug)]
pub(super) struct PlainSink<'a> {
    socket: &'a Socket,
    /// Bytes that the socket took.
    pub sent: usize,
}

impl<'a> PlainSink<'a> {
    /// Nothing has been sent yet.
    #[must_use]
    pub(super) fn new(socket: &'a Socket) -> Self {
        Self { socket, sent: 0 }
    }
}

impl Sink for PlainSink<'_> {
    // A socket that took less than it was offered is full. Offered more, it says so, which arms
    // the ring.
    #[inline]
    fn write(&mut self, bytes: &[IoSlice<'_>]) -> Wrote {
        let wrote = self.socket.send_slices(bytes).into();
        if let Wrote::Taken(count) = wrote {
            self.sent += count;
        }
        wrote
    }
}

/// A socket behind a transport. What is unsent and what waits leave together: bytes are gathered
/// until there are as many as one record holds, and then sent.
#[derive(Debug)]
pub(super) struct TransportSink<'a> {
    socket: &'a mut Socket,
    transports: &'a mut Transports,
    /// Bytes that the socket took, as they were sent.
    pub sent: usize,
}

impl<'a> TransportSink<'a> {
    /// Begins with what is unsent.
    #[must_use]
    pub(super) fn new(socket: &'a mut Socket, transports: &'a mut Transports) -> Self {
        if let Some(transport) = &mut socket.transport {
            transports.gather_unsent(transport);
        }
        Self {
            socket,
            transports,
            sent: 0,
        }
    }

    /// Sends what was gathered. [`Wrote::Taken`] when nothing of it is left.
    fn send(&mut self) -> Wrote {
        let gathered = self.transports.gathered();
        let mut sent = 0;
        let wrote = loop {
            if sent == gathered.len() {
                break Wrote::Taken(sent);
            }
            match self.socket.send(&gathered[sent..]) {
                Transfer::Bytes(count) => sent += count,
                Transfer::WouldBlock => break Wrote::NoRoom,
                Transfer::Ended => break Wrote::Broken(0),
                Transfer::Broken(errno) => break Wrote::Broken(errno),
            }
        };
        self.sent += sent;
        if wrote == Wrote::NoRoom
            && let Some(transport) = &mut self.socket.transport
        {
            self.transports.keep_from(sent, transport);
        }
        self.transports.forget_gathered();
        wrote
    }

    /// Sends what the transport itself has to say, while it lets nothing else through. The
    /// shard's words cannot be carried: it has lost patience.
    fn send_last(&mut self) -> Wrote {
        match self.send() {
            Wrote::Taken(_) => Wrote::Broken(0),
            wrote => wrote,
        }
    }

    /// What the transport lets through.
    fn gate(&self) -> Gate {
        let transport = self.socket.transport.as_ref();
        transport.map_or(Gate::Open, |it| it.gate())
    }
}

impl Sink for TransportSink<'_> {
    fn write(&mut self, bytes: &[IoSlice<'_>]) -> Wrote {
        if self.gate() != Gate::Open {
            return self.send_last();
        }
        if self.transports.is_full() {
            match self.send() {
                Wrote::Taken(_) => {}
                wrote => return wrote,
            }
        }
        let Some(transport) = &mut self.socket.transport else {
            return Wrote::Broken(0);
        };
        let mut taken = 0;
        for plaintext in bytes {
            match self.transports.gather(transport, plaintext) {
                Ok(count) => taken += count,
                Err(_) => return Wrote::Broken(0),
            }
            if self.transports.is_full() {
                break;
            }
        }
        Wrote::Taken(taken)
    }

    fn end(&mut self, finish: Finish) -> Wrote {
        match self.gate() {
            Gate::Open => {
                if finish != Finish::Open
                    && let Some(transport) = &mut self.socket.transport
                {
                    self.transports.gather_end(transport);
                }
                self.send()
            }
            Gate::Opening | Gate::Refused if finish != Finish::Open => self.send_last(),
            Gate::Opening => self.send(),
            Gate::Refused => {
                let wrote = self.send();
                if let Wrote::Taken(_) = wrote {
                    // Closed when the peer ends too, or in the time that a request may take:
                    // bytes that are not read would make the kernel discard the answer.
                    self.socket.shutdown(libc::SHUT_WR);
                }
                wrote
            }
        }
    }
}

/// Sockets whose first bytes the ring sends in one call of the kernel.
pub(super) struct RingBatch<'a> {
    ring: &'a mut SocketRing,
    sockets: &'a Sockets,
    /// Of what the ring tells meanwhile.
    events: &'a mut Vec<RingEvent>,
    clock: Clock,
    /// Whose sockets took less than was offered: none, unless they are full or broken.
    short: Vec<(ConnectionId, usize)>,
    /// What has come of those that do not just stay open.
    pub outcomes: Vec<(ConnectionId, Flushed)>,
    /// Bytes that sockets took.
    pub sent: usize,
}

impl<'a> RingBatch<'a> {
    /// Nothing has been sent yet. What the ring reports beside the sends goes to `events`.
    #[must_use]
    pub(super) fn new(
        ring: &'a mut SocketRing,
        sockets: &'a Sockets,
        events: &'a mut Vec<RingEvent>,
        clock: Clock,
    ) -> Self {
        Self {
            ring,
            sockets,
            events,
            clock,
            short: Vec::new(),
            outcomes: Vec::new(),
            sent: 0,
        }
    }
}

impl WriteBatch for RingBatch<'_> {
    type Error = io::Error;

    fn send<'a>(
        &mut self,
        first: impl Iterator<Item = (ConnectionId, &'a [u8])>,
    ) -> io::Result<Now> {
        let sockets = self.sockets;
        let sends = first.filter_map(|(id, bytes)| Some((id, sockets.get(id)?.raw(), bytes)));
        self.ring.send_batch(sends, self.events)?;
        let short = self
            .events
            .extract_if(.., |event| matches!(event, RingEvent::SentShort { .. }));
        self.short.extend(short.filter_map(|event| match event {
            RingEvent::SentShort { connection, count } => Some((connection, count)),
            _ => None,
        }));
        Ok(self.clock.now())
    }

    fn taken(&mut self, id: ConnectionId, offered: usize) -> usize {
        let at = self.short.iter().position(|(short, _)| *short == id);
        let count = at.map_or(offered, |at| self.short.swap_remove(at).1);
        self.sent += count;
        count
    }

    fn write(&mut self, id: ConnectionId, bytes: &[IoSlice<'_>]) -> Wrote {
        let Some(socket) = self.sockets.get(id) else {
            return Wrote::Broken(0);
        };
        let mut sink = PlainSink::new(socket);
        let wrote = sink.write(bytes);
        self.sent += sink.sent;
        wrote
    }

    fn flushed(&mut self, id: ConnectionId, flushed: Flushed) {
        if flushed != Flushed::Open {
            self.outcomes.push((id, flushed));
        }
    }
}
