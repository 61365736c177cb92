//! JSON in which no object has a name twice: of two values one reader takes the first and another
//! one the last.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads JSON whose objects have each name once; what it says is read elsewhere.
///
/// # Errors
/// It is no JSON, or a name is there twice, which the error names.
pub(super) fn check(json: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<Once>(json).map(|_| ())
}

/// Any value in which no name is there twice.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Once;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_str<E>(self, _: &str) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Once, A::Error> {
        while values.next_element::<Once>()?.is_some() {}
        Ok(Once)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Once, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            fields.next_value::<Once>()?;
            if names.contains(&name) {
                return Err(A::Error::custom(format_args!("{name:?} is there twice")));
            }
            names.insert(name);
        }
        Ok(Once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_in_an_object_once() {
        for good in [
            r#"{"a":1,"b":{"a":-2.5,"c":[null,true,{"a":"a"},{"a":18446744073709551615}]}}"#,
            "[]",
            "3",
        ] {
            check(good.as_bytes()).unwrap();
        }
        for (bad, name) in [
            (r#"{"a":1,"a":1}"#, "\"a\" is there twice"),
            (r#"{"a":1,"\u0061":2}"#, "\"a\" is there twice"),
            (
                r#"{"x":[{"b":{"c":1,"d":2,"c":3}}]}"#,
                "\"c\" is there twice",
            ),
            (r#"{"a":1,"#, "EOF"),
        ] {
            let error = check(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
