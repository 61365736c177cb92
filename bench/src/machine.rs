//! What the kernel says about this machine and its processes: cores, limits, CPU time and memory.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use core_affinity::CoreId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The wall clock, in milliseconds.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

/// Who runs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The core of the server under test.
    pub server: usize,
    /// The core of the load: another one, if this process may use two.
    pub load: usize,
    /// How many this process may use.
    pub count: usize,
}

impl Cores {
    /// As they were found at the first call, which has to come before a thread is pinned: what it
    /// starts afterwards may only use that core.
    pub fn get() -> Self {
        static CORES: OnceLock<Cores> = OnceLock::new();
        *CORES.get_or_init(|| {
            let ids = core_affinity::get_core_ids().unwrap_or_default();
            let server = ids.first().map_or(0, |core| core.id);
            Self {
                server,
                load: ids.get(1).map_or(server, |core| core.id),
                count: ids.len().max(1),
            }
        })
    }
}

/// Keeps the calling thread, and what it starts, on a core.
///
/// # Errors
/// When this process may not use it.
pub fn pin(core: usize) -> io::Result<()> {
    match core_affinity::set_for_current(CoreId { id: core }) {
        true => Ok(()),
        false => Err(io::Error::other(format!("core {core} is not available"))),
    }
}

/// Raises the limit on open files as far as it goes. Returns how far that is.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.unwrap_or(u64::MAX)
}

/// CPU time of the calling thread.
#[must_use]
pub fn own_thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// CPU time of this process, with what the kernel's threads do in its name.
#[must_use]
pub fn own_cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

fn clock(id: ClockId) -> Duration {
    // Neither clock is ever negative.
    Duration::try_from(clock_gettime(id)).unwrap_or_default()
}

/// CPU time of all threads of a process that are alive.
#[must_use]
pub fn process_cpu(pid: u32) -> Duration {
    threads_cpu(pid, "")
}

/// CPU time of those whose name begins like that.
#[must_use]
pub fn threads_cpu(pid: u32, name: &str) -> Duration {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let is_named = |task: &Path| {
        name.is_empty()
            || fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name))
    };
    tasks
        .flatten()
        .map(|task| task.path())
        .filter(|task| is_named(task))
        .filter_map(|task| schedstat(&task.join("schedstat").to_string_lossy()))
        .sum()
}

/// CPU time of a core's `ksoftirqd`: where the kernel goes on when a core has too much network
/// work for the moment. Zero where the thread cannot be seen.
#[must_use]
pub fn ksoftirqd_cpu(core: usize) -> Duration {
    let name = format!("ksoftirqd/{core}\n");
    let Ok(processes) = fs::read_dir("/proc") else {
        return Duration::ZERO;
    };
    // Kernel threads have low numbers, and one of them is what we look for.
    let mut pids: Vec<u32> = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect();
    pids.sort_unstable();
    pids.iter()
        .find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it == name))
        .and_then(|pid| schedstat(&format!("/proc/{pid}/schedstat")))
        .unwrap_or_default()
}

/// The CPU time of a server from some moment on, what the kernel does for it included.
#[derive(Debug)]
pub struct CpuMeter {
    pid: u32,
    core: usize,
    before: Duration,
}

impl CpuMeter {
    /// From now on, for a process on that core.
    #[must_use]
    pub fn start(pid: u32, core: usize) -> Self {
        let before = process_cpu(pid) + ksoftirqd_cpu(core);
        Self { pid, core, before }
    }

    /// Microseconds for each of so many units.
    #[must_use]
    pub fn per_unit_us(&self, units: u64) -> f64 {
        let now = process_cpu(self.pid) + ksoftirqd_cpu(self.core);
        now.saturating_sub(self.before).as_secs_f64() * 1e6 / units.max(1) as f64
    }
}

/// Resident memory of a process, in bytes.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    kilobytes(&format!("/proc/{pid}/status"), "VmRSS:") * 1_024
}

/// Slab memory of the kernel that it cannot give back: sockets and descriptors among others,
/// in bytes.
#[must_use]
pub fn unreclaimable_slab_bytes() -> u64 {
    kilobytes("/proc/meminfo", "SUnreclaim:") * 1_024
}

/// The median of some figures; zero of none.
#[must_use]
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures {
        [] => 0.0,
        _ => (figures[(figures.len() - 1) / 2] + figures[figures.len() / 2]) / 2.0,
    }
}

fn schedstat(file: &str) -> Option<Duration> {
    let text = fs::read_to_string(file).ok()?;
    let on_cpu_ns = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(on_cpu_ns))
}

fn kilobytes(file: &str, name: &str) -> u64 {
    fs::read_to_string(file)
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name))?
                .trim();
            line.split(' ').next()?.parse().ok()
        })
        .unwrap_or_default()
}
