//! Requests before an upgrade, or without one: read, judged, and handed to the part that serves
//! them.
//!
//! A request is decided by its head, served when its body is there, and answered before the next
//! one is looked at. What a request asks for is the business of `shard/rest`, and of
//! `shard/steps/admission.rs` for handshakes.

use crate::events::kind::Door;
use crate::ids::ConnectionId;
use crate::proto::http::body::{BodyDecoder, BodyFraming, expects_continue};
use crate::proto::http::error::{ApiError, RequestError};
use crate::proto::http::head::{RequestHead, find_head_end, parse_head};
use crate::proto::http::response::{CONTINUE, ResponseContext};
use crate::proto::http::target::Target;
use crate::shard::connection::connections::{PartialRequest, Phase};
use crate::shard::connection::refusal::Refusal;
use crate::shard::connection::shown::Shown;
use crate::shard::rest::Admitted;
use crate::shard::state::Shard;

/// Where WebSockets are taken. The second is what a proxy makes of the first that passes a
/// prefix on.
const CONNECT_PATHS: [&str; 2] = ["/v1", "/v1/"];

impl Shard {
    /// One step of reading a request: its head, or some of its body.
    pub(in crate::shard) fn http_step(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
    ) -> Option<usize> {
        self.channels.watch_links(&mut self.context);
        let Phase::Http(http) = &mut self.connections[id].phase else {
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
        let Phase::Http(http) = &mut self.connections[id].phase else {
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
    pub(in crate::shard) fn request(
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
        let remote = self.connections.client_address(id, head, &mut self.context);
        let body_bytes_max = self.context.config.limits.rest_body_bytes_max as u64;
        let admitted = self.context.admit_request(remote, head, &target, framing);
        match &admitted {
            Ok(Admitted::Key { .. }) => self.connections.show_credential(id),
            Err(refusal) if refusal.error == ApiError::Unauthorized => {
                let shown = Shown::of_request(&self.context.rights, head);
                let refused = shown.refused_request(refusal.error.status().code());
                self.context
                    .record_refused(Door::Rest, id, remote, &refused);
            }
            _ => {}
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
        self.await_body(id, partial);
        Ok(progress.consumed)
    }

    /// Reads the body of a request from now on.
    fn await_body(&mut self, id: ConnectionId, partial: PartialRequest) {
        let timeout_ms = self.context.config.limits.head_timeout_ms;
        let deadline_ms = self.connections.peer_ms(&self.context) + timeout_ms;
        if let Phase::Http(http) = &mut self.connections[id].phase {
            http.body = Some(Box::new(partial));
            http.deadline_ms = deadline_ms;
            self.connections.arm(id, &mut self.context);
        }
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
            if let Phase::Http(http) = &mut self.connections[id].phase {
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
                (id, response_context),
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
