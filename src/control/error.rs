//! Why the control plane refused or failed, by whose fault it is. Each text may be shown to the
//! client.

use std::fmt;

use crate::control::store::StoreError;

/// Why the control plane did not do what was asked.
#[derive(Debug)]
pub enum ControlError {
    /// The request: a field is missing, mistyped or out of range.
    Invalid(String),
    /// The request: there is no such app or key.
    NotFound(String),
    /// The request: the app or key is taken, or may not be changed here.
    Conflict(String),
    /// Ours: the store or the master key fails, or the server is starting or stopping.
    Unavailable(String),
}

impl ControlError {
    /// The HTTP status of the admin API.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) => 400,
            Self::NotFound(_) => 404,
            Self::Conflict(_) => 409,
            Self::Unavailable(_) => 503,
        }
    }

    /// `error` of the admin API's body.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_request",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Unavailable(_) => "internal_error",
        }
    }

    /// A field breaks a rule.
    #[must_use]
    pub fn field(field: &str, rule: &str) -> Self {
        Self::Invalid(format!("{field}: {rule}"))
    }

    /// There is no such app.
    #[must_use]
    pub fn no_app(app_id: &str) -> Self {
        Self::NotFound(format!("there is no app {app_id:?}"))
    }

    /// There is no such key.
    #[must_use]
    pub fn no_key(key_id: &str) -> Self {
        Self::NotFound(format!("there is no key {key_id:?}"))
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text)
            | Self::NotFound(text)
            | Self::Conflict(text)
            | Self::Unavailable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ControlError {}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
