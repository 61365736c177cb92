//! Messages in fragments with control frames between them: what comes out is what went in.
//!
//! The bytes are a script, so that each input is a sound stream of frames but for its text.

use ringmesh::proto::ws::frame::{Header, Opcode};
use ringmesh::proto::ws::mask::apply_mask;
use ringmesh::proto::ws::message::MessageLimits;

use super::Bytes;
use super::frames::{Seen, decode};

const LIMITS: MessageLimits = MessageLimits {
    message_bytes_max: 66_560,
    takes_binary: true,
};

pub(crate) fn run(bytes: &[u8]) {
    let mut script = Bytes(bytes);
    let piece = usize::from(script.byte()).max(1);
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    let mut is_broken = false;
    while !script.is_empty() && !is_broken {
        is_broken = message(&mut script, &mut stream, &mut expected);
    }
    assert_eq!(decode(&stream, usize::MAX, LIMITS), (expected, is_broken));
    let whole = decode(&stream, usize::MAX, LIMITS);
    assert_eq!(decode(&stream, piece, LIMITS), whole);
}

/// One message in one to eight pieces. Returns whether it breaks the stream.
fn message(script: &mut Bytes<'_>, stream: &mut Vec<u8>, expected: &mut Vec<Seen>) -> bool {
    let shape = script.byte();
    let is_text = shape & 8 == 0;
    let pieces = 1 + usize::from(shape & 7);
    let mut message = Vec::new();
    for at in 0..pieces {
        let length = script.byte();
        let payload = script.take(usize::from(length & 0x3f));
        if length & 0x80 != 0 {
            append(stream, true, Opcode::Ping, b"p");
            expected.push(Seen::Ping(b"p".to_vec()));
        }
        let opcode = match (at, is_text) {
            (0, true) => Opcode::Text,
            (0, false) => Opcode::Binary,
            _ => Opcode::Continuation,
        };
        let is_last = at + 1 == pieces;
        append(stream, is_last, opcode, payload);
        message.extend_from_slice(payload);
        let fault = str::from_utf8(&message).err();
        let fault = fault.filter(|_| is_text);
        if fault.is_some_and(|fault| is_last || fault.error_len().is_some()) {
            return true;
        }
        if !is_last {
            expected.push(Seen::Continuation);
        }
    }
    expected.push(match is_text {
        true => Seen::Text(message),
        false => Seen::Binary(message),
    });
    false
}

fn append(stream: &mut Vec<u8>, fin: bool, opcode: Opcode, payload: &[u8]) {
    let key = [0x37, 0xfa, stream.len() as u8, 0x3d];
    let header = Header {
        fin,
        opcode,
        mask: Some(key),
        payload_len: payload.len() as u64,
    };
    header.encode(stream);
    let start = stream.len();
    stream.extend_from_slice(payload);
    apply_mask(&mut stream[start..], key);
}
