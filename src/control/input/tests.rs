//! Bodies of admin requests: what is taken, and what each mistake is answered.

use serde_json::json;

use super::*;

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("no object: {other}"),
    }
}

/// What a new app of `body` is answered: its error, or nothing.
fn check_app_body(body: Value, expected: &str) {
    let text = body.to_string();
    let error = AppInput::new(object(body))
        .err()
        .map_or(String::new(), |e| e.to_string());
    assert_eq!(error, expected, "{text}");
}

fn check_key_body(change: Value, expected: &str) {
    let mut body = object(json!({
        "type": "publishable", "channelPatterns": ["a/*"], "actions": ["subscribe"],
    }));
    body.extend(object(change));
    let text = Value::Object(body.clone()).to_string();
    let error = KeyInput::new(body)
        .err()
        .map_or(String::new(), |e| e.to_string());
    assert!(
        if expected.is_empty() {
            error.is_empty()
        } else {
            error.starts_with(expected)
        },
        "{text}: {error:?}, expected {expected:?}"
    );
}

#[test]
fn an_app_needs_nothing_and_nulls_are_absent() {
    check_app_body(json!({}), "");
    check_app_body(
        json!({"plan": null, "turn": null, "limits": null, "name": null}),
        "",
    );
}

#[test]
fn errors_of_an_app_name_the_field() {
    check_app_body(
        json!({"nmae": "x"}),
        "nmae: there is no such field; did you mean name?",
    );
    // Which serde would read by position.
    check_app_body(
        json!({"plan": ["p", 1, 5, true, true]}),
        "plan: must be an object",
    );
    check_app_body(json!({"plan": []}), "plan: must be an object");
    check_app_body(json!({"limits": [5, 5]}), "limits: must be an object");
    check_app_body(
        json!({"turn": [["turn:a"], "s", 60]}),
        "turn: must be an object",
    );
    check_app_body(
        json!({"plan": {"maxMessages": 1}}),
        "plan.maxMessages: there is no such field; did you mean plan.maxMessagesPerPeriod?",
    );
    check_app_body(
        json!({"limits": {"x": 1}}),
        "limits.x: there is no such field; there are messageRate, messageBurst",
    );
    check_app_body(
        json!({"plan": {"maxMessagesPerPeriod": "many"}}),
        "plan.maxMessagesPerPeriod: invalid type: string \"many\", expected u64",
    );
    check_app_body(
        json!({"plan": {"maxMessagesPerPeriod": -1}}),
        "plan.maxMessagesPerPeriod: invalid value: integer `-1`, expected u64",
    );
    check_app_body(
        json!({"status": "paused"}),
        "status: unknown variant `paused`, expected `active` or `suspended`",
    );
    check_app_body(
        json!({"plan": {"maxMessagesPerPeriod": 1_000_000_000_000_001_u64}}),
        "plan.maxMessagesPerPeriod: must be at most 1000000000000000, or 0 for no limit",
    );
    check_app_body(
        json!({"plan": {"periodDays": 0}}),
        "plan.periodDays: must be 1 to 3660",
    );
    check_app_body(
        json!({"plan": {"periodStartUnix": u64::MAX}}),
        "plan.periodStartUnix: must be in seconds, before the year 9999",
    );
    check_app_body(
        json!({"limits": {"messageRate": 1, "messageBurst": 0}}),
        "limits.messageBurst: must be at least 1 with a rate",
    );
    check_app_body(
        json!({"limits": {"messageRate": 1}}),
        "limits.messageBurst: is required",
    );
    check_app_body(
        json!({"name": "a\nb"}),
        "name: must be at most 256 bytes without control characters",
    );
}

#[test]
fn rules_of_history_are_checked_with_their_place() {
    let chat = json!({"pattern": "chat/**"});
    for (rules, expected) in [
        (json!([]), ""),
        (
            json!([chat, {"pattern": "b", "messages": 1, "bytes": 1_024, "ttlSec": 1,
                       "store": "memory"}]),
            "",
        ),
        (json!({}), "history: invalid type: map, expected a sequence"),
        (
            json!("**"),
            "history: invalid type: string \"**\", expected a sequence",
        ),
        // Which serde would read by position.
        (json!([chat, ["b", 1]]), "history[1]: must be an object"),
        (json!([chat, null]), "history[1]: must be an object"),
        (json!([{}]), "history[0].pattern: is required"),
        (
            json!([{"pattern": "\\"}]),
            "history[0].pattern: a channel pattern must not end with a \
                                      lone \\ (write \\\\ to match one)",
        ),
        (
            json!([chat, {"pattern": "b", "ttl": 1}]),
            "history[1].ttl: unknown field `ttl`, expected \
            one of `pattern`, `messages`, `bytes`, `ttlSec`, `store`",
        ),
        (
            json!([{"pattern": "b", "messages": -1}]),
            "history[0].messages: invalid value: integer `-1`, expected u32",
        ),
        (
            json!([{"pattern": "b", "messages": null}]),
            "history[0].messages: invalid type: null, expected u32",
        ),
        (
            json!([{"pattern": "b", "messages": 0}]),
            "history[0].messages: must be 1 to 100000",
        ),
        (
            json!([chat, {"pattern": "chat/a"}]),
            "history[1].pattern: an earlier rule takes every \
            channel of this one, which so never holds; put this one first, or remove it",
        ),
    ] {
        check_app_body(json!({ "history": rules }), expected);
    }
}

#[test]
fn turn_is_checked_where_it_is_given() {
    let turn = |change: Value| {
        let mut turn = object(json!({"urls": ["turn:a.example:3478"], "secret": "s"}));
        turn.extend(object(change));
        json!({ "turn": turn })
    };
    check_app_body(turn(json!({})), "");
    check_app_body(
        turn(json!({"urls": []})),
        "turn.urls: must have 1 to 16 entries",
    );
    for url in ["http://a", "turn:", "turn:a b", "stun"] {
        check_app_body(
            turn(json!({"urls": ["stuns:b", url]})),
            "turn.urls[1]: must be a turn:, turns:, stun: or stuns: URL of at most 512 bytes",
        );
    }
    check_app_body(
        turn(json!({"ttlSec": 0})),
        "turn.ttlSec: must be 1 to 2592000",
    );
    check_app_body(
        turn(json!({"secret": ""})),
        "turn.secret: must be 1 to 512 printable ASCII bytes",
    );
    check_app_body(
        turn(json!({"secret": null})),
        "turn.secret: cannot be removed; set turn to null instead",
    );
}

#[test]
fn a_limit_of_zero_is_unlimited() {
    let input = AppInput::new(object(
        json!({"plan": {"maxMessagesPerPeriod": 0, "name": "p"}}),
    ))
    .unwrap();
    assert_eq!(
        input.plan,
        PlanRecord {
            name: Some("p".into()),
            ..PlanRecord::default()
        }
    );
}

#[test]
fn errors_of_a_key_name_the_field() {
    check_key_body(json!({}), "");
    check_key_body(json!({"name": null, "autoInjectTurn": null}), "");
    check_key_body(
        json!({"type": "public"}),
        "type: must be \"secret\" or \"publishable\"",
    );
    check_key_body(
        json!({"keyId": "pk_live_mine"}),
        "keyId: there is no such field",
    );
    check_key_body(
        json!({"channelPatterns": null}),
        "channelPatterns: is required",
    );
    check_key_body(
        json!({"channelPatterns": []}),
        "channelPatterns: must have 1 to 100 entries",
    );
    check_key_body(
        json!({"channelPatterns": ["a", ""]}),
        "channelPatterns[1]: ",
    );
    check_key_body(
        json!({"channelPatterns": "a"}),
        "channelPatterns: invalid type: string",
    );
    check_key_body(json!({"actions": ["fly"]}), "actions: ");
    check_key_body(json!({"actions": []}), "actions: must have 1 to 16 entries");
    check_key_body(
        json!({"allowedOrigins": ["nowhere"]}),
        "allowedOrigins[0]: ",
    );
    check_key_body(
        json!({"type": "secret", "allowedOrigins": ["https://a.example"]}),
        "allowedOrigins: is for publishable keys only",
    );
}

#[test]
fn the_grace_window_is_a_day_unless_given() {
    let grace = |body: Value| grace_seconds(object(body)).map_err(|error| error.to_string());
    assert_eq!(grace(json!({})), Ok(86_400));
    assert_eq!(grace(json!({"graceSeconds": 0})), Ok(0));
    let error = "graceSeconds: must be at most 31536000";
    assert_eq!(
        grace(json!({"graceSeconds": 31_536_001})),
        Err(error.into())
    );
    assert!(grace(json!({"graceSeconds": 1.5})).is_err());
    assert!(
        grace(json!({"grace": 1}))
            .unwrap_err()
            .starts_with("grace: there is no such field; did you mean graceSeconds?")
    );
}

fn check_patches(rejected: &[(Value, &str)], accepted: &[Value], patch: impl Fn(Object) -> String) {
    for (body, expected) in rejected {
        let error = patch(object(body.clone()));
        assert!(error.starts_with(expected), "{body}: {error:?}");
    }
    for body in accepted {
        assert_eq!(patch(object(body.clone())), "", "{body}");
    }
}

#[test]
fn a_null_in_a_patch_opens_nothing() {
    let record: AppRecord = serde_json::from_value(json!({
        "appId": "a", "name": "n", "status": "suspended", "plan": {"maxMessagesPerPeriod": 5},
        "directScope": "shared-channel", "turn": null,
        "limits": {"messageRate": 1, "messageBurst": 1}, "createdAt": 1,
    }))
    .unwrap();
    let refused = "cannot be null; leave it out to keep what it is";
    check_patches(
        &[
            (json!({"status": null}), &format!("status: {refused}")),
            (
                json!({"name": "x", "plan": null}),
                &format!("plan: {refused}"),
            ),
            (
                json!({"directScope": null}),
                &format!("directScope: {refused}"),
            ),
            (
                json!({"plan": {"overagesEnabled": null}}),
                &format!("plan.overagesEnabled: {refused}"),
            ),
            (
                json!({"limits": {"messageRate": null}}),
                &format!("limits.messageRate: {refused}"),
            ),
            (json!({"staus": null}), "staus: there is no such field"),
            (
                json!({"plan": {"nam": null}}),
                "plan.nam: there is no such field",
            ),
            (
                json!({"staus": {"x": null}}),
                "staus: there is no such field; did you mean status?",
            ),
            (
                json!({"plan": {"periodDays": 30}}),
                "plan.periodDays: plan.periodStartUnix and it go",
            ),
            (
                json!({"plan": {"periodStartUnix": 30}}),
                "plan.periodStartUnix: plan.periodDays and it go together",
            ),
            (
                json!({"limits": {"messageRate": 1_000_001}}),
                "limits.messageRate: must be at most 1000000",
            ),
            (
                json!({"limits": {"messageBurst": u32::MAX}}),
                "limits.messageBurst: must be at most 1000000",
            ),
        ],
        &[
            json!({"turn": null, "limits": null}),
            json!({"plan": {"name": null, "maxMessagesPerPeriod": null, "periodDays": null}}),
            json!({"plan": {"periodDays": 30, "periodStartUnix": 0}}),
            json!({"limits": {"messageRate": 1_000_000, "messageBurst": 1_000_000}}),
            // What was shown, sent back.
            serde_json::to_value(&record).unwrap(),
        ],
        |patch| {
            let input = AppInput::patched(&record, patch);
            input.err().map_or(String::new(), |error| error.to_string())
        },
    );
}

#[test]
fn what_an_earlier_version_took_stands_in_nobodys_way() {
    let record: AppRecord = serde_json::from_value(json!({
        "appId": "a", "name": "n", "status": "active", "directScope": "app",
        "plan": {"periodDays": 30, "maxMessagesPerPeriod": u64::MAX}, "turn": null,
        "limits": {"messageRate": u32::MAX, "messageBurst": u32::MAX}, "createdAt": 1,
    }))
    .unwrap();
    let patch = object(json!({"status": "suspended"}));
    assert!(AppInput::patched(&record, patch).is_ok());
}

#[test]
fn a_null_in_a_patch_of_a_key_frees_it_of_nothing() {
    let record: KeyRecord = serde_json::from_value(json!({
        "keyId": "pk_live_a", "appId": "a", "type": "publishable", "name": "n",
        "channelPatterns": ["a"], "actions": ["subscribe"],
        "allowedOrigins": ["https://a.example"], "autoInjectTurn": false, "createdAt": 1,
    }))
    .unwrap();
    let refused = [
        "allowedOrigins",
        "channelPatterns",
        "actions",
        "autoInjectTurn",
        "name",
    ];
    let refused = refused.map(|field| (json!({ field: null }), format!("{field}: cannot be null")));
    let refused: Vec<_> = refused
        .iter()
        .map(|(body, error)| (body.clone(), error.as_str()))
        .chain([(json!({"origins": null}), "origins: there is no such field")])
        .collect();
    let shown = serde_json::to_value(&record).unwrap();
    check_patches(&refused, &[json!({}), shown], |patch| {
        let input = KeyInput::patched(&record, patch);
        input.err().map_or(String::new(), |error| error.to_string())
    });
}

#[test]
fn every_field_has_a_rule_for_null() {
    let names = |fields: &[Field]| -> Vec<&str> { fields.iter().map(|(path, _)| *path).collect() };
    let (of_apps, of_keys) = (names(APP_FIELDS), names(KEY_FIELDS));
    let app = object_of(&AppInput::default()).unwrap();
    for (field, value) in &app {
        assert!(of_apps.contains(&field.as_str()), "{field}");
        for inner in value.as_object().into_iter().flatten() {
            let path = format!("{field}.{}", inner.0);
            assert!(of_apps.contains(&path.as_str()), "{path}");
        }
    }
    let key = json!({"channelPatterns": ["a"], "actions": ["send"]});
    let key: KeyInput = serde_json::from_value(key).unwrap();
    for field in object_of(&key).unwrap().keys() {
        assert!(of_keys.contains(&field.as_str()), "{field}");
    }
}

#[test]
fn a_secret_key_needs_no_action() {
    check_key_body(json!({"type": "secret", "actions": []}), "");
    check_key_body(
        json!({"type": "secret", "actions": null}),
        "actions: is required",
    );
}
