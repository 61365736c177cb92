//! The bytes of one queue, in order: bytes of its own and ranges of frames that others share.
//!
//! New bytes are appended to one buffer, as long as that stays small and no shared frame comes
//! between. So a queue of small frames is one buffer and leaves in one write.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::ops::Range;

use smallvec::SmallVec;

use super::pool::BufferPool;
use crate::shard::frame::Frame;

/// Bytes from which a buffer is not enlarged any more: another one is begun after it. So a long
/// queue never moves, and owns little more than is in it.
const BUFFER_BYTES_MAX: usize = 64 * 1_024;

/// Slices that are handed out for one write.
pub const SLICES_MAX: usize = 16;

/// Slices for one write.
pub type Slices<'a> = SmallVec<[IoSlice<'a>; SLICES_MAX]>;

/// See the top of this file.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// Before `bytes`, the oldest first; none of them is empty. Boxed because it is rare.
    #[expect(clippy::box_collection, reason = "a queue of small frames has none")]
    older: Option<Box<VecDeque<Segment>>>,
    bytes: Vec<u8>,
    /// How many of `bytes` are taken out.
    taken: u32,
}

#[derive(Debug)]
struct Segment {
    block: Block,
    /// What of the block is left.
    left: Range<u32>,
}

#[derive(Debug)]
enum Block {
    Owned(Vec<u8>),
    Shared(Frame),
}

impl Segment {
    pub(in crate::shard) fn bytes(&self) -> &[u8] {
        let block = match &self.block {
            Block::Owned(bytes) => &bytes[..],
            Block::Shared(frame) => frame,
        };
        &block[self.left.start as usize..self.left.end as usize]
    }

    fn into_pool(self, pool: &mut BufferPool) {
        if let Block::Owned(bytes) = self.block {
            pool.give_back(bytes);
        }
    }
}

impl Segments {
    /// Appends a copy of the bytes.
    #[inline]
    pub(in crate::shard) fn push(&mut self, bytes: &[u8], pool: &mut BufferPool) {
        if self.bytes.len() + bytes.len() > self.bytes.capacity() {
            self.make_room(bytes.len(), pool);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a range of a frame that is kept once for all who are sent it.
    pub(in crate::shard) fn push_shared(
        &mut self,
        frame: &Frame,
        range: Range<usize>,
        pool: &mut BufferPool,
    ) {
        self.close_buffer(pool);
        pool.note_taken(range.len());
        // A frame is far below 4 GiB.
        let left = range.start as u32..range.end as u32;
        self.older.get_or_insert_default().push_back(Segment {
            block: Block::Shared(frame.clone()),
            left,
        });
    }

    #[cold]
    pub(in crate::shard) fn make_room(&mut self, count: usize, pool: &mut BufferPool) {
        if !self.bytes.is_empty() && self.bytes.len() + count > BUFFER_BYTES_MAX {
            self.close_buffer(pool);
        }
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take(count);
        } else {
            pool.enlarge(&mut self.bytes, count);
        }
    }

    /// What is in the buffer stays there, but no more is appended.
    fn close_buffer(&mut self, pool: &mut BufferPool) {
        let bytes = mem::take(&mut self.bytes);
        let left = mem::take(&mut self.taken)..bytes.len() as u32;
        if left.is_empty() {
            return pool.give_back(bytes);
        }
        self.older.get_or_insert_default().push_back(Segment {
            block: Block::Owned(bytes),
            left,
        });
    }

    /// The first bytes, as many as lie together.
    #[inline]
    pub(in crate::shard) fn first(&self) -> &[u8] {
        match self.older.as_ref().and_then(|older| older.front()) {
            Some(segment) => segment.bytes(),
            None => &self.bytes[self.taken as usize..],
        }
    }

    /// The first `limit` bytes, or as many of them as [`SLICES_MAX`] slices hold.
    pub(in crate::shard) fn slices(&self, mut limit: usize) -> Slices<'_> {
        let mut slices = Slices::new();
        for bytes in self.iter().take(SLICES_MAX) {
            let count = bytes.len().min(limit);
            if count == 0 {
                break;
            }
            slices.push(IoSlice::new(&bytes[..count]));
            limit -= count;
        }
        slices
    }

    pub(in crate::shard) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let older = self.older.iter().flat_map(|older| older.iter());
        older
            .map(Segment::bytes)
            .chain([&self.bytes[self.taken as usize..]])
    }

    /// Takes out the first `count` bytes, which lie together.
    #[inline]
    pub(in crate::shard) fn take(&mut self, count: usize, pool: &mut BufferPool) {
        let Some(older) = &mut self.older else {
            self.taken += count as u32;
            return;
        };
        if let Some(segment) = older.front_mut() {
            segment.left.start += count as u32;
            if segment.left.is_empty()
                && let Some(segment) = older.pop_front()
            {
                segment.into_pool(pool);
            }
        }
        if older.is_empty() {
            self.older = None;
        }
    }

    /// Takes out everything.
    #[inline]
    pub(in crate::shard) fn clear(&mut self, pool: &mut BufferPool) {
        pool.give_back(mem::take(&mut self.bytes));
        self.taken = 0;
        if let Some(older) = self.older.take() {
            for segment in *older {
                segment.into_pool(pool);
            }
        }
    }

    /// Takes out everything after the first `count` bytes.
    pub(in crate::shard) fn truncate(&mut self, mut count: usize, pool: &mut BufferPool) {
        if let Some(older) = &mut self.older {
            let mut kept = 0;
            for segment in older.iter_mut() {
                if count == 0 {
                    break;
                }
                let len = segment.left.len().min(count);
                segment.left.end = segment.left.start + len as u32;
                count -= len;
                kept += 1;
            }
            for segment in older.drain(kept..) {
                segment.into_pool(pool);
            }
            if older.is_empty() {
                self.older = None;
            }
        }
        self.bytes.truncate(self.taken as usize + count);
        if count == 0 {
            pool.give_back(mem::take(&mut self.bytes));
            self.taken = 0;
        }
    }

    /// How many blocks of memory its bytes are in.
    pub(in crate::shard) fn block_count(&self) -> usize {
        1 + self.older.as_ref().map_or(0, |older| older.len())
    }

    /// Bytes that are in it.
    pub(in crate::shard) fn total(&self) -> usize {
        self.iter().map(<[u8]>::len).sum()
    }

    /// Bytes of memory that its own buffers take.
    pub(in crate::shard) fn owned_bytes(&self) -> usize {
        let older = self.older.iter().flat_map(|older| older.iter());
        let owned = older.map(|segment| match &segment.block {
            Block::Owned(bytes) => bytes.capacity(),
            Block::Shared(_) => 0,
        });
        owned.sum::<usize>() + self.bytes.capacity()
    }

    /// The frames that it shares, once for each range of them.
    pub(in crate::shard) fn shared(&self) -> impl Iterator<Item = &Frame> {
        let older = self.older.iter().flat_map(|older| older.iter());
        older.filter_map(|segment| match &segment.block {
            Block::Shared(frame) => Some(frame),
            Block::Owned(_) => None,
        })
    }

    /// Panics unless what its parts say is true.
    pub(in crate::shard) fn check(&self) {
        let older = self.older.iter().flat_map(|older| older.iter());
        for segment in older {
            assert!(!segment.left.is_empty(), "an empty segment");
            let capacity = match &segment.block {
                Block::Owned(bytes) => bytes.len(),
                Block::Shared(frame) => frame.len(),
            };
            assert!(segment.left.end as usize <= capacity, "beyond its block");
        }
        assert!(self.older.as_ref().is_none_or(|older| !older.is_empty()));
        assert!(self.taken as usize <= self.bytes.len());
        assert!(
            self.total() > 0 || self.owned_bytes() == 0,
            "an empty queue owns a buffer"
        );
    }
}
