//! A client's message as a value.
//!
//! Decides everything that the message alone decides: its shape and its names. What the sender
//! may do is the session's business. Borrows from the payload: nothing is copied or allocated
//! unless a name is written with escapes.

use std::borrow::Cow;

use super::error::ErrorCode;
use super::json;
use super::name::{is_reserved_channel, validate_channel_name, validate_peer_id};
use super::position::{Epoch, Since};
use super::string::JsonStr;
use crate::limits::{PUBLICATION_ID_BYTES_MAX, REQUEST_ID_BYTES_MAX};

/// What a client asks for. Names are decoded and keep the rules of [`super::name`]; `data` is
/// one JSON value exactly as the sender wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Receive the channel's messages and, where permitted, its presence.
    Subscribe {
        /// Name of the channel.
        channel: Cow<'a, str>,
        /// Whether its messages shall carry `fromMetadata`.
        include_sender_metadata: bool,
        /// What of the publications before shall be told in the ack, or replayed.
        since: Option<Since>,
    },
    /// Receive them no longer.
    Unsubscribe {
        /// Name of the channel.
        channel: Cow<'a, str>,
    },
    /// Send to a channel's subscribers.
    Publish {
        /// Name of the channel.
        channel: Cow<'a, str>,
        /// The JSON value to pass on.
        data: &'a str,
        /// By what the sender tells the publication from others, 1 to
        /// [`PUBLICATION_ID_BYTES_MAX`] bytes: it is published once.
        id: Option<Cow<'a, str>>,
        /// Whether the ack shall tell its position.
        position: bool,
    },
    /// Send to a peer's connections.
    Send {
        /// Id of the peer.
        to: Cow<'a, str>,
        /// The JSON value to pass on.
        data: &'a str,
    },
    /// Go on with the rights of another token.
    Refresh {
        /// The token, if there is a string for one.
        token: Option<Cow<'a, str>>,
    },
    /// Get a `pong`.
    Ping,
}

impl Command<'_> {
    /// Returns what it is about: a channel, a peer, or nothing.
    #[must_use]
    pub fn about(&self) -> &str {
        match self {
            Self::Subscribe { channel, .. }
            | Self::Unsubscribe { channel }
            | Self::Publish { channel, .. } => channel,
            Self::Send { to, .. } => to,
            Self::Refresh { .. } | Self::Ping => "",
        }
    }
}

/// A command, and the id that its sender wants to see in the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The id to echo in the one reply; without it success is silent. 1 to
    /// [`REQUEST_ID_BYTES_MAX`] bytes when decoded.
    pub request_id: Option<JsonStr<'a>>,
    /// What the sender wants.
    pub command: Command<'a>,
}

/// Why a message is no valid command, independent of its sender's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection<'a> {
    /// The id to echo, if the message has a valid one.
    pub request_id: Option<JsonStr<'a>>,
    /// The first fault, in the order of [`ErrorCode`].
    pub code: ErrorCode,
    /// What exactly is wrong. Contains nothing that JSON would escape.
    pub message: &'static str,
}

impl<'a> Request<'a> {
    /// Reads the payload of a text message.
    ///
    /// # Errors
    /// A [`Rejection`] with the first fault, for an `error` message.
    pub fn parse(payload: &'a str) -> Result<Self, Rejection<'a>> {
        let mut fields = Fields::default();
        json::for_each_member(payload, |key, value| fields.set(key, value))
            .map_err(|fault| Rejection::malformed(fault.message()))?;
        let request_id = fields.request_id()?;
        match fields.command() {
            Ok(command) => Ok(Self {
                request_id,
                command,
            }),
            Err(rejection) => Err(Rejection {
                request_id,
                ..rejection
            }),
        }
    }
}

impl Rejection<'_> {
    fn malformed(message: &'static str) -> Self {
        Self {
            request_id: None,
            code: ErrorCode::MalformedMessage,
            message,
        }
    }
}

impl From<ErrorCode> for Rejection<'_> {
    fn from(code: ErrorCode) -> Self {
        Self {
            request_id: None,
            code,
            message: code.message(),
        }
    }
}

/// The values of the members that any command knows, unchecked.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a str>,
    request_id: Option<&'a str>,
    channel: Option<&'a str>,
    to: Option<&'a str>,
    data: Option<&'a str>,
    include_sender_metadata: Option<&'a str>,
    since: Option<&'a str>,
    position: Option<&'a str>,
    id: Option<&'a str>,
    token: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Takes a member; of a duplicated key the last one stays.
    #[inline]
    fn set(&mut self, key: JsonStr<'a>, value: &'a str) {
        let field = match key.decode().as_deref() {
            Some("type") => &mut self.kind,
            Some("requestId") => &mut self.request_id,
            Some("channel") => &mut self.channel,
            Some("to") => &mut self.to,
            Some("data") => &mut self.data,
            Some("includeSenderMetadata") => &mut self.include_sender_metadata,
            Some("since") => &mut self.since,
            Some("position") => &mut self.position,
            Some("id") => &mut self.id,
            Some("token") => &mut self.token,
            _ => return,
        };
        *field = Some(value);
    }

    fn request_id(&self) -> Result<Option<JsonStr<'a>>, Rejection<'a>> {
        let Some(value) = self.request_id else {
            return Ok(None);
        };
        JsonStr::from_value(value)
            .filter(|id| {
                let decoded = id.decode();
                decoded.is_some_and(|id| (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()))
            })
            .map(Some)
            .ok_or(Rejection::malformed(
                "'requestId' must be a string of 1 to 128 bytes",
            ))
    }

    /// The checks stand in the order of [`ErrorCode`], for every `type`.
    fn command(&self) -> Result<Command<'a>, Rejection<'a>> {
        let kind = self.kind.and_then(JsonStr::from_value);
        let kind = kind.ok_or(Rejection::malformed("'type' must be present and a string"))?;
        let include_sender_metadata = match self.include_sender_metadata {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                return Err(Rejection::malformed(
                    "'includeSenderMetadata' must be true or false",
                ));
            }
        };
        Ok(match kind.decode().as_deref() {
            Some("subscribe") => {
                let since = self.since()?;
                Command::Subscribe {
                    channel: self.channel()?,
                    include_sender_metadata,
                    since,
                }
            }
            Some("unsubscribe") => Command::Unsubscribe {
                channel: self.channel()?,
            },
            Some("publish") => {
                let (id, position) = (self.publication_id()?, self.position()?);
                Command::Publish {
                    channel: self.channel()?,
                    data: self.data()?,
                    id,
                    position,
                }
            }
            Some("send") => Command::Send {
                to: self.to()?,
                data: self.data()?,
            },
            Some("refresh") => Command::Refresh {
                token: decoded(self.token),
            },
            Some("ping") => Command::Ping,
            _ => return Err(ErrorCode::UnknownType.into()),
        })
    }

    fn channel(&self) -> Result<Cow<'a, str>, ErrorCode> {
        let name = decoded(self.channel).ok_or(ErrorCode::InvalidChannel)?;
        validate_channel_name(&name)?;
        if is_reserved_channel(&name) {
            Err(ErrorCode::ChannelReserved)
        } else {
            Ok(name)
        }
    }

    fn position(&self) -> Result<bool, Rejection<'a>> {
        match self.position {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Rejection::malformed("'position' must be true or false")),
        }
    }

    fn publication_id(&self) -> Result<Option<Cow<'a, str>>, Rejection<'a>> {
        let Some(value) = self.id else {
            return Ok(None);
        };
        let id = decoded(Some(value));
        id.filter(|id| (1..=PUBLICATION_ID_BYTES_MAX).contains(&id.len()))
            .map(Some)
            .ok_or(Rejection::malformed(
                "'id' must be a string of 1 to 64 bytes",
            ))
    }

    fn since(&self) -> Result<Option<Since>, Rejection<'a>> {
        let wants_position = self.position()?;
        let Some(value) = self.since else {
            return Ok(wants_position.then_some(Since::Now));
        };
        if self.request_id.is_none() {
            return Err(Rejection::malformed("'since' needs a 'requestId'"));
        }
        since(value).map(Some).ok_or(Rejection::malformed(
            "'since' must have a string 'epoch' and a number 'seq', or a number 'last' alone",
        ))
    }

    fn to(&self) -> Result<Cow<'a, str>, ErrorCode> {
        let id = decoded(self.to).ok_or(ErrorCode::InvalidPeerId)?;
        validate_peer_id(&id)?;
        Ok(id)
    }

    fn data(&self) -> Result<&'a str, ErrorCode> {
        self.data.ok_or(ErrorCode::MissingData)
    }
}

/// The value of `since`: a position, or how many of the newest.
fn since(value: &str) -> Option<Since> {
    let (mut epoch, mut seq, mut last) = (None, None, None);
    json::for_each_member(value, |key, value| match key.decode().as_deref() {
        Some("epoch") => epoch = Some(value),
        Some("seq") => seq = Some(value),
        Some("last") => last = Some(value),
        _ => {}
    })
    .ok()?;
    match (epoch, seq, last) {
        (Some(epoch), Some(seq), None) => {
            let epoch = decoded(Some(epoch))?;
            Some(Since::After(Epoch::parse(&epoch), seq.parse().ok()?))
        }
        (None, None, Some(last)) => Some(Since::Last(last.parse().ok()?)),
        _ => None,
    }
}

/// The value of a member that is there and is a string of Unicode characters.
#[inline]
fn decoded(value: Option<&str>) -> Option<Cow<'_, str>> {
    value
        .and_then(JsonStr::from_value)
        .and_then(JsonStr::decode)
}

#[cfg(test)]
mod tests;
