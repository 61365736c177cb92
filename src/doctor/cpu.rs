//! Cores: how many the server gets, and who else uses them.

use super::host::Host;
use crate::cli::{Findings, Level};
use crate::runtime::{Bounds, Cgroups, MEMLOCK_BYTES_PER_SHARD, core_list};

use super::limits::Limits;

/// Part of its time that a virtual machine may lose to others, in percent.
const STOLEN_PERCENT_MAX: u64 = 2;
/// Part of a minute in which something waits, in percent: of CPU, memory and the disk.
const PRESSURE_PERCENT_MAX: [(&str, f64); 3] = [("cpu", 20.0), ("memory", 5.0), ("io", 20.0)];

/// What the server gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cores {
    /// Cores for the shards, in the order in which they are taken.
    pub cores: Vec<usize>,
    /// Shards that will be started.
    pub shards: u16,
    /// CPU time that the control group allows, in thousandths of a core.
    pub millicores_max: Option<u64>,
}

impl Cores {
    /// Works out what a server with these settings would start on this host.
    pub(super) fn new(
        host: &Host,
        cores: Option<&[usize]>,
        shards: Option<u16>,
        limits: &Limits,
    ) -> Self {
        let allowed = allowed(host);
        let given: Vec<_> = cores.unwrap_or(&allowed).to_vec();
        let millicores_max = Cgroups::below(host.root(), "self").cpu_millicores_max();
        let bounds = Bounds {
            core_count: given.len().max(1),
            cpu_millicores_max: millicores_max,
            // One shard at least is planned: what is too little for it has a check of its own.
            memlock_bytes_max: limits
                .memlock_bytes
                .filter(|bytes| limits.is_counted && *bytes >= MEMLOCK_BYTES_PER_SHARD),
        };
        let (shards, _) = bounds.shards(shards);
        Self {
            cores: given,
            shards,
            millicores_max,
        }
    }

    /// CPU time that there is, in thousandths of a core.
    pub(super) fn millicores(&self) -> u64 {
        let cores = self.cores.len().min(usize::from(self.shards)) as u64 * 1_000;
        self.millicores_max.map_or(cores, |max| max.min(cores))
    }
}

/// Cores that this process may run on.
fn allowed(host: &Host) -> Vec<usize> {
    let list = host.field("/proc/self/status", "Cpus_allowed_list");
    list.map_or_else(|| host.online_cores(), |list| core_list(&list))
}

/// Looks at the cores. `asked` is what the configuration names.
pub(super) fn look(host: &Host, cores: &Cores, asked: Option<&[usize]>, findings: &mut Findings) {
    let allowed = allowed(host);
    let refused = asked.unwrap_or_default().iter();
    let refused: Vec<_> = refused.filter(|core| !allowed.contains(core)).collect();
    let shards = usize::from(cores.shards);
    let measured = format!("{shards} shards on {} cores", cores.cores.len());
    let why = "a shard is a thread, and each has a core of its own where there are enough";
    if let Some(core) = refused.first() {
        let measured = format!("core {core} of server.cores may not be used");
        let remedy = "name others, or widen the mask (taskset, cpuset, CPUAffinity=)";
        findings.measured(Level::Fail, "cores", measured, why, remedy);
    } else if shards > cores.cores.len() {
        let remedy = format!("set server.shards to \"auto\" or {}", cores.cores.len());
        findings.measured(Level::Warn, "cores", measured, why, remedy);
    } else {
        findings.measured(Level::Ok, "cores", measured, why, "");
    }
    quota(cores, findings);
    stolen(host, findings);
    pressure(host, findings);
}

fn quota(cores: &Cores, findings: &mut Findings) {
    let why = "all shards stand still when the quota of a period is used up";
    let Some(max) = cores.millicores_max else {
        return findings.measured(Level::Ok, "cpu-quota", "none", why, "");
    };
    let is_short = cores.shards > 1 && u64::from(cores.shards) * 1_000 > max;
    let level = match is_short || max < 1_000 {
        true => Level::Warn,
        false => Level::Ok,
    };
    let measured = format!("{max} thousandths of a core for {} shards", cores.shards);
    let remedy = "raise the quota (cpu.max, CPUQuota=, docker run --cpus), or set server.shards \
                  to \"auto\"";
    findings.measured(level, "cpu-quota", measured, why, remedy);
}

fn stolen(host: &Host, findings: &mut Findings) {
    let text = host.text("/proc/stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "));
    let Some(line) = line.filter(|_| host.is_virtual()) else {
        return;
    };
    let times = line.split_whitespace().filter_map(|it| it.parse().ok());
    let times: Vec<u64> = times.take(8).collect();
    let Some(stolen) = times.get(7) else {
        return;
    };
    let percent = stolen * 100 / times.iter().sum::<u64>().max(1);
    let level = match percent > STOLEN_PERCENT_MAX {
        true => Level::Warn,
        false => Level::Ok,
    };
    let measured = format!("{percent}% since the start");
    let why = "time that the host of this virtual machine gave to others, while a shard had work";
    let remedy = "take a machine with cores of its own";
    findings.measured(level, "stolen-time", measured, why, remedy);
}

fn pressure(host: &Host, findings: &mut Findings) {
    for (what, most) in PRESSURE_PERCENT_MAX {
        let text = host.text(&format!("/proc/pressure/{what}"));
        let text = text.unwrap_or_default();
        let average = text.split_once("avg60=").map(|(_, rest)| rest);
        let average = average.and_then(|rest| rest.split_whitespace().next());
        let Some(percent) = average.and_then(|it| it.parse::<f64>().ok()) else {
            continue;
        };
        let level = match percent > most {
            true => Level::Warn,
            false => Level::Ok,
        };
        let check = match what {
            "cpu" => "cpu-pressure",
            "memory" => "memory-pressure",
            _ => "disk-pressure",
        };
        let measured = format!("{percent}% of the last minute");
        let why = "so long some program of the host has waited for it";
        let remedy = "find what uses it (top, iotop), and move that elsewhere";
        findings.measured(level, check, measured, why, remedy);
    }
}
