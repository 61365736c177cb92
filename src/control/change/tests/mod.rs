//! Operations on a registry and its rows in memory; `World` is both.

mod apps;
mod keys;
mod material;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::control::compile::Compiler;
use crate::control::secret::sha256;
use crate::control::store::Rows;
use crate::control::store::seal::Sealer;
use crate::domain::declared::{Declared, DeclaredApp, DeclaredKey};
use crate::domain::rights::{KeyKind, Rights, SigningMaterial};

/// A registry and a clock: what the engine has, without store and shards.
struct World {
    registry: Registry,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        Self::with_sealer(Some(Sealer::new(&[7; 32])))
    }

    fn with_sealer(sealer: Option<Sealer>) -> Self {
        let registry = Registry::load(Compiler::new(sealer), Rows::default()).unwrap();
        Self {
            registry,
            now_ms: 1_000_000,
        }
    }

    fn apply(&mut self, change: Change) -> Result<Value, ControlError> {
        let decision = decide(&self.registry, change, self.now_ms)?;
        self.registry = self.registry.edited(&decision.edits)?;
        Ok(serde_json::to_value(decision.outcome).unwrap())
    }

    fn create_app(&mut self, body: Value) -> Result<Value, ControlError> {
        self.apply(Change::CreateApp(object(body)))
    }

    fn patch_app(&mut self, app_id: &str, patch: Value) -> Result<Value, ControlError> {
        self.apply(Change::PatchApp {
            app_id: app_id.into(),
            patch: object(patch),
        })
    }

    fn create_key(&mut self, app_id: &str, key_type: &str) -> Result<Value, ControlError> {
        let body = json!({"type": key_type, "channelPatterns": ["a/*"], "actions": ["publish"]});
        self.apply(Change::CreateKey {
            app_id: app_id.into(),
            body: object(body),
        })
    }

    fn rotate(&mut self, key_id: &str, grace_seconds: u64) -> Value {
        let body = object(json!({ "graceSeconds": grace_seconds }));
        self.apply(Change::RotateKey {
            key_id: key_id.into(),
            body,
        })
        .unwrap()
    }

    fn rights(&self) -> Rights {
        self.registry.rights()
    }

    /// Whether the signing and the API secret of an answer are good now.
    fn accepts(&self, answer: &Value) -> (bool, bool) {
        let rights = self.rights();
        let key = rights.key(text(answer, "keyId")).unwrap();
        let signing = text(answer, "signingSecret").as_bytes();
        let KeyKind::Secret(material) = &key.kind else {
            panic!("publishable")
        };
        let SigningMaterial::Ready { current, .. } = material else {
            panic!("unreadable")
        };
        let previous = material.previous_at(self.now_ms);
        let signs = current.matches(signing) || previous.is_some_and(|old| old.matches(signing));
        let hash = sha256(text(answer, "apiSecret").as_bytes());
        (
            signs,
            rights.key_by_api_secret(&hash, self.now_ms).is_some(),
        )
    }
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("no object: {other}"),
    }
}

fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {answer}"))
}

fn check_error(result: Result<Value, ControlError>, status: u16, part: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.status(), status, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}
