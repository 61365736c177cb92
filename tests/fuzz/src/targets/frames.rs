//! Any bytes as a client's frames, against a naive decoder of RFC 6455, section 5.

use ringmesh::proto::ws::message::{Decoded, Decoder, Item, MessageLimits};

const MESSAGE_BYTES_MAX: usize = 300;

/// What came, and whether the stream broke.
pub(crate) type Outcome = (Vec<Seen>, bool);

/// An item that outlives its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<(u16, Vec<u8>)>),
    Continuation,
}

pub(crate) fn run(bytes: &[u8]) {
    let (first, bytes) = bytes.split_first().unwrap_or((&0, bytes));
    let limits = MessageLimits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        takes_binary: first & 1 != 0,
    };
    let piece = usize::from(first >> 1).max(1);
    let whole = decode(bytes, usize::MAX, limits);
    assert_eq!(decode(bytes, piece, limits), whole, "in pieces of {piece}");
    let expected = naive(bytes, limits);
    assert_eq!(whole, expected);
}

/// What the server's decoder makes of bytes that come in pieces.
pub(crate) fn decode(bytes: &[u8], piece: usize, limits: MessageLimits) -> Outcome {
    let mut decoder = Decoder::server();
    let (mut items, mut buffer) = (Vec::new(), Vec::new());
    for part in bytes.chunks(piece) {
        buffer.extend_from_slice(part);
        loop {
            let consumed = match decoder.decode(&mut buffer, &limits) {
                Err(_) => return (items, true),
                Ok(Decoded::Incomplete { wanted }) => {
                    assert!(wanted > buffer.len());
                    break;
                }
                Ok(Decoded::Item { consumed, item }) => {
                    items.push(seen(item));
                    consumed
                }
            };
            if matches!(items.last(), Some(Seen::Close(_))) {
                return (items, false);
            }
            buffer.drain(..consumed);
        }
        assert!(decoder.bytes_held() <= limits.message_bytes_max);
    }
    (items, false)
}

fn seen(item: Item<'_>) -> Seen {
    match item {
        Item::Text(text) => Seen::Text(text.as_bytes().to_vec()),
        Item::Binary(bytes) => Seen::Binary(bytes.into_owned()),
        Item::Ping(payload) => Seen::Ping(payload.to_vec()),
        Item::Pong => Seen::Pong,
        Item::Continuation => Seen::Continuation,
        Item::Close(close) => {
            Seen::Close(close.map(|it| (it.code.get(), it.reason.as_bytes().to_vec())))
        }
    }
}

/// Frame by frame, from bytes that are all there.
fn naive(mut bytes: &[u8], limits: MessageLimits) -> Outcome {
    let (mut items, mut open) = (Vec::new(), None);
    loop {
        match frame(bytes, &mut open, limits) {
            Ok(Some((seen, count))) => {
                items.push(seen);
                bytes = &bytes[count..];
            }
            Ok(None) => return (items, false),
            Err(()) => return (items, true),
        }
        if matches!(items.last(), Some(Seen::Close(_))) {
            return (items, false);
        }
    }
}

type Open = Option<(bool, Vec<u8>)>;

fn frame(
    bytes: &[u8],
    open: &mut Open,
    limits: MessageLimits,
) -> Result<Option<(Seen, usize)>, ()> {
    let Some(&[first, second]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let (fin, opcode) = (first & 0x80 != 0, first & 0xf);
    let is_control = opcode >= 8;
    if first & 0x70 != 0 || !matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10) || (is_control && !fin) {
        return Err(());
    }
    let short = second & 0x7f;
    if is_control && short > 125 {
        return Err(());
    }
    let (length, head) = match short {
        126 | 127 => {
            let count = if short == 126 { 2 } else { 8 };
            let Some(field) = bytes.get(2..2 + count) else {
                return Ok(None);
            };
            let length = field
                .iter()
                .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            let least = if short == 126 { 126 } else { 65_536 };
            if length < least || length >> 63 != 0 {
                return Err(());
            }
            (length, 2 + count)
        }
        short => (u64::from(short), 2),
    };
    if second & 0x80 == 0 {
        return Err(());
    }
    // What a header says is judged when all of it is there.
    if bytes.len() < head + 4 {
        return Ok(None);
    }
    admitted(opcode, open, limits)?;
    let collected = open.as_ref().map_or(0, |(_, bytes)| bytes.len());
    let limit = (limits.message_bytes_max - collected) as u64;
    if !is_control && length > limit {
        return Err(());
    }
    let end = head + 4 + length as usize;
    let Some(masked) = bytes.get(head + 4..end) else {
        return Ok(None);
    };
    let key = &bytes[head..head + 4];
    let payload: Vec<u8> = masked
        .iter()
        .zip(key.iter().cycle())
        .map(|(a, b)| a ^ b)
        .collect();
    Ok(Some((complete(fin, opcode, payload, open)?, end)))
}

fn admitted(opcode: u8, open: &Open, limits: MessageLimits) -> Result<(), ()> {
    match (opcode, open) {
        (0, None) | (1 | 2, Some(_)) => Err(()),
        (2, None) if !limits.takes_binary => Err(()),
        _ => Ok(()),
    }
}

fn complete(fin: bool, opcode: u8, payload: Vec<u8>, open: &mut Open) -> Result<Seen, ()> {
    match opcode {
        8 => return close(&payload).map(Seen::Close),
        9 => return Ok(Seen::Ping(payload)),
        10 => return Ok(Seen::Pong),
        _ => {}
    }
    let (is_text, mut message) = open.take().unwrap_or((opcode == 1, Vec::new()));
    message.extend(payload);
    if is_text
        && let Err(error) = str::from_utf8(&message)
        && (fin || error.error_len().is_some())
    {
        return Err(());
    }
    if !fin {
        *open = Some((is_text, message));
        return Ok(Seen::Continuation);
    }
    Ok(if is_text {
        Seen::Text(message)
    } else {
        Seen::Binary(message)
    })
}

fn close(payload: &[u8]) -> Result<Option<(u16, Vec<u8>)>, ()> {
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let is_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            let is_text = str::from_utf8(reason).is_ok();
            if is_sent && is_text {
                Ok(Some((code, reason.to_vec())))
            } else {
                Err(())
            }
        }
        [_] => Err(()),
    }
}
