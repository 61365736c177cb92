//! The figures of a run, and the medians of several, as text.

use std::fmt::Write;

use crate::report::result::{RunResult, Series, median_of};
use crate::report::units::{bytes, count, duration, is_resolved, percentile};

/// Percentiles of the table.
pub(crate) const COLUMNS: [(&str, f64); 7] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
    ("max", 100.0),
    ("min", 0.0),
];

/// One run.
pub(crate) fn of_run(run: &RunResult) -> String {
    let mut out = String::new();
    let per_s = |n: u64| count(n as f64 / run.seconds);
    put(
        &mut out,
        format_args!("{} ({}, {})", title(run), seconds(run), run.url),
    );
    let connections = count(f64::from(run.connections));
    if run.sent + run.received == 0 {
        put(
            &mut out,
            format_args!("  {connections} connections, all open to the end"),
        );
    } else {
        put(
            &mut out,
            format_args!(
                "  {connections} connections; sent {} ({}/s), received {} ({}/s); verified {}: \
                 each once, in order",
                count(run.sent as f64),
                per_s(run.sent),
                count(run.received as f64),
                per_s(run.received),
                count(run.verified as f64),
            ),
        );
    }
    for series in &run.series {
        put(
            &mut out,
            format_args!("  {:<20} {}", series.name, quantiles(series)),
        );
    }
    if let Some(server) = &run.server {
        put(
            &mut out,
            format_args!(
                "  server  CPU {:.1}% of a core (user {:.2} s, system {:.2} s, ksoftirqd {}){}",
                server.cores * 100.0,
                server.user_ns as f64 / 1e9,
                server.system_ns as f64 / 1e9,
                duration(server.ksoftirqd_ns),
                server.cpu_ns_per_unit.map_or(String::new(), |ns| {
                    format!("; {} per {}", duration(ns as u64), run.unit)
                }),
            ),
        );
        put(
            &mut out,
            format_args!(
                "  memory  {} before, {} ready, {} at the end{}",
                bytes(server.rss_before_bytes as f64),
                bytes(server.rss_ready_bytes as f64),
                bytes(server.rss_end_bytes as f64),
                per_connection(run),
            ),
        );
    }
    let own = run.load.cpu_ns_per_unit.map_or(String::new(), |ns| {
        format!("; {} per {}", duration(ns as u64), run.unit)
    });
    put(
        &mut out,
        format_args!(
            "  harness CPU {:.1}% of {} core(s){own}; sent late by {} (p99), {} (max)",
            run.load.busy * 100.0,
            run.load.cores.len(),
            duration(run.load.lag_p99_ns),
            duration(run.load.lag_max_ns),
        ),
    );
    for note in &run.notes {
        put(&mut out, format_args!("  note: {note}"));
    }
    out
}

/// Medians of the repetitions of one run; nothing for a single one.
pub(crate) fn of_repetitions(runs: &[&RunResult]) -> String {
    let [first, _, ..] = runs else {
        return String::new();
    };
    let mut out = String::new();
    put(
        &mut out,
        format_args!("{}: medians of {} runs", first.name, runs.len()),
    );
    for figure in figures(first) {
        let Some(median) = median_of(runs, |run| figure.value(run)) else {
            continue;
        };
        let all = runs.iter().filter_map(|run| figure.value(run));
        let (low, high) = all.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        put(
            &mut out,
            format_args!(
                "  {:<36} {:>10}   ({} to {})",
                figure.name,
                figure.text(median),
                figure.text(low),
                figure.text(high)
            ),
        );
    }
    out
}

/// Takes a figure from a run.
type ValueOf = dyn Fn(&RunResult) -> Option<f64>;

/// One comparable figure of a run.
pub(crate) struct Figure {
    /// What it is.
    pub name: String,
    unit: Unit,
    of: Box<ValueOf>,
}

enum Unit {
    Nanoseconds,
    Bytes,
    PerSecond,
}

impl Figure {
    /// Its value in `run`, if it has one.
    pub(crate) fn value(&self, run: &RunResult) -> Option<f64> {
        (self.of)(run)
    }

    /// A value of it, with its unit.
    pub(crate) fn text(&self, value: f64) -> String {
        match self.unit {
            Unit::Nanoseconds => duration(value.max(0.0) as u64),
            Unit::Bytes => bytes(value),
            Unit::PerSecond => format!("{}/s", count(value)),
        }
    }
}

/// The figures worth a median or a comparison, for runs like `example`.
pub(crate) fn figures(example: &RunResult) -> Vec<Figure> {
    fn figure(
        name: String,
        unit: Unit,
        of: impl Fn(&RunResult) -> Option<f64> + 'static,
    ) -> Figure {
        Figure {
            name,
            unit,
            of: Box::new(of),
        }
    }
    let mut figures = vec![
        figure(
            format!("server CPU per {}", example.unit),
            Unit::Nanoseconds,
            |run| run.server.as_ref()?.cpu_ns_per_unit,
        ),
        figure(
            format!("harness CPU per {}", example.unit),
            Unit::Nanoseconds,
            |run| run.load.cpu_ns_per_unit,
        ),
        figure("received".into(), Unit::PerSecond, |run| {
            (run.received > 0).then(|| run.received as f64 / run.seconds)
        }),
        figure("server memory per connection".into(), Unit::Bytes, |run| {
            run.server.as_ref()?.rss_bytes_per_connection
        }),
        figure("kernel memory per connection".into(), Unit::Bytes, |run| {
            run.server.as_ref()?.sunreclaim_bytes_per_connection
        }),
    ];
    for series in &example.series {
        for (column, percentile) in &COLUMNS[..6] {
            let (name, percentile) = (series.name.clone(), *percentile);
            figures.push(figure(
                format!("{name} {column}"),
                Unit::Nanoseconds,
                move |run| {
                    let series = run.series.iter().find(|series| series.name == name)?;
                    let is_resolved = is_resolved(series.count, percentile);
                    is_resolved.then(|| series.at(percentile) as f64)
                },
            ));
        }
    }
    figures
}

/// Length of the measured window.
pub(crate) fn seconds(run: &RunResult) -> String {
    duration((run.seconds * 1e9) as u64)
}

/// Name, with the repetition when it is not the first.
pub(crate) fn title(run: &RunResult) -> String {
    match run.repetition {
        0 | 1 => run.name.clone(),
        repetition => format!("{} #{repetition}", run.name),
    }
}

fn per_connection(run: &RunResult) -> String {
    let figures = run.server.as_ref().and_then(|server| {
        Some((
            server.rss_bytes_per_connection?,
            server.sunreclaim_bytes_per_connection?,
        ))
    });
    figures.map_or(String::new(), |(process, kernel)| {
        let (process, kernel) = (bytes(process), bytes(kernel));
        format!("; per connection {process} process, {kernel} kernel (both ends)")
    })
}

fn quantiles(series: &Series) -> String {
    let columns = COLUMNS[..6].iter();
    columns
        .map(|(name, p)| {
            let text = percentile(series.count, *p, series.at(*p));
            format!("{name} {text:<9}")
        })
        .collect::<String>()
        .trim_end()
        .to_owned()
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _infallible = writeln!(out, "{line}");
}

/// A run with a given cost per delivery.
#[cfg(test)]
pub(crate) fn example(repetition: u32, cpu_ns_per_unit: f64) -> RunResult {
    RunResult {
        name: "fanout".into(),
        repetition,
        command: "fanout".into(),
        url: "ws://h".into(),
        started_unix: 0,
        seconds: 10.0,
        unit: "delivery".into(),
        connections: 1001,
        sent: 800,
        received: 800_000,
        verified: 960_000,
        series: vec![Series {
            name: "delivery".into(),
            count: 800_000,
            mean_ns: 2e6,
            percentiles: vec![(50.0, 2_000_000), (99.0, 4_800_000), (100.0, 6_000_000)],
        }],
        timeline: Vec::new(),
        server: Some(crate::report::result::ServerFigures {
            cpu_ns_per_unit: Some(cpu_ns_per_unit),
            ..crate::report::result::ServerFigures::default()
        }),
        load: crate::report::result::LoadFigures {
            cores: vec![1],
            ..crate::report::result::LoadFigures::default()
        },
        notes: vec!["a note".into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_what_matters() {
        let text = of_run(&example(1, 2_990.0));
        for part in [
            "2.99 µs per delivery",
            "p99 4.80 ms",
            "verified 960,000",
            "note: a note",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn repetitions_are_reported_by_their_median() {
        let runs = [
            example(1, 3_000.0),
            example(2, 9_000.0),
            example(3, 3_100.0),
        ];
        let text = of_repetitions(&runs.iter().collect::<Vec<_>>());
        assert!(text.contains("medians of 3 runs"));
        assert!(text.contains("3.10 µs   (3.00 µs to 9.00 µs)"), "{text}");
        assert_eq!(of_repetitions(&[&runs[0]]), "");
    }
}
