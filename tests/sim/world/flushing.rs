//! What a turn writes, to one socket after the other or to many at once.

use std::collections::BTreeMap;
use std::io::IoSlice;

use ringmesh::ids::ConnectionId;
use ringmesh::shard::flush::Flushed;

use super::{REPLY_BYTES_MAX, World};
use crate::sockets::Pipes;

impl World {
    pub(super) fn flush(&mut self, at: usize) -> bool {
        let node = &mut self.nodes[at];
        let turn = node.shard.turn();
        let effects = node.shard.effects_mut();
        // Nobody measures here.
        for delta in effects.usage.drain(..) {
            self.used[delta.app.0 as usize] += delta.messages;
        }
        effects.ended.clear();
        effects.published.clear();
        effects.writes.clear();
        node.to_flush.begin_turn(&mut effects.dirty, turn);
        let mut any = !node.to_flush.is_empty();
        match self.batches.percent(50) {
            true => self.flush_batch(at),
            false => {
                while let Some(id) = self.nodes[at].to_flush.pop() {
                    self.flush_one(at, id);
                }
            }
        }
        let node = &mut self.nodes[at];
        if let Some(turn) = node.to_flush.offered() {
            node.shard.offered(turn, self.now);
        }
        for id in std::mem::take(&mut node.shard.effects_mut().readable) {
            any = true;
            if let Some(socket) = self.socket_at(at, id) {
                self.sockets[socket].to_read = true;
            }
        }
        for id in std::mem::take(&mut self.nodes[at].shard.effects_mut().abort) {
            any = true;
            self.close(at, id);
        }
        any
    }

    fn flush_one(&mut self, at: usize, id: ConnectionId) {
        let Some(index) = self.writable_at(at, id) else {
            return;
        };
        self.check_bounds(at, id);
        let before = self.data_waiting(&self.sockets[index]);
        let (now, socket) = (self.now, &mut self.sockets[index]);
        let shard = &mut self.nodes[at].shard;
        let sink = &mut |bytes: &[IoSlice<'_>]| socket.take(now.mono_ms, bytes);
        let flushed = shard.flush(id, now, sink);
        let after = self.data_waiting(&self.sockets[index]);
        self.sockets[index].data_written += before - after;
        self.flushed(at, index, flushed);
    }

    /// Flushes a turn's worth at once.
    fn flush_batch(&mut self, at: usize) {
        let mut ids = Vec::new();
        while let Some(id) = self.nodes[at].to_flush.pop() {
            if self.writable_at(at, id).is_some() && !ids.contains(&id) {
                self.check_bounds(at, id);
                let node = &mut self.nodes[at];
                node.to_flush.charge(node.shard.flush_bytes(id));
                ids.push(id);
            }
        }
        let indices = ids.iter().filter_map(|id| self.socket_at(at, *id));
        let indices: Vec<usize> = indices.collect();
        let waiting = |world: &Self| {
            let waiting = |index: &usize| world.data_waiting(&world.sockets[*index]);
            indices.iter().map(waiting).collect::<Vec<_>>()
        };
        let before = waiting(self);
        let node = &mut self.nodes[at];
        let mut pipes = Pipes {
            sockets: &mut self.sockets,
            slots: &node.slots,
            now: self.now,
            taken: BTreeMap::new(),
            outcomes: Vec::new(),
        };
        let Ok(()) = node.shard.flush_batch(&ids, self.now, &mut pipes);
        let outcomes = pipes.outcomes;
        let counts = before.iter().zip(waiting(self));
        let counts: Vec<usize> = counts.map(|(before, after)| before - after).collect();
        for (index, count) in indices.iter().zip(counts) {
            self.sockets[*index].data_written += count;
        }
        for (index, flushed) in outcomes {
            self.flushed(at, index, flushed);
        }
    }

    /// The socket of a connection, if it may be written to.
    fn writable_at(&self, at: usize, id: ConnectionId) -> Option<usize> {
        let index = self.socket_at(at, id)?;
        (!self.sockets[index].write_blocked).then_some(index)
    }

    fn flushed(&mut self, at: usize, index: usize, flushed: Flushed) {
        let socket = &mut self.sockets[index];
        socket.had_no_room = flushed == Flushed::Blocked;
        match flushed {
            Flushed::Open => {}
            Flushed::ShutdownWrite => socket.server_ended = true,
            Flushed::Close => {
                let id = socket.id;
                self.close(at, id);
            }
            Flushed::Blocked => socket.write_blocked = true,
        }
    }

    fn check_bounds(&self, at: usize, id: ConnectionId) {
        let shard = &self.nodes[at].shard;
        if let Some(outbox) = shard.outbox(id) {
            assert!(
                outbox.delivery_bytes() <= shard.delivery_bytes_max(id),
                "deliveries are bounded"
            );
            assert!(
                outbox.reply_bytes() <= REPLY_BYTES_MAX,
                "replies are bounded"
            );
        }
    }
}
