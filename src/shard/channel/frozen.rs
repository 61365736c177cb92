//! Copies of what is in a fan-out buffer, each made once and kept by whoever has not taken it.

use smallvec::SmallVec;

use crate::shard::frame::Frame;
use crate::shard::outbound::outbox::{Piece, SHARED_BYTES_MIN};

/// The first bytes of a buffer as frames that queues can share.
#[derive(Debug, Default)]
pub(in crate::shard) struct Frozen {
    /// One behind the other, each of whole frames.
    blocks: Vec<Frame>,
}

/// What a member has not been sent, in few pieces.
pub(in crate::shard) type Pieces<'a> = SmallVec<[Piece<'a>; 4]>;

impl Frozen {
    /// What begins at that place of the buffer: as it lies there if it is small, and as ranges of
    /// shared blocks otherwise.
    #[inline]
    pub fn pieces<'a>(&'a mut self, buffer: &'a [u8], at: usize) -> Pieces<'a> {
        let unsent = buffer.get(at..).unwrap_or_default();
        if unsent.len() < SHARED_BYTES_MIN {
            return Pieces::from_iter([Piece::Owned(unsent)]);
        }
        self.shared(buffer, at)
    }

    #[cold]
    pub(in crate::shard) fn shared<'a>(&'a mut self, buffer: &'a [u8], at: usize) -> Pieces<'a> {
        let frozen: usize = self.blocks.iter().map(|block| block.len()).sum();
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

    /// The buffer is empty again.
    #[inline]
    pub fn clear(&mut self) {
        if !self.blocks.is_empty() {
            self.blocks = Vec::new();
        }
    }
}
