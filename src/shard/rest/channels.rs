//! `/v1/channels/:id/publish`: publishing into a channel's order.

use std::borrow::Cow;
use std::sync::Arc;

use crate::domain::peer::{JsonName, PeerInfo, SharedPeer};
use crate::proto::actions::Action;
use crate::proto::http::error::ApiError;
use crate::proto::http::target::percent_decode;
use crate::proto::wire::error::ErrorCode;
use crate::proto::wire::name::{is_reserved_channel, validate_channel_name};
use crate::shard::channel::channels::Channels;
use crate::shard::channel::publish::{Content, Waiter};
use crate::shard::connection::connections::Connections;
use crate::shard::connection::refusal::Refusal;
use crate::shard::context::Context;
use crate::shard::mesh_message::Publisher;
use crate::shard::questions::Caller;
use crate::shard::rest::answer::{PublishAnswer, append_json};
use crate::shard::rest::body::PublishBody;
use crate::shard::rest::{Rest, Served};

/// Who a publication is from when the backend does not say.
const FROM_DEFAULT: &str = "server";

impl Rest {
    pub(super) fn publish_rest(
        &mut self,
        caller: &Caller,
        raw_name: &str,
        body: &[u8],
        channels: &mut Channels,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<Served, Refusal> {
        let name = channel_name(raw_name)?;
        let publication = PublishBody::parse(body)?;
        let permissions = caller.permissions();
        context.admit_message(permissions, Action::Publish, Some(&name))?;
        let from = Publisher {
            peer: sender(&publication),
            connection: None,
        };
        let channel = (permissions.key.app.id.tag(), &*name);
        let waiter = Waiter::Rest(caller);
        let content = Content {
            data: publication.data,
            id: publication.id.as_deref(),
        };
        let Some(sequenced) =
            channels.publish_into(channel, from, content, waiter, connections, context)
        else {
            return Ok(Served::Later);
        };
        append_json(&mut self.json, &PublishAnswer::new(&name, &sequenced));
        Ok(Served::Now)
    }
}

/// What subscribers see of whoever publishes.
fn sender(publication: &PublishBody<'_>) -> SharedPeer {
    let from = publication.from.as_deref().unwrap_or(FROM_DEFAULT);
    Arc::new(PeerInfo {
        id: JsonName::new(from),
        metadata: publication.peer_metadata.map(Box::from),
    })
}

/// The channel that a path names.
pub(super) fn channel_name(raw_name: &str) -> Result<Cow<'_, str>, Refusal> {
    let name = percent_decode(raw_name)?;
    if validate_channel_name(&name).is_err() {
        return Err(Refusal::invalid(
            "the channel in the path must have 1 to 256 bytes and no control characters",
        ));
    }
    if is_reserved_channel(&name) {
        let message = ErrorCode::ChannelReserved.message();
        return Err(Refusal::new(ApiError::ChannelReserved, message));
    }
    Ok(name)
}
