//! A client's message as a value.
//!
//! Decides everything that the message alone decides: its shape and its names. What the sender
//! may do is the session's business. Borrows from the payload: nothing is copied or allocated
//! unless a name is written with escapes.

use std::borrow::Cow;

use super::error::ErrorCode;
use super::json;
use super::name::{is_reserved_channel, validate_channel_name, validate_peer_id};
use super::string::JsonStr;
use crate::limits::REQUEST_ID_BYTES_MAX;

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
    },
    /// Send to a peer's connections.
    Send {
        /// Id of the peer.
        to: Cow<'a, str>,
        /// The JSON value to pass on.
        data: &'a str,
    },
    /// Get a `pong`.
    Ping,
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
            Some("subscribe") => Command::Subscribe {
                channel: self.channel()?,
                include_sender_metadata,
            },
            Some("unsubscribe") => Command::Unsubscribe {
                channel: self.channel()?,
            },
            Some("publish") => Command::Publish {
                channel: self.channel()?,
                data: self.data()?,
            },
            Some("send") => Command::Send {
                to: self.to()?,
                data: self.data()?,
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

    fn to(&self) -> Result<Cow<'a, str>, ErrorCode> {
        let id = decoded(self.to).ok_or(ErrorCode::InvalidPeerId)?;
        validate_peer_id(&id)?;
        Ok(id)
    }

    fn data(&self) -> Result<&'a str, ErrorCode> {
        self.data.ok_or(ErrorCode::MissingData)
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
