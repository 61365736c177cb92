//! What waits to be written to one connection: whole frames, in order, bounded.
//!
//! Frames are copied into one buffer so that everything due to a connection leaves in one
//! write. Buffers come from the shard's [`BufferPool`] and go back when they are empty: an idle
//! connection owns none.
//!
//! Always true: the queue begins at the first byte not yet written; `runs` adds up to the
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
    fn take(&mut self, capacity: usize) -> Vec<u8> {
        let mut buffer = self.free.pop().unwrap_or_default();
        self.free_bytes -= buffer.capacity();
        buffer.reserve(capacity.max(BUFFER_CAPACITY_MIN));
        buffer
    }

    fn give_back(&mut self, mut buffer: Vec<u8>) {
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
        let keep = if self.written > self.frame_start {
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

    /// Lets bytes behind a fence leave that was reached in another turn than this one.
    pub fn begin_turn(&mut self, turn: u32) {
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
mod tests {
    use super::*;

    fn frame(len: usize, fill: u8) -> Vec<u8> {
        let mut bytes = vec![0x81];
        match len {
            0..=125 => bytes.push(len as u8),
            126..=65_535 => {
                bytes.push(126);
                bytes.extend_from_slice(&(len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + len, fill);
        bytes
    }

    /// Writes in steps of `step` bytes, a turn each time nothing is pending.
    fn drain(outbox: &mut Outbox, pool: &mut BufferPool, step: usize) -> Vec<Vec<u8>> {
        let mut turns = Vec::new();
        while !outbox.is_empty() {
            let mut turn = Vec::new();
            outbox.begin_turn(turns.len() as u32 + 1);
            while !outbox.pending().is_empty() {
                let count = outbox.pending().len().min(step);
                turn.extend_from_slice(&outbox.pending()[..count]);
                outbox.advance(count, pool);
            }
            turns.push(turn);
        }
        turns
    }

    #[test]
    fn everything_due_leaves_in_one_turn_and_in_order() {
        for step in 1..40 {
            let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
            let (a, b) = (frame(10, 1), frame(200, 2));
            outbox.push(Class::Delivery, &a, &mut pool);
            outbox.push(Class::Reply, &b, &mut pool);
            assert_eq!(
                (outbox.delivery_bytes(), outbox.reply_bytes()),
                (a.len(), b.len())
            );
            assert_eq!(drain(&mut outbox, &mut pool, step), [[a, b].concat()]);
            assert_eq!((outbox.delivery_bytes(), outbox.reply_bytes()), (0, 0));
        }
    }

    #[test]
    fn a_fence_ends_the_turn() {
        for step in [1, 7, 1_000] {
            let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
            let (ack, snapshot, next) = (frame(10, 1), frame(20, 2), frame(30, 3));
            outbox.push(Class::Reply, &ack, &mut pool);
            outbox.fence();
            outbox.push(Class::Reply, &snapshot, &mut pool);
            outbox.fence();
            outbox.push(Class::Delivery, &next, &mut pool);
            assert_eq!(drain(&mut outbox, &mut pool, step), [ack, snapshot, next]);
        }
    }

    #[test]
    fn a_second_flush_in_a_turn_does_not_pass_the_fence() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        let (ack, snapshot) = (frame(10, 1), frame(20, 2));
        outbox.push(Class::Reply, &ack, &mut pool);
        outbox.fence();
        outbox.push(Class::Reply, &snapshot, &mut pool);
        outbox.begin_turn(7);
        outbox.advance(ack.len(), &mut pool);
        outbox.begin_turn(7);
        assert_eq!(outbox.pending(), b"");
        outbox.begin_turn(8);
        assert_eq!(outbox.pending(), snapshot);
    }

    #[test]
    fn control_frames_overtake_but_never_inside_a_frame() {
        for begun in 0..15 {
            let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
            let (a, b, pong) = (frame(10, 1), frame(70_000, 2), vec![0x8A, 0]);
            outbox.push(Class::Delivery, &a, &mut pool);
            outbox.push(Class::Delivery, &b, &mut pool);
            outbox.advance(begun, &mut pool);
            outbox.push_control(&pong);
            let rest = drain(&mut outbox, &mut pool, 9).concat();
            let expected = match begun {
                0 => [&pong[..], &a, &b].concat(),
                1..=12 => [&a[begun..], &pong, &b].concat(),
                _ => [&b[begun - 12..], &pong].concat(),
            };
            assert_eq!(rest, expected, "{begun} bytes written before the pong");
        }
    }

    #[test]
    fn control_frames_wait_for_the_end_of_the_http_response() {
        for begun in 0..40 {
            let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
            let (http, welcome, ping) = (vec![b'H'; 40], frame(10, 1), vec![0x89, 0]);
            outbox.push_http(&http, &mut pool);
            outbox.push(Class::Reply, &welcome, &mut pool);
            outbox.advance(begun, &mut pool);
            if begun > 0 {
                outbox.push_control(&ping);
                let rest = drain(&mut outbox, &mut pool, 9).concat();
                assert_eq!(rest, [&http[begun..], &ping, &welcome].concat());
            }
        }
    }

    #[test]
    fn discarding_keeps_only_the_frame_that_has_begun() {
        for begun in 0..30 {
            let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
            let (a, b, c) = (frame(10, 1), frame(10, 2), frame(10, 3));
            for part in [&a, &b, &c] {
                outbox.push(Class::Delivery, part, &mut pool);
            }
            outbox.advance(begun, &mut pool);
            outbox.discard_unstarted();
            let all = [a, b, c].concat();
            let keep = begun.div_ceil(12) * 12;
            assert_eq!(outbox.delivery_bytes(), keep - begun);
            let rest = drain(&mut outbox, &mut pool, 100).concat();
            assert_eq!(rest, all[begun..keep], "{begun} bytes written before");
        }
    }

    #[test]
    fn an_empty_outbox_owns_no_buffer() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        outbox.push(Class::Delivery, &frame(10, 1), &mut pool);
        drain(&mut outbox, &mut pool, 100);
        assert_eq!(outbox.bytes.capacity(), 0);
        assert_eq!(pool.free.len(), 1);
    }
}
