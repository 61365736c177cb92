//! What must be so before anything starts: io_uring works, enough memory may be locked, enough
//! files may be open, and the cores asked for may be used.
//!
//! A shard that finds out by itself can only panic, or hang those that wait for it. So all of
//! it is probed here first, on the main thread, and each failure is one line that names cause
//! and remedy. Soft limits are raised to the hard ones on the way. Addresses are not bound
//! here, and nothing is kept.

mod error;
mod shards;
mod warning;

use std::fs;
use std::io;

use io_uring::{IoUring, Probe};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

pub(super) use error::PreflightError;
pub(crate) use error::is_at_least;
pub(crate) use shards::{Bounds, MEMLOCK_BYTES_PER_SHARD};
pub(super) use warning::Warning;

use crate::runtime::affinity::allowed_cores;
use crate::runtime::cgroup::Cgroups;
use crate::runtime::topology::Topology;

/// Open files below which the operator is warned: a connection is one.
const OPEN_FILES_MIN: u64 = 1_024;
/// Entries of the ring that is set up to see whether that works.
const PROBE_ENTRIES: u32 = 8;

/// What this machine lets the process have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// Ids of the cores for the shards, at least one. Shard `i` belongs on `i % cores.len()`.
    pub cores: Vec<usize>,
    /// Shards to start.
    pub shard_count: u16,
    /// CPU time that the control group allows, in thousandths of a core; `None` is unlimited.
    pub cpu_millicores_max: Option<u64>,
    /// Files that may be open at once; `None` is unlimited.
    pub open_files_max: Option<u64>,
    /// What the operator should know, and what works nevertheless.
    pub warnings: Vec<Warning>,
}

/// Probes everything. `cores` and `shards` are what the configuration asks for; `None` is
/// "auto".
///
/// # Errors
/// The first thing without which no shard can start.
pub(super) fn probe(
    cores: Option<&[usize]>,
    shards: Option<u16>,
) -> Result<Machine, PreflightError> {
    let is_automatic = cores.is_none();
    let allowed = allowed_cores().map_err(|cause| PreflightError::CoresUnknown { cause })?;
    let mut cores = usable_cores(cores, &allowed)?;
    let bounds = Bounds {
        core_count: cores.len(),
        cpu_millicores_max: Cgroups::of_process().cpu_millicores_max(),
        memlock_bytes_max: raise_soft_limit(Resource::Memlock).filter(|_| memlock_is_counted()),
    };
    let (shard_count, mut warnings) = bounds.shards(shards);
    memlock(shard_count)?;
    io_uring()?;
    if is_automatic && usize::from(shard_count) < cores.len() {
        shards::begin_with(&mut cores, rustix::thread::sched_getcpu());
        Topology::of_machine().in_order(&mut cores);
    }
    let open_files_max = open_files();
    if let Some(open_files_max) = open_files_max.filter(|files| *files < OPEN_FILES_MIN) {
        warnings.push(Warning::FewOpenFiles { open_files_max });
    }
    Ok(Machine {
        cores,
        shard_count,
        cpu_millicores_max: bounds.cpu_millicores_max,
        open_files_max,
        warnings,
    })
}

/// Returns what this machine gives to a server with these cores and shards, for people, and what
/// the operator should know.
///
/// # Errors
/// What stands in the way of a start, with its remedy.
pub(crate) fn machine_findings(
    cores: Option<&[usize]>,
    shards: Option<u16>,
) -> Result<(String, Vec<String>), String> {
    let machine = probe(cores, shards).map_err(|error| error.to_string())?;
    let files = machine.open_files_max;
    let files = files.map_or("any number of".to_owned(), |files| files.to_string());
    let text = format!("{} shards, {files} files may be open", machine.shard_count);
    let warnings = machine.warnings.iter().map(ToString::to_string).collect();
    Ok((text, warnings))
}

/// The cores asked for, all of which must be allowed.
fn usable_cores(asked: Option<&[usize]>, allowed: &[usize]) -> Result<Vec<usize>, PreflightError> {
    let Some(asked) = asked else {
        return Ok(allowed.to_vec());
    };
    let refused: Vec<_> = asked
        .iter()
        .copied()
        .filter(|core| !allowed.contains(core))
        .collect();
    if refused.is_empty() {
        return Ok(asked.to_vec());
    }
    Err(PreflightError::CoresNotAllowed {
        refused,
        allowed: allowed.to_vec(),
    })
}

/// Raises the limit of locked memory as far as allowed, and checks that it suffices.
///
/// # Errors
/// It does not.
pub(super) fn memlock(shard_count: u16) -> Result<(), PreflightError> {
    let limit_bytes = raise_soft_limit(Resource::Memlock);
    memlock_suffices(limit_bytes, shard_count, memlock_is_counted())
}

fn memlock_is_counted() -> bool {
    !capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

fn memlock_suffices(
    limit_bytes: Option<u64>,
    shard_count: u16,
    is_counted: bool,
) -> Result<(), PreflightError> {
    let needed_bytes = u64::from(shard_count) * MEMLOCK_BYTES_PER_SHARD;
    match limit_bytes {
        Some(limit_bytes) if is_counted && limit_bytes < needed_bytes => {
            Err(PreflightError::MemlockTooLow {
                limit_bytes,
                needed_bytes,
                shard_count,
            })
        }
        _ => Ok(()),
    }
}

/// Raises the limit of open files as far as allowed. Returns it; `None` is unlimited.
#[must_use]
pub(super) fn open_files() -> Option<u64> {
    raise_soft_limit(Resource::Nofile)
}

/// Raises a soft limit to the hard one, which needs no right. Returns the limit that holds then.
fn raise_soft_limit(resource: Resource) -> Option<u64> {
    let Rlimit { maximum, .. } = getrlimit(resource);
    // Where even that is refused, what held before still holds.
    let _ = setrlimit(
        resource,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    getrlimit(resource).current
}

/// Sets up a ring as the shards will, enters the kernel through it once, and lets it go.
///
/// # Errors
/// io_uring cannot be used here.
pub(super) fn io_uring() -> Result<(), PreflightError> {
    let probe = || -> io::Result<usize> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .build(PROBE_ENTRIES)?;
        ring.submitter().register_probe(&mut Probe::new())?;
        ring.submit()
    };
    probe().map(drop).map_err(io_uring_failure)
}

/// Returns why io_uring cannot be used here, with the remedy; `None`: it can.
#[must_use]
pub(crate) fn io_uring_fault() -> Option<String> {
    io_uring().err().map(|error| error.to_string())
}

/// What an error from setting up or entering a ring means on this machine. Also for rings that
/// fail later, when the shards set up theirs.
#[must_use]
pub(super) fn io_uring_failure(cause: io::Error) -> PreflightError {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let disabled = disabled.and_then(|text| text.trim().parse().ok());
    let system = rustix::system::uname();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_filtered = has_seccomp_filter(&status);
    error::of_io_uring(
        cause,
        disabled,
        is_filtered,
        &system.release().to_string_lossy(),
    )
}

/// Whether `/proc/self/status` tells of a seccomp filter (mode 2, see proc(5)).
fn has_seccomp_filter(status: &str) -> bool {
    let mut modes = status
        .lines()
        .filter_map(|line| line.strip_prefix("Seccomp:"));
    modes.next().is_some_and(|mode| mode.trim() == "2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_run_the_tests_and_the_server() {
        let mut machine = probe(None, None).unwrap();
        assert!((1..=machine.cores.len()).contains(&machine.shard_count.into()));
        machine.cores.sort_unstable();
        assert_eq!(machine.cores, allowed_cores().unwrap());
        assert_eq!(machine.open_files_max, getrlimit(Resource::Nofile).maximum);
    }

    #[test]
    fn a_seccomp_filter_is_seen_in_the_status() {
        assert!(has_seccomp_filter(
            "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"
        ));
        assert!(!has_seccomp_filter("Seccomp:\t0\nSeccomp_filters:\t2\n"));
        assert!(!has_seccomp_filter(""));
    }

    #[test]
    fn more_shards_than_cores_are_allowed_with_a_warning() {
        let core = allowed_cores().unwrap()[0];
        let machine = probe(Some(&[core]), Some(2)).unwrap();
        assert_eq!((machine.cores, machine.shard_count), (vec![core], 2));
        let warning = Warning::MoreShardsThanCores {
            shard_count: 2,
            core_count: 1,
        };
        assert!(machine.warnings.contains(&warning));
        let text = warning.to_string();
        assert!(text.starts_with("2 shards share 1 cores") && text.contains("server.shards"));
    }

    #[test]
    fn cores_must_be_within_the_mask() {
        assert_eq!(usable_cores(None, &[0, 2]).unwrap(), [0, 2]);
        assert_eq!(usable_cores(Some(&[2]), &[0, 2]).unwrap(), [2]);
        let error = usable_cores(Some(&[2, 1, 7]), &[0, 2, 3, 4]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(
            error.to_string(),
            "server.cores: this process may not run on 1, 7, only on 0, 2-4; name some of those, \
             or widen the mask (taskset, cpuset, CPUAffinity=)"
        );
    }

    #[test]
    fn memlock_must_suffice_for_all_shards() {
        const KIB: u64 = 1_024;
        for (limit_kib, shard_count, is_counted, suffices) in [
            (None, 1_024, true, true),
            (Some(159), 1, true, false),
            (Some(160), 1, true, true),
            (Some(319), 2, true, false),
            (Some(320), 2, true, true),
            (Some(8_192), 51, true, true),
            (Some(8_192), 52, true, false),
            (Some(8_192), 1_024, false, true),
            (Some(0), 1, false, true),
        ] {
            let limit_bytes = limit_kib.map(|kib| kib * KIB);
            let verdict = memlock_suffices(limit_bytes, shard_count, is_counted);
            assert_eq!(
                verdict.is_ok(),
                suffices,
                "{limit_kib:?} KiB for {shard_count}"
            );
        }
    }

    #[test]
    fn few_open_files_are_told_with_their_number() {
        let text = Warning::FewOpenFiles {
            open_files_max: 256,
        }
        .to_string();
        assert!(
            text.contains("only 256 files") && text.contains("LimitNOFILE"),
            "{text}"
        );
    }
}
