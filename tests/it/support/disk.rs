//! A disk that loses power: what a server has written and not synced is gone, all of it or a part.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::syscalls::{Call, Syscalls, Verdict};

/// The calls by which the store writes.
pub(crate) const WRITES: [i64; 4] = [
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
];

/// What of the writes that were not synced is on the disk afterwards.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Survives {
    /// The process alone has died.
    Everything,
    /// The power has failed before the disk wrote any of them.
    Nothing,
    /// The disk wrote every second one, in whatever order.
    EverySecond,
}

impl Survives {
    /// Goes through all of them.
    pub(crate) fn number(at: usize) -> Self {
        [Self::Nothing, Self::EverySecond, Self::Everything][at % 3]
    }
}

/// The moment at which a server dies, counted in calls by which it writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Death {
    /// Before the call of this number, from 0.
    Before(usize),
    /// After it.
    After(usize),
}

/// A write that is not synced.
struct Unsynced {
    offset: u64,
    before: Vec<u8>,
    /// Length of the file before it, in bytes.
    length: u64,
    /// Bytes that it wrote.
    count: usize,
}

/// The store's file, and what would be lost of it.
struct Disk {
    data: PathBuf,
    unsynced: Vec<Unsynced>,
}

impl Disk {
    fn file(&self) -> File {
        let open = |name| {
            let path = self.data.join(name);
            OpenOptions::new().read(true).write(true).open(path)
        };
        // A new store gets its name when it is complete.
        open("store.redb")
            .or_else(|_| open("store.redb.new"))
            .unwrap()
    }

    /// Remembers what a write takes away.
    fn note(&mut self, call: Call) {
        let [_, second, count, offset, ..] = call.arguments;
        let file = self.file();
        let length = file.metadata().unwrap().len();
        let (offset, count, taken) = match call.number {
            libc::SYS_pwrite64 => (offset, count as usize, count),
            libc::SYS_ftruncate => (second, 0, length.saturating_sub(second)),
            _ => return,
        };
        let there = length.saturating_sub(offset).min(taken);
        let mut before = vec![0; there as usize];
        file.read_exact_at(&mut before, offset).unwrap();
        self.unsynced.push(Unsynced {
            offset,
            before,
            length,
            count,
        });
    }

    /// Takes back what does not survive.
    fn fail(&mut self, survives: Survives) {
        // Before its first write the store may have no file.
        if matches!(survives, Survives::Everything) || self.unsynced.is_empty() {
            return;
        }
        let file = self.file();
        let written: Vec<_> = self.unsynced.iter().map(|it| read(&file, it)).collect();
        for it in self.unsynced.iter().rev() {
            file.set_len(it.length).unwrap();
            file.write_all_at(&it.before, it.offset).unwrap();
        }
        if let Survives::EverySecond = survives {
            for (it, written) in self.unsynced.iter().zip(written).step_by(2) {
                file.write_all_at(&written, it.offset).unwrap();
            }
        }
        file.sync_all().unwrap();
    }
}

/// What a write has written, as it is now.
fn read(file: &File, write: &Unsynced) -> Vec<u8> {
    let length = file.metadata().unwrap().len();
    let there = length.saturating_sub(write.offset).min(write.count as u64);
    let mut bytes = vec![0; there as usize];
    file.read_exact_at(&mut bytes, write.offset).unwrap();
    bytes
}

/// Lets a server die while it writes into this directory. Returns how many calls it has made until
/// now.
pub(crate) fn die(
    syscalls: &Syscalls,
    data: PathBuf,
    death: Death,
    survives: Survives,
) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let mut disk = Disk {
        data,
        unsynced: Vec::new(),
    };
    syscalls.judge(move |call| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let is_sync = [libc::SYS_fdatasync, libc::SYS_fsync].contains(&call.number);
        match death {
            Death::Before(at) if at == number => {
                disk.fail(survives);
                return Verdict::Kill;
            }
            // Nobody can tell a sync that was made from one after which nothing was lost.
            Death::After(at) if at == number && is_sync => return Verdict::Kill,
            _ => {}
        }
        if is_sync {
            disk.unsynced.clear();
        } else {
            disk.note(call);
        }
        Verdict::Pass
    });
    calls
}
