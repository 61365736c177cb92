//! Descriptors: room for them, made before there are connections, and a bound on how many of them
//! connections may take.
//!
//! The kernel doubles a process's table of descriptors as they are used up, and with several
//! threads it waits for an RCU grace period each time: accepts, and so the shard's connections,
//! stood still for 4 to 42 ms in a storm of connects (`tuning/tls.md`).
//!
//! Public connections stop some tens below the limit, so that the admin listener, the store and
//! the log always get theirs: an operator must be able to look at a full server.

use std::fs::{self, File};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};

use crate::limits::descriptors_used_max;

/// Descriptors that there is always room for: 8 bytes each. From here on a doubling is rare.
const ROOM_MAX: u64 = 1 << 16;

/// Makes room for as many descriptors as the process may have, up to [`ROOM_MAX`]. Best effort:
/// a failure is harmless.
pub(super) fn make_room() {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(ROOM_MAX);
    let highest = limit.min(ROOM_MAX).saturating_sub(1) as RawFd;
    if let Ok(any) = File::open("/dev/null") {
        // Closed at once: the table does not shrink.
        let _ = rustix::io::fcntl_dupfd_cloexec(&any, highest);
    }
}

/// Descriptors that a shard opens when it starts: its ring.
const PER_SHARD: usize = 1;

/// What all shards together take for public connections.
#[derive(Debug)]
pub(super) struct PublicDescriptors {
    open: AtomicUsize,
    open_max: usize,
}

impl PublicDescriptors {
    /// None is taken yet. Those that are open now, and those of the shards that are about to
    /// start, are not for connections.
    #[must_use]
    pub(super) fn new(shard_count: u16) -> Self {
        let limit = getrlimit(Resource::Nofile).current;
        let open_now = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self::beside(open_now + usize::from(shard_count) * PER_SHARD, limit)
    }

    fn beside(open_now: usize, limit: Option<u64>) -> Self {
        let used_max = descriptors_used_max(limit.unwrap_or(u64::MAX));
        let used_max = usize::try_from(used_max).unwrap_or(usize::MAX);
        Self {
            open: AtomicUsize::new(0),
            open_max: used_max.saturating_sub(open_now).max(1),
        }
    }

    /// Whether another connection may be accepted. Shards that ask at the same time may all do
    /// so: the reserve is larger than their number counts.
    #[must_use]
    pub(super) fn has_room(&self) -> bool {
        self.open.load(Ordering::Relaxed) < self.open_max
    }

    /// A connection was accepted.
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection's descriptor is closed.
    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_reserve() {
        for (open_now, limit, max) in [
            (30, Some(20_000), 20_000 - 30 - 96),
            (30, Some(256), 256 - 30 - 64),
            (30, Some(31), 1),
            (30, None, usize::MAX - 30 - 96),
        ] {
            assert_eq!(PublicDescriptors::beside(open_now, limit).open_max, max);
        }
    }

    #[test]
    fn there_is_room_again_when_a_descriptor_is_closed() {
        let descriptors = PublicDescriptors::beside(2, Some(4));
        assert!(descriptors.has_room());
        descriptors.opened();
        assert!(!descriptors.has_room());
        descriptors.closed();
        assert!(descriptors.has_room());
        assert!(PublicDescriptors::new(2).has_room());
    }
}
