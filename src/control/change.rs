//! The changes that can be asked of the control plane, as values.
//!
//! [`decide`] judges a change by the present registry and says which rows it writes. It changes
//! nothing itself: the engine makes it durable, compiles it and has the shards switch.

use super::error::ControlError;
use super::merge::Object;
use super::outcome::Decision;
use super::registry::Registry;
use super::{apps, keys};
use crate::events::kind::Cause;

/// A change, as asked for. Without `Debug`: a body may carry a TURN secret.
#[derive(Clone)]
pub enum Change {
    /// A new app, with the fields of its body.
    CreateApp(Object),
    /// Merges a patch into an app.
    PatchApp {
        /// Id of the app.
        app_id: String,
        /// The merge patch (RFC 7396).
        patch: Object,
    },
    /// Ends an app, its keys and its connections.
    DeleteApp(String),
    /// A new key of an app.
    CreateKey {
        /// Id of the app that gets it.
        app_id: String,
        /// The fields of the key.
        body: Object,
    },
    /// Merges a patch into a key.
    PatchKey {
        /// Id of the key.
        key_id: String,
        /// The merge patch (RFC 7396).
        patch: Object,
    },
    /// Ends a key and the connections made with it.
    RevokeKey(String),
    /// New secrets for a key; the old ones last through a grace window.
    RotateKey {
        /// Id of the key.
        key_id: String,
        /// The body, with `graceSeconds`.
        body: Object,
    },
}

impl Change {
    /// What it is, for events, and the names of the fields that it is about: no values.
    #[must_use]
    pub(super) fn told(&self) -> (Cause, String) {
        let names = |object: &Object| {
            let names: Vec<&str> = object.keys().map(String::as_str).collect();
            names.join(", ")
        };
        match self {
            Self::CreateApp(body) | Self::CreateKey { body, .. } => (Cause::Created, names(body)),
            Self::PatchApp { patch, .. } | Self::PatchKey { patch, .. } => {
                (Cause::Changed, names(patch))
            }
            Self::DeleteApp(_) => (Cause::Deleted, String::new()),
            Self::RevokeKey(_) => (Cause::Revoked, String::new()),
            Self::RotateKey { body, .. } => (Cause::Rotated, names(body)),
        }
    }
}

/// Decides a change at the given Unix time in milliseconds.
///
/// # Errors
/// `Invalid`, `NotFound` or `Conflict` by the request's fault; `Unavailable` when a secret
/// cannot be made or sealed.
pub(super) fn decide(
    registry: &Registry,
    change: Change,
    now_unix_ms: u64,
) -> Result<Decision, ControlError> {
    match change {
        Change::CreateApp(body) => apps::create(registry, body, now_unix_ms),
        Change::PatchApp { app_id, patch } => apps::patch(registry, &app_id, patch),
        Change::DeleteApp(app_id) => apps::delete(registry, &app_id),
        Change::CreateKey { app_id, body } => keys::create(registry, &app_id, body, now_unix_ms),
        Change::PatchKey { key_id, patch } => keys::patch(registry, &key_id, patch),
        Change::RevokeKey(key_id) => keys::revoke(registry, &key_id),
        Change::RotateKey { key_id, body } => keys::rotate(registry, &key_id, body, now_unix_ms),
    }
}

#[cfg(test)]
mod tests;
