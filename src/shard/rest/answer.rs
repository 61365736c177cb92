//! The bodies of successes, beside those that other layers define.

use serde::Serialize;

/// The body of a minted token.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenAnswer<'a> {
    pub token: &'a str,
    pub expires_at: u64,
}

/// The body of a publication.
#[derive(Serialize)]
pub(super) struct PublishAnswer<'a> {
    pub channel: &'a str,
    pub delivered: u64,
}

/// The body of a kick.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KickAnswer<'a> {
    pub peer_id: &'a str,
    pub closed: u64,
}

/// Appends a value as JSON.
#[expect(
    clippy::expect_used,
    reason = "a vector takes every byte, and strings and numbers are JSON"
)]
pub(super) fn append_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("plain values serialize into a vector");
}
