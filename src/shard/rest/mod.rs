//! The REST API, on any shard.
//!
//! Stands between a request that `shard/connection/http.rs` has read and the owners of channels
//! and peers.
//! `Shard::admit_request` decides, in the order of the error table and from the head alone,
//! whether a request is served at all; `Shard::serve` does what it asks for. A request that
//! other shards must be asked for holds its connection's input until the answer is there, so
//! answers leave in the order of their requests. How requests are framed is not known here.

mod answer;
mod body;
mod channels;
mod client_files;
mod history;
mod kick;
pub(crate) mod openapi;
mod peers;
mod recent;
pub(in crate::shard) mod route;
mod tokens;
pub(in crate::shard) mod unread;

#[cfg(test)]
pub(in crate::shard) mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use ahash::RandomState;

use crate::domain::connect_rate::Verdict;
use crate::domain::rights::Key;
use crate::domain::usage_report::UsageReport;
use crate::ids::ConnectionId;
use crate::planted::{Bug, planted};
use crate::proto::http::body::BodyFraming;
use crate::proto::http::error::ApiError;
use crate::proto::http::head::RequestHead;
use crate::proto::http::response::{ResponseContext, ResponseHeader, Status};
use crate::proto::http::target::Target;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Held, Phase};
use crate::shard::connection::credential;
use crate::shard::connection::http::{Answer, Body};
use crate::shard::connection::refusal::Refusal;
use crate::shard::context::{Context, SHUTTING_DOWN, Shutdown};
use crate::shard::frame::Frame;
use crate::shard::mesh_message::RestValue;
use crate::shard::questions::{Caller, PendingAnswer, WaitingRequest};
use crate::shard::rest::answer::{ForgottenAnswer, KickAnswer, PublishAnswer, append_json};
use crate::shard::rest::client_files::Wanted;
use crate::shard::rest::recent::Recent;
use crate::shard::rest::route::{Access, KeyRoute, OpenRoute};
use crate::shard::rest::unread::Unread;

/// What the requests of a shard share.
#[derive(Debug)]
pub(in crate::shard) struct Rest {
    /// Answers are put together here.
    json: Vec<u8>,
    /// Bodies that several answers may share.
    recent: Recent,
    /// What lists have not been read.
    pub(in crate::shard) unread: Unread,
}

/// A request that may be served.
pub(in crate::shard) enum Admitted<'h> {
    /// By anybody.
    Open(OpenRoute),
    /// By people, with a browser.
    StartPage,
    /// By programs: a file of the JavaScript client.
    ClientFile(Wanted),
    /// By the holder of a key.
    Key {
        route: KeyRoute,
        /// The name in the path, as it was sent.
        name: &'h str,
        /// With the query.
        target: Target<'h>,
        key: Arc<Key>,
    },
}

/// What became of a request that is served.
pub(in crate::shard) enum Served {
    /// The answer is in `Rest::json`.
    Now,
    /// This is the whole body.
    Shared(Frame),
    /// An owner was asked.
    Later,
}

impl Rest {
    /// No requests.
    pub(in crate::shard) fn new(hasher: &RandomState) -> Self {
        Self {
            json: Vec::new(),
            recent: Recent::default(),
            unread: Unread::new(hasher),
        }
    }

    /// Serves a request that has arrived whole: answers it, or holds its connection until an
    /// owner has.
    pub(in crate::shard) fn serve(
        &mut self,
        (id, response_context): (ConnectionId, ResponseContext<'static>),
        admitted: Admitted<'_>,
        body: &[u8],
        channels: &mut Channels,
        connections: &mut Connections,
        context: &mut Context,
    ) -> Result<(), Refusal> {
        self.json.clear();
        let (route, name, target, key) = match admitted {
            Admitted::Open(route) => {
                return connections.answer_open(route, (id, response_context), context);
            }
            Admitted::StartPage => {
                let page = Arc::clone(&context.config.start_page);
                let answer: (&[_], _) = (&[ResponseHeader::Html], page.as_bytes());
                connections.answer_with(id, response_context, answer, context);
                return Ok(());
            }
            Admitted::ClientFile(wanted) => {
                connections.answer(id, &wanted.answer(response_context), context);
                return Ok(());
            }
            Admitted::Key {
                route,
                name,
                target,
                key,
            } => (route, name, target, key),
        };
        let caller = Caller {
            connection: id,
            response_context,
            key,
        };
        let served = match route {
            KeyRoute::MintToken => self.mint_token(&caller.key, body, context)?,
            KeyRoute::ListPeers => {
                self.list_peers(&caller, name, &target, channels, connections, context)?
            }
            KeyRoute::ReadHistory => {
                self.read_history(&caller, name, &target, channels, connections, context)?
            }
            KeyRoute::ForgetHistory => {
                self.forget_history(&caller, name, channels, connections, context)?
            }
            KeyRoute::Publish => {
                self.publish_rest(&caller, name, body, channels, connections, context)?
            }
            KeyRoute::KickPeer => connections.kick_peer(&caller, name, context)?,
            KeyRoute::ReadUsage => {
                append_json(&mut self.json, &UsageReport::of(&caller.key.app));
                Served::Now
            }
        };
        match served {
            Served::Now => self.answer_json(id, response_context, connections, context),
            Served::Shared(body) => {
                return self.answer_shared(&caller, &body, connections, context);
            }
            Served::Later => {}
        }
        Ok(())
    }

    /// Answers with what is in `Rest::json`.
    fn answer_json(
        &mut self,
        id: ConnectionId,
        response_context: ResponseContext<'static>,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let json = std::mem::take(&mut self.json);
        connections.answer_with(id, response_context, (&[], &json), context);
        self.json = json;
    }

    /// Answers a request with what it waited for.
    pub(in crate::shard) fn answer_waiting(
        &mut self,
        waiting: &WaitingRequest,
        value: &RestValue,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let WaitingRequest { caller, answer } = waiting;
        let (id, response_context) = (caller.connection, caller.response_context);
        if !connections.is_still_asking(id) {
            return;
        }
        connections.release_input(id, Held::REQUEST);
        self.json.clear();
        let answered = match (answer, value) {
            (PendingAnswer::Published { channel }, RestValue::Published(sequenced)) => {
                append_json(&mut self.json, &PublishAnswer::new(channel, sequenced));
                self.answer_json(id, response_context, connections, context);
                Ok(())
            }
            (PendingAnswer::Kicked { peer_id }, RestValue::Kicked(closed)) => {
                let closed = *closed;
                let address = connections.get(id).map(|it| it.remote);
                context.record_kicked_with_key((&caller.key, address), peer_id, closed);
                append_json(&mut self.json, &KickAnswer { peer_id, closed });
                self.answer_json(id, response_context, connections, context);
                if planted(Bug::RestAnsweredTwice) {
                    self.answer_json(id, response_context, connections, context);
                }
                Ok(())
            }
            (PendingAnswer::Peers, RestValue::Peers(body))
            | (PendingAnswer::History, RestValue::History(Some(body))) => {
                self.answer_shared(caller, body, connections, context)
            }
            (PendingAnswer::History, RestValue::History(None)) => Err(history::lost()),
            (PendingAnswer::Forgotten { .. }, RestValue::Forgotten(it)) if it.is_refused => {
                Err(history::unforgotten())
            }
            (PendingAnswer::Forgotten { channel }, RestValue::Forgotten(forgotten)) => {
                let deleted = forgotten.count;
                append_json(&mut self.json, &ForgottenAnswer { channel, deleted });
                self.answer_json(id, response_context, connections, context);
                Ok(())
            }
            // An owner was silent, or lost. None answers what it was not asked.
            _ => Err(Refusal::UNANSWERED),
        };
        if let Err(refusal) = answered {
            connections.answer(id, &Answer::refusing(response_context, &refusal), context);
        }
        connections.hold_if_unread(id);
    }
}

impl Context {
    /// Decides about a request by its head: who asks, how often, for what, with what body.
    pub(in crate::shard) fn admit_request<'h>(
        &self,
        remote: IpAddr,
        head: &RequestHead<'h>,
        target: &Target<'h>,
        framing: BodyFraming,
    ) -> Result<Admitted<'h>, Refusal> {
        let is_api = target.path.starts_with("/v1/");
        if is_api
            && let Verdict::Limited { retry_after_ms } = self
                .config
                .request_rates
                .of_address(remote, self.now.mono_ms)
        {
            let message = "too many requests from this address";
            return Err(Refusal::rate_limited(message, retry_after_ms));
        }
        let admitted = self.identify(head, target, |key| match key {
            Some(key) => self.count_request(key),
            None => self.count_stranger(remote),
        })?;
        let body_bytes_max = self.config.limits.rest_body_bytes_max as u64;
        if let BodyFraming::Length(length) = framing
            && length > body_bytes_max
        {
            return Err(Refusal::from(
                crate::proto::http::RequestError::BodyTooLarge,
            ));
        }
        if framing != BodyFraming::None && !body::is_json(head) {
            let message = "the body must be JSON, and its Content-Type application/json";
            return Err(Refusal::new(ApiError::UnsupportedMediaType, message));
        }
        if framing != BodyFraming::None && !body::is_unencoded(head) {
            let message = "the body must not be encoded: leave Content-Encoding out";
            return Err(Refusal {
                header: Some(ResponseHeader::AcceptEncodingIdentity),
                ..Refusal::new(ApiError::UnsupportedMediaType, message)
            });
        }
        Ok(admitted)
    }

    fn count_request(&self, key: &Key) -> Result<(), Refusal> {
        match self.config.request_rates.of_key(&key.id, self.now.mono_ms) {
            Verdict::Allowed => Ok(()),
            Verdict::Limited { retry_after_ms } => Err(Refusal::rate_limited(
                "too many requests with this key",
                retry_after_ms,
            )),
        }
    }

    /// Counts a request that proves no key. The connection of a client that sends too many is not
    /// kept: to answer on and on would be the very work that the limit is to save.
    pub(in crate::shard) fn count_stranger(&self, remote: IpAddr) -> Result<(), Refusal> {
        match self
            .config
            .request_rates
            .of_stranger(remote, self.now.mono_ms)
        {
            Verdict::Allowed => Ok(()),
            Verdict::Limited { retry_after_ms } => Err(Refusal {
                ends_connection: true,
                ..Refusal::rate_limited(
                    "too many requests without a good credential from this address",
                    retry_after_ms,
                )
            }),
        }
    }

    /// Finds out who asks for what, without counting it as a request again.
    pub(in crate::shard) fn admit_request_again<'h>(
        &self,
        head: &RequestHead<'h>,
        target: &Target<'h>,
    ) -> Result<Admitted<'h>, Refusal> {
        self.identify(head, target, |_| Ok(()))
    }

    /// Nothing is told about what lies behind a guarded path before the credential is good.
    /// `count` hears who it is, once that is known: nobody, or the holder of a key.
    fn identify<'h>(
        &self,
        head: &RequestHead<'h>,
        target: &Target<'h>,
        count: impl FnOnce(Option<&Key>) -> Result<(), Refusal>,
    ) -> Result<Admitted<'h>, Refusal> {
        if !route::is_guarded(target.path) {
            count(None)?;
            let has_page = !self.config.start_page.is_empty();
            if has_page
                && route::is_start_page(head.method, target.path)
                && !head.list_contains("upgrade", "websocket")
            {
                return Ok(Admitted::StartPage);
            }
            if let Some(wanted) = client_files::find(head, target.path)? {
                return Ok(Admitted::ClientFile(wanted));
            }
            return match route::find(head.method, target.path)?.0 {
                Access::Open(route) => Ok(Admitted::Open(route)),
                // Every path with a key is guarded; a table that says otherwise opens nothing.
                Access::Key(_) => Err(Refusal::UNAUTHORIZED),
            };
        }
        let accept_bare_key_id = self.config.accept_bare_key_id;
        let authorization = head.authorization();
        let proven =
            credential::of_request(&self.rights, authorization, accept_bare_key_id, self.now);
        count(proven.as_deref().ok())?;
        let key = proven.map_err(|fault| Refusal::from(&fault))?;
        let (access, name) = route::find(head.method, target.path)?;
        match access {
            Access::Open(route) => Ok(Admitted::Open(route)),
            Access::Key(route) => Ok(Admitted::Key {
                route,
                name,
                target: *target,
                key,
            }),
        }
    }
}

impl Connections {
    /// Answers what anybody may ask for.
    fn answer_open(
        &mut self,
        route: OpenRoute,
        (id, response_context): (ConnectionId, ResponseContext<'static>),
        context: &mut Context,
    ) -> Result<(), Refusal> {
        let body = match route {
            OpenRoute::Health if context.shutdown != Shutdown::None => {
                return Err(Refusal::new(ApiError::InternalError, SHUTTING_DOWN));
            }
            OpenRoute::Health => br#"{"status":"ok"}"#,
            OpenRoute::OpenApi => openapi::document().as_bytes(),
        };
        // Anybody may read these, so any page may.
        let headers = &[ResponseHeader::AllowAnyOrigin];
        self.answer_with(id, response_context, (headers, body), context);
        Ok(())
    }

    fn answer_with(
        &mut self,
        id: ConnectionId,
        response_context: ResponseContext<'static>,
        (headers, json): (&[ResponseHeader], &[u8]),
        context: &mut Context,
    ) {
        let answer = Answer {
            response_context,
            status: Ok(Status::Ok),
            headers,
            body: Body::Bytes(json),
        };
        self.answer(id, &answer, context);
    }

    /// A request that is no upgrade has a complete head.
    pub(in crate::shard) fn begin_rest(
        &mut self,
        id: ConnectionId,
        path: &str,
        context: &mut Context,
    ) {
        if let Phase::Http(http) = &mut self[id].phase {
            http.began_ns = context.stamp_ns;
            http.route = Some(route::label(path));
        }
    }
}
