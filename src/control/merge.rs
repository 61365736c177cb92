//! JSON objects to values: merge patches, and errors that name the field.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::ControlError;
use crate::nearest::nearest;

/// A JSON object, as received.
pub(crate) type Object = Map<String, Value>;

/// Takes the fields that no patch changes out of `base`, and out of `patch` where they say the
/// same (a client may send back what it was shown).
///
/// # Errors
/// `Invalid` when the patch says something else.
pub(super) fn split_fixed(
    base: &mut Object,
    patch: &mut Object,
    fixed: &[&str],
) -> Result<(), ControlError> {
    for field in fixed {
        let present = base.remove(*field);
        if patch
            .remove(*field)
            .is_some_and(|value| Some(value) != present)
        {
            return Err(ControlError::field(field, "cannot be changed"));
        }
    }
    Ok(())
}

/// RFC 7396: objects merge, `null` removes, everything else replaces.
pub(super) fn merge(base: &mut Object, patch: Object) {
    for (field, value) in patch {
        match value {
            Value::Null => {
                base.remove(&field);
            }
            Value::Object(patch) => {
                let slot = base.entry(field).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Object::new());
                }
                if let Value::Object(base) = slot {
                    merge(base, patch);
                }
            }
            value => {
                base.insert(field, value);
            }
        }
    }
}

/// What `null` does to a field in a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Null {
    /// It takes the value away; the field is shown as `null` then.
    Removes,
    /// Nothing: the field always has a value. Many clients send `null` for "not set", and the
    /// default may open what the value closes.
    Refused,
}

/// A path with dots, and what `null` does there.
pub(super) type Field = (&'static str, Null);

/// Checks the names and the nulls of a patch against all fields that there are.
///
/// # Errors
/// `Invalid`, naming the field: it always has a value, or there is none of that name.
pub(super) fn check_patch(patch: &Object, fields: &[Field]) -> Result<(), ControlError> {
    check_members(patch, "", fields, &|path, null| match null {
        Null::Removes => Ok(()),
        Null::Refused => Err(ControlError::field(
            path,
            "cannot be null; leave it out to keep what it is",
        )),
    })
}

/// Checks the names of a new object, where nulls are as good as nothing.
///
/// # Errors
/// `Invalid`: there is no field of that name.
pub(super) fn check_new(body: &Object, fields: &[Field]) -> Result<(), ControlError> {
    check_members(body, "", fields, &|_, _| Ok(()))
}

/// Checks an object's members, and those of the objects in it. A value that has members must be
/// an object: serde would take an array's elements for them, in the order of the fields.
fn check_members(
    object: &Object,
    parent: &str,
    fields: &[Field],
    check_null: &impl Fn(&str, Null) -> Result<(), ControlError>,
) -> Result<(), ControlError> {
    for (field, value) in object {
        let path = format!("{parent}{field}");
        let found = fields.iter().find(|(known, _)| *known == path);
        let Some((_, null)) = found else {
            return Err(no_field(parent, field, fields));
        };
        let inside = format!("{path}.");
        let has_members = fields.iter().any(|(known, _)| known.starts_with(&inside));
        match value {
            Value::Null => check_null(&path, *null)?,
            Value::Object(inner) if has_members => {
                check_members(inner, &inside, fields, check_null)?;
            }
            _ if has_members => return Err(ControlError::field(&path, "must be an object")),
            _ => {}
        }
    }
    Ok(())
}

fn no_field(parent: &str, field: &str, fields: &[Field]) -> ControlError {
    let beside = fields
        .iter()
        .filter_map(|(path, _)| path.strip_prefix(parent));
    let beside = beside.filter(|name| !name.contains('.'));
    let hint = match nearest(field, beside.clone()) {
        Some(nearest) => format!("; did you mean {parent}{nearest}?"),
        None => format!("; there are {}", beside.collect::<Vec<_>>().join(", ")),
    };
    ControlError::field(
        &format!("{parent}{field}"),
        &format!("there is no such field{hint}"),
    )
}

/// A record as the object that it is shown as.
///
/// # Errors
/// `Unavailable` when it is no object, which would be our mistake.
pub(super) fn object_of(record: &impl Serialize) -> Result<Object, ControlError> {
    match serde_json::to_value(record) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(ControlError::Unavailable("a record is no object".into())),
    }
}

/// The value of an object's fields.
///
/// # Errors
/// `Invalid`, naming the field by its path.
pub(super) fn read<T: DeserializeOwned>(fields: Object) -> Result<T, ControlError> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        let fault = error.into_inner().to_string();
        // A missing field is named by the fault, and the path is its parent's.
        let missing = fault.strip_prefix("missing field `");
        match (
            path.as_str(),
            missing.and_then(|rest| rest.strip_suffix('`')),
        ) {
            (".", Some(field)) => ControlError::field(field, "is required"),
            (parent, Some(field)) => {
                ControlError::field(&format!("{parent}.{field}"), "is required")
            }
            (".", None) => ControlError::Invalid(fault),
            (path, None) => ControlError::field(path, &fault),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        match value {
            Value::Object(object) => object,
            other => panic!("no object: {other}"),
        }
    }

    /// The examples of RFC 7396, appendix A, whose document and patch are objects.
    #[test]
    fn merging_is_that_of_rfc_7396() {
        for (base, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            let mut merged = object(base);
            merge(&mut merged, object(patch));
            assert_eq!(Value::Object(merged), expected);
        }
    }
}
