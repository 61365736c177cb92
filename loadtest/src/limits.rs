//! What the system must allow before a run begins: file descriptors, locked memory, io_uring,
//! cores.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::failure::Failure;

/// Descriptors beside the connections: standard streams, executors, files.
const DESCRIPTORS_BESIDE: u64 = 64;
/// Locked memory a glommio executor needs, bytes.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Raises the soft limit of file descriptors to what `connections` need.
///
/// # Errors
/// [`Failure::Descriptors`] when the hard limit is below that.
pub(crate) fn allow_descriptors(connections: u64) -> Result<(), Failure> {
    let needed = connections.saturating_add(DESCRIPTORS_BESIDE);
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if hard < needed || setrlimit(Resource::Nofile, raised).is_err() {
        return Err(Failure::Descriptors { needed, hard });
    }
    Ok(())
}

/// Checks what glommio reports only by a panic.
///
/// # Errors
/// [`Failure::Executor`] naming what is missing.
pub(crate) fn check_executors(cores: usize) -> Result<(), Failure> {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    if disabled.is_ok_and(|value| value.trim() == "2") {
        return Err(Failure::Executor(
            "sysctl kernel.io_uring_disabled is 2".into(),
        ));
    }
    let needed = MEMLOCK_BYTES_MIN * cores as u64;
    let limit = getrlimit(Resource::Memlock);
    if limit.current.is_some_and(|bytes| bytes < needed) {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        let suffices = limit.maximum.is_none_or(|bytes| bytes >= needed);
        if !suffices || setrlimit(Resource::Memlock, raised).is_err() {
            let cause = format!("only {} bytes may be locked", limit.current.unwrap_or(0));
            return Err(Failure::Executor(cause));
        }
    }
    Ok(())
}

/// The cores of `--cores`, each of them allowed; by default the last one allowed, which leaves the
/// first ones to the server.
///
/// # Errors
/// [`Failure::Usage`] for anything else.
pub(crate) fn load_cores(asked: Option<&str>) -> Result<Vec<usize>, Failure> {
    let allowed = allowed_cores()?;
    let Some(asked) = asked else {
        return Ok(allowed.last().copied().into_iter().collect());
    };
    let cores = parse_cores(asked)
        .ok_or_else(|| Failure::Usage(format!("--cores {asked}: write it like 1 or 2-3,5")))?;
    match cores.iter().find(|core| !allowed.contains(core)) {
        Some(core) => Err(Failure::Usage(format!(
            "--cores {asked}: core {core} is not among those allowed, {allowed:?}"
        ))),
        None => Ok(cores),
    }
}

/// The cores that this program may run on: those of the thread that asks first, which is before
/// any is kept on fewer, because what it is kept on is among these.
///
/// # Errors
/// [`Failure::Executor`] when the system does not tell.
pub(crate) fn allowed_cores() -> Result<Vec<usize>, Failure> {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    if let Some(allowed) = ALLOWED.get() {
        return Ok(allowed.clone());
    }
    let set = sched_getaffinity(None).map_err(|error| Failure::Executor(error.to_string()))?;
    let all = 0..CpuSet::MAX_CPU;
    let found = || all.filter(|cpu| set.is_set(*cpu)).collect();
    Ok(ALLOWED.get_or_init(found).clone())
}

/// The cores for so many shards of a server that this program starts: none of those that the load
/// keeps to by default, unless the shards are too many for the others.
///
/// # Errors
/// Those of [`allowed_cores`].
pub(crate) fn server_cores(shards: usize) -> Result<Vec<usize>, Failure> {
    let mut cores = allowed_cores()?;
    let load = load_cores(None)?;
    if cores.len() >= shards + load.len() {
        cores.retain(|core| !load.contains(core));
    }
    Ok(cores)
}

/// Starts a process that may run on all cores, wherever the calling thread is kept: what a thread
/// starts has the cores of that thread.
///
/// # Errors
/// Those of [`Command::spawn`] and of starting a thread.
pub(crate) fn spawn_on_all_cores(command: &mut Command) -> io::Result<Child> {
    let all = allowed_cores().map_err(|failure| io::Error::other(failure.line()))?;
    thread::scope(|scope| {
        let starts = thread::Builder::new().spawn_scoped(scope, || {
            stay_on(&all);
            command.spawn()
        })?;
        let panicked = |_| io::Error::other("the thread that starts a process panicked");
        starts.join().map_err(panicked)?
    })
}

/// Keeps the calling thread on these cores, so that it does not disturb the server.
pub(crate) fn stay_on(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    // The cores were found to be allowed; without the pin a run is only less exact.
    let _less_exact = sched_setaffinity(None, &set);
}

fn parse_cores(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists() {
        assert_eq!(parse_cores("1"), Some(vec![1]));
        assert_eq!(parse_cores("5,2-3,3"), Some(vec![2, 3, 5]));
        for wrong in ["", "a", "3-2", "1,", "-1", "99999"] {
            assert_eq!(parse_cores(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_kept_thread_starts_may_run_everywhere() {
        let all = allowed_cores().expect("cores");
        let status = thread::spawn(|| {
            stay_on(&load_cores(None).expect("one core"));
            let mut command = Command::new("cat");
            command
                .arg("/proc/self/status")
                .stdout(std::process::Stdio::piped());
            let child = spawn_on_all_cores(&mut command).expect("cat");
            child.wait_with_output().expect("its output").stdout
        });
        let status = String::from_utf8(status.join().expect("no panic")).expect("text");
        let list = status
            .lines()
            .find_map(|it| it.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(parse_cores(list.expect("a list").trim()), Some(all));
    }

    #[test]
    fn the_load_keeps_off_the_servers_core() {
        let (all, load) = (
            allowed_cores().expect("cores"),
            load_cores(None).expect("one"),
        );
        let server = server_cores(1).expect("cores");
        assert_eq!(server.contains(&load[0]), all.len() == 1);
        assert_eq!(server_cores(all.len()), Ok(all));
    }

    #[test]
    fn too_many_connections_are_refused_with_the_limit() {
        let failure = allow_descriptors(u64::MAX / 2);
        match getrlimit(Resource::Nofile).maximum {
            Some(hard) => assert!(matches!(
                failure,
                Err(Failure::Descriptors { hard: reported, .. }) if reported == hard
            )),
            None => assert_eq!(failure, Ok(())),
        }
        assert_eq!(allow_descriptors(1), Ok(()));
    }
}
