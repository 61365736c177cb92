//! The result of a run as a value: what `--json` writes and `compare` reads.

use serde::{Deserialize, Serialize};

use crate::clock::SECOND;
use crate::driver::conductor::Outcome;
use crate::measure::trend::{self, median};

/// Version of the file format.
const FORMAT: u32 = 1;
/// Percentiles of a distribution, for tables and curves.
const PERCENTILES: [f64; 22] = [
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0, 97.5, 99.0, 99.5,
    99.9, 99.95, 99.99, 99.995, 99.999, 100.0,
];

/// A result file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResultFile {
    /// Version of the format.
    pub format: u32,
    /// Version of the harness.
    pub harness: String,
    /// Where it ran.
    pub machine: Machine,
    /// In the order they ran.
    pub runs: Vec<RunResult>,
}

/// Where a run took place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Processor model.
    pub processor: String,
    /// Its cores, whether this process may use them or not.
    pub cores: usize,
}

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunResult {
    /// Name given in the scenario, or the subcommand.
    pub name: String,
    /// 1 for the first of several repetitions.
    pub repetition: u32,
    /// The command line that repeats it, credentials left out.
    pub command: String,
    /// The server's URL.
    pub url: String,
    /// Unix time of its start.
    pub started_unix: u64,
    /// Length of the window, s.
    pub seconds: f64,
    /// What one `received` is.
    pub unit: String,
    /// Connections open when the load began.
    pub connections: u32,
    /// Sent in the window.
    pub sent: u64,
    /// Received in the window.
    pub received: u64,
    /// Checked to arrive once and in order, warm-up included.
    pub verified: u64,
    /// Latency series; those without a sample are left out.
    pub series: Vec<Series>,
    /// Over time, warm-up included.
    pub timeline: Vec<Point>,
    /// Present with `--server-pid`.
    pub server: Option<ServerFigures>,
    /// The harness's own figures.
    pub load: LoadFigures,
    /// Facts and warnings.
    pub notes: Vec<String>,
}

/// One latency distribution, in ns.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Samples.
    pub count: u64,
    /// Mean, ns.
    pub mean_ns: f64,
    /// Pairs of percentile and latency.
    pub percentiles: Vec<(f64, u64)>,
}

impl Series {
    /// The latency at one of the percentiles kept, ns.
    pub fn at(&self, percentile: f64) -> u64 {
        let found = self.percentiles.iter().find(|(p, _)| *p >= percentile);
        found.or(self.percentiles.last()).map_or(0, |(_, ns)| *ns)
    }
}

/// One interval.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Point {
    /// Its end, s from the beginning of the window; negative during warm-up.
    pub at_s: f64,
    /// Sent per second.
    pub sent_per_s: f64,
    /// Received per second.
    pub received_per_s: f64,
    /// p50, p99 and maximum of the first series with samples, ns.
    pub latency_ns: Option<(u64, u64, u64)>,
    /// Load CPU, in cores.
    pub load_cores: f64,
    /// Server CPU, in cores.
    pub server_cores: Option<f64>,
    /// Server memory.
    pub rss_bytes: Option<u64>,
}

/// CPU and memory of the server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServerFigures {
    /// CPU time in the window, ns.
    pub cpu_ns: u64,
    /// User part of it, ns, in steps of 10 ms.
    pub user_ns: u64,
    /// System part of it, ns, in steps of 10 ms.
    pub system_ns: u64,
    /// CPU time of ksoftirqd in the window, ns.
    pub ksoftirqd_ns: u64,
    /// Share of one core used in the window, ksoftirqd left out.
    pub cores: f64,
    /// CPU time per unit received, ksoftirqd included, ns.
    pub cpu_ns_per_unit: Option<f64>,
    /// Memory before the first connection.
    pub rss_before_bytes: u64,
    /// Memory after set-up.
    pub rss_ready_bytes: u64,
    /// Memory at the end of the window.
    pub rss_end_bytes: u64,
    /// Growth by set-up per connection.
    pub rss_bytes_per_connection: Option<f64>,
    /// The same of the kernel's unreclaimable slab, which holds the sockets of both sides.
    pub sunreclaim_bytes_per_connection: Option<f64>,
    /// Slope of memory over the window, bytes per hour.
    pub rss_bytes_per_hour: Option<f64>,
}

/// What the harness itself used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LoadFigures {
    /// Load cores.
    pub cores: Vec<usize>,
    /// CPU time of the load threads in the window, ns.
    pub cpu_ns: u64,
    /// Per unit received, ns.
    pub cpu_ns_per_unit: Option<f64>,
    /// Share of its cores that it used.
    pub busy: f64,
    /// How late it sent, p99, ns.
    pub lag_p99_ns: u64,
    /// How late it sent at worst, ns.
    pub lag_max_ns: u64,
}

/// What a run is called and where it went.
#[derive(Debug, Clone, Default)]
pub struct Label {
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

impl ResultFile {
    /// Of these runs, on this machine.
    pub fn new(runs: Vec<RunResult>) -> ResultFile {
        let harness = env!("CARGO_PKG_VERSION").to_owned();
        ResultFile {
            format: FORMAT,
            harness,
            machine: Machine::this(),
            runs,
        }
    }

    /// Whether this harness can read it.
    pub fn is_readable(&self) -> bool {
        self.format == FORMAT
    }
}

impl Machine {
    /// The one this process runs on.
    pub fn this() -> Machine {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let processor = model
            .and_then(|line| line.split_once(": "))
            .map_or("", |(_, name)| name);
        Machine {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            processor: processor.to_owned(),
            cores: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
        }
    }
}

impl RunResult {
    /// Computes the figures of one run.
    pub fn new(label: Label, outcome: &Outcome) -> RunResult {
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
}

fn distribution(name: &str, histogram: &hdrhistogram::Histogram<u64>) -> Series {
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
    let one = |interval: &crate::driver::gathered::Interval| {
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

/// Median of a figure over runs; those without it are left out.
pub fn median_of(runs: &[&RunResult], figure: impl Fn(&RunResult) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = runs.iter().filter_map(|run| figure(run)).collect();
    median(&values)
}
