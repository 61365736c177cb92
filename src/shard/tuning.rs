//! Bounds that no configuration changes, but simulations do.

use crate::domain::channel::Pace;
use crate::shard::bounds::REPLY_BACKLOG_BYTES_MAX;
use crate::shard::state::Shard;

/// Bounds that simulations make small, so that they are reached.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// When presence changes are announced.
    pub pace: Pace,
    /// Bytes of snapshots that wait for one connection beside the answers that do; one is kept
    /// whatever its size.
    pub snapshot_bytes_max: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            snapshot_bytes_max: REPLY_BACKLOG_BYTES_MAX,
        }
    }
}

impl Shard {
    /// Changes bounds, for a simulation: before the first input.
    pub fn tune(&mut self, tuning: Tuning) {
        self.context.tuning = tuning;
    }
}
