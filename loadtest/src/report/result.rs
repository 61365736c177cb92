//! The result of a run as a value: what `--json` writes and `compare` reads.

use serde::{Deserialize, Serialize};

use crate::measure::trend::median;

/// Version of the file format.
const FORMAT: u32 = 1;
/// A result file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ResultFile {
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
pub(crate) struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Processor model.
    pub processor: String,
    /// Its cores, whether this process may use them or not.
    pub cores: usize,
}

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunResult {
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
pub(crate) struct Series {
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
    pub(crate) fn at(&self, percentile: f64) -> u64 {
        let found = self.percentiles.iter().find(|(p, _)| *p >= percentile);
        found.or(self.percentiles.last()).map_or(0, |(_, ns)| *ns)
    }
}

/// One interval.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Point {
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
pub(crate) struct ServerFigures {
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
pub(crate) struct LoadFigures {
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

impl ResultFile {
    /// Of these runs, on this machine.
    pub(crate) fn new(runs: Vec<RunResult>) -> ResultFile {
        let harness = env!("CARGO_PKG_VERSION").to_owned();
        ResultFile {
            format: FORMAT,
            harness,
            machine: Machine::this(),
            runs,
        }
    }

    /// Whether this harness can read it.
    pub(crate) fn is_readable(&self) -> bool {
        self.format == FORMAT
    }
}

impl Machine {
    /// The one this process runs on.
    pub(crate) fn this() -> Machine {
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

/// Median of a figure over runs; those without it are left out.
pub(crate) fn median_of(
    runs: &[&RunResult],
    figure: impl Fn(&RunResult) -> Option<f64>,
) -> Option<f64> {
    let values: Vec<f64> = runs.iter().filter_map(|run| figure(run)).collect();
    median(&values)
}
