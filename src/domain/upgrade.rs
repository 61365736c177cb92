//! How an upgrade of the running server has ended, as whoever asked for it is told.

use serde::Serialize;

/// Another process serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeDone {
    /// `done`.
    pub outcome: &'static str,
    /// For how long nobody was served, in milliseconds.
    pub pause_ms: u64,
    /// How many connections were handed over.
    pub connections: u64,
    /// The process that serves now.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

/// The process that was there goes on to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeFailed {
    /// The stage at which it failed.
    pub stage: String,
    /// Why.
    pub cause: String,
}

impl UpgradeFailed {
    /// Failed at that stage, for that cause.
    #[must_use]
    pub fn new(stage: impl ToString, cause: impl Into<String>) -> Self {
        Self {
            stage: stage.to_string(),
            cause: cause.into(),
        }
    }
}
