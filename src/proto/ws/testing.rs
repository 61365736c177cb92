//! Test support: frames as no server or client of ours writes them, and all that a decoder
//! makes of a stream of bytes that arrives in chunks.

use super::close::Fault;
use super::frame::{Header, Opcode};
use super::mask::apply_mask_bytewise;
use super::message::{Decoded, Decoder, Item, MessageLimits, Role};

/// An [`Item`] that outlives the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<(u16, String)>),
    Continuation,
}

impl From<Item<'_>> for Received {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => Self::Text(text.into_owned()),
            Item::Binary(bytes) => Self::Binary(bytes.into_owned()),
            Item::Ping(payload) => Self::Ping(payload.to_vec()),
            Item::Pong => Self::Pong,
            Item::Close(close) => {
                Self::Close(close.map(|close| (close.code.get(), close.reason.to_owned())))
            }
            Item::Continuation => Self::Continuation,
        }
    }
}

/// Appends a frame, which need not be a message's last.
pub(super) fn append_fragment(
    out: &mut Vec<u8>,
    fin: bool,
    opcode: Opcode,
    mask: Option<[u8; 4]>,
    payload: &[u8],
) {
    Header {
        fin,
        opcode,
        mask,
        payload_len: payload.len() as u64,
    }
    .encode(out);
    let payload_start = out.len();
    out.extend_from_slice(payload);
    apply_mask_bytewise(&mut out[payload_start..], mask.unwrap_or_default());
}

/// Feeds the chunks to the decoder, as a connection does, and returns the items and either the
/// number of bytes left over (none behind a close frame, where nobody looks) or the fault that
/// ended it.
///
/// Also expects of every incomplete frame that it is left as it was, that it wants more than is
/// there, and that nothing changes before what it wants is there.
pub(super) fn receive<R: Role>(
    mut decoder: Decoder<R>,
    limits: MessageLimits,
    chunks: &[&[u8]],
) -> (Vec<Received>, Result<usize, Fault>) {
    let mut items = Vec::new();
    let mut buffer = Vec::new();
    let mut wanted_before = 0;
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            let before = buffer.clone();
            match decoder.decode(&mut buffer, &limits) {
                Ok(Decoded::Item { consumed, item }) => {
                    assert!(
                        before.len() >= wanted_before,
                        "an item before it was possible"
                    );
                    wanted_before = 0;
                    items.push(item.into());
                    if matches!(items.last(), Some(Received::Close(_))) {
                        return (items, Ok(0));
                    }
                    buffer.drain(..consumed);
                }
                Ok(Decoded::Incomplete { wanted }) => {
                    assert!(buffer == before, "an incomplete frame was changed");
                    assert!(wanted > buffer.len(), "{wanted} wanted of {}", buffer.len());
                    assert!(before.len() >= wanted_before || wanted == wanted_before);
                    wanted_before = wanted;
                    break;
                }
                Err(fault) => {
                    assert!(
                        before.len() >= wanted_before,
                        "a fault before it was possible"
                    );
                    return (items, Err(fault));
                }
            }
        }
    }
    (items, Ok(buffer.len()))
}
