//! Frames to send, for both ends.
//!
//! It stands between whoever has something to say and the bytes of a connection. Frames are
//! written straight behind whatever `out` holds already, so that many of them make one write:
//! from a payload that lies somewhere ([`append_frame`]), or around one that its encoder writes
//! into `out` itself ([`begin_frame`], [`finish_frame`]).
//!
//! It writes what it is told to: how long a server's frame may get is for the encoders of its
//! payload to see to.

use super::close::CloseFrame;
pub use super::header::{HEADER_BYTES_MAX, Header, Opcode};
use super::mask::apply_mask;

/// Bytes that [`begin_frame`] keeps free: the header of an unmasked frame with a 16-bit length,
/// which suits all payloads from 126 to 65,535 bytes.
const RESERVED_BYTES: usize = 4;

/// Appends a whole unmasked frame to `out`: what a server sends.
#[inline]
pub fn append_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    header(opcode, None, payload.len()).encode(out);
    out.extend_from_slice(payload);
}

/// Appends a whole masked frame to `out`: what a client sends.
pub fn append_masked_frame(out: &mut Vec<u8>, opcode: Opcode, mask_key: [u8; 4], payload: &[u8]) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    header(opcode, Some(mask_key), payload.len()).encode(out);
    let payload_start = out.len();
    out.extend_from_slice(payload);
    // `out` has only grown since.
    apply_mask(&mut out[payload_start..], mask_key);
}

/// Appends a whole unmasked close frame to `out`: what a server sends.
pub fn append_close(out: &mut Vec<u8>, close: &CloseFrame<'_>) {
    let start = begin_frame(out, Opcode::Close);
    close.append_payload(out);
    finish_frame(out, start);
}

/// An unmasked frame whose payload is being appended to the `Vec` it was begun in.
#[derive(Debug)]
#[must_use = "a frame has no header before it is finished"]
pub struct FrameStart {
    opcode: Opcode,
    /// Where the reserved bytes begin.
    position: usize,
}

/// Begins an unmasked frame: everything appended to `out` from now on is its payload, until
/// [`finish_frame`]. To give it up, truncate `out` to the length it had before.
#[inline]
pub fn begin_frame(out: &mut Vec<u8>, opcode: Opcode) -> FrameStart {
    let position = out.len();
    out.extend_from_slice(&[0; RESERVED_BYTES]);
    FrameStart { opcode, position }
}

/// Ends the frame that `start` began in `out`, by writing its header.
///
/// A payload from 126 to 65,535 bytes stays where it was written; a shorter one moves two bytes
/// to the front, a longer one six bytes to the back.
///
/// # Panics
/// Where `out` is shorter than `begin_frame` left it.
#[inline]
pub fn finish_frame(out: &mut Vec<u8>, start: FrameStart) {
    let FrameStart { opcode, position } = start;
    let written_at = position + RESERVED_BYTES;
    let written_end = out.len();
    assert!(
        written_end >= written_at,
        "a frame finished in another buffer than it was begun in"
    );
    let payload_bytes = written_end - written_at;
    let (bytes, header_bytes) = header(opcode, None, payload_bytes).to_bytes();
    let payload_at = position + header_bytes;
    if payload_at != written_at {
        let payload_end = payload_at + payload_bytes;
        out.resize(written_end.max(payload_end), 0);
        out.copy_within(written_at..written_end, payload_at);
        out.truncate(payload_end);
    }
    out[position..payload_at].copy_from_slice(&bytes[..header_bytes]);
}

/// How many frames a sequence of whole frames has.
#[must_use]
pub fn count_frames(mut frames: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some((header, header_bytes))) = Header::decode(frames) {
        count += 1;
        let frame_bytes = header_bytes + header.payload_len as usize;
        frames = frames.get(frame_bytes..).unwrap_or_default();
    }
    count
}

/// Whether bytes are frames of a server, one behind the other.
#[must_use]
pub fn are_whole_frames(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Ok(Some((header, header_bytes))) = Header::decode(bytes) else {
            return false;
        };
        let payload_bytes = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let Some(behind) = bytes.get(header_bytes.saturating_add(payload_bytes)..) else {
            return false;
        };
        if header.mask.is_some() {
            return false;
        }
        bytes = behind;
    }
    true
}

/// The header of a frame that is not fragmented.
#[inline]
fn header(opcode: Opcode, mask: Option<[u8; 4]>, payload_bytes: usize) -> Header {
    Header {
        fin: true,
        opcode,
        mask,
        payload_len: payload_bytes as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::super::close::Fault;
    use super::*;

    #[test]
    fn frames_match_the_examples_of_the_rfc() {
        let mut out = Vec::new();
        append_frame(&mut out, Opcode::Text, b"Hello");
        append_masked_frame(&mut out, Opcode::Text, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        assert_eq!(
            out,
            b"\x81\x05Hello\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
        );
    }

    #[test]
    fn a_frame_begun_and_finished_equals_one_appended() {
        for payload_len in [0, 1, 125, 126, 127, 65_535, 65_536, 66_560] {
            let payload: Vec<u8> = (0..payload_len).map(|i| (i % 251) as u8).collect();
            let mut expected = b"before".to_vec();
            append_frame(&mut expected, Opcode::Text, &payload);
            expected.extend_from_slice(b"after");

            let mut out = b"before".to_vec();
            let start = begin_frame(&mut out, Opcode::Text);
            out.extend_from_slice(&payload);
            finish_frame(&mut out, start);
            out.extend_from_slice(b"after");
            assert!(out == expected, "payload of {payload_len} bytes");
        }
    }

    #[test]
    fn frames_in_a_row_are_counted() {
        let mut out = Vec::new();
        assert_eq!(count_frames(&out), 0);
        for (at, payload_len) in [0, 125, 126, 65_536].into_iter().enumerate() {
            append_frame(&mut out, Opcode::Text, &vec![0x81; payload_len]);
            assert_eq!(count_frames(&out), at + 1);
        }
    }

    #[test]
    fn a_close_frame_carries_code_and_reason() {
        let mut out = Vec::new();
        append_close(&mut out, &Fault::UnmaskedFrame.into());
        assert_eq!(out, b"\x88\x1e\x03\xeaclient frames must be masked");
    }
}
