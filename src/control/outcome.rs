//! The outcome of a change: the rows that it writes, and the object that its client is shown.

use serde::Serialize;

use super::secret::SecretText;
use super::store::Edit;
use crate::domain::record::{AppRecord, KeyRecord};

/// A change that has been decided, and has not been made.
#[derive(Debug)]
pub(super) struct Decision {
    /// What the store writes, in one transaction.
    pub edits: Vec<Edit>,
    /// What is answered after the last shard has switched.
    pub outcome: Outcome,
}

/// The answer to a change: the object as it is now, or was last.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// The app as it is now, or was last.
    App(Box<AppRecord>),
    /// A key, with its secrets when they are new.
    Key(Box<KeyAnswer>),
}

/// A key in an answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyAnswer {
    /// The key, without its secrets.
    #[serde(flatten)]
    pub key: KeyRecord,
    /// New secrets, shown this once.
    #[serde(flatten)]
    pub secrets: Option<NewSecrets>,
    /// What a rotation did to the secrets before.
    #[serde(flatten)]
    pub rotation: Option<Rotation>,
}

/// Secrets that were just made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSecrets {
    /// The secret that signs tokens.
    pub signing_secret: SecretText,
    /// The bearer secret of REST.
    pub api_secret: SecretText,
}

/// What a rotation did to the secrets before.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Until when the replaced secrets are accepted, Unix seconds; `None`: no longer.
    pub previous_valid_until: Option<u64>,
    /// Whether a rotation within the grace window of the one before ended still older secrets.
    pub dropped_previous: bool,
}

impl Outcome {
    pub(super) fn key(key: KeyRecord) -> Self {
        Self::Key(Box::new(KeyAnswer {
            key,
            secrets: None,
            rotation: None,
        }))
    }
}
