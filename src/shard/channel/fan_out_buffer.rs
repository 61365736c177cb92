//! Frames that some members of a channel have not been sent.

use std::mem;

use crate::shard::channel::frozen::{Frozen, Pieces};
use crate::shard::outbound::outbox::BufferPool;

/// Frames that some members of a channel have not been sent, in order.
#[derive(Debug, Default)]
pub struct FanOutBuffer {
    pub(in crate::shard) bytes: Vec<u8>,
    /// Position of the first of `bytes` in all that the channel was ever sent, wrapping.
    pub(in crate::shard) start: u32,
    /// Those of `bytes` that somebody has not taken at once.
    pub(in crate::shard) frozen: Frozen,
    pub(in crate::shard) behind: u32,
    /// Something was appended in this turn.
    pub(in crate::shard) grown: bool,
    /// A publication was: presence is less urgent.
    pub(in crate::shard) is_live: bool,
}

impl FanOutBuffer {
    /// The position behind the last frame: where new members begin.
    #[inline]
    #[must_use]
    pub fn end(&self) -> u32 {
        self.start.wrapping_add(self.bytes.len() as u32)
    }

    /// How many members have not been sent everything.
    #[inline]
    #[must_use]
    pub fn behind(&self) -> u32 {
        self.behind
    }

    /// Whether something was appended in this turn.
    #[must_use]
    pub fn has_grown(&self) -> bool {
        self.grown
    }

    /// What comes at a position that a member has reached.
    #[inline]
    pub(in crate::shard) fn from(&self, position: u32) -> &[u8] {
        let at = position.wrapping_sub(self.start) as usize;
        self.bytes.get(at..).unwrap_or_default()
    }

    /// One member is behind no longer.
    pub(in crate::shard) fn caught_up(&mut self, pool: &mut BufferPool) {
        self.behind -= 1;
        if self.behind == 0 {
            self.start = self.end();
            pool.give_back(mem::take(&mut self.bytes));
            self.frozen.clear();
        }
    }

    /// What comes at a position, to be put into the outbox of a member that has reached it.
    #[inline]
    pub(in crate::shard) fn pieces(&mut self, position: u32) -> Pieces<'_> {
        let at = position.wrapping_sub(self.start) as usize;
        self.frozen.pieces(&self.bytes, at)
    }
}
