//! `GET /v1/channels/:id/peers`: who is in a channel, a page at a time.
//!
//! The channel's owner renders the whole body, up to a megabyte of it, into one piece that all
//! who get the same share. What a key's connections have not read is bounded.

use crate::domain::peer::{SharedChannel, SharedPeer};
use crate::domain::rights::Key;
use crate::ids::Seat;
use crate::limits::{
    PEERS_BYTES_MAX, PEERS_PER_PAGE_MAX, REST_UNREAD_BYTES_PER_KEY_MAX, REST_UNREAD_RETRY_MS,
};
use crate::proto::actions::Action;
use crate::proto::http::response::Status;
use crate::proto::http::target::Target;
use crate::proto::wire::name::validate_peer_id;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::connection::http::{Answer, Body};
use crate::shard::connection::refusal::Refusal;
use crate::shard::context::Context;
use crate::shard::frame::Frame;
use crate::shard::mesh_message::{ListPeers, MeshMessage, PeersPage, RestValue};
use crate::shard::questions::{Caller, PendingAnswer};
use crate::shard::rest::channels::channel_name;
use crate::shard::rest::{Rest, Served};

impl Rest {
    pub(super) fn list_peers(
        &mut self,
        caller: &Caller,
        raw_name: &str,
        target: &Target<'_>,
        channels: &mut Channels,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<Served, Refusal> {
        let name = channel_name(raw_name)?;
        let page = page_of(target)?;
        let key = &caller.key;
        let permissions = caller.permissions();
        permissions.check(Action::Presence, Some(&name))?;
        self.check_unread(key)?;
        let app = key.app.id.tag();
        let hash = context.placement.channel_hash(app, &name);
        let channel = channels.channel_key(app, hash, &name);
        let owner = context.placement.owner(hash);
        if owner == context.id() {
            return Ok(Served::Shared(self.peers_body(&channel, &page, channels)));
        }
        let request = connections.wait(caller, PendingAnswer::Peers, owner, context);
        let list = ListPeers {
            channel,
            page,
            request,
        };
        context.send(owner, MeshMessage::ListPeers(Box::new(list)));
        Ok(Served::Later)
    }

    /// Refuses a list to a key whose connections have left much unread: before it is rendered,
    /// because what is refused must not cost as much as what is served.
    pub(super) fn check_unread(&self, key: &Key) -> Result<(), Refusal> {
        let unread = self.unread.of_key(key);
        match unread > 0 && unread + PEERS_BYTES_MAX > REST_UNREAD_BYTES_PER_KEY_MAX {
            true => Err(too_much_unread()),
            false => Ok(()),
        }
    }

    pub(in crate::shard) fn owner_list_peers(
        &mut self,
        home: Seat,
        list: &ListPeers,
        channels: &mut Channels,
        context: &mut Context,
    ) {
        let body = RestValue::Peers(self.peers_body(&list.channel, &list.page, channels));
        context.rest_result(home, list.request, body);
    }

    /// A page of the peers of a channel that this shard owns.
    pub(in crate::shard) fn peers_body(
        &mut self,
        channel: &SharedChannel,
        page: &PeersPage,
        channels: &mut Channels,
    ) -> Frame {
        let slot = channels.find_key(channel);
        let local = slot.and_then(|slot| channels.get(slot));
        let owned = local.and_then(|local| local.owned.as_deref());
        let peers = owned.into_iter();
        let peers = peers.flat_map(|owned| owned.roster().peers_after(page.after.as_deref()));
        let body = render(channel, peers, page.limit);
        self.recent.share(body)
    }

    /// Answers with a body that others may share, unless the key's connections have left too
    /// much unread.
    pub(super) fn answer_shared(
        &mut self,
        caller: &Caller,
        body: &Frame,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<(), Refusal> {
        let Caller {
            connection: id,
            response_context,
            key,
        } = caller;
        let unread = self.unread.of_key(key);
        if unread > 0 && unread + body.len() > REST_UNREAD_BYTES_PER_KEY_MAX {
            return Err(too_much_unread());
        }
        let answer = Answer {
            response_context: *response_context,
            status: Ok(Status::Ok),
            headers: &[],
            body: Body::Shared(body),
        };
        connections.answer(*id, &answer, context);
        let bytes = connections[*id].outbox.reply_bytes();
        self.unread.set(*id, key, bytes);
        Ok(())
    }
}

fn too_much_unread() -> Refusal {
    Refusal::rate_limited(
        "too many bytes of answers to this key have not been read",
        REST_UNREAD_RETRY_MS,
    )
}

/// What the query asks for.
fn page_of(target: &Target<'_>) -> Result<PeersPage, Refusal> {
    let limit = match target.query_value("limit")? {
        None => usize::MAX,
        Some(text) => {
            let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let limit = text.parse().ok().filter(|_| all_digits);
            let in_range = |limit: &usize| (1..=PEERS_PER_PAGE_MAX).contains(limit);
            limit
                .filter(in_range)
                .ok_or(Refusal::invalid("'limit' must be 1 to 10000"))?
        }
    };
    let after = target.query_value("after")?;
    if after
        .as_ref()
        .is_some_and(|id| validate_peer_id(id).is_err())
    {
        return Err(Refusal::invalid(
            "'after' must be a peer id: 1 to 128 printable ASCII characters",
        ));
    }
    Ok(PeersPage {
        limit,
        after: after.map(|id| id.into_owned().into()),
    })
}

/// The body of the answer: as many peers as the limit and a megabyte allow, and the last one's id
/// where there are more.
fn render<'p>(
    channel: &SharedChannel,
    peers: impl Iterator<Item = &'p SharedPeer>,
    limit: usize,
) -> Vec<u8> {
    let mut json = br#"{"channel":"#.to_vec();
    json.extend_from_slice(channel.name.json().as_bytes());
    json.extend_from_slice(br#","peers":["#);
    let mut last: Option<&SharedPeer> = None;
    let mut next = None;
    for (at, peer) in peers.enumerate() {
        let metadata = peer.metadata.as_deref().unwrap_or_default();
        let entry_bytes = PEER_BYTES + peer.id.json().len() + metadata.len();
        if at >= limit || at > 0 && json.len() + entry_bytes > PEERS_BYTES_MAX {
            next = last;
            break;
        }
        if at > 0 {
            json.push(b',');
        }
        json.extend_from_slice(br#"{"peerId":"#);
        json.extend_from_slice(peer.id.json().as_bytes());
        if let Some(metadata) = &peer.metadata {
            json.extend_from_slice(br#","metadata":"#);
            json.extend_from_slice(metadata.as_bytes());
        }
        json.push(b'}');
        last = Some(peer);
    }
    json.push(b']');
    if let Some(next) = next {
        json.extend_from_slice(br#","next":"#);
        json.extend_from_slice(next.id.json().as_bytes());
    }
    json.push(b'}');
    json
}

/// Bytes around a peer's id and metadata.
const PEER_BYTES: usize = r#",{"peerId":,"metadata":}"#.len();
