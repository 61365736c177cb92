//! What is set beside the configuration file: `RINGMESH_SERVER__LISTEN` in the environment
//! stands for `listen` in `[server]`, and the few arguments of `ringmesh dev` for theirs.
//!
//! Variables of ours without two underscores in a row (`RINGMESH_ADMIN_TOKEN`) belong to the
//! command line and are left alone.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::error::{ConfigError, Fault, Place};

const PREFIX: &str = "RINGMESH_";

/// A copy of the process environment, so that one configuration is resolved from one state of
/// it, and tests need not touch the real one.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The environment as it is now.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of one variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// Values that go before those of the file, by dotted key.
#[derive(Default)]
pub(super) struct Overrides(BTreeMap<String, Override>);

/// One of them.
pub(super) struct Override {
    /// The variable or the argument, as errors call it.
    pub(super) name: String,
    /// Its text; what it means depends on the key.
    pub(super) text: String,
}

impl Overrides {
    /// Those of the environment.
    pub(super) fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let mut overrides = Self::default();
        for (name, value) in &environment.0 {
            let Some(name) = name.to_str() else { continue };
            let Some((section, key)) = name
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split_once("__"))
            else {
                continue;
            };
            let Some(text) = value.to_str() else {
                return Err(ConfigError::new(
                    Place::Override(name.to_owned()),
                    Fault::Unexpected {
                        expected: "UTF-8 text".to_owned(),
                        found: "other bytes".to_owned(),
                        default: None,
                    },
                ));
            };
            let key = format!("{section}.{key}").to_ascii_lowercase();
            overrides.set(&key, name, text);
        }
        Ok(overrides)
    }

    /// Adds one, in place of any that the key has.
    pub(super) fn set(&mut self, key: &str, name: &str, text: &str) {
        let entry = Override {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        self.0.insert(key.to_owned(), entry);
    }

    pub(super) fn get(&self, key: &str) -> Option<&Override> {
        self.0.get(key)
    }

    /// All of them, by dotted key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Override)> {
        self.0.iter().map(|(key, entry)| (key.as_str(), entry))
    }
}

/// The variable that stands for a key: `limits.message_rate` is `RINGMESH_LIMITS__MESSAGE_RATE`.
pub(super) fn variable_of(key: &str) -> String {
    format!(
        "{PREFIX}{}",
        key.replacen('.', "__", 1).to_ascii_uppercase()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sectioned_variables_of_ours_are_overrides() {
        let environment: Environment = [
            ("RINGMESH_LIMITS__MESSAGE_RATE", "7"),
            ("RINGMESH_ADMIN_TOKEN", "secret"),
            ("MESH__LISTEN", "x"),
            ("PATH", "/bin"),
        ]
        .into_iter()
        .collect();
        let overrides = Overrides::from_environment(&environment).unwrap();
        let all: Vec<_> = overrides
            .iter()
            .map(|(key, entry)| (key, &*entry.text))
            .collect();
        assert_eq!(all, [("limits.message_rate", "7")]);
        assert_eq!(
            variable_of("limits.message_rate"),
            "RINGMESH_LIMITS__MESSAGE_RATE"
        );
    }

    #[test]
    fn a_value_that_is_no_text_is_refused_by_name() {
        use std::os::unix::ffi::OsStringExt;
        let value = OsString::from_vec(vec![0xff]);
        let environment = [("RINGMESH_LOG__LEVEL", value)].into_iter().collect();
        let error = Overrides::from_environment(&environment)
            .err()
            .unwrap()
            .to_string();
        assert_eq!(
            error,
            "RINGMESH_LOG__LEVEL: expected UTF-8 text, found other bytes"
        );
    }
}
