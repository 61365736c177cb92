//! Frame headers (RFC 6455, section 5.2), both ways.
//!
//! It stands between the first two to fourteen bytes of a frame and what they say, and judges
//! what they show to be wrong on their own, whichever end sent them. It does not know roles,
//! messages or limits: [`super::message`] does.

use super::close::Fault;
use crate::limits::CONTROL_PAYLOAD_BYTES_MAX;

/// Bytes of the longest header: two, a 64-bit length and a masking key.
pub const HEADER_BYTES_MAX: usize = 14;

/// Bytes of the shortest header. Nothing is judged before they are there.
const HEADER_BYTES_MIN: usize = 2;

const FIN_BIT: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const OPCODE_BITS: u8 = 0x0f;
const MASK_BIT: u8 = 0x80;
const LENGTH_BITS: u8 = 0x7f;
/// The length field's value when the length follows in 16 bits.
const LENGTH_IN_16_BITS: u8 = 126;
/// The length field's value when the length follows in 64 bits.
const LENGTH_IN_64_BITS: u8 = 127;

/// What a frame is (RFC 6455, section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0x0,
    /// A text message, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// The sender sends nothing after this.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// The reply to a ping; may also come unasked.
    Pong = 0xa,
}

impl Opcode {
    /// The opcode with this number; `None` for the reserved ones.
    #[inline]
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }

    /// Whether frames of this kind may stand inside a fragmented message.
    #[inline]
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Everything in front of a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether this is a message's last (or only) frame.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The masking key: present in what clients send.
    pub mask: Option<[u8; 4]>,
    /// Bytes of the payload, below 2^63.
    pub payload_len: u64,
}

impl Header {
    /// Decodes the header that `prefix` begins with, and says how many bytes it has; `None`
    /// while [`Header::bytes_wanted`] are not there yet.
    ///
    /// # Errors
    /// The [`Fault`]s that a header shows on its own, whichever end sent it. The verdict on a
    /// header does not depend on how its bytes arrive.
    #[inline]
    pub fn decode(prefix: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        let [first, second, after_second @ ..] = prefix else {
            return Ok(None);
        };
        if first & RESERVED_BITS != 0 {
            return Err(Fault::ReservedBits);
        }
        let opcode = Opcode::from_number(first & OPCODE_BITS).ok_or(Fault::ReservedOpcode)?;
        let fin = first & FIN_BIT != 0;
        let length_field = second & LENGTH_BITS;
        if opcode.is_control() {
            if !fin {
                return Err(Fault::FragmentedControl);
            }
            if usize::from(length_field) > CONTROL_PAYLOAD_BYTES_MAX {
                return Err(Fault::LongControl);
            }
        }
        let Some((payload_len, after_length)) = decode_length(length_field, after_second)? else {
            return Ok(None);
        };
        let (mask, payload) = if second & MASK_BIT == 0 {
            (None, after_length)
        } else if let Some((key, payload)) = after_length.split_first_chunk() {
            (Some(*key), payload)
        } else {
            return Ok(None);
        };
        let header = Self {
            fin,
            opcode,
            mask,
            payload_len,
        };
        Ok(Some((header, prefix.len() - payload.len())))
    }

    /// How many bytes of a frame [`Header::decode`] needs in all to tell more than it can tell
    /// from `prefix`, for which it answered `None`.
    #[must_use]
    pub fn bytes_wanted(prefix: &[u8]) -> usize {
        let Some(second) = prefix.get(1) else {
            return HEADER_BYTES_MIN;
        };
        let length_end = HEADER_BYTES_MIN
            + match second & LENGTH_BITS {
                LENGTH_IN_16_BITS => size_of::<u16>(),
                LENGTH_IN_64_BITS => size_of::<u64>(),
                _ => 0,
            };
        if prefix.len() < length_end || second & MASK_BIT == 0 {
            length_end
        } else {
            length_end + size_of::<[u8; 4]>()
        }
    }

    /// Appends the header to `out`, its length in the shortest form.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (bytes, len) = self.to_bytes();
        out.extend_from_slice(&bytes[..len]);
    }

    /// The header's bytes, and how many of the array they take up: 2, 4 or 10 and the key's 4,
    /// so that no index below can be out of range.
    #[inline]
    pub(super) fn to_bytes(self) -> ([u8; HEADER_BYTES_MAX], usize) {
        debug_assert!(self.payload_len <= i64::MAX as u64, "a length has 63 bits");
        debug_assert!(
            !self.opcode.is_control()
                || self.fin && self.payload_len <= CONTROL_PAYLOAD_BYTES_MAX as u64,
            "a control frame is short and whole"
        );
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[0] = self.opcode as u8 | if self.fin { FIN_BIT } else { 0 };
        let (length_field, length_end) = match self.payload_len {
            short @ 0..=125 => (short as u8, 2),
            medium @ 126..=0xffff => {
                bytes[2..4].copy_from_slice(&(medium as u16).to_be_bytes());
                (LENGTH_IN_16_BITS, 4)
            }
            long => {
                bytes[2..10].copy_from_slice(&long.to_be_bytes());
                (LENGTH_IN_64_BITS, 10)
            }
        };
        let Some(key) = self.mask else {
            bytes[1] = length_field;
            return (bytes, length_end);
        };
        bytes[1] = length_field | MASK_BIT;
        bytes[length_end..length_end + 4].copy_from_slice(&key);
        (bytes, length_end + 4)
    }
}

/// The payload's length and the bytes behind it; `None` where it is not there as a whole.
#[inline]
fn decode_length(length_field: u8, extended: &[u8]) -> Result<Option<(u64, &[u8])>, Fault> {
    match length_field {
        LENGTH_IN_16_BITS => {
            let Some((length, rest)) = extended.split_first_chunk() else {
                return Ok(None);
            };
            let length = u16::from_be_bytes(*length);
            if length < u16::from(LENGTH_IN_16_BITS) {
                return Err(Fault::LengthNotMinimal);
            }
            Ok(Some((u64::from(length), rest)))
        }
        LENGTH_IN_64_BITS => {
            let Some((length, rest)) = extended.split_first_chunk() else {
                return Ok(None);
            };
            let length = u64::from_be_bytes(*length);
            if length > i64::MAX as u64 {
                return Err(Fault::LengthOutOfRange);
            }
            if length <= u64::from(u16::MAX) {
                return Err(Fault::LengthNotMinimal);
            }
            Ok(Some((length, rest)))
        }
        short => Ok(Some((u64::from(short), extended))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// Decodes `bytes`, whole and cut at every byte. A fault must show as soon as the bytes
    /// that `bytes_wanted` named are there, and not depend on what follows.
    fn check(bytes: &[u8], expected: Result<Header, Fault>) {
        match expected {
            Ok(header) => {
                assert_eq!(
                    Header::decode(bytes),
                    Ok(Some((header, bytes.len()))),
                    "{bytes:x?}"
                );
                let mut encoded = Vec::new();
                header.encode(&mut encoded);
                assert_eq!(encoded, bytes);
            }
            Err(fault) => assert_eq!(Header::decode(bytes), Err(fault), "{bytes:x?}"),
        }
        let with_more = [bytes, &[0xff; 20]].concat();
        assert_eq!(Header::decode(&with_more), Header::decode(bytes));
        let mut wanted = Header::bytes_wanted(&[]);
        for cut in 0..bytes.len() {
            if cut == wanted {
                wanted = Header::bytes_wanted(&bytes[..cut]);
                assert!(wanted > cut, "{bytes:x?} cut at {cut}");
            }
            assert_eq!(
                Header::decode(&bytes[..cut]),
                Ok(None),
                "{bytes:x?} cut at {cut}"
            );
            assert_eq!(
                Header::bytes_wanted(&bytes[..cut]),
                wanted,
                "{bytes:x?} cut at {cut}"
            );
        }
        assert_eq!(wanted, bytes.len(), "{bytes:x?}");
    }

    fn text(payload_len: u64) -> Header {
        Header {
            fin: true,
            opcode: Opcode::Text,
            mask: None,
            payload_len,
        }
    }

    #[test]
    fn the_shortest_form_of_every_length() {
        check(b"\x81\x00", Ok(text(0)));
        check(b"\x81\x7d", Ok(text(125)));
        check(b"\x81\x7e\x00\x7e", Ok(text(126)));
        check(b"\x81\x7e\xff\xff", Ok(text(65_535)));
        check(b"\x81\x7f\0\0\0\0\0\x01\0\0", Ok(text(65_536)));
        check(
            b"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
            Ok(text(i64::MAX as u64)),
        );
    }

    #[test]
    fn masking_keys_follow_the_length() {
        check(
            b"\x81\x80\x37\xfa\x21\x3d",
            Ok(Header {
                mask: Some(KEY),
                ..text(0)
            }),
        );
        check(
            b"\x81\xfe\x01\x00\x37\xfa\x21\x3d",
            Ok(Header {
                mask: Some(KEY),
                ..text(256)
            }),
        );
        check(
            b"\x81\xff\0\0\0\0\0\x01\x04\0\x37\xfa\x21\x3d",
            Ok(Header {
                mask: Some(KEY),
                ..text(66_560)
            }),
        );
    }

    #[test]
    fn every_first_byte_is_judged() {
        for first in 0..=u8::MAX {
            let fin = first & 0x80 != 0;
            let expected = match (first & 0x70, first & 0x0f, fin) {
                (1.., _, _) => Err(Fault::ReservedBits),
                (_, 3..=7 | 11.., _) => Err(Fault::ReservedOpcode),
                (_, 8.., false) => Err(Fault::FragmentedControl),
                (_, number, _) => {
                    let opcode = Opcode::from_number(number).unwrap();
                    assert_eq!((opcode as u8, opcode.is_control()), (number, number >= 8));
                    Ok(Header {
                        fin,
                        opcode,
                        mask: None,
                        payload_len: 3,
                    })
                }
            };
            check(&[first, 3], expected);
        }
    }

    #[test]
    fn control_frames_are_short() {
        check(
            b"\x89\x7d",
            Ok(Header {
                opcode: Opcode::Ping,
                ..text(125)
            }),
        );
        check(b"\x89\x7e", Err(Fault::LongControl));
        check(b"\x88\xff", Err(Fault::LongControl));
    }

    #[test]
    fn longer_forms_than_needed_are_faults() {
        check(b"\x81\x7e\x00\x7d", Err(Fault::LengthNotMinimal));
        check(b"\x81\xfe\x00\x00", Err(Fault::LengthNotMinimal));
        check(
            b"\x81\x7f\0\0\0\0\0\0\xff\xff",
            Err(Fault::LengthNotMinimal),
        );
        check(b"\x81\x7f\x80\0\0\0\0\0\0\0", Err(Fault::LengthOutOfRange));
        check(
            b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            Err(Fault::LengthOutOfRange),
        );
    }
}
