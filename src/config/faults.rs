//! All faults of a configuration at once, where a start is refused at the first.
//!
//! Each fault is found as a start would find it. A faulty value then counts as left out, and the
//! rest is read on; what would follow from the fault alone is not told.

use std::path::Path;

use super::document::Document;
use super::error::{Clipped, ConfigError, Place};
use super::model::Config;
use super::overrides::{Environment, Overrides};
use super::settings::{self, Defaults};
use crate::bounded_file::{self, CONFIG_BYTES_MAX};

/// Faults after which nobody wants to read more.
const FAULTS_MAX: usize = 100;

/// A fault, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocatedFault {
    /// `FILE:LINE:COLUMN`, `FILE`, or the name of a variable.
    pub place: String,
    /// Key, cause and remedy, on one line.
    pub text: String,
}

/// Returns all faults of a file for `serve` and of the environment, and the configuration as it
/// is without them; `None` where that cannot be told.
pub(crate) fn faults(
    path: &Path,
    environment: &Environment,
) -> (Vec<LocatedFault>, Option<Config>) {
    let text = match bounded_file::read_text(path, CONFIG_BYTES_MAX) {
        Ok(text) => text,
        // It says so itself.
        _ => {
            let error = Config::load(path, environment).err();
            return (error.iter().map(|error| located(error, "")).collect(), None);
        }
    };
    let mut errors = Vec::new();
    let mut environment = environment.clone();
    let overrides = loop {
        match Overrides::from_environment(&environment) {
            Ok(overrides) => break overrides,
            Err(error) => {
                // One variable, which is no text.
                let others = environment.without(&error.place.to_string());
                errors.push(error);
                environment = others;
            }
        }
    };
    let (document, mut found) = Document::collecting(path, &text, &overrides);
    let config = document.and_then(|document| {
        let resolved = settings::resolve(&document, &Defaults::serve(), &environment);
        found.append(&mut document.take_faults());
        // What cannot be read on behind is an error even here.
        resolved.map_err(|error| found.push(error)).ok()
    });
    // Those of the file in its order, then those of variables.
    found.sort_by_key(|error| match &error.place {
        Place::File(_) => 0,
        Place::Line { offset, .. } | Place::Key { offset, .. } => *offset,
        Place::Override(_) => usize::MAX,
    });
    errors.splice(0..0, found);
    errors.truncate(FAULTS_MAX);
    let located = errors.iter().map(|error| located(error, &text)).collect();
    let config = config.map(|config| Config {
        file: Some(path.to_owned()),
        ..config
    });
    (located, config)
}

fn located(error: &ConfigError, text: &str) -> LocatedFault {
    let at = |path: &Path, offset: usize| {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = 1 + before.matches('\n').count();
        let column = 1 + before[line_start..].chars().count();
        format!("{}:{line}:{column}", path.display())
    };
    match &error.place {
        Place::File(path) => LocatedFault {
            place: path.display().to_string(),
            text: error.fault.to_string(),
        },
        Place::Line { path, offset, .. } => LocatedFault {
            place: at(path, *offset),
            text: error.fault.to_string(),
        },
        Place::Key {
            path, offset, key, ..
        } => LocatedFault {
            place: at(path, *offset),
            text: format!("{}: {}", Clipped::key(key), error.fault),
        },
        Place::Override(name) => LocatedFault {
            place: name.clone(),
            text: error.fault.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, variables: &[(&str, &str)], expected: &[(&str, &str)]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.toml");
        std::fs::write(&path, text).unwrap();
        let (found, config) = faults(&path, &variables.iter().copied().collect());
        let start = format!("{}:", path.display());
        let found: Vec<_> = found
            .iter()
            .map(|fault| {
                let place = fault.place.strip_prefix(&start).unwrap_or(&fault.place);
                (place.to_owned(), fault.text.clone())
            })
            .collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (place, part) in expected {
            let is_it = |(at, text): &(String, String)| at == place && text.contains(part);
            assert!(found.iter().any(is_it), "{place} {part}: {found:?}");
        }
        let is_toml = !expected.iter().any(|(_, part)| part.contains("TOML"));
        assert_eq!(config.is_some(), is_toml);
    }

    #[test]
    fn all_faults_are_found_at_once() {
        check("", &[], &[]);
        check("[server]\nlisten = [\n", &[], &[("2:11", "not TOML")]);
        check(
            "[limits]\nmessage_rat = 1\nmessage_burst = \"x\"\n  head_bytes = -1\n[limitz]\n\
             [server]\nlisten = [\"127.0.0.1:80\", \"nowhere\"]\n",
            &[("RINGMESH_LIMITS__MESSAGE_RATE", "fast")],
            &[
                (
                    "2:1",
                    "limits.message_rat: unknown key; did you mean limits.message_rate?",
                ),
                ("3:17", "limits.message_burst: expected"),
                ("4:16", "limits.head_bytes: expected"),
                ("5:2", "limitz: unknown key"),
                ("7:27", "server.listen: expected"),
                ("RINGMESH_LIMITS__MESSAGE_RATE", "fast"),
            ],
        );
    }

    #[test]
    fn what_was_typed_is_shown_in_lines_that_can_be_read() {
        let long = "1".repeat(3_500);
        for text in [
            format!("limits.message_rate = {long}"),
            format!("limits.message_rate = {long}.5"),
            format!("limits.message_rate = 1{long}e5"),
            format!("limits.message_rate = 0x{long}"),
            format!("limits.message_rate = \"{long}\""),
            format!("limits.{long} = 1"),
            format!("limits.{long} = {long}"),
            format!("server.listen = [\"{long}\"]"),
            format!("[[apps]]\nid = \"{long}\""),
            format!("[[apps]]\nid = \"a\"\n[[apps.keys]]\nid = \"pk_live_{long}\"\nodd = 1"),
            format!("[[apps]]\nid = \"a\"\n[[apps.history]]\nchannels = \"{long}\\\\\""),
            format!("tls.certificate = \"{long}\""),
            format!("tls.certificate = {long}"),
            format!("log.level = \"{long}\""),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("r.toml");
            std::fs::write(&path, &text).unwrap();
            let (found, _) = faults(&path, &Environment::default());
            assert!(!found.is_empty(), "{text}");
            for fault in found {
                let length = fault.text.len();
                assert!(length < 1_500, "{length} bytes: {}", fault.text);
            }
            let error = Config::from_text(&path, &text, &Environment::default()).err();
            let line = error.map(|error| error.to_string()).unwrap_or_default();
            let length = line.len() - path.display().to_string().len();
            assert!(length < 1_500, "{length} bytes: {line}");
        }
    }

    #[test]
    fn faults_of_apps_are_found_too() {
        check(
            "[[apps]]\nid = \"a\"\n[[apps.keys]]\nid = \"pk_live_x\"\n\
             channel_patterns = [\"a\\\\\"]\nactions = [\"fly\"]\n[[apps]]\nname = \"b\"\n",
            &[],
            &[
                ("5:1", "channel_patterns"),
                ("6:1", "apps.keys.actions: \"fly\""),
                ("7:1", "apps.id: missing"),
            ],
        );
    }

    #[test]
    fn a_fault_hides_no_other_and_brings_none_along() {
        let key = |id: &str, rest: &str| {
            format!("[[apps.keys]]\nid = \"{id}\"\nactions = [\"fly\"]\n{rest}\n")
        };
        let secret = "channel_patterns = [\"**\"]\nsigning_secret_file = \"none\"\n\
                      api_secret_env = \"UNSET\"";
        let app = "[[apps]]\nid = \"a\"\n";
        let (one, other) = (key("sk_id_a", secret), key("odd", secret));
        let text = format!("{app}{one}{other}{app}");
        check(
            &text,
            &[],
            &[
                ("5:1", "apps.keys.actions: \"fly\""),
                ("7:1", "apps.keys.signing_secret_file: "),
                ("8:1", "the variable it names is not set"),
                ("10:6", "apps.keys.id: expected"),
                ("11:1", "apps.keys.actions: \"fly\""),
                ("13:1", "apps.keys.signing_secret_file: "),
                ("14:1", "the variable it names is not set"),
                ("16:1", "another app has this id"),
            ],
        );
    }

    #[test]
    fn each_item_of_a_list_is_looked_at() {
        check(
            "[server]\ntrusted_proxies = [\"x\", \"y\"]\nproxy_protocol = true\n\
             cores = [0, 0, 1, 1]\nlisten = [\"127.0.0.1:7464\", \"odd\"]\n[admin]\n\
             listen = \"127.0.0.1:8080\"\n",
            &[],
            &[
                ("2:20", "found string \"x\""),
                ("2:25", "found string \"y\""),
                ("4:1", "core 0 is there twice"),
                ("4:1", "core 1 is there twice"),
                ("5:29", "found string \"odd\""),
            ],
        );
    }

    #[test]
    fn a_key_that_is_there_twice_is_named_and_the_rest_is_read() {
        check(
            "[limits]\nhead_bytes = 2048\nhead_bytes = 4096\n[limitz]\n",
            &[],
            &[
                ("3:1", "head_bytes is there twice"),
                ("4:2", "limitz: unknown key"),
            ],
        );
    }
}
