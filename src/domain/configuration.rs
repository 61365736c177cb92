//! What an operator is told about the configuration: where each value comes from, and what a
//! reload did.

use serde::Serialize;

/// A key of the configuration, as it holds or as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Dotted, `limits.message_rate`.
    pub key: String,
    /// As a file would have it, in TOML.
    pub value: String,
    /// What it is when nobody sets it.
    pub default: String,
    /// `FILE:LINE`, the name of a variable or argument, or `default`.
    pub origin: String,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadReport {
    /// Keys whose new values hold now.
    pub applied: Vec<String>,
    /// Keys whose new values hold from the next start on.
    pub needs_restart: Vec<NeedsRestart>,
    /// What was not taken, and why.
    pub errors: Vec<String>,
}

impl ReloadReport {
    /// A reload that changed nothing, and why.
    #[must_use]
    pub fn failed(why: impl Into<String>) -> Self {
        Self {
            errors: vec![why.into()],
            ..Self::default()
        }
    }
}

/// A key that a running server cannot follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeedsRestart {
    /// Dotted.
    pub key: String,
    /// Where its new value comes from.
    pub place: String,
}
