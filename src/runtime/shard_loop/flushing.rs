//! What a turn writes: whose outboxes, in which order, one by one or many at once.

use std::collections::VecDeque;
use std::io;

use ahash::AHashSet;

use super::length::{self, Length};
use super::net::Net;
use super::writing::Writings;
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::runtime::clock::Clock;
use crate::runtime::sinks::{PlainSink, RingBatch, TransportSink};
use crate::shard::flush::{FlushQueue, Flushed};
use crate::shard::state::Shard;

/// Fewer connections than this are flushed one by one: a submission costs more than it saves.
const BATCH_MIN: usize = 16;

/// Outboxes, and bytes of them, that are written before the time is looked at, in a turn that is
/// not to be long.
const PIECE: usize = BATCH_MIN;
const PIECE_BYTES: usize = 64 * 1_024;

/// See the top of this file.
pub(super) struct Flushing {
    queue: FlushQueue,
    /// Connections that are being flushed together; empty between turns.
    batch: Vec<ConnectionId>,
    writings: Writings,
    /// Connections whose sockets take no more for now.
    blocked: AHashSet<ConnectionId>,
    /// Connections in session whose sockets a write has found broken, oldest first.
    broken: VecDeque<ConnectionId>,
    clock: Clock,
}

impl Flushing {
    /// Nothing is to be written.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            queue: FlushQueue::default(),
            batch: Vec::new(),
            writings: Writings::default(),
            blocked: AHashSet::new(),
            broken: VecDeque::new(),
            clock,
        }
    }

    /// Writes as much as a turn of that length may, which began at `began_ns`. Sockets that are to
    /// be closed are among those that the shard wants closed then.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn flush(
        &mut self,
        (length, began_ns): (Length, u64),
        (net, shard): (&mut Net, &mut Shard),
        now: Now,
    ) -> io::Result<()> {
        let turn = shard.turn();
        self.queue.begin_turn(&mut shard.effects_mut().dirty, turn);
        self.writings.begin_turn(shard.effects_mut(), &self.queue);
        if length == Length::Whole {
            self.flush_some(net, shard, now)?;
        } else {
            let until_ns = length::write_until_ns(began_ns, self.clock.mono_ns());
            let mut pieces = 0;
            let mut goes_on = true;
            while goes_on && !self.queue.is_empty() {
                pieces += 1;
                goes_on = self.queue.allow(pieces * PIECE, pieces * PIECE_BYTES);
                self.flush_some(net, shard, now)?;
                goes_on &= self.clock.mono_ns() < until_ns;
            }
        }
        self.writings.end_turn(&self.queue, shard, &self.clock);
        if let Some(turn) = self.queue.offered() {
            shard.offered(turn, now);
        }
        Ok(())
    }

    /// Flushes as many as the turn may take now.
    fn flush_some(&mut self, net: &mut Net, shard: &mut Shard, now: Now) -> io::Result<()> {
        if self.queue.len() >= BATCH_MIN {
            return self.flush_batch(net, shard, now);
        }
        while let Some(id) = self.queue.pop() {
            self.flush_one(id, net, shard, now);
        }
        Ok(())
    }

    /// The same, as much of it at once as can be.
    fn flush_batch(&mut self, net: &mut Net, shard: &mut Shard, now: Now) -> io::Result<()> {
        let mut ids = std::mem::take(&mut self.batch);
        while let Some(id) = self.queue.pop() {
            match net.sockets.get(id) {
                Some(socket) if socket.is_about_to_end() && shard.wants_input(id) => {}
                // What is encrypted goes through one buffer, so it is sent at once.
                Some(socket) if socket.transport.is_some() => {
                    self.flush_one(id, net, shard, now);
                }
                // Who has become more urgent, or writable, meanwhile may be there twice.
                Some(socket) if socket.takes_bytes() && !ids.contains(&id) => {
                    self.queue.charge(shard.flush_bytes(id));
                    ids.push(id);
                }
                _ => {}
            }
        }
        let Net {
            ring,
            sockets,
            events,
            ..
        } = net;
        let mut batch = RingBatch::new(ring, sockets, events, self.clock);
        shard.flush_batch(&ids, now, &mut batch)?;
        let RingBatch { sent, outcomes, .. } = batch;
        shard.metrics().counters.bytes_sent += sent as u64;
        for (id, flushed) in outcomes {
            self.flushed(id, flushed, net, shard);
        }
        ids.clear();
        self.batch = ids;
        Ok(())
    }

    fn flush_one(&mut self, id: ConnectionId, net: &mut Net, shard: &mut Shard, now: Now) {
        let Some(socket) = net.sockets.get_mut(id).filter(|it| it.takes_bytes()) else {
            return;
        };
        if socket.is_about_to_end() && shard.wants_input(id) {
            return;
        }
        self.queue.charge(shard.flush_bytes(id));
        let (flushed, sent) = if socket.transport.is_some() {
            let mut sink = TransportSink::new(socket, &mut net.transports);
            (shard.flush(id, now, &mut sink), sink.sent)
        } else {
            let mut sink = PlainSink::new(socket);
            (shard.flush(id, now, &mut sink), sink.sent)
        };
        shard.metrics().counters.bytes_sent += sent as u64;
        self.flushed(id, flushed, net, shard);
    }

    /// A flush has come to its end.
    fn flushed(&mut self, id: ConnectionId, flushed: Flushed, net: &mut Net, shard: &mut Shard) {
        let Some(socket) = net.sockets.get_mut(id) else {
            return;
        };
        match flushed {
            Flushed::Open => {}
            Flushed::ShutdownWrite => socket.shutdown(libc::SHUT_WR),
            Flushed::Close if shard.is_in_session(id) => {
                socket.broken = true;
                self.broken.push_back(id);
            }
            Flushed::Close => shard.effects_mut().abort.push(id),
            // The ring tells when there is room.
            Flushed::Blocked => {
                socket.write_blocked = true;
                self.blocked.insert(id);
            }
        }
    }

    /// A socket takes bytes again, or is gone.
    pub(super) fn unblocked(&mut self, id: ConnectionId) {
        self.blocked.remove(&id);
    }

    /// The next connection in session whose socket a write has found broken.
    pub(super) fn next_broken(&mut self) -> Option<ConnectionId> {
        self.broken.pop_front()
    }

    /// Whether nothing is to be written, and nobody's end is to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.broken.is_empty()
    }

    /// How many sockets take no more for now.
    pub(super) fn blocked_count(&self) -> usize {
        self.blocked.len()
    }

    /// Bytes that wait to be written, of all connections.
    pub(super) fn waiting_bytes(&self, shard: &Shard) -> usize {
        // Who is in none of these has nothing to be written.
        let queued = shard.effects().dirty.iter().chain(self.queue.iter());
        let waiting: AHashSet<_> = queued.chain(&self.blocked).copied().collect();
        waiting.iter().map(|id| shard.waiting_bytes(*id)).sum()
    }
}
