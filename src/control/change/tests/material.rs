//! Secrets whose master key is missing or another, and which nobody can read any more.

use super::*;
use crate::domain::app_id::AppTag;
use crate::domain::history::HistoryRule;
use crate::ids::AppIndex;

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
        let patch = Change::PatchKey {
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
    for change in [
        Change::PatchApp {
            app_id: "d".into(),
            patch: Object::new(),
        },
        Change::DeleteApp("d".into()),
        Change::CreateKey {
            app_id: "d".into(),
            body: Object::new(),
        },
        Change::PatchKey {
            key_id: "sk_id_d".into(),
            patch: Object::new(),
        },
        Change::RevokeKey("sk_id_d".into()),
        Change::RotateKey {
            key_id: "sk_id_d".into(),
            body: Object::new(),
        },
    ] {
        check_error(world.apply(change), 409, "declared in /etc/ringmesh.toml");
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
    assert!(clash.is_err_and(|error| error.to_string().contains("is in the store as well")));
    let none = Declared {
        file: Path::new("x").into(),
        apps: vec![],
    };
    world.registry = world.registry.redeclared(&none).unwrap();
    assert!(world.registry.app("d").is_err() && world.registry.app("stored").is_ok());
}

/// Whether the shards go on with what the channels of `d` keep.
fn keeps(world: &World, app: AppIndex) -> bool {
    let kept = world.rights().app_with_history(AppTag::of("d")).cloned();
    kept.is_some_and(|it| it.index == app)
}

#[test]
fn an_app_that_is_taken_out_of_the_file_keeps_its_history_for_itself_alone() {
    let with_history = |key_id: &str, secret: &str| {
        let mut declared = declared("d", key_id);
        let app = &mut declared.apps[0];
        app.record.history = vec![HistoryRule::new("**")];
        app.keys[0].signing_secret = Some(Zeroizing::new(secret.as_bytes().to_vec()));
        declared
    };
    let none = || Declared {
        file: Path::new("x").into(),
        apps: vec![],
    };
    let same = with_history("sk_id_d", "sign");
    for (back, is_same) in [
        (&same, true),
        (&with_history("sk_id_e", "sign"), false),
        (&with_history("sk_id_d", "other"), false),
    ] {
        let mut world = World::new();
        let redeclare = |world: &mut World, declared: &Declared| {
            world.registry = world.registry.redeclared(declared).unwrap();
        };
        redeclare(&mut world, &same);
        let index = world.registry.app("d").unwrap().app.index;
        redeclare(&mut world, &none());
        assert!(keeps(&world, index));
        let rights = world.rights();
        assert!(rights.app(index).is_none() && rights.key("sk_id_d").is_none());
        redeclare(&mut world, &none());
        assert!(keeps(&world, index), "whatever else is reloaded meanwhile");
        redeclare(&mut world, back);
        let again = world.registry.app("d").unwrap().app.index;
        assert_eq!(again == index, is_same);
        assert!(keeps(&world, again));
        // Who makes the app through the admin API is somebody else.
        redeclare(&mut world, &none());
        let history = json!([{"pattern": "**"}]);
        world
            .create_app(json!({"appId": "d", "history": history}))
            .unwrap();
        let made = world.registry.app("d").unwrap().app.index;
        assert!(made != again && keeps(&world, made));
        world.apply(Change::DeleteApp("d".into())).unwrap();
        assert!(world.rights().app_with_history(AppTag::of("d")).is_none());
    }
}
