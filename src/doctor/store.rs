//! The disk of the data directory.

use std::path::Path;
use std::time::Duration;

use super::host::Host;
use super::memory::shown;
use crate::cli::{Findings, Level};

/// Bytes that must be free, and that should be.
const FREE_BYTES_MIN: u64 = 64 << 20;
const FREE_BYTES_GOOD: u64 = 1 << 30;
/// How long a write may take to be durable.
const SYNC_GOOD: Duration = Duration::from_millis(100);
const SYNC_MAX: Duration = Duration::from_secs(1);
/// File systems that are gone with the machine.
const IN_MEMORY: &[&str] = &["tmpfs", "ramfs"];
/// File systems over a network, whose locks and failures are their own.
const REMOTE: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "fuse.sshfs",
    "ceph",
    "glusterfs",
];

/// Looks at the disk that `data_dir` is on.
pub(super) fn look(host: &Host, data_dir: &Path, findings: &mut Findings) {
    file_system(host, data_dir, findings);
    let Some(disk) = host.asked.disk else {
        return;
    };
    let level = match disk.free_bytes {
        ..FREE_BYTES_MIN => Level::Fail,
        FREE_BYTES_MIN..FREE_BYTES_GOOD => Level::Warn,
        _ => Level::Ok,
    };
    let free = shown(disk.free_bytes);
    let measured = format!("{free} of {} are free", shown(disk.all_bytes));
    let why = "without room no change of apps and keys is kept";
    let remedy = format!("make room on the disk of {}", data_dir.display());
    findings.measured(level, "store-space", measured, why, remedy);
    let why = "each change of apps and keys waits for the disk twice";
    let Some(sync) = disk.sync else {
        let text = "not measured: this user may not write there";
        return findings.measured(Level::Ok, "store-sync", text, why, "");
    };
    let level = match () {
        () if sync > SYNC_MAX => Level::Fail,
        () if sync > SYNC_GOOD => Level::Warn,
        () => Level::Ok,
    };
    let measured = format!("{:.1} ms", sync.as_secs_f64() * 1_000.0);
    let remedy = "move the data directory to another disk, and look at iostat -x";
    findings.measured(level, "store-sync", measured, why, remedy);
}

fn file_system(host: &Host, data_dir: &Path, findings: &mut Findings) {
    let inside = host.inside(data_dir);
    let mounts = host.text("/proc/self/mountinfo").unwrap_or_default();
    // 36 35 98:0 /root /mount/point options - type source options (proc(5))
    let mounted = mounts.lines().filter_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4);
        let (point, options) = (fields.next()?, fields.next()?);
        let kind = rest.split(' ').next()?;
        inside.starts_with(point).then_some((point, options, kind))
    });
    // The last of the longest is the one on top.
    let Some((point, options, kind)) = mounted.max_by_key(|(point, ..)| point.len()) else {
        return;
    };
    let is_fixed = options.split(',').any(|option| option == "ro");
    let measured = format!("{kind} at {point}");
    let why = "apps and keys are kept there, and outlive a failure of power";
    let (level, remedy) = match kind {
        _ if is_fixed => (Level::Fail, "it is mounted read-only: mount it for writing"),
        kind if IN_MEMORY.contains(&kind) => (Level::Fail, "it is gone at a restart: use a disk"),
        kind if REMOTE.contains(&kind) => (Level::Warn, "use a disk of this host"),
        _ => (Level::Ok, ""),
    };
    findings.measured(level, "store-disk", measured, why, remedy);
}
