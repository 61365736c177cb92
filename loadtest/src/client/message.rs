//! Recognition of a server's messages by their first bytes.
//!
//! The protocol fixes compact JSON with its fields in one order, so that a prefix decides. Only
//! rare messages (`welcome`, `presence`, `error`) are parsed as JSON, and only where their content
//! is needed.

use memchr::memchr;

use crate::stamp::{Stamp, read_hex8};

/// One message from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// A publication in a channel, with this harness's payload.
    Publication {
        /// Channel name as on the wire.
        channel: &'a [u8],
        /// What its payload says.
        stamp: Stamp,
        /// Its number, in a channel with history.
        seq: Option<u64>,
    },
    /// A direct message with this harness's payload.
    Direct {
        /// Sender's peer id as on the wire.
        from: &'a [u8],
        /// What its payload says.
        stamp: Stamp,
    },
    /// Answer to a command with this request id.
    Ack(RequestId),
    /// The same with a place in the history of a channel.
    Placed(RequestId, Position<'a>),
    /// First message of a connection; the whole text.
    Welcome(&'a [u8]),
    /// Joins and leaves; the whole text.
    Presence(&'a [u8]),
    /// An error; the whole text.
    Error(&'a [u8]),
    /// The server is about to shut down.
    GoingAway,
    /// Answer to an application-level ping.
    Pong,
}

/// A place in the history of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Position<'a> {
    /// Which numbering; none where the channel has no history.
    pub epoch: Option<&'a str>,
    /// Number of the last message, or of the one that was published.
    pub seq: u64,
    /// Whether a replay of what was missed follows, if that was asked for.
    #[serde(default)]
    pub recovered: Option<bool>,
    /// Messages of the replay.
    #[serde(default)]
    pub count: Option<u64>,
}

/// What a command was about: written as `<kind><a>.<b>` with eight hexadecimal digits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId {
    /// A letter chosen by the workload.
    pub kind: u8,
    /// First number.
    pub a: u32,
    /// Second number.
    pub b: u32,
}

impl RequestId {
    /// Bytes of the text form.
    pub(crate) const BYTES: usize = 18;

    /// The text form.
    pub(crate) fn text(&self) -> [u8; Self::BYTES] {
        let mut out = Vec::with_capacity(Self::BYTES);
        out.push(self.kind);
        crate::stamp::push_hex(&mut out, u64::from(self.a), 8);
        out.push(b'.');
        crate::stamp::push_hex(&mut out, u64::from(self.b), 8);
        out.try_into().unwrap_or([b'?'; Self::BYTES])
    }

    fn read(text: &[u8]) -> Option<RequestId> {
        if text.len() != Self::BYTES || text[9] != b'.' {
            return None;
        }
        Some(RequestId {
            kind: text[0],
            a: read_hex8(text, 1)?,
            b: read_hex8(text, 10)?,
        })
    }
}

/// Recognises `text`; `None` when it is no message of this protocol, or a payload is damaged.
pub(crate) fn recognise(text: &[u8]) -> Option<Message<'_>> {
    let kind = text.strip_prefix(b"{\"type\":\"")?;
    if let Some(rest) = kind.strip_prefix(b"message\",\"channel\":\"") {
        let (channel, rest) = until_quote(rest)?;
        let rest = rest.strip_prefix(b",\"from\":\"")?;
        let (_, rest) = until_quote(rest)?;
        let (rest, seq) = match seq_of(rest) {
            Some((rest, seq)) => (rest, Some(seq)),
            None => (rest.strip_suffix(b"}")?, None),
        };
        return Some(Message::Publication {
            channel,
            stamp: stamp_of(rest)?,
            seq,
        });
    }
    if let Some(rest) = kind.strip_prefix(b"direct\",\"from\":\"") {
        let (from, rest) = until_quote(rest)?;
        return Some(Message::Direct {
            from,
            stamp: stamp_of(rest.strip_suffix(b"}")?)?,
        });
    }
    if let Some(rest) = kind.strip_prefix(b"ack\",\"requestId\":\"") {
        let (id, rest) = until_quote(rest)?;
        let id = RequestId::read(id)?;
        return match rest {
            b"}" => Some(Message::Ack(id)),
            _ => Some(Message::Placed(id, serde_json::from_slice(text).ok()?)),
        };
    }
    let (name, _) = until_quote(kind)?;
    match name {
        b"welcome" => Some(Message::Welcome(text)),
        b"presence" => Some(Message::Presence(text)),
        b"error" => Some(Message::Error(text)),
        b"going_away" => Some(Message::GoingAway),
        b"pong" => Some(Message::Pong),
        _ => None,
    }
}

/// The bytes before the next quote, and those after it. Names of this harness need no escapes;
/// an escaped quote would make the text after it fail to match.
fn until_quote(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr(b'"', bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// What stands before the number in `….,"seq":7}`, and the number.
fn seq_of(rest: &[u8]) -> Option<(&[u8], u64)> {
    const SEQ: &[u8] = b",\"seq\":";
    let before = rest.strip_suffix(b"}")?;
    let digits = before.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let (before, digits) = before.split_at(before.len() - digits.count());
    let seq = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((before.strip_suffix(SEQ)?, seq))
}

/// The stamp in `,"data":"rm1.…"` or `…,"fromMetadata":{…}`.
fn stamp_of(rest: &[u8]) -> Option<Stamp> {
    let data = rest.strip_prefix(b",\"data\":")?;
    let (stamp, payload_bytes) = Stamp::read(data)?;
    let tail = &data[payload_bytes..];
    (tail.is_empty() || tail.starts_with(b",\"fromMetadata\":")).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        stream: 7,
        sequence: 9,
        intended_ns: 11,
    };

    fn check(before: &str, after: &str, expected: Message<'_>) {
        let mut payload = Vec::new();
        STAMP.write(&mut payload, 128);
        let text = format!(
            "{before}{}{after}",
            String::from_utf8(payload).expect("ASCII")
        );
        assert_eq!(recognise(text.as_bytes()), Some(expected), "{text}");
        for cut in 0..text.len() {
            assert_eq!(recognise(&text.as_bytes()[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn stamped_messages() {
        let publication = || Message::Publication {
            channel: b"c/1",
            stamp: STAMP,
            seq: None,
        };
        let head = r#"{"type":"message","channel":"c/1","from":"peer 1","data":"#;
        check(head, "}", publication());
        let numbered = Message::Publication {
            channel: b"c/1",
            stamp: STAMP,
            seq: Some(58),
        };
        check(head, ",\"seq\":58}", numbered);
        let direct = Message::Direct {
            from: b"p",
            stamp: STAMP,
        };
        check(r#"{"type":"direct","from":"p","data":"#, "}", direct);
        let text = format!("{head}\"other\"}}");
        assert_eq!(recognise(text.as_bytes()), None, "another client's payload");
    }

    #[test]
    fn metadata_may_follow() {
        let mut payload = Vec::new();
        STAMP.write(&mut payload, 128);
        let mut text = br#"{"type":"direct","from":"p","data":"#.to_vec();
        text.extend_from_slice(&payload);
        text.extend_from_slice(br#","fromMetadata":{"a":1}}"#);
        assert_eq!(
            recognise(&text),
            Some(Message::Direct {
                from: b"p",
                stamp: STAMP
            })
        );
    }

    #[test]
    fn request_ids_come_back() {
        let id = RequestId {
            kind: b's',
            a: 0xdead_beef,
            b: 3,
        };
        let text = id.text();
        let ack = format!(
            r#"{{"type":"ack","requestId":"{}"}}"#,
            std::str::from_utf8(&text).expect("ASCII")
        );
        assert_eq!(recognise(ack.as_bytes()), Some(Message::Ack(id)));
        assert_eq!(recognise(br#"{"type":"ack","requestId":"foreign"}"#), None);
        let text = std::str::from_utf8(&text).expect("ASCII");
        let placed = format!(
            r#"{{"type":"ack","requestId":"{text}",{}}}"#,
            r#""epoch":"q7Zk2wAb","seq":57,"recovered":true,"count":16"#
        );
        let position = Position {
            epoch: Some("q7Zk2wAb"),
            seq: 57,
            recovered: Some(true),
            count: Some(16),
        };
        assert_eq!(
            recognise(placed.as_bytes()),
            Some(Message::Placed(id, position))
        );
    }

    #[test]
    fn other_messages() {
        let welcome = br#"{"type":"welcome","peerId":"x","expiresAt":null}"#;
        assert_eq!(recognise(welcome), Some(Message::Welcome(welcome)));
        assert_eq!(recognise(br#"{"type":"pong"}"#), Some(Message::Pong));
        assert_eq!(
            recognise(br#"{"type":"going_away","retryAfterMs":1}"#),
            Some(Message::GoingAway)
        );
        assert_eq!(recognise(br#"{"type":"novel"}"#), None);
        assert_eq!(recognise(b"hello"), None);
    }
}
