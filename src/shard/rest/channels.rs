//! `/v1/channels/:id/publish`: publishing into a channel's order.

use std::borrow::Cow;
use std::sync::Arc;

use crate::domain::peer::{JsonName, PeerInfo, SharedPeer};
use crate::domain::rights::Key;
use crate::proto::actions::Action;
use crate::proto::http::error::ApiError;
use crate::proto::http::target::percent_decode;
use crate::proto::wire::error::ErrorCode;
use crate::proto::wire::name::{is_reserved_channel, validate_channel_name};
use crate::shard::channel::channels::ChannelSlot;
use crate::shard::channel::owner::Publication;
use crate::shard::mesh_message::{Frame, MeshMessage, Publish};
use crate::shard::outbound::encode;
use crate::shard::rest::Served;
use crate::shard::rest::answer::{PublishAnswer, append_begin, append_json};
use crate::shard::rest::body::PublishBody;
use crate::shard::rest::refusal::Refusal;
use crate::shard::state::Shard;

/// Who a publication is from when the backend does not say.
const FROM_DEFAULT: &str = "server";

impl Shard {
    pub(super) fn publish_rest(
        &mut self,
        key: &Key,
        raw_name: &str,
        body: &[u8],
    ) -> Result<Served, Refusal> {
        let name = channel_name(raw_name)?;
        let publication = PublishBody::parse(body)?;
        permit(key, Action::Publish, &name)?;
        let shard_count = self.context.placement.shard_count();
        if !self
            .context
            .usage
            .message(&key.app, shard_count, self.context.now)
        {
            let message = ErrorCode::OverMessageQuota.message();
            return Err(Refusal::new(ApiError::OverMessageQuota, message));
        }
        let app = key.app.index;
        let hash = self.context.placement.channel_hash(app, &name);
        let owner = self.context.placement.owner(hash);
        let known = match owner == self.context.id() {
            true => self.channels.find(hash, app, &name),
            false => None,
        };
        let is_put_off = known.is_some_and(|slot| self.is_to_be_put_off(slot));
        if owner == self.context.id() && !is_put_off {
            let delivered = known.map_or(0, |slot| self.publish_owned(slot, &publication));
            let answer = PublishAnswer {
                channel: &name,
                delivered,
            };
            append_json(&mut self.rest.json, &answer);
            return Ok(Served::Now);
        }
        let channel = self.channel_key(app, hash, &name);
        let from = sender(&publication);
        self.context.encoded.clear();
        let data = publication.data;
        encode::message(&mut self.context.encoded, channel.name.json(), &from, data);
        let request = self.rest_request();
        let publish = Publish {
            channel,
            frame: Frame::from(&self.context.encoded[..]),
            sender_info: from.metadata.is_some().then_some(from),
            sender: None,
            request_id: None,
            request: Some(request),
            read_ns: self.context.stamp_ns,
        };
        let publish = MeshMessage::Publish(Box::new(publish));
        if is_put_off {
            self.put_off(publish);
        } else {
            self.context.send(owner, publish);
        }
        append_begin(&mut self.rest.json, ("channel", &name), "delivered");
        Ok(Served::Later(request.number))
    }

    /// Publishes into a channel of this shard's; answers the number of its members.
    fn publish_owned(&mut self, slot: ChannelSlot, publication: &PublishBody<'_>) -> u64 {
        let Some(channel) = self.channels.get(slot) else {
            return 0;
        };
        let from = sender(publication);
        let mut plain = std::mem::take(&mut self.context.encoded);
        plain.clear();
        encode::message(&mut plain, channel.key.name.json(), &from, publication.data);
        let publication = Publication {
            from: None,
            plain: &plain,
            shared: None,
            metadata: publication.peer_metadata,
            except: None,
            read_ns: self.context.stamp_ns,
        };
        let delivered = self.sequence(slot, publication);
        self.context.encoded = plain;
        delivered
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

/// Whether the key may do that, to that channel.
pub(super) fn permit(key: &Key, action: Action, channel: &str) -> Result<(), Refusal> {
    if !key.actions.contains(action) {
        return Err(Refusal::new(
            ApiError::ActionNotPermitted,
            "the key does not permit this action",
        ));
    }
    if !key.patterns.any_matches(channel) {
        return Err(Refusal::new(
            ApiError::ChannelNotAuthorized,
            "no channel pattern of the key matches the channel",
        ));
    }
    Ok(())
}
