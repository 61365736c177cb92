//! Tells the shard what its connections' sockets have been offered.

use super::ShardLoop;
use crate::domain::time::Now;
use crate::shard::flush::Mark;

impl ShardLoop {
    /// This turn's outboxes stand in the queue now.
    pub(super) fn begin_offer(&mut self) {
        let turn = self.shard.turn();
        self.offers.push_back((turn, self.to_flush.mark()));
    }

    /// This turn's outboxes have been flushed.
    pub(super) fn end_offer(&mut self, now: Now) {
        let is_over = |(_, mark): &mut (u32, Mark)| self.to_flush.is_past(*mark);
        let mut offered = None;
        while let Some((turn, _)) = self.offers.pop_front_if(is_over) {
            offered = Some(turn);
        }
        if let Some(turn) = offered {
            self.shard.offered(turn, now);
        }
    }
}
