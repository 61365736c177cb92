//! A directory that one process at a time uses: it is locked for as long as it is open, and the
//! kernel lets go of it when the process ends, however that ends.

use std::fs::{File, TryLockError};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long a lock is tried. A killed predecessor's goes with the last of its memory, after the
/// process has ended; ports are tried as long.
const LOCK_TIME_MAX: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Locks a directory for as long as the file is open, whatever path it was opened by. Returns
/// `false` if another process has locked it.
///
/// # Errors
/// Those of the file system.
pub(crate) fn lock(directory: &File) -> io::Result<bool> {
    let deadline = Instant::now() + LOCK_TIME_MAX;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
