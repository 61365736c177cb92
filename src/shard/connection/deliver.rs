//! Frames for one connection: replies, and deliveries within its bound.

use crate::ids::ConnectionId;
use crate::metrics::Stage;
use crate::planted::{Bug, planted};
use crate::shard::connection::connections::{Connection, Connections, Phase};
use crate::shard::context::Context;
use crate::shard::effect::{ChannelSlot, Effects, Urgency};
use crate::shard::outbound::outbox::{BufferPool, Class, Piece};

impl Connections {
    /// The peer has reset the connection: nothing is queued for it any more. Thousands who are
    /// gone at once would be told of each other otherwise, one after the other. Its place is free
    /// for another connection of the app, such as the one with which the peer comes back.
    pub(in crate::shard) fn unreachable(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        connection.is_unreachable = true;
        if let Phase::Registering(session) | Phase::Open(session) = &mut connection.phase {
            session.give_up_place();
        }
    }

    /// A frame that answers what the connection sent, which was read at `read_ns`.
    pub(in crate::shard) fn reply(
        &mut self,
        id: ConnectionId,
        frame: &[u8],
        read_ns: u64,
        context: &mut Context,
    ) {
        if self.queue_reply(id, frame, context) {
            context.effects.write(Stage::Reply, read_ns);
        }
    }

    /// Queues an answer. Returns whether it goes out.
    pub(in crate::shard) fn queue_reply(
        &mut self,
        id: ConnectionId,
        frame: &[u8],
        context: &mut Context,
    ) -> bool {
        // Nothing follows a close frame.
        if let Some(connection) = self.get_mut(id)
            && let Phase::Open(_) = connection.phase
        {
            connection
                .outbox
                .push(Class::Reply, frame, &mut context.pool);
            connection.mark_dirty(&mut context.effects);
            context.metrics.counters.replies += 1;
            return true;
        }
        false
    }
}

impl Connection {
    /// Queues a delivery, or keeps it for the member of that channel that waits for its snapshot.
    /// Returns `false` if the connection takes too little of what it was sent.
    #[inline]
    pub(in crate::shard) fn deliver_or_hold(
        &mut self,
        waits: Option<ChannelSlot>,
        frames: &[Piece<'_>],
        to: (usize, Urgency),
        pool: &mut BufferPool,
        effects: &mut Effects,
    ) -> bool {
        match waits {
            Some(slot) => self.hold(slot, frames, to.0),
            None => self.deliver(frames, to, pool, effects),
        }
    }

    /// Queues a delivery. Returns `false` if the connection takes too little of what it was sent.
    #[inline]
    pub(in crate::shard) fn deliver(
        &mut self,
        frames: &[Piece<'_>],
        (limit, urgency): (usize, Urgency),
        pool: &mut BufferPool,
        effects: &mut Effects,
    ) -> bool {
        if self.is_unreachable {
            return true;
        }
        let count: usize = frames.iter().map(Piece::len).sum();
        if planted(Bug::DroppedSilently) && self.queued_bytes() + count > limit / 4 {
            return true;
        }
        let bytes = self.queued_bytes() + self.held_bytes() + count;
        if bytes > limit && bytes > limit.saturating_add(self.pardoned_bytes()) {
            return false;
        }
        self.outbox.push_pieces(Class::Delivery, frames, pool);
        self.mark(urgency, effects);
        true
    }

    /// Asks the runtime to flush the outbox, as soon as answers are.
    #[inline]
    pub(in crate::shard) fn mark_dirty(&mut self, effects: &mut Effects) {
        self.mark(Urgency::Reply, effects);
    }

    /// Asks the runtime to flush the outbox.
    #[inline]
    pub(in crate::shard) fn mark(&mut self, urgency: Urgency, effects: &mut Effects) {
        if self.dirty.is_none_or(|known| urgency < known) {
            self.dirty = Some(urgency);
            effects.dirty.push(self.id, urgency);
        }
    }

    /// Bytes of deliveries that wait: its own, and what it is lent.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn queued_bytes(&self) -> usize {
        let lent = self.borrows.map_or(0, |_| self.lent_bytes as usize);
        self.outbox.delivery_bytes() + lent
    }

    /// What of these its socket has not been offered yet.
    #[inline]
    pub(in crate::shard) fn unoffered_bytes(&self) -> usize {
        match self.outbox.is_untried() {
            true => self.queued_bytes(),
            false => 0,
        }
    }
}
