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
    /// From which share of what may wait for a connection on it is late.
    pub late_share: usize,
    /// How many members a channel has on a shard at least whose publishers are held back while
    /// most of them read too slowly. Off: with it two of 3,000 seeds of the simulation lost
    /// publications for a member.
    pub lag_members_min: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            snapshot_bytes_max: REPLY_BACKLOG_BYTES_MAX,
            late_share: 4,
            lag_members_min: u32::MAX,
        }
    }
}

/// Answers that wait to be read, or to be given by other shards, before a connection's input is
/// held back, in bytes.
pub(in crate::shard) const REPLY_BACKLOG_BYTES_MAX: usize = 64 * 1_024;
