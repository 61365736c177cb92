//! Which cores a thread may run on. Nothing else in the process reads or sets that.

use std::io;

use core_affinity::CoreId;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The cores that the calling thread may run on, ascending: all of the machine, unless
/// `taskset`, a container, a systemd unit or [`pin`] says otherwise.
///
/// # Errors
/// Those of `sched_getaffinity(2)`.
pub(super) fn allowed_cores() -> io::Result<Vec<usize>> {
    let cores = core_affinity::get_core_ids().ok_or_else(io::Error::last_os_error)?;
    Ok(cores.into_iter().map(|core| core.id).collect())
}

/// Pins the calling thread, and so all threads that it starts from now on, to one core.
///
/// # Errors
/// Those of `sched_setaffinity(2)`: the core is not there, or may not be used.
pub(super) fn pin(core: usize) -> io::Result<()> {
    if core_affinity::set_for_current(CoreId { id: core }) {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the calling thread, and all that it starts from now on, run on these cores; none leaves
/// it as it is.
///
/// # Errors
/// Those of `sched_setaffinity(2)`.
pub(super) fn allow(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for core in cores.iter().filter(|core| **core < CpuSet::MAX_CPU) {
        set.set(*core);
    }
    match cores.is_empty() {
        true => Ok(()),
        false => Ok(sched_setaffinity(None, &set)?),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_pinned_thread_and_those_that_it_starts_have_one_core() {
        let cores = allowed_cores().unwrap();
        let last = *cores.last().unwrap();
        let pinned = move || {
            pin(last).unwrap();
            let started = thread::spawn(|| allowed_cores().unwrap());
            (allowed_cores().unwrap(), started.join().unwrap())
        };
        let found = thread::spawn(pinned).join().unwrap();
        assert_eq!(found, (vec![last], vec![last]));
        assert_eq!(allowed_cores().unwrap(), cores);
        let again = move || {
            pin(last).unwrap();
            allow(&cores).unwrap();
            allow(&[]).unwrap();
            (allowed_cores().unwrap(), cores)
        };
        let (found, cores) = thread::spawn(again).join().unwrap();
        assert_eq!(found, cores);
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        let refused = thread::spawn(|| pin(1_023)).join().unwrap();
        let is_there = allowed_cores().unwrap().contains(&1_023);
        assert_eq!(refused.is_ok(), is_there);
    }
}
