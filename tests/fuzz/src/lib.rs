//! Targets of a fuzzer: each takes any bytes, and panics where ringmesh does not do with them
//! what it should.
//!
//! Most compare with an oracle that shares no code with the server: a naive decoder of this
//! package, or another library. All of them also compare the server with itself: bytes mean the
//! same however they are cut.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what an oracle cannot do is a finding, too"
)]

mod targets;

/// What takes a fuzzer's bytes. Panics with what is wrong.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("http_head", targets::http_head::run),
    ("chunked_body", targets::chunked_body::run),
    ("proxy_header", targets::proxy_header::run),
    ("frames", targets::frames::run),
    ("fragments", targets::fragments::run),
    ("json_command", targets::json_command::run),
    ("pattern", targets::pattern::run),
    ("containment", targets::containment::run),
    ("token", targets::token::run),
    ("rest_body", targets::rest_body::run),
    ("configuration", targets::configuration::run),
    ("store_rows", targets::store_rows::run),
    ("store_file", targets::store_file::run),
    ("roster", targets::roster::run),
    ("history", targets::history::run),
    ("shard", targets::shard::run),
    ("handover", targets::handover::run),
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    let mut targets = TARGETS.iter();
    targets
        .find(|(known, _)| *known == name)
        .map(|(_, run)| *run)
}
