//! CPU and memory of the server process and of the kernel on its behalf, from `/proc`.

use std::fs;

use crate::clock::{SECOND, now_ns};
use crate::failure::Failure;

/// Clock ticks per second in `/proc/PID/stat` (USER_HZ, 100 on every Linux architecture).
const TICKS_PER_SECOND: u64 = 100;

/// One reading. CPU times are totals since the start; differences are what counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProcessSample {
    /// `CLOCK_MONOTONIC`, ns.
    pub at_ns: u64,
    /// CPU time of all its threads, ns (`/proc/PID/task/*/schedstat`).
    pub cpu_ns: u64,
    /// Its user time, ns, in steps of 10 ms.
    pub user_ns: u64,
    /// Its system time, ns, in steps of 10 ms.
    pub system_ns: u64,
    /// `VmRSS`.
    pub rss_bytes: u64,
    /// CPU time of all ksoftirqd threads, ns: network work the kernel did for it.
    pub ksoftirqd_ns: u64,
    /// `SUnreclaim`: kernel memory, sockets included, of the whole machine.
    pub sunreclaim_bytes: u64,
}

/// Reads one process.
#[derive(Debug, Clone)]
pub(crate) struct ProcessProbe {
    pid: u32,
    ksoftirqd_pids: Vec<u32>,
}

impl ProcessProbe {
    /// For the process `pid`.
    ///
    /// # Errors
    /// [`Failure::ServerProcess`] when there is none, or it cannot be read.
    pub(crate) fn new(pid: u32) -> Result<ProcessProbe, Failure> {
        let probe = ProcessProbe {
            pid,
            ksoftirqd_pids: ksoftirqd_pids(),
        };
        probe.sample()?;
        Ok(probe)
    }

    /// Reads everything now.
    ///
    /// # Errors
    /// [`Failure::ServerProcess`] when the process has ended.
    pub(crate) fn sample(&self) -> Result<ProcessSample, Failure> {
        let missing = |cause: &str| Failure::ServerProcess {
            pid: self.pid,
            cause: cause.into(),
        };
        let at_ns = now_ns();
        let cpu_ns = self
            .threads_cpu_ns()
            .ok_or_else(|| missing("no such process"))?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .map_err(|_| missing("it ended during the run"))?;
        let (user_ns, system_ns) = stat_times(&stat).ok_or_else(|| missing("odd stat"))?;
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))
            .map_err(|_| missing("it ended during the run"))?;
        let rss_kb = field_kb(&status, "VmRSS:").ok_or_else(|| missing("it is a zombie"))?;
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Ok(ProcessSample {
            at_ns,
            cpu_ns,
            user_ns,
            system_ns,
            rss_bytes: rss_kb * 1024,
            ksoftirqd_ns: self
                .ksoftirqd_pids
                .iter()
                .filter_map(|pid| schedstat(*pid, *pid))
                .sum(),
            sunreclaim_bytes: field_kb(&meminfo, "SUnreclaim:").unwrap_or_default() * 1024,
        })
    }

    /// From now on [`peak_bytes`](Self::peak_bytes) is the most since now. Returns whether the
    /// kernel allows that.
    pub(crate) fn forget_peak(&self) -> bool {
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5").is_ok()
    }

    /// The most that was resident, however briefly, as the kernel keeps it (`VmHWM`); `None` when
    /// the process has ended.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        Some(field_kb(&status, "VmHWM:")? * 1024)
    }

    fn threads_cpu_ns(&self) -> Option<u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?;
        let tids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse::<u32>().ok());
        Some(tids.filter_map(|tid| schedstat(self.pid, tid)).sum())
    }
}

/// CPU time of one thread, ns: the first number of its `schedstat`.
fn schedstat(pid: u32, tid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn ksoftirqd_pids() -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.starts_with("ksoftirqd/"))
    })
    .collect()
}

/// User and system time in `/proc/PID/stat`. The name before them is in parentheses and may hold
/// spaces and parentheses itself.
fn stat_times(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let per_tick = SECOND / TICKS_PER_SECOND;
    Some((ticks()? * per_tick, ticks()? * per_tick))
}

fn field_kb(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_nasty_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 75 0 0 20";
        assert_eq!(stat_times(stat), Some((2_500_000_000, 750_000_000)));
        assert_eq!(stat_times("12 (a) S 1"), None);
    }

    #[test]
    fn fields() {
        let text = "VmPeak:\t  10 kB\nVmRSS:\t   42 kB\n";
        assert_eq!(field_kb(text, "VmRSS:"), Some(42));
        assert_eq!(field_kb(text, "VmData:"), None);
    }

    #[test]
    fn reads_this_process_and_misses_one_that_is_not() {
        let probe = ProcessProbe::new(std::process::id()).expect("we run");
        let sample = probe.sample().expect("we run");
        assert!(sample.rss_bytes > 100_000 && sample.sunreclaim_bytes > 0);
        assert!(ProcessProbe::new(u32::MAX - 1).is_err());
    }

    #[test]
    fn the_peak_is_what_was_there_for_a_moment() {
        let probe = ProcessProbe::new(std::process::id()).expect("we run");
        assert!(probe.forget_peak());
        let before = probe.peak_bytes().expect("we run");
        drop(std::hint::black_box(vec![1_u8; 64 << 20]));
        let peak = probe.peak_bytes().expect("we run");
        assert!(peak >= 64 << 20, "{before}, then {peak}");
    }
}
