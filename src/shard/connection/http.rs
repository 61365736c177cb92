//! Connections that speak HTTP: reading requests, writing answers.
//!
//! A request is decided by its head, served when its body is there, and answered before the next
//! one is looked at. What is refused for its head alone is read to its end all the same, so that
//! the connection can go on, unless that end cannot be trusted or is too far. What a request
//! asks for is the business of `shard/rest`, and of `shard/connection/connect.rs` for handshakes.

use crate::ids::ConnectionId;
use crate::metrics::Stage;
use crate::metrics::label::{RestOutcome, Route};
use crate::proto::http::body::{BodyDecoder, BodyFraming, expects_continue};
use crate::proto::http::error::{ApiError, RequestError};
use crate::proto::http::head::{RequestHead, find_head_end, parse_head};
use crate::proto::http::response::{
    CONTINUE, ResponseContext, ResponseHeader, Status, append_error, append_head,
    append_request_error, append_response,
};
use crate::proto::http::target::Target;
use crate::shard::connection::connections::Connections;
use crate::shard::connection::connections::{Http, PartialRequest, Phase};
use crate::shard::connection::proxies::warn_of_header;
use crate::shard::context::Context;
use crate::shard::deadlines::NEVER_MS;
use crate::shard::effect::Span;
use crate::shard::mesh_message::Frame;
use crate::shard::outbound::outbox::Finish;
use crate::shard::rest::refusal::Refusal;
use crate::shard::rest::{Admitted, route};
use crate::shard::state::Shard;

/// Where WebSockets are taken. The second is what a proxy makes of the first that passes a
/// prefix on.
const CONNECT_PATHS: [&str; 2] = ["/v1", "/v1/"];

/// An answer to a request that was read whole.
pub(in crate::shard) struct Answer<'a> {
    pub response_context: ResponseContext<'static>,
    pub status: Result<Status, (ApiError, &'a str)>,
    pub headers: &'a [ResponseHeader],
    pub body: Body<'a>,
}

/// The JSON of a success.
#[derive(Clone, Copy)]
pub(in crate::shard) enum Body<'a> {
    Bytes(&'a [u8]),
    /// Several answers may hold the same.
    Shared(&'a Frame),
}

impl<'a> Answer<'a> {
    /// The answer to a request that is not served.
    pub(in crate::shard) fn refusing(
        response_context: ResponseContext<'static>,
        refusal: &'a Refusal,
    ) -> Self {
        Self {
            response_context,
            status: Err((refusal.error, &refusal.message)),
            headers: refusal.header.as_slice(),
            body: Body::Bytes(b""),
        }
    }
}

impl Shard {
    /// One step of reading a request: its head, or some of its body.
    pub(in crate::shard) fn http_step(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
    ) -> Option<usize> {
        self.channels.watch_links(&mut self.context);
        let connection = self.connections.get_mut(id)?;
        let Phase::Http(http) = &mut connection.phase else {
            return None;
        };
        let used = match http.body.take() {
            Some(partial) => self.body_step(id, partial, bytes),
            None => self.head_step(id, bytes)?,
        };
        self.settle();
        self.channels
            .hold_if_link_blocked(id, &mut self.connections, &mut self.context);
        self.connections.hold_if_unread(id);
        Some(used)
    }

    /// A request head, once it is complete, with what is there of the body.
    fn head_step(&mut self, id: ConnectionId, bytes: &mut [u8]) -> Option<usize> {
        let head_bytes_max = self.context.config.limits.head_bytes_max;
        let head_timeout_ms = self.context.config.limits.head_timeout_ms;
        let now_ms = self.connections.peer_ms(&self.context);
        let connection = self.connections.get_mut(id)?;
        let Phase::Http(http) = &mut connection.phase else {
            return None;
        };
        if http.reused && http.scanned == 0 {
            // The first bytes of another request: from now on it has to hurry.
            http.deadline_ms = now_ms + head_timeout_ms;
            http.began_ns = self.context.stamp_ns;
        }
        let end = match find_head_end(bytes, http.scanned as usize, head_bytes_max) {
            Ok(Some(end)) => end,
            Ok(None) => {
                http.scanned = bytes.len() as u32;
                self.connections.arm(id, &mut self.context);
                return None;
            }
            Err(error) => {
                self.connections
                    .refuse_request(id, error, &mut self.context);
                return Some(bytes.len());
            }
        };
        http.scanned = 0;
        let (head_bytes, behind) = bytes.split_at_mut(end);
        let of_body = match parse_head(head_bytes) {
            Ok(head) => self.request(id, (head_bytes, &head), behind),
            Err(error) => Err(error),
        };
        match of_body {
            Ok(of_body) => Some(end + of_body),
            Err(error) => {
                self.connections
                    .refuse_request(id, error, &mut self.context);
                Some(end)
            }
        }
    }

    /// A request by its head, and by what is there of its body. Returns how many bytes belonged
    /// to the body.
    fn request(
        &mut self,
        id: ConnectionId,
        (head_bytes, head): (&[u8], &RequestHead<'_>),
        behind: &mut [u8],
    ) -> Result<usize, RequestError> {
        let target = Target::parse(head.target)?;
        if CONNECT_PATHS.contains(&target.path) {
            self.connect(id, head, &target);
            return Ok(0);
        }
        self.connections
            .begin_rest(id, target.path, &mut self.context);
        let framing = BodyFraming::of(head, u64::MAX)?;
        let expects_continue = expects_continue(head)?;
        let Some(remote) = self.connections.client_address(id, head, &self.context) else {
            return Ok(0);
        };
        let body_bytes_max = self.context.config.limits.rest_body_bytes_max as u64;
        let admitted = self.context.admit_request(remote, head, &target, framing);
        if let Ok(Admitted::Key { .. }) = &admitted {
            self.connections.show_credential(id);
        }
        let too_long = matches!(framing, BodyFraming::Length(length) if length > body_bytes_max);
        if let Err(refusal) = &admitted
            && (too_long || expects_continue)
        {
            // The body is not waited for, so nobody knows where the next request begins.
            self.connections
                .refuse(id, head, refusal, false, &mut self.context);
            return Ok(0);
        }
        let mut decoder = BodyDecoder::new(framing, body_bytes_max);
        let progress = match (decoder.decode(behind), admitted.as_ref()) {
            (Ok(progress), _) => progress,
            (Err(error), Ok(_)) => return Err(error),
            (Err(_), Err(refusal)) => {
                self.connections
                    .refuse(id, head, refusal, false, &mut self.context);
                return Ok(0);
            }
        };
        let content = behind.get(..progress.written).unwrap_or_default();
        if progress.done {
            self.complete(id, head, admitted, content);
            return Ok(progress.consumed);
        }
        if expects_continue && progress.consumed == 0 {
            self.connections.write_http(id, CONTINUE, &mut self.context);
        }
        let mut bytes = head_bytes.to_vec();
        if admitted.is_ok() {
            bytes.extend_from_slice(content);
        }
        let partial = PartialRequest {
            bytes,
            head_bytes: head_bytes.len(),
            decoder,
            verdict: admitted.map(|_| ()),
        };
        let deadline_ms =
            self.connections.peer_ms(&self.context) + self.context.config.limits.head_timeout_ms;
        if let Some(connection) = self.connections.get_mut(id)
            && let Phase::Http(http) = &mut connection.phase
        {
            http.body = Some(Box::new(partial));
            http.deadline_ms = deadline_ms;
            self.connections.arm(id, &mut self.context);
        }
        Ok(progress.consumed)
    }

    /// More of a body. Returns how many bytes belonged to it.
    fn body_step(
        &mut self,
        id: ConnectionId,
        mut partial: Box<PartialRequest>,
        bytes: &mut [u8],
    ) -> usize {
        let decoded = partial.decoder.decode(bytes);
        let is_admitted = partial.verdict.is_ok();
        if let (Ok(progress), true) = (&decoded, is_admitted) {
            let content = bytes.get(..progress.written).unwrap_or_default();
            partial.bytes.extend_from_slice(content);
        }
        if let Ok(progress) = decoded
            && !progress.done
        {
            if let Some(connection) = self.connections.get_mut(id)
                && let Phase::Http(http) = &mut connection.phase
            {
                http.body = Some(partial);
            }
            return progress.consumed;
        }
        let (head_bytes, content) = partial.bytes.split_at(partial.head_bytes);
        // Both have been parsed before, when the head was complete.
        let parsed =
            parse_head(head_bytes).and_then(|head| Ok((Target::parse(head.target)?, head)));
        let (target, head) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                self.connections
                    .refuse_request(id, error, &mut self.context);
                return bytes.len();
            }
        };
        match (decoded, &partial.verdict) {
            (Ok(progress), Ok(())) => {
                let admitted = self.context.admit_request_again(&head, &target);
                self.complete(id, &head, admitted, content);
                progress.consumed
            }
            (Ok(progress), Err(refusal)) => {
                self.connections
                    .refuse(id, &head, refusal, true, &mut self.context);
                progress.consumed
            }
            (Err(_), Err(refusal)) => {
                self.connections
                    .refuse(id, &head, refusal, false, &mut self.context);
                bytes.len()
            }
            (Err(error), Ok(())) => {
                self.connections
                    .refuse_request(id, error, &mut self.context);
                bytes.len()
            }
        }
    }

    /// A request has arrived whole.
    fn complete(
        &mut self,
        id: ConnectionId,
        head: &RequestHead<'_>,
        admitted: Result<Admitted<'_>, Refusal>,
        body: &[u8],
    ) {
        let response_context = ResponseContext::of(head);
        let served = admitted.and_then(|admitted| {
            self.rest.serve(
                id,
                response_context,
                admitted,
                body,
                &mut self.channels,
                &mut self.connections,
                &mut self.context,
            )
        });
        if let Err(refusal) = served {
            self.connections
                .refuse(id, head, &refusal, true, &mut self.context);
        }
    }
}

impl Connections {
    /// A request that is no upgrade has a complete head.
    fn begin_rest(&mut self, id: ConnectionId, path: &str, context: &mut Context) {
        if let Some(connection) = self.get_mut(id)
            && let Phase::Http(http) = &mut connection.phase
        {
            http.began_ns = context.stamp_ns;
            http.route = Some(route::label(path));
        }
    }

    /// A request that is no upgrade, as far as anybody can tell, is being answered. How long
    /// that took is measured from the end of its head, if that has come.
    fn end_rest(&mut self, id: ConnectionId, status: Status, context: &mut Context) {
        let connection = self.get(id);
        let Some(Phase::Http(http)) = connection.map(|connection| &connection.phase) else {
            return;
        };
        let outcome = RestOutcome {
            route: http.route.unwrap_or(Route::Other),
            status: status.code(),
        };
        context.metrics.counters.rest_requests.add(outcome);
        if http.route.is_some() {
            context.effects.ended.push(Span {
                stage: Stage::Rest,
                began_ns: http.began_ns,
            });
        }
    }

    /// Answers a request that is not served. `is_whole`: the next one begins behind it.
    fn refuse(
        &mut self,
        id: ConnectionId,
        head: &RequestHead<'_>,
        refusal: &Refusal,
        is_whole: bool,
        context: &mut Context,
    ) {
        let response_context = ResponseContext::of(head);
        // A proxy that took a handshake for accepted would pass a stranger's bytes on to here.
        let upgrades = head.list_contains("upgrade", "websocket");
        let response_context = ResponseContext {
            keep_alive: response_context.keep_alive
                && is_whole
                && !upgrades
                && !refusal.ends_connection,
            ..response_context
        };
        self.answer(id, &Answer::refusing(response_context, refusal), context);
    }

    /// Writes an answer; the connection goes on or ends as its response_context says.
    pub(in crate::shard) fn answer(
        &mut self,
        id: ConnectionId,
        answer: &Answer<'_>,
        context: &mut Context,
    ) {
        let Answer {
            mut response_context,
            status,
            headers,
            body,
        } = *answer;
        let Some(connection) = self.get(id) else {
            return;
        };
        let Phase::Http(Http { route, .. }) = connection.phase else {
            return;
        };
        if route.is_some() {
            let status = status.unwrap_or_else(|(error, _)| error.status());
            self.end_rest(id, status, context);
        }
        response_context.keep_alive &= !context.draining;
        let dated = ResponseContext {
            date: context.http_date.at(context.now),
            ..response_context
        };
        let mut response = std::mem::take(&mut context.encoded);
        response.clear();
        let mut behind = None;
        match (status, body) {
            (Ok(status), Body::Bytes(json)) => {
                append_response(&mut response, &dated, status, headers, json);
            }
            (Ok(status), Body::Shared(json)) => {
                append_head(&mut response, &dated, status, headers, json.len());
                behind = Some(json).filter(|_| !response_context.head_only);
            }
            (Err((error, message)), _) => {
                append_error(&mut response, &dated, error, message, headers);
            }
        }
        self.write_http(id, &response, context);
        if let Some(json) = behind
            && let Some(connection) = self.get_mut(id)
        {
            connection.outbox.push_http_shared(json, &mut context.pool);
        }
        context.encoded = response;
        if response_context.keep_alive {
            if let Some(connection) = self.get_mut(id) {
                let http = Http::awaiting_request(NEVER_MS, context.stamp_ns, true);
                connection.phase = Phase::Http(http);
            }
        } else {
            self.linger(id, context);
        }
    }

    pub(in crate::shard) fn write_http(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        context: &mut Context,
    ) {
        if let Some(connection) = self.get_mut(id) {
            connection.outbox.push_http(bytes, &mut context.pool);
            connection.mark_dirty(&mut context.effects);
        }
    }

    /// Answers a REST request that could not be understood, and ends the connection.
    fn refuse_request(&mut self, id: ConnectionId, error: RequestError, context: &mut Context) {
        if let Some(connection) = self.get(id) {
            warn_of_header(connection.remote, error, context.now);
        }
        self.end_rest(id, error.api_error().status(), context);
        self.end_http(id, error, context);
    }

    /// Says what a request got wrong, and ends the connection.
    pub(in crate::shard) fn end_http(
        &mut self,
        id: ConnectionId,
        error: RequestError,
        context: &mut Context,
    ) {
        let mut response = Vec::with_capacity(256);
        // The bytes behind a faulty head cannot be trusted to be another request.
        let response_context = ResponseContext {
            date: context.http_date.at(context.now),
            ..ResponseContext::UNREADABLE
        };
        let _ = append_request_error(&mut response, &response_context, error);
        self.write_http(id, &response, context);
        self.linger(id, context);
    }

    /// A request did not arrive in time, or none came.
    pub(in crate::shard) fn http_deadline(&mut self, id: ConnectionId, context: &mut Context) {
        let now_ms = self.peer_ms(context);
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        let Phase::Http(http) = &connection.phase else {
            return;
        };
        if http.reused && http.is_idle() {
            // Idle between requests: nothing was asked, nothing is answered.
            connection.outbox.finish(Finish::Close);
            connection.phase = Phase::Lingering { until_ms: NEVER_MS };
            connection.begin_to_end(now_ms);
            connection.mark_dirty(&mut context.effects);
            return;
        }
        if http.route.is_none() {
            self.end_rest(id, ApiError::RequestTimeout.status(), context);
        }
        let answer = Answer {
            response_context: ResponseContext::UNREADABLE,
            status: Err((
                ApiError::RequestTimeout,
                "the request did not arrive in time",
            )),
            headers: &[],
            body: Body::Bytes(b""),
        };
        self.answer(id, &answer, context);
    }

    /// The server is shutting down: idle connections end now, others behind their answer.
    pub(in crate::shard) fn drain_http(&mut self, id: ConnectionId, context: &mut Context) {
        let now_ms = self.peer_ms(context);
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if let Phase::Http(http) = &connection.phase
            && http.is_idle()
            && connection.input.is_empty()
            && !connection.held.any()
        {
            connection.outbox.finish(Finish::Close);
            connection.phase = Phase::Lingering { until_ms: NEVER_MS };
            connection.begin_to_end(now_ms);
            connection.mark_dirty(&mut context.effects);
            self.arm(id, context);
        }
    }
}
