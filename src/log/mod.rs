//! Structured logs on standard error: one line per event, as text or as JSON, in UTC.
//!
//! A shard must never wait for whoever reads the log. So events are formatted where they
//! happen, put into a bounded queue, and written by a thread of their own; when that is stuck
//! and the queue full, lines are dropped, counted, and the count is logged once it moves again.
//!
//! What goes into an event is up to the caller, and two rules hold everywhere: never a
//! credential (token, API or signing secret, admin token) and never a query string, in no
//! level; and text from a peer only in its `Debug` form (`?value`), which keeps it on one line.

mod form;
mod level;
mod queue;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tracing::Subscriber;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;

use self::form::{Form, Lines};
use self::level::LevelGate;
use self::queue::{Backlog, Queue, Words};
use crate::config::{LogConfig, LogFormat};

/// Lines that may wait for the writer. At some 200 bytes a line, under 1 MiB.
const QUEUE_LINES_MAX: usize = 4_096;
/// How long the end of the process waits for the last lines.
const FLUSH_AT_END: Duration = Duration::from_secs(1);

const DROPPED: &str = "log lines dropped: standard error was read too slowly";

/// The running log. Dropping it waits a moment for the last lines.
pub(crate) struct Log {
    level: LevelGate,
    form: Form,
    backlog: Arc<Backlog>,
}

/// Starts the log of this process, with its thread. Call once, before any shard starts:
/// threads started by a shard would share its core. Lines are put into other `words` where those
/// are given.
///
/// # Errors
/// The thread cannot be started, or there is a log already.
pub(crate) fn init(config: &LogConfig, words: Words) -> io::Result<Log> {
    let (subscriber, log) = build(config, io::stderr(), QUEUE_LINES_MAX, words)?;
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    Ok(log)
}

impl Log {
    /// Changes the least important level that is logged and what lines look like, for all
    /// threads.
    pub(crate) fn set(&self, config: &LogConfig) {
        self.level.set(config.level);
        self.form.set(config.format);
    }

    /// Waits until everything logged so far is written, but no longer than that. Returns
    /// whether it is.
    pub(crate) fn flush(&self, at_most: Duration) -> bool {
        self.backlog.wait_until_empty(at_most)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush(FLUSH_AT_END);
    }
}

fn build(
    config: &LogConfig,
    sink: impl Write + Send + 'static,
    queue_lines_max: usize,
    words: Words,
) -> io::Result<(Box<dyn Subscriber + Send + Sync>, Log)> {
    let form = Form::new(config.format);
    let of_dropped = form.clone();
    let dropped_line = move |lines| dropped_line(of_dropped.get(), lines);
    let (queue, backlog) = Queue::start(sink, queue_lines_max, words, dropped_line)?;
    let level = LevelGate::new(config.level);
    let lines = || {
        tracing_subscriber::fmt::layer()
            .with_writer(queue.clone())
            .with_timer(Utc)
            .with_target(false)
            .with_ansi(false)
    };
    let lines = Lines {
        form: form.clone(),
        text: lines(),
        json: lines()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false),
    };
    let registry = tracing_subscriber::registry().with(level.clone());
    let log = Log {
        level,
        form,
        backlog,
    };
    Ok((Box::new(registry.with(lines)), log))
}

/// Makes the line that tells how many were dropped: the one event that does not go through the
/// queue, as that was full.
fn dropped_line(format: LogFormat, lines: u64) -> String {
    match format {
        LogFormat::Text => dropped_text(lines),
        LogFormat::Json => dropped_json(lines),
    }
}

fn dropped_text(lines: u64) -> String {
    format!("{:.3}  WARN {DROPPED} lines={lines}\n", now())
}

fn dropped_json(lines: u64) -> String {
    let time = now();
    let event = json!({
        "timestamp": format!("{time:.3}"), "level": "WARN", "message": DROPPED, "lines": lines,
    });
    format!("{event}\n")
}

/// The time now. A clock beyond the calendar's end (the year 9999) or before its beginning
/// shows its last or first moment.
fn now() -> jiff::Timestamp {
    timestamp(SystemTime::now())
}

fn timestamp(time: SystemTime) -> jiff::Timestamp {
    let beyond = if time < SystemTime::UNIX_EPOCH {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    };
    jiff::Timestamp::try_from(time).unwrap_or(beyond)
}

/// RFC 3339 with milliseconds, in UTC.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        write!(line, "{:.3}", now())
    }
}
