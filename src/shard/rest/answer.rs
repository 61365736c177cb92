//! The bodies of successes, beside those that other layers define.

use serde::Serialize;

use crate::shard::mesh_message::Sequenced;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// It was published before, there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<bool>,
}

impl<'a> PublishAnswer<'a> {
    /// What has become of a publication.
    pub(super) fn new(channel: &'a str, sequenced: &'a Sequenced) -> Self {
        let position = sequenced.position.as_ref();
        Self {
            channel,
            delivered: sequenced.delivered,
            epoch: position.map(|it| it.epoch.as_str()),
            seq: position.map(|it| it.seq),
            duplicate: sequenced.is_duplicate.then_some(true),
        }
    }
}

/// The body of a history that was forgotten.
#[derive(Serialize)]
pub(super) struct ForgottenAnswer<'a> {
    pub channel: &'a str,
    pub deleted: u64,
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
