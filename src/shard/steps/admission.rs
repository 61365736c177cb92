//! From a request to upgrade to an open session: credential, admission, registration, `welcome`.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::app_id::AppTag;
use crate::domain::connect_rate::Verdict;
use crate::domain::peer::{JsonName, PeerInfo, SharedPeer};
use crate::domain::time::Now;
use crate::domain::token_bucket::TokenBucket;
use crate::events::feed::FeedKind;
use crate::events::kind::{Cause, CredentialKind};
use crate::ids::{ConnectionId, Ticket};
use crate::metrics::Stage;
use crate::metrics::label::EndedBy;
use crate::proto::claims::Claims;
use crate::proto::http::error::{ApiError, RequestError};
use crate::proto::http::head::RequestHead;
use crate::proto::http::response::ResponseHeader;
use crate::proto::http::target::Target;
use crate::proto::http::upgrade::{WebSocketKey, check_upgrade};
use crate::proto::wire::event::{Event, Welcome};
use crate::proto::wire::string::JsonStr;
use crate::proto::ws::close::{CloseCode, REASON_BYTES_MAX};
use crate::proto::ws::message::Decoder;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Held, Phase, Session};
use crate::shard::connection::credential::{Answered, Credential};
use crate::shard::connection::ending::Goodbye;
use crate::shard::connection::permissions::Grant;
use crate::shard::connection::progress::NEVER_MS;
use crate::shard::connection::shown::Shown;
use crate::shard::connection::{credential, ice_servers};
use crate::shard::context::{Context, SHUTTING_DOWN, Shutdown};
use crate::shard::effect::Span;
use crate::shard::input::MemoryLevel;
use crate::shard::mesh_message::{MeshMessage, Register};
use crate::shard::outbound::encode;
use crate::shard::questions::{PendingRegister, Question};
use crate::shard::recording::Refused;
use crate::shard::state::Shard;

/// When a client that was refused for want of memory may come back.
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
        let remote = self.connections.client_address(id, head, &mut self.context);
        let is_attempt = upgrade != Err(RequestError::NotAnUpgrade);
        if !self.count_attempt(id, remote, is_attempt) {
            return;
        }
        let key = match upgrade {
            Ok(key) => key,
            Err(error) => {
                tracing::debug!(%remote, cause = error.message(), "connect refused");
                let status = error.api_error().status().code();
                let refused = Refused::stranger(Cause::BadUpgrade, status);
                self.context.refused(id, remote, &refused);
                self.connections.end_http(id, error, &mut self.context);
                return;
            }
        };
        if self.turns_away(id, remote) {
            return;
        }
        match credential::of_connect(&self.context.rights, head, target, self.context.now) {
            Ok(credential) => self.admit(id, remote, &key, credential),
            Err(fault) => {
                tracing::debug!(%remote, cause = %fault, "connect refused");
                let answer = fault.answered(self.context.config.reject_with_close);
                let shown = Shown::of_connect(&self.context.rights, head, target);
                let refused = shown.refused(&fault, answer.code());
                let why = self.context.config.explain.then(|| refused.explained());
                self.context.refused(id, remote, &refused);
                self.channels.refuse_credential(
                    id,
                    &key,
                    (answer, why.flatten()),
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
        let status = ApiError::RateLimited.status().code();
        context.refused(id, remote, &Refused::stranger(Cause::ConnectRate, status));
        let after_sec = retry_after_ms.div_ceil(1_000);
        let headers = [ResponseHeader::RetryAfterSec(after_sec)];
        let error = (ApiError::RateLimited, "too many connects from this address");
        connections.refuse_connect(id, error, &headers, context);
        false
    }

    /// Refuses a connect while the server takes nobody. Returns whether that is so.
    fn turns_away(&mut self, id: ConnectionId, remote: IpAddr) -> bool {
        let Self {
            connections,
            context,
            ..
        } = self;
        let status = ApiError::InternalError.status().code();
        if context.memory_level != MemoryLevel::Normal {
            context.refused(id, remote, &Refused::stranger(Cause::Memory, status));
            let error = (ApiError::InternalError, "the server is short of memory");
            let headers = [ResponseHeader::RetryAfterSec(MEMORY_RETRY_AFTER_SEC)];
            connections.refuse_connect(id, error, &headers, context);
            return true;
        }
        if context.shutdown == Shutdown::Draining {
            context.refused(id, remote, &Refused::stranger(Cause::Draining, status));
            let error = (ApiError::InternalError, SHUTTING_DOWN);
            let retry_after_sec = context.retry_after_ms.div_ceil(1_000).max(1);
            let headers = [ResponseHeader::RetryAfterSec(retry_after_sec)];
            connections.refuse_connect(id, error, &headers, context);
            return true;
        }
        false
    }

    pub(in crate::shard) fn admit(
        &mut self,
        id: ConnectionId,
        remote: IpAddr,
        key: &WebSocketKey,
        credential: Credential,
    ) {
        self.connections.show_credential(id);
        let app = credential.key.app.clone();
        if app.suspended {
            let goodbye = Goodbye::of(Cause::AppSuspended, CloseCode::APP_SUSPENDED);
            return self.turn_away((id, remote), key, &credential, &goodbye);
        }
        let connections_max = app.connections_max.filter(|_| !app.overages);
        let Some(connections) = app.gauges.connect(connections_max) else {
            let goodbye = Goodbye::of(Cause::ConnectionLimit, CloseCode::CONNECTION_LIMIT);
            return self.turn_away((id, remote), key, &credential, &goodbye);
        };
        self.context.record_connections(&app, connections);
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
            is_counted: true,
            pardoned_bytes: 0,
        });
        self.connections
            .switch_protocols(id, key, &mut self.context);
        let connection = &mut self.connections[id];
        // Behind a proxy: it is this client's up to its end.
        connection.remote = remote;
        let began_ns = match &connection.phase {
            Phase::Http(http) => http.began_ns,
            _ => self.context.stamp_ns,
        };
        connection.phase = Phase::Registering(session);
        connection.ended_by = EndedBy::ABNORMAL;
        connection.held.add(Held::REQUEST);
        self.register(id, (app.id.tag(), peer), began_ns);
    }

    /// Closes a connection whose credential is good, and whose app takes no more.
    fn turn_away(
        &mut self,
        (id, remote): (ConnectionId, IpAddr),
        key: &WebSocketKey,
        credential: &Credential,
        goodbye: &Goodbye<'_>,
    ) {
        let (shown, peer) = match &credential.claims {
            None => (CredentialKind::Publishable, ""),
            Some(claims) => (CredentialKind::Token, &*claims.sub),
        };
        let refused = Refused {
            shown,
            key: Some(&credential.key),
            peer,
            ..Refused::stranger(goodbye.cause, goodbye.code.get())
        };
        self.context.refused(id, remote, &refused);
        self.channels
            .close_upgraded(id, key, goodbye, &mut self.connections, &mut self.context);
    }

    /// Tells the owner of a peer that the connection exists.
    fn register(&mut self, id: ConnectionId, (app, peer): (AppTag, SharedPeer), began_ns: u64) {
        let owner = self.context.placement.peer_owner(app, peer.id.as_str());
        if owner == self.context.id() {
            let connection = self.context.here(id);
            if self.peers.registry.register(app, &peer, connection) {
                self.context.feed_peer(app, &peer, FeedKind::PeerOnline);
            }
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
            return; // It was closed before the peer's owner had answered.
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
        // The drain itself tells those that it has not come to yet.
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
        if self.context.config.handler.is_none() {
            self.connections.queue_reply(id, &frame, &mut self.context);
        }
        self.context.encoded = frame;
        self.context.metrics.counters.handshakes += 1;
        self.connections
            .record_opened(id, began_ns, &mut self.context);
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
        (answer, why): (Answered, Option<&str>),
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let told = |text: &str| match why {
            Some(why) => format!("{text}: {why}"),
            None => text.to_owned(),
        };
        match answer {
            Answered::Close(code) => {
                let reason = told(code.reason());
                let goodbye = Goodbye {
                    reason: cut(&reason, REASON_BYTES_MAX),
                    ..Goodbye::of(Cause::UnknownKey, code)
                };
                self.close_upgraded(id, key, &goodbye, connections, context);
            }
            Answered::Http((error, message)) => {
                let error = (error, &*told(message));
                connections.refuse_connect(id, error, &[], context);
            }
        }
    }

    /// Completes the handshake only to say why the connection is closed.
    fn close_upgraded(
        &mut self,
        id: ConnectionId,
        key: &WebSocketKey,
        goodbye: &Goodbye<'_>,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        connections.switch_protocols(id, key, context);
        self.close(id, goodbye, connections, context);
    }
}

/// The beginning of a text, of at most so many bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn granted(mut claims: Claims, now: Now) -> (SharedPeer, Grant) {
    let peer = PeerInfo {
        id: JsonName::new(&claims.sub),
        metadata: claims.peer_metadata.take(),
    };
    (Arc::new(peer), Grant::new(claims, now))
}
