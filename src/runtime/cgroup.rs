//! What control groups let this process have of memory and CPU time: the least that its own group
//! or any group above it allows.
//!
//! The limits are files that may change while the process runs, so each question reads them
//! again. A machine has version 2, or version 1 with a tree for each controller, or both beside
//! each other: whatever is mounted counts. Where nothing is limited there is no answer.

use std::fs;
use std::path::{Path, PathBuf};

/// No machine has so much memory: from here on a limit is none.
const NO_LIMIT_BYTES_MIN: u64 = 1 << 62;

/// A tree of control groups, and the files in it that limit something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tree {
    /// Version 2: one tree for all controllers.
    V2,
    /// The memory of version 1.
    MemoryV1,
    /// The CPU time of version 1.
    CpuV1,
}

/// The directories of the process's groups and of those above them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cgroups {
    directories: Vec<(Tree, PathBuf)>,
}

impl Tree {
    const ALL: [Self; 3] = [Self::V2, Self::MemoryV1, Self::CpuV1];

    /// The controller by which version 1 names it; version 2 names none.
    fn controller(self) -> &'static str {
        match self {
            Self::V2 => "",
            Self::MemoryV1 => "memory",
            Self::CpuV1 => "cpu",
        }
    }

    /// The process's group in it, of a line of `/proc/self/cgroup`: `number:controllers:group`.
    fn group(self, line: &str) -> Option<&str> {
        let (number, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        let is_it = match self {
            Self::V2 => number == "0" && controllers.is_empty(),
            _ => controllers.split(',').any(|it| it == self.controller()),
        };
        is_it.then_some(group)
    }

    /// Which group of it is mounted where, of a line of `/proc/self/mountinfo`.
    fn mount(self, line: &str) -> Option<(PathBuf, String)> {
        // 36 35 98:0 /root /mount/point options - type source options (proc(5))
        let (mount, file_system) = line.split_once(" - ")?;
        let mut of_file_system = file_system.split(' ');
        let kind = of_file_system.next()?;
        let mut options = of_file_system.nth(1).unwrap_or_default().split(',');
        let is_it = match self {
            Self::V2 => kind == "cgroup2",
            _ => kind == "cgroup" && options.any(|it| it == self.controller()),
        };
        if !is_it {
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

    /// The directories of the process's group in it and of those above, its own first.
    fn directories(self, cgroup: &str, mountinfo: &str, root: &Path) -> Option<Vec<PathBuf>> {
        let (mounted, mount_point) = mountinfo.lines().find_map(|line| self.mount(line))?;
        let group = cgroup.lines().find_map(|line| self.group(line))?;
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
        Some(up_to_mount.map(Path::to_path_buf).collect())
    }
}

impl Cgroups {
    /// Finds the groups of this process.
    #[must_use]
    pub(super) fn of_process() -> Self {
        Self::below(Path::new("/"), "self")
    }

    /// Finds the groups of a process, by the `proc` of the tree at `root`.
    #[must_use]
    pub(crate) fn below(root: &Path, pid: &str) -> Self {
        let proc = root.join("proc").join(pid);
        let read = |name| fs::read_to_string(proc.join(name)).unwrap_or_default();
        Self::new(&read("cgroup"), &read("mountinfo"), root)
    }

    /// Returns the directories of the groups, each group's own before those above it.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().map(|(_, directory)| &**directory)
    }

    /// Finds the groups in the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`; `root` is
    /// where mount points are looked for.
    fn new(cgroup: &str, mountinfo: &str, root: &Path) -> Self {
        let of = |tree: Tree| {
            let directories = tree.directories(cgroup, mountinfo, root);
            directories.into_iter().flatten().map(move |it| (tree, it))
        };
        Self {
            directories: Tree::ALL.into_iter().flat_map(of).collect(),
        }
    }

    /// The most memory that the group may use, in bytes (`memory.max`, and
    /// `memory.limit_in_bytes` of version 1, where the largest number of pages stands for none).
    #[must_use]
    pub(crate) fn memory_bytes_max(&self) -> Option<u64> {
        self.least(|tree, directory| {
            let file = match tree {
                Tree::V2 => "memory.max",
                Tree::MemoryV1 => "memory.limit_in_bytes",
                Tree::CpuV1 => return None,
            };
            number(directory, file).filter(|bytes| *bytes < NO_LIMIT_BYTES_MIN)
        })
    }

    /// The CPU time that the group may use, in thousandths of a core (`cpu.max`: so many
    /// microseconds in each period of so many; version 1 has a file for each of the two, and -1
    /// for no limit).
    #[must_use]
    pub(crate) fn cpu_millicores_max(&self) -> Option<u64> {
        self.least(|tree, directory| {
            let (quota, period): (u64, u64) = match tree {
                Tree::V2 => {
                    let text = text(directory, "cpu.max")?;
                    let (quota, period) = text.trim().split_once(' ')?;
                    (quota.parse().ok()?, period.parse().ok()?)
                }
                Tree::CpuV1 => (
                    number(directory, "cpu.cfs_quota_us")?,
                    number(directory, "cpu.cfs_period_us")?,
                ),
                Tree::MemoryV1 => return None,
            };
            quota.checked_mul(1_000)?.checked_div(period)
        })
    }

    /// The least limit in any of the groups. `max`, which is no number, and a file that is not
    /// there, as in the top group, are no limit.
    fn least(&self, limit: impl Fn(Tree, &Path) -> Option<u64>) -> Option<u64> {
        let directories = self.directories.iter();
        directories
            .filter_map(|(tree, directory)| limit(*tree, directory))
            .min()
    }
}

fn text(directory: &Path, file: &str) -> Option<String> {
    fs::read_to_string(directory.join(file)).ok()
}

fn number(directory: &Path, file: &str) -> Option<u64> {
    text(directory, file)?.trim().parse().ok()
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

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        root
    }

    /// A tree of groups with these files, and what a process in the group is allowed.
    #[track_caller]
    fn check(
        group: &str,
        mounts: &str,
        files: &[(&str, &str)],
        expected: (Option<u64>, Option<u64>),
    ) {
        let root = tree(files);
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

    const MOUNTS_V1: &str = "\
        33 31 0:30 / /c/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /docker /c/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /c/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_trees_of_version_1_count_too() {
        let in_groups = |files: &[(&str, &str)], expected| {
            let root = tree(files);
            let cgroup = "4:memory:/docker/7f\n2:cpu,cpuacct:/a/b\n1:name=systemd:/\n0::/\n";
            let groups = Cgroups::new(cgroup, MOUNTS_V1, root.path());
            let found = (groups.memory_bytes_max(), groups.cpu_millicores_max());
            assert_eq!(found, expected, "{groups:?}");
        };
        let no_limit = "9223372036854771712";
        let mut files = [
            ("c/memory/7f/memory.limit_in_bytes", no_limit),
            ("c/memory/memory.limit_in_bytes", no_limit),
            ("c/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1"),
            ("c/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000"),
            ("c/cpu,cpuacct/a/cpu.cfs_quota_us", "-1"),
            ("c/cpu,cpuacct/a/cpu.cfs_period_us", "100000"),
        ];
        in_groups(&files, (None, None));
        files[0].1 = "500";
        files[1].1 = "700";
        files[2].1 = "50000";
        files[4].1 = "150000";
        in_groups(&files, (Some(500), Some(500)));
        let below = [files[1], ("c/unified/memory.max", "600")];
        in_groups(&below, (Some(600), None));
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
