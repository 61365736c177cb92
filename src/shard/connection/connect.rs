//! What the way from a request to an open session needs of a connection.
//!
//! A client learns only that its credential is not good; the real cause goes into the debug log.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::peer::{JsonName, PeerInfo, SharedPeer};
use crate::domain::rights::Key;
use crate::ids::ConnectionId;
use crate::proto::forwarded::X_FORWARDED_FOR;
use crate::proto::http::error::ApiError;
use crate::proto::http::head::RequestHead;
use crate::proto::http::response::{ResponseContext, ResponseHeader};
use crate::proto::http::upgrade::WebSocketKey;
use crate::shard::connection::connections::Connections;
use crate::shard::connection::http::{Answer, Body};
use crate::shard::connection::proxies::warn_of_forwarded;
use crate::shard::context::Context;

/// Candidates drawn for a random peer id, so that its owner is this shard and its direct
/// messages need no detour. With more shards than this the last one is taken as it is.
const PEER_ID_CANDIDATES: usize = 16;

impl Context {
    /// A peer for a publishable key: a random UUID (RFC 9562, version 4).
    pub(in crate::shard) fn random_peer(&mut self, key: &Key) -> SharedPeer {
        let mut random = [0; 16 * PEER_ID_CANDIDATES];
        self.entropy.fill(&mut random);
        let (candidates, _) = random.as_chunks::<16>();
        let mut buffer = uuid::Uuid::encode_buffer();
        let mut id = "";
        for candidate in candidates {
            let uuid = uuid::Builder::from_random_bytes(*candidate).into_uuid();
            id = uuid.hyphenated().encode_lower(&mut buffer);
            if self.placement.peer_owner(key.app.id.tag(), id) == self.id() {
                break;
            }
        }
        Arc::new(PeerInfo {
            id: JsonName::new(id),
            metadata: None,
        })
    }
}

impl Connections {
    /// Who sent a request, by the word of trusted proxies where there are any.
    pub(in crate::shard) fn client_address(
        &self,
        id: ConnectionId,
        head: &RequestHead<'_>,
        context: &mut Context,
    ) -> IpAddr {
        let remote = self[id].remote;
        let trusted = &context.config.trusted_proxies;
        let is_named = head.header_values(X_FORWARDED_FOR).next().is_some();
        let is_untrusted = is_named && !trusted.contains(remote);
        let told = warn_of_forwarded(trusted, remote, (head, is_named), context.now);
        if is_untrusted {
            context.metrics.counters.forwarded_untrusted += 1;
        }
        if let Some(requests) = told {
            context.record_untrusted(remote, requests);
        }
        let trusted = &context.config.trusted_proxies;
        trusted.client(remote, head.header_values(X_FORWARDED_FOR))
    }

    pub(in crate::shard) fn refuse_connect(
        &mut self,
        id: ConnectionId,
        error: (ApiError, &str),
        headers: &[ResponseHeader],
        context: &mut Context,
    ) {
        let response_context = ResponseContext::UNREADABLE;
        let answer = Answer {
            response_context,
            status: Err(error),
            headers,
            body: Body::Bytes(b""),
        };
        self.answer(id, &answer, context);
    }

    pub(in crate::shard) fn switch_protocols(
        &mut self,
        id: ConnectionId,
        key: &WebSocketKey,
        context: &mut Context,
    ) {
        let mut response = std::mem::take(&mut context.encoded);
        response.clear();
        key.append_switching_protocols(&mut response);
        self.write_http(id, &response, context);
        context.encoded = response;
        self.websockets += 1;
    }
}
