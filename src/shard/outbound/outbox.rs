//! What waits to be written to one connection: whole frames, in order, bounded.
//!
//! Small frames are copied into one buffer so that everything due to a connection leaves in one
//! write. Buffers come from the shard's [`BufferPool`] and go back when they are empty: an idle
//! connection owns none. Large frames that others get too are shared: the queue holds a reference
//! to them, and counts their bytes as if they were its own.
//!
//! Always true, see [`Outbox::check`]: the queue begins at the first byte not yet written; `runs`
//! adds up to the queue's length; control frames overtake data frames, but never in the middle
//! of one.

mod moved;
mod pool;
mod segments;

use std::io::IoSlice;
use std::ops::Range;

use smallvec::SmallVec;

use self::segments::Segments;
use crate::shard::frame::Frame;

pub use self::pool::BufferPool;
pub use self::segments::{SLICES_MAX, Slices};

/// Bytes from which a frame is shared, not copied. To copy that many takes as long as the segment
/// that refers to them and the longer write.
pub const SHARED_BYTES_MIN: usize = 4 * 1_024;

/// Why a frame is sent: decides which bound it counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A message, direct message or presence change: somebody else's doing. Too many of them
    /// make a slow consumer.
    Delivery,
    /// An answer to the connection's own request. Too many of them stop reading from it.
    Reply,
}

/// A part of a frame, or of several.
#[derive(Clone, Debug)]
pub enum Piece<'a> {
    /// These bytes, copied.
    Owned(&'a [u8]),
    /// That range of a frame, shared if it is worth it.
    Shared(&'a Frame, Range<usize>),
}

impl Piece<'_> {
    /// How many bytes it has.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Piece::Owned(bytes) => bytes.len(),
            Piece::Shared(_, range) => range.len(),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(in crate::shard) fn bytes(&self) -> &[u8] {
        match self {
            Piece::Owned(bytes) => bytes,
            Piece::Shared(frame, range) => &frame[range.clone()],
        }
    }
}

/// What the socket should do once everything queued has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finish {
    /// Stay open.
    #[default]
    Open,
    /// Send FIN and go on reading, so that the last bytes are not lost to a reset.
    ShutdownWrite,
    /// Close.
    Close,
}

/// Frames to be written, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    segments: Segments,
    /// How many bytes were written since the start, wrapping.
    position: u32,
    /// Of the frame that has begun to leave, the bytes that have not; 0 between two frames.
    frame_left: u32,
    /// Bytes at the front that are not frames: the HTTP response before an upgrade.
    raw_left: u32,
    /// The queue as runs of one class: length in the low 31 bits, the top bit set for replies.
    runs: SmallVec<[u32; 2]>,
    delivery_bytes: u32,
    reply_bytes: u32,
    /// Control frames that overtake; boxed because they are rare.
    control: Option<Box<Control>>,
    finish: Finish,
    /// Nothing of what waits has been offered to the socket.
    untried: bool,
}

#[derive(Debug, Default)]
struct Control {
    bytes: Vec<u8>,
    written: usize,
}

const REPLY_RUN: u32 = 1 << 31;

/// Runs and blocks of a queue up to which all of them are checked after each change.
const CHECKED_PARTS_MAX: usize = 64;

impl Outbox {
    /// Appends bytes of an HTTP response. Not after the first frame.
    pub fn push_http(&mut self, bytes: &[u8], pool: &mut BufferPool) {
        self.push(Class::Reply, bytes, pool);
        self.raw_left = self.queued();
    }

    /// As [`push_http`](Self::push_http), for a piece that several answers hold: without a copy,
    /// if it is large.
    pub fn push_http_shared(&mut self, bytes: &Frame, pool: &mut BufferPool) {
        self.push_shared(Class::Reply, bytes, 0..bytes.len(), pool);
        self.raw_left = self.queued();
    }

    /// Appends whole frames.
    #[inline]
    pub fn push(&mut self, class: Class, frames: &[u8], pool: &mut BufferPool) {
        if frames.is_empty() {
            return;
        }
        self.count(class, frames.len());
        self.segments.push(frames, pool);
        self.debug_check();
    }

    /// Appends a range of a frame, or of frames, that is whole frames: without a copy, if it is
    /// large.
    pub fn push_shared(
        &mut self,
        class: Class,
        frame: &Frame,
        range: Range<usize>,
        pool: &mut BufferPool,
    ) {
        self.push_pieces(class, &[Piece::Shared(frame, range)], pool);
    }

    /// Appends one frame, or more, that the pieces make together. The header of each frame lies
    /// in one piece.
    #[inline]
    pub fn push_pieces(&mut self, class: Class, pieces: &[Piece<'_>], pool: &mut BufferPool) {
        if let [Piece::Owned(bytes)] = pieces {
            return self.push(class, bytes, pool);
        }
        for piece in pieces {
            let bytes = piece.bytes();
            if bytes.is_empty() {
                continue;
            }
            self.count(class, bytes.len());
            match piece {
                Piece::Shared(frame, range) if range.len() >= SHARED_BYTES_MIN => {
                    self.segments.push_shared(frame, range.clone(), pool);
                }
                _ => self.segments.push(bytes, pool),
            }
        }
        self.debug_check();
    }

    #[inline]
    pub(in crate::shard) fn count(&mut self, class: Class, len: usize) {
        if self.queued() == 0 {
            self.untried = true;
        }
        // Queues are bounded far below 2 GiB: deliveries by the slow-consumer limit, replies
        // by the pause in reading, a frame by `SERVER_FRAME_BYTES_MAX`.
        let len = len as u32;
        let mark = match class {
            Class::Delivery => {
                self.delivery_bytes += len;
                0
            }
            Class::Reply => {
                self.reply_bytes += len;
                REPLY_RUN
            }
        };
        match self.runs.last_mut() {
            Some(run) if *run & REPLY_RUN == mark => *run += len,
            _ => self.runs.push(len | mark),
        }
    }

    /// Appends whole frames of deliveries to an empty queue, whose first bytes have been written.
    pub fn push_partly_written(
        &mut self,
        pieces: &[Piece<'_>],
        written: usize,
        pool: &mut BufferPool,
    ) {
        debug_assert!(self.queued() == 0);
        self.push_pieces(Class::Delivery, pieces, pool);
        self.untried = false;
        self.advance_data(written, pool);
    }

    /// Queues a control frame ahead of every data frame that has not begun to leave.
    pub fn push_control(&mut self, frame: &[u8]) {
        self.control
            .get_or_insert_default()
            .bytes
            .extend_from_slice(frame);
    }

    /// Bytes of control frames that wait: a peer that pings without reading feeds these.
    #[must_use]
    pub fn control_bytes(&self) -> usize {
        self.control
            .as_ref()
            .map_or(0, |control| control.bytes.len() - control.written)
    }

    /// Drops everything that has not begun to leave, keeping a frame that has.
    pub fn discard_unstarted(&mut self, pool: &mut BufferPool) {
        let keep = self.raw_left.max(self.frame_left);
        self.segments.truncate(keep as usize, pool);
        let mut left = keep;
        self.delivery_bytes = 0;
        self.reply_bytes = 0;
        let mut kept = 0;
        for run in &mut self.runs {
            let (mark, len) = (*run & REPLY_RUN, (*run & !REPLY_RUN).min(left));
            if len == 0 {
                break;
            }
            *run = len | mark;
            left -= len;
            kept += 1;
            if mark == 0 {
                self.delivery_bytes += len;
            } else {
                self.reply_bytes += len;
            }
        }
        self.runs.truncate(kept);
        self.debug_check();
    }

    /// What is to happen when the queue is empty. Never weakens an earlier call.
    pub fn finish(&mut self, finish: Finish) {
        self.finish = self.finish.max(finish);
    }

    /// See [`finish`](Self::finish).
    #[must_use]
    pub fn finish_when_empty(&self) -> Finish {
        self.finish
    }

    /// Bytes of deliveries not yet written, shared ones included.
    #[inline]
    #[must_use]
    pub fn delivery_bytes(&self) -> usize {
        self.delivery_bytes as usize
    }

    /// Bytes of replies not yet written, shared ones included.
    #[must_use]
    pub fn reply_bytes(&self) -> usize {
        self.reply_bytes as usize
    }

    /// Bytes of memory that its buffers take; what it shares is not in them.
    #[must_use]
    pub fn owned_bytes(&self) -> usize {
        let control = self.control.as_ref();
        self.segments.owned_bytes() + control.map_or(0, |control| control.bytes.capacity())
    }

    /// The frames that it refers to, once for each time that it does.
    pub fn shared(&self) -> impl Iterator<Item = &Frame> {
        self.segments.shared()
    }

    /// How many bytes have been written since the start, control frames apart; wraps.
    #[inline]
    #[must_use]
    pub fn position(&self) -> u32 {
        self.position
    }

    /// The position at which what waits will have been written.
    #[inline]
    #[must_use]
    pub fn end(&self) -> u32 {
        self.position.wrapping_add(self.queued())
    }

    /// Whether nothing waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued() == 0 && self.control.is_none()
    }

    /// Bytes of all classes.
    #[inline]
    fn queued(&self) -> u32 {
        self.delivery_bytes + self.reply_bytes
    }

    /// Whether the socket has not been offered anything of what waits: a long queue says nothing
    /// about the consumer yet.
    #[inline]
    #[must_use]
    pub fn is_untried(&self) -> bool {
        self.untried || self.queued() == 0
    }

    /// What waits is offered to the socket now.
    #[inline]
    pub fn note_offer(&mut self) {
        self.untried = false;
    }

    /// How much of the queue may be written next; `None`: control frames come first.
    #[inline]
    pub(in crate::shard) fn limit(&self) -> Option<u32> {
        match &self.control {
            Some(_) if self.is_between_frames() => None,
            Some(_) => Some(self.raw_left.max(self.frame_left)),
            None => Some(self.queued()),
        }
    }

    #[inline]
    fn is_between_frames(&self) -> bool {
        self.frame_left == 0 && self.raw_left == 0
    }

    pub(in crate::shard) fn control(&self) -> &[u8] {
        let control = self.control.as_ref();
        control.map_or(&[], |control| &control.bytes[control.written..])
    }

    /// The next bytes to write, as many as lie together; empty when there are none.
    #[inline]
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        match self.limit() {
            None => self.control(),
            Some(limit) => {
                let first = self.segments.first();
                &first[..first.len().min(limit as usize)]
            }
        }
    }

    /// All bytes to write next, if they lie together.
    #[inline]
    #[must_use]
    pub fn pending_in_one(&self) -> Option<&[u8]> {
        let pending = self.pending();
        let limit = self.limit();
        limit
            .is_none_or(|limit| pending.len() == limit as usize)
            .then_some(pending)
    }

    /// The next bytes to write, for one write.
    #[must_use]
    pub fn pending_slices(&self) -> Slices<'_> {
        match self.limit() {
            None => Slices::from_iter([IoSlice::new(self.control())]),
            Some(limit) => self.segments.slices(limit as usize),
        }
    }

    /// Notes that the first `count` bytes of [`pending_slices`](Self::pending_slices) have been
    /// written.
    pub fn advance(&mut self, count: usize, pool: &mut BufferPool) {
        if let Some(control) = &mut self.control
            && self.frame_left == 0
            && self.raw_left == 0
        {
            control.written += count;
            if control.written >= control.bytes.len() {
                self.control = None;
            } else if control.written >= control.bytes.len() / 2 {
                // A peer that reads as slowly as it pings never lets this become empty.
                control.bytes.drain(..control.written);
                control.written = 0;
            }
            return self.debug_check();
        }
        self.advance_data(count, pool);
    }

    fn advance_data(&mut self, count: usize, pool: &mut BufferPool) {
        let count = (count as u32).min(self.queued());
        self.account_runs(count);
        self.position = self.position.wrapping_add(count);
        if self.queued() == 0 {
            self.segments.clear(pool);
            self.frame_left = 0;
            self.raw_left = 0;
        } else {
            self.take(count as usize, pool);
        }
        self.debug_check();
    }

    /// Takes bytes from the front, frame by frame.
    pub(in crate::shard) fn take(&mut self, mut count: usize, pool: &mut BufferPool) {
        while count > 0 {
            let first = self.segments.first();
            if self.is_between_frames() {
                self.frame_left = frame_len(first);
            }
            let left = match self.raw_left {
                0 => &mut self.frame_left,
                _ => &mut self.raw_left,
            };
            let step = count.min(first.len()).min(*left as usize);
            *left -= step as u32;
            count -= step;
            self.segments.take(step, pool);
        }
    }

    fn account_runs(&mut self, mut count: u32) {
        let mut done = 0;
        for run in &mut self.runs {
            let (mark, len) = (*run & REPLY_RUN, *run & !REPLY_RUN);
            let taken = len.min(count);
            if mark == 0 {
                self.delivery_bytes -= taken;
            } else {
                self.reply_bytes -= taken;
            }
            count -= taken;
            if taken < len {
                *run = (len - taken) | mark;
                break;
            }
            done += 1;
        }
        self.runs.drain(..done);
    }

    /// The same as [`check`](Self::check) after a change, in debug builds and where that reads only
    /// a few parts.
    #[inline]
    fn debug_check(&self) {
        if cfg!(debug_assertions)
            && self.runs.len() + self.segments.block_count() <= CHECKED_PARTS_MAX
        {
            self.check();
        }
    }

    /// Panics unless what its parts say of each other is true.
    pub fn check(&self) {
        self.segments.check();
        let len = self.segments.total();
        assert_eq!(len, self.queued() as usize, "segments, and bytes by class");
        let runs = self.runs.iter().map(|run| run & !REPLY_RUN);
        assert_eq!(runs.sum::<u32>(), self.queued(), "runs, and bytes by class");
        assert!(self.runs.iter().all(|run| run & !REPLY_RUN > 0));
        let mut pairs = self.runs.windows(2);
        assert!(pairs.all(|pair| (pair[0] ^ pair[1]) & REPLY_RUN != 0));
        assert!(self.frame_left <= self.queued() && self.raw_left <= self.queued());
        assert!(self.frame_left == 0 || self.raw_left == 0);
        let control = self.control.as_ref();
        assert!(control.is_none_or(|control| control.written < control.bytes.len()));
    }
}

/// Length of the frame that begins there, from its header: only our own frames are in here,
/// and a header lies in one piece.
fn frame_len(frame: &[u8]) -> u32 {
    let len = match frame {
        [_, len @ 0..=125, ..] => 2 + usize::from(*len),
        [_, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        [_, 127, _, _, _, _, a, b, c, d, ..] => 10 + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => frame.len(),
    };
    len as u32
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
