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
use crate::shard::channel::publish::Content;
use crate::shard::handler::Message;
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
        if self.context.config.handler.is_some() {
            return self.hand_over(id, Message::Text(text));
        }
        let request = match Request::parse(text) {
            Ok(request) => request,
            Err(rejection) => {
                self.connections
                    .record_error(id, rejection.code, ("", false), &mut self.context);
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
            // What it was about is looked for only now: a command that is done needs it not.
            let request = Request::parse(text);
            let command = request.as_ref().map(|it| &it.command);
            let is_to = matches!(command, Ok(Command::Send { .. }));
            let about = command.map_or("", |it| it.about());
            self.connections
                .record_error(id, code, (about, is_to), &mut self.context);
            self.connections.error(
                id,
                (request_id, self.context.stamp_ns),
                code,
                None,
                &mut self.context,
            );
        }
    }

    /// One binary message, which only a handler takes.
    pub(in crate::shard) fn binary_message(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.context.metrics.counters.messages_received += 1;
        if self.channels.take_tokens(
            id,
            TOKEN_THOUSANDTHS,
            &mut self.connections,
            &mut self.context,
        ) {
            self.hand_over(id, Message::Binary(bytes));
        }
    }

    /// Hands a message to the handler, if there is one, and queues what it answers.
    fn hand_over(&mut self, id: ConnectionId, message: Message<'_>) {
        let Some(handler) = self.context.config.handler.clone() else {
            return;
        };
        let mut frames = std::mem::take(&mut self.context.encoded);
        frames.clear();
        handler.message(message, &mut frames);
        if !frames.is_empty() {
            let read_ns = self.context.stamp_ns;
            self.connections
                .reply(id, &frames, read_ns, &mut self.context);
        }
        self.context.encoded = frames;
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
            Command::Publish {
                channel,
                data,
                id: publication_id,
                position,
            } => {
                let content = Content {
                    data,
                    id: publication_id.as_deref(),
                };
                let reply = (request_id, position);
                return channels.publish(id, (&channel, content), reply, connections, context);
            }
            Command::Send { to, data } => {
                let message = (&*to, data);
                return peers.direct_send(id, message, request_id, channels, connections, context);
            }
            Command::Subscribe {
                channel,
                include_sender_metadata: with_metadata,
                since,
            } => {
                let channel = (&*channel, since);
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
                return channels.unsubscribe(id, &channel, request_id, connections, context);
            }
            Command::Refresh { token } => {
                channels.refresh(id, token.as_deref(), request_id, connections, context);
            }
            Command::Ping => connections.pong(id, request_id, context),
        }
        Ok(())
    }
}
