//! Changes of keys: each is decided against the registry, as rows to write and an outcome.

use super::error::ControlError;
use super::input::{KeyInput, grace_seconds};
use super::merge::Object;
use super::outcome::{Decision, KeyAnswer, NewSecrets, Outcome, Rotation};
use super::registry::Registry;
use super::secret::{new_id, new_secret, sha256};
use super::store::Edit;
use super::store::row::{KeyRow, SecretPair, SecretsRow};
use crate::domain::record::{KeyRecord, KeyType};

/// Keys of one app.
pub(super) const KEYS_PER_APP_MAX: usize = 50;

pub(super) fn create(
    registry: &Registry,
    app_id: &str,
    body: Object,
    now_unix_ms: u64,
) -> Result<Decision, ControlError> {
    registry.stored_app(app_id)?;
    let (key_type, input) = KeyInput::new(body)?;
    if registry.keys_of(app_id).len() >= KEYS_PER_APP_MAX {
        let text = format!("app {app_id:?} has {KEYS_PER_APP_MAX} keys already: revoke one");
        return Err(ControlError::Conflict(text));
    }
    let prefix = match key_type {
        KeyType::Secret => "sk_id_",
        KeyType::Publishable => "pk_live_",
    };
    let record = KeyRecord {
        key_id: new_id(prefix)?,
        app_id: app_id.to_owned(),
        key_type,
        name: input.name,
        channel_patterns: input.channel_patterns,
        actions: input.actions,
        allowed_origins: input.allowed_origins,
        auto_inject_turn: input.auto_inject_turn,
        created_at: now_unix_ms / 1_000,
    };
    let (stored, shown) = match key_type {
        KeyType::Publishable => (None, None),
        KeyType::Secret => {
            let (pair, shown) = new_pair(registry, &record.key_id)?;
            (
                Some(SecretsRow {
                    current: pair,
                    previous: None,
                }),
                Some(shown),
            )
        }
    };
    Ok(Decision {
        edits: vec![Edit::PutKey(KeyRow {
            record: record.clone(),
            secrets: stored,
        })],
        outcome: Outcome::Key(Box::new(KeyAnswer {
            key: record,
            secrets: shown,
            rotation: None,
        })),
    })
}

pub(super) fn patch(
    registry: &Registry,
    key_id: &str,
    patch: Object,
) -> Result<Decision, ControlError> {
    let row = &registry.stored_key(key_id)?.row;
    let input = KeyInput::patched(&row.record, patch)?;
    let record = KeyRecord {
        name: input.name,
        channel_patterns: input.channel_patterns,
        actions: input.actions,
        allowed_origins: input.allowed_origins,
        auto_inject_turn: input.auto_inject_turn,
        ..row.record.clone()
    };
    let secrets = row.secrets.clone();
    Ok(Decision {
        edits: vec![Edit::PutKey(KeyRow {
            record: record.clone(),
            secrets,
        })],
        outcome: Outcome::key(record),
    })
}

pub(super) fn revoke(registry: &Registry, key_id: &str) -> Result<Decision, ControlError> {
    let record = registry.stored_key(key_id)?.row.record.clone();
    Ok(Decision {
        edits: vec![Edit::DeleteKey(key_id.to_owned())],
        outcome: Outcome::key(record),
    })
}

pub(super) fn rotate(
    registry: &Registry,
    key_id: &str,
    body: Object,
    now_unix_ms: u64,
) -> Result<Decision, ControlError> {
    let row = &registry.stored_key(key_id)?.row;
    let grace_sec = grace_seconds(body)?;
    let Some(old) = &row.secrets else {
        let text = format!("key {key_id:?} is publishable and has no secrets to rotate");
        return Err(ControlError::Invalid(text));
    };
    let (current, shown) = new_pair(registry, key_id)?;
    let until_ms = now_unix_ms + grace_sec * 1_000;
    let secrets = SecretsRow {
        current,
        previous: (grace_sec > 0).then(|| (old.current.clone(), until_ms)),
    };
    let rotation = Rotation {
        previous_valid_until: secrets
            .previous
            .as_ref()
            .map(|(_, until_ms)| until_ms / 1_000),
        dropped_previous: old.previous_at(now_unix_ms).is_some(),
    };
    let record = row.record.clone();
    Ok(Decision {
        edits: vec![Edit::PutKey(KeyRow {
            record: record.clone(),
            secrets: Some(secrets),
        })],
        outcome: Outcome::Key(Box::new(KeyAnswer {
            key: record,
            secrets: Some(shown),
            rotation: Some(rotation),
        })),
    })
}

fn new_pair(registry: &Registry, key_id: &str) -> Result<(SecretPair, NewSecrets), ControlError> {
    let signing_secret = new_secret("sk_secret_")?;
    let api_secret = new_secret("sk_live_")?;
    let signing = registry
        .compiler()
        .seal_signing(key_id, signing_secret.expose().as_bytes())?;
    let api_sha256 = sha256(api_secret.expose().as_bytes());
    Ok((
        SecretPair {
            signing,
            api_sha256,
        },
        NewSecrets {
            signing_secret,
            api_secret,
        },
    ))
}
