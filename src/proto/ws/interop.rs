//! The codec against tungstenite, an implementation that shares nothing with it, and against
//! bytes that no implementation would send.

use std::{fmt, io};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame as TheirFrame, FrameHeader};
use tungstenite::protocol::{Message, Role as TheirRole, WebSocket, WebSocketConfig};

use super::frame::{Opcode, append_frame, append_masked_frame};
use super::message::{Decoder, MessageLimits, Role};
use super::testing::{Received, append_fragment, receive};

const LIMITS: MessageLimits = MessageLimits::text(66_560);

/// Lengths at which something changes: the forms of the length field, and the limit.
const BORDER_LENGTHS: [usize; 9] = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 66_560];

#[derive(Clone)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    payload: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fin,
            opcode,
            mask,
            payload,
        } = self;
        write!(
            f,
            "{opcode:?} fin={fin} mask={mask:x?} bytes={}",
            payload.len()
        )
    }
}

/// Text of exactly `bytes` bytes, of characters of all widths.
fn text(bytes: usize, rotation: usize) -> String {
    let mut text = String::with_capacity(bytes);
    for character in "{\"ä\":\"水🦀\"} ".chars().cycle().skip(rotation) {
        if text.len() + character.len_utf8() > bytes {
            break;
        }
        text.push(character);
    }
    text.extend(std::iter::repeat_n('x', bytes - text.len()));
    text
}

fn frame(fin: bool, opcode: Opcode, payload: Vec<u8>) -> impl Strategy<Value = Frame> {
    any::<[u8; 4]>().prop_map(move |mask| Frame {
        fin,
        opcode,
        mask,
        payload: payload.clone(),
    })
}

fn control_frame() -> impl Strategy<Value = Frame> {
    (
        select(vec![Opcode::Ping, Opcode::Pong]),
        vec(any::<u8>(), 0..=125),
    )
        .prop_flat_map(|(opcode, payload)| frame(true, opcode, payload))
}

/// A message in any number of fragments, cut anywhere (inside characters too), with control
/// frames between them.
fn message_frames() -> impl Strategy<Value = Vec<Frame>> {
    let bytes = prop_oneof![0..300_usize, select(BORDER_LENGTHS.as_slice())];
    let cuts = vec(
        (
            any::<Index>(),
            any::<[u8; 4]>(),
            proptest::option::of(control_frame()),
        ),
        0..5,
    );
    (bytes, 0..12_usize, any::<[u8; 4]>(), cuts).prop_map(|(bytes, rotation, mask, mut cuts)| {
        let payload = text(bytes, rotation).into_bytes();
        cuts.sort_by_key(|(cut, ..)| cut.index(bytes + 1));
        let mut frames = Vec::new();
        let mut opcode = Opcode::Text;
        let mut start = 0;
        for (cut, mask, control) in cuts {
            let end = cut.index(bytes + 1);
            let fragment = payload[start..end].to_vec();
            frames.push(Frame {
                fin: false,
                opcode,
                mask,
                payload: fragment,
            });
            frames.extend(control);
            opcode = Opcode::Continuation;
            start = end;
        }
        frames.push(Frame {
            fin: true,
            opcode,
            mask,
            payload: payload[start..].to_vec(),
        });
        frames
    })
}

fn close_frame() -> impl Strategy<Value = Frame> {
    let code = select([1000_u16, 1001, 1011, 1013, 3000, 4001, 4999].as_slice());
    proptest::option::of((code, "[a-zß水]{0,40}")).prop_flat_map(|close| {
        let payload = close.map_or(Vec::new(), |(code, reason)| {
            [code.to_be_bytes().as_slice(), reason.as_bytes()].concat()
        });
        frame(true, Opcode::Close, payload)
    })
}

/// All that a peer sends on one connection.
fn stream() -> impl Strategy<Value = Vec<Frame>> {
    (
        vec(message_frames(), 0..3),
        proptest::option::of(close_frame()),
    )
        .prop_map(|(messages, close)| messages.into_iter().flatten().chain(close).collect())
}

/// What the receiver has to make of the frames.
fn meaning(frames: &[Frame]) -> Vec<Received> {
    let mut message = Vec::new();
    let mut items = Vec::new();
    for Frame {
        fin,
        opcode,
        payload,
        ..
    } in frames
    {
        items.push(match opcode {
            Opcode::Ping => Received::Ping(payload.clone()),
            Opcode::Pong => Received::Pong,
            Opcode::Close => Received::Close(payload.split_first_chunk().map(|(code, reason)| {
                (
                    u16::from_be_bytes(*code),
                    String::from_utf8(reason.to_vec()).unwrap(),
                )
            })),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                message.extend_from_slice(payload);
                if *fin {
                    Received::Text(String::from_utf8(std::mem::take(&mut message)).unwrap())
                } else {
                    Received::Continuation
                }
            }
        });
    }
    items
}

/// The frames as our encoder writes them, for a client masked.
fn encode(frames: &[Frame], masked: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for Frame {
        fin,
        opcode,
        mask,
        payload,
    } in frames
    {
        match (fin, masked) {
            (true, true) => append_masked_frame(&mut out, *opcode, *mask, payload),
            (true, false) => append_frame(&mut out, *opcode, payload),
            (false, _) => {
                append_fragment(&mut out, false, *opcode, masked.then_some(*mask), payload)
            }
        }
    }
    out
}

/// The frames as tungstenite writes them.
fn encode_theirs(frames: &[Frame], masked: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for Frame {
        fin,
        opcode,
        mask,
        payload,
    } in frames
    {
        let header = FrameHeader {
            is_final: *fin,
            opcode: match opcode {
                Opcode::Continuation => OpCode::Data(Data::Continue),
                Opcode::Text => OpCode::Data(Data::Text),
                Opcode::Binary => OpCode::Data(Data::Binary),
                Opcode::Close => OpCode::Control(Control::Close),
                Opcode::Ping => OpCode::Control(Control::Ping),
                Opcode::Pong => OpCode::Control(Control::Pong),
            },
            mask: masked.then_some(*mask),
            ..FrameHeader::default()
        };
        TheirFrame::from_payload(header, payload.clone().into())
            .format(&mut out)
            .unwrap();
    }
    out
}

/// What tungstenite makes of the bytes until they end or it finds fault with them.
fn receive_theirs(role: TheirRole, bytes: Vec<u8>) -> Vec<Received> {
    let config = WebSocketConfig::default()
        .read_buffer_size(1_024)
        .max_frame_size(Some(LIMITS.message_bytes_max))
        .max_message_size(Some(LIMITS.message_bytes_max));
    let mut socket = WebSocket::from_partially_read(io::empty(), bytes, role, Some(config));
    let mut items = Vec::new();
    while let Ok(message) = socket.read() {
        items.push(match message {
            Message::Text(text) => Received::Text(text.to_string()),
            Message::Ping(payload) => Received::Ping(payload.to_vec()),
            Message::Pong(_) => Received::Pong,
            Message::Close(close) => {
                Received::Close(close.map(|close| (close.code.into(), close.reason.to_string())))
            }
            // We refuse binary messages: nothing behind one can be compared.
            Message::Binary(_) | Message::Frame(_) => break,
        });
    }
    items
}

/// The bytes in chunks that end at the given places.
fn chunks<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter()
        .map(|end| &bytes[std::mem::replace(&mut start, end)..end])
        .collect()
}

/// Expects `expected` of well-formed bytes, whole and in chunks.
fn check<R: Role>(
    decoder: fn() -> Decoder<R>,
    bytes: &[u8],
    cuts: &[Index],
    expected: &[Received],
) {
    for chunks in [vec![bytes], chunks(bytes, cuts)] {
        let (received, end) = receive(decoder(), LIMITS, &chunks);
        // Not `assert_eq!`: a difference of 66,560 bytes does not help whoever reads it.
        assert!(
            received == expected,
            "received otherwise, in {} chunks",
            chunks.len()
        );
        assert_eq!(end, Ok(0));
    }
}

/// Expects of bytes that may be anything: no panic, a verdict that does not depend on chunks,
/// and nothing delivered that tungstenite, which is the more tolerant one, does not deliver.
/// Close frames, always the last, are not compared: tungstenite does not know code 1014.
fn check_hostile<R: Role>(
    decoder: fn() -> Decoder<R>,
    their_role: TheirRole,
    bytes: &[u8],
    cuts: &[Index],
) {
    let (mut items, end) = receive(decoder(), LIMITS, &[bytes]);
    assert_eq!(
        receive(decoder(), LIMITS, &chunks(bytes, cuts)),
        (items.clone(), end)
    );
    items.retain(|item| !matches!(item, Received::Continuation | Received::Close(_)));
    let theirs = receive_theirs(their_role, bytes.to_vec());
    assert!(
        theirs.starts_with(&items),
        "{items:?}, but tungstenite received {theirs:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn we_understand_tungstenite(frames in stream(), cuts in vec(any::<Index>(), 0..8)) {
        let expected = meaning(&frames);
        check(Decoder::server, &encode_theirs(&frames, true), &cuts, &expected);
        check(Decoder::client, &encode_theirs(&frames, false), &cuts, &expected);
    }

    #[test]
    fn tungstenite_understands_us(frames in stream()) {
        let mut expected = meaning(&frames);
        expected.retain(|item| *item != Received::Continuation);
        for (masked, role) in [(true, TheirRole::Server), (false, TheirRole::Client)] {
            let bytes = encode(&frames, masked);
            prop_assert!(bytes == encode_theirs(&frames, masked), "other bytes than theirs");
            prop_assert!(receive_theirs(role, bytes) == expected, "read by a {:?}", role);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..64), cuts in vec(any::<Index>(), 0..8)) {
        check_hostile(Decoder::server, TheirRole::Server, &bytes, &cuts);
        check_hostile(Decoder::client, TheirRole::Client, &bytes, &cuts);
    }

    #[test]
    fn damaged_streams(
        frames in stream(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        cuts in vec(any::<Index>(), 0..8),
        masked: bool,
    ) {
        let short: Vec<Frame> =
            frames.into_iter().filter(|frame| frame.payload.len() <= 300).collect();
        let mut bytes = encode(&short, masked);
        for (place, value) in damage {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
        }
        if masked {
            check_hostile(Decoder::server, TheirRole::Server, &bytes, &cuts);
        } else {
            check_hostile(Decoder::client, TheirRole::Client, &bytes, &cuts);
        }
    }
}
