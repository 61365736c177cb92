//! What reading from a connection needs of it: its bounds, pongs, and the reasons for which its
//! input waits.

use crate::ids::{ConnectionId, ShardId};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::planted::{Bug, planted};
use crate::proto::ws::frame::{Opcode, append_frame};
use crate::proto::ws::message::MessageLimits;
use crate::shard::connection::connections::{Connections, Held};
use crate::shard::context::Context;

impl Context {
    pub(in crate::shard) fn message_limits(&self) -> MessageLimits {
        MessageLimits {
            message_bytes_max: self.config.limits.message_bytes_max + ENVELOPE_BYTES_MAX,
            takes_binary: self.config.handler.is_some(),
        }
    }
}

impl Connections {
    pub(in crate::shard) fn answer_ping(
        &mut self,
        id: ConnectionId,
        payload: &[u8],
        context: &mut Context,
    ) {
        let mut pong = Vec::with_capacity(payload.len() + 2);
        append_frame(&mut pong, Opcode::Pong, payload);
        let connection = &mut self[id];
        connection.outbox.push_control(&pong);
        connection.mark_dirty(&mut context.effects);
    }

    /// A connection waits from now on with what it has sent.
    pub(in crate::shard) fn begin_wait(&mut self, id: ConnectionId, context: &mut Context) {
        if let Some(session) = self.open_mut(id) {
            let rate = session.message_rate(&context.config.limits);
            session.bucket.touch(context.now.mono_ms, &rate);
        }
    }

    pub(in crate::shard) fn throttle(
        &mut self,
        from: ShardId,
        throttled: bool,
        context: &mut Context,
    ) {
        context.links.set_throttled(from, throttled);
        self.resume_after_links(context);
    }

    pub(in crate::shard) fn resume_after_links(&mut self, context: &mut Context) {
        for id in context.links.take_released() {
            self.release_input(id, Held::LINK);
        }
    }

    /// Removes a reason for holding input back; the input goes on at the end of the turn. A
    /// connection that is gone has none.
    pub(in crate::shard) fn release_input(&mut self, id: ConnectionId, reason: Held) {
        if let Some(connection) = self.get_mut(id)
            && connection.held.has(reason)
        {
            connection.held.remove(reason);
            let is_forgotten = planted(Bug::HeldInputNeverResumed) && reason == Held::LINK;
            connection.held_for = reason;
            if !is_forgotten {
                self.resume_later(id);
            }
        }
    }

    /// The input of a connection goes on at the end of a turn, unless something else holds it.
    pub(in crate::shard) fn resume_later(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id)
            && !connection.held.any()
        {
            connection.held.add(Held::RESUMING);
            self.resumable.push_back(id);
        }
    }
}
