//! Copies of what is in a fan-out buffer, each made once and shared by all who have not taken it.

use smallvec::SmallVec;

use crate::shard::frame::Frame;
use crate::shard::outbound::outbox::{Piece, SHARED_BYTES_MIN};

/// The first bytes of a buffer as frames that queues can share.
#[derive(Debug, Default)]
pub(in crate::shard) struct Frozen {
    /// In order, each of whole frames.
    blocks: Vec<Frame>,
}

/// What a member has not been sent, in few pieces.
pub(in crate::shard) type Pieces<'a> = SmallVec<[Piece<'a>; 4]>;

impl Frozen {
    /// What begins at that place of the buffer: as it lies there if it is small, and as ranges of
    /// shared blocks otherwise.
    #[inline]
    pub(in crate::shard) fn pieces<'a>(&'a mut self, buffer: &'a [u8], at: usize) -> Pieces<'a> {
        let unsent = buffer.get(at..).unwrap_or_default();
        if unsent.len() < SHARED_BYTES_MIN {
            // Not from an iterator: that is not inlined, and a storm does it for each member.
            let mut pieces = Pieces::new();
            pieces.push(Piece::Owned(unsent));
            return pieces;
        }
        self.shared(buffer, at)
    }

    #[cold]
    pub(in crate::shard) fn shared<'a>(&'a mut self, buffer: &'a [u8], at: usize) -> Pieces<'a> {
        let frozen = self.len();
        if frozen < buffer.len() {
            self.blocks.push(buffer[frozen..].into());
        }
        let mut start = 0;
        let mut pieces = Pieces::new();
        for block in &self.blocks {
            let end = start + block.len();
            if at < end {
                pieces.push(Piece::Shared(block, at.saturating_sub(start)..block.len()));
            }
            start = end;
        }
        pieces
    }

    /// How many bytes of the buffer have been copied.
    pub(in crate::shard) fn len(&self) -> usize {
        self.blocks.iter().map(|block| block.len()).sum()
    }

    /// The buffer is empty again.
    #[inline]
    pub(in crate::shard) fn clear(&mut self) {
        if !self.blocks.is_empty() {
            self.blocks = Vec::new();
        }
    }
}
