//! What a message of an open connection asks for, and which room does it.
//!
//! The order of the checks is the order of the error codes: syntax (decided by `proto::wire`),
//! action, channel, limits, quota.

use crate::domain::token_bucket::TOKEN_THOUSANDTHS;
use crate::ids::ConnectionId;
use crate::metrics::label::Dropped;
use crate::proto::wire::command::{Command, Request};
use crate::proto::wire::error::ErrorCode;
use crate::proto::wire::string::JsonStr;
use crate::shard::state::Shard;

impl Shard {
    /// One text message.
    pub(in crate::shard) fn message(&mut self, id: ConnectionId, text: &str) {
        self.context.metrics.counters.messages_received += 1;
        if self.is_switching_rights() {
            self.channels
                .follow_rights(id, &mut self.connections, &mut self.context);
        }
        if !self.channels.take_tokens(
            id,
            TOKEN_THOUSANDTHS,
            &mut self.connections,
            &mut self.context,
        ) {
            return;
        }
        let request = match Request::parse(text) {
            Ok(request) => request,
            Err(rejection) => {
                let request_id = rejection.request_id.map(JsonStr::as_str);
                self.connections.error(
                    id,
                    (request_id, self.context.stamp_ns),
                    rejection.code,
                    Some(rejection.message),
                    &mut self.context,
                );
                return;
            }
        };
        let request_id = request.request_id.map(JsonStr::as_str);
        let done = self.obey(id, request.command, request_id);
        if let Err(code) = done {
            if code == ErrorCode::OverMessageQuota {
                self.context
                    .metrics
                    .counters
                    .dropped
                    .add(Dropped::MessageQuota);
            }
            self.connections.error(
                id,
                (request_id, self.context.stamp_ns),
                code,
                None,
                &mut self.context,
            );
        }
    }

    fn obey(
        &mut self,
        id: ConnectionId,
        command: Command<'_>,
        request_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        let Self {
            peers,
            channels,
            connections,
            context,
            ..
        } = self;
        match command {
            Command::Publish { channel, data } => {
                let publication = (&*channel, data);
                return channels.publish(id, publication, request_id, connections, context);
            }
            Command::Send { to, data } => {
                let message = (&*to, data);
                return peers.direct_send(id, message, request_id, channels, connections, context);
            }
            Command::Subscribe {
                channel,
                include_sender_metadata: with_metadata,
            } => {
                let channel = &*channel;
                return channels.subscribe(
                    id,
                    channel,
                    with_metadata,
                    request_id,
                    connections,
                    context,
                );
            }
            Command::Unsubscribe { channel } => {
                channels.unsubscribe(id, &channel, request_id, connections, context);
            }
            Command::Ping => connections.pong(id, request_id, context),
        }
        Ok(())
    }
}
