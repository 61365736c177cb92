//! `[history]` and `[[apps.history]]`: what is taken, what contradicts, and what a change is.

use super::*;
use crate::domain::history::{HistoryRule, HistoryStore};

/// An app with this behind its id.
fn app(rest: &str) -> String {
    format!("[[apps]]\nid = \"a\"\n{rest}")
}

fn rules(text: &str) -> Vec<HistoryRule> {
    parse(&app(text), &[])
        .unwrap()
        .apps
        .remove(0)
        .record
        .history
}

#[test]
fn the_rules_of_an_app_are_read_in_their_order() {
    let text = "[[apps.history]]\npattern = \"vip\"\nmessages = 5\nbytes = 2000\nttl_sec = 7\n\
                store = \"memory\"\n[[apps.history]]\npattern = \"**\"";
    let first = HistoryRule {
        pattern: "vip".to_owned(),
        messages: 5,
        bytes: 2_000,
        ttl_sec: 7,
        store: HistoryStore::Memory,
    };
    assert_eq!(rules(text), [first, HistoryRule::new("**")]);
    assert_eq!(rules(""), []);
}

#[test]
fn a_rule_that_is_wrong_is_named_with_line_and_key() {
    let pattern = "pattern = \"b\"";
    for (line, expected) in [
        (
            "",
            "3: apps.history.pattern: missing; give a channel pattern such as \"chat/**\"",
        ),
        (
            "pattern = \"\"",
            "4: apps.history.pattern: a channel pattern must not be empty",
        ),
        (
            "pattern = 5",
            "4: apps.history.pattern: expected a channel pattern such as \"chat/**\", found \
             integer 5",
        ),
        (
            &format!("{pattern}\nmessages = 0"),
            "5: apps.history.messages: expected an integer from 1 to 100000, found integer 0; \
             leave it out for the default, 1000",
        ),
        (
            &format!("{pattern}\nbytes = 1023"),
            "5: apps.history.bytes: expected an integer from 1024 to 1073741824, found integer \
             1023; leave it out for the default, 1048576",
        ),
        (
            &format!("{pattern}\nttl_sec = 31536001"),
            "5: apps.history.ttl_sec: expected an integer from 1 to 31536000, found integer \
             31536001; leave it out for the default, 3600",
        ),
        (
            &format!("{pattern}\nstore = \"tape\""),
            "5: apps.history.store: expected \"memory\" or \"disk\", found string \"tape\"; \
             leave it out for the default, \"memory\"",
        ),
        (
            &format!("{pattern}\nttl = 1"),
            "5: apps.history.ttl: unknown key; did you mean apps.history.ttl_sec?",
        ),
        (
            &format!("{pattern}\nbytes = 268435457"),
            "5: apps.history.bytes: a channel could keep 268435457 bytes, and all of them together \
             may keep 268435456; make it smaller, or history.memory_bytes larger",
        ),
        (
            "pattern = \"b/**\"\n[[apps.history]]\npattern = \"b/c-*\"",
            "6: apps.history.pattern: an earlier rule takes every channel of this one, which so \
             never holds; put this one first, or remove it",
        ),
    ] {
        check_refused(&app(&format!("[[apps.history]]\n{line}")), expected);
    }
    let rule = |number| format!("[[apps.history]]\npattern = \"b{number}\"\n");
    let many = |count| app(&(0..count).map(rule).collect::<String>());
    assert_eq!(
        parse(&many(16), &[]).unwrap().apps[0].record.history.len(),
        16
    );
    check_refused(
        &many(17),
        "36: apps.history.pattern: an app has at most 16 rules; remove some",
    );
}

#[test]
fn what_the_process_keeps_must_agree_with_the_rest() {
    check_refused(
        "[history]\nfsync = \"always\"",
        "2: history.fsync: expected \"never\" or \"interval\" or \"turn\", found string \
         \"always\"; leave it out for the default, \"interval\"",
    );
    check_refused(
        "[history]\nack = \"synced\"",
        "2: history.ack: expected \"ordered\" or \"stored\", found string \"synced\"; leave it \
         out for the default, \"ordered\"",
    );
    check_refused(
        "[history]\nreplay_bytes = 70000",
        "2: history.replay_bytes: a single message can have 71680 bytes, and could then not be \
         replayed; make history.replay_bytes at least that, or limits.message_bytes and \
         limits.rest_body_bytes smaller",
    );
    // A rule is compared with what the process may keep, wherever that stands.
    let text = app("[[apps.history]]\npattern = \"b\"\nbytes = 1048577\n\
                    [history]\nmemory_bytes = 1048576");
    check_refused(
        &text,
        "5: apps.history.bytes: a channel could keep 1048577 bytes, and all of them together may \
         keep 1048576; make it smaller, or history.memory_bytes larger",
    );
}

#[test]
fn other_rules_of_an_app_are_a_change_that_is_named() {
    let with = |messages| {
        let rule = format!("[[apps.history]]\npattern = \"b\"\nmessages = {messages}");
        parse(&app(&rule), &[]).unwrap()
    };
    let change = Difference {
        key: "apps.history",
        needs_restart: false,
    };
    assert_eq!(differences(&with(1), &with(1)), []);
    assert_eq!(differences(&with(1), &with(2)), [change]);
    let none = parse(&app(""), &[]).unwrap();
    assert_eq!(differences(&none, &with(2)), [change]);
    assert_eq!(differences(&with(2), &none), [change]);
}
