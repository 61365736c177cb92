//! What waits to be written to one connection: whole frames, in order, bounded.
//!
//! Frames are copied into one buffer so that everything due to a connection leaves in one
//! write. Buffers come from the shard's [`BufferPool`] and go back when they are empty: an idle
//! connection owns none.
//!
//! Always true: the queue begins at the first byte not yet written, and less than as much again
//! as is queued (or a constant) stands before it; `runs` adds up to the
//! queue's length; control frames overtake data frames, but never in the middle of one; bytes
//! behind a fence are not offered before [`Outbox::begin_turn`] after the fence was reached.

use std::mem;

use smallvec::SmallVec;

/// Buffers above this many bytes of capacity are given back to the allocator, not to the pool.
const POOLED_CAPACITY_MAX: usize = 64 * 1_024;
/// Bytes of capacity that wait in the pool: enough for a fan-out of a few kilobytes to a thousand
/// subscribers, whose buffers are all in use before the first is flushed. Beyond this the
/// allocator serves as well.
const POOLED_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// Written bytes at the front of a queue that are worth moving the rest over.
const WRITTEN_BYTES_MAX: usize = 64 * 1_024;
/// Bytes a fresh buffer holds at least, so that small frames do not grow it step by step.
const BUFFER_CAPACITY_MIN: usize = 512;

/// Empty buffers of one shard, ready to be used by its outboxes.
#[derive(Debug, Default)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
    /// Capacity of all of `free`.
    free_bytes: usize,
}

impl BufferPool {
    pub(in crate::shard) fn take(&mut self, capacity: usize) -> Vec<u8> {
        let mut buffer = self.free.pop().unwrap_or_default();
        self.free_bytes -= buffer.capacity();
        buffer.reserve(capacity.max(BUFFER_CAPACITY_MIN));
        buffer
    }

    pub(in crate::shard) fn give_back(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity <= POOLED_CAPACITY_MAX && self.free_bytes + capacity <= POOLED_BYTES_MAX {
            self.free_bytes += capacity;
            buffer.clear();
            self.free.push(buffer);
        }
    }
}

/// Why a frame is sent: decides which bound it counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A message, direct message or presence change: somebody else's doing. Too many of them
    /// make a slow consumer.
    Delivery,
    /// An answer to the connection's own request. Too many of them stop reading from it.
    Reply,
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
    bytes: Vec<u8>,
    /// How many of `bytes` are written.
    written: u32,
    /// Start, in `bytes`, of the frame that holds the first byte not written.
    frame_start: u32,
    /// End, in `bytes`, of what is not frames: the HTTP response before an upgrade.
    raw_end: u32,
    /// Offsets in `bytes` that a turn must not write across.
    fences: SmallVec<[u32; 2]>,
    /// The queue as runs of one class: length in the low 31 bits, the top bit set for replies.
    runs: SmallVec<[u32; 2]>,
    delivery_bytes: u32,
    reply_bytes: u32,
    /// Control frames that overtake; boxed because they are rare.
    control: Option<Box<Control>>,
    finish: Finish,
    /// Nothing of what waits has been offered to the socket.
    untried: bool,
    /// The last write of this turn ended at a fence.
    at_fence: bool,
    /// The turn of the present flush.
    turn: u32,
}

#[derive(Debug, Default)]
struct Control {
    bytes: Vec<u8>,
    written: usize,
}

const REPLY_RUN: u32 = 1 << 31;

impl Outbox {
    /// Appends bytes of an HTTP response. Not after the first frame.
    pub fn push_http(&mut self, bytes: &[u8], pool: &mut BufferPool) {
        self.push(Class::Reply, bytes, pool);
        self.raw_end = self.bytes.len() as u32;
    }

    /// Appends a whole frame.
    pub fn push(&mut self, class: Class, frame: &[u8], pool: &mut BufferPool) {
        if frame.is_empty() {
            return;
        }
        if self.bytes.capacity() == 0 {
            self.untried = true;
            self.bytes = pool.take(frame.len());
        }
        self.bytes.extend_from_slice(frame);
        // Queues are bounded far below 2 GiB: deliveries by the slow-consumer limit, replies
        // by the pause in reading, a frame by `SERVER_FRAME_BYTES_MAX`.
        let len = frame.len() as u32;
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
    pub fn push_partly_written(&mut self, frames: &[u8], written: usize, pool: &mut BufferPool) {
        debug_assert!(self.bytes.is_empty());
        self.push(Class::Delivery, frames, pool);
        self.untried = false;
        self.advance(written, pool);
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

    /// What follows leaves in a later turn than what is queued now.
    pub fn fence(&mut self) {
        let end = self.bytes.len() as u32;
        if end > self.written && self.fences.last() != Some(&end) {
            self.fences.push(end);
        }
    }

    /// Drops everything that has not begun to leave, keeping a frame that has.
    pub fn discard_unstarted(&mut self) {
        let keep = if self.written > self.frame_start || self.frame_start < self.raw_end {
            self.frame_end()
        } else {
            self.written
        };
        self.bytes.truncate(keep as usize);
        self.fences.retain(|fence| *fence < keep);
        let mut left = keep - self.written;
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

    /// Bytes of deliveries not yet written.
    #[must_use]
    pub fn delivery_bytes(&self) -> usize {
        self.delivery_bytes as usize
    }

    /// Bytes of replies not yet written.
    #[must_use]
    pub fn reply_bytes(&self) -> usize {
        self.reply_bytes as usize
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written as usize == self.bytes.len() && self.control.is_none()
    }

    /// Whether the socket has not been offered anything of what waits: a long queue says nothing
    /// about the consumer yet.
    #[inline]
    #[must_use]
    pub fn is_untried(&self) -> bool {
        self.untried || self.bytes.is_empty()
    }

    /// Whether what waits stands behind a fence that the last write reached.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.at_fence && self.control.is_none() && !self.bytes.is_empty()
    }

    /// Lets bytes behind a fence leave that was reached in another turn than this one.
    pub fn begin_turn(&mut self, turn: u32) {
        self.untried = false;
        if self.turn != turn {
            self.turn = turn;
            self.at_fence = false;
        }
    }

    /// The next bytes to write in this turn; empty when there are none.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        let end = match (&self.control, self.fences.first()) {
            (Some(control), _) if self.written == self.frame_start => {
                return &control.bytes[control.written..];
            }
            (Some(_), _) => self.frame_end(),
            (None, _) if self.at_fence => self.written,
            (None, Some(fence)) => *fence,
            (None, None) => self.bytes.len() as u32,
        };
        &self.bytes[self.written as usize..end as usize]
    }

    /// Notes that the first `count` bytes of [`pending`](Self::pending) have been written.
    pub fn advance(&mut self, count: usize, pool: &mut BufferPool) {
        if let Some(control) = &mut self.control
            && self.written == self.frame_start
        {
            control.written += count;
            if control.written >= control.bytes.len() {
                self.control = None;
            } else if control.written >= control.bytes.len() / 2 {
                // A peer that reads as slowly as it pings never lets this become empty.
                control.bytes.drain(..control.written);
                control.written = 0;
            }
            return;
        }
        self.written = (self.written + count as u32).min(self.bytes.len() as u32);
        self.settle_runs(count as u32);
        if self.fences.first() == Some(&self.written) {
            self.fences.remove(0);
            self.at_fence = true;
        }
        if self.written as usize == self.bytes.len() {
            pool.give_back(mem::take(&mut self.bytes));
            self.written = 0;
            self.frame_start = 0;
            self.raw_end = 0;
        } else {
            while self.frame_end() <= self.written {
                self.frame_start = self.frame_end();
            }
            self.compact();
        }
    }

    /// Gives the room of written frames back, also to a queue that is never empty: whoever reads
    /// just as fast as it is sent to would make it grow for ever. Moves no more than it frees.
    fn compact(&mut self) {
        let start = self.frame_start;
        if (start as usize) < WRITTEN_BYTES_MAX.max(self.bytes.len() / 2) {
            return;
        }
        self.bytes.drain(..start as usize);
        self.written -= start;
        self.frame_start = 0;
        self.raw_end = self.raw_end.saturating_sub(start);
        for fence in &mut self.fences {
            *fence -= start;
        }
    }

    fn settle_runs(&mut self, mut count: u32) {
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

    /// End of the frame that starts at `frame_start`, from its header: only our own frames are
    /// in here, behind an HTTP response at most.
    fn frame_end(&self) -> u32 {
        if self.frame_start < self.raw_end {
            return self.raw_end;
        }
        let at = self.frame_start as usize;
        let frame = self.bytes.get(at..).unwrap_or_default();
        let len = match frame {
            [_, len @ 0..=125, ..] => 2 + usize::from(*len),
            [_, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
            [_, 127, _, _, _, _, a, b, c, d, ..] => {
                10 + u32::from_be_bytes([*a, *b, *c, *d]) as usize
            }
            _ => frame.len(),
        };
        at.saturating_add(len)
            .clamp(at + 1, self.bytes.len().max(at + 1)) as u32
    }
}

#[cfg(test)]
mod tests;
