//! Which cores share what: hyperthreads of one physical core, and nodes of memory.
//!
//! A hyperthread beside a busy one does about half of what a core of its own does, and memory of
//! another node is slower. So shards that are fewer than cores get physical cores first, and stay
//! on as few nodes as they fit. A shard is made on the thread that is pinned, and so its memory
//! comes from the core's own node.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Where a core is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The package (socket) and the number of the physical core in it, as the kernel tells them.
    pub physical: Option<(u32, u32)>,
    /// The node of memory.
    pub node: u32,
}

/// The places of a machine's cores; those that are not known are cores of their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology(HashMap<usize, Place>);

impl Topology {
    /// Reads what the kernel tells of this machine.
    #[must_use]
    pub(crate) fn of_machine() -> Self {
        Self::below(Path::new("/"))
    }

    /// Reads the `sys` of the tree at `root`.
    #[must_use]
    pub(crate) fn below(root: &Path) -> Self {
        let mut places = HashMap::new();
        let cpus = root.join("sys/devices/system/cpu");
        for core in numbered(&cpus, "cpu") {
            let part = |name: &str| {
                let path = cpus.join(format!("cpu{core}/topology/{name}"));
                fs::read_to_string(path).ok()?.trim().parse().ok()
            };
            let physical = part("physical_package_id").zip(part("core_id"));
            places.insert(core, Place { physical, node: 0 });
        }
        let nodes = root.join("sys/devices/system/node");
        for node in numbered(&nodes, "node") {
            let list = fs::read_to_string(nodes.join(format!("node{node}/cpulist")));
            for core in core_list(&list.unwrap_or_default()) {
                places.entry(core).or_default().node = node as u32;
            }
        }
        Self(places)
    }

    /// Returns where a core is.
    #[must_use]
    pub(crate) fn place(&self, core: usize) -> Place {
        self.0.get(&core).copied().unwrap_or_default()
    }

    /// Puts cores into the order in which shards take them: one hyperthread of each physical core
    /// first, node by node. Otherwise their order stays.
    pub(crate) fn in_order(&self, cores: &mut [usize]) {
        let mut nodes = Vec::new();
        let mut threads: HashMap<(u32, u32), usize> = HashMap::new();
        let mut ranks = HashMap::new();
        for core in &*cores {
            let place = self.place(*core);
            if !nodes.contains(&place.node) {
                nodes.push(place.node);
            }
            let taken = place.physical.map(|it| threads.entry(it).or_default());
            let thread = taken.map_or(0, |taken| {
                *taken += 1;
                *taken - 1
            });
            let node = nodes.iter().position(|it| *it == place.node);
            ranks.insert(*core, (thread, node));
        }
        cores.sort_by_key(|core| ranks.get(core).copied());
    }
}

/// The numbers in names such as `cpu12`.
fn numbered(directory: &Path, prefix: &str) -> Vec<usize> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| name.strip_prefix(prefix)?.parse().ok())
        .collect()
}

/// The numbers of a list such as `0-3,8`, as the kernel writes them.
#[must_use]
pub(crate) fn core_list(text: &str) -> Vec<usize> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which cores are taken, each given with its physical core and its node.
    #[track_caller]
    fn check(places: &[(usize, u32, u32)], cores: &[usize], expected: &[usize]) {
        let place = |&(core, physical, node): &(usize, u32, u32)| {
            let physical = Some((node, physical));
            (core, Place { physical, node })
        };
        let mut cores = cores.to_vec();
        Topology(places.iter().map(place).collect()).in_order(&mut cores);
        assert_eq!(cores, expected);
    }

    #[test]
    fn physical_cores_come_before_their_second_threads() {
        let neighbours = [(0, 0, 0), (1, 0, 0), (2, 1, 0), (3, 1, 0)];
        check(&neighbours, &[0, 1, 2, 3], &[0, 2, 1, 3]);
        check(&neighbours, &[3, 0, 1, 2], &[3, 0, 1, 2]);
        let halves = [(0, 0, 0), (1, 1, 0), (2, 0, 0), (3, 1, 0)];
        check(&halves, &[0, 1, 2, 3], &[0, 1, 2, 3]);
        check(&halves, &[1, 2, 3, 0], &[1, 2, 3, 0]);
    }

    #[test]
    fn a_node_is_filled_before_the_next() {
        let alternating = [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)];
        check(&alternating, &[0, 1, 2, 3], &[0, 2, 1, 3]);
        check(&alternating, &[1, 2, 3, 0], &[1, 3, 2, 0]);
    }

    #[test]
    fn where_nothing_is_told_the_order_stays() {
        check(&[], &[2, 0, 1], &[2, 0, 1]);
    }

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(core_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(core_list("7"), [7]);
        assert!(core_list("\n").is_empty() && core_list("x").is_empty());
    }

    #[test]
    fn the_tree_of_the_kernel_is_read() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("cpu/cpu0/topology/physical_package_id", "0"),
            ("cpu/cpu0/topology/core_id", "0"),
            ("cpu/cpu1/topology/physical_package_id", "1"),
            ("cpu/cpu1/topology/core_id", "3"),
            ("node/node0/cpulist", "0"),
            ("node/node1/cpulist", "1"),
        ] {
            let path = root.path().join("sys/devices/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let topology = Topology::below(root.path());
        let second = Place {
            physical: Some((1, 3)),
            node: 1,
        };
        assert_eq!(topology.place(1), second);
        assert_eq!(topology.place(9), Place::default());
    }
}
