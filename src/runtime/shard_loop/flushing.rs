//! What a turn writes: whose outboxes, in which order, one by one or many at once.

use std::io;

use ahash::AHashSet;

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

/// See the top of this file.
pub(super) struct Flushing {
    queue: FlushQueue,
    /// Connections that are being flushed together; empty between turns.
    batch: Vec<ConnectionId>,
    writings: Writings,
    /// Connections whose sockets take no more for now.
    blocked: AHashSet<ConnectionId>,
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
            clock,
        }
    }

    /// Writes as much as a turn may. Sockets that are to be closed are among those that the shard
    /// wants closed then.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn flush(&mut self, net: &mut Net, shard: &mut Shard, now: Now) -> io::Result<()> {
        let turn = shard.turn();
        self.queue.begin_turn(&mut shard.effects_mut().dirty, turn);
        self.writings.begin_turn(shard.effects_mut(), &self.queue);
        if self.queue.len() >= BATCH_MIN {
            self.flush_batch(net, shard, now)?;
        } else {
            while let Some(id) = self.queue.pop() {
                self.flush_one(id, net, shard, now);
            }
        }
        self.writings.end_turn(&self.queue, shard, &self.clock);
        if let Some(turn) = self.queue.offered() {
            shard.offered(turn, now);
        }
        Ok(())
    }

    /// Flushes a turn's worth of the queue, as much of it at once as can be.
    fn flush_batch(&mut self, net: &mut Net, shard: &mut Shard, now: Now) -> io::Result<()> {
        let mut ids = std::mem::take(&mut self.batch);
        while let Some(id) = self.queue.pop() {
            match net.sockets.get(id) {
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

    /// Whether nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
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
