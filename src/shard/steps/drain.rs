//! The drain: goodbye to everybody, and the closes spread evenly over a window.

use crate::ids::ConnectionId;
use crate::shard::connection::connections::{Connections, Phase};
use crate::shard::connection::cost::{LOOK, WRITE};
use crate::shard::context::Context;
use crate::shard::outbound::encode;
use crate::shard::outbound::outbox::Class;
use crate::shard::portions::DrainWalk;
use crate::shard::state::Shard;

impl Shard {
    /// Sends `going_away` to everybody and spreads the closes evenly over the window.
    pub(in crate::shard) fn drain(&mut self, window_ms: u64, retry_after_ms: u64) {
        self.context.draining = true;
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
        let close_ms = walk.next_close_ms(context.id().0, context.placement.shard_count());
        let Some(connection) = self.get_mut(id) else {
            return LOOK;
        };
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
            Phase::Http(_) => self.drain_http(id, context),
            // Hears of it behind its `welcome`.
            Phase::Registering(session) => session.drain_ms = Some(close_ms),
            Phase::Closing { .. } | Phase::Lingering { .. } => return LOOK,
        }
        WRITE
    }
}
