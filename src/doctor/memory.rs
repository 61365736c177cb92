//! Memory: what there is of it, what the control group allows, and whether it is swapped.

use super::host::Host;
use crate::cli::{Findings, Level};
use crate::runtime::Cgroups;

/// Parts of memory, in percent.
const AVAILABLE_PERCENT_MIN: u64 = 10;
const GROUP_PERCENT_MAX: u64 = 90;
/// The server's own ceiling, where none is set: of the machine or the control group.
const CEILING_PERCENT: u64 = 80;
/// Swapped memory that is worth a word, in bytes.
const SWAPPED_BYTES_MAX: u64 = 64 << 20;

/// Bytes that the server may use: its ceiling, or what the configuration says.
pub(super) fn ceiling(host: &Host, configured: u64) -> u64 {
    if configured > 0 {
        return configured;
    }
    all(host) / 100 * CEILING_PERCENT
}

/// Bytes of the machine, or of the control group.
fn all(host: &Host) -> u64 {
    let machine = host.memory("MemTotal").unwrap_or(u64::MAX);
    let group = Cgroups::below(host.root(), "self").memory_bytes_max();
    group.map_or(machine, |group| group.min(machine))
}

/// A number of bytes for people.
pub(super) fn shown(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes / 1_024),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes / 1_048_576),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Looks at the memory. `configured` is `limits.memory_bytes`.
pub(super) fn look(host: &Host, configured: u64, findings: &mut Findings) {
    available(host, findings);
    group(host, findings);
    let (ceiling, all) = (ceiling(host, configured), all(host));
    let level = match ceiling > all / 100 * GROUP_PERCENT_MAX {
        true => Level::Fail,
        false => Level::Ok,
    };
    let measured = format!("{} of {}", shown(ceiling), shown(all));
    let why = "the server stops taking connections at its ceiling, so that the kernel kills nobody";
    let remedy = "set limits.memory_bytes to 0, which is 80% of what there is";
    findings.measured(level, "memory-ceiling", measured, why, remedy);
    swapped(host, findings);
    if let Some(2) = host.number::<u8>("/proc/sys/vm/overcommit_memory") {
        let why = "memory that is asked for and not used counts then, and the server is refused it";
        let remedy = "run sysctl -w vm.overcommit_memory=0";
        findings.measured(Level::Warn, "overcommit", "2, strict", why, remedy);
    }
}

fn available(host: &Host, findings: &mut Findings) {
    let Some((free, all)) = host.memory("MemAvailable").zip(host.memory("MemTotal")) else {
        return;
    };
    let level = match free < all / 100 * AVAILABLE_PERCENT_MIN {
        true => Level::Warn,
        false => Level::Ok,
    };
    let measured = format!("{} of {} are free", shown(free), shown(all));
    let why = "connections and what waits for them need memory";
    let remedy = "find what uses it (top, sorted with M)";
    findings.measured(level, "memory", measured, why, remedy);
}

fn group(host: &Host, findings: &mut Findings) {
    let groups = Cgroups::below(host.root(), "self");
    let read = |directory: &std::path::Path, name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(directory.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let mut worst = (Level::Ok, "no limit, or room below it".to_owned());
    for directory in groups.directories() {
        let Some(used) = read(directory, "memory.current") else {
            continue;
        };
        for limit in ["memory.max", "memory.high"] {
            let Some(most) = read(directory, limit) else {
                continue;
            };
            if used > most / 100 * GROUP_PERCENT_MAX {
                let text = format!("{} of {limit} {} are used", shown(used), shown(most));
                worst = (Level::Warn, text);
            }
        }
    }
    let why = "above memory.high the kernel slows every thread down, above memory.max it kills";
    let remedy = "raise the limit (MemoryMax=, MemoryHigh=, docker run --memory)";
    findings.measured(worst.0, "memory-limit", worst.1, why, remedy);
}

fn swapped(host: &Host, findings: &mut Findings) {
    let Some((all, free)) = host.memory("SwapTotal").zip(host.memory("SwapFree")) else {
        return;
    };
    let used = all.saturating_sub(free);
    let level = match used > SWAPPED_BYTES_MAX {
        true => Level::Warn,
        false => Level::Ok,
    };
    let measured = format!("{} of {} are used", shown(used), shown(all));
    let why = "a shard that waits for a page from disk stops for all of its connections";
    let remedy = "give the host more memory, or run swapoff -a and swapon -a when there is room";
    findings.measured(level, "swap", measured, why, remedy);
}
