//! Apps: shown as documented, changed, suspended, deleted.

use super::*;
use crate::control::apps::APPS_MAX;
use crate::control::store::Edit;

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
            "feed": {"presence": false, "peers": false}, "history": [],
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
    check_error(world.patch_app("a", json!({"plan": null})), 400, "plan");
    let unlimited = json!({"plan": {"maxMessagesPerPeriod": null}});
    let app = world.patch_app("a", unlimited).unwrap();
    assert_eq!(app["plan"]["maxMessagesPerPeriod"], Value::Null);
}

#[test]
fn a_patch_replaces_the_rules_of_history() {
    let mut world = World::new();
    let rules = json!([{"pattern": "vip", "messages": 5}, {"pattern": "**"}]);
    let app = world
        .create_app(json!({"appId": "a", "history": rules}))
        .unwrap();
    let shown = |pattern, messages| {
        json!({"pattern": pattern, "messages": messages, "bytes": 1_048_576, "ttlSec": 3_600,
               "store": "memory"})
    };
    assert_eq!(app["history"], json!([shown("vip", 5), shown("**", 1_000)]));
    let messages_of = |world: &World, channel: &str| {
        let rights = world.rights();
        let tag = rights.apps().next().unwrap().id.tag();
        let rules = rights.history(tag)?;
        rules.for_channel(channel).map(|rule| rule.messages)
    };
    assert_eq!(messages_of(&world, "vip"), Some(5));
    assert_eq!(messages_of(&world, "b"), Some(1_000));

    // A patch of something else leaves them.
    let app = world.patch_app("a", json!({"name": "n"})).unwrap();
    assert_eq!(app["history"].as_array().unwrap().len(), 2);
    let one = json!({"history": [{"pattern": "b", "messages": 9}]});
    let app = world.patch_app("a", one).unwrap();
    assert_eq!(app["history"], json!([shown("b", 9)]));
    assert_eq!(
        (messages_of(&world, "b"), messages_of(&world, "vip")),
        (Some(9), None)
    );
    let wrong = json!({"history": [{"pattern": "b"}, {"pattern": "b"}]});
    check_error(
        world.patch_app("a", wrong),
        400,
        "history[1].pattern: an earlier rule",
    );
    check_error(
        world.patch_app("a", json!({"history": null})),
        400,
        "history: cannot be null",
    );
    let app = world.patch_app("a", json!({"history": []})).unwrap();
    assert_eq!(app["history"], json!([]));
    assert_eq!(messages_of(&world, "b"), None);
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
fn there_is_an_end_to_the_number_of_apps() {
    let mut world = World::new();
    world.create_app(json!({"appId": "a"})).unwrap();
    let row = (*world.registry.app("a").unwrap().row).clone();
    let put = |number: usize| {
        let mut row = row.clone();
        row.record.app_id = format!("a{number}");
        Edit::PutApp(row)
    };
    let edits: Vec<_> = (2..APPS_MAX).map(put).collect();
    world.registry = world.registry.edited(&edits).unwrap();
    world.create_app(json!({"appId": "last"})).unwrap();
    check_error(world.create_app(json!({})), 409, "10000 apps already");
    world.patch_app("last", json!({"name": "still"})).unwrap();
}
