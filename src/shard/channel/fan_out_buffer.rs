//! Frames that some members of a channel have not been sent.
//!
//! Always true, see [`FanOutBuffer::check`]: with no member behind, it is empty and owns no memory;
//! copies are made of its first bytes only. Debug builds check that after each change.

use std::mem;

use crate::shard::channel::frozen::{Frozen, Pieces};
use crate::shard::outbound::outbox::BufferPool;

/// Frames that some members of a channel have not been sent, in order.
#[derive(Debug, Default)]
pub struct FanOutBuffer {
    bytes: Vec<u8>,
    /// Position of the first of `bytes` in all that the channel was ever sent, wrapping.
    start: u32,
    /// Those of `bytes` that somebody has not taken at once.
    frozen: Frozen,
    /// Members that have not been sent everything.
    behind: u32,
    /// Something was appended in this turn.
    grown: bool,
    /// A publication was: presence is less urgent.
    is_live: bool,
}

impl FanOutBuffer {
    /// The position after the last frame, where new members begin.
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

    /// Bytes that somebody has not been sent.
    #[inline]
    pub(in crate::shard) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a frame for that many members: all of them are behind from now on. Returns whether
    /// it is the first in this turn.
    pub(in crate::shard) fn append(
        &mut self,
        frame: &[u8],
        members: u32,
        pool: &mut BufferPool,
    ) -> bool {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take(frame.len());
        }
        self.bytes.extend_from_slice(frame);
        self.behind = members;
        self.debug_check();
        !mem::replace(&mut self.grown, true)
    }

    /// Notes that a publication was appended.
    #[inline]
    pub(in crate::shard) fn note_publication(&mut self) {
        self.is_live = true;
    }

    /// Ends the turn. Returns whether a publication was appended in it.
    pub(in crate::shard) fn end_turn(&mut self) -> bool {
        self.grown = false;
        mem::take(&mut self.is_live)
    }

    /// What comes at a position that a member has reached.
    #[inline]
    pub(in crate::shard) fn from(&self, position: u32) -> &[u8] {
        let at = position.wrapping_sub(self.start) as usize;
        self.bytes.get(at..).unwrap_or_default()
    }

    /// Notes that one member has been sent everything.
    pub(in crate::shard) fn caught_up(&mut self, pool: &mut BufferPool) {
        self.behind -= 1;
        if self.behind == 0 {
            self.start = self.end();
            pool.give_back(mem::take(&mut self.bytes));
            self.frozen.clear();
        }
        self.debug_check();
    }

    /// What comes at a position, to be put into the outbox of a member that has reached it.
    #[inline]
    pub(in crate::shard) fn pieces(&mut self, position: u32) -> Pieces<'_> {
        let at = position.wrapping_sub(self.start) as usize;
        self.frozen.pieces(&self.bytes, at)
    }

    #[inline]
    fn debug_check(&self) {
        if cfg!(debug_assertions) {
            self.check([]);
        }
    }

    /// Panics unless what is said at the top of this file is true, and those positions, which
    /// members have reached, are in it.
    pub(in crate::shard) fn check(&self, positions: impl IntoIterator<Item = u32>) {
        assert_eq!(self.behind == 0, self.bytes.is_empty());
        assert!(self.behind > 0 || self.bytes.capacity() == 0);
        assert!(self.frozen.len() <= self.bytes.len(), "a copy of nothing");
        for position in positions {
            let at = position.wrapping_sub(self.start) as usize;
            assert!(at <= self.bytes.len(), "a position outside the buffer");
        }
    }
}
