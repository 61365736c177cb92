//! The messages to a client, as JSON: compact, members in a fixed order.
//!
//! Payloads are appended without a frame header, and their exact length is known beforehand, so
//! that the header can be written first. Names come already escaped and JSON values as they
//! were received: encoding is copying. `presence` stands in [`super::presence`].

use super::error::ErrorCode;
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
    /// A [`Event::Message`] that is encoded without metadata already, with metadata.
    MessageExtended {
        /// The payload of an encoded [`Event::Message`].
        message: &'a [u8],
        /// The sender's `peerMetadata`.
        from_metadata: &'a [u8],
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
    #[inline]
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut length = Length(0);
        self.write(&mut length);
        length.0
    }

    /// Appends the message's payload.
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>) {
        self.write(out);
    }

    #[inline]
    fn write(&self, sink: &mut impl Sink) {
        match *self {
            Self::Welcome(welcome) => welcome.write(sink),
            Self::Ack { request_id } => {
                sink.put(br#"{"type":"ack","requestId":"#);
                sink.put(request_id.as_bytes());
            }
            Self::Error {
                request_id,
                code,
                message,
            } => {
                sink.put(br#"{"type":"error""#);
                sink.put_member(br#","requestId":"#, request_id.map(JsonStr::as_bytes));
                sink.put(br#","code":""#);
                sink.put(code.as_str().as_bytes());
                sink.put(br#"","message":""#);
                sink.put(message.as_bytes());
                sink.put(b"\"");
            }
            Self::Message {
                channel,
                from,
                data,
                from_metadata,
            } => {
                sink.put(br#"{"type":"message","channel":"#);
                sink.put(channel.as_bytes());
                sink.put(br#","from":"#);
                sink.put(from.as_bytes());
                sink.put(br#","data":"#);
                sink.put(data);
                sink.put_member(FROM_METADATA, from_metadata);
            }
            Self::MessageExtended {
                message,
                from_metadata,
            } => {
                debug_assert!(message.starts_with(br#"{"type":"message","#));
                sink.put(message.strip_suffix(b"}").unwrap_or(message));
                sink.put_member(FROM_METADATA, Some(from_metadata));
            }
            Self::Direct {
                from,
                data,
                from_metadata,
            } => {
                sink.put(br#"{"type":"direct","from":"#);
                sink.put(from.as_bytes());
                sink.put(br#","data":"#);
                sink.put(data);
                sink.put_member(FROM_METADATA, from_metadata);
            }
            Self::GoingAway { retry_after_ms } => {
                sink.put(br#"{"type":"going_away","retryAfterMs":"#);
                sink.put(retry_after_ms.to_string().as_bytes());
            }
            Self::Pong { request_id } => {
                sink.put(br#"{"type":"pong""#);
                sink.put_member(br#","requestId":"#, request_id.map(JsonStr::as_bytes));
            }
        }
        sink.put(b"}");
    }
}

impl Welcome<'_> {
    /// All but the closing brace. Once per connection, so the numbers may be formatted.
    fn write(&self, sink: &mut impl Sink) {
        sink.put(br#"{"type":"welcome","peerId":"#);
        sink.put(self.peer_id.as_bytes());
        sink.put(br#","expiresAt":"#);
        match self.expires_at_sec {
            Some(sec) => sink.put(sec.to_string().as_bytes()),
            None => sink.put(b"null"),
        }
        sink.put(br#","serverTime":"#);
        sink.put(self.server_time_sec.to_string().as_bytes());
        sink.put(br#","maxMessageSize":"#);
        sink.put(self.message_bytes_max.to_string().as_bytes());
        sink.put_member(br#","metadata":"#, self.metadata);
    }
}

const FROM_METADATA: &[u8] = br#","fromMetadata":"#;

/// Where the pieces of a payload go: into a buffer, or only into its length. One description of
/// a message serves both, so the two cannot disagree.
pub(super) trait Sink {
    fn put(&mut self, piece: &[u8]);

    /// Puts an optional member, `name` being its comma, key and colon.
    #[inline]
    fn put_member(&mut self, name: &[u8], value: Option<&[u8]>) {
        if let Some(value) = value {
            self.put(name);
            self.put(value);
        }
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }
}

/// Bytes counted so far.
pub(super) struct Length(pub(super) usize);

impl Sink for Length {
    #[inline]
    fn put(&mut self, piece: &[u8]) {
        self.0 += piece.len();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
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
                    message: plain.as_bytes(),
                    from_metadata: br#"{"n":1}"#,
                },
                extended,
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
