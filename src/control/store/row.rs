//! What the store keeps, as JSON in its tables: a record and, beside it, its secrets.
//!
//! Signing and TURN secrets are sealed, API secrets are hashes. A field may be added with
//! `#[serde(default)]`; any other change needs a new format version.

use serde::{Deserialize, Serialize};

use super::seal::Sealed;
use crate::domain::record::{AppRecord, KeyRecord};
use crate::domain::rights::SecretHash;
use crate::domain::usage::PeriodUsage;

/// An app with its TURN secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppRow {
    /// The app, as the admin API shows it.
    pub record: AppRecord,
    /// Present when the record has `turn`.
    pub turn_secret: Option<Sealed>,
}

/// A key with its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    /// The key, as the admin API shows it.
    pub record: KeyRecord,
    /// `None` for a publishable key.
    pub secrets: Option<SecretsRow>,
}

/// A secret key's secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretsRow {
    /// The secrets that are good now.
    pub current: SecretPair,
    /// Those before the last rotation, with the Unix time in milliseconds at which they end.
    pub previous: Option<(SecretPair, u64)>,
}

/// A signing secret and an API secret, made together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretPair {
    /// The secret that signs tokens, encrypted.
    pub signing: Sealed,
    /// SHA-256 of the bearer secret.
    pub api_sha256: SecretHash,
}

impl SecretsRow {
    /// The secrets before the last rotation, while their grace window lasts.
    #[must_use]
    pub(crate) fn previous_at(&self, now_unix_ms: u64) -> Option<&(SecretPair, u64)> {
        self.previous
            .as_ref()
            .filter(|(_, until_ms)| now_unix_ms < *until_ms)
    }
}

/// What an app has used, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsageRow {
    /// Id of the app.
    pub app_id: String,
    /// The counts of the present period.
    #[serde(flatten)]
    pub usage: PeriodUsage,
    /// In the period before, for a clock that is set back into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<PeriodUsage>,
}
