//! The placement plan: which shard runs on which core, beside whom, and with which memory.

use serde_json::{Value, json};

use super::cpu::Cores;
use super::host::Host;
use super::settings::TUNER;
use crate::cli::{Findings, Level};
use crate::runtime::{Topology, core_list, is_at_least};

/// The first kernel that looks at the core of every listener of an address.
const FOLLOWS_SINCE: (u32, u32) = (6, 2);

/// Where one shard will run.
struct Row {
    shard: u16,
    core: usize,
    physical: Option<(u32, u32)>,
    node: u32,
    queues: Vec<String>,
}

/// The plan for a host.
pub(super) struct Plan {
    rows: Vec<Row>,
    /// Whether a connect goes to the shard of the core that it comes in on.
    follows_queues: bool,
    /// Cores that packets come in on.
    reached: Vec<usize>,
    /// The kernel's release.
    release: String,
}

/// What the configuration says of placement.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    /// The cores are the configuration's, whose order stays.
    pub has_cores: bool,
    /// `server.follow_queues`.
    pub follows_queues: bool,
}

impl Plan {
    /// Works out where the shards will run.
    pub(super) fn new(host: &Host, cores: &Cores, wanted: Wanted) -> Self {
        let topology = Topology::below(host.root());
        let mut order = cores.cores.clone();
        if !wanted.has_cores && usize::from(cores.shards) < order.len() {
            topology.in_order(&mut order);
        }
        let queues = queues(host);
        let row = |shard: u16| {
            let core = order.get(usize::from(shard) % order.len().max(1));
            let core = core.copied().unwrap_or_default();
            let place = topology.place(core);
            let on_core = queues.iter().filter(|(_, cores)| cores == &[core]);
            Row {
                shard,
                core,
                physical: place.physical,
                node: place.node,
                queues: on_core.map(|(queue, _)| queue.clone()).collect(),
            }
        };
        Self {
            rows: (0..cores.shards).map(row).collect(),
            follows_queues: wanted.follows_queues,
            reached: reached(host, &queues),
            release: host.text("/proc/sys/kernel/osrelease").unwrap_or_default(),
        }
    }

    /// Says whether shards share a physical core, and how many nodes of memory they are on.
    pub(super) fn look(&self, findings: &mut Findings) {
        let mut physical: Vec<_> = self.rows.iter().filter_map(|row| row.physical).collect();
        let known = physical.len();
        physical.sort_unstable();
        physical.dedup();
        let mut nodes: Vec<_> = self.rows.iter().map(|row| row.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let why = "two hyperthreads of a physical core share its units: together they do little \
                   more than one, and memory of another node is slower";
        let shared = known - physical.len();
        let measured = format!(
            "{} shards, {shared} of them beside another on a physical core, {} nodes of memory",
            self.rows.len(),
            nodes.len()
        );
        findings.measured(Level::Ok, "placement", measured, why, "");
        self.look_at_queues(findings);
    }

    /// Says which shard gets which connects.
    fn look_at_queues(&self, findings: &mut Findings) {
        let why = "a connection whose packets come in on its shard's core moves between no caches; \
                   a shard on whose core none come in gets no connections then";
        if !self.follows_queues {
            let measured = "connects go to any shard; server.follow_queues is off";
            return findings.measured(Level::Ok, "follow-queues", measured, why, "");
        }
        let is_left_out = |row: &&Row| {
            let mut others = self.rows.iter().filter(|it| it.core == row.core);
            // The kernel takes the first of two on a core.
            !self.reached.contains(&row.core) || others.next().map(|it| it.shard) != Some(row.shard)
        };
        let left_out: Vec<_> = self.rows.iter().filter(is_left_out).collect();
        let (level, measured) = match &left_out[..] {
            _ if !is_at_least(&self.release, FOLLOWS_SINCE) => (
                Level::Warn,
                format!("Linux {} looks at one listener only", self.release),
            ),
            [] => (
                Level::Ok,
                format!(
                    "packets come in on the cores of all {} shards",
                    self.rows.len()
                ),
            ),
            _ if self.reached.is_empty() => (
                Level::Warn,
                "no queue of a network card is seen here".to_owned(),
            ),
            _ => {
                let shards: Vec<_> = left_out.iter().map(|row| row.shard.to_string()).collect();
                let text = format!("no packets come in for shards {}", shards.join(", "));
                (Level::Warn, text)
            }
        };
        let remedy = format!("{TUNER}: nic-interrupts; or set server.follow_queues to false");
        findings.measured(level, "follow-queues", measured, why, &remedy);
    }

    /// The plan for people.
    pub(super) fn text(&self) -> String {
        let line = |row: &Row| {
            let physical = row.physical.map_or("?".to_owned(), |(package, core)| {
                format!("{core} of package {package}")
            });
            let queues = match row.queues.is_empty() {
                true => "no queue of its own".to_owned(),
                false => format!("queues {}", row.queues.join(", ")),
            };
            format!(
                "plan  shard {}: core {}, physical core {physical}, memory of node {}, {queues}\n",
                row.shard, row.core, row.node
            )
        };
        self.rows.iter().map(line).collect()
    }

    /// The plan for programs.
    pub(super) fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "shard": row.shard,
                "core": row.core,
                "package": row.physical.map(|(package, _)| package),
                "physicalCore": row.physical.map(|(_, core)| core),
                "node": row.node,
                "queues": row.queues,
            })
        };
        self.rows.iter().map(row).collect()
    }
}

/// Cores that packets come in on: those that a queue interrupts, and those that it is spread to.
fn reached(host: &Host, queues: &[(String, Vec<usize>)]) -> Vec<usize> {
    let mut cores: Vec<_> = queues.iter().flat_map(|(_, cores)| cores.clone()).collect();
    for card in host.cards() {
        for path in host.matching(&format!("/sys/class/net/{card}/queues/rx-*/rps_cpus")) {
            cores.extend(mask_cores(&host.text(&path).unwrap_or_default()));
        }
    }
    cores
}

/// The cores of a mask as the kernel writes it: groups of 32 bits, the highest first.
fn mask_cores(mask: &str) -> Vec<usize> {
    let groups = mask.trim().rsplit(',').enumerate();
    let cores = groups.flat_map(|(at, group)| {
        let bits = u32::from_str_radix(group, 16).unwrap_or(0);
        (0..32)
            .filter(move |bit| bits >> bit & 1 == 1)
            .map(move |bit| at * 32 + bit)
    });
    cores.collect()
}

/// The queues of all cards by the cores that their interrupts go to.
fn queues(host: &Host) -> Vec<(String, Vec<usize>)> {
    let mut found = Vec::new();
    for card in host.cards() {
        for entry in host.matching(&format!("/sys/class/net/{card}/device/msi_irqs/*")) {
            let number = entry.rsplit('/').next().unwrap_or_default();
            let directory = format!("/proc/irq/{number}");
            let names = host.names(&directory);
            let is_action = |name: &&String| host.path(&format!("{directory}/{name}")).is_dir();
            let Some(action) = names.iter().find(is_action) else {
                continue;
            };
            let list = host.text(&format!("{directory}/smp_affinity_list"));
            found.push((action.clone(), core_list(&list.unwrap_or_default())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read() {
        assert!(mask_cores("00").is_empty());
        assert_eq!(mask_cores("5"), [0, 2]);
        assert_eq!(mask_cores("1,80000000"), [31, 32]);
    }
}
