//! Rows and their verdicts, for people.

use std::fmt::Write;

use crate::abuse::rows::Row;
use crate::abuse::verdict::{Report, Verdict};

/// What each row shows and needs.
pub(super) fn list(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        // Writing to a String does not fail.
        let _written = writeln!(
            out,
            "{:<24} {}\n{:24} needs: {}",
            row.name, row.shows, "", row.needs
        );
    }
    out
}

/// One row with all its figures.
pub(super) fn of_row(report: &Report) -> String {
    let mut out = format!("{}: {}\n", report.name, word(report.verdict));
    let mut line = |text: String| out += &format!("  {text}\n");
    if let (Some(before), Some(peak)) = (report.memory_before_mb, report.memory_peak_mb) {
        let after = report.memory_after_mb;
        let after = after.map_or("the end".into(), |it| format!("{it:.1}"));
        line(format!(
            "memory: {before:.1} MB, at most {peak:.1}, then {after}"
        ));
    }
    if let (Some((p50, p99)), Some(during)) =
        (report.strangers_before_ms, report.strangers_during_ms)
    {
        let (p50_during, p99_during, max) = during;
        line(format!(
            "strangers: p50 {p50:.2} ms, p99 {p99:.2}; in {:.1} s of attack p50 {p50_during:.2}, \
             p99 {p99_during:.2}, max {max:.1}",
            report.seconds
        ));
    }
    report
        .saw
        .iter()
        .for_each(|saw| line(format!("seen: {saw}")));
    for check in &report.checks {
        let mark = match (check.passed, report.verdict) {
            (true, _) => "ok  ",
            // It was not judged.
            (false, Verdict::Pass) => "slow",
            (false, _) => "FAIL",
        };
        line(format!(
            "{mark} {}: {} ({})",
            check.what, check.seen, check.bound
        ));
    }
    out
}

/// All of them, one line each.
pub(super) fn of_all(reports: &[Report]) -> String {
    let mut out = format!(
        "\n{:<24} {:<7} {:>22} {:>17} {:>26}  {}\n",
        "row", "verdict", "memory MB", "quiet p50/p99 ms", "attack p50/p99/max ms", "what failed"
    );
    for report in reports {
        let memory = match (report.memory_before_mb, report.memory_peak_mb) {
            (Some(before), Some(peak)) => format!("{before:.0} to {peak:.0}"),
            _ => "-".into(),
        };
        let quiet = report.strangers_before_ms;
        let quiet = quiet.map_or("-".into(), |(p50, p99)| format!("{p50:.2}/{p99:.2}"));
        let attack = report.strangers_during_ms;
        let attack = attack.map_or("-".into(), |(p50, p99, max)| {
            format!("{p50:.2}/{p99:.1}/{max:.0}")
        });
        let failed = report.checks.iter().filter(|check| !check.passed);
        let failed: Vec<_> = failed
            .map(|check| format!("{}: {}", check.what, check.seen))
            .collect();
        let failed = failed.join("; ");
        let line = format!(
            "{:<24} {:<7} {memory:>22} {quiet:>17} {attack:>26}  {failed}",
            report.name,
            word(report.verdict)
        );
        out += line.trim_end();
        out.push('\n');
    }
    out
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Skipped => "skipped",
    }
}
