//! Replies to a command: `ack`, `pong` and errors; and whether a message is allowed.

use crate::ids::ConnectionId;
use crate::proto::actions::Action;
use crate::proto::wire::error::ErrorCode;
use crate::proto::wire::event::{AckTold, Event};
use crate::proto::wire::position::Position;
use crate::proto::wire::string::JsonStr;
use crate::shard::connection::connections::Connections;
use crate::shard::connection::permissions::{Denied, Permissions};
use crate::shard::context::Context;
use crate::shard::mesh_message::Sequenced;
use crate::shard::outbound::encode;
use crate::shard::questions::ReplyTo;

impl Connections {
    pub(in crate::shard) fn pong(
        &mut self,
        id: ConnectionId,
        request_id: Option<&str>,
        context: &mut Context,
    ) {
        let mut frame = std::mem::take(&mut context.encoded);
        frame.clear();
        let request_id = request_id.map(JsonStr::from_escaped);
        encode::event(&mut frame, &Event::Pong { request_id });
        self.reply(id, &frame, context.stamp_ns, context);
        context.encoded = frame;
    }

    pub(in crate::shard) fn ack(
        &mut self,
        id: ConnectionId,
        reply_to: &ReplyTo,
        context: &mut Context,
    ) {
        self.ack_raw(id, (reply_to.id(), reply_to.read_ns), context);
    }

    pub(in crate::shard) fn ack_raw(
        &mut self,
        id: ConnectionId,
        (request_id, read_ns): (Option<&str>, u64),
        context: &mut Context,
    ) {
        if let Some(request_id) = request_id {
            let mut frame = std::mem::take(&mut context.encoded);
            frame.clear();
            encode::ack(&mut frame, request_id);
            self.reply(id, &frame, read_ns, context);
            context.encoded = frame;
        }
    }

    /// Acks a command and tells of the history of its channel.
    pub(in crate::shard) fn ack_at(
        &mut self,
        id: ConnectionId,
        (request_id, read_ns): (Option<&str>, u64),
        position: Option<Position>,
        told: AckTold,
        context: &mut Context,
    ) {
        if let Some(request_id) = request_id {
            let mut frame = std::mem::take(&mut context.encoded);
            frame.clear();
            encode::ack_at(&mut frame, request_id, position, told);
            self.reply(id, &frame, read_ns, context);
            context.encoded = frame;
        }
    }

    /// Acks a publication and tells its position.
    pub(in crate::shard) fn ack_published(
        &mut self,
        id: ConnectionId,
        reply_to: (Option<&str>, u64),
        sequenced: &Sequenced,
        context: &mut Context,
    ) {
        let told = match sequenced.is_duplicate {
            true => AckTold::Duplicate,
            false => AckTold::Nothing,
        };
        self.ack_at(id, reply_to, sequenced.position, told, context);
    }

    /// Answers a command that was read at `read_ns` with an error. The text is the code's own
    /// unless a better one is known.
    pub(in crate::shard) fn error(
        &mut self,
        id: ConnectionId,
        (request_id, read_ns): (Option<&str>, u64),
        code: ErrorCode,
        message: Option<&'static str>,
        context: &mut Context,
    ) {
        let mut frame = std::mem::take(&mut context.encoded);
        frame.clear();
        encode::error(
            &mut frame,
            request_id,
            code,
            message.unwrap_or(code.message()),
        );
        self.reply(id, &frame, read_ns, context);
        context.encoded = frame;
    }
}

impl Context {
    /// Decides whether a message is allowed, and counts it against the app's quota if it is.
    pub(in crate::shard) fn admit_message(
        &mut self,
        permissions: Permissions<'_>,
        action: Action,
        channel: Option<&str>,
    ) -> Result<(), Denied> {
        permissions.check(action, channel)?;
        let shard_count = self.placement.shard_count();
        let app = &permissions.key.app;
        match self.usage.message(app, shard_count, self.now) {
            true => Ok(()),
            false => Err(Denied::Quota),
        }
    }
}
