//! What the server's process may have: descriptors, locked memory, threads. The limits are those
//! of the server that runs, or of its unit, or of this shell.

use super::host::Host;
use crate::cli::{Findings, Level};
use crate::runtime::{Cgroups, MEMLOCK_BYTES_PER_SHARD};

/// Descriptors that no server does with.
const DESCRIPTORS_MIN: u64 = 1_024;
/// Descriptors below which many connections are refused.
const DESCRIPTORS_GOOD: u64 = 65_536;
/// Threads beside those of the shards.
const OTHER_THREADS: u64 = 16;
/// The bit of CAP_IPC_LOCK: locked memory is not counted then.
const IPC_LOCK: u32 = 14;
/// Directories of units, the first wins.
const UNITS: [&str; 3] = [
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Limits and whose they are; `None` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub descriptors: Option<u64>,
    pub memlock_bytes: Option<u64>,
    pub of: String,
    /// Whether locked memory is counted.
    pub is_counted: bool,
}

/// Finds the limits that hold for the server.
pub(super) fn of_server(host: &Host, pid: Option<u32>) -> Limits {
    let process = pid.map_or("self".to_owned(), |pid| pid.to_string());
    let mut limits = Limits {
        descriptors: of_process(host, &process, "Max open files"),
        memlock_bytes: of_process(host, &process, "Max locked memory"),
        of: match pid {
            Some(pid) => format!("the server, pid {pid}"),
            None => "this shell".to_owned(),
        },
        is_counted: !may_lock(host, &process),
    };
    let unit = UNITS.map(|directory| format!("{directory}/ringmesh.service"));
    let Some(unit) = unit.into_iter().find(|unit| host.has(unit)) else {
        return limits;
    };
    if pid.is_none() {
        let mut files = vec![unit];
        files.extend(host.matching("/etc/systemd/system/ringmesh.service.d/*"));
        for file in files {
            let text = host.text(&file).unwrap_or_default();
            if let Some(limit) = of_unit(&text, "LimitNOFILE") {
                limits.descriptors = limit;
            }
            if let Some(limit) = of_unit(&text, "LimitMEMLOCK") {
                limits.memlock_bytes = limit;
            }
        }
        limits.of = "the unit ringmesh.service".to_owned();
        // The user of the unit is not root.
        limits.is_counted = true;
    }
    limits
}

/// The hard limit, to which the server raises the soft one.
fn of_process(host: &Host, process: &str, name: &str) -> Option<u64> {
    let text = host.text(&format!("/proc/{process}/limits"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn may_lock(host: &Host, process: &str) -> bool {
    let rights = host.field(&format!("/proc/{process}/status"), "CapEff");
    let rights = rights.and_then(|text| u64::from_str_radix(&text, 16).ok());
    rights.is_some_and(|rights| rights >> IPC_LOCK & 1 == 1)
}

/// The last value of a key of a unit: `Some(None)` is unlimited, `None` is not there.
fn of_unit(text: &str, key: &str) -> Option<Option<u64>> {
    let values = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(key));
    let value = values.filter_map(|it| it.strip_prefix('=')).next_back()?;
    // `soft:hard`.
    let value = value.rsplit(':').next()?.trim();
    if value == "infinity" {
        return Some(None);
    }
    let digits = value.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let factor = match value.as_bytes().get(digits.len()) {
        Some(b'K') => 1 << 10,
        Some(b'M') => 1 << 20,
        Some(b'G') => 1 << 30,
        _ => 1,
    };
    let number: u64 = digits.parse().ok()?;
    Some(number.checked_mul(factor))
}

/// Looks at the limits. `shards` is the number that will be started.
pub(super) fn look(host: &Host, limits: &Limits, shards: u16, findings: &mut Findings) {
    let descriptors = limits.descriptors.unwrap_or(u64::MAX);
    let level = match descriptors {
        ..DESCRIPTORS_MIN => Level::Fail,
        DESCRIPTORS_MIN..DESCRIPTORS_GOOD => Level::Warn,
        _ => Level::Ok,
    };
    let shown = limits
        .descriptors
        .map_or("unlimited".to_owned(), |it| it.to_string());
    let measured = format!("{shown}, by {}", limits.of);
    let why = "a connection is a descriptor";
    let remedy = "LimitNOFILE=1048576 in the unit, or ulimit -n 1048576";
    findings.measured(level, "descriptors", measured, why, remedy);

    let needed = u64::from(shards) * MEMLOCK_BYTES_PER_SHARD;
    let limit = limits.memlock_bytes.filter(|_| limits.is_counted);
    let level = match limit.is_some_and(|limit| limit < needed) {
        true => Level::Fail,
        false => Level::Ok,
    };
    let shown = limit.map_or("unlimited".to_owned(), |it| format!("{} KiB", it / 1_024));
    let measured = format!("{shown}, by {}", limits.of);
    let why = format!(
        "{shards} shards lock {} KiB for their rings",
        needed / 1_024
    );
    let remedy = "LimitMEMLOCK=64M in the unit, or ulimit -l 65536";
    findings.measured(level, "memlock", measured, why, remedy);
    open_files(host, findings);
    threads(host, shards, findings);
}

/// What all programs together have open.
fn open_files(host: &Host, findings: &mut Findings) {
    let Some(text) = host.text("/proc/sys/fs/file-nr") else {
        return;
    };
    let mut numbers = text
        .split_whitespace()
        .map(|it| it.parse::<u64>().unwrap_or(0));
    let (open, most) = (
        numbers.next().unwrap_or(0),
        numbers.nth(1).unwrap_or(u64::MAX),
    );
    let level = match open >= most / 5 * 4 {
        true => Level::Fail,
        false => Level::Ok,
    };
    let measured = format!("{open} of {most} are open");
    let why = "all programs of the host share them, and nobody is accepted without one";
    let remedy = "find who has them open (lsof), or raise fs.file-max";
    findings.measured(level, "open-files", measured, why, remedy);
}

fn threads(host: &Host, shards: u16, findings: &mut Findings) {
    let needed = u64::from(shards) + OTHER_THREADS;
    let groups = Cgroups::below(host.root(), "self");
    let limits = groups.directories().filter_map(|directory| {
        let text = std::fs::read_to_string(directory.join("pids.max")).ok()?;
        text.trim().parse::<u64>().ok()
    });
    let Some(limit) = limits.min() else {
        return;
    };
    let level = match limit < needed {
        true => Level::Fail,
        false => Level::Ok,
    };
    let why = format!("{shards} shards and what is beside them take {needed} threads");
    let remedy = "TasksMax=infinity in the unit, or a higher pids.max";
    findings.measured(level, "threads", limit.to_string(), why, remedy);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_units_are_read() {
        let unit = "[Service]\nLimitNOFILE=100\n LimitNOFILE=1024:4096\nLimitMEMLOCK=64M\n";
        assert_eq!(of_unit(unit, "LimitNOFILE"), Some(Some(4_096)));
        assert_eq!(of_unit(unit, "LimitMEMLOCK"), Some(Some(64 << 20)));
        assert_eq!(of_unit("LimitMEMLOCK=infinity", "LimitMEMLOCK"), Some(None));
        assert_eq!(of_unit(unit, "LimitCORE"), None);
    }
}
