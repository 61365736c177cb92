//! Bounds that no configuration changes, but simulations do.

use crate::domain::channel::Pace;

/// Bounds that simulations make small, so that they are reached.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// When presence changes are announced.
    pub pace: Pace,
    /// Bytes of snapshots that wait for one connection beside the answers that do; one is kept
    /// whatever its size.
    pub snapshot_bytes_max: usize,
    /// A connection is late when what waits for it is more than what may wait, divided by this.
    pub late_share: usize,
    /// A channel with fewer members on a shard does not lag there. In a room of one or two, a slow
    /// phone would hold up a backend that serves thousands of rooms over one connection.
    pub lag_members_min: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            snapshot_bytes_max: REPLY_BACKLOG_BYTES_MAX,
            late_share: 4,
            lag_members_min: 3,
        }
    }
}

/// Answers that wait to be read, or to be given by other shards, before a connection's input is
/// held back, in bytes.
pub(in crate::shard) const REPLY_BACKLOG_BYTES_MAX: usize = 64 * 1_024;
