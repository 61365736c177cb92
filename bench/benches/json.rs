//! What reads JSON bodies: serde_json against simd-json, its mutable copy of the text included.
//!
//! Bodies of REST and messages are read by neither: see the figures in `proto::wire::json`. What
//! is left are the claims of a token, whose metadata must stay as it was written, and the objects
//! of the admin API.

#![expect(clippy::unwrap_used, reason = "the texts are good JSON")]

use std::hint::black_box;

use divan::Bencher;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Bytes of the metadata of a token, or of all patterns of a key.
const SIZES: [usize; 4] = [0, 256, 2_048, 16_384];

fn main() {
    divan::main();
}

/// The claims as the server reads them.
#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    sub: &'a RawValue,
    #[serde(borrow)]
    exp: &'a RawValue,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// An object of so many bytes: short texts, numbers and a list, as people write them.
fn object(bytes: usize) -> String {
    let mut members = vec![r#""name":"Ann Example","level":7"#.to_owned()];
    let mut length = members[0].len();
    while length < bytes {
        let at = members.len();
        members.push(format!(
            r#""field{at}":{{"tags":["red","blue"],"at":{at}}}"#
        ));
        length += members[at].len() + 1;
    }
    format!("{{{}}}", members.join(","))
}

fn claims(bytes: usize) -> String {
    let metadata = object(bytes);
    format!(r#"{{"sub":"ann","iat":1700000000,"exp":1700003600,"metadata":{metadata}}}"#)
}

fn key(bytes: usize) -> String {
    let patterns: Vec<_> = (0..=bytes / 16)
        .map(|at| format!(r#""room-{at:06}/*""#))
        .collect();
    let patterns = patterns.join(",");
    format!(
        r#"{{"type":"secret","name":"k","actions":["publish"],"channelPatterns":[{patterns}]}}"#
    )
}

#[divan::bench(args = SIZES)]
fn claims_serde_json(bencher: Bencher<'_, '_>, bytes: usize) {
    let text = claims(bytes);
    bencher.bench(|| {
        let claims: Claims<'_> = serde_json::from_str(black_box(&text)).unwrap();
        black_box([claims.sub, claims.exp, claims.metadata].map(|it| it.get().len()))
    });
}

/// The least that simd-json could take: its tape, of which the claims would have to be made.
#[divan::bench(args = SIZES)]
fn claims_simd_json(bencher: Bencher<'_, '_>, bytes: usize) {
    let text = claims(bytes);
    let mut copy = Vec::new();
    bencher.bench_local(move || {
        copy.clear();
        copy.extend_from_slice(black_box(text.as_bytes()));
        black_box(simd_json::to_tape(&mut copy).unwrap().0.len())
    });
}

#[divan::bench(args = SIZES)]
fn admin_object_serde_json(bencher: Bencher<'_, '_>, bytes: usize) {
    let text = key(bytes);
    bencher
        .bench(|| black_box(serde_json::from_str::<serde_json::Value>(black_box(&text)).unwrap()));
}

#[divan::bench(args = SIZES)]
fn admin_object_simd_json(bencher: Bencher<'_, '_>, bytes: usize) {
    let text = key(bytes);
    let mut copy = Vec::new();
    let mut buffers = simd_json::Buffers::new(text.len());
    bencher.bench_local(move || {
        copy.clear();
        copy.extend_from_slice(black_box(text.as_bytes()));
        let value: serde_json::Value =
            simd_json::serde::from_slice_with_buffers(&mut copy, &mut buffers).unwrap();
        black_box(value)
    });
}
