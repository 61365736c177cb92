//! What the process as a whole takes of the machine, as the kernel counts it.

use std::fs;

use rustix::process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior};
use rustix::time::{ClockId, clock_gettime};

use crate::metrics::report::ProcessReport;
use crate::metrics::text::{Kind, MetricsPage};
use crate::runtime::clock::{Clock, unix_ms};

/// When the process started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    clock: Clock,
    /// Read once: monitoring treats a changed start time as a restart.
    started_unix_ms: u64,
}

impl Process {
    /// This process. `clock` was started with it.
    #[must_use]
    pub(crate) fn since(clock: Clock) -> Self {
        Self {
            clock,
            started_unix_ms: unix_ms().saturating_sub(clock.now().mono_ms),
        }
    }
}

/// The process at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessUsage {
    uptime_ms: u64,
    started_unix_ms: u64,
    cpu_ns: u64,
    resident_bytes: u64,
    open_files: u64,
    open_files_max: Option<u64>,
    listen_overflows: Option<u64>,
}

impl ProcessUsage {
    /// Reads the numbers of the moment. What cannot be read is 0.
    #[must_use]
    pub(crate) fn read(of: &Process) -> Self {
        Self {
            uptime_ms: of.clock.now().mono_ms,
            started_unix_ms: of.started_unix_ms,
            cpu_ns: cpu_ns(ClockId::ProcessCPUTime),
            resident_bytes: resident_bytes().unwrap_or_default(),
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            open_files_max: getrlimit(Resource::Nofile).current,
            listen_overflows: fs::read_to_string("/proc/net/netstat")
                .ok()
                .and_then(|text| listen_overflows(&text)),
        }
    }

    /// As the node reports it, whose resident memory is held below that many bytes.
    #[must_use]
    pub(crate) fn report(&self, ceiling_bytes: u64) -> ProcessReport {
        ProcessReport {
            uptime_ms: self.uptime_ms,
            cpu_ms: self.cpu_ns / 1_000_000,
            resident_bytes: self.resident_bytes,
            resident_bytes_max: Some(ceiling_bytes),
            open_files: self.open_files,
            open_files_max: self.open_files_max,
            listen_overflows: self.listen_overflows,
        }
    }

    /// Appends it to a metrics page.
    pub(crate) fn append(&self, page: &mut MetricsPage) {
        let seconds = |ms: u64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
        page.single(
            Kind::Gauge,
            "process_start_time_seconds",
            "When the process started, as Unix time.",
            seconds(self.started_unix_ms),
        );
        page.single(
            Kind::Counter,
            "process_cpu_seconds_total",
            "CPU time of all threads.",
            seconds(self.cpu_ns / 1_000_000),
        );
        page.single(
            Kind::Gauge,
            "process_resident_memory_bytes",
            "Memory of the process (VmRSS).",
            self.resident_bytes,
        );
        page.single(
            Kind::Gauge,
            "process_open_fds",
            "Open file descriptors.",
            self.open_files,
        );
        if let Some(most) = self.open_files_max {
            page.single(
                Kind::Gauge,
                "process_max_fds",
                "File descriptors that may be open.",
                most,
            );
        }
        if let Some(count) = self.listen_overflows {
            page.single(
                Kind::Counter,
                "listen_overflows_total",
                "Connects that found a listen queue full, in the whole network namespace.",
                count,
            );
        }
    }
}

/// Keeps the secrets in this process's memory out of core dumps, and away from debuggers of
/// other users than root. Call it before the first secret is read.
///
/// # Errors
/// Those of `prctl(2)` with `PR_SET_DUMPABLE`, which has none for this value.
pub(crate) fn forbid_dumps() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// CPU time of the calling thread, in nanoseconds.
#[must_use]
pub(crate) fn thread_cpu_ns() -> u64 {
    cpu_ns(ClockId::ThreadCPUTime)
}

fn cpu_ns(clock: ClockId) -> u64 {
    const NS_PER_SEC: u64 = 1_000_000_000;
    let time = clock_gettime(clock);
    // Neither is ever negative.
    time.tv_sec as u64 * NS_PER_SEC + time.tv_nsec as u64
}

/// `VmRSS` of proc_pid_status(5), which counts in kB.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024)
}

/// `ListenOverflows` of the lines `TcpExt:` in proc_net(5)'s netstat: names, then values. It
/// counts all listeners of the network namespace.
fn listen_overflows(netstat: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs.find(|(name, _)| *name == "ListenOverflows")?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_a_limit() {
        let usage = ProcessUsage::read(&Process::since(Clock::start()));
        assert!(usage.resident_bytes > 1_024 * 1_024);
        assert!(usage.open_files >= 3);
        assert!(
            usage
                .open_files_max
                .is_none_or(|most| most >= usage.open_files)
        );
        assert!(usage.cpu_ns > 0 && thread_cpu_ns() > 0);
        let mut page = MetricsPage::default();
        usage.append(&mut page);
        let shown = 5 + usize::from(usage.listen_overflows.is_some());
        assert_eq!(page.into_string().matches("# TYPE").count(), shown);
    }

    #[test]
    fn overflows_are_found_by_name() {
        let netstat = "IpExt: ListenOverflows\nIpExt: 9\n\
            TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 37 40\n";
        assert_eq!(listen_overflows(netstat), Some(37));
        for other in [
            "",
            "TcpExt: ListenOverflows\n",
            "TcpExt: A B\nTcpExt: 1 2\n",
        ] {
            assert_eq!(listen_overflows(other), None, "{other}");
        }
    }
}
