//! The frames of a channel's history, one behind the other, in blocks that many can share.
//!
//! Frames are appended to an open block. When it has grown to its size, which follows what is kept
//! in all, it is sealed: from then on it is shared and never changes. Whoever is sent a part of
//! the history refers to the blocks. What they want of the open block is copied once for all who
//! want the same.
//!
//! Always true, see [`Blocks::check`]: blocks lie one behind the other, none of them is empty, and
//! each is of whole frames.

use std::collections::VecDeque;
use std::ops::Range;

use crate::shard::frame::Frame;

/// Bytes of a sealed block, at least and at most, but for a block of one larger frame.
const BLOCK_BYTES: Range<usize> = 1_024..16 * 1_024;
/// A block is sealed at this part of what is kept: what is kept too long stays below that part.
const BLOCK_SHARE: usize = 8;

/// Part of the frames: a range of a block.
pub(in crate::shard) type Part = (Frame, Range<usize>);

/// See the top of this file. Positions count bytes and wrap.
#[derive(Debug, Default)]
pub(in crate::shard) struct Blocks {
    /// The position of the first byte that is kept.
    start: u32,
    sealed: VecDeque<Sealed>,
    open: Vec<u8>,
    /// The first bytes of the open block, as they are shared.
    copied: Option<Frame>,
    /// Bytes of all sealed blocks.
    sealed_bytes: usize,
}

#[derive(Debug)]
struct Sealed {
    /// The position of its first byte.
    start: u32,
    bytes: Frame,
}

impl Blocks {
    /// Appends a frame, and returns its position.
    pub(in crate::shard) fn append(&mut self, frame: &[u8]) -> u32 {
        let position = self.end();
        self.open.extend_from_slice(frame);
        let size = (self.sealed_bytes + self.open.len()) / BLOCK_SHARE;
        if self.open.len() >= size.clamp(BLOCK_BYTES.start, BLOCK_BYTES.end) {
            self.seal();
        }
        self.debug_check();
        position
    }

    /// The position behind the last frame.
    pub(in crate::shard) fn end(&self) -> u32 {
        self.open_start().wrapping_add(self.open.len() as u32)
    }

    fn open_start(&self) -> u32 {
        self.start.wrapping_add(self.sealed_bytes as u32)
    }

    fn seal(&mut self) {
        let start = self.open_start();
        let bytes: Frame = match self.copied.take() {
            Some(copied) if copied.len() == self.open.len() => copied,
            _ => self.open.as_slice().into(),
        };
        self.sealed_bytes += bytes.len();
        self.sealed.push_back(Sealed { start, bytes });
        self.open.clear();
        self.open.shrink_to(BLOCK_BYTES.end);
    }

    /// Nothing before a position is wanted any more: blocks that end there or before go.
    pub(in crate::shard) fn drop_before(&mut self, position: u32) {
        while let Some(first) = self.sealed.front()
            && first.bytes.len() as u32 <= position.wrapping_sub(first.start)
            && position.wrapping_sub(first.start) < 1 << 31
        {
            self.sealed_bytes -= first.bytes.len();
            self.start = self.start.wrapping_add(first.bytes.len() as u32);
            self.sealed.pop_front();
        }
        if self.sealed.is_empty() && position == self.end() {
            self.start = position;
            self.sealed = VecDeque::new();
            self.open = Vec::new();
            self.copied = None;
        }
        self.debug_check();
    }

    /// What lies between two positions of frames, in order.
    pub(in crate::shard) fn parts(&mut self, from: u32, to: u32) -> VecDeque<Part> {
        let offset = |position: u32| position.wrapping_sub(self.start) as usize;
        let (from, to) = (offset(from), offset(to));
        let mut parts = VecDeque::new();
        let first = self.sealed.partition_point(|it| offset(it.start) <= from);
        for block in self.sealed.range(first.saturating_sub(1)..) {
            let start = offset(block.start);
            let range = from.saturating_sub(start)..to.saturating_sub(start).min(block.bytes.len());
            if start >= to {
                return parts;
            }
            if range.start < range.end {
                parts.push_back((block.bytes.clone(), range));
            }
        }
        let start = self.sealed_bytes;
        let range = from.saturating_sub(start)..to.saturating_sub(start);
        if range.start < range.end {
            parts.push_back((self.copied(range.end), range));
        }
        parts
    }

    /// The first bytes of the open block, that many at least.
    fn copied(&mut self, count: usize) -> Frame {
        match &self.copied {
            Some(copied) if copied.len() >= count => copied.clone(),
            _ => self.copied.insert(self.open.as_slice().into()).clone(),
        }
    }

    /// The bytes at a position, to the end of its block.
    pub(in crate::shard) fn at(&self, position: u32) -> &[u8] {
        let offset = |position: u32| position.wrapping_sub(self.start) as usize;
        let at = offset(position);
        if at >= self.sealed_bytes {
            return self.open.get(at - self.sealed_bytes..).unwrap_or_default();
        }
        let behind = self.sealed.partition_point(|it| offset(it.start) <= at);
        let block = behind.checked_sub(1).and_then(|it| self.sealed.get(it));
        let block = block.map(|it| &it.bytes[at - offset(it.start)..]);
        block.unwrap_or_default()
    }

    /// Bytes of memory that it takes.
    pub(in crate::shard) fn memory(&self) -> usize {
        let copied = self.copied.as_ref().map_or(0, |it| it.len());
        let table = self.sealed.capacity() * size_of::<Sealed>();
        self.sealed_bytes + self.open.capacity() + copied + table
    }

    #[inline]
    fn debug_check(&self) {
        if cfg!(debug_assertions) && self.sealed.len() <= 64 {
            self.check();
        }
    }

    /// Panics unless what is said at the top of this file is true.
    pub(in crate::shard) fn check(&self) {
        let mut end = self.start;
        for block in &self.sealed {
            assert_eq!(block.start, end, "blocks lie one behind the other");
            assert!(!block.bytes.is_empty(), "an empty block");
            end = end.wrapping_add(block.bytes.len() as u32);
        }
        assert_eq!(end, self.open_start(), "bytes of sealed blocks");
        let copied = self.copied.as_ref();
        let is_copy = copied.is_none_or(|it| self.open.starts_with(it));
        assert!(is_copy, "a copy of something else");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(parts: &VecDeque<Part>) -> Vec<u8> {
        let parts = parts
            .iter()
            .flat_map(|(frame, range)| &frame[range.clone()]);
        parts.copied().collect()
    }

    proptest! {
        /// Frames of any length, from a position that soon wraps; some of the oldest go after each.
        #[test]
        fn what_is_kept_is_handed_out_as_it_came(
            frames in prop::collection::vec((1_usize..3_000, 0_usize..8), 1..200),
            ask in any::<(u16, u16)>(),
        ) {
            let start = u32::MAX - 20_000;
            let mut blocks = Blocks { start, ..Blocks::default() };
            let mut kept: VecDeque<(u32, Vec<u8>)> = VecDeque::new();
            for (number, (length, gone)) in frames.into_iter().enumerate() {
                let frame = vec![number as u8; length];
                kept.push_back((blocks.append(&frame), frame));
                for _ in 0..gone.saturating_sub(4).min(kept.len()) {
                    kept.pop_front();
                    let first = kept.front().map_or(blocks.end(), |(position, _)| *position);
                    blocks.drop_before(first);
                }
                blocks.check();
                let count = kept.len() + 1;
                let (one, other) = (usize::from(ask.0) % count, usize::from(ask.1) % count);
                let (from, to) = (one.min(other), one.max(other));
                let end = blocks.end();
                let position = |at: usize| kept.get(at).map_or(end, |(position, _)| *position);
                let parts = blocks.parts(position(from), position(to));
                let wanted = kept.range(from..to).flat_map(|(_, frame)| frame);
                prop_assert_eq!(bytes_of(&parts), wanted.copied().collect::<Vec<u8>>());
                for (position, frame) in &kept {
                    prop_assert!(blocks.at(*position).starts_with(frame));
                }
                let frames: usize = kept.iter().map(|(_, frame)| frame.len()).sum();
                // Blocks of one larger frame apart, little more is kept than is wanted.
                prop_assert!(blocks.memory() <= 2 * frames + 4 * BLOCK_BYTES.end);
            }
        }
    }

    #[test]
    fn all_who_want_the_same_share_it() {
        let mut blocks = Blocks::default();
        let first = blocks.append(&[1; 100]);
        let one = blocks.parts(first, blocks.end());
        let other = blocks.parts(first, blocks.end());
        assert!(Frame::ptr_eq(&one[0].0, &other[0].0));
        blocks.append(&[2; 100]);
        assert_eq!(bytes_of(&blocks.parts(first, blocks.end())).len(), 200);
        assert_eq!(bytes_of(&one), [1; 100]);
    }

    #[test]
    fn what_keeps_nothing_takes_no_memory_for_bytes() {
        let mut blocks = Blocks::default();
        blocks.append(&[1; 700]);
        blocks.drop_before(blocks.end());
        assert_eq!(blocks.memory(), 0);
    }
}
