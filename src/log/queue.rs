//! Between the threads that log and standard error: a bounded queue of formatted lines, and a
//! thread that writes them. Whoever logs never waits; when the queue is full the line is
//! dropped and counted, and the count is written as soon as there is room again.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes after which the writer stops gathering lines for one write.
const BATCH_BYTES_MAX: usize = 64 * 1_024;
/// How often a flush looks whether the writer is done.
const FLUSH_POLL: Duration = Duration::from_millis(1);
/// Pause before a write is tried again when standard error is not blocking and full.
const WRITE_RETRY: Duration = Duration::from_millis(5);

/// What the logging threads and the writer tell each other.
#[derive(Default)]
pub(super) struct Backlog {
    /// Lines in the queue or in the writer's hands, and those just being put in.
    waiting: AtomicU64,
    /// Lines dropped since the last report of it.
    dropped: AtomicU64,
}

impl Backlog {
    /// Waits until no line is waiting, at most that long. Returns whether that was reached.
    pub(super) fn wait_until_empty(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        while self.waiting.load(Ordering::Acquire) > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(FLUSH_POLL);
        }
        true
    }
}

/// The end that lines are put in. Never blocks.
#[derive(Clone)]
pub(super) struct Queue {
    sender: SyncSender<Box<[u8]>>,
    backlog: Arc<Backlog>,
    words: Words,
}

/// Translates each line before it is written; `None`: lines are written as they are.
pub(super) type Words = Option<fn(&str) -> Cow<'_, str>>;

impl Queue {
    /// Starts the writer. `dropped_line` makes the line that tells of dropped ones.
    pub(super) fn start(
        sink: impl Write + Send + 'static,
        lines_max: usize,
        words: Words,
        dropped_line: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<(Self, Arc<Backlog>)> {
        let (sender, receiver) = sync_channel(lines_max);
        let backlog = Arc::new(Backlog::default());
        let of_writer = Arc::clone(&backlog);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&receiver, sink, &of_writer, dropped_line))?;
        let queue = Self {
            sender,
            backlog: Arc::clone(&backlog),
            words,
        };
        Ok((queue, backlog))
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Queue {
    /// Takes one whole line: an event is written with a single call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Counted first, so that it cannot be written before it is counted.
        self.backlog.waiting.fetch_add(1, Ordering::AcqRel);
        let text = self.words.zip(str::from_utf8(line).ok());
        let text = text.map(|(words, text)| words(text).into_owned().into_bytes());
        let text = text.map_or_else(|| line.into(), Vec::into_boxed_slice);
        if self.sender.try_send(text).is_err() {
            self.backlog.dropped.fetch_add(1, Ordering::AcqRel);
            self.backlog.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The writer: ends when the last sender is gone.
fn write_lines(
    receiver: &Receiver<Box<[u8]>>,
    mut sink: impl Write,
    backlog: &Backlog,
    dropped_line: impl Fn(u64) -> String + Send + 'static,
) {
    let mut batch = Vec::new();
    while let Ok(line) = receiver.recv() {
        let mut lines = 1;
        batch.clear();
        batch.extend_from_slice(&line);
        while batch.len() < BATCH_BYTES_MAX {
            let Ok(line) = receiver.try_recv() else { break };
            batch.extend_from_slice(&line);
            lines += 1;
        }
        if write_all(&mut sink, &batch).is_err() {
            backlog.dropped.fetch_add(lines, Ordering::AcqRel);
        }
        let dropped = backlog.dropped.swap(0, Ordering::AcqRel);
        if dropped > 0 && write_all(&mut sink, dropped_line(dropped).as_bytes()).is_err() {
            backlog.dropped.fetch_add(dropped, Ordering::AcqRel);
        }
        backlog.waiting.fetch_sub(lines, Ordering::AcqRel);
    }
}

/// As `Write::write_all`, but waits where the other side is full and set not to block, as a
/// terminal or pipe shared with another program may be.
pub(super) fn write_all(sink: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(WRITE_RETRY),
            Err(error) => return Err(error),
        }
    }
    sink.flush()
}
