//! Room for descriptors, made before there are connections.
//!
//! The kernel doubles a process's table of descriptors as they are used up, and with several
//! threads it waits for an RCU grace period each time: accepts, and so the shard's connections,
//! stood still for 4 to 42 ms in a storm of connects (`tuning/tls.md`).

use std::fs::File;
use std::os::fd::RawFd;

use rustix::process::{Resource, getrlimit};

/// Descriptors that there is always room for: 8 bytes each. From here on a doubling is rare.
const ROOM_MAX: u64 = 1 << 16;

/// Makes room for as many descriptors as the process may have, up to [`ROOM_MAX`]. Without it
/// everything works too, so a failure is none.
pub fn make_room() {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(ROOM_MAX);
    let highest = limit.min(ROOM_MAX).saturating_sub(1) as RawFd;
    if let Ok(any) = File::open("/dev/null") {
        // Closed at once: the table does not shrink.
        let _ = rustix::io::fcntl_dupfd_cloexec(&any, highest);
    }
}
