//! The changes that can be asked of the control plane, as values, and their answers.
//!
//! [`plan`] decides a change against the present registry and says which rows it writes. It
//! changes nothing itself: the engine makes it durable, compiles it and has the shards switch.

use serde::Serialize;

use super::ControlError;
use super::merge::Object;
use super::record::{AppRecord, KeyRecord};
use super::registry::Registry;
use super::secret::SecretText;
use super::store::Edit;
use super::{apps, keys};

/// A change, as asked for. Without `Debug`: a body may carry a TURN secret.
#[derive(Clone)]
pub enum Operation {
    /// A new app, with the fields of its body.
    CreateApp(Object),
    /// Merges a patch into an app.
    PatchApp {
        /// Which.
        app_id: String,
        /// The merge patch.
        patch: Object,
    },
    /// Ends an app, its keys and its connections.
    DeleteApp(String),
    /// A new key of an app.
    CreateKey {
        /// Whose.
        app_id: String,
        /// Its fields.
        body: Object,
    },
    /// Merges a patch into a key.
    PatchKey {
        /// Which.
        key_id: String,
        /// The merge patch.
        patch: Object,
    },
    /// Ends a key and the connections made with it.
    RevokeKey(String),
    /// New secrets for a key; the old ones last through a grace window.
    RotateKey {
        /// Which.
        key_id: String,
        /// `graceSeconds`.
        body: Object,
    },
}

/// The answer to a change: the object as it is now, or was last.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// An app.
    App(AppRecord),
    /// A key, with its secrets when they are new.
    Key(Box<KeyAnswer>),
}

/// A key in an answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyAnswer {
    /// The key.
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
    /// Signs tokens.
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

/// A decided change.
#[derive(Debug)]
pub struct Change {
    /// What the store writes, in one transaction.
    pub edits: Vec<Edit>,
    /// What is answered after the last shard has switched.
    pub outcome: Outcome,
}

/// Decides a change at the given Unix time in milliseconds.
///
/// # Errors
/// `Invalid`, `NotFound` or `Conflict` by the request's fault; `Unavailable` when a secret
/// cannot be made or sealed.
pub fn plan(
    registry: &Registry,
    operation: Operation,
    now_unix_ms: u64,
) -> Result<Change, ControlError> {
    match operation {
        Operation::CreateApp(body) => apps::create(registry, body, now_unix_ms),
        Operation::PatchApp { app_id, patch } => apps::patch(registry, &app_id, patch),
        Operation::DeleteApp(app_id) => apps::delete(registry, &app_id),
        Operation::CreateKey { app_id, body } => keys::create(registry, &app_id, body, now_unix_ms),
        Operation::PatchKey { key_id, patch } => keys::patch(registry, &key_id, patch),
        Operation::RevokeKey(key_id) => keys::revoke(registry, &key_id),
        Operation::RotateKey { key_id, body } => keys::rotate(registry, &key_id, body, now_unix_ms),
    }
}

#[cfg(test)]
mod tests;
