//! The measured payload: a JSON string that says which stream it belongs to, its place in that
//! stream and when it should have been sent.
//!
//! `"rm1.<stream>.<sequence>.<intended ns>.xxxx…<sequence>"`, all numbers in fixed-width lower-case
//! hexadecimal. The sequence stands at both ends, so that a cut or mixed-up payload is noticed
//! without comparing every byte of every delivery.

/// Smallest payload, in bytes of JSON, both quotes included.
pub(crate) const PAYLOAD_BYTES_MIN: usize = HEAD_BYTES + TRAILER_BYTES;

/// `"rm1.` + 8 + `.` + 8 + `.` + 16 + `.`
const HEAD_BYTES: usize = 5 + 8 + 1 + 8 + 1 + 16 + 1;
/// Eight digits and the closing quote.
const TRAILER_BYTES: usize = 9;
const MAGIC: &[u8; 5] = b"\"rm1.";

/// What one measured message says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The ordered series of messages this one belongs to: one publisher in one channel.
    pub stream: u32,
    /// Place in the stream, from 0.
    pub sequence: u32,
    /// `CLOCK_MONOTONIC` nanoseconds at which the message should have been sent.
    pub intended_ns: u64,
}

impl Stamp {
    /// Writes the payload into `out`, replacing what was there. `payload_bytes` is at least
    /// [`PAYLOAD_BYTES_MIN`].
    pub(crate) fn write(&self, out: &mut Vec<u8>, payload_bytes: usize) {
        out.clear();
        out.extend_from_slice(MAGIC);
        push_hex(out, u64::from(self.stream), 8);
        out.push(b'.');
        push_hex(out, u64::from(self.sequence), 8);
        out.push(b'.');
        push_hex(out, self.intended_ns, 16);
        out.push(b'.');
        out.resize(payload_bytes.max(PAYLOAD_BYTES_MIN) - TRAILER_BYTES, b'x');
        push_hex(out, u64::from(self.sequence), 8);
        out.push(b'"');
    }

    /// Reads a stamp from the beginning of `data` (the bytes after `"data":`). Returns it with the
    /// payload's length, or `None` when these bytes are no intact stamp.
    pub(crate) fn read(data: &[u8]) -> Option<(Stamp, usize)> {
        let head = data.get(..HEAD_BYTES)?;
        if !head.starts_with(MAGIC) {
            return None;
        }
        let stream = read_hex8(head, 5)?;
        let sequence = read_hex8(head, 14)?;
        let intended_ns = u64::from(read_hex8(head, 23)?) << 32 | u64::from(read_hex8(head, 31)?);
        let end = HEAD_BYTES + memchr::memchr(b'"', data.get(HEAD_BYTES..)?)?;
        let trailer = read_hex8(data, end.checked_sub(8)?)?;
        if trailer != sequence {
            return None;
        }
        Some((
            Stamp {
                stream,
                sequence,
                intended_ns,
            },
            end + 1,
        ))
    }
}

/// Appends the low `digits` hexadecimal digits of `value`.
pub(crate) fn push_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for place in (0..digits).rev() {
        out.push(DIGITS[(value >> (place * 4)) as usize & 15]);
    }
}

/// Eight lower-case hexadecimal digits at `at`, or `None`.
pub(crate) fn read_hex8(bytes: &[u8], at: usize) -> Option<u32> {
    let digits: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
    let mut value = 0u32;
    let mut invalid = 0u8;
    for digit in digits {
        let nibble = HEX_VALUE[usize::from(digit)];
        invalid |= nibble;
        value = value << 4 | u32::from(nibble & 15);
    }
    (invalid & 0x80 == 0).then_some(value)
}

/// Value of each hexadecimal digit; 0x80 for every other byte.
const HEX_VALUE: [u8; 256] = {
    let mut table = [0x80; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stamp: Stamp, payload_bytes: usize) {
        let mut payload = Vec::new();
        stamp.write(&mut payload, payload_bytes);
        assert_eq!(payload.len(), payload_bytes.max(PAYLOAD_BYTES_MIN));
        serde_json::from_slice::<String>(&payload).expect("a payload is a JSON string");
        let mut with_rest = payload.clone();
        with_rest.extend_from_slice(b",\"fromMetadata\":{}}");
        assert_eq!(Stamp::read(&with_rest), Some((stamp, payload.len())));
        for cut in 0..payload.len() {
            assert_eq!(Stamp::read(&payload[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn reads_what_it_wrote_at_every_size() {
        for payload_bytes in [0, PAYLOAD_BYTES_MIN, 50, 128, 1024] {
            check(
                Stamp {
                    stream: 0,
                    sequence: 0,
                    intended_ns: 0,
                },
                payload_bytes,
            );
            check(
                Stamp {
                    stream: u32::MAX,
                    sequence: 0x89ab_cdef,
                    intended_ns: u64::MAX,
                },
                payload_bytes,
            );
        }
    }

    #[test]
    fn refuses_a_payload_whose_ends_differ() {
        let mut payload = Vec::new();
        Stamp {
            stream: 1,
            sequence: 2,
            intended_ns: 3,
        }
        .write(&mut payload, 128);
        let last_digit = payload.len() - 2;
        payload[last_digit] = b'3';
        assert_eq!(Stamp::read(&payload), None);
        payload[last_digit] = b'X';
        assert_eq!(Stamp::read(&payload), None);
    }
}
