//! Replays: what was published to a channel before a join, on its way to who has joined.
//!
//! The owner of the channel says with the join up to which publication the subscriber has missed
//! something, and hands out these; what follows in the channel's order is sent to the member. So
//! one line has all of it, without a gap and without a double. At the home a replay is queued a
//! portion at a time, each when the one before it has been written and in another turn: the other
//! channels of the connection wait for no more than a portion, and other connections for a bounded
//! part of a turn. Meanwhile the member waits, as it does for its snapshot, and nothing else does.

use crate::ids::ConnectionId;
use crate::proto::wire::event::AckTold;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Phase};
use crate::shard::connection::joining::State;
use crate::shard::context::Context;
use crate::shard::history::replay::Resumed;
use crate::shard::outbound::outbox::Class;
use crate::shard::questions::PendingCommand;

/// Portions that are queued in one turn: together about what a turn writes.
const PORTIONS_PER_TURN_MAX: usize = 32;

impl Channels {
    /// Queues the next portions of replays.
    pub(in crate::shard) fn advance_replays(
        &mut self,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        for _ in 0..self.replaying.len().min(PORTIONS_PER_TURN_MAX) {
            let Some(id) = self.replaying.pop_front() else {
                return;
            };
            if connections.session(id).is_none() {
                continue; // It has ended meanwhile.
            }
            self.queue_portion(id, connections, context);
            self.advance_joins(id, connections, context);
            connections.hold_if_unread(id);
        }
    }

    fn queue_portion(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let connection = &mut connections[id];
        let outbox = &mut connection.outbox;
        let Phase::Open(session) = &mut connection.phase else {
            return;
        };
        let mut awaited = session.joining.iter_mut().flat_map(|it| &mut it.snapshots);
        let Some(awaited) = awaited.find(|it| it.state == State::ReplayDue) else {
            return; // It has left the channel meanwhile.
        };
        for (frame, range) in awaited.replay.next_portion() {
            outbox.push_shared(Class::Reply, &frame, range, &mut context.pool);
        }
        let end = outbox.end();
        let mut queued = None;
        awaited.state = State::Replaying { end };
        if awaited.replay.is_over() {
            awaited.state = State::Queued { end };
            outbox.push(Class::Delivery, &awaited.held, &mut context.pool);
            awaited.held = Vec::new();
            queued = awaited.slot.take();
        }
        connection.mark_dirty(&mut context.effects);
        if let Some(slot) = queued {
            self.set_waits(id, slot, false, connections);
        }
    }
}

impl Connections {
    /// Acks a `subscribe` that has asked what was published before.
    pub(in crate::shard) fn ack_resumed(
        &mut self,
        command: &PendingCommand,
        resumed: &Resumed,
        context: &mut Context,
    ) {
        let count = resumed.replay.count();
        context.metrics.counters.history_replayed += u64::from(count);
        let told = resumed
            .recovered
            .map_or(AckTold::Nothing, |recovered| AckTold::Replay {
                recovered,
                count,
            });
        self.answer_command_at(command, resumed.position, told, context);
    }
}
