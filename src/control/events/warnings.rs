//! What somebody should look at: states beside events, each with since when, how often and a
//! remedy.
//!
//! Some hold until they are taken back (a setting, a certificate that ends soon). Others have
//! happened, and are shown for an hour from the last time on, however the wall clock jumps.

use serde::Serialize;

use super::book::{Events, NS_PER_MS, unix_ms};
use super::json::time;
use super::states::{Severity, State};
use crate::events::kind::{Cause, Kind};
use crate::events::record::Record;
use crate::events::text::said;

/// How long what has happened is shown, and how often a state is logged, in nanoseconds.
const HOUR_NS: u64 = 60 * 60 * 1_000 * NS_PER_MS;

/// States that are logged by whoever finds them.
const LOGGED_ELSEWHERE: [Cause; 6] = [
    Cause::BareKeyIdAccepted,
    Cause::CertificateRefused,
    Cause::ClockStepped,
    Cause::ForwardedForUntrusted,
    Cause::ReloadNeedsRestart,
    Cause::TokenShort,
];

/// A warning as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct WarningJson {
    /// What it is called.
    pub code: &'static str,
    severity: Severity,
    since: String,
    last: String,
    count: u64,
    text: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    remedy: &'static str,
}

impl Events {
    /// Something has happened so many times that somebody should look at.
    pub(crate) fn warn(&self, code: Cause, detail: &str, count: u64) {
        self.take(code, Severity::of(code), detail, Some(count));
    }

    /// A state holds, with this to say of it; `None`: it does not, or not any more.
    pub(crate) fn hold(&self, code: Cause, detail: Option<&str>) {
        self.hold_as(code, Severity::of(code), detail);
    }

    /// The same, with how much it matters now.
    pub(crate) fn hold_as(&self, code: Cause, severity: Severity, detail: Option<&str>) {
        match detail {
            Some(detail) => self.take(code, severity, detail, None),
            None => {
                let mut states = self.warnings.states();
                if states.get(&code).is_some_and(|state| state.holds) {
                    states.remove(&code);
                }
            }
        }
    }

    fn take(&self, code: Cause, severity: Severity, detail: &str, count: Option<u64>) {
        let now_ns = (self.clock)().mono_ns;
        let mut states = self.warnings.states();
        if let Some(state) = states.get_mut(&code) {
            state.last_ns = now_ns;
            state.severity = severity;
            state.holds |= count.is_none();
            state.count += count.unwrap_or_default();
            detail.clone_into(&mut state.detail);
            return;
        }
        let state = State {
            severity,
            since_ns: now_ns,
            last_ns: now_ns,
            logged_ns: now_ns,
            count: count.unwrap_or(1),
            detail: detail.to_owned(),
            holds: count.is_none(),
        };
        if !LOGGED_ELSEWHERE.contains(&code) {
            log(code, &state);
        }
        states.insert(code, state);
        drop(states);
        let record = Record {
            second: detail,
            ..Record::new(Kind::Warning, code)
        };
        self.record(&record);
    }

    /// Returns what there is to look at, what matters most first.
    #[must_use]
    pub(crate) fn warnings(&self) -> Vec<WarningJson> {
        let now = (self.clock)();
        let states = self.warnings.states();
        let mut states: Vec<_> = states.iter().collect();
        states.sort_by_key(|(_, state)| (state.severity == Severity::Warn, state.since_ns));
        let shown = states.into_iter().map(|(code, state)| {
            let (text, remedy) = said(Kind::Warning, *code).unwrap_or_default();
            WarningJson {
                code: code.as_str(),
                severity: state.severity,
                since: time(unix_ms(state.since_ns, now)),
                last: time(unix_ms(state.last_ns, now)),
                count: state.count,
                text,
                detail: state.detail.clone(),
                remedy,
            }
        });
        shown.collect()
    }

    /// Forgets what has not happened for an hour, and logs what still is there.
    pub(super) fn tick_warnings(&self) {
        let now_ns = (self.clock)().mono_ns;
        let mut states = self.warnings.states();
        states.retain(|code, state| {
            if state.holds {
                state.last_ns = now_ns;
            } else if now_ns >= state.last_ns.saturating_add(HOUR_NS) {
                return false;
            }
            if now_ns >= state.logged_ns.saturating_add(HOUR_NS) {
                state.logged_ns = now_ns;
                log(*code, state);
            }
            true
        });
    }
}

fn log(code: Cause, state: &State) {
    let (text, remedy) = said(Kind::Warning, code).unwrap_or_default();
    let detail = match state.detail.is_empty() {
        true => String::new(),
        false => format!(" ({})", state.detail),
    };
    let (warning, count) = (code.as_str(), state.count);
    tracing::warn!(warning, count, "{text}{detail}; {remedy}");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::control::events::Moment;
    use crate::events::recorder::Privacy;

    #[test]
    fn what_has_happened_is_shown_for_an_hour_however_the_wall_clock_jumps() {
        let mono_ns = Arc::new(AtomicU64::new(HOUR_NS));
        let wall_ms = Arc::new(AtomicU64::new(1_772_366_000_000));
        let clock = {
            let (mono_ns, wall_ms) = (Arc::clone(&mono_ns), Arc::clone(&wall_ms));
            move || Moment {
                mono_ns: mono_ns.load(Ordering::Relaxed),
                unix_ms: wall_ms.load(Ordering::Relaxed),
            }
        };
        let events = Events::new(Vec::new(), Privacy::default(), Box::new(clock));
        events.warn(Cause::SlowConsumers, "", 1);
        // Two hours forward and back: nothing was forgotten, and nothing stays for longer.
        for jumped_ms in [2 * HOUR_NS / NS_PER_MS, 0] {
            wall_ms.store(1_772_366_000_000 + jumped_ms, Ordering::Relaxed);
            events.tick_warnings();
            assert_eq!(events.warnings().len(), 1, "{jumped_ms}");
        }
        mono_ns.fetch_add(HOUR_NS, Ordering::Relaxed);
        events.tick_warnings();
        assert_eq!(events.warnings(), []);
    }
}
