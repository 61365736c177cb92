//! The two clocks of a run: monotonic time, which all load cores share, and a thread's own CPU
//! time.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// One millisecond in nanoseconds.
pub(crate) const MS: u64 = 1_000_000;
/// One second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// What `CLOCK_MONOTONIC` showed when `CLOCK_REALTIME` showed this, in nanoseconds, unless that has
/// been set meanwhile.
pub(crate) fn monotonic_of_real_ns(real_ns: u64) -> u64 {
    let ago_ns = nanoseconds(clock_gettime(ClockId::Realtime)).saturating_sub(real_ns);
    now_ns().saturating_sub(ago_ns)
}

/// CPU time of the calling thread in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// `ns` as a kernel time.
pub(crate) fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: (ns / SECOND) as i64,
        tv_nsec: (ns % SECOND) as _,
    }
}

/// Seconds, as given on a command line, in nanoseconds.
pub(crate) fn seconds_to_ns(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(u64::MAX / 4, |d| d.as_nanos() as u64)
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}
