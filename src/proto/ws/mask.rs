//! Masking of frame payloads (RFC 6455, section 5.3), in place.
//!
//! Masking and unmasking are the same operation. [`apply_mask`] is the one the codec uses; its
//! loop over eight-byte words is one that the compiler turns into SIMD, so it needs neither
//! `unsafe` nor a choice by processor. [`apply_mask_bytewise`] is the RFC's sentence in code: it
//! does the last bytes of the wide one and is what the wide one is tested against.
//!
//! A payload is always masked whole: its first byte meets the key's first byte.

/// Masks or unmasks `payload` with `key`, eight bytes at a time.
#[inline]
pub fn apply_mask(payload: &mut [u8], key: [u8; 4]) {
    let half = u32::from_ne_bytes(key);
    let word = u64::from(half) << 32 | u64::from(half);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    let (halves, rest) = rest.as_chunks_mut::<4>();
    for bytes in halves {
        *bytes = (u32::from_ne_bytes(*bytes) ^ half).to_ne_bytes();
    }
    apply_mask_bytewise(rest, key);
}

/// Masks or unmasks `payload` with `key`, one byte at a time.
#[inline]
pub fn apply_mask_bytewise(payload: &mut [u8], key: [u8; 4]) {
    for (byte, key_byte) in payload.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key_byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Masks `buffer[start..end]` both ways and expects one result, nothing touched around it,
    /// and the payload back after a second pass.
    fn check(buffer: &[u8], start: usize, end: usize, key: [u8; 4]) {
        let mut expected = buffer.to_vec();
        apply_mask_bytewise(&mut expected[start..end], key);
        let mut masked = buffer.to_vec();
        apply_mask(&mut masked[start..end], key);
        assert_eq!(masked, expected, "start {start}, end {end}, key {key:?}");
        apply_mask(&mut masked[start..end], key);
        assert_eq!(masked, buffer, "start {start}, end {end}, key {key:?}");
    }

    #[test]
    fn matches_the_example_of_the_rfc() {
        let mut payload = *b"\x7f\x9f\x4d\x51\x58";
        apply_mask(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn bytewise_repeats_the_key_from_its_first_byte() {
        let mut payload = [0; 6];
        apply_mask_bytewise(&mut payload, [1, 2, 3, 4]);
        assert_eq!(payload, [1, 2, 3, 4, 1, 2]);
    }

    #[test]
    fn wide_equals_bytewise_at_every_offset_and_length() {
        let buffer: Vec<u8> = (0..400_u32).map(|i| (i * 151 % 251) as u8).collect();
        for start in 0..32 {
            for length in 0..=300 {
                let key = [start as u8, length as u8, 0xa5, (start ^ length) as u8];
                check(&buffer, start, start + length, key);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn wide_equals_bytewise_for_any_payload(
            buffer in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
            start in 0..64_usize,
            key: [u8; 4],
        ) {
            check(&buffer, start.min(buffer.len()), buffer.len(), key);
        }
    }
}
