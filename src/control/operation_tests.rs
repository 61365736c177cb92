use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::control::compile::Compiler;
use crate::control::declared::{Declared, DeclaredApp, DeclaredKey};
use crate::control::secret::sha256;
use crate::control::store::Rows;
use crate::control::store::seal::Sealer;
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

    fn apply(&mut self, operation: Operation) -> Result<Value, ControlError> {
        let change = plan(&self.registry, operation, self.now_ms)?;
        self.registry = self.registry.edited(&change.edits)?;
        Ok(serde_json::to_value(change.outcome).unwrap())
    }

    fn create_app(&mut self, body: Value) -> Result<Value, ControlError> {
        self.apply(Operation::CreateApp(object(body)))
    }

    fn patch_app(&mut self, app_id: &str, patch: Value) -> Result<Value, ControlError> {
        self.apply(Operation::PatchApp {
            app_id: app_id.into(),
            patch: object(patch),
        })
    }

    fn create_key(&mut self, app_id: &str, key_type: &str) -> Result<Value, ControlError> {
        let body = json!({"type": key_type, "channelPatterns": ["a/*"], "actions": ["publish"]});
        self.apply(Operation::CreateKey {
            app_id: app_id.into(),
            body: object(body),
        })
    }

    fn rotate(&mut self, key_id: &str, grace_seconds: u64) -> Value {
        let body = object(json!({ "graceSeconds": grace_seconds }));
        self.apply(Operation::RotateKey {
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

#[test]
fn an_app_is_shown_as_documented() {
    let mut world = World::new();
    let app = world
        .create_app(json!({"appId": "shop-1", "name": "Shop"}))
        .unwrap();
    assert_eq!(
        app,
        json!({
            "appId": "shop-1", "name": "Shop", "status": "active",
            "plan": {
                "name": null, "maxConcurrentConnections": null, "maxMessagesPerPeriod": null,
                "overagesAllowed": false, "overagesEnabled": false,
                "periodStartUnix": null, "periodDays": null,
            },
            "directScope": "app", "turn": null, "limits": null, "createdAt": 1_000,
        })
    );
    let generated = world.create_app(json!({})).unwrap();
    assert!(text(&generated, "appId").starts_with("app_"));
}

#[test]
fn app_ids_are_checked_and_taken_once() {
    let mut world = World::new();
    for bad in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
        check_error(
            world.create_app(json!({ "appId": bad })),
            400,
            "appId: must be 1 to 64",
        );
    }
    check_error(
        world.create_app(json!({ "appId": 7 })),
        400,
        "appId: must be a string",
    );
    world.create_app(json!({"appId": "a"})).unwrap();
    check_error(
        world.create_app(json!({"appId": "a"})),
        409,
        "there is an app \"a\" already",
    );
}

#[test]
fn a_patch_merges_plan_and_turn_and_null_removes() {
    let mut world = World::new();
    let turn = json!({"urls": ["turn:a"], "secret": "hush", "ttlSec": 60});
    let plan = json!({"name": "pro", "maxConcurrentConnections": 5});
    let app = world
        .create_app(json!({"appId": "a", "plan": plan, "turn": turn}))
        .unwrap();
    assert_eq!(
        app["turn"],
        json!({"urls": ["turn:a"], "ttlSec": 60}),
        "never the secret"
    );

    let app = world
        .patch_app(
            "a",
            json!({"plan": {"maxMessagesPerPeriod": 9}, "turn": {"ttlSec": 120}}),
        )
        .unwrap();
    assert_eq!(app["plan"]["name"], "pro");
    assert_eq!(app["plan"]["maxConcurrentConnections"], 5);
    assert_eq!(app["plan"]["maxMessagesPerPeriod"], 9);
    let rights = world.rights();
    let turn = rights.apps().next().unwrap().turn.as_ref().unwrap();
    assert_eq!((turn.ttl_sec, &**turn.secret), (120, b"hush".as_slice()));

    let app = world
        .patch_app("a", json!({"plan": {"name": null}, "turn": null}))
        .unwrap();
    assert_eq!(
        (&app["plan"]["name"], &app["turn"]),
        (&Value::Null, &Value::Null)
    );
    check_error(
        world.patch_app("a", json!({"turn": {"urls": ["turn:b"]}})),
        400,
        "turn.secret",
    );
    let app = world.patch_app("a", json!({"plan": null})).unwrap();
    assert_eq!(app["plan"]["maxMessagesPerPeriod"], Value::Null);
}

#[test]
fn what_was_shown_can_be_sent_back_and_fixed_fields_stay() {
    let mut world = World::new();
    let app = world
        .create_app(json!({"appId": "a", "name": "x"}))
        .unwrap();
    assert_eq!(world.patch_app("a", app.clone()).unwrap(), app);
    check_error(
        world.patch_app("a", json!({"appId": "b"})),
        400,
        "appId: cannot be changed",
    );
    let key = world.create_key("a", "publishable").unwrap();
    let key_id = text(&key, "keyId").to_owned();
    let patch = |patch: Value| Operation::PatchKey {
        key_id: key_id.clone(),
        patch: object(patch),
    };
    assert_eq!(world.apply(patch(key.clone())).unwrap(), key);
    check_error(
        world.apply(patch(json!({"type": "secret"}))),
        400,
        "type: cannot be changed",
    );
}

#[test]
fn a_suspended_app_and_its_keys_say_so_and_keep_their_index() {
    let mut world = World::new();
    world.create_app(json!({"appId": "a"})).unwrap();
    let key = world.create_key("a", "publishable").unwrap();
    let index = world.rights().apps().next().unwrap().index;
    world
        .patch_app("a", json!({"status": "suspended"}))
        .unwrap();
    let rights = world.rights();
    let key = rights.key(text(&key, "keyId")).unwrap();
    assert!(key.app.suspended, "a key carries its app as it is now");
    assert_eq!(key.app.index, index);
    assert!(Arc::ptr_eq(&key.app, rights.app(index).unwrap()));
}

#[test]
fn keys_are_shown_as_documented_and_their_secrets_once() {
    let mut world = World::new();
    world.create_app(json!({"appId": "a"})).unwrap();
    let secret = world.create_key("a", "secret").unwrap();
    let key_id = text(&secret, "keyId").to_owned();
    assert!(key_id.starts_with("sk_id_"));
    assert!(text(&secret, "signingSecret").starts_with("sk_secret_"));
    assert!(text(&secret, "apiSecret").starts_with("sk_live_"));
    assert_eq!(world.accepts(&secret), (true, true));

    let patch = object(json!({"name": "n", "actions": ["send"], "channelPatterns": ["b"]}));
    let patched = world
        .apply(Operation::PatchKey {
            key_id: key_id.clone(),
            patch,
        })
        .unwrap();
    assert_eq!(
        patched,
        json!({
            "keyId": key_id, "appId": "a", "type": "secret", "name": "n",
            "channelPatterns": ["b"], "actions": ["send"], "allowedOrigins": [],
            "autoInjectTurn": true, "createdAt": 1_000,
        })
    );
    assert_eq!(
        world.accepts(&secret),
        (true, true),
        "a patch keeps the secrets"
    );

    let publishable = world.create_key("a", "publishable").unwrap();
    assert!(text(&publishable, "keyId").starts_with("pk_live_"));
    assert_eq!(publishable.get("signingSecret"), None);
}

#[test]
fn a_revoked_key_and_a_deleted_app_are_gone_with_their_secrets() {
    let mut world = World::new();
    for app_id in ["a", "b"] {
        world.create_app(json!({ "appId": app_id })).unwrap();
    }
    let keys = [
        world.create_key("a", "secret").unwrap(),
        world.create_key("a", "secret").unwrap(),
    ];
    let other = world.create_key("b", "secret").unwrap();
    let hash = |key: &Value| sha256(text(key, "apiSecret").as_bytes());
    let gone = world
        .apply(Operation::RevokeKey(text(&keys[0], "keyId").into()))
        .unwrap();
    assert_eq!(gone["keyId"], keys[0]["keyId"]);
    assert!(
        world
            .rights()
            .key_by_api_secret(&hash(&keys[0]), 0)
            .is_none()
    );
    assert!(world.rights().key(text(&keys[1], "keyId")).is_some());

    let index = world.registry.app("a").unwrap().app.index;
    world.apply(Operation::DeleteApp("a".into())).unwrap();
    assert!(world.rights().app(index).is_none());
    assert!(world.rights().key(text(&keys[1], "keyId")).is_none());
    assert_eq!(world.accepts(&other), (true, true));
    check_error(
        world.apply(Operation::DeleteApp("a".into())),
        404,
        "no app \"a\"",
    );
    world.create_app(json!({"appId": "a"})).unwrap();
    assert_ne!(
        world.registry.app("a").unwrap().app.index,
        index,
        "an index is never reused"
    );
}

#[test]
fn an_app_has_at_most_50_keys() {
    let mut world = World::new();
    world.create_app(json!({"appId": "a"})).unwrap();
    for _ in 0..50 {
        world.create_key("a", "publishable").unwrap();
    }
    check_error(
        world.create_key("a", "publishable"),
        409,
        "has 50 keys already",
    );
    check_error(world.create_key("b", "publishable"), 404, "no app \"b\"");
}

#[test]
fn old_secrets_last_through_the_grace_window_and_no_longer() {
    let mut world = World::new();
    world.create_app(json!({"appId": "a"})).unwrap();
    let first = world.create_key("a", "secret").unwrap();
    let key_id = text(&first, "keyId").to_owned();
    let second = world.rotate(&key_id, 100);
    assert_eq!(second["previousValidUntil"], 1_100);
    assert_eq!(second["droppedPrevious"], false);
    world.now_ms += 99_999;
    assert_eq!(
        (world.accepts(&first), world.accepts(&second)),
        ((true, true), (true, true))
    );
    world.now_ms += 1;
    assert_eq!(
        (world.accepts(&first), world.accepts(&second)),
        ((false, false), (true, true))
    );
    // The window is over: nothing is dropped by the next rotation.
    assert_eq!(world.rotate(&key_id, 100)["droppedPrevious"], false);
}

#[test]
fn two_rotations_in_one_window_keep_the_newest_previous_and_say_so() {
    let mut world = World::new();
    world.create_app(json!({"appId": "a"})).unwrap();
    let first = world.create_key("a", "secret").unwrap();
    let key_id = text(&first, "keyId").to_owned();
    let second = world.rotate(&key_id, 100);
    let third = world.rotate(&key_id, 100);
    assert_eq!(third["droppedPrevious"], true);
    let accepted = [&first, &second, &third].map(|answer| world.accepts(answer));
    assert_eq!(accepted, [(false, false), (true, true), (true, true)]);
    let fourth = world.rotate(&key_id, 0);
    assert_eq!(fourth["previousValidUntil"], Value::Null);
    let accepted = [&second, &third, &fourth].map(|answer| world.accepts(answer));
    assert_eq!(accepted, [(false, false), (false, false), (true, true)]);
}

#[test]
fn a_publishable_key_has_nothing_to_rotate() {
    let mut world = World::new();
    world.create_app(json!({"appId": "a"})).unwrap();
    let key = world.create_key("a", "publishable").unwrap();
    let key_id = text(&key, "keyId").to_owned();
    let rotate = Operation::RotateKey {
        key_id,
        body: Object::new(),
    };
    check_error(world.apply(rotate), 400, "publishable");
    let unknown = Operation::RotateKey {
        key_id: "sk_id_x".into(),
        body: Object::new(),
    };
    check_error(world.apply(unknown), 404, "no key \"sk_id_x\"");
}

#[test]
fn without_the_master_key_secrets_are_unreadable_and_the_rest_works() {
    let mut world = World::new();
    let turn = json!({"urls": ["turn:a"], "secret": "hush"});
    world
        .create_app(json!({"appId": "a", "turn": turn}))
        .unwrap();
    let key = world.create_key("a", "secret").unwrap();
    let key_id = text(&key, "keyId").to_owned();
    let rows = Rows {
        apps: vec![(*world.registry.app("a").unwrap().row).clone()],
        keys: vec![(*world.registry.key(&key_id).unwrap().row).clone()],
        usage: vec![],
    };
    for sealer in [None, Some(Sealer::new(&[8; 32]))] {
        let has_key = sealer.is_some();
        let registry = Registry::load(Compiler::new(sealer), rows.clone()).unwrap();
        let mut world = World {
            registry,
            now_ms: 0,
        };
        let rights = world.rights();
        let hash = sha256(text(&key, "apiSecret").as_bytes());
        let found = rights
            .key_by_api_secret(&hash, 0)
            .expect("the API secret is good");
        assert!(matches!(
            found.kind,
            KeyKind::Secret(SigningMaterial::Unreadable)
        ));
        assert!(found.app.turn.is_none());
        let patch = Operation::PatchKey {
            key_id: key_id.clone(),
            patch: object(json!({"name": "new"})),
        };
        assert_eq!(world.apply(patch).unwrap()["name"], "new");
        if !has_key {
            check_error(world.create_key("a", "secret"), 503, "master key");
            world.create_key("a", "publishable").unwrap();
        }
    }
}

fn declared(app_id: &str, key_id: &str) -> Declared {
    let mut world = World::new();
    world.create_app(json!({ "appId": app_id })).unwrap();
    let key = world.create_key(app_id, "secret").unwrap();
    let mut record = world
        .registry
        .key(text(&key, "keyId"))
        .unwrap()
        .row
        .record
        .clone();
    record.key_id = key_id.into();
    let app = world.registry.app(app_id).unwrap().row.record.clone();
    let secret = |text: &str| Some(Zeroizing::new(text.as_bytes().to_vec()));
    let keys = vec![DeclaredKey {
        record,
        signing_secret: secret("sign"),
        api_secret: secret("sk_live_declared"),
    }];
    let apps = vec![DeclaredApp {
        record: app,
        turn_secret: None,
        keys,
    }];
    Declared {
        file: Path::new("/etc/ringmesh.toml").into(),
        apps,
    }
}

#[test]
fn declared_apps_serve_and_cannot_be_changed_here() {
    let mut world = World::new();
    world.registry = world
        .registry
        .redeclared(&declared("d", "sk_id_d"))
        .unwrap();
    let answer =
        json!({"keyId": "sk_id_d", "signingSecret": "sign", "apiSecret": "sk_live_declared"});
    assert_eq!(world.accepts(&answer), (true, true));
    for operation in [
        Operation::PatchApp {
            app_id: "d".into(),
            patch: Object::new(),
        },
        Operation::DeleteApp("d".into()),
        Operation::CreateKey {
            app_id: "d".into(),
            body: Object::new(),
        },
        Operation::PatchKey {
            key_id: "sk_id_d".into(),
            patch: Object::new(),
        },
        Operation::RevokeKey("sk_id_d".into()),
        Operation::RotateKey {
            key_id: "sk_id_d".into(),
            body: Object::new(),
        },
    ] {
        check_error(
            world.apply(operation),
            409,
            "declared in /etc/ringmesh.toml",
        );
    }
    check_error(world.create_app(json!({"appId": "d"})), 409, "already");
}

#[test]
fn a_new_declaration_replaces_the_old_and_leaves_the_store() {
    let mut world = World::new();
    world.create_app(json!({"appId": "stored"})).unwrap();
    world.registry = world
        .registry
        .redeclared(&declared("d", "sk_id_d"))
        .unwrap();
    let index = world.registry.app("d").unwrap().app.index;
    let version = world.rights().version;
    world.registry = world
        .registry
        .redeclared(&declared("d", "sk_id_e"))
        .unwrap();
    assert!(world.rights().version > version);
    assert_eq!(
        world.registry.app("d").unwrap().app.index,
        index,
        "the same app"
    );
    assert!(world.registry.key("sk_id_d").is_err());
    assert!(world.registry.key("sk_id_e").is_ok());

    let clash = world.registry.redeclared(&declared("stored", "sk_id_f"));
    assert!(clash.is_err_and(|error| error.to_string().contains("also in the store")));
    let none = Declared {
        file: Path::new("x").into(),
        apps: vec![],
    };
    world.registry = world.registry.redeclared(&none).unwrap();
    assert!(world.registry.app("d").is_err() && world.registry.app("stored").is_ok());
}
