//! Messages and control frames out of a peer's bytes.
//!
//! It stands between a connection's read buffer and the session. A message that comes in one
//! frame, as nearly all do, is unmasked where it lies and delivered as a slice of that buffer. A
//! fragmented one is collected beside it; only while it is open does a decoder hold memory.
//!
//! It has no buffer of its own for incomplete frames: the caller keeps the bytes and comes again
//! with more. It replies to nothing: pongs and close frames are the session's.
//!
//! A frame is unmasked once, when it is there as a whole. What a header shows to be wrong is
//! refused before any payload has come. The verdict on a peer's bytes does not depend on how
//! they are cut.

use std::borrow::Cow;
use std::marker::PhantomData;

use super::close::{CloseFrame, Fault};
use super::collected::Collected;
use super::frame::{Header, Opcode};
use super::mask::apply_mask;

/// What a decoder accepts from its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Bytes of a message, reassembled.
    pub message_bytes_max: usize,
    /// Whether messages may be binary; text is taken in any case.
    pub takes_binary: bool,
}

impl MessageLimits {
    /// Text of so many bytes at most, and nothing else.
    #[must_use]
    pub const fn text(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            takes_binary: false,
        }
    }
}

/// The end of the connection that a decoder works for.
pub trait Role {
    /// Whether the peer has to mask its frames; if not, it must not.
    const PEER_MASKS: bool;
}

/// The server's end: its peer is a client.
#[derive(Debug)]
pub enum Server {}

/// The client's end: its peer is a server.
#[derive(Debug)]
pub enum Client {}

impl Role for Server {
    const PEER_MASKS: bool = true;
}

impl Role for Client {
    const PEER_MASKS: bool = false;
}

/// What [`Decoder::decode`] found at the front of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// No whole frame, and nothing consumed.
    Incomplete {
        /// Bytes needed, counted from the same front, before another call finds anything new.
        wanted: usize,
    },
    /// A frame that was consumed.
    Item {
        /// Bytes of the frame, header and payload.
        consumed: usize,
        /// What the frame amounts to.
        item: Item<'a>,
    },
}

/// What a frame amounts to.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A complete text message: borrowed from the input if it came in one frame, owned if it
    /// was reassembled.
    Text(Cow<'a, str>),
    /// A complete binary message, likewise.
    Binary(Cow<'a, [u8]>),
    /// Wants a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong, asked for or not.
    Pong,
    /// The peer's close frame. What follows it is not to be decoded (RFC 6455, section 5.5.1).
    Close(Option<CloseFrame<'a>>),
    /// A fragment of a message that is not complete yet: nothing to deliver.
    Continuation,
}

/// Decodes what the peer of one connection sends. Use [`Decoder::server`] or
/// [`Decoder::client`].
///
/// ```
/// use ringmesh::proto::ws::frame::{Opcode, append_frame, append_masked_frame};
/// use ringmesh::proto::ws::message::{Decoded, Decoder, Item, MessageLimits};
///
/// // What a client sends: a text message and a ping, and the first byte of something else.
/// let mut received = Vec::new();
/// append_masked_frame(&mut received, Opcode::Text, [1, 2, 3, 4], b"{\"type\":\"ping\"}");
/// append_masked_frame(&mut received, Opcode::Ping, [5, 6, 7, 8], b"still there?");
/// received.push(0x81);
///
/// let limits = MessageLimits::text(66_560);
/// let mut decoder = Decoder::server();
/// let mut replies = Vec::new();
/// let mut position = 0;
/// loop {
///     match decoder.decode(&mut received[position..], &limits)? {
///         Decoded::Item { consumed, item } => {
///             position += consumed;
///             match item {
///                 Item::Text(text) => assert_eq!(text, "{\"type\":\"ping\"}"),
///                 Item::Ping(payload) => append_frame(&mut replies, Opcode::Pong, payload),
///                 Item::Binary(_) | Item::Pong | Item::Continuation | Item::Close(_) => {}
///             }
///         }
///         // Keep what is left until there are at least so many bytes of it.
///         Decoded::Incomplete { wanted } => {
///             assert_eq!(wanted, 2);
///             break;
///         }
///     }
/// }
/// assert_eq!(received[position..], [0x81]);
/// assert_eq!(replies, b"\x8a\x0cstill there?");
/// # Ok::<(), ringmesh::proto::ws::close::Fault>(())
/// ```
#[derive(Debug)]
pub struct Decoder<R: Role> {
    /// Present while a fragmented message is open.
    fragments: Option<Box<Collected>>,
    role: PhantomData<R>,
}

// A server has one for every idle connection.
const _: () = assert!(size_of::<Decoder<Server>>() == size_of::<usize>());

impl Decoder<Server> {
    /// A decoder for what a client sends.
    #[must_use]
    pub const fn server() -> Self {
        Self {
            fragments: None,
            role: PhantomData,
        }
    }
}

impl Decoder<Client> {
    /// A decoder for what a server sends.
    #[must_use]
    pub const fn client() -> Self {
        Self {
            fragments: None,
            role: PhantomData,
        }
    }
}

impl<R: Role> Decoder<R> {
    /// Whether the open message is text, and its bytes, if it comes in fragments.
    pub(crate) fn open_message(&self) -> Option<(bool, Vec<u8>)> {
        let fragments = self.fragments.as_deref()?;
        Some((matches!(fragments, Collected::Text(_)), fragments.bytes()))
    }

    /// The decoder goes on with an open message.
    ///
    /// # Errors
    /// [`Fault::InvalidUtf8`] where that cannot become a text.
    pub(crate) fn go_on_with(&mut self, is_text: bool, bytes: &[u8]) -> Result<(), Fault> {
        let mut fragments = match is_text {
            true => Collected::text(),
            false => Collected::binary(),
        };
        fragments.push(bytes, bytes.len())?;
        self.fragments = Some(Box::new(fragments));
        Ok(())
    }

    /// Bytes of the open message, if it comes in fragments.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        self.fragments
            .as_ref()
            .map_or(0, |fragments| fragments.len())
    }

    /// Decodes one frame from the front of `input`, and unmasks it there.
    ///
    /// The caller drops what was consumed and calls again; after [`Decoded::Incomplete`], with
    /// the same bytes and more behind them.
    ///
    /// # Errors
    /// The peer broke a rule: close the connection with the fault's code, and decode no further.
    #[inline]
    pub fn decode<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: &MessageLimits,
    ) -> Result<Decoded<'a>, Fault> {
        let Some((header, header_bytes)) = Header::decode(input)? else {
            return Ok(Decoded::Incomplete {
                wanted: Header::bytes_wanted(input),
            });
        };
        let payload_bytes = self.admit(&header, limits)?;
        let frame_bytes = header_bytes.saturating_add(payload_bytes);
        let Some(payload) = input.get_mut(header_bytes..frame_bytes) else {
            return Ok(Decoded::Incomplete {
                wanted: frame_bytes,
            });
        };
        if let Some(key) = header.mask {
            apply_mask(payload, key);
        }
        let item = match header.opcode {
            Opcode::Text if header.fin => {
                let text = simdutf8::basic::from_utf8(payload).map_err(|_| Fault::InvalidUtf8)?;
                Item::Text(Cow::Borrowed(text))
            }
            // Refused by its header already, where it is not taken.
            Opcode::Binary if header.fin => Item::Binary(Cow::Borrowed(payload)),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                self.collect(payload, &header, limits)?
            }
            Opcode::Ping => Item::Ping(payload),
            Opcode::Pong => Item::Pong,
            Opcode::Close => Item::Close(CloseFrame::decode_payload(payload)?),
        };
        Ok(Decoded::Item {
            consumed: frame_bytes,
            item,
        })
    }

    /// Judges a frame by its header, and returns the bytes of its payload.
    #[inline]
    fn admit(&self, header: &Header, limits: &MessageLimits) -> Result<usize, Fault> {
        if header.mask.is_some() != R::PEER_MASKS {
            return Err(if R::PEER_MASKS {
                Fault::UnmaskedFrame
            } else {
                Fault::MaskedFrame
            });
        }
        // A length that does not fit is over any limit; a control frame's always fits.
        let payload_bytes = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let collected_bytes = match (header.opcode, &self.fragments) {
            (Opcode::Ping | Opcode::Pong | Opcode::Close, _) => return Ok(payload_bytes),
            (Opcode::Text, None) => 0,
            (Opcode::Binary, None) if limits.takes_binary => 0,
            (Opcode::Continuation, Some(fragments)) => fragments.len(),
            (Opcode::Continuation, None) => return Err(Fault::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Fault::UnfinishedMessage),
            (Opcode::Binary, None) => return Err(Fault::BinaryMessage),
        };
        if payload_bytes > limits.message_bytes_max.saturating_sub(collected_bytes) {
            return Err(Fault::MessageTooLong);
        }
        Ok(payload_bytes)
    }

    /// Adds a fragment to the open message, or opens one. Returns the message with its last
    /// fragment. Apart from [`Decoder::decode`], whose common case needs none of this.
    #[inline(never)]
    fn collect(
        &mut self,
        fragment: &[u8],
        header: &Header,
        limits: &MessageLimits,
    ) -> Result<Item<'static>, Fault> {
        let mut fragments = match self.fragments.take() {
            Some(fragments) => fragments,
            None if header.opcode == Opcode::Binary => Box::new(Collected::binary()),
            None => Box::new(Collected::text()),
        };
        fragments.push(fragment, limits.message_bytes_max)?;
        if header.fin {
            return Ok(match *fragments {
                Collected::Text(text) => Item::Text(Cow::Owned(text.finish()?)),
                Collected::Binary(bytes) => Item::Binary(Cow::Owned(bytes)),
            });
        }
        self.fragments = Some(fragments);
        Ok(Item::Continuation)
    }
}

#[cfg(test)]
mod tests;
