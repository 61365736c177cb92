//! JSON objects to values: merge patches, and errors that name the field.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ControlError;

/// A JSON object, as received.
pub type Object = Map<String, Value>;

/// Takes the fields that no patch changes out of `base`, and out of `patch` where they say the
/// same (a client may send back what it was shown).
///
/// # Errors
/// `Invalid` when the patch says something else.
pub fn split_fixed(
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
pub fn merge(base: &mut Object, patch: Object) {
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

/// A record as the object that it is shown as.
///
/// # Errors
/// `Unavailable` when it is no object, which would be our mistake.
pub fn object_of(record: &impl Serialize) -> Result<Object, ControlError> {
    match serde_json::to_value(record) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(ControlError::Unavailable("a record is no object".into())),
    }
}

/// The value of an object's fields.
///
/// # Errors
/// `Invalid`, naming the field by its path.
pub fn read<T: DeserializeOwned>(fields: Object) -> Result<T, ControlError> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        let fault = error.into_inner().to_string();
        // An unknown or missing field is named by the fault, and the path is its parent's.
        ControlError::Invalid(if path == "." {
            fault
        } else {
            format!("{path}: {fault}")
        })
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
