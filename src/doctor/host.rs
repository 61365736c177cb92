//! What is read of a host: files below a root, and a few questions that no file answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// A host, or a tree that stands for one.
pub(super) struct Host {
    root: PathBuf,
    /// What no file tells.
    pub asked: Asked,
}

/// What was asked of the kernel, the disk and the clock.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Why io_uring cannot be used, if it cannot.
    pub io_uring_fault: Option<String>,
    /// The disk of the data directory; `None`: it cannot be asked.
    pub disk: Option<Disk>,
    /// Seconds since 1970.
    pub now_unix: u64,
}

/// The disk of the data directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Bytes of all of it.
    pub all_bytes: u64,
    /// How long it takes until a page is on it; `None`: this user may not write there.
    pub sync: Option<Duration>,
}

impl Host {
    /// The host whose files stand below `root`.
    pub(super) fn new(root: PathBuf, asked: Asked) -> Self {
        Self { root, asked }
    }

    /// Where the tree stands.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a file that the host calls so.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What the host calls a path of this tree.
    pub(super) fn inside(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.root) {
            Ok(inside) => Path::new("/").join(inside),
            Err(_) => path.to_owned(),
        }
    }

    /// A file's text without white space at its end; `None`: it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// The one value in a file.
    pub(super) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.trim().parse().ok()
    }

    /// The value of a line such as `MemTotal:  16 kB`, without its unit.
    pub(super) fn field(&self, path: &str, name: &str) -> Option<String> {
        let text = self.text(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let line = line.strip_prefix(':')?;
        line.split_whitespace().next().map(str::to_owned)
    }

    /// A size of `/proc/meminfo`, in bytes.
    pub(super) fn memory(&self, name: &str) -> Option<u64> {
        let kib: u64 = self.field("/proc/meminfo", name)?.parse().ok()?;
        kib.checked_mul(1_024)
    }

    /// Whether there is such a file or directory.
    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The names in a directory, in order.
    pub(super) fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    }

    /// The files that a pattern matches, as the host calls them: `*` is any text within a name,
    /// and `[0-9]` a digit.
    pub(super) fn matching(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let is_pattern = part.contains(['*', '[']);
            let step = |path: &String| -> Vec<String> {
                if !is_pattern {
                    return vec![format!("{path}/{part}")];
                }
                let names = self.names(if path.is_empty() { "/" } else { path });
                let names = names.into_iter().filter(|name| matches(part, name));
                names.map(|name| format!("{path}/{name}")).collect()
            };
            found = found.iter().flat_map(step).collect();
        }
        found.retain(|path| self.has(path));
        found
    }

    /// Names of the network cards: what has a device behind it.
    pub(super) fn cards(&self) -> Vec<String> {
        let mut names = self.names("/sys/class/net");
        names.retain(|name| self.has(&format!("/sys/class/net/{name}/device")));
        names
    }

    /// Receive queues of a card.
    pub(super) fn receive_queues(&self, card: &str) -> usize {
        let queues = self.names(&format!("/sys/class/net/{card}/queues"));
        queues.iter().filter(|name| name.starts_with("rx-")).count()
    }

    /// Cores that are online.
    pub(super) fn online_cores(&self) -> Vec<usize> {
        let list = self.text("/sys/devices/system/cpu/online");
        crate::runtime::core_list(&list.unwrap_or_default())
    }

    /// Whether one of these programs runs.
    pub(super) fn runs(&self, programs: &[&str]) -> bool {
        let names = self.names("/proc");
        let mut pids = names.iter().filter(|name| name.parse::<u32>().is_ok());
        pids.any(|pid| {
            let name = self.text(&format!("/proc/{pid}/comm"));
            name.is_some_and(|name| programs.contains(&name.as_str()))
        })
    }

    /// Whether this is a container, to which most of a host is not its own.
    pub(super) fn is_container(&self) -> bool {
        let marks = [
            "/.dockerenv",
            "/run/.containerenv",
            "/run/systemd/container",
        ];
        marks.iter().any(|mark| self.has(mark))
    }

    /// Whether this is a virtual machine.
    pub(super) fn is_virtual(&self) -> bool {
        let text = self.text("/proc/cpuinfo").unwrap_or_default();
        text.split_whitespace().any(|word| word == "hypervisor")
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix('*') {
        let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
        return ends.any(|at| matches(rest, &name[at..]));
    }
    if let Some(rest) = pattern.strip_prefix("[0-9]") {
        let mut chars = name.chars();
        let is_digit = chars.next().is_some_and(|char| char.is_ascii_digit());
        return is_digit && matches(rest, chars.as_str());
    }
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some(one), Some(other)) if one == other => {
            matches(&pattern[one.len_utf8()..], &name[other.len_utf8()..])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "eth0", true),
            ("rx-*", "rx-12", true),
            ("rx-*", "tx-1", false),
            ("cpu[0-9]*", "cpu0", true),
            ("cpu[0-9]*", "cpufreq", false),
            ("state*", "state", true),
            ("enabled", "enabled2", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
