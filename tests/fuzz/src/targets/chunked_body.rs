//! Chunked bodies, against a decoder that has the whole body before it.

use ringmesh::proto::http::body::{BodyDecoder, BodyFraming};
use ringmesh::proto::http::chunked::{
    CHUNK_EXTENSION_BYTES_MAX, CHUNK_SIZE_DIGITS_MAX, TRAILER_BYTES_MAX,
};

const BODY_BYTES_MAX: u64 = 256;

pub(crate) fn run(bytes: &[u8]) {
    let (piece, bytes) = bytes.split_first().unwrap_or((&0, bytes));
    let whole = decode(bytes, usize::MAX);
    assert_eq!(decode(bytes, 1), whole, "byte by byte");
    assert_eq!(
        decode(bytes, usize::from(*piece).max(1)),
        whole,
        "in pieces"
    );
    let expected = naive(bytes);
    match (whole, expected) {
        (Some(ours), expected) => assert_eq!(Some(ours), expected),
        (None, Some(expected)) => panic!("a sound body is refused: {expected:?}"),
        (None, None) => {}
    }
}

/// The content, and where the body ends; `None` where it is broken or not whole.
fn decode(bytes: &[u8], piece: usize) -> Option<(Vec<u8>, usize)> {
    let mut decoder = BodyDecoder::new(BodyFraming::Chunked, BODY_BYTES_MAX);
    let (mut content, mut consumed) = (Vec::new(), 0);
    for part in bytes.chunks(piece) {
        let mut part = part.to_vec();
        let progress = decoder.decode(&mut part).ok()?;
        assert!(progress.written <= progress.consumed && progress.consumed <= part.len());
        assert!(progress.done || progress.consumed == part.len());
        content.extend_from_slice(&part[..progress.written]);
        consumed += progress.consumed;
        assert!(content.len() as u64 <= BODY_BYTES_MAX);
        if progress.done {
            return Some((content, consumed));
        }
    }
    None
}

/// RFC 9112, section 7.1, by lines, with the limits that are documented.
fn naive(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut content, mut at, mut extensions) = (Vec::new(), 0, 0);
    loop {
        let line = line(bytes, &mut at)?;
        let end = line.iter().position(|byte| *byte == b';');
        let (size, extension) = line.split_at(end.unwrap_or(line.len()));
        let is_size = (1..=usize::from(CHUNK_SIZE_DIGITS_MAX)).contains(&size.len())
            && size.iter().all(u8::is_ascii_hexdigit);
        extensions += extension.len().saturating_sub(1);
        let is_sound = is_size
            && extension.iter().all(is_field_byte)
            && extensions <= CHUNK_EXTENSION_BYTES_MAX as usize;
        if !is_sound {
            return None;
        }
        let size = u64::from_str_radix(str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        if size > BODY_BYTES_MAX - content.len() as u64 {
            return None;
        }
        let end = at + size as usize;
        content.extend_from_slice(bytes.get(at..end)?);
        if bytes.get(end..end + 2)? != b"\r\n" {
            return None;
        }
        at = end + 2;
    }
    let mut trailer_bytes = 0;
    loop {
        let line = line(bytes, &mut at)?;
        if line.is_empty() {
            return Some((content, at));
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let is_sound = colon > 0
            && line[..colon].iter().all(is_name)
            && line[colon + 1..].iter().all(is_field_byte);
        // The colon is not counted.
        trailer_bytes += line.len() - 1;
        if !is_sound || trailer_bytes > TRAILER_BYTES_MAX as usize {
            return None;
        }
    }
}

/// The next line, without its end, which is a carriage return and a line feed.
fn line<'b>(bytes: &'b [u8], at: &mut usize) -> Option<&'b [u8]> {
    let rest = &bytes[*at..];
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    if rest.get(end + 1) != Some(&b'\n') {
        return None;
    }
    *at += end + 2;
    Some(&rest[..end])
}

fn is_field_byte(byte: &u8) -> bool {
    *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f)
}
