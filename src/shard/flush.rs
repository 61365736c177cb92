//! How what waits for connections is written: one contract for all that drive a shard, which are
//! the runtime, the simulation, the tests and the benchmarks.
//!
//! A driver flushes each connection that [`Dirty`](crate::shard::effect::Dirty) names, in the
//! order of a [`FlushQueue`], and each whose socket has room again. [`Shard::flush`] offers what
//! waits to a [`Sink`], until nothing waits or the sink takes no more, and returns what is to
//! become of the socket. [`Shard::flush_batch`] does so for many connections, of which each sends
//! its first bytes together with the others.
//!
//! Always true: what a sink has taken is noted before anything else happens to that connection, so
//! that no byte leaves twice and none is left out.

mod queue;

use std::io::IoSlice;

use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::planted::{Bug, planted};
use crate::shard::connection::connections::{Connection, Connections};
use crate::shard::outbound::outbox::{Finish, Outbox, Slices};
use crate::shard::state::Shard;

pub use self::queue::{FlushQueue, LineMark};

/// How a sink took what it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// The first bytes of it: that many, and at least one.
    Taken(usize),
    /// Nothing: there is no room now.
    NoRoom,
    /// Nothing, and there will never be room; with the number of the system's error, 0 if it is
    /// not known.
    Broken(u8),
}

/// Where a connection's bytes go: a socket, or what stands before it.
pub trait Sink {
    /// Offers bytes, in order.
    fn write(&mut self, bytes: &[IoSlice<'_>]) -> Wrote;

    /// Everything that waited has been taken, and this is what the socket does next. A sink that
    /// gathers what it takes sends it now; whatever number it returns, nothing is left in it then.
    fn end(&mut self, _finish: Finish) -> Wrote {
        Wrote::Taken(0)
    }
}

impl<F: FnMut(&[IoSlice<'_>]) -> Wrote> Sink for F {
    #[inline]
    fn write(&mut self, bytes: &[IoSlice<'_>]) -> Wrote {
        self(bytes)
    }
}

/// Where the bytes of many connections go, whose first bytes are sent together.
pub trait WriteBatch {
    /// Why nothing can be sent to anybody any more.
    type Error;

    /// Sends the first bytes of each connection. Returns the time after that.
    ///
    /// # Errors
    /// The driver is at its end.
    fn send<'a>(
        &mut self,
        first: impl Iterator<Item = (ConnectionId, &'a [u8])>,
    ) -> Result<Now, Self::Error>;

    /// How many of its first bytes, of which there were `offered`, a connection's socket took.
    fn taken(&mut self, id: ConnectionId, offered: usize) -> usize;

    /// Offers a connection what follows its first bytes, as [`Sink::write`] does.
    fn write(&mut self, id: ConnectionId, bytes: &[IoSlice<'_>]) -> Wrote;

    /// The flush of a connection has come to its end.
    fn flushed(&mut self, id: ConnectionId, flushed: Flushed);
}

/// What has come of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flushed {
    /// Everything that waited has been written. The socket stays open.
    Open,
    /// Everything has. The socket's writing side is to be ended, and it is read on.
    ShutdownWrite,
    /// The socket is to be closed: everything has been written, or nothing more can be.
    Close,
    /// The socket has no room. The connection is to be flushed again when there is some.
    Blocked,
}

impl From<Finish> for Flushed {
    #[inline]
    fn from(finish: Finish) -> Self {
        match finish {
            Finish::Open => Self::Open,
            Finish::ShutdownWrite => Self::ShutdownWrite,
            Finish::Close => Self::Close,
        }
    }
}

impl Shard {
    /// Writes what waits for a connection, as far as the sink takes it.
    pub fn flush(&mut self, id: ConnectionId, now: Now, sink: &mut impl Sink) -> Flushed {
        self.context.now = now;
        self.begin_flush(id);
        self.write_out(id, sink)
    }

    /// As [`flush`](Self::flush), for many connections, none of which is named twice. What does
    /// not lie together, or follows the first bytes, is written to each alone.
    ///
    /// # Errors
    /// Those of [`WriteBatch::send`].
    pub fn flush_batch<B: WriteBatch>(
        &mut self,
        ids: &[ConnectionId],
        now: Now,
        batch: &mut B,
    ) -> Result<(), B::Error> {
        self.context.now = now;
        for id in ids {
            self.begin_flush(*id);
        }
        let first = ids.iter().filter_map(|id| {
            let bytes = self.pending_in_one(*id)?;
            (!bytes.is_empty()).then_some((*id, bytes))
        });
        let now = batch.send(first)?;
        self.context.now = now;
        // All of it is noted before anything follows from it: a queue whose first bytes have left
        // must not change before.
        for id in ids {
            let offered = self.pending_in_one(*id).map_or(0, <[u8]>::len);
            if offered > 0 {
                let count = batch.taken(*id, offered);
                let is_forgotten = planted(Bug::WrittenPrefixKept) && count < offered;
                if count > 0 && !is_forgotten {
                    self.written(*id, count);
                }
            }
        }
        self.settle();
        for id in ids {
            let sink = &mut |bytes: &[IoSlice<'_>]| batch.write(*id, bytes);
            let flushed = self.write_out(*id, sink);
            batch.flushed(*id, flushed);
        }
        Ok(())
    }

    /// Bytes that the flush of a connection has to write, control frames apart.
    #[inline]
    #[must_use]
    pub fn flush_bytes(&self, id: ConnectionId) -> usize {
        let connection = self.connections.get(id);
        connection.map_or(0, |it| it.queued_bytes() + it.outbox.reply_bytes())
    }

    /// What waits to be written to a connection.
    #[must_use]
    pub fn outbox(&self, connection: ConnectionId) -> Option<&Outbox> {
        self.connections.get(connection).map(|it| &it.outbox)
    }

    /// Bytes of frames, control frames apart, that wait to be written to a connection: its own
    /// and those it shares with other members of its channels, without those that wait for a
    /// snapshot.
    #[must_use]
    pub fn waiting_bytes(&self, id: ConnectionId) -> usize {
        let Some(connection) = self.connections.get(id) else {
            return 0;
        };
        let outbox = &connection.outbox;
        let session = self.connections.session(id);
        let memberships = session.into_iter().flat_map(|session| &session.memberships);
        let shared = memberships.filter_map(|membership| {
            let channel = self.channels.get(membership.channel)?;
            let member = channel.members.get(membership.index as usize)?;
            if member.waits {
                return None;
            }
            Some(channel.unsent(membership.index as usize).len())
        });
        outbox.delivery_bytes() + outbox.reply_bytes() + shared.sum::<usize>()
    }

    /// From here on what waits for the connection counts as offered. Nothing waits for one that is
    /// gone: its flush comes to its end with [`Flushed::Close`].
    fn begin_flush(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.dirty = None;
        connection.outbox.note_offer();
        if cfg!(debug_assertions) {
            connection.outbox.check();
        }
        if connection.borrows.is_some() && !connection.outbox.is_empty() {
            self.channels
                .copy_out_borrowed(id, &mut self.connections, &mut self.context);
            let connection = &mut self.connections[id];
            connection.dirty = None;
            connection.outbox.note_offer();
        }
    }

    /// Goes on with a flush that has begun.
    #[inline]
    fn write_out(&mut self, id: ConnectionId, sink: &mut impl Sink) -> Flushed {
        loop {
            let wrote = match self.pending_in_one(id) {
                Some([]) => break,
                Some(bytes) => sink.write(&[IoSlice::new(bytes)]),
                None => sink.write(&self.pending_slices(id)),
            };
            match wrote {
                Wrote::Taken(count) if count > 0 => self.note_taken(id, count),
                Wrote::Taken(_) | Wrote::NoRoom => return self.blocked(id),
                Wrote::Broken(errno) => return self.broken(id, errno),
            }
        }
        match sink.end(self.connections.finish(id)) {
            Wrote::Taken(_) => self.connections.flushed(id, &mut self.context).into(),
            Wrote::NoRoom => self.blocked(id),
            Wrote::Broken(errno) => self.broken(id, errno),
        }
    }

    fn broken(&mut self, id: ConnectionId, errno: u8) -> Flushed {
        self.socket_failed(id, false, errno);
        Flushed::Close
    }

    pub(in crate::shard) fn blocked(&mut self, id: ConnectionId) -> Flushed {
        self.note_taken(id, 0);
        Flushed::Blocked
    }

    /// The sink has taken that many bytes of a connection, or had no room.
    fn note_taken(&mut self, id: ConnectionId, count: usize) {
        self.written(id, count);
        self.settle();
        if cfg!(debug_assertions) {
            self.check_bounds(id);
        }
    }

    /// All bytes that are to be written to a connection next, if they lie together.
    #[inline]
    pub(in crate::shard) fn pending_in_one(&self, id: ConnectionId) -> Option<&[u8]> {
        match self.connections.get(id) {
            Some(connection) if connection.outbox.is_empty() => {
                Some(self.channels.borrowed(connection))
            }
            Some(connection) => connection.outbox.pending_in_one(),
            None => Some(&[]),
        }
    }

    /// The bytes that are to be written to a connection next, as slices for one write.
    pub(in crate::shard) fn pending_slices(&self, id: ConnectionId) -> Slices<'_> {
        let connection = self.connections.get(id);
        connection.map_or_else(Slices::new, |it| it.outbox.pending_slices())
    }
}

impl Connections {
    /// What the socket should do now that nothing waits.
    #[inline]
    pub(in crate::shard) fn finish(&self, id: ConnectionId) -> Finish {
        let connection = self.get(id);
        connection.map_or(Finish::Close, Connection::finish)
    }
}
