//! What a pause of all shards has queued, and that nobody is closed for it.
//!
//! A shard that is frozen delivers whatever was on its way, whether its receivers have room or
//! not, and holds no publisher. So each connection is pardoned what was queued to it meanwhile: it
//! may have that much more in its queue than the limit allows, until it has read. What waited for
//! it before counts as ever, so that whoever reads nothing gains no other limit by each pause.
//!
//! Always true: what waits for a connection is no more than the limit and its pardon, see
//! [`check_queued`](crate::shard::state::Shard::check_queued).

use std::collections::BTreeMap;

use crate::ids::ConnectionId;
use crate::shard::connection::connections::{Connection, Connections, Queue};

/// Pardons that are looked at in a turn, to take back what was read.
const LOOKS_MAX: usize = 64;

impl Connection {
    /// Bytes of deliveries that wait for it, wherever they do.
    pub(in crate::shard) fn delivery_bytes_waiting(&self) -> usize {
        self.queued_bytes() + self.held_bytes()
    }

    /// Bytes by which the limit is higher for it.
    #[cold]
    pub(in crate::shard) fn pardoned_bytes(&self) -> usize {
        self.session().map_or(0, |it| it.pardoned_bytes as usize)
    }

    /// Whether so much is too much, although a pause has queued a part of it. Nothing is where a
    /// session has ended: what waits is written, and nothing else is queued.
    pub(in crate::shard) fn exceeds(&self, limit: usize, bytes: usize) -> bool {
        let limit = limit.saturating_add(self.pardoned_bytes());
        self.session().is_some() && bytes > limit
    }

    /// Takes back of its pardon what it has read. Returns whether something is left.
    fn review(&mut self) -> bool {
        let waiting = self.delivery_bytes_waiting() as u32;
        let Some(session) = self.session_mut() else {
            return false;
        };
        session.pardoned_bytes = session.pardoned_bytes.min(waiting);
        session.pardoned_bytes > 0
    }
}

impl Connections {
    /// A pause begins: what waits now counts after it as it does now.
    pub(in crate::shard) fn note_queues(&mut self) {
        let queue = |it: &Connection| {
            let waiting = it.delivery_bytes_waiting();
            let queue = Queue {
                counted: waiting.saturating_sub(it.pardoned_bytes()),
                position: it.outbox.position(),
            };
            (waiting > 0).then_some((it.id, queue))
        };
        let before = self.iter().filter_map(queue).collect();
        self.pardons.before = before;
    }

    /// What a connection will be pardoned when the present pause ends, in bytes.
    pub(in crate::shard) fn pardon_of(&self, connection: &Connection) -> u32 {
        let waiting = connection.delivery_bytes_waiting();
        let before = self.pardons.before.get(&connection.id);
        let counted = before.map_or(0, |queue| {
            let written = connection.outbox.position().wrapping_sub(queue.position);
            queue.counted.saturating_sub(written as usize)
        });
        waiting.saturating_sub(counted) as u32
    }

    /// The pause is over.
    pub(in crate::shard) fn pardon_all(&mut self) {
        for slot in 0..self.slot_count() {
            if let Some(id) = self.id_at(slot) {
                let pardon = self.pardon_of(&self[id]);
                self.pardon(id, pardon);
            }
        }
        self.pardons.before = BTreeMap::new();
    }

    /// Pardons a connection so many bytes, in place of what it was pardoned before.
    pub(in crate::shard) fn pardon(&mut self, id: ConnectionId, bytes: u32) {
        let session = self.session_mut(id).map(|it| &mut it.pardoned_bytes);
        let before = session.map(|it| std::mem::replace(it, bytes));
        if bytes > 0 && before == Some(0) {
            self.pardons.given.push_back(id);
        }
    }

    /// At the end of a turn: who has read needs no pardon any more.
    #[inline]
    pub(in crate::shard) fn review_pardons(&mut self) {
        if !self.pardons.given.is_empty() {
            self.review_some();
        }
    }

    #[cold]
    fn review_some(&mut self) {
        for _ in 0..LOOKS_MAX.min(self.pardons.given.len()) {
            if let Some(id) = self.pardons.given.pop_front()
                && self.get_mut(id).is_some_and(Connection::review)
            {
                self.pardons.given.push_back(id);
            }
        }
    }
}
