//! What a server has sent to one connection: HTTP answers and WebSocket frames, counted as they
//! stream by. Bodies and payloads are never kept beyond their first bytes, so that an attack may
//! read gigabytes; only who keeps rosters reads all of its presence.

use std::collections::BTreeMap;

use crate::abuse::rosters::Rosters;
use crate::client::frame::{close_code, opcode};
use crate::clock::now_ns;

/// Bytes of a payload that are kept: enough for its type, its request id and its channel.
const HEAD_BYTES: usize = 160;
/// Longest head of an HTTP answer that is read, in bytes.
const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of an HTTP answer.
const HEADER_COUNT_MAX: usize = 64;

/// What a frame from the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `welcome`.
    Welcome,
    /// `ack`.
    Ack,
    /// `error`.
    Error,
    /// `message`.
    Message,
    /// `direct`.
    Direct,
    /// `presence`, snapshots too.
    Presence,
    /// `pong`, the answer to the ping of the application.
    Pong,
    /// `going_away`.
    GoingAway,
    /// A WebSocket ping.
    PingFrame,
    /// A WebSocket pong.
    PongFrame,
    /// A WebSocket close.
    Close,
    /// Anything else.
    Other,
}

/// Beginnings of the text frames of the protocol, which fixes compact JSON with `type` first.
const BEGINNINGS: [(&[u8], Kind); 8] = [
    (b"{\"type\":\"message\"", Kind::Message),
    (b"{\"type\":\"ack\"", Kind::Ack),
    (b"{\"type\":\"presence\"", Kind::Presence),
    (b"{\"type\":\"pong\"", Kind::Pong),
    (b"{\"type\":\"direct\"", Kind::Direct),
    (b"{\"type\":\"welcome\"", Kind::Welcome),
    (b"{\"type\":\"error\"", Kind::Error),
    (b"{\"type\":\"going_away\"", Kind::GoingAway),
];

/// Which frames of a connection are kept one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logs {
    /// None.
    Nothing,
    /// Publications.
    Messages,
    /// All.
    Everything,
}

/// One frame of a connection that keeps a log.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// When its last byte arrived, ns: at the socket where the kernel notes it, else here.
    pub at_ns: u64,
    /// When that was read, ns.
    pub read_ns: u64,
    /// What it is.
    pub kind: Kind,
    /// The payload's beginning.
    pub head: String,
}

impl Event {
    /// The text of a string field near the beginning, such as `requestId`.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        let (_, rest) = self.head.split_once(&format!("\"{field}\":\""))?;
        rest.split_once('"').map(|(text, _)| text)
    }

    /// The number in `data`.
    pub(super) fn data_number(&self) -> Option<u64> {
        let (_, rest) = self.head.split_once("\"data\":")?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest.get(..digits)?.parse().ok()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// In the head of an HTTP answer.
    HttpHead,
    /// In the body of one, of which this much is missing.
    HttpBody(u64),
    /// In the head of a frame.
    FrameHead,
    /// In the payload of a frame, of which this much is missing.
    Payload(u64),
    /// The peer does not speak the protocol.
    Lost,
}

/// Everything that one connection heard.
#[derive(Debug)]
pub(super) struct Heard {
    stage: Stage,
    buffer: Vec<u8>,
    opcode: u8,
    /// Bytes of all kinds.
    pub bytes: u64,
    /// Bytes of HTTP bodies.
    pub body_bytes: u64,
    /// `Content-Length` of the last HTTP answer.
    pub announced_bytes: u64,
    /// HTTP answers by status, counted when their body is complete.
    pub statuses: BTreeMap<u16, u64>,
    /// Frames by kind.
    pub frames: BTreeMap<Kind, u64>,
    /// Code of the close frame; 0 for one without.
    pub close: Option<u16>,
    /// Payload of pings that nobody has answered yet.
    pub pings: Vec<Vec<u8>>,
    /// Frames in their order, where they are asked for.
    pub log: Vec<Event>,
    /// What it was told of the members of its channels, where it keeps that.
    pub rosters: Option<Rosters>,
    logs: Logs,
    arrived_ns: Option<u64>,
    status: u16,
}

impl Heard {
    /// A connection that first answers in HTTP; of what it `logs` each frame's beginning is kept.
    pub(super) fn new(logs: Logs) -> Heard {
        Heard {
            stage: Stage::HttpHead,
            buffer: Vec::new(),
            opcode: 0,
            bytes: 0,
            body_bytes: 0,
            announced_bytes: 0,
            statuses: BTreeMap::new(),
            frames: BTreeMap::new(),
            close: None,
            pings: Vec::new(),
            log: Vec::new(),
            rosters: None,
            logs,
            arrived_ns: None,
            status: 0,
        }
    }

    /// Frames of this kind.
    pub(super) fn count(&self, kind: Kind) -> u64 {
        self.frames.get(&kind).copied().unwrap_or_default()
    }

    /// Answers with this status.
    pub(super) fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }

    /// Answers with any status.
    pub(super) fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Takes what was read, and arrived at that time where it is known.
    pub(super) fn take(&mut self, mut bytes: &[u8], arrived_ns: Option<u64>) {
        self.bytes += bytes.len() as u64;
        self.arrived_ns = arrived_ns;
        while !bytes.is_empty() {
            bytes = match self.stage {
                Stage::HttpHead => self.http_head(bytes),
                Stage::HttpBody(missing) => self.http_body(bytes, missing),
                Stage::FrameHead => self.frame_head(bytes),
                Stage::Payload(missing) => self.payload(bytes, missing),
                Stage::Lost => return,
            };
        }
    }

    fn http_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        // Pipelined answers mostly come whole, and are then read where they lie.
        let before = self.buffer.len();
        if before > 0 {
            self.buffer.extend_from_slice(bytes);
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let head = if before > 0 { &self.buffer } else { bytes };
        let parsed = response.parse(head);
        let is_endless = head.len() > HTTP_HEAD_BYTES_MAX;
        let status = response.code.unwrap_or_default();
        let length = response.headers.iter().find_map(|header| {
            let is_length = header.name.eq_ignore_ascii_case("content-length");
            is_length.then(|| std::str::from_utf8(header.value).ok()?.parse().ok())?
        });
        match parsed {
            Ok(httparse::Status::Complete(head_bytes)) => {
                self.buffer.clear();
                self.begin_body(status, length.unwrap_or_default());
                &bytes[head_bytes.saturating_sub(before)..]
            }
            Ok(httparse::Status::Partial) if !is_endless => {
                if before == 0 {
                    self.buffer.extend_from_slice(bytes);
                }
                &[]
            }
            Ok(httparse::Status::Partial) | Err(_) => {
                self.stage = Stage::Lost;
                &[]
            }
        }
    }

    fn begin_body(&mut self, status: u16, length: u64) {
        self.status = status;
        if status == 101 {
            *self.statuses.entry(status).or_default() += 1;
            self.stage = Stage::FrameHead;
            return;
        }
        self.announced_bytes = length;
        self.stage = Stage::HttpBody(length);
        self.end_body_if_complete();
    }

    fn http_body<'a>(&mut self, bytes: &'a [u8], missing: u64) -> &'a [u8] {
        let taken = missing.min(bytes.len() as u64);
        self.body_bytes += taken;
        self.stage = Stage::HttpBody(missing - taken);
        self.end_body_if_complete();
        &bytes[taken as usize..]
    }

    fn end_body_if_complete(&mut self) {
        if self.stage == Stage::HttpBody(0) {
            *self.statuses.entry(self.status).or_default() += 1;
            self.stage = Stage::HttpHead;
        }
    }

    fn frame_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        for (index, byte) in bytes.iter().enumerate() {
            self.buffer.push(*byte);
            let Some((opcode, payload_bytes)) = frame_head(&self.buffer) else {
                continue;
            };
            self.buffer.clear();
            self.opcode = opcode;
            self.stage = Stage::Payload(payload_bytes);
            self.end_payload_if_complete();
            return &bytes[index + 1..];
        }
        &[]
    }

    fn payload<'a>(&mut self, bytes: &'a [u8], missing: u64) -> &'a [u8] {
        let taken = missing.min(bytes.len() as u64) as usize;
        let kept_max = match self.rosters {
            Some(_) => usize::MAX,
            None => HEAD_BYTES,
        };
        let kept = kept_max.saturating_sub(self.buffer.len()).min(taken);
        self.buffer.extend_from_slice(&bytes[..kept]);
        self.stage = Stage::Payload(missing - taken as u64);
        self.end_payload_if_complete();
        &bytes[taken..]
    }

    fn end_payload_if_complete(&mut self) {
        if self.stage != Stage::Payload(0) {
            return;
        }
        self.stage = Stage::FrameHead;
        let kind = kind_of(self.opcode, &self.buffer);
        *self.frames.entry(kind).or_default() += 1;
        match kind {
            Kind::Close => self.close = Some(close_code(&self.buffer).map_or(0, |it| it.0)),
            Kind::PingFrame => self.pings.push(self.buffer.clone()),
            Kind::Presence => {
                if let Some(rosters) = &mut self.rosters {
                    rosters.take(&self.buffer);
                }
            }
            _ => {}
        }
        let is_logged = match self.logs {
            Logs::Nothing => false,
            Logs::Messages => kind == Kind::Message,
            Logs::Everything => true,
        };
        if is_logged {
            let read_ns = now_ns();
            let head = &self.buffer[..self.buffer.len().min(HEAD_BYTES)];
            self.log.push(Event {
                at_ns: self.arrived_ns.unwrap_or(read_ns),
                read_ns,
                kind,
                head: String::from_utf8_lossy(head).into_owned(),
            });
        }
        self.buffer.clear();
    }
}

/// Opcode and payload length, once the head of a frame is complete.
fn frame_head(buffer: &[u8]) -> Option<(u8, u64)> {
    let &[first, second, ref rest @ ..] = buffer else {
        return None;
    };
    let payload_bytes = match second & 0x7f {
        126 => u64::from(u16::from_be_bytes(*rest.first_chunk::<2>()?)),
        127 => u64::from_be_bytes(*rest.first_chunk::<8>()?),
        short => u64::from(short),
    };
    Some((first & 0x0f, payload_bytes))
}

fn kind_of(code: u8, head: &[u8]) -> Kind {
    match code {
        opcode::TEXT => BEGINNINGS
            .iter()
            .find(|(beginning, _)| head.starts_with(beginning))
            .map_or(Kind::Other, |(_, kind)| *kind),
        opcode::PING => Kind::PingFrame,
        opcode::PONG => Kind::PongFrame,
        opcode::CLOSE => Kind::Close,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut wire = vec![0x80 | opcode];
        match payload.len() {
            0..=125 => wire.push(payload.len() as u8),
            126..=0xffff => {
                wire.push(126);
                wire.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            }
            _ => {
                wire.push(127);
                wire.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        wire.extend_from_slice(payload);
        wire
    }

    #[test]
    fn frames_are_counted_however_the_bytes_are_cut() {
        let large = format!(r#"{{"type":"message","data":"{}"}}"#, "x".repeat(70_000));
        let mut wire = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n".to_vec();
        wire.extend(frame(opcode::TEXT, br#"{"type":"ack","requestId":"s7"}"#));
        wire.extend(frame(opcode::TEXT, large.as_bytes()));
        wire.extend(frame(opcode::PING, b"p"));
        wire.extend(frame(opcode::CLOSE, &4020u16.to_be_bytes()));
        for step in [1, 7, 1_000, wire.len()] {
            let mut heard = Heard::new(Logs::Everything);
            wire.chunks(step).for_each(|part| heard.take(part, None));
            assert_eq!(heard.status(101), 1);
            assert_eq!(heard.count(Kind::Ack), 1);
            assert_eq!(heard.count(Kind::Message), 1);
            assert_eq!((heard.close, heard.pings.len()), (Some(4020), 1));
            let log = heard.log;
            assert_eq!(log[0].text("requestId"), Some("s7"));
            assert!(log[1].head.len() <= HEAD_BYTES);
        }
    }

    #[test]
    fn answers_are_counted_when_their_body_is_complete() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let mut heard = Heard::new(Logs::Nothing);
        heard.take(&[&one[..], &one[..], &one[..one.len() - 1]].concat(), None);
        assert_eq!((heard.status(200), heard.body_bytes), (2, 14));
        heard.take(b"o", None);
        assert_eq!(heard.answers(), 3);
    }

    #[test]
    fn numbers_in_data_are_read() {
        let event = |head: &str| Event {
            at_ns: 0,
            read_ns: 0,
            kind: Kind::Message,
            head: head.into(),
        };
        assert_eq!(
            event(r#"{"type":"message","data":42}"#).data_number(),
            Some(42)
        );
        assert_eq!(
            event(r#"{"type":"message","data":"x"}"#).data_number(),
            None
        );
    }
}
