//! The thread that writes a shard's history, and what the shard keeps of it: a queue of batches
//! to the thread, and one of emptied buffers back.
//!
//! The shard never waits. What the queue does not take stays with the shard and goes with the next
//! batch. If that is too much, or the disk does not take a batch, it is given up, and of each
//! channel it is noted what the disk lacks. That is told again out of what the shard keeps, as soon
//! as there is room: until then nothing else of the shard is written, so that no gap is left.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use ahash::RandomState;
use rtrb::{Consumer, Producer, RingBuffer};

use super::behind::{Behind, Unwritten};
use super::writer::{Counters, Writer};
use crate::planted::{Bug, planted};
use crate::proto::records::ChannelKey;

/// Batches that are on their way at most, there and back.
const BATCHES_MAX: usize = 1_024;
/// Bytes that stay with the shard at most.
const BACKLOG_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// Bytes of batches from which on a round of the thread ends.
const ROUND_BYTES: usize = 4 * 1_024 * 1_024;
/// Bytes of records from which on no other channel is asked for what the disk lacks.
const TOLD_BYTES: usize = 256 * 1_024;
/// Time for more batches to come, where nobody waits for them to be stored: a thread that is woken
/// each turn costs the shard a call of the kernel each time.
const GATHER: Duration = Duration::from_millis(1);
/// Longest wait for a thread that is behind when the shard ends.
const END_MAX: Duration = Duration::from_secs(5);
/// Capacity of an emptied buffer that is used again.
const BUFFER_BYTES_MAX: usize = 1 << 20;

/// Records of one turn or more.
struct Batch {
    number: u64,
    /// See [`Writer`].
    generation: u64,
    /// Whether nothing is lacking that was handed over before it.
    is_whole: bool,
    records: Vec<u8>,
}

/// A batch that has been dealt with.
struct Settled {
    batch: u64,
    /// Whether all of it is stored as the policy says.
    stored: bool,
    /// Its buffer, with records of this batch and of those before it.
    buffer: Vec<u8>,
}

/// What the shard has of its writer.
pub struct Log {
    batches: Producer<Batch>,
    settled: Consumer<Settled>,
    sleeper: Arc<Sleeper>,
    /// What goes with the next batch.
    records: Vec<u8>,
    /// The number of the next batch.
    next: u64,
    /// Batches that were handed over and are not back.
    on_the_way: usize,
    generation: u64,
    behind: Behind,
    counters: Arc<Counters>,
    /// Batches that were given up.
    given_up: Vec<u64>,
    spare: Vec<Vec<u8>>,
}

/// Where the thread sleeps.
#[derive(Default)]
struct Sleeper {
    asleep: AtomicBool,
    ended: AtomicBool,
    /// The shard had more to write: the files must not say that nothing follows.
    cut_short: AtomicBool,
    thread: OnceLock<Thread>,
}

/// A writer at work.
pub struct Writing {
    /// For the shard.
    pub log: Log,
    /// Ends when the log was dropped and all is written.
    pub thread: JoinHandle<()>,
}

/// Starts the thread of a shard's writer. `opened` is when the store was opened. `tell` is called
/// when batches were settled, where somebody waits for that.
///
/// # Errors
/// There is no thread to be had.
pub fn start(
    writer: Writer,
    opened: Instant,
    hasher: RandomState,
    tell: Option<Box<dyn Fn() + Send>>,
) -> io::Result<Writing> {
    let (log, mut worker) = without_thread(writer, hasher);
    worker.tell = tell;
    let builder = thread::Builder::new().name("history".into());
    let thread = builder.spawn(move || worker.run(opened))?;
    // Nobody else sets it.
    let _ = log.sleeper.thread.set(thread.thread().clone());
    Ok(Writing { log, thread })
}

/// What a shard and its thread have, for whoever takes the rounds of the thread.
#[must_use]
pub fn without_thread(writer: Writer, hasher: RandomState) -> (Log, Worker) {
    let (batches, receiver) = RingBuffer::new(BATCHES_MAX);
    let (sender, settled) = RingBuffer::new(BATCHES_MAX);
    let sleeper = Arc::new(Sleeper::default());
    let counters = writer.counters();
    let writer_generation = counters.generation.load(Ordering::Acquire);
    let worker = Worker {
        writer,
        is_whole: true,
        receiver,
        sender,
        sleeper: Arc::clone(&sleeper),
        tell: None,
        records: Vec::new(),
        round: Vec::new(),
    };
    let log = Log {
        batches,
        settled,
        sleeper,
        records: Vec::new(),
        next: 0,
        on_the_way: 0,
        generation: writer_generation,
        behind: Behind::new(hasher),
        counters,
        given_up: Vec::new(),
        spare: Vec::new(),
    };
    (log, worker)
}

impl Log {
    /// Takes records over and leaves an empty buffer. Returns the number of the batch that they
    /// are in.
    pub fn push(&mut self, records: &mut Vec<u8>) -> u64 {
        if self.behind.len() > 0 {
            self.behind.add(records);
            records.clear();
            self.give_up();
            return self.next - 1;
        }
        if self.records.is_empty() {
            std::mem::swap(&mut self.records, records);
        } else {
            self.records.append(records);
        }
        if self.records.len() > BACKLOG_BYTES_MAX {
            self.behind.add(&self.records);
            self.records = Vec::new();
            self.give_up();
            return self.next - 1;
        }
        self.next
    }

    /// Has told what the disk lacks, as much as goes at once, if it takes that now. Call it when
    /// all records of the turn were pushed. `tell` appends what it knows of a channel to records,
    /// given the app's id, the channel's name, and what is lacking; it returns the epoch and the
    /// number to go on with, if that was not all.
    pub fn refill(
        &mut self,
        mut tell: impl FnMut(&str, &str, &Unwritten, &mut Vec<u8>) -> Option<(String, u64)>,
    ) {
        // What is kept back is of the generation before.
        if self.records.is_empty() {
            self.follow_generation();
        }
        if !self.can_refill() {
            return;
        }
        while self.records.len() < TOLD_BYTES
            && let Some((key, unwritten)) = self.behind.pop()
        {
            let Some((app, channel)) = ChannelKey::of(&key).texts() else {
                continue;
            };
            if let Some((epoch, seq)) = tell(app, channel, &unwritten, &mut self.records) {
                self.behind.put_back(&key, &epoch, seq);
            }
        }
        self.count_behind();
    }

    /// Whether the disk lacks something, and takes it now.
    fn can_refill(&self) -> bool {
        let is_failing = self.counters.failing.load(Ordering::Acquire);
        let is_current = self.generation == self.counters.generation.load(Ordering::Acquire);
        let has_room = self.records.is_empty() && self.on_the_way < BATCHES_MAX;
        self.behind.len() > 0 && !is_failing && is_current && has_room
    }

    /// Batches of another generation are taken from now on. What is lacking is known only when
    /// all earlier ones are back.
    fn follow_generation(&mut self) {
        if self.on_the_way == 0 {
            self.generation = self.counters.generation.load(Ordering::Acquire);
        }
    }

    fn count_behind(&self) {
        let behind = self.behind.len() as u64;
        self.counters.behind.store(behind, Ordering::Relaxed);
    }

    fn give_up(&mut self) {
        self.given_up.push(self.next);
        self.next += 1;
        self.count_behind();
    }

    /// Hands over what was pushed, if the thread has room for it: once a turn.
    pub fn send(&mut self) {
        if self.on_the_way == BATCHES_MAX {
            return;
        }
        if self.records.is_empty() {
            return;
        }
        if self.behind.len() == 0 {
            self.follow_generation();
        }
        let batch = Batch {
            number: self.next,
            generation: self.generation,
            is_whole: self.behind.len() == 0,
            records: std::mem::replace(&mut self.records, self.spare.pop().unwrap_or_default()),
        };
        match self.batches.push(batch) {
            Ok(()) => {
                self.next += 1;
                self.on_the_way += 1;
                self.sleeper.wake();
            }
            // Not more are on their way than there is room for.
            Err(rtrb::PushError::Full(batch)) => self.records = batch.records,
        }
    }

    /// Returns a batch that has been dealt with, and whether all of it is stored.
    pub fn next_settled(&mut self) -> Option<(u64, bool)> {
        if let Some(batch) = self.given_up.pop() {
            return Some((batch, false));
        }
        let settled = self.settled.pop().ok()?;
        self.on_the_way -= 1;
        let mut buffer = settled.buffer;
        if !settled.stored {
            self.behind.add(&buffer);
            self.count_behind();
        }
        buffer.clear();
        if buffer.capacity() <= BUFFER_BYTES_MAX && self.spare.len() < 2 {
            self.spare.push(buffer);
        }
        Some((settled.batch, settled.stored))
    }

    /// Whether a batch has been dealt with that was not told of yet.
    #[must_use]
    pub fn has_settled(&self) -> bool {
        !self.given_up.is_empty() || !self.settled.is_empty()
    }

    /// Whether something is kept back, so that it must be tried again soon.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        !self.records.is_empty() || self.can_refill()
    }

    /// Whether the disk lacks something.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind.len() > 0
    }
}

impl Drop for Log {
    /// Hands over what is kept back, if the thread takes it in time.
    fn drop(&mut self) {
        let deadline = Instant::now() + END_MAX;
        self.send();
        while !self.records.is_empty() && Instant::now() < deadline {
            thread::sleep(GATHER);
            while self.next_settled().is_some() {}
            self.send();
        }
        let is_cut_short = !self.records.is_empty() || self.is_behind();
        self.sleeper
            .cut_short
            .store(is_cut_short, Ordering::Relaxed);
        self.sleeper.ended.store(true, Ordering::Release);
        self.sleeper.wake();
    }
}

impl Sleeper {
    /// Wakes the thread if it sleeps. Make what is new visible to it before the call.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

/// The thread's own.
pub struct Worker {
    writer: Writer,
    receiver: Consumer<Batch>,
    sender: Producer<Settled>,
    sleeper: Arc<Sleeper>,
    tell: Option<Box<dyn Fn() + Send>>,
    /// Whether nothing that was handed over is lacking in the file.
    is_whole: bool,
    /// The records of a round, which are appended at once.
    records: Vec<u8>,
    /// The batches that they are from, with their buffers.
    round: Vec<Batch>,
}

impl Worker {
    fn run(&mut self, opened: Instant) {
        let now_ms = || u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        loop {
            // Read first: what was sent before the end is found then.
            let has_ended = self.sleeper.ended.load(Ordering::Acquire);
            let is_idle = !self.round(&now_ms);
            if !is_idle {
                if self.tell.is_none() {
                    thread::sleep(GATHER);
                }
            } else if has_ended {
                return self.end(now_ms());
            } else {
                self.sleep(&now_ms);
            }
        }
    }

    /// The log was dropped, and all is written that it has handed over.
    pub fn end(&mut self, now_ms: u64) {
        if self.is_whole && !self.sleeper.cut_short.load(Ordering::Relaxed) {
            self.writer.end(now_ms);
        }
    }

    /// Writes what has come; `now_ms` tells the time since the store was opened. Returns whether
    /// anything has come.
    pub fn round(&mut self, now_ms: &dyn Fn() -> u64) -> bool {
        self.gather();
        let is_idle = self.round.is_empty();
        let is_appended = self.append(now_ms());
        // An fsync may take long: nobody waits for one that is not each round's.
        let is_waited_for = self.writer.stores_at_the_end() && !planted(Bug::AckBeforeFsync);
        if !is_waited_for {
            self.settle(is_appended);
        }
        let is_stored = self.writer.end_round(now_ms()) && is_appended;
        if is_waited_for {
            // What could not be made durable is lacking, too: it may be there or not.
            self.settle(is_stored);
        }
        !is_idle
    }

    /// Takes the batches of a round: those of one generation, of so many bytes.
    fn gather(&mut self) {
        while self.records.len() < ROUND_BYTES
            && let Ok(next) = self.receiver.peek()
            && self
                .round
                .last()
                .is_none_or(|it| it.generation == next.generation)
            && let Ok(mut batch) = self.receiver.pop()
        {
            if self.records.is_empty() {
                std::mem::swap(&mut self.records, &mut batch.records);
            } else {
                self.records.append(&mut batch.records);
            }
            self.round.push(batch);
        }
    }

    /// Appends what was gathered. The records stay with the last batch until it is settled.
    fn append(&mut self, now_ms: u64) -> bool {
        let Some(last) = self.round.last_mut() else {
            return true;
        };
        let generation = last.generation;
        let is_appended = self.writer.append(generation, &mut self.records, now_ms);
        std::mem::swap(&mut self.records, &mut last.records);
        self.records.clear();
        is_appended
    }

    /// Tells what has become of the batches of the round.
    fn settle(&mut self, is_stored: bool) {
        let Some(last) = self.round.last() else {
            return;
        };
        self.is_whole = is_stored && (self.is_whole || last.is_whole);
        for batch in self.round.drain(..) {
            let settled = Settled {
                batch: batch.number,
                stored: is_stored,
                buffer: batch.records,
            };
            // As many fit as can be on their way.
            let _ = self.sender.push(settled);
        }
        if let Some(tell) = &self.tell {
            tell();
        }
    }

    fn sleep(&self, now_ms: &dyn Fn() -> u64) {
        let until_ms = self.writer.next_round_ms();
        let longest = Duration::from_millis(until_ms.saturating_sub(now_ms()).max(1));
        self.sleeper.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.receiver.is_empty() && !self.sleeper.ended.load(Ordering::Relaxed) {
            thread::park_timeout(longest);
        }
        self.sleeper.asleep.store(false, Ordering::Relaxed);
    }
}
