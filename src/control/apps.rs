//! Changes of apps: each is decided against the registry, as rows to write and an outcome.

use super::error::ControlError;
use super::input::{AppInput, check_app_id};
use super::merge::Object;
use super::outcome::{Decision, Outcome};
use super::registry::Registry;
use super::secret::new_id;
use super::store::Edit;
use super::store::row::AppRow;
use super::store::seal::Sealed;
use crate::domain::record::{AppRecord, TurnRecord};

/// Apps in the store. Each change copies the registry, and each is listed in one answer.
pub(super) const APPS_MAX: usize = 10_000;

pub(super) fn create(
    registry: &Registry,
    mut body: Object,
    now_unix_ms: u64,
) -> Result<Decision, ControlError> {
    let app_id = match body.remove("appId") {
        None | Some(serde_json::Value::Null) => new_id("app_")?,
        Some(serde_json::Value::String(app_id)) => app_id,
        Some(_) => return Err(ControlError::field("appId", "must be a string")),
    };
    check_app_id(&app_id)?;
    let input = AppInput::new(body)?;
    if registry.app(&app_id).is_ok() {
        return Err(ControlError::Conflict(format!(
            "there is an app {app_id:?} already"
        )));
    }
    if registry.apps().count() >= APPS_MAX {
        let text = format!("there are {APPS_MAX} apps already: delete one");
        return Err(ControlError::Conflict(text));
    }
    put(registry, input, &app_id, now_unix_ms / 1_000, None)
}

pub(super) fn patch(
    registry: &Registry,
    app_id: &str,
    patch: Object,
) -> Result<Decision, ControlError> {
    let row = &registry.stored_app(app_id)?.row;
    let input = AppInput::patched(&row.record, patch)?;
    put(
        registry,
        input,
        app_id,
        row.record.created_at,
        row.turn_secret.clone(),
    )
}

pub(super) fn delete(registry: &Registry, app_id: &str) -> Result<Decision, ControlError> {
    let record = registry.stored_app(app_id)?.row.record.clone();
    let keys = registry.keys_of(app_id).into_iter();
    let mut edits: Vec<_> = keys
        .map(|entry| Edit::DeleteKey(entry.row.record.key_id.clone()))
        .collect();
    edits.push(Edit::DeleteApp(app_id.to_owned()));
    Ok(Decision {
        edits,
        outcome: Outcome::App(Box::new(record)),
    })
}

fn put(
    registry: &Registry,
    input: AppInput,
    app_id: &str,
    created_at: u64,
    old_turn_secret: Option<Sealed>,
) -> Result<Decision, ControlError> {
    let (turn, turn_secret) = match input.turn {
        None => (None, None),
        Some(turn) => {
            let secret = match (turn.secret, old_turn_secret) {
                (Some(new), _) => registry.compiler().seal_turn(app_id, new.as_bytes())?,
                (None, Some(old)) => old,
                (None, None) => {
                    return Err(ControlError::field("turn.secret", "is required"));
                }
            };
            (
                Some(TurnRecord {
                    urls: turn.urls,
                    ttl_sec: turn.ttl_sec,
                }),
                Some(secret),
            )
        }
    };
    let record = AppRecord {
        app_id: app_id.to_owned(),
        name: input.name,
        status: input.status,
        plan: input.plan,
        direct_scope: input.direct_scope,
        turn,
        limits: input.limits,
        feed: input.feed,
        history: input.history,
        created_at,
    };
    let edits = vec![Edit::PutApp(AppRow {
        record: record.clone(),
        turn_secret,
    })];
    Ok(Decision {
        edits,
        outcome: Outcome::App(Box::new(record)),
    })
}
