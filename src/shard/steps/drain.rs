//! The drain: goodbye to everybody, the closes spread evenly over a window, and the end of what
//! speaks HTTP.

use crate::ids::ConnectionId;
use crate::shard::connection::connections::{Connections, Phase};
use crate::shard::connection::cost::{LOOK, WRITE};
use crate::shard::context::{Context, Shutdown};
use crate::shard::outbound::encode;
use crate::shard::outbound::outbox::Class;
use crate::shard::portions::DrainWalk;
use crate::shard::state::Shard;

impl Shard {
    /// Tells load balancers from now on that the server is about to end.
    pub(in crate::shard) fn announce_shutdown(&mut self) {
        if self.context.shutdown == Shutdown::None {
            self.context.shutdown = Shutdown::Announced;
        }
    }

    /// Whether every WebSocket has been closed, after a drain.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.context.shutdown == Shutdown::Draining
            && self.portions.drain.list.is_none()
            && self.connections.websockets == 0
    }

    /// Ends the connections on which nothing is asked; the others end after their answer.
    pub(in crate::shard) fn end_idle(&mut self) {
        for slot in 0..self.connections.slot_count() {
            if let Some(id) = self.connections.id_at(slot) {
                self.connections.drain_http(id, &mut self.context);
            }
        }
    }

    /// Sends `going_away` to everybody and spreads the closes evenly over the window.
    pub(in crate::shard) fn drain(&mut self, window_ms: u64, retry_after_ms: u64) {
        self.context.shutdown = Shutdown::Draining;
        self.context.retry_after_ms = retry_after_ms;
        let mut going_away = Vec::new();
        encode::going_away(&mut going_away, retry_after_ms);
        self.portions.drain.list = Some(DrainWalk {
            next_slot: 0,
            slots: self.connections.slot_count(),
            began_ms: self.context.now.mono_ms,
            window_ms,
            count: self.connections.len() as u64,
            placed: 0,
            going_away,
        });
        self.advance_drain();
    }

    pub(in crate::shard) fn advance_drain(&mut self) {
        let Some(mut walk) = self.portions.drain.list.take() else {
            return;
        };
        while walk.next_slot < walk.slots {
            if self.portions.drain.left == 0 {
                self.portions.drain.list = Some(walk);
                return;
            }
            let id = self.connections.id_at(walk.next_slot);
            walk.next_slot += 1;
            let cost = id.map_or(LOOK, |id| {
                self.connections.drain_one(id, &mut walk, &mut self.context)
            });
            self.portions.drain.spend(cost);
        }
    }
}

impl Connections {
    /// Returns the cost.
    fn drain_one(
        &mut self,
        id: ConnectionId,
        walk: &mut DrainWalk,
        context: &mut Context,
    ) -> usize {
        let close_ms = walk.next_close_ms(context.id().shard().0, context.placement.shard_count());
        let connection = &mut self[id];
        match &mut connection.phase {
            Phase::Open(session) => {
                session.drain_ms = Some(close_ms);
                connection
                    .outbox
                    .push(Class::Reply, &walk.going_away, &mut context.pool);
                connection.mark_dirty(&mut context.effects);
                context.metrics.counters.replies += 1;
                self.hold_if_unread(id);
                self.arm(id, context);
            }
            // It is told after its `welcome`.
            Phase::Registering(session) => session.drain_ms = Some(close_ms),
            // HTTP is served to the end.
            Phase::Http(_) | Phase::Closing { .. } | Phase::Lingering { .. } => return LOOK,
        }
        WRITE
    }
}
