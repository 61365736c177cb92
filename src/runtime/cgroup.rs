//! What control groups (version 2) let this process have of memory and CPU time: the least that
//! its own group or any group above it allows.
//!
//! The limits are files that may change while the process runs, so each question reads them
//! again. Without version 2, and where nothing is limited, there is no answer.

use std::fs;
use std::path::{Path, PathBuf};

/// The directories of the process's group and of those above it, its own first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    directories: Vec<PathBuf>,
}

impl Cgroups {
    /// Finds the groups of this process; none when the kernel has not mounted version 2.
    #[must_use]
    pub fn of_process() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::new(
            &read("/proc/self/cgroup"),
            &read("/proc/self/mountinfo"),
            Path::new("/"),
        )
    }

    /// Finds the groups in the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`; `root` is
    /// where mount points are looked for.
    fn new(cgroup: &str, mountinfo: &str, root: &Path) -> Self {
        let Some((mounted, mount_point)) = mountinfo.lines().find_map(cgroup2_mount) else {
            return Self::default();
        };
        // Version 2 is hierarchy 0, and has no named controllers.
        let Some(group) = cgroup.lines().find_map(|line| line.strip_prefix("0::")) else {
            return Self::default();
        };
        let mount_point = root.join(mount_point.trim_start_matches('/'));
        // What is mounted may be a group below the top one, as in a container without a
        // namespace of its own; a group that is not below it cannot be seen.
        let below = Path::new(group)
            .strip_prefix(&mounted)
            .unwrap_or(Path::new(""));
        let is_plain = !below.components().any(|part| part.as_os_str() == "..");
        let own = if is_plain {
            mount_point.join(below)
        } else {
            mount_point.clone()
        };
        let up_to_mount = own
            .ancestors()
            .take_while(|it| it.starts_with(&mount_point));
        Self {
            directories: up_to_mount.map(Path::to_path_buf).collect(),
        }
    }

    /// The most memory that the group may use, in bytes (`memory.max`).
    #[must_use]
    pub fn memory_bytes_max(&self) -> Option<u64> {
        self.least("memory.max", |text| text.parse().ok())
    }

    /// The CPU time that the group may use, in thousandths of a core (`cpu.max`: so many
    /// microseconds in each period of so many).
    #[must_use]
    pub fn cpu_millicores_max(&self) -> Option<u64> {
        self.least("cpu.max", |text| {
            let (quota, period) = text.split_once(' ')?;
            let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
            quota.checked_mul(1_000)?.checked_div(period)
        })
    }

    /// The least value of a file in any of the groups. `max`, which is no number, and a file
    /// that is not there, as in the top group, are no limit.
    fn least(&self, file: &str, value: impl Fn(&str) -> Option<u64>) -> Option<u64> {
        let texts = self.directories.iter().map(|it| it.join(file));
        let texts = texts.filter_map(|path| fs::read_to_string(path).ok());
        texts.filter_map(|text| value(text.trim())).min()
    }
}

/// Which group is mounted where, of a line about a mount of version 2.
fn cgroup2_mount(line: &str) -> Option<(PathBuf, String)> {
    // 36 35 98:0 /root /mount/point options - type source options (proc(5))
    let (mount, file_system) = line.split_once(" - ")?;
    if file_system.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    let (mounted, mount_point) = (fields.next()?, fields.next()?);
    // Above the namespace's top the kernel writes `/..`: then all that can be seen is below.
    let mounted = if mounted.starts_with("/..") {
        "/"
    } else {
        mounted
    };
    Some((unescaped(mounted).into(), unescaped(mount_point)))
}

/// Without the octal escapes of spaces, tabs, line ends and backslashes in `mountinfo`.
fn unescaped(path: &str) -> String {
    let escapes = [
        (r"\040", " "),
        (r"\011", "\t"),
        (r"\012", "\n"),
        (r"\134", r"\"),
    ];
    let replaced = |path: String, (escape, meaning): (&str, &str)| path.replace(escape, meaning);
    escapes.into_iter().fold(path.to_owned(), replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        22 27 0:20 / /proc rw - proc proc rw\n\
        31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n\
        40 30 0:40 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";

    /// A tree of groups with these files, and what a process in the group is allowed.
    #[track_caller]
    fn check(
        group: &str,
        mounts: &str,
        files: &[(&str, &str)],
        expected: (Option<u64>, Option<u64>),
    ) {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        let groups = Cgroups::new(&format!("1:cpu:/x\n0::{group}\n"), mounts, root.path());
        let found = (groups.memory_bytes_max(), groups.cpu_millicores_max());
        assert_eq!(found, expected, "{groups:?}");
    }

    #[test]
    fn a_group_of_its_own_limits() {
        let files = [
            ("sys/fs/cgroup/a/memory.max", "268435456"),
            ("sys/fs/cgroup/a/cpu.max", "150000 100000"),
        ];
        check("/a", MOUNTS, &files, (Some(268_435_456), Some(1_500)));
        // In a container with a namespace of its own.
        let files = [
            ("sys/fs/cgroup/memory.max", "1000000"),
            ("sys/fs/cgroup/cpu.max", "10000 100000"),
        ];
        check("/", MOUNTS, &files, (Some(1_000_000), Some(100)));
    }

    #[test]
    fn the_least_of_all_groups_above_holds() {
        let files = [
            ("sys/fs/cgroup/a/memory.max", "500"),
            ("sys/fs/cgroup/a/cpu.max", "400000 100000"),
            ("sys/fs/cgroup/a/b/memory.max", "max"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000"),
            ("sys/fs/cgroup/a/b/c/memory.max", "900"),
            ("sys/fs/cgroup/a/b/c/cpu.max", "30000 10000"),
            ("sys/fs/cgroup/other/memory.max", "1"),
        ];
        check("/a/b/c", MOUNTS, &files, (Some(500), Some(3_000)));
        check("/a/b", MOUNTS, &files, (Some(500), Some(4_000)));
    }

    #[test]
    fn no_limit_is_none() {
        let files = [
            ("sys/fs/cgroup/a/memory.max", "max"),
            ("sys/fs/cgroup/a/cpu.max", "max 100000"),
        ];
        check("/a", MOUNTS, &files, (None, None));
        check("/a", MOUNTS, &[], (None, None));
        check("/a", "", &files, (None, None));
        for bad in ["", "x", "1", "1 0", "-1 5", "18446744073709551615 1"] {
            check(
                "/a",
                MOUNTS,
                &[("sys/fs/cgroup/a/cpu.max", bad)],
                (None, None),
            );
        }
    }

    #[test]
    fn what_is_mounted_need_not_be_the_top() {
        let mounts = "31 24 0:27 /docker/7f /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let files = [
            ("sys/fs/cgroup/memory.max", "700"),
            ("sys/fs/cgroup/in/memory.max", "600"),
            ("sys/fs/cgroup/docker/7f/memory.max", "1"),
        ];
        check("/docker/7f", mounts, &files, (Some(700), None));
        check("/docker/7f/in", mounts, &files, (Some(600), None));
        // Outside of what can be seen.
        check("/../other", MOUNTS, &files, (Some(700), None));
        check("/elsewhere", mounts, &files, (Some(700), None));
        let above = "31 24 0:27 /../.. /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        check("/in", above, &files, (Some(600), None));
    }

    #[test]
    fn a_mount_point_may_have_a_space() {
        let mounts = "31 24 0:27 / /c\\040g rw - cgroup2 cgroup2 rw\n";
        check("/a", mounts, &[("c g/a/memory.max", "5")], (Some(5), None));
    }

    #[test]
    fn this_process_can_be_asked() {
        let groups = Cgroups::of_process();
        assert_ne!(groups.memory_bytes_max(), Some(0), "{groups:?}");
        assert_ne!(groups.cpu_millicores_max(), Some(0), "{groups:?}");
    }
}
