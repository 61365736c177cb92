//! Connections that speak HTTP: requests answered here, and those that become WebSockets.

use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::proto::http::body::BodyFraming;
use crate::proto::http::error::{ApiError, RequestError};
use crate::proto::http::head::{RequestHead, find_head_end, parse_head};
use crate::proto::http::response::{
    ResponseContext, ResponseHeader, Status, append_error, append_request_error, append_response,
};
use crate::proto::http::target::Target;
use crate::shard::connections::{Http, Stage};
use crate::shard::effect::Effects;
use crate::shard::outbox::Finish;
use crate::shard::state::Shard;

/// An answer to a request that was read whole.
pub(in crate::shard) struct Answer<'a> {
    pub context: ResponseContext<'a>,
    pub status: Result<Status, (ApiError, &'a str)>,
    pub headers: &'a [ResponseHeader],
    pub json: &'a [u8],
}

impl Shard {
    /// One request head, once it is complete.
    pub(in crate::shard) fn http_step(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        now: Now,
        effects: &mut Effects,
    ) -> Option<usize> {
        let head_bytes_max = self.config.limits.head_bytes_max;
        let head_timeout_ms = self.config.limits.head_timeout_ms;
        let connection = self.connections.get_mut(id)?;
        let Stage::Http(http) = &mut connection.stage else {
            return None;
        };
        if http.reused && http.scanned == 0 {
            // The first bytes of another request: from now on it has to hurry.
            http.deadline_ms = now.mono_ms + head_timeout_ms;
        }
        let end = match find_head_end(bytes, http.scanned as usize, head_bytes_max) {
            Ok(Some(end)) => end,
            Ok(None) => {
                http.scanned = bytes.len() as u32;
                self.arm(id);
                return None;
            }
            Err(error) => return self.refuse_request(id, bytes.len(), error, now, effects),
        };
        http.scanned = 0;
        match parse_head(&bytes[..end]) {
            Ok(head) => self.request(id, &head, bytes.len(), end, now, effects),
            Err(error) => self.refuse_request(id, bytes.len(), error, now, effects),
        }
    }

    fn request(
        &mut self,
        id: ConnectionId,
        head: &RequestHead<'_>,
        whole: usize,
        end: usize,
        now: Now,
        effects: &mut Effects,
    ) -> Option<usize> {
        let target = match Target::parse(head.target) {
            Ok(target) => target,
            Err(error) => return self.refuse_request(id, whole, error, now, effects),
        };
        if target.path == "/v1" {
            self.connect(id, head, &target, now, effects);
            return Some(end);
        }
        let framing = match BodyFraming::of(head, u64::MAX) {
            Ok(framing) => framing,
            Err(error) => return self.refuse_request(id, whole, error, now, effects),
        };
        // A body is not read here, so what follows the head is not another request.
        let keep_alive = head.keep_alive() && framing == BodyFraming::None && !self.draining;
        let context = ResponseContext {
            keep_alive,
            ..ResponseContext::of(head)
        };
        let (status, headers, json): (_, &[_], &[u8]) = match (target.path, head.method) {
            ("/healthz", "GET" | "HEAD") => (Ok(Status::Ok), &[], br#"{"status":"ok"}"#),
            ("/healthz", _) => (
                Err((ApiError::MethodNotAllowed, "this path answers GET and HEAD")),
                &[ResponseHeader::Allow("GET, HEAD")],
                b"",
            ),
            _ => (Err((ApiError::NotFound, "no such path")), &[], b""),
        };
        self.answer(
            id,
            &Answer {
                context,
                status,
                headers,
                json,
            },
            now,
            effects,
        );
        Some(if keep_alive { end } else { whole })
    }

    /// Writes an answer; the connection goes on or ends as its context says.
    pub(in crate::shard) fn answer(
        &mut self,
        id: ConnectionId,
        answer: &Answer<'_>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Answer {
            context,
            status,
            headers,
            json,
        } = answer;
        let mut response = std::mem::take(&mut self.encoded);
        response.clear();
        match status {
            Ok(status) => append_response(&mut response, context, *status, headers, json),
            Err((error, message)) => {
                append_error(&mut response, context, *error, message, headers);
            }
        }
        self.write_http(id, &response, effects);
        self.encoded = response;
        let keep_alive_ms = self.config.limits.keep_alive_ms;
        if !context.keep_alive {
            self.linger(id, now, effects);
        } else if let Some(connection) = self.connections.get_mut(id) {
            let deadline_ms = now.mono_ms + keep_alive_ms;
            connection.stage = Stage::Http(Http {
                scanned: 0,
                deadline_ms,
                reused: true,
            });
            self.arm(id);
            self.hold_if_unread(id);
        }
    }

    pub(in crate::shard) fn write_http(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        effects: &mut Effects,
    ) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.outbox.push_http(bytes, &mut self.pool);
            connection.mark_dirty(effects);
        }
    }

    /// Answers a request that could not be understood, and ends the connection.
    pub(in crate::shard) fn refuse_request(
        &mut self,
        id: ConnectionId,
        whole: usize,
        error: RequestError,
        now: Now,
        effects: &mut Effects,
    ) -> Option<usize> {
        let mut response = Vec::with_capacity(256);
        // The bytes behind a faulty head cannot be trusted to be another request.
        let _ = append_request_error(&mut response, &ResponseContext::UNREADABLE, error);
        self.write_http(id, &response, effects);
        self.linger(id, now, effects);
        Some(whole)
    }

    /// A request did not arrive in time, or none came.
    pub(in crate::shard) fn http_deadline(
        &mut self,
        id: ConnectionId,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let Stage::Http(http) = &connection.stage else {
            return;
        };
        if http.reused && http.scanned == 0 {
            // Idle between requests: nothing was asked, nothing is answered.
            connection.outbox.finish(Finish::Close);
            connection.stage = Stage::Lingering {
                until_ms: now.mono_ms,
            };
            connection.mark_dirty(effects);
            return;
        }
        let mut response = Vec::with_capacity(256);
        let message = "the request head did not arrive in time";
        let error = ApiError::RequestTimeout;
        append_error(
            &mut response,
            &ResponseContext::UNREADABLE,
            error,
            message,
            &[],
        );
        self.write_http(id, &response, effects);
        self.linger(id, now, effects);
    }

    /// The server is shutting down: idle connections end now, others behind their answer.
    pub(in crate::shard) fn drain_http(
        &mut self,
        id: ConnectionId,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if let Stage::Http(http) = &connection.stage
            && http.scanned == 0
        {
            connection.outbox.finish(Finish::Close);
            connection.stage = Stage::Lingering {
                until_ms: now.mono_ms,
            };
            connection.mark_dirty(effects);
        }
    }
}
