//! What the store keeps, as JSON in its tables: a record and, beside it, its secrets.
//!
//! Signing and TURN secrets are sealed, API secrets are hashes. A field may be added with
//! `#[serde(default)]`; any other change needs a new format version.

use serde::{Deserialize, Serialize};

use super::seal::Sealed;
use crate::control::record::{AppRecord, KeyRecord};
use crate::domain::rights::SecretHash;
use crate::domain::usage::PeriodUsage;

/// An app with its TURN secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRow {
    /// As shown.
    pub record: AppRecord,
    /// Present when the record has `turn`.
    pub turn_secret: Option<Sealed>,
}

/// A key with its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// As shown.
    pub record: KeyRecord,
    /// `None` for a publishable key.
    pub secrets: Option<SecretsRow>,
}

/// A secret key's secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsRow {
    /// The present ones.
    pub current: SecretPair,
    /// Those before the last rotation, with the Unix time in milliseconds at which they end.
    pub previous: Option<(SecretPair, u64)>,
}

/// A signing secret and an API secret, made together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPair {
    /// Signs tokens.
    pub signing: Sealed,
    /// SHA-256 of the bearer secret.
    pub api_sha256: SecretHash,
}

impl SecretsRow {
    /// The secrets before the last rotation, while their grace window lasts.
    #[must_use]
    pub fn previous_at(&self, now_unix_ms: u64) -> Option<&(SecretPair, u64)> {
        self.previous
            .as_ref()
            .filter(|(_, until_ms)| now_unix_ms < *until_ms)
    }
}

/// An app's counts in one period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// Whose.
    pub app_id: String,
    /// The period's first second, Unix time.
    pub start_unix: u64,
    /// The first second after it.
    pub end_unix: u64,
    /// Most connections at the same time.
    pub peak_connections: u64,
    /// Messages, dropped ones included.
    pub messages: u64,
    /// Messages over the limit.
    pub overage_messages: u64,
    /// Connections over the limit.
    pub overage_connections: u64,
}

impl UsageRow {
    /// The row of an app's counts.
    #[must_use]
    pub fn new(app_id: &str, usage: &PeriodUsage) -> Self {
        Self {
            app_id: app_id.to_owned(),
            start_unix: usage.start_unix,
            end_unix: usage.end_unix,
            peak_connections: usage.peak_connections,
            messages: usage.messages,
            overage_messages: usage.overage_messages,
            overage_connections: usage.overage_connections,
        }
    }

    /// The counts in it.
    #[must_use]
    pub fn usage(&self) -> PeriodUsage {
        PeriodUsage {
            start_unix: self.start_unix,
            end_unix: self.end_unix,
            peak_connections: self.peak_connections,
            messages: self.messages,
            overage_messages: self.overage_messages,
            overage_connections: self.overage_connections,
        }
    }
}
