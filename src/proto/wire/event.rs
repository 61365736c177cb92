//! The messages to a client, as JSON: compact, members in a fixed order.
//!
//! Payloads are appended without a frame header, and their exact length is known beforehand, so
//! that the header can be written first. Names come already escaped and JSON values as they
//! were received: encoding is copying. `presence` stands in [`super::presence`].

use super::error::ErrorCode;
use super::position::Position;
use super::string::JsonStr;

/// A message to a client. A `metadata` or `data` is one JSON value, compact or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The first message of a connection.
    Welcome(Welcome<'a>),
    /// A request was done.
    Ack {
        /// The id that the request had.
        request_id: JsonStr<'a>,
    },
    /// A request was done, and something is told of the channel's history.
    AckAt {
        /// The id that the request had.
        request_id: JsonStr<'a>,
        /// The position; `None` where the channel has no history.
        position: Option<Position>,
        /// What else is told.
        told: AckTold,
    },
    /// A new token was taken.
    Refreshed {
        /// The id that the request had.
        request_id: JsonStr<'a>,
        /// When the token ends, in Unix seconds.
        expires_at_sec: u64,
        /// Snapshots of channels that follow, because presence is allowed again.
        snapshots: usize,
    },
    /// A subscription has ended, which the credential does not allow any more.
    SubscriptionEnded {
        /// Name of the channel.
        channel: JsonStr<'a>,
    },
    /// A request was refused.
    Error {
        /// The id that the request had, if it had one.
        request_id: Option<JsonStr<'a>>,
        /// The cause, for programs.
        code: ErrorCode,
        /// The cause, for people. Contains nothing that JSON would escape.
        message: &'static str,
    },
    /// A publication of a subscribed channel.
    Message {
        /// Name of the channel.
        channel: JsonStr<'a>,
        /// The sender's peer id.
        from: JsonStr<'a>,
        /// The published JSON value.
        data: &'a [u8],
        /// The sender's metadata, for subscriptions that want it.
        from_metadata: Option<&'a [u8]>,
    },
    /// A [`Event::Message`] that is encoded without these members already, with them.
    MessageExtended {
        /// The payload of an encoded [`Event::Message`], without its closing brace.
        message: &'a [u8],
        /// The sender's `peerMetadata`.
        from_metadata: Option<&'a [u8]>,
        /// The number of the publication in its channel.
        seq: Option<u64>,
    },
    /// A message from one peer to another.
    Direct {
        /// The sender's peer id.
        from: JsonStr<'a>,
        /// The JSON value that was sent.
        data: &'a [u8],
        /// The sender's `peerMetadata`.
        from_metadata: Option<&'a [u8]>,
    },
    /// The server is about to close all connections.
    GoingAway {
        /// When to come back, in milliseconds.
        retry_after_ms: u64,
    },
    /// The answer to a `ping`.
    Pong {
        /// The id that the request had, if it had one.
        request_id: Option<JsonStr<'a>>,
    },
}

/// What an ack tells beside a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckTold {
    /// Nothing.
    Nothing,
    /// The publication was published before, there.
    Duplicate,
    /// What follows the ack.
    Replay {
        /// Whether nothing is missing.
        recovered: bool,
        /// How many publications are replayed.
        count: u32,
    },
}

/// The members of the first message of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The peer that the connection speaks for.
    pub peer_id: JsonStr<'a>,
    /// When the token ends, in Unix seconds; `None` for a publishable key.
    pub expires_at_sec: Option<u64>,
    /// The server's clock, in Unix seconds.
    pub server_time_sec: u64,
    /// Largest `data` of a command, in bytes.
    pub message_bytes_max: usize,
    /// The token's private metadata.
    pub metadata: Option<&'a [u8]>,
}

impl Event<'_> {
    /// Returns exactly how many bytes [`Event::append_to`] appends.
    #[inline(always)]
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut length = Length(0);
        self.write(&mut length);
        length.0
    }

    /// Appends the message's payload.
    #[inline(always)]
    pub fn append_to(&self, out: &mut Vec<u8>) {
        self.write(out);
    }

    /// A part of its callers, which know what kind of event theirs is.
    #[inline(always)]
    fn write(&self, output: &mut impl Output) {
        match *self {
            Self::Welcome(welcome) => welcome.write(output),
            Self::Ack { request_id } => write_ack(request_id, output),
            Self::AckAt {
                request_id,
                position,
                told,
            } => {
                write_ack(request_id, output);
                write_position(position, told, output);
            }
            Self::Refreshed {
                request_id,
                expires_at_sec,
                snapshots,
            } => write_refreshed(request_id, expires_at_sec, snapshots, output),
            Self::SubscriptionEnded { channel } => write_ended(channel, output),
            Self::Error {
                request_id,
                code,
                message,
            } => write_error(request_id, code, message, output),
            Self::Message {
                channel,
                from,
                data,
                from_metadata,
            } => {
                output.put(br#"{"type":"message","channel":"#);
                output.put(channel.as_bytes());
                output.put(br#","from":"#);
                output.put(from.as_bytes());
                output.put(br#","data":"#);
                output.put(data);
                output.put_member(FROM_METADATA, from_metadata);
            }
            Self::MessageExtended {
                message,
                from_metadata,
                seq,
            } => {
                debug_assert!(message.starts_with(br#"{"type":"message","#));
                output.put(message);
                output.put_member(FROM_METADATA, from_metadata);
                write_seq(seq, output);
            }
            Self::Direct {
                from,
                data,
                from_metadata,
            } => {
                output.put(br#"{"type":"direct","from":"#);
                output.put(from.as_bytes());
                output.put(br#","data":"#);
                output.put(data);
                output.put_member(FROM_METADATA, from_metadata);
            }
            Self::GoingAway { retry_after_ms } => {
                output.put(br#"{"type":"going_away","retryAfterMs":"#);
                output.put(retry_after_ms.to_string().as_bytes());
            }
            Self::Pong { request_id } => {
                output.put(br#"{"type":"pong""#);
                output.put_member(br#","requestId":"#, request_id.map(JsonStr::as_bytes));
            }
        }
        output.put(b"}");
    }
}

impl Welcome<'_> {
    /// All but the closing brace. Once per connection, so the numbers may be formatted.
    fn write(&self, output: &mut impl Output) {
        output.put(br#"{"type":"welcome","peerId":"#);
        output.put(self.peer_id.as_bytes());
        output.put(br#","expiresAt":"#);
        match self.expires_at_sec {
            Some(sec) => output.put(sec.to_string().as_bytes()),
            None => output.put(b"null"),
        }
        output.put(br#","serverTime":"#);
        output.put(self.server_time_sec.to_string().as_bytes());
        output.put(br#","maxMessageSize":"#);
        output.put(self.message_bytes_max.to_string().as_bytes());
        output.put_member(br#","metadata":"#, self.metadata);
    }
}

const FROM_METADATA: &[u8] = br#","fromMetadata":"#;
/// What stands before the number of a publication.
pub const SEQ: &[u8] = br#","seq":"#;

/// All of an ack but the closing brace.
#[inline(always)]
fn write_ack(request_id: JsonStr<'_>, output: &mut impl Output) {
    output.put(br#"{"type":"ack","requestId":"#);
    output.put(request_id.as_bytes());
}

#[inline(always)]
fn write_seq(seq: Option<u64>, output: &mut impl Output) {
    if let Some(seq) = seq {
        output.put(SEQ);
        output.put_number(seq);
    }
}

/// All of an error but the closing brace.
#[inline(always)]
fn write_error(
    request_id: Option<JsonStr<'_>>,
    code: ErrorCode,
    message: &str,
    output: &mut impl Output,
) {
    output.put(br#"{"type":"error""#);
    output.put_member(br#","requestId":"#, request_id.map(JsonStr::as_bytes));
    output.put(br#","code":""#);
    output.put(code.as_str().as_bytes());
    output.put(br#"","message":""#);
    output.put(message.as_bytes());
    output.put(b"\"");
}

fn write_refreshed(
    request_id: JsonStr<'_>,
    expires_at_sec: u64,
    snapshots: usize,
    output: &mut impl Output,
) {
    write_ack(request_id, output);
    output.put(br#","expiresAt":"#);
    output.put_number(expires_at_sec);
    if snapshots > 0 {
        output.put(br#","snapshots":"#);
        output.put_number(snapshots as u64);
    }
}

fn write_ended(channel: JsonStr<'_>, output: &mut impl Output) {
    let code = ErrorCode::ChannelNotAuthorized;
    output.put(br#"{"type":"error","code":""#);
    output.put(code.as_str().as_bytes());
    output.put(br#"","channel":"#);
    output.put(channel.as_bytes());
    output.put(br#","message":""#);
    output.put(code.message().as_bytes());
    output.put(b"\"");
}

/// The members of an ack that tell of a channel's history.
fn write_position(position: Option<Position>, told: AckTold, output: &mut impl Output) {
    match &position {
        Some(position) => {
            output.put(br#","epoch":""#);
            output.put(position.epoch.as_str().as_bytes());
            output.put(br#"","seq":"#);
            output.put_number(position.seq);
        }
        None => output.put(br#","epoch":null,"seq":0"#),
    }
    match told {
        AckTold::Nothing => {}
        AckTold::Duplicate => output.put(br#","duplicate":true"#),
        AckTold::Replay { recovered, count } => {
            output.put(match recovered {
                true => br#","recovered":true,"count":"#.as_slice(),
                false => br#","recovered":false,"count":"#,
            });
            output.put_number(count.into());
        }
    }
}

/// Where the pieces of a payload go: into a buffer, or only into its length. One description of
/// a message serves both, so the two cannot disagree.
pub(super) trait Output {
    fn put(&mut self, piece: &[u8]);

    /// Puts an optional member, `name` being its comma, key and colon.
    #[inline]
    fn put_member(&mut self, name: &[u8], value: Option<&[u8]>) {
        if let Some(value) = value {
            self.put(name);
            self.put(value);
        }
    }

    /// Puts a number, without an allocation.
    #[inline]
    fn put_number(&mut self, number: u64) {
        let mut digits = [0; 20];
        let (mut at, mut left) = (digits.len(), number);
        loop {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                return self.put(&digits[at..]);
            }
        }
    }
}

impl Output for Vec<u8> {
    #[inline]
    fn put(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }
}

/// Bytes counted so far.
pub(super) struct Length(pub(super) usize);

impl Output for Length {
    #[inline]
    fn put(&mut self, piece: &[u8]) {
        self.0 += piece.len();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::proto::wire::position::Epoch;
    use crate::proto::wire::string::JsonString;

    /// Behind something else, as in an outbox.
    fn check(event: Event<'_>, expected: &str) {
        let mut out = b"before".to_vec();
        event.append_to(&mut out);
        let payload = out.strip_prefix(b"before").unwrap();
        assert_eq!(std::str::from_utf8(payload).unwrap(), expected);
        assert_eq!(event.encoded_len(), payload.len(), "{expected}");
        assert!(
            serde_json::from_slice::<&RawValue>(payload).is_ok(),
            "{expected}"
        );
    }

    fn json(text: &str) -> JsonStr<'_> {
        JsonStr::from_escaped(text)
    }

    #[test]
    fn welcome() {
        let head = r#"{"type":"welcome","peerId":"alice","expiresAt":"#;
        let welcome = |expires_at_sec, metadata| {
            Event::Welcome(Welcome {
                peer_id: json("\"alice\""),
                expires_at_sec,
                server_time_sec: 1_715_535_600,
                message_bytes_max: 65_536,
                metadata,
            })
        };
        let tail = r#""serverTime":1715535600,"maxMessageSize":65536"#;
        check(welcome(None, None), &format!("{head}null,{tail}}}"));
        check(
            welcome(Some(1_715_539_200), Some(br#"{"iceServers":[]}"#)),
            &format!(r#"{head}1715539200,{tail},"metadata":{{"iceServers":[]}}}}"#),
        );
    }

    #[test]
    fn answers() {
        let id = json(r#""r\"\u0031""#);
        check(
            Event::Ack { request_id: id },
            r#"{"type":"ack","requestId":"r\"\u0031"}"#,
        );
        check(
            Event::Pong {
                request_id: Some(id),
            },
            r#"{"type":"pong","requestId":"r\"\u0031"}"#,
        );
        check(Event::Pong { request_id: None }, r#"{"type":"pong"}"#);
        check(
            Event::Refreshed {
                request_id: id,
                expires_at_sec: 1_715_539_200,
                snapshots: 0,
            },
            r#"{"type":"ack","requestId":"r\"\u0031","expiresAt":1715539200}"#,
        );
        check(
            Event::Refreshed {
                request_id: id,
                expires_at_sec: 1_715_539_200,
                snapshots: 3,
            },
            r#"{"type":"ack","requestId":"r\"\u0031","expiresAt":1715539200,"snapshots":3}"#,
        );
        check(
            Event::SubscriptionEnded {
                channel: json("\"a\""),
            },
            concat!(
                r#"{"type":"error","code":"channel_not_authorized","channel":"a","#,
                r#""message":"no channel pattern of this connection's credential matches the "#,
                r#"channel"}"#
            ),
        );
        let error = |request_id, code, message| Event::Error {
            request_id,
            code,
            message,
        };
        check(
            error(Some(id), ErrorCode::MissingData, "no 'data'"),
            concat!(
                r#"{"type":"error","requestId":"r\"\u0031","#,
                r#""code":"missing_data","message":"no 'data'"}"#
            ),
        );
        for code in ErrorCode::ALL {
            let (name, message) = (code.as_str(), code.message());
            check(
                error(None, code, message),
                &format!(r#"{{"type":"error","code":"{name}","message":"{message}"}}"#),
            );
        }
    }

    #[test]
    fn acks_with_positions() {
        let epoch = Epoch::parse("q7Zk2wAb").unwrap();
        let ack = |position, told| Event::AckAt {
            request_id: json("\"1\""),
            position,
            told,
        };
        let at = |seq| Some(Position { epoch, seq });
        let head = r#"{"type":"ack","requestId":"1","epoch":"#;
        for (told, tail) in [
            (AckTold::Nothing, ""),
            (AckTold::Duplicate, r#","duplicate":true"#),
            (
                AckTold::Replay {
                    recovered: true,
                    count: 16,
                },
                r#","recovered":true,"count":16"#,
            ),
        ] {
            let expected = format!(r#"{head}"q7Zk2wAb","seq":57{tail}}}"#);
            check(ack(at(57), told), &expected);
        }
        let told = AckTold::Replay {
            recovered: false,
            count: 0,
        };
        let expected = format!(r#"{head}null,"seq":0,"recovered":false,"count":0}}"#);
        check(ack(None, told), &expected);
    }

    #[test]
    fn messages_with_and_without_metadata() {
        let (channel, from) = (JsonString::new("a/\"b\"/é"), JsonString::new("x\\y"));
        let (channel, from) = (channel.as_json_str(), from.as_json_str());
        let data = br#"{ "k": [1, "\ud83d"] }"#;
        let message = |from_metadata| Event::Message {
            channel,
            from,
            data,
            from_metadata,
        };
        let direct = |from_metadata| Event::Direct {
            from,
            data,
            from_metadata,
        };
        let body = r#""from":"x\\y","data":{ "k": [1, "\ud83d"] }"#;
        let plain = format!(r#"{{"type":"message","channel":"a/\"b\"/é",{body}}}"#);
        let head = &plain[..plain.len() - 1];
        let extended = format!(r#"{head},"fromMetadata":{{"n":1}}}}"#);
        for (event, expected) in [
            (message(None), plain.clone()),
            (message(Some(br#"{"n":1}"#)), extended.clone()),
            (
                Event::MessageExtended {
                    message: head.as_bytes(),
                    from_metadata: Some(br#"{"n":1}"#),
                    seq: None,
                },
                extended,
            ),
            (
                Event::MessageExtended {
                    message: head.as_bytes(),
                    from_metadata: Some(b"{}"),
                    seq: Some(u64::MAX),
                },
                format!(r#"{head},"fromMetadata":{{}},"seq":18446744073709551615}}"#),
            ),
            (
                Event::MessageExtended {
                    message: head.as_bytes(),
                    from_metadata: None,
                    seq: Some(10),
                },
                format!(r#"{head},"seq":10}}"#),
            ),
            (direct(None), format!(r#"{{"type":"direct",{body}}}"#)),
            (
                direct(Some(b"{}")),
                format!(r#"{{"type":"direct",{body},"fromMetadata":{{}}}}"#),
            ),
        ] {
            check(event, &expected);
        }
    }

    #[test]
    fn going_away() {
        let event = Event::GoingAway {
            retry_after_ms: 1_500,
        };
        check(event, r#"{"type":"going_away","retryAfterMs":1500}"#);
    }
}
