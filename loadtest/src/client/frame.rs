//! WebSocket frames of a client (RFC 6455 section 5): masked ones out, unmasked ones in.
//!
//! Text is not checked to be UTF-8: a byte-for-byte check of the payload's ends catches what
//! matters to a measurement, at a fraction of the cost.

/// Frame opcodes (RFC 6455 section 5.2).
pub(crate) mod opcode {
    /// A further fragment.
    pub(crate) const CONTINUATION: u8 = 0x0;
    /// Text.
    pub(crate) const TEXT: u8 = 0x1;
    /// Binary.
    pub(crate) const BINARY: u8 = 0x2;
    /// Close.
    pub(crate) const CLOSE: u8 = 0x8;
    /// Ping.
    pub(crate) const PING: u8 = 0x9;
    /// Pong.
    pub(crate) const PONG: u8 = 0xA;
}

/// Bytes before the payload of a short masked frame.
pub(crate) const HEAD_BYTES: usize = 6;

/// Largest frame taken from a server, in bytes: clients of this protocol cap theirs at 1 MiB.
pub(crate) const FRAME_BYTES_MAX: u64 = 1 << 20;

/// A frame as it stands in a read buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Last fragment of its message.
    pub is_final: bool,
    /// See [`opcode`].
    pub opcode: u8,
    /// Unmasked payload.
    pub payload: &'a [u8],
    /// Bytes of header and payload.
    pub wire_bytes: usize,
}

/// Takes one frame from the start of `buffer`; `Ok(None)` while it is incomplete.
///
/// # Errors
/// A text when the server breaks RFC 6455: masked frame, reserved bit, or above
/// [`FRAME_BYTES_MAX`].
pub(crate) fn decode(buffer: &[u8]) -> Result<Option<Frame<'_>>, &'static str> {
    let &[first, second, ref rest @ ..] = buffer else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err("a frame with reserved bits");
    }
    if second & 0x80 != 0 {
        return Err("a masked frame from a server");
    }
    let (payload_bytes, header_bytes) = match second {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if payload_bytes > FRAME_BYTES_MAX {
        return Err("a frame above 1 MiB");
    }
    let wire_bytes = header_bytes + payload_bytes as usize;
    let Some(payload) = buffer.get(header_bytes..wire_bytes) else {
        return Ok(None);
    };
    Ok(Some(Frame {
        is_final: first & 0x80 != 0,
        opcode: first & 0x0f,
        payload,
        wire_bytes,
    }))
}

/// Appends one final masked frame, whose payload is the concatenation of `parts`.
pub(crate) fn encode(out: &mut Vec<u8>, opcode: u8, parts: &[&[u8]], mask: [u8; 4]) {
    let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
    out.push(0x80 | opcode);
    match payload_bytes {
        0..=125 => out.push(0x80 | payload_bytes as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    let mut words = out[start..].chunks_exact_mut(4);
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= key;
    }
}

/// Code and reason of a close frame's payload; `None` for an empty one.
pub(crate) fn close_code(payload: &[u8]) -> Option<(u16, String)> {
    let (code, reason) = payload.split_first_chunk::<2>()?;
    Some((
        u16::from_be_bytes(*code),
        String::from_utf8_lossy(reason).into_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::frame::coding::{Data, OpCode};
    use tungstenite::protocol::frame::{Frame as PeerFrame, FrameSocket};

    /// An independent implementation reads what we encode, at every length class.
    #[test]
    fn a_server_reads_our_frames() {
        for payload_bytes in [0usize, 1, 3, 4, 125, 126, 127, 0xffff, 0x1_0000, 70_001] {
            let payload: Vec<u8> = (0..payload_bytes).map(|i| (i % 251) as u8).collect();
            let (head, tail) = payload.split_at(payload_bytes / 3);
            let mut wire = Vec::new();
            encode(&mut wire, opcode::TEXT, &[head, tail], [1, 2, 3, 200]);
            let mut socket = FrameSocket::new(std::io::Cursor::new(wire));
            let frame = socket.read(None).expect("readable").expect("one frame");
            assert_eq!(frame.header().opcode, OpCode::Data(Data::Text));
            assert_eq!(frame.header().mask, Some([1, 2, 3, 200]));
            let mut unmasked = frame.payload().to_vec();
            if unmasked != payload {
                for (i, byte) in unmasked.iter_mut().enumerate() {
                    *byte ^= [1, 2, 3, 200][i % 4];
                }
            }
            assert_eq!(unmasked, payload, "{payload_bytes} bytes");
        }
    }

    #[test]
    fn we_read_a_servers_frames_and_wait_at_every_split() {
        for payload_bytes in [0usize, 5, 125, 126, 300, 0xffff, 0x1_0000] {
            let payload = vec![b'a'; payload_bytes];
            let mut wire = Vec::new();
            PeerFrame::message(payload.clone(), OpCode::Data(Data::Text), true)
                .format(&mut wire)
                .expect("formats");
            for cut in (0..wire.len()).filter(|cut| *cut < 300 || wire.len() - cut < 20) {
                assert_eq!(decode(&wire[..cut]), Ok(None), "cut at {cut}");
            }
            let wire_bytes = wire.len();
            wire.extend_from_slice(b"next");
            let frame = decode(&wire).expect("valid").expect("whole");
            assert!(frame.is_final);
            assert_eq!((frame.opcode, frame.wire_bytes), (opcode::TEXT, wire_bytes));
            assert_eq!(frame.payload, payload);
        }
    }

    #[test]
    fn refuses_what_a_server_must_not_send() {
        assert!(decode(&[0x81, 0x80, 0, 0, 0, 0]).is_err(), "masked");
        assert!(decode(&[0xC1, 0x00]).is_err(), "compressed");
        let mut huge = vec![0x82, 127];
        huge.extend_from_slice(&(FRAME_BYTES_MAX + 1).to_be_bytes());
        assert!(decode(&huge).is_err(), "too long");
    }

    #[test]
    fn reads_close_codes() {
        assert_eq!(close_code(&[]), None);
        assert_eq!(close_code(&[0x03, 0xe8]), Some((1000, String::new())));
        assert_eq!(close_code(b"\x0f\xabrate"), Some((4011, "rate".into())));
    }
}
