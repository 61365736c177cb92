//! From what a run yielded to the figures of its result.

use hdrhistogram::Histogram;

use crate::clock::SECOND;
use crate::driver::conductor::Outcome;
use crate::driver::gathered::Interval;
use crate::measure::trend;
use crate::report::result::{LoadFigures, Point, RunResult, Series, ServerFigures};

/// Percentiles of a distribution, for tables and curves.
const PERCENTILES: [f64; 22] = [
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0, 97.5, 99.0, 99.5,
    99.9, 99.95, 99.99, 99.995, 99.999, 100.0,
];

/// What a run is called and where it went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Label {
    /// See [`RunResult::name`].
    pub name: String,
    /// See [`RunResult::repetition`].
    pub repetition: u32,
    /// See [`RunResult::command`].
    pub command: String,
    /// See [`RunResult::url`].
    pub url: String,
    /// See [`RunResult::started_unix`].
    pub started_unix: u64,
    /// See [`RunResult::unit`].
    pub unit: String,
    /// Names of the series.
    pub series: Vec<&'static str>,
    /// Load cores.
    pub cores: Vec<usize>,
    /// Whether they never slept.
    pub spins: bool,
}

/// Computes the figures of one run.
pub(crate) fn of_run(label: Label, outcome: &Outcome) -> RunResult {
    let window_ns = outcome.window.to_ns - outcome.window.from_ns;
    let received = outcome.counters.received;
    let cpu_ns = outcome.counters.cpu_ns;
    let load = LoadFigures {
        cpu_ns,
        cpu_ns_per_unit: per(cpu_ns as f64, received).filter(|_| !label.spins),
        busy: cpu_ns as f64 / (window_ns as f64 * label.cores.len().max(1) as f64),
        lag_p99_ns: outcome.lag.value_at_quantile(0.99),
        lag_max_ns: outcome.lag.max(),
        cores: label.cores,
    };
    let mut notes = outcome.verified.notes.clone();
    if load.busy > 0.85 && !label.spins {
        notes.push(format!(
            "the load cores were {:.0}% busy: latencies include the harness; use more --cores",
            load.busy * 100.0
        ));
    }
    let named = label.series.iter().zip(&outcome.series);
    RunResult {
        name: label.name,
        repetition: label.repetition,
        command: label.command,
        url: label.url,
        started_unix: label.started_unix,
        seconds: window_ns as f64 / SECOND as f64,
        unit: label.unit,
        // A storm has none before the load begins.
        connections: outcome
            .open_after_setup
            .max(outcome.counters.connected as u32),
        sent: outcome.counters.sent,
        received,
        verified: outcome.verified.messages,
        series: named
            .filter(|(_, h)| !h.is_empty())
            .map(|(n, h)| distribution(n, h))
            .collect(),
        timeline: timeline(outcome),
        server: server_figures(outcome),
        load,
        notes,
    }
}

fn distribution(name: &str, histogram: &Histogram<u64>) -> Series {
    let at = |p: f64| (p, histogram.value_at_quantile(p / 100.0));
    Series {
        name: name.to_owned(),
        count: histogram.len(),
        mean_ns: histogram.mean(),
        percentiles: PERCENTILES.into_iter().map(at).collect(),
    }
}

fn per(value: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| value / count as f64)
}

fn timeline(outcome: &Outcome) -> Vec<Point> {
    let interval_s = outcome.window.interval_ns as f64 / SECOND as f64;
    let one = |interval: &Interval| {
        let server = usize::try_from(interval.index)
            .ok()
            .and_then(|at| Some((outcome.samples.get(at)?, outcome.samples.get(at + 1)?)));
        let cores = server.map(|(then, now)| {
            now.cpu_ns.saturating_sub(then.cpu_ns) as f64 / (now.at_ns - then.at_ns).max(1) as f64
        });
        let latency = interval.latencies.iter().find(|latency| latency.count > 0);
        Point {
            at_s: (interval.index + 1) as f64 * interval_s,
            sent_per_s: interval.counters.sent as f64 / interval_s,
            received_per_s: interval.counters.received as f64 / interval_s,
            latency_ns: latency.map(|latency| (latency.p50, latency.p99, latency.max)),
            load_cores: interval.counters.cpu_ns as f64 / interval_s / SECOND as f64,
            server_cores: cores,
            rss_bytes: server.map(|(_, now)| now.rss_bytes),
        }
    };
    outcome.intervals.iter().map(one).collect()
}

fn server_figures(outcome: &Outcome) -> Option<ServerFigures> {
    let (before, ready) = (outcome.before?, outcome.ready?);
    let (from, to) = (outcome.from?, outcome.to?);
    let cpu_ns = to.cpu_ns.saturating_sub(from.cpu_ns);
    let ksoftirqd_ns = to.ksoftirqd_ns.saturating_sub(from.ksoftirqd_ns);
    let connections = u64::from(outcome.open_after_setup);
    let growth = |then: u64, now: u64| per(now as f64 - then as f64, connections);
    let memory: Vec<_> = outcome
        .samples
        .iter()
        .map(|s| {
            (
                (s.at_ns - from.at_ns) as f64 / (3600.0 * SECOND as f64),
                s.rss_bytes as f64,
            )
        })
        .collect();
    Some(ServerFigures {
        cpu_ns,
        user_ns: to.user_ns.saturating_sub(from.user_ns),
        system_ns: to.system_ns.saturating_sub(from.system_ns),
        ksoftirqd_ns,
        cores: cpu_ns as f64 / (to.at_ns - from.at_ns).max(1) as f64,
        cpu_ns_per_unit: per((cpu_ns + ksoftirqd_ns) as f64, outcome.counters.received),
        rss_before_bytes: before.rss_bytes,
        rss_ready_bytes: ready.rss_bytes,
        rss_end_bytes: to.rss_bytes,
        rss_bytes_per_connection: growth(before.rss_bytes, ready.rss_bytes),
        sunreclaim_bytes_per_connection: growth(before.sunreclaim_bytes, ready.sunreclaim_bytes),
        rss_bytes_per_hour: trend::fit(&memory).map(|trend| trend.slope),
    })
}
