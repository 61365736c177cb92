//! A redb database that is never closed, only stopped: every end is a crash.
//!
//! redb verifies a file (commit slot, page checksums) only where it was not closed in an
//! orderly way, and believes it otherwise. Orderly ends are the rare test of recovery, and the
//! common way for damage to pass unseen. So there are none: when this is dropped the file
//! accepts no more writes, and stays as a kill would leave it. Recovery reads the whole file,
//! which for a store of operators' records takes milliseconds.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};

/// What the syncs of this process's store have taken.
pub(crate) static SYNCS: SyncTimes = SyncTimes {
    count: AtomicU64::new(0),
    spent_ns: AtomicU64::new(0),
    last_ns: AtomicU64::new(0),
};

/// How long it takes until what was written is on the disk.
pub(crate) struct SyncTimes {
    count: AtomicU64,
    spent_ns: AtomicU64,
    last_ns: AtomicU64,
}

impl SyncTimes {
    fn add(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.spent_ns.fetch_add(took_ns, Ordering::Relaxed);
        self.last_ns.store(took_ns, Ordering::Relaxed);
    }

    /// Returns how many there were, the time of all, and that of the last one.
    pub(crate) fn read(&self) -> (u64, Duration, Duration) {
        let time = |of: &AtomicU64| Duration::from_nanos(of.load(Ordering::Relaxed));
        let count = self.count.load(Ordering::Relaxed);
        (count, time(&self.spent_ns), time(&self.last_ns))
    }
}

/// redb's page cache, in bytes: everything is read once at the start, and written in small
/// transactions after it.
const CACHE_BYTES: usize = 4 * 1_024 * 1_024;

/// Asked before each write and each sync of the store's file: a disk that is full, broken or
/// slow, for tests. It may block, as a disk does.
pub(crate) trait WriteGate: Send + Sync {
    /// Before bytes are written or the file is made longer.
    ///
    /// # Errors
    /// That of the disk; nothing is written then.
    fn write(&self) -> io::Result<()>;

    /// Before what was written is made durable.
    ///
    /// # Errors
    /// That of the disk.
    fn sync(&self) -> io::Result<()>;
}

/// The database; dropping it leaves the file as after a crash.
pub(super) struct CrashOnlyDatabase {
    database: Database,
    stopped: Arc<AtomicBool>,
}

impl CrashOnlyDatabase {
    /// Opens the database in `file`, or makes one if the file is empty.
    ///
    /// # Errors
    /// Those of redb; it also panics on some damage.
    pub(super) fn open(
        file: File,
        gate: Option<Arc<dyn WriteGate>>,
    ) -> Result<Self, DatabaseError> {
        let stopped = Arc::new(AtomicBool::new(false));
        let file = Stoppable {
            file: FileBackend::new(file)?,
            stopped: Arc::clone(&stopped),
            gate,
        };
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(file)?;
        Ok(Self { database, stopped })
    }
}

impl Deref for CrashOnlyDatabase {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

impl Drop for CrashOnlyDatabase {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
    }
}

struct Stoppable {
    file: FileBackend,
    stopped: Arc<AtomicBool>,
    gate: Option<Arc<dyn WriteGate>>,
}

impl fmt::Debug for Stoppable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl Stoppable {
    fn unless_stopped(&self) -> io::Result<()> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(io::Error::other("stopped"));
        }
        Ok(())
    }

    fn may_write(&self) -> io::Result<()> {
        self.unless_stopped()?;
        self.gate.as_ref().map_or(Ok(()), |gate| gate.write())
    }
}

impl StorageBackend for Stoppable {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may_write()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.unless_stopped()?;
        let begun = Instant::now();
        self.gate.as_ref().map_or(Ok(()), |gate| gate.sync())?;
        self.file.sync_data()?;
        SYNCS.add(begun.elapsed());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.may_write()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
