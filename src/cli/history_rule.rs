//! The rules of an app's history as people type and read them:
//! `chat/**=messages:1000,bytes:1MiB,ttl:1h,store:disk`. What is left out is the default.
//!
//! Always holds: what is shown can be typed, and means the same.

use std::slice;

use serde_json::Value;

use super::duration::duration_sec;
use super::numbers::whole_number;
use super::table::cell;
use super::terminal::printable;
use crate::domain::history::{HistoryRule, HistoryRules, HistoryStore};
use crate::nearest::nearest;

/// The settings, by the names of a rule's fields.
const SETTINGS: [&str; 4] = ["messages", "bytes", "ttl", "store"];
const BYTE_UNITS: [(&str, u32); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const TIME_UNITS: [(char, u32); 3] = [('d', 86_400), ('h', 3_600), ('m', 60)];

/// Reads a rule.
///
/// # Errors
/// The pattern is none, or a setting is unknown, twice there, or out of its bounds.
pub(super) fn history_rule(text: &str) -> Result<HistoryRule, String> {
    let (pattern, settings) = text.rsplit_once('=').unwrap_or((text, ""));
    let mut rule = HistoryRule::new(pattern);
    let mut seen: Vec<&str> = Vec::new();
    for setting in settings.split(',').filter(|_| !settings.is_empty()) {
        let Some((name, value)) = setting.split_once(':') else {
            return Err(format!(
                "expected a setting such as messages:1000 instead of '{setting}'; behind a pattern \
                 that has a '=' in it there is another one"
            ));
        };
        if seen.contains(&name) {
            return Err(format!("{name} is there twice"));
        }
        set(&mut rule, name, value)?;
        seen.push(name);
    }
    let fault = HistoryRules::new(slice::from_ref(&rule)).err();
    match fault {
        None => Ok(rule),
        Some(fault) if fault.field == "ttlSec" => Err(format!("ttl: {} seconds", fault.text)),
        Some(fault) => Err(format!("{}: {}", fault.field, fault.text)),
    }
}

fn set(rule: &mut HistoryRule, name: &str, value: &str) -> Result<(), String> {
    let in_setting = |fault: String| format!("{name}: {fault}");
    match name {
        "messages" => rule.messages = whole_number(value).map_err(in_setting)?,
        "bytes" => rule.bytes = bytes(value).map_err(in_setting)?,
        "ttl" => {
            let seconds = duration_sec(value).map_err(|fault| in_setting(fault.to_owned()))?;
            // What is too much for the field is too much for the rule.
            rule.ttl_sec = u32::try_from(seconds).unwrap_or(u32::MAX);
        }
        "store" => {
            rule.store = match value {
                "memory" => HistoryStore::Memory,
                "disk" => HistoryStore::Disk,
                _ => return Err("store: expected memory or disk".to_owned()),
            };
        }
        _ => {
            let meant = nearest(name, SETTINGS.into_iter());
            let meant = meant.map_or(String::new(), |it| format!("; did you mean {it}?"));
            return Err(format!(
                "there is no setting '{name}', only {}{meant}",
                SETTINGS.join(", ")
            ));
        }
    }
    Ok(())
}

/// Reads bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.
fn bytes(text: &str) -> Result<u32, String> {
    let expected = || "expected bytes such as 65536, 64KiB or 1MiB".to_owned();
    let mut units = BYTE_UNITS.iter();
    let found = units.find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (number, unit) = found.unwrap_or((text, 1));
    let number: u32 = whole_number(number).map_err(|_| expected())?;
    number.checked_mul(unit).ok_or_else(expected)
}

/// Returns a rule as it can be typed.
#[must_use]
pub(super) fn shown(rule: &HistoryRule) -> String {
    let HistoryRule {
        pattern,
        messages,
        bytes,
        ttl_sec,
        store,
    } = rule;
    format!(
        "{}=messages:{messages},bytes:{},ttl:{},store:{}",
        printable(pattern),
        bytes_shown(*bytes),
        ttl_shown(*ttl_sec),
        store_shown(*store),
    )
}

/// Returns a rule of the admin API as it can be typed.
#[must_use]
pub(super) fn value_shown(rule: &Value) -> String {
    let read = serde_json::from_value(rule.clone());
    read.map_or_else(|_| cell(rule), |rule| shown(&rule))
}

/// Returns bytes in the largest unit of which they are a whole number.
fn bytes_shown(bytes: u32) -> String {
    let mut units = BYTE_UNITS.iter();
    let unit = units.find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(
        || bytes.to_string(),
        |(unit, size)| format!("{}{unit}", bytes / size),
    )
}

/// Returns seconds in the largest unit of which they are a whole number.
#[must_use]
pub(super) fn ttl_shown(seconds: u32) -> String {
    let mut units = TIME_UNITS.iter();
    let unit = units.find(|(_, size)| seconds > 0 && seconds.is_multiple_of(*size));
    unit.map_or_else(
        || format!("{seconds}s"),
        |(unit, size)| format!("{}{unit}", seconds / size),
    )
}

/// Returns where publications are kept.
#[must_use]
pub(super) fn store_shown(store: HistoryStore) -> &'static str {
    match store {
        HistoryStore::Memory => "memory",
        HistoryStore::Disk => "disk",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::history::{BYTES, MESSAGES, TTL_SEC};

    #[test]
    fn a_rule_is_a_pattern_and_what_differs_from_the_defaults() {
        let default = HistoryRule::new("chat.*");
        for (text, expected) in [
            ("chat.*", default.clone()),
            ("chat.*=", default.clone()),
            (
                "chat.*=messages:50,bytes:1000000,ttl:90m,store:disk",
                HistoryRule {
                    messages: 50,
                    bytes: 1_000_000,
                    ttl_sec: 5_400,
                    store: HistoryStore::Disk,
                    ..default.clone()
                },
            ),
            (
                "chat.*=ttl:2d,bytes:64KiB",
                HistoryRule {
                    ttl_sec: 172_800,
                    bytes: 65_536,
                    ..default
                },
            ),
            ("a=b=", HistoryRule::new("a=b")),
            ("a,b=", HistoryRule::new("a,b")),
        ] {
            assert_eq!(history_rule(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_named() {
        for (text, part) in [
            ("", "pattern: a channel pattern must not be empty"),
            (
                "=messages:1",
                "pattern: a channel pattern must not be empty",
            ),
            (
                "a=b",
                "expected a setting such as messages:1000 instead of 'b'",
            ),
            ("a=messages:1,", "instead of ''"),
            ("a=message:1", "did you mean messages?"),
            ("a=messages:1,messages:2", "messages is there twice"),
            ("a=messages:many", "messages: expected a whole number"),
            ("a=messages:0", "messages: must be 1 to 100000"),
            ("a=bytes:1MB", "bytes: expected bytes such as"),
            ("a=bytes:5GiB", "bytes: expected bytes such as"),
            ("a=bytes:1KiB,ttl:0", "ttl: must be 1 to 31536000 seconds"),
            ("a=ttl:400d", "ttl: must be 1 to 31536000 seconds"),
            ("a=ttl:99999999999d", "ttl: must be"),
            ("a=ttl:-1", "ttl: a duration is positive"),
            ("a=store:tape", "store: expected memory or disk"),
        ] {
            let fault = history_rule(text).unwrap_err();
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }

    #[test]
    fn rules_of_other_versions_are_shown_as_they_are() {
        let rule = serde_json::json!({"pattern": "a", "colour": "red"});
        assert_eq!(value_shown(&rule), r#"{"colour":"red","pattern":"a"}"#);
        let rule = serde_json::json!({"pattern": "a\u{1b}", "ttlSec": 61});
        assert_eq!(
            value_shown(&rule),
            "a\u{fffd}=messages:1000,bytes:1MiB,ttl:61s,store:memory"
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_typed(
            pattern in "[a-z=,:*]{1,12}",
            messages in MESSAGES,
            bytes in BYTES,
            kib in 1_u32..1_024,
            hours in 1_u32..8_760,
            ttl_sec in TTL_SEC,
            is_round in any::<bool>(),
        ) {
            let rule = HistoryRule {
                pattern,
                messages,
                bytes: if is_round { kib << 10 } else { bytes },
                ttl_sec: if is_round { hours * 3_600 } else { ttl_sec },
                store: if is_round { HistoryStore::Disk } else { HistoryStore::Memory },
            };
            // Not all of these are patterns.
            prop_assume!(HistoryRules::new(slice::from_ref(&rule)).is_ok());
            prop_assert_eq!(history_rule(&shown(&rule)), Ok(rule));
        }
    }
}
