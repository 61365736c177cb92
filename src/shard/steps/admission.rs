//! From a request to upgrade to an open session: credential, admission, registration, `welcome`.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::connect_rate::Verdict;
use crate::domain::peer::{JsonName, PeerInfo, SharedPeer};
use crate::domain::time::Now;
use crate::domain::token_bucket::TokenBucket;
use crate::ids::{AppIndex, ConnectionId, Ticket};
use crate::limits::TOKEN_EXPIRY_LEAD_MS;
use crate::metrics::Stage;
use crate::metrics::label::{self, EndedBy};
use crate::proto::claims::Claims;
use crate::proto::http::error::{ApiError, RequestError};
use crate::proto::http::head::RequestHead;
use crate::proto::http::response::ResponseHeader;
use crate::proto::http::target::Target;
use crate::proto::http::upgrade::{WebSocketKey, check_upgrade};
use crate::proto::wire::event::{Event, Welcome};
use crate::proto::wire::string::JsonStr;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::message::Decoder;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Held, Phase, Session};
use crate::shard::connection::credential::{Credential, CredentialFault};
use crate::shard::connection::permissions::Grant;
use crate::shard::connection::progress::NEVER_MS;
use crate::shard::connection::{credential, ice_servers};
use crate::shard::context::Context;
use crate::shard::effect::Span;
use crate::shard::input::MemoryLevel;
use crate::shard::mesh_message::{MeshMessage, Register};
use crate::shard::outbound::encode;
use crate::shard::questions::{PendingRegister, Question};
use crate::shard::state::Shard;

/// When a client may come back that was refused for want of memory.
const MEMORY_RETRY_AFTER_SEC: u64 = 5;

impl Shard {
    /// A request to `/v1`.
    pub(in crate::shard) fn connect(
        &mut self,
        id: ConnectionId,
        head: &RequestHead<'_>,
        target: &Target<'_>,
    ) {
        let upgrade = check_upgrade(head);
        let Some(remote) = self.connections.client_address(id, head, &self.context) else {
            return;
        };
        let is_attempt = upgrade != Err(RequestError::NotAnUpgrade);
        if !self.count_attempt(id, remote, is_attempt) {
            return;
        }
        let key = match upgrade {
            Ok(key) => key,
            Err(error) => {
                tracing::debug!(%remote, cause = error.message(), "connect refused");
                self.context
                    .count_refusal(label::HandshakeRefused::BadUpgrade);
                self.connections.end_http(id, error, &mut self.context);
                return;
            }
        };
        if self.turns_away(id) {
            return;
        }
        match credential::of_connect(&self.context.rights, head, target, self.context.now) {
            Ok(credential) => self.admit(id, &key, credential),
            Err(fault) => {
                tracing::debug!(%remote, cause = %fault, "connect refused");
                self.context.count_refusal(fault.label());
                self.channels.refuse_credential(
                    id,
                    &key,
                    &fault,
                    &mut self.connections,
                    &mut self.context,
                );
            }
        }
    }

    /// Counts a request to `/v1` against the rate of its address. Returns whether that was
    /// allowed; the request is refused if not.
    fn count_attempt(&mut self, id: ConnectionId, remote: IpAddr, is_attempt: bool) -> bool {
        let Self {
            connections,
            context,
            ..
        } = self;
        if !is_attempt {
            let Err(limited) = context.count_stranger(remote) else {
                return true;
            };
            let error = (limited.error, &*limited.message);
            connections.refuse_connect(id, error, limited.header.as_slice(), context);
            return false;
        }
        let now_ms = context.now.mono_ms;
        let Verdict::Limited { retry_after_ms } = context.connect_rates.attempt(remote, now_ms)
        else {
            return true;
        };
        tracing::debug!(%remote, cause = "connect rate", "connect refused");
        context.count_refusal(label::HandshakeRefused::ConnectRate);
        let after_sec = retry_after_ms.div_ceil(1_000);
        let headers = [ResponseHeader::RetryAfterSec(after_sec)];
        let error = (ApiError::RateLimited, "too many connects from this address");
        connections.refuse_connect(id, error, &headers, context);
        false
    }

    /// Refuses a connect while the server takes nobody. Returns whether that is so.
    fn turns_away(&mut self, id: ConnectionId) -> bool {
        let Self {
            connections,
            context,
            ..
        } = self;
        if context.memory_level != MemoryLevel::Normal {
            context.count_refusal(label::HandshakeRefused::Memory);
            let error = (ApiError::InternalError, "the server is short of memory");
            let headers = [ResponseHeader::RetryAfterSec(MEMORY_RETRY_AFTER_SEC)];
            connections.refuse_connect(id, error, &headers, context);
            return true;
        }
        if context.draining {
            context.count_refusal(label::HandshakeRefused::Draining);
            let error = (ApiError::InternalError, "the server is shutting down");
            connections.refuse_connect(id, error, &[], context);
            return true;
        }
        false
    }

    pub(in crate::shard) fn admit(
        &mut self,
        id: ConnectionId,
        key: &WebSocketKey,
        credential: Credential,
    ) {
        self.connections.show_credential(id);
        let app = credential.key.app.clone();
        if app.suspended {
            let cause = label::HandshakeRefused::AppSuspended;
            return self.turn_away(id, key, cause, CloseCode::APP_SUSPENDED);
        }
        let connections_max = app.connections_max.filter(|_| !app.overages);
        let Some(connections) = app.gauges.connect(connections_max) else {
            let cause = label::HandshakeRefused::ConnectionLimit;
            return self.turn_away(id, key, cause, CloseCode::CONNECTION_LIMIT);
        };
        if app.connections_max.is_some_and(|max| connections > max) {
            self.context
                .usage
                .overage_connection(&app, self.context.now);
        }
        let Credential {
            key: rights,
            claims,
        } = credential;
        let (peer, grant) = match claims {
            None => (self.context.random_peer(&rights), None),
            Some(claims) => {
                let (peer, grant) = granted(claims, self.context.now);
                (peer, Some(Box::new(grant)))
            }
        };
        let session = Box::new(Session {
            key: rights,
            peer: peer.clone(),
            grant,
            decoder: Decoder::server(),
            bucket: TokenBucket::new(self.context.now.mono_ms),
            memberships: smallvec::SmallVec::new(),
            joining: None,
            drain_ms: None,
        });
        self.connections
            .switch_protocols(id, key, &mut self.context);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let began_ns = match &connection.phase {
            Phase::Http(http) => http.began_ns,
            _ => self.context.stamp_ns,
        };
        connection.phase = Phase::Registering(session);
        connection.ended_by = EndedBy::ABNORMAL;
        connection.held.add(Held::REQUEST);
        self.register(id, (app.index, peer), began_ns);
    }

    /// Closes a connection whose credential is good, and whose app takes no more.
    fn turn_away(
        &mut self,
        id: ConnectionId,
        key: &WebSocketKey,
        cause: label::HandshakeRefused,
        code: CloseCode,
    ) {
        self.context.count_refusal(cause);
        self.channels
            .close_upgraded(id, key, code, &mut self.connections, &mut self.context);
    }

    /// Tells the owner of a peer that the connection exists.
    fn register(&mut self, id: ConnectionId, (app, peer): (AppIndex, SharedPeer), began_ns: u64) {
        let owner = self.context.placement.peer_owner(app, peer.id.as_str());
        if owner == self.context.id() {
            let connection = self.context.here(id);
            self.peers.registry.register(app, &peer, connection);
            return self.registered(id, began_ns);
        }
        let pending = Question::Register(PendingRegister {
            connection: id,
            began_ns,
        });
        let register = Register {
            app,
            peer,
            connection: self.context.here(id),
            ticket: self.connections.ask(pending, [owner], &mut self.context),
        };
        self.context
            .send(owner, MeshMessage::Register(Box::new(register)));
    }

    /// The peer's owner has registered a connection.
    pub(in crate::shard) fn owner_registered(&mut self, ticket: Ticket) {
        if let Some(Question::Register(pending)) = self.context.questions.take(ticket) {
            self.registered(pending.connection, pending.began_ns);
        }
    }

    /// The peer's owner knows the connection, whose handshake began at `began_ns`: it is open
    /// from now on.
    fn registered(&mut self, id: ConnectionId, began_ns: u64) {
        if self.is_switching_rights() {
            self.channels
                .follow_rights(id, &mut self.connections, &mut self.context);
        }
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let ended = Phase::Lingering { until_ms: NEVER_MS };
        let mut session = match std::mem::replace(&mut connection.phase, ended) {
            Phase::Registering(session) => session,
            other => {
                connection.phase = other;
                return;
            }
        };
        let metadata = session
            .grant
            .as_mut()
            .and_then(|grant| grant.metadata.take());
        let expires_at_sec = session.grant.as_ref().map(|grant| grant.expires_sec);
        let peer = session.peer.clone();
        // Whom the drain has not come to yet, it tells itself.
        let is_drained = session.drain_ms.is_some();
        let metadata = ice_servers::welcome_metadata(
            &session.key,
            peer.id.as_str(),
            metadata,
            self.context.now,
        );
        connection.phase = Phase::Open(session);
        let mut frame = std::mem::take(&mut self.context.encoded);
        frame.clear();
        encode::event(
            &mut frame,
            &Event::Welcome(Welcome {
                peer_id: JsonStr::from_escaped(peer.id.json()),
                expires_at_sec,
                server_time_sec: self.context.now.unix_sec(),
                message_bytes_max: self.context.config.limits.message_bytes_max,
                metadata: metadata.as_deref().map(str::as_bytes),
            }),
        );
        if is_drained {
            encode::going_away(&mut frame, self.context.retry_after_ms);
            self.context.metrics.counters.replies += 1;
        }
        self.connections.queue_reply(id, &frame, &mut self.context);
        self.context.encoded = frame;
        self.context.metrics.counters.handshakes += 1;
        self.context.effects.ended.push(Span {
            stage: Stage::Handshake,
            began_ns,
        });
        self.connections.hold_if_unread(id);
        self.connections.release_input(id, Held::REQUEST);
        self.connections.arm(id, &mut self.context);
    }
}

impl Channels {
    fn refuse_credential(
        &mut self,
        id: ConnectionId,
        key: &WebSocketKey,
        fault: &CredentialFault,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        match fault.close_code() {
            Some(close) if context.config.reject_with_close => {
                self.close_upgraded(id, key, close, connections, context);
            }
            _ => connections.refuse_connect(id, fault.answer(), &[], context),
        }
    }

    /// Completes the handshake only to say why the connection is closed.
    fn close_upgraded(
        &mut self,
        id: ConnectionId,
        key: &WebSocketKey,
        code: CloseCode,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        connections.switch_protocols(id, key, context);
        self.close(id, code, code.reason(), connections, context);
    }
}

fn granted(claims: Claims, now: Now) -> (SharedPeer, Grant) {
    let closes_unix_ms = claims
        .expires_at_unix_ms
        .saturating_sub(TOKEN_EXPIRY_LEAD_MS);
    let grant = Grant {
        expires_sec: claims.expires_at_unix_sec(),
        patterns: claims.channels,
        actions: claims.permissions,
        closes_ms: now.mono_at_unix_ms(closes_unix_ms),
        metadata: claims.metadata,
    };
    let peer = PeerInfo {
        id: JsonName::new(&claims.sub),
        metadata: claims.peer_metadata,
    };
    (Arc::new(peer), grant)
}
