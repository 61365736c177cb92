//! What an attack found: checks against stated bounds, and the figures around them.

use serde::Serialize;

use crate::abuse::statistics::Latencies;

/// What counts as the strangers' p99 without the attack, ms: less or more than that measures the
/// machine and not the server.
const QUIET_MS: std::ops::RangeInclusive<f64> = 2.0..=10.0;
/// How many times as long strangers may wait during most attacks: tens of ms on a quiet machine.
pub(super) const STRANGERS_TIMES: f64 = 30.0;
/// The same by what was seen, where the machine was busy before: busy does not mean guilty.
const BUSY_TIMES: f64 = 3.0;

/// One statement that holds or does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What is judged.
    pub what: String,
    /// What was seen.
    pub seen: String,
    /// What is right.
    pub bound: String,
    /// Whether it is.
    pub passed: bool,
    /// It is about time, which a busy machine takes more of.
    pub is_timed: bool,
}

impl Check {
    /// `seen` must be at most `bound`; both in `unit`.
    pub(super) fn at_most(what: &str, seen: f64, bound: f64, unit: &str) -> Check {
        Check::new(what, seen <= bound, with_unit(seen, unit), {
            format!("at most {}", with_unit(bound, unit))
        })
    }

    /// `seen` must be at least `bound`; both in `unit`.
    pub(super) fn at_least(what: &str, seen: f64, bound: f64, unit: &str) -> Check {
        Check::new(what, seen >= bound, with_unit(seen, unit), {
            format!("at least {}", with_unit(bound, unit))
        })
    }

    /// A count must be exactly this.
    pub(super) fn equal(what: &str, seen: u64, right: u64) -> Check {
        Check::new(what, seen == right, seen.to_string(), right.to_string())
    }

    /// The general form.
    pub(super) fn new(what: &str, passed: bool, seen: String, bound: String) -> Check {
        Check {
            what: what.into(),
            seen,
            bound,
            passed,
            is_timed: false,
        }
    }

    /// The same, about time.
    pub(super) fn timed(self) -> Check {
        Check {
            is_timed: true,
            ..self
        }
    }

    /// Strangers may wait so many `times` as long as without the attack, at the 99th percentile, or
    /// [`BUSY_TIMES`] where that is more.
    pub(super) fn strangers(
        before: Option<Latencies>,
        during: Option<Latencies>,
        times: f64,
    ) -> Check {
        let what = "strangers' p99";
        let (Some(before), Some(during)) = (before, during) else {
            let seen = "no message of theirs arrived".into();
            return Check::new(what, false, seen, "they are served".into());
        };
        let quiet_ms = before.p99_ms.clamp(*QUIET_MS.start(), *QUIET_MS.end());
        let bound_ms = (quiet_ms * times).max(before.p99_ms * BUSY_TIMES);
        Check::at_most(what, during.p99_ms, bound_ms, "ms").timed()
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    let digits = if value.fract() == 0.0 { 0 } else { 1 };
    let space = if unit.is_empty() { "" } else { " " };
    format!("{value:.digits$}{space}{unit}")
}

/// Where a row got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// All checks hold.
    Pass,
    /// One does not, or the attack met something it does not know.
    Fail,
    /// It was not tried, because something it needs is missing.
    Skipped,
}

/// Everything about one row.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// The outcome.
    pub verdict: Verdict,
    /// Resident memory of the server when the attack began, MB.
    pub memory_before_mb: Option<f64>,
    /// The most of it meanwhile, MB.
    pub memory_peak_mb: Option<f64>,
    /// What of it was there at the end, MB.
    pub memory_after_mb: Option<f64>,
    /// Strangers' median and p99 before, ms.
    pub strangers_before_ms: Option<(f64, f64)>,
    /// Strangers' median, p99 and maximum during the attack, ms.
    pub strangers_during_ms: Option<(f64, f64, f64)>,
    /// How long the attack took, seconds.
    pub seconds: f64,
    /// What the attacker saw.
    pub saw: Vec<String>,
    /// What was judged.
    pub checks: Vec<Check>,
}

impl Report {
    /// A row of which nothing is known yet.
    pub(super) fn new(name: &'static str, shows: &'static str) -> Report {
        Report {
            name,
            shows,
            verdict: Verdict::Skipped,
            memory_before_mb: None,
            memory_peak_mb: None,
            memory_after_mb: None,
            strangers_before_ms: None,
            strangers_during_ms: None,
            seconds: 0.0,
            saw: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// The verdict that the checks give, or those of them that are not about time.
    pub(super) fn judge(&mut self, by_counts: bool) {
        let mut judged = self.checks.iter().filter(|it| !by_counts || !it.is_timed);
        let is_good = !self.checks.is_empty() && judged.all(|it| it.passed);
        self.verdict = if is_good {
            Verdict::Pass
        } else {
            Verdict::Fail
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(p99_ms: f64) -> Option<Latencies> {
        Some(Latencies {
            count: 100,
            p50_ms: 0.1,
            p99_ms,
            max_ms: p99_ms,
        })
    }

    #[test]
    fn strangers_are_judged_by_ratio_within_bounds() {
        let passed = |before, during| Check::strangers(before, during, 30.0).passed;
        assert!(passed(latencies(0.1), latencies(60.0)), "a floor");
        assert!(!passed(latencies(0.1), latencies(60.1)));
        assert!(passed(latencies(5.0), latencies(150.0)), "the ratio");
        assert!(!passed(latencies(50.0), latencies(301.0)), "a ceiling");
        assert!(passed(latencies(200.0), latencies(600.0)), "a busy machine");
        assert!(!passed(latencies(5.0), None), "nobody was served");
        let in_a_storm = |during| Check::strangers(latencies(5.0), during, 5.0).passed;
        assert!(in_a_storm(latencies(25.0)) && !in_a_storm(latencies(25.1)));
    }

    #[test]
    fn one_check_that_does_not_hold_fails_the_row_and_so_do_none() {
        let mut report = Report::new("x", "y");
        report.judge(false);
        assert_eq!(report.verdict, Verdict::Fail);
        report.checks.push(Check::at_most("memory", 3.0, 3.0, "MB"));
        report.judge(false);
        assert_eq!(report.verdict, Verdict::Pass);
        report.checks.push(Check::equal("answers", 49, 50));
        report.judge(false);
        assert_eq!(report.verdict, Verdict::Fail);
        assert_eq!(report.checks[0].bound, "at most 3 MB");
    }

    #[test]
    fn time_is_judged_unless_only_counts_are() {
        let mut report = Report::new("x", "y");
        let slow = Check::at_most("time", 9.0, 5.0, "s").timed();
        report.checks = vec![Check::equal("answers", 50, 50), slow];
        for (by_counts, verdict) in [(false, Verdict::Fail), (true, Verdict::Pass)] {
            report.judge(by_counts);
            assert_eq!(report.verdict, verdict);
        }
    }
}
