//! Declared apps: the example's, and one fault at a time put into a good declaration.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::domain::declared::DeclaredApp;
use crate::domain::history::HistoryRule;
use crate::domain::record::{AppStatus, DirectScope, KeyType, MessageLimits};

const GOOD: &str = r#"
[[apps]]
id = "app_shop"

[[apps.keys]]
id = "pk_live_shop"
channel_patterns = ["shop/*"]
actions = ["subscribe"]

[[apps.keys]]
id = "sk_id_shop"
signing_secret_file = "shop.secret"
channel_patterns = ["shop/**"]
actions = ["publish"]
"#;

/// A directory with the files that the declarations name.
fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, bytes) in [
        ("shop.secret", &b"sk_secret_1_0123456789abcdefghij\r\n"[..]),
        ("shop.api", b"sk_live_1_0123456789abcdef\n"),
        ("turn.secret", b"turn"),
        ("other.secret", b"another_0123456789abcdefghijklmnop\n"),
        ("blank", b"0123456789abcdef0123456789abcdef \n"),
        ("bare", b"sk_live_"),
        ("empty", b"\n"),
        ("long", &[b'x'; 5_000]),
    ] {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    directory
}

fn declare(text: &str) -> Result<Vec<DeclaredApp>, String> {
    let directory = directory();
    let path = directory.path().join("r.toml");
    let variables = environment(&[
        ("SHOP_API_SECRET", "sk_live_2_0123456789abcdef"),
        ("SHOP_SIGNING", "s"),
    ]);
    let in_directory = format!("{}/", directory.path().display());
    Config::from_text(&path, text, &variables)
        .map(|config| config.apps)
        .map_err(|error| error.to_string().replace(&in_directory, ""))
}

/// The good declaration with one text replaced is refused, in a line that begins like this.
fn check_refused(from: &str, to: &str, expected: &str) {
    assert!(GOOD.contains(from), "{from}");
    let error = declare(&GOOD.replacen(from, to, 1)).unwrap_err();
    assert!(error.starts_with(expected), "{to}: {error}");
    assert!(!error.contains("sk_secret"), "{error}");
}

#[test]
fn the_example_declares_every_field() {
    let apps = declare(&uncommented(EXAMPLE)).unwrap();
    let [app] = &apps[..] else { panic!("{apps:?}") };
    assert_eq!(app.record.app_id, "app_shop");
    assert_eq!(app.record.name, "The shop");
    assert_eq!(app.record.plan.name.as_deref(), Some("standard"));
    assert_eq!(app.record.plan.max_concurrent_connections, Some(1000));
    assert_eq!(app.record.plan.max_messages_per_period, Some(5_000_000));
    assert!(app.record.plan.overages_allowed && !app.record.plan.overages_enabled);
    assert_eq!(app.record.plan.period_start_unix, Some(1_767_225_600));
    assert_eq!(app.record.plan.period_days, Some(30));
    let limits = MessageLimits {
        message_rate: 50,
        message_burst: 100,
    };
    assert_eq!(app.record.limits, Some(limits));
    assert_eq!(app.record.history, [HistoryRule::new("chat/**")]);
    let turn = app.record.turn.as_ref().unwrap();
    assert_eq!((turn.urls.len(), turn.ttl_sec), (2, 86_400));
    assert_eq!(app.turn_secret.as_ref().unwrap().as_slice(), b"turn");

    let [publishable, secret] = &app.keys[..] else {
        panic!("{:?}", app.keys)
    };
    assert_eq!(publishable.record.key_type, KeyType::Publishable);
    assert_eq!(publishable.record.name, "web shop");
    assert_eq!(publishable.record.allowed_origins, ["https://shop.example"]);
    assert!(!publishable.record.auto_inject_turn);
    assert!(publishable.signing_secret.is_none() && publishable.api_secret.is_none());
    assert_eq!(secret.record.key_type, KeyType::Secret);
    assert_eq!(secret.record.app_id, "app_shop");
    assert_eq!(
        secret.record.actions,
        ["publish", "subscribe", "presence", "send"]
    );
    assert_eq!(
        secret.signing_secret.as_ref().unwrap().as_slice(),
        b"sk_secret_1_0123456789abcdefghij"
    );
    assert_eq!(
        secret.api_secret.as_ref().unwrap().as_slice(),
        b"sk_live_2_0123456789abcdef"
    );
}

#[test]
fn what_is_left_out_has_a_default() {
    let apps = declare(GOOD).unwrap();
    let record = &apps[0].record;
    assert_eq!(record.status, AppStatus::Active);
    assert_eq!(record.direct_scope, DirectScope::App);
    assert_eq!(record.plan, crate::domain::record::PlanRecord::default());
    assert_eq!((&record.turn, record.limits), (&None, None));
    assert!(apps[0].keys[0].record.auto_inject_turn);
    let other = GOOD.replace(
        "id = \"app_shop\"",
        "id = \"a\"\nstatus = \"suspended\"\n\
        direct_scope = \"shared-channel\"\nplan = { max_messages_per_period = 0 }",
    );
    let record = &declare(&other).unwrap()[0].record;
    assert_eq!(record.status, AppStatus::Suspended);
    assert_eq!(record.direct_scope, DirectScope::SharedChannel);
    assert_eq!(record.plan.max_messages_per_period, None);
}

#[test]
fn no_secret_is_in_a_debug_text() {
    let shown = format!("{:?}", declare(&uncommented(EXAMPLE)).unwrap());
    let bytes = format!("{:?}", b"sk_secret_1").replace(']', "");
    assert!(
        !shown.contains("sk_secret_1") && !shown.contains(&bytes),
        "{shown}"
    );
    assert!(!shown.contains("signing_secret"), "{shown}");
}

#[test]
fn ids_decide_what_a_key_is() {
    check_refused(
        "id = \"app_shop\"",
        "",
        "r.toml:2: apps.id: missing; give an id such as",
    );
    check_refused(
        "\"app_shop\"",
        "\"app shop\"",
        "r.toml:3: apps.id: expected an id such as",
    );
    check_refused(
        "\"app_shop\"",
        "7",
        "r.toml:3: apps.id: expected an id such as",
    );
    check_refused(
        "\"pk_live_shop\"",
        "\"pk_live_\"",
        "r.toml:6: apps.keys.id: expected an id that",
    );
    check_refused(
        "\"pk_live_shop\"",
        "\"sk_live_a\"",
        "r.toml:6: apps.keys.id: expected an id that",
    );
    let name = "\"pk_live_shop\"\nname = \"a\\u0007\"";
    check_refused(
        "\"pk_live_shop\"",
        name,
        "r.toml:7: apps.keys.name: expected at most 256",
    );
    let long = format!("\"pk_live_{}\"", "x".repeat(57));
    check_refused(
        "\"pk_live_shop\"",
        &long,
        "r.toml:6: apps.keys.id: expected an id that",
    );
    let other = "\"pk_live_shop\"\ntype = \"secret\"";
    check_refused(
        "\"pk_live_shop\"",
        other,
        "r.toml:7: apps.keys.type: pk_live_shop is of the",
    );
    let again = "\"sk_id_shop\"\nsigning_secret_file = \"shop.secret\"\nactions = [\"send\"]\n\
        channel_patterns = [\"a\"]\n[[apps.keys]]\nid = \"sk_id_shop\"";
    check_refused(
        "\"sk_id_shop\"",
        again,
        "r.toml:16: apps.keys.id: another key has this id",
    );
    let error = declare(&format!("{GOOD}\n[[apps]]\nid = \"app_shop\"")).unwrap_err();
    assert!(
        error.starts_with("r.toml:17: apps.id: another app has this id"),
        "{error}"
    );
}

#[test]
fn an_app_has_at_most_fifty_keys() {
    let key = |n| {
        format!(
            "[[apps.keys]]\nid = \"pk_live_{n}\"\nchannel_patterns = [\"a\"]\n\
             actions = [\"send\"]\n"
        )
    };
    let declaration = |count| {
        format!(
            "[[apps]]\nid = \"a\"\n{}",
            (0..count).map(key).collect::<String>()
        )
    };
    assert_eq!(declare(&declaration(50)).unwrap()[0].keys.len(), 50);
    let error = declare(&declaration(51)).unwrap_err();
    assert!(
        error.starts_with("r.toml:204: apps.keys.id: an app has at most 50 keys"),
        "{error}"
    );
}

#[test]
fn patterns_actions_and_origins_are_checked() {
    let patterns = "r.toml:7: apps.keys.channel_patterns: ";
    check_refused(
        "[\"shop/*\"]",
        "\"shop/*\"",
        &format!("{patterns}expected a list of texts"),
    );
    check_refused(
        "[\"shop/*\"]",
        "[\"ok\", \"\"]",
        &format!("{patterns}\"\": "),
    );
    check_refused(
        "channel_patterns = [\"shop/*\"]\n",
        "",
        "r.toml:5: apps.keys.channel_patterns: missing",
    );
    check_refused(
        "[\"subscribe\"]",
        "[\"read\"]",
        "r.toml:8: apps.keys.actions: \"read\": ",
    );
    let origins = "[\"subscribe\"]\nallowed_origins = [\"nonsense\"]";
    check_refused(
        "[\"subscribe\"]",
        origins,
        "r.toml:9: apps.keys.allowed_origins: \"nonsense\": ",
    );
    check_refused(
        "[\"shop/*\"]",
        "[]",
        &format!("{patterns}0 entries are given; give 1 to 100"),
    );
    let many = format!("[{}]", "\"a\", ".repeat(101));
    check_refused(
        "[\"shop/*\"]",
        &many,
        &format!("{patterns}101 entries are given"),
    );
    let origins = "[\"publish\"]\nallowed_origins = [\"https://a.example\"]";
    check_refused(
        "[\"publish\"]",
        origins,
        "r.toml:15: apps.keys.allowed_origins: only publish",
    );
}

#[test]
fn secrets_come_from_exactly_one_place() {
    let line = "signing_secret_file = \"shop.secret\"";
    let keys = "r.toml:12: apps.keys.signing_secret_file: ";
    check_refused(
        line,
        "",
        "r.toml:11: apps.keys.id: a secret key needs signing_secret_file",
    );
    check_refused(
        line,
        "signing_secret_file = \"no\"",
        &format!("{keys}no cannot be read: "),
    );
    check_refused(
        line,
        "signing_secret_file = \"empty\"",
        &format!("{keys}empty: a secret has 1 to"),
    );
    check_refused(
        line,
        "signing_secret_file = \"long\"",
        &format!("{keys}long: a secret has 1 to"),
    );
    check_refused(
        line,
        "signing_secret_file = \"\"",
        &format!("{keys}expected a path"),
    );
    check_refused(
        line,
        "signing_secret_env = \"sk_secret_9\"",
        "r.toml:12: apps.keys.signing_secret_env: the variable it names is not set",
    );
    check_refused(
        line,
        "signing_secret_file = \"turn.secret\"",
        &format!("{keys}turn.secret: a signing secret has at least 32 bytes, this one has 4"),
    );
    check_refused(
        line,
        "signing_secret_file = \"blank\"",
        &format!("{keys}blank: the secret begins or ends with a blank"),
    );
    check_refused(
        line,
        "signing_secret_env = \"SHOP_SIGNING\"",
        "r.toml:12: apps.keys.signing_secret_env: a signing secret has at least 32 bytes",
    );
    let bare = format!("{line}\napi_secret_file = \"bare\"");
    check_refused(
        line,
        &bare,
        "r.toml:13: apps.keys.api_secret_file: bare: an API secret has at least 16 random",
    );
    let both = format!("{line}\nsigning_secret_env = \"SHOP_SIGNING\"");
    check_refused(
        line,
        &both,
        "r.toml:13: apps.keys.signing_secret_env: signing_secret_file and",
    );
    let api = format!("{line}\napi_secret_env = \"SHOP_SIGNING\"");
    check_refused(
        line,
        &api,
        "r.toml:13: apps.keys.api_secret_env: an API secret begins with",
    );
    let publishable = format!("[\"subscribe\"]\n{line}");
    let expected = "r.toml:9: apps.keys.signing_secret_file: a publishable key has no secret";
    check_refused("[\"subscribe\"]", &publishable, expected);
    let inline = "signing_secret = \"sk_secret_9\"";
    let with_inline = format!("{line}\n{inline}");
    let expected = "r.toml:13: apps.keys.signing_secret: unknown key; did you mean \
                    apps.keys.signing_secret_";
    check_refused(line, &with_inline, expected);

    let api = GOOD.replace(line, &format!("{line}\napi_secret_file = \"shop.api\""));
    let apps = declare(&api).unwrap();
    assert_eq!(
        apps[0].keys[1].api_secret.as_ref().unwrap().as_slice(),
        b"sk_live_1_0123456789abcdef"
    );
}

#[test]
fn plan_limits_and_turn_make_sense() {
    let id = "id = \"app_shop\"";
    for (table, expected) in [
        (
            "plan = { period_days = 30 }",
            "r.toml:4: apps.plan.period_days: period_start_unix and",
        ),
        (
            "plan = { period_days = 0, period_start_unix = 1 }",
            "r.toml:4: apps.plan.period_days: exp",
        ),
        (
            "limits = { message_rate = -1 }",
            "r.toml:4: apps.limits.message_rate: expected an",
        ),
        (
            "turn = {}",
            "r.toml:4: apps.turn.urls: 0 entries are given; give 1 to 16",
        ),
        (
            "turn = { urls = [\"x\"] }",
            "r.toml:4: apps.turn.urls: expected a turn:, turns:",
        ),
        (
            "turn = { urls = [\"turn:t\"] }",
            "r.toml:4: apps.turn.urls: a shared secret is missing",
        ),
        (
            "turn = { url = 1, urls = [\"turn:t\"], secret_file = \"turn.secret\" }",
            "r.toml:4: apps.turn.url: unk",
        ),
    ] {
        check_refused(id, &format!("{id}\n{table}"), expected);
    }
}

#[test]
fn a_secret_key_may_do_nothing_but_kick_and_read_usage_if_that_is_meant() {
    let none = GOOD.replace("[\"publish\"]", "[]");
    assert!(declare(&none).unwrap()[0].keys[1].record.actions.is_empty());
    check_refused(
        "[\"subscribe\"]",
        "[]",
        "r.toml:8: apps.keys.actions: 0 entries",
    );
    check_refused(
        "actions = [\"publish\"]",
        "",
        "r.toml:10: apps.keys.actions: ",
    );
}

/// An app with all that can be said of one, and each line said otherwise.
const WHOLE: &str = r#"
[[apps]]
id = "app_shop"
name = "Shop"
status = "active"
direct_scope = "app"
plan = { name = "p", max_concurrent_connections = 1, max_messages_per_period = 2, \
overages_allowed = false, overages_enabled = true, period_start_unix = 3, period_days = 4 }
turn = { urls = ["turn:a"], ttl_sec = 60, secret_file = "turn.secret" }
limits = { message_rate = 5, message_burst = 6 }
feed = { presence = false, peers = true }

[[apps.history]]
pattern = "chat/**"
messages = 1000

[[apps.keys]]
id = "pk_live_shop"
name = "web"
channel_patterns = ["shop/*"]
actions = ["subscribe"]
allowed_origins = ["https://a.example"]
auto_inject_turn = true

[[apps.keys]]
id = "sk_id_shop"
signing_secret_file = "shop.secret"
api_secret_file = "shop.api"
channel_patterns = ["shop/**"]
actions = ["publish"]
"#;

/// A text of it, another one in its place, and what has changed then.
const CHANGES: [(&str, &str, &str); 26] = [
    ("\"Shop\"", "\"Stop\"", "name"),
    ("\"active\"", "\"suspended\"", "status"),
    ("\"app\"\n", "\"shared-channel\"\n", "direct_scope"),
    ("name = \"p\"", "name = \"q\"", "plan.name"),
    (
        "connections = 1",
        "connections = 9",
        "plan.max_concurrent_connections",
    ),
    (
        "per_period = 2",
        "per_period = 9",
        "plan.max_messages_per_period",
    ),
    ("allowed = false", "allowed = true", "plan.overages_allowed"),
    ("enabled = true", "enabled = false", "plan.overages_enabled"),
    ("unix = 3", "unix = 9", "plan.period_start_unix"),
    ("days = 4", "days = 9", "plan.period_days"),
    ("turn:a", "turn:b", "turn.urls"),
    ("ttl_sec = 60", "ttl_sec = 90", "turn.ttl_sec"),
    ("\"turn.secret\"", "\"shop.api\"", "turn.secret"),
    ("rate = 5", "rate = 4", "limits.message_rate"),
    ("burst = 6", "burst = 9", "limits.message_burst"),
    ("presence = false", "presence = true", "feed.presence"),
    ("peers = true", "peers = false", "feed.peers"),
    ("messages = 1000", "messages = 900", "history"),
    ("\"web\"", "\"wap\"", "keys.pk_live_shop.name"),
    (
        "\"shop/*\"",
        "\"shop/a\"",
        "keys.pk_live_shop.channel_patterns",
    ),
    ("\"subscribe\"", "\"presence\"", "keys.pk_live_shop.actions"),
    (
        "a.example",
        "b.example",
        "keys.pk_live_shop.allowed_origins",
    ),
    (
        "inject_turn = true",
        "inject_turn = false",
        "keys.pk_live_shop.auto_inject_turn",
    ),
    (
        "\"shop.secret\"",
        "\"other.secret\"",
        "keys.sk_id_shop.signing_secret",
    ),
    (
        "api_secret_file = \"shop.api\"\n",
        "",
        "keys.sk_id_shop.api_secret",
    ),
    ("pk_live_shop", "pk_live_other", "keys.pk_live_other"),
];

#[test]
fn a_change_of_any_key_of_an_app_is_named() {
    let whole = WHOLE.replace("\\\n", "");
    let before = declare(&whole).unwrap();
    assert_eq!(declared_differences(&before, &before), [""; 0]);
    let mut named = Vec::new();
    for (from, to, path) in CHANGES {
        assert!(whole.contains(from), "{from}");
        let after = declare(&whole.replacen(from, to, 1)).unwrap_or_else(|fault| panic!("{fault}"));
        let found = declared_differences(&before, &after);
        assert!(
            found.contains(&format!("apps.app_shop.{path}")),
            "{path}: {found:?}"
        );
        assert_eq!(
            found.len(),
            1 + usize::from(path == "keys.pk_live_other"),
            "{found:?}"
        );
        named.push(path.to_owned());
    }
    // All that a table of the whole app has is among them.
    let record = serde_json::to_value(&before[0].record).unwrap();
    let mut places = vec![(String::new(), &record)];
    while let Some((path, value)) = places.pop() {
        match value
            .as_object()
            .filter(|_| path.is_empty() || value.is_object())
        {
            Some(table) => {
                let inner = table
                    .iter()
                    .filter(|(name, _)| *name != "appId" && *name != "createdAt");
                places.extend(inner.map(|(name, value)| {
                    let point = if path.is_empty() { "" } else { "." };
                    (format!("{path}{point}{name}"), value)
                }));
            }
            None => {
                let is_it = |it: &String| it.replace('_', "").eq_ignore_ascii_case(&path);
                assert!(named.iter().any(is_it), "{path} is not walked");
            }
        }
    }
    assert_eq!(declared_differences(&before, &[]), ["apps.app_shop"]);
    assert_eq!(declared_differences(&[], &before), ["apps.app_shop"]);
}
