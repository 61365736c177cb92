//! Keys: shown as documented, changed, rotated, revoked.

use super::*;

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
        .apply(Change::PatchKey {
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
        .apply(Change::RevokeKey(text(&keys[0], "keyId").into()))
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
    world.apply(Change::DeleteApp("a".into())).unwrap();
    assert!(world.rights().app(index).is_none());
    assert!(world.rights().key(text(&keys[1], "keyId")).is_none());
    assert_eq!(world.accepts(&other), (true, true));
    check_error(
        world.apply(Change::DeleteApp("a".into())),
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
    let rotate = Change::RotateKey {
        key_id,
        body: Object::new(),
    };
    check_error(world.apply(rotate), 400, "publishable");
    let unknown = Change::RotateKey {
        key_id: "sk_id_x".into(),
        body: Object::new(),
    };
    check_error(world.apply(unknown), 404, "no key \"sk_id_x\"");
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
    let patch = |patch: Value| Change::PatchKey {
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
