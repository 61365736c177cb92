//! What no file tells: the kernel, the disk and the clock are asked.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::host::{Asked, Disk};
use crate::runtime::clock::unix_ms;
use crate::runtime::io_uring_fault;

/// Writes that are timed; the middle one counts.
const SYNCS: usize = 5;
/// Bytes of each.
const SYNC_BYTES: usize = 4_096;

/// Asks them. Nothing is left anywhere: the file that is written has no name.
pub(super) fn machine(data_dir: Option<&Path>) -> Asked {
    Asked {
        io_uring_fault: io_uring_fault(),
        disk: data_dir.and_then(disk),
        now_unix: unix_ms() / 1_000,
    }
}

fn disk(data_dir: &Path) -> Option<Disk> {
    // What is not there yet will be made below what is.
    let directory = data_dir.ancestors().find(|it| it.is_dir())?;
    let space = rustix::fs::statvfs(directory).ok()?;
    Some(Disk {
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        all_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        sync: sync(directory),
    })
}

/// Times writes to a file without a name, which is gone when it is closed.
fn sync(directory: &Path) -> Option<Duration> {
    let flags = i32::try_from(OFlags::TMPFILE.bits()).ok()?;
    let mut options = OpenOptions::new();
    let options = options.write(true).custom_flags(flags).mode(0o600);
    let mut file = options.open(directory).ok()?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[0; SYNC_BYTES]).ok()?;
        file.sync_data().ok()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times.get(SYNCS / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_asked_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(&dir.path().join("not/there/yet")).unwrap();
        assert!(disk.free_bytes <= disk.all_bytes && disk.all_bytes > 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
