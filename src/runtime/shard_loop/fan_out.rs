//! Writes to many connections at once: one call of the kernel for a turn's worth of them.
//!
//! What a single flush would send first to each connection is submitted together; whoever has
//! more to say then, or in several pieces, or whose socket took less, goes on alone.

use std::io;

use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::runtime::ring::RingEvent;
use crate::runtime::shard_loop::ShardLoop;
use crate::shard::input::Input;

/// Fewer connections than this are flushed one by one: a submission costs more than it saves.
pub(super) const BATCH_MIN: usize = 16;

impl ShardLoop {
    /// Flushes a turn's worth of the queue.
    pub(super) fn flush_batch(&mut self, now: Now) -> io::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        while let Some(id) = self.to_flush.pop() {
            match self.sockets.get(id) {
                // What is encrypted goes through one buffer, so it is sent at once.
                Some(socket) if socket.transport.is_some() => self.flush_one(id, now)?,
                // Who has become more urgent, or writable, meanwhile may be there twice.
                Some(socket) if socket.takes_bytes() && !batch.contains(&id) => {
                    self.shard.begin_flush(id);
                    self.to_flush.charge(self.shard.flush_bytes(id));
                    batch.push(id);
                }
                _ => {}
            }
        }
        let (shard, sockets) = (&self.shard, &self.sockets);
        let sends = batch.iter().filter_map(|id| {
            let pending = shard.pending_in_one(*id)?;
            let fd = sockets.get(*id)?.raw();
            (!pending.is_empty()).then_some((*id, fd, pending))
        });
        self.ring.send_batch(sends, &mut self.events)?;
        let now = self.clock.now();
        let mut short = self.take_short_sends();
        for id in batch.drain(..) {
            let pending = self.shard.pending_in_one(id);
            let mut count = pending.map_or(0, <[u8]>::len);
            if let Some(at) = short.iter().position(|(connection, _)| *connection == id) {
                count = short.swap_remove(at).1;
            }
            if count > 0 {
                self.count_sent(count);
                let connection = id;
                self.handle(Input::Written { connection, count }, now);
            }
            self.flush_pending(id, now)?;
        }
        self.batch = batch;
        Ok(())
    }

    /// The batch's failures out of the ring's events: none, unless sockets are full or broken.
    fn take_short_sends(&mut self) -> Vec<(ConnectionId, usize)> {
        let short = self
            .events
            .extract_if(.., |event| matches!(event, RingEvent::SentShort { .. }));
        short
            .filter_map(|event| match event {
                RingEvent::SentShort { connection, count } => Some((connection, count)),
                _ => None,
            })
            .collect()
    }
}
