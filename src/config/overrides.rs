//! What is set beside the configuration file: `RINGMESH_SERVER__LISTEN` in the environment
//! stands for `listen` in `[server]`, and the few arguments of `ringmesh dev` for theirs.
//!
//! Variables of ours without two underscores in a row are no overrides. Some belong to the command
//! line (`RINGMESH_ADMIN_TOKEN`); the rest are noted, because nothing reads them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::error::{ConfigError, Fault, Place};

const PREFIX: &str = "RINGMESH_";
/// What the command line and the load harness read.
const OF_PROGRAMS: [&str; 9] = [
    "RINGMESH_ADMIN_URL",
    "RINGMESH_ADMIN_TOKEN",
    "RINGMESH_ADMIN_TOKEN_FILE",
    "RINGMESH_CONTEXT",
    "RINGMESH_KEY_ID",
    "RINGMESH_SECRET",
    "RINGMESH_KEY",
    "RINGMESH_TOKEN_SECRET",
    "RINGMESH_API_SECRET",
];

/// What the server itself hands to the process after it, and tests to a build with debug
/// assertions.
const OF_THE_SERVER: [&str; 2] = ["RINGMESH_HANDOVER", "RINGMESH_FAULT_FILE"];

/// What the build sets. `cargo run` hands it on to the program.
const OF_THE_BUILD: [&str; 3] = [
    "RINGMESH_BUILD_COMMIT",
    "RINGMESH_BUILD_DATE",
    "RINGMESH_BUILD_TARGET",
];

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

    /// The same without one variable.
    pub(super) fn without(&self, name: &str) -> Self {
        let mut others = self.0.clone();
        others.remove(OsStr::new(name));
        Self(others)
    }

    /// Variables whose names begin with our prefix, in whatever case.
    fn ours(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        let named = self.0.iter();
        let named = named.filter_map(|(name, value)| Some((name.to_str()?, value.as_os_str())));
        named.filter(|(name, _)| {
            let start = name.get(..PREFIX.len());
            let is_ours = start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
            is_ours && !self.is_of_a_service(name)
        })
    }

    /// Whether Kubernetes has set it: a container gets the addresses of every service around it in
    /// variables named after the service, and a service may be named after us.
    fn is_of_a_service(&self, name: &str) -> bool {
        let mut names = self.0.keys().filter_map(|name| name.to_str());
        names.any(|host| {
            let service = host.strip_suffix("_SERVICE_HOST");
            let rest = service.and_then(|service| name.strip_prefix(service));
            rest.is_some_and(|rest| {
                rest == "_PORT" || rest.starts_with("_PORT_") || rest.starts_with("_SERVICE_")
            })
        })
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

/// Values that go before those of the file, and variables that look like such and are none.
#[derive(Default)]
pub(super) struct Overrides {
    /// The values, by the dotted key that each sets.
    entries: BTreeMap<String, Override>,
    /// Names of variables of ours that are none and that no program reads.
    others: Vec<String>,
}

/// A value that goes before that of the file.
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
        for (name, value) in environment.ours() {
            let rest = name.strip_prefix(PREFIX);
            let Some((section, key)) = rest.and_then(|rest| rest.split_once("__")) else {
                let known = OF_PROGRAMS
                    .iter()
                    .chain(&OF_THE_BUILD)
                    .chain(&OF_THE_SERVER);
                if !known.clone().any(|it| *it == name) {
                    overrides.others.push(name.to_owned());
                }
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
        self.entries.insert(key.to_owned(), entry);
    }

    pub(super) fn get(&self, key: &str) -> Option<&Override> {
        self.entries.get(key)
    }

    /// All of them, by dotted key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Override)> {
        self.entries
            .iter()
            .map(|(key, entry)| (key.as_str(), entry))
    }

    /// Names of variables of ours that are no overrides and that no program of ours reads.
    pub(super) fn others(&self) -> &[String] {
        &self.others
    }
}

/// The variable that stands for a key: `limits.message_rate` is `RINGMESH_LIMITS__MESSAGE_RATE`.
pub(super) fn variable_of(key: &str) -> String {
    format!(
        "{PREFIX}{}",
        key.replacen('.', "__", 1).to_ascii_uppercase()
    )
}

/// What a variable of ours would be as a dotted key if each of its underscores stood where it
/// should: `ringmesh_server_listen` is `server_listen`.
pub(super) fn key_of(variable: &str) -> String {
    let key = variable.get(PREFIX.len()..).unwrap_or_default();
    key.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sectioned_variables_of_ours_are_overrides() {
        let environment: Environment = [
            ("RINGMESH_LIMITS__MESSAGE_RATE", "7"),
            ("RINGMESH_ADMIN_TOKEN", "secret"),
            ("RINGMESH_LOG_LEVEL", "debug"),
            ("ringmesh_log__level", "debug"),
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
            overrides.others(),
            ["RINGMESH_LOG_LEVEL", "ringmesh_log__level"]
        );
        assert_eq!(
            variable_of("limits.message_rate"),
            "RINGMESH_LIMITS__MESSAGE_RATE"
        );
    }

    #[test]
    fn what_kubernetes_says_of_its_services_is_not_ours() {
        let environment: Environment = [
            "RINGMESH_SERVICE_HOST",
            "RINGMESH_SERVICE_PORT",
            "RINGMESH_SERVICE_PORT_WS",
            "RINGMESH_PORT",
            "RINGMESH_PORT_8080_TCP",
            "RINGMESH_PORT_8080_TCP_ADDR",
            "RINGMESH_PORTS",
            "RINGMESH_ADMIN_SERVICE_HOST",
            "RINGMESH_ADMIN_PORT",
            "RINGMESH_STORE_PORT",
        ]
        .into_iter()
        .map(|name| (name, "tcp://10.0.0.1:8080"))
        .collect();
        let overrides = Overrides::from_environment(&environment).unwrap();
        assert_eq!(
            overrides.others(),
            ["RINGMESH_PORTS", "RINGMESH_STORE_PORT"]
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
