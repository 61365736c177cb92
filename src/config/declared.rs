//! What differs between the apps that two configurations declare, in the words of the file.
//! Whatever a record has is looked at, so that no field can be forgotten; of secrets, whether they
//! differ.

use serde::Serialize;
use serde_json::Value;

use crate::domain::declared::{DeclaredApp, DeclaredKey};

/// Returns what differs, dotted: `apps.app_shop.feed.presence`; of an app or a key that has come or
/// gone, that only.
#[must_use]
pub(crate) fn declared_differences(before: &[DeclaredApp], after: &[DeclaredApp]) -> Vec<String> {
    let mut found = Vec::new();
    pairs(
        "apps",
        (before, after),
        |it| &it.record.app_id,
        app,
        &mut found,
    );
    found
}

/// Compares what has the same id, and names what is on one side only.
fn pairs<T>(
    place: &str,
    (before, after): (&[T], &[T]),
    id: impl Fn(&T) -> &String,
    compare: impl Fn(&str, &T, &T, &mut Vec<String>),
    found: &mut Vec<String>,
) {
    for it in after {
        let path = format!("{place}.{}", id(it));
        match before.iter().find(|other| id(other) == id(it)) {
            Some(other) => compare(&path, other, it, found),
            None => found.push(path),
        }
    }
    let is_gone = |it: &&T| !after.iter().any(|other| id(other) == id(it));
    let gone = before.iter().filter(is_gone);
    found.extend(gone.map(|it| format!("{place}.{}", id(it))));
}

fn app(path: &str, before: &DeclaredApp, after: &DeclaredApp, found: &mut Vec<String>) {
    // No `..`: what is added has to be compared.
    let DeclaredApp {
        record,
        turn_secret,
        keys,
    } = before;
    fields(path, &json(record), &json(&after.record), found);
    // Whether there is one follows from `turn`, which is a field.
    if turn_secret.is_some() && after.turn_secret.is_some() && *turn_secret != after.turn_secret {
        found.push(format!("{path}.turn.secret"));
    }
    let place = format!("{path}.keys");
    pairs(
        &place,
        (keys, &after.keys),
        |it| &it.record.key_id,
        key,
        found,
    );
}

fn key(path: &str, before: &DeclaredKey, after: &DeclaredKey, found: &mut Vec<String>) {
    let DeclaredKey {
        record,
        signing_secret,
        api_secret,
    } = before;
    fields(path, &json(record), &json(&after.record), found);
    for (name, differs) in [
        ("signing_secret", *signing_secret != after.signing_secret),
        ("api_secret", *api_secret != after.api_secret),
    ] {
        if differs {
            found.push(format!("{path}.{name}"));
        }
    }
}

/// A record is JSON by its type.
fn json(record: &impl Serialize) -> Value {
    serde_json::to_value(record).unwrap_or_default()
}

/// Names each field that differs, those of tables with their path.
fn fields(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    let (Value::Object(one), Value::Object(other)) = (before, after) else {
        if before != after {
            found.push(path.to_owned());
        }
        return;
    };
    let added = other.keys().filter(|name| !one.contains_key(*name));
    for name in one.keys().chain(added) {
        let of =
            |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
        let path = format!("{path}.{}", in_snake_case(name));
        fields(&path, &of(one), &of(other), found);
    }
}

/// A name of the admin API as the file has it.
fn in_snake_case(name: &str) -> String {
    let mut written = String::with_capacity(name.len() + 4);
    for char in name.chars() {
        if char.is_ascii_uppercase() {
            written.push('_');
        }
        written.push(char.to_ascii_lowercase());
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of all fields that are no tables.
    fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    leaves(&format!("{path}/{name}"), value, found);
                }
            }
            _ => found.push(path.to_owned()),
        }
    }

    #[test]
    fn whatever_a_table_has_is_looked_at() {
        let before = serde_json::json!({
            "name": "", "feed": {"presence": false, "peers": true}, "turn": null,
            "plan": {"maxMessages": 5, "periodDays": null}, "urls": ["a"],
        });
        let mut all = Vec::new();
        leaves("", &before, &mut all);
        assert_eq!(all.len(), 7);
        for pointer in all {
            let mut after = before.clone();
            *after.pointer_mut(&pointer).unwrap() = "another".into();
            let mut found = Vec::new();
            fields("a", &before, &after, &mut found);
            let expected = format!("a{}", in_snake_case(&pointer.replace('/', ".")));
            assert_eq!(found, [expected]);
        }
        let mut found = Vec::new();
        fields("a", &before, &before, &mut found);
        fields("a", &Value::Null, &serde_json::json!({"b": 1}), &mut found);
        assert_eq!(found, ["a"]);
    }
}
