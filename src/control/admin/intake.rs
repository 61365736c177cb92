//! What a connection of the admin listener sends, before the HTTP library sees it.
//!
//! The library takes heads that others read otherwise: lines ended by a bare LF, two `Host`s, two
//! lengths. So heads and the framing of bodies are judged by the parser of the public listener
//! first. Only what is sound is handed on; in place of the rest the library gets a byte with which
//! no request begins, and refuses it.
//!
//! It gives no meaning to a request, and keeps no more than one head and one read.

use crate::proto::http::body::{BodyDecoder, BodyFraming, expects_continue};
use crate::proto::http::error::RequestError;
use crate::proto::http::head::{find_head_end, parse_head};
use crate::proto::http::target::Target;

/// Bytes of a request head.
pub(super) const HEAD_BYTES_MAX: usize = 24 * 1_024;

/// Bytes of a body that the library can count; how long one may be is judged by whoever reads it.
const BODY_BYTES_MAX: u64 = 1 << 40;
/// No request begins so.
const NO_REQUEST: u8 = 0;

/// The bytes of a connection, up to the first that is not sound.
#[derive(Default)]
pub(super) struct Intake {
    /// What has come and was not taken.
    bytes: Vec<u8>,
    /// How many of these are sound, from the first on.
    sound: usize,
    /// How many of those behind them hold no end of a head.
    searched: usize,
    /// The body that the next byte belongs to.
    body: Option<BodyDecoder>,
    /// What is wrong with what came behind the sound bytes.
    fault: Option<RequestError>,
}

impl Intake {
    /// Takes in what has come.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        if let Err(fault) = self.judge() {
            self.fault = Some(fault);
            self.bytes.truncate(self.sound);
            if self.body.is_none() {
                self.bytes.push(NO_REQUEST);
                self.sound += 1;
            }
        }
    }

    /// Hands on as many sound bytes as there is room for.
    pub(super) fn take(&mut self, room: usize) -> std::vec::Drain<'_, u8> {
        let count = self.sound.min(room);
        self.sound -= count;
        self.bytes.drain(..count)
    }

    /// Whether there is something to take.
    pub(super) fn has_some(&self) -> bool {
        self.sound > 0
    }

    /// Whether what is to be taken is the last.
    pub(super) fn is_last(&self) -> bool {
        self.fault.is_some()
    }

    /// What is wrong with what came next, when all before it has been taken: nothing more is
    /// handed on, as if the stream had ended.
    pub(super) fn fault(&self) -> Option<RequestError> {
        self.fault.filter(|_| self.sound == 0)
    }

    /// # Errors
    /// What comes behind the sound bytes is none of HTTP's.
    fn judge(&mut self) -> Result<(), RequestError> {
        while self.sound < self.bytes.len() {
            let rest = &self.bytes[self.sound..];
            if let Some(body) = &mut self.body {
                // What is decoded moves, and the library wants it as it came.
                let mut moved = rest.to_vec();
                let progress = body.decode(&mut moved)?;
                self.sound += progress.consumed;
                if !progress.done {
                    return Ok(());
                }
                self.body = None;
                continue;
            }
            let Some(end) = find_head_end(rest, self.searched, HEAD_BYTES_MAX)? else {
                self.searched = rest.len();
                return Ok(());
            };
            let framing = framing_of(&rest[..end])?;
            self.searched = 0;
            self.sound += end;
            self.body =
                (framing != BodyFraming::None).then(|| BodyDecoder::new(framing, BODY_BYTES_MAX));
        }
        Ok(())
    }
}

/// Where the body of a request ends.
///
/// # Errors
/// The head, or the framing, can be read in two ways.
fn framing_of(head: &[u8]) -> Result<BodyFraming, RequestError> {
    let head = parse_head(head)?;
    Target::parse(head.target)?;
    expects_continue(&head)?;
    BodyFraming::of(&head, BODY_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed on of bytes that come in pieces of that length, and what is wrong with them.
    fn taken(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<RequestError>) {
        let (mut intake, mut taken) = (Intake::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            intake.put(piece);
            while intake.has_some() {
                taken.extend(intake.take(7));
            }
        }
        (taken, intake.fault())
    }

    #[track_caller]
    fn check(bytes: &str, sound: usize, fault: Option<RequestError>) {
        for piece in [1, 5, usize::MAX] {
            let mut expected = bytes.as_bytes()[..sound].to_vec();
            if fault.is_some() {
                expected.push(NO_REQUEST);
            }
            assert_eq!(taken(bytes.as_bytes(), piece), (expected, fault), "{piece}");
        }
    }

    const GET: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

    #[test]
    fn sound_requests_are_handed_on_as_they_came() {
        let chunked = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3\r\nabc\r\n0\r\n\r\n";
        let long = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n\nGET ";
        let all = [GET, chunked, long, GET].concat();
        check(&all, all.len(), None);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_handed_on() {
        for (wrong, fault) in [
            (
                "GET / HTTP/1.1\nHost: x\r\n\r\n",
                RequestError::BareLineFeed,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\n\r\n",
                RequestError::BareLineFeed,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
                RequestError::RepeatedHeader,
            ),
            ("GET / HTTP/1.1\r\n\r\n", RequestError::MissingHost),
            (
                "GET /#a HTTP/1.1\r\nHost: x\r\n\r\n",
                RequestError::UnsupportedTarget,
            ),
            (
                "GET / HTTP/2.0\r\nHost: x\r\n\r\n",
                RequestError::UnsupportedVersion,
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                RequestError::InvalidContentLength,
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\
                 Transfer-Encoding: chunked\r\n\r\n",
                RequestError::ConflictingFraming,
            ),
        ] {
            check(&[GET, wrong, GET].concat(), GET.len(), Some(fault));
        }
        let (handed_on, fault) = taken(&b"A".repeat(HEAD_BYTES_MAX + 1), 100);
        assert_eq!(handed_on, [NO_REQUEST]);
        assert_eq!(fault, Some(RequestError::HeadTooLarge));
    }

    #[test]
    fn a_body_that_breaks_ends_the_stream() {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (handed_on, fault) = taken(&[head.as_bytes(), b"z\r\n"].concat(), usize::MAX);
        assert_eq!(handed_on, head.as_bytes());
        assert_eq!(fault, Some(RequestError::MalformedChunk));
    }
}
