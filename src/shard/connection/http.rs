//! Connections that speak HTTP: the answers to requests, and how such connections end.
//!
//! What is refused for its head alone is read to its end all the same, so that the connection can
//! go on, unless that end cannot be trusted or is too far. How requests are read is the business
//! of `shard/steps/requests.rs`.

use crate::ids::ConnectionId;
use crate::metrics::Stage;
use crate::metrics::label::{RestOutcome, Route};
use crate::proto::http::error::{ApiError, RequestError};
use crate::proto::http::head::RequestHead;
use crate::proto::http::response::{
    ResponseContext, ResponseHeader, Status, append_error, append_head, append_request_error,
    append_response,
};
use crate::shard::connection::connections::{Connections, Http, Phase};
use crate::shard::connection::progress::NEVER_MS;
use crate::shard::connection::proxies::warn_of_header;
use crate::shard::connection::refusal::Refusal;
use crate::shard::context::{Context, Shutdown};
use crate::shard::effect::Span;
use crate::shard::frame::Frame;
use crate::shard::outbound::outbox::Finish;

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

impl Connections {
    /// A request that is no upgrade, as far as anybody can tell, is being answered. How long
    /// that took is measured from the end of its head, if that has come.
    fn end_rest(&mut self, id: ConnectionId, status: Status, context: &mut Context) {
        let Phase::Http(http) = &self[id].phase else {
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

    /// Answers a request that is not served. `is_whole`: the next one begins after it.
    pub(in crate::shard) fn refuse(
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
        let Phase::Http(Http { route, .. }) = self[id].phase else {
            return;
        };
        if route.is_some() {
            let status = status.unwrap_or_else(|(error, _)| error.status());
            self.end_rest(id, status, context);
        }
        response_context.keep_alive &= context.shutdown == Shutdown::None;
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
        if let Some(json) = behind {
            let outbox = &mut self[id].outbox;
            outbox.push_http_shared(json, &mut context.pool);
        }
        context.encoded = response;
        if response_context.keep_alive {
            let http = Http::awaiting_request(NEVER_MS, context.stamp_ns, true);
            self[id].phase = Phase::Http(http);
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
        let connection = &mut self[id];
        connection.outbox.push_http(bytes, &mut context.pool);
        connection.mark_dirty(&mut context.effects);
    }

    /// Answers a REST request that could not be understood, and ends the connection.
    pub(in crate::shard) fn refuse_request(
        &mut self,
        id: ConnectionId,
        error: RequestError,
        context: &mut Context,
    ) {
        warn_of_header(self[id].remote, error, context.now);
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
        // The bytes after a faulty head cannot be trusted to be another request.
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
        let connection = &mut self[id];
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

    /// The server ends: a connection ends now if it is idle, else after its answer.
    pub(in crate::shard) fn drain_http(&mut self, id: ConnectionId, context: &mut Context) {
        let now_ms = self.peer_ms(context);
        let connection = &mut self[id];
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
