//! Answers in fewer bytes, for callers that take gzip.
//!
//! Only what holds no secret is sent so: pages, and samples. The length of an answer with a secret
//! beside what somebody else has chosen would tell of the secret.

use std::io::Write;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;
use flate2::Compression;
use flate2::write::GzEncoder;

pub(super) use crate::proto::http::encoding::GZIP;
use crate::proto::http::encoding::takes_gzip;

/// Whether whoever sent these headers takes gzip.
pub(super) fn is_taken(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).into_iter();
    takes_gzip(values.filter_map(|value| value.to_str().ok()))
}

/// The bytes in gzip; `None` if memory is short.
pub(super) fn compressed(bytes: &[u8], level: Compression) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use axum::http::HeaderValue;
    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn every_header_of_that_name_counts() {
        let mut headers = HeaderMap::new();
        assert!(!is_taken(&headers));
        headers.append(ACCEPT_ENCODING, HeaderValue::from_static("br"));
        headers.append(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(is_taken(&headers));
    }

    #[test]
    fn what_is_compressed_is_what_was_there() {
        let text = "one line after the other\n".repeat(100);
        let small = compressed(text.as_bytes(), Compression::best()).unwrap();
        assert!(small.len() < text.len() / 10);
        let mut back = String::new();
        GzDecoder::new(&*small).read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
    }
}
