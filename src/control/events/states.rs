//! The states that warnings are made of, and how much each matters.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::events::kind::Cause;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// It should be looked at.
    Warn,
    /// Clients are turned away or will be, or changes are lost.
    Critical,
}

impl Severity {
    /// How much a code matters, if nothing else is known.
    pub(super) const fn of(code: Cause) -> Self {
        match code {
            Cause::AcceptPaused | Cause::DescriptorsLow | Cause::StoreFailed => Self::Critical,
            _ => Self::Warn,
        }
    }
}

/// A state, and how often it was found. Times are nanoseconds on the monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub severity: Severity,
    pub since_ns: u64,
    pub last_ns: u64,
    pub logged_ns: u64,
    pub count: u64,
    pub detail: String,
    /// It holds until it is taken back.
    pub holds: bool,
}

/// All that there is to look at.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<BTreeMap<Cause, State>>);

impl Warnings {
    /// All of them, by code.
    pub(super) fn states(&self) -> MutexGuard<'_, BTreeMap<Cause, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
