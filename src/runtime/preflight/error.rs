//! Why no shard can start on this machine, in one line each: the cause, then the remedy.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// Linux that has everything the rings need: `IORING_SETUP_DEFER_TASKRUN` is the newest.
const KERNEL_MIN: &str = "Linux 6.1";
/// The first version with io_uring. One that has it and says otherwise is not asked.
const IO_URING_SINCE: (u32, u32) = (5, 1);

/// Why no shard can start.
#[derive(Debug)]
pub(crate) enum PreflightError {
    /// The kernel was built without io_uring, or something stands in for it.
    NoIoUring {
        /// The kernel's release, as `uname -r` shows it.
        release: String,
    },
    /// The kernel's io_uring is too old.
    KernelTooOld {
        /// The kernel's release, as `uname -r` shows it.
        release: String,
    },
    /// The administrator has switched io_uring off.
    IoUringDisabled {
        /// Value of `kernel.io_uring_disabled`: 1 or 2.
        level: u8,
    },
    /// A seccomp filter, as containers have, refuses in the kernel's place.
    IoUringFiltered {
        /// The kernel's release, as `uname -r` shows it.
        release: String,
    },
    /// Something else forbids it: a security module.
    IoUringForbidden,
    /// Not even a small ring could be had.
    NoMemoryForRings,
    /// No file descriptor is left for a ring.
    NoFilesForRings,
    /// It fails in a way that is not foreseen.
    IoUringFails {
        /// The kernel's error.
        cause: io::Error,
    },
    /// Too little memory may be locked.
    MemlockTooLow {
        /// The hard limit, in bytes.
        limit_bytes: u64,
        /// What is needed, in bytes.
        needed_bytes: u64,
        /// The number of shards that need it.
        shard_count: u16,
    },
    /// The kernel does not say which cores may be used.
    CoresUnknown {
        /// The kernel's error.
        cause: io::Error,
    },
    /// The configuration names cores that may not be used.
    CoresNotAllowed {
        /// The cores that may not be used.
        refused: Vec<usize>,
        /// The cores that may be used.
        allowed: Vec<usize>,
    },
}

impl PreflightError {
    /// Exit code of the process: 2 where the configuration is to blame, 1 otherwise.
    #[must_use]
    pub(crate) fn exit_code(&self) -> u8 {
        if matches!(self, Self::CoresNotAllowed { .. }) {
            2
        } else {
            1
        }
    }
}

impl std::error::Error for PreflightError {}

impl fmt::Display for PreflightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIoUring { release } => write!(
                f,
                "this kernel ({release}) has no io_uring; run on {KERNEL_MIN} or later built with \
                 CONFIG_IO_URING, and outside sandboxes that emulate the kernel"
            ),
            Self::KernelTooOld { release } => write!(
                f,
                "the io_uring of this kernel ({release}) is too old; run on {KERNEL_MIN} or later"
            ),
            Self::IoUringDisabled { level: 1 } => f.write_str(
                "io_uring is disabled for this user (kernel.io_uring_disabled = 1); run \
                 `sysctl -w kernel.io_uring_disabled=0`, or add the user to the group of \
                 kernel.io_uring_group",
            ),
            Self::IoUringDisabled { level } => write!(
                f,
                "io_uring is disabled (kernel.io_uring_disabled = {level}); run \
                 `sysctl -w kernel.io_uring_disabled=0`"
            ),
            Self::IoUringFiltered { release } => write!(
                f,
                "this kernel ({release}) has io_uring, but a seccomp filter, as containers have \
                 one, refuses it; allow io_uring_setup, io_uring_enter and io_uring_register in \
                 its profile (`docker run --security-opt seccomp=…`, SystemCallFilter= in a \
                 systemd unit)"
            ),
            Self::IoUringForbidden => f.write_str(
                "io_uring is forbidden to this process, not by a seccomp filter but probably by \
                 a security module (SELinux, AppArmor); allow it in the module's policy",
            ),
            Self::NoMemoryForRings => f.write_str(
                "no memory for io_uring: the limit of locked memory is used up, or the memory \
                 itself; raise the limit with `ulimit -l unlimited`, or LimitMEMLOCK=infinity in \
                 the systemd unit",
            ),
            Self::NoFilesForRings => f.write_str(
                "no file descriptor is left for io_uring; raise the limit with \
                 `ulimit -n 1048576`, or LimitNOFILE=1048576 in the systemd unit",
            ),
            Self::IoUringFails { cause } => write!(
                f,
                "io_uring does not work here: {cause}; use {KERNEL_MIN} or later"
            ),
            Self::MemlockTooLow {
                limit_bytes,
                needed_bytes,
                shard_count,
            } => write!(
                f,
                "{} KiB of memory may be locked, and {shard_count} shards need {} KiB; raise the \
                 limit with `ulimit -l {1}`, LimitMEMLOCK={1}K in the systemd unit, or \
                 `docker run --ulimit memlock={needed_bytes}`, or start fewer shards",
                limit_bytes / 1_024,
                needed_bytes.div_ceil(1_024),
            ),
            Self::CoresUnknown { cause } => write!(
                f,
                "the kernel does not say which cores may be used: {cause}; start the server \
                 through `taskset` with a list of cores below 1024"
            ),
            Self::CoresNotAllowed { refused, allowed } => write!(
                f,
                "server.cores: this process may not run on {}, only on {}; name some of those, \
                 or widen the mask (taskset, cpuset, CPUAffinity=)",
                ranges(refused),
                ranges(allowed)
            ),
        }
    }
}

/// What an error of `io_uring_setup` and its sisters means; `disabled` is the value of
/// `kernel.io_uring_disabled`, where there is one.
/// `is_filtered`: the process has a seccomp filter.
pub(super) fn of_io_uring(
    cause: io::Error,
    disabled: Option<u8>,
    is_filtered: bool,
    release: &str,
) -> PreflightError {
    let has_io_uring = is_at_least(release, IO_URING_SINCE);
    let release = release.to_owned();
    match Errno::from_io_error(&cause) {
        Some(Errno::NOSYS) if is_filtered && has_io_uring => {
            PreflightError::IoUringFiltered { release }
        }
        Some(Errno::NOSYS) => PreflightError::NoIoUring { release },
        // An unknown flag of the setup.
        Some(Errno::INVAL) => PreflightError::KernelTooOld { release },
        Some(Errno::PERM | Errno::ACCESS) => match disabled {
            Some(level @ 1..) => PreflightError::IoUringDisabled { level },
            _ if is_filtered => PreflightError::IoUringFiltered { release },
            _ => PreflightError::IoUringForbidden,
        },
        Some(Errno::NOMEM) => PreflightError::NoMemoryForRings,
        Some(Errno::MFILE | Errno::NFILE) => PreflightError::NoFilesForRings,
        _ => PreflightError::IoUringFails { cause },
    }
}

/// Whether a kernel's release, such as `6.1.0-18-amd64`, is that version or a later one.
pub(crate) fn is_at_least(release: &str, (major, minor): (u32, u32)) -> bool {
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    next().zip(next()) >= Some((major, minor))
}

/// Ascending numbers as a person writes them: `0-3, 8`.
fn ranges(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => runs.push((number, number)),
        }
    }
    let shown = |&(start, end): &(usize, usize)| {
        if start == end {
            start.to_string()
        } else {
            format!("{start}-{end}")
        }
    };
    runs.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errno, with the sysctl at that value, is told in one line with these parts.
    fn check(errno: Errno, disabled: Option<u8>, parts: &[&str]) {
        check_filtered(errno, disabled, false, parts);
    }

    fn check_filtered(errno: Errno, disabled: Option<u8>, is_filtered: bool, parts: &[&str]) {
        let error = of_io_uring(errno.into(), disabled, is_filtered, "5.15.0-test");
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "{errno:?}, {disabled:?}: {text}");
        }
        assert!(!text.contains('\n') && text.contains("; "), "{text}");
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn each_errno_names_its_cause_and_remedy() {
        check(
            Errno::NOSYS,
            None,
            &["(5.15.0-test) has no io_uring", "Linux 6.1"],
        );
        check(
            Errno::INVAL,
            Some(0),
            &["(5.15.0-test) is too old", "Linux 6.1"],
        );
        check(
            Errno::PERM,
            Some(2),
            &["io_uring_disabled = 2", "sysctl -w"],
        );
        check(
            Errno::PERM,
            Some(1),
            &["io_uring_disabled = 1", "io_uring_group"],
        );
        let filter = [
            "(5.15.0-test) has io_uring, but a seccomp filter",
            "docker run",
        ];
        check_filtered(Errno::NOSYS, None, true, &filter);
        check_filtered(Errno::PERM, Some(0), true, &filter);
        check_filtered(Errno::ACCESS, None, true, &filter);
        check_filtered(Errno::PERM, Some(2), true, &["io_uring_disabled = 2"]);
        check(Errno::PERM, Some(0), &["SELinux"]);
        check(Errno::PERM, None, &["SELinux"]);
        check(Errno::ACCESS, Some(0), &["forbidden"]);
        check(Errno::NOMEM, Some(0), &["locked memory", "LimitMEMLOCK"]);
        check(Errno::MFILE, Some(0), &["file descriptor", "LimitNOFILE"]);
        check(Errno::NFILE, Some(0), &["file descriptor"]);
        check(Errno::IO, Some(0), &["does not work here: ", "or later"]);
    }

    #[test]
    fn a_kernel_without_io_uring_is_not_blamed_on_a_filter() {
        let error = of_io_uring(Errno::NOSYS.into(), None, true, "5.0.21");
        assert!(error.to_string().contains("has no io_uring"), "{error}");
        for (release, expected) in [
            ("5.1", true),
            ("5.1.0", true),
            ("5.10-rc1", true),
            ("6.0.0-1", true),
            ("5.0.9", false),
            ("4.19.0-26-amd64", false),
            ("", false),
            ("six", false),
        ] {
            assert_eq!(is_at_least(release, IO_URING_SINCE), expected, "{release}");
        }
    }

    #[test]
    fn too_little_memlock_names_what_is_needed() {
        let (limit_bytes, needed_bytes) = (65_536, 786_432);
        let error = PreflightError::MemlockTooLow {
            limit_bytes,
            needed_bytes,
            shard_count: 2,
        };
        assert_eq!(
            error.to_string(),
            "64 KiB of memory may be locked, and 2 shards need 768 KiB; raise the limit with \
             `ulimit -l 768`, LimitMEMLOCK=768K in the systemd unit, or \
             `docker run --ulimit memlock=786432`, or start fewer shards"
        );
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn neighbours_are_shown_as_ranges() {
        for (numbers, text) in [
            (&[][..], ""),
            (&[3], "3"),
            (&[0, 1, 2, 3], "0-3"),
            (&[0, 2, 3, 8], "0, 2-3, 8"),
        ] {
            assert_eq!(ranges(numbers), text);
        }
    }
}
