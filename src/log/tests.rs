//! Events in, lines out, through the real subscriber, queue and thread.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use tracing::subscriber::with_default;
use tracing::{Level, debug, info, warn};

use super::*;
use crate::log::queue::write_all;

const WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn config(format: LogFormat) -> LogConfig {
    LogConfig {
        events: crate::config::LogEvents::Off,
        level: Level::INFO,
        format,
    }
}

/// What is logged by `events`, once it is flushed.
fn logged(format: LogFormat, events: impl FnOnce(&Log)) -> String {
    let sink = Sink::default();
    let (subscriber, log) = build(&config(format), sink.clone(), 64, None).unwrap();
    with_default(subscriber, || events(&log));
    assert!(log.flush(WAIT));
    sink.text()
}

/// The line without its time, which must be RFC 3339 in UTC with milliseconds.
fn without_time(line: &str) -> &str {
    let (time, rest) = line.split_at("2026-01-02T03:04:05.678Z".len());
    let parsed: jiff::Timestamp = time.parse().unwrap();
    assert_eq!(format!("{parsed:.3}"), time);
    rest
}

#[test]
fn a_text_line_has_time_level_message_and_fields() {
    let text = logged(LogFormat::Text, |_| {
        info!(public = "127.0.0.1:8080", shards = 2, "listening");
        debug!("not at this level");
        warn!(channel = ?"a\nb", "odd");
    });
    let lines: Vec<_> = text.lines().map(without_time).collect();
    let expected = [
        "  INFO listening public=\"127.0.0.1:8080\" shards=2",
        "  WARN odd channel=\"a\\nb\"",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_json_line_is_one_flat_object() {
    let text = logged(LogFormat::Json, |_| info!(shards = 2, "listening"));
    let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!(without_time(line["timestamp"].as_str().unwrap()), "");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "listening");
    assert_eq!(line["shards"], 2);
    assert_eq!(line.as_object().unwrap().len(), 4);
}

#[test]
fn the_level_changes_while_running() {
    let at = |level| LogConfig {
        level,
        ..config(LogFormat::Text)
    };
    let text = logged(LogFormat::Text, |log| {
        // The same call site each time: what it remembers must not outlive the change.
        let event = |n: u32| debug!(n, "event");
        event(1);
        log.set(&at(Level::DEBUG));
        event(2);
        log.set(&at(Level::WARN));
        event(3);
        info!("nor this");
    });
    let lines: Vec<_> = text.lines().map(without_time).collect();
    assert_eq!(lines, [" DEBUG event n=2"]);
}

#[test]
fn the_format_changes_while_running() {
    let text = logged(LogFormat::Text, |log| {
        info!(n = 1, "event");
        log.set(&config(LogFormat::Json));
        info!(n = 2, "event");
        log.set(&config(LogFormat::Text));
        info!(n = 3, "event");
    });
    let lines: Vec<_> = text.lines().collect();
    let [first, second, third] = lines[..] else {
        panic!("{text}");
    };
    assert_eq!(without_time(first), "  INFO event n=1");
    assert_eq!(without_time(third), "  INFO event n=3");
    let second: serde_json::Value = serde_json::from_str(second).unwrap();
    assert_eq!(second["n"], 2);
}

/// Blocks in its first write until it is told to go on.
struct Stuck {
    reached: Sender<()>,
    go_on: Receiver<()>,
    sink: Sink,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.reached.send(());
        // After the test has dropped its sender this no longer blocks.
        let _ = self.go_on.recv();
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_reader_stops_nobody_and_the_loss_is_reported() {
    let (reached, has_reached) = channel();
    let (go_on_now, go_on) = channel();
    let sink = Sink::default();
    let stuck = Stuck {
        reached,
        go_on,
        sink: sink.clone(),
    };
    let (subscriber, log) = build(&config(LogFormat::Text), stuck, 4, None).unwrap();
    with_default(subscriber, || {
        info!("first");
        has_reached.recv_timeout(WAIT).unwrap();
        (0..10).for_each(|n| info!(n, "next"));
    });
    assert!(!log.flush(Duration::ZERO));
    drop(go_on_now);
    assert!(log.flush(WAIT));
    let text = sink.text();
    let lines: Vec<_> = text.lines().map(without_time).collect();
    let expected = [
        "  INFO first",
        "  WARN log lines dropped: standard error was read too slowly lines=6",
        "  INFO next n=0",
        "  INFO next n=1",
        "  INFO next n=2",
        "  INFO next n=3",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_loss_is_reported_in_the_format_of_the_log() {
    let line = dropped_line(LogFormat::Json, 6);
    let event: serde_json::Value = serde_json::from_str(line.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(without_time(event["timestamp"].as_str().unwrap()), "");
    assert_eq!(
        (&event["level"], &event["lines"]),
        (&json!("WARN"), &json!(6))
    );
    assert_eq!(event["message"], DROPPED);
}

/// Takes one byte at a time, after refusing twice.
struct Reluctant(u32, Sink);

impl Write for Reluctant {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += 1;
        match self.0 {
            1 => Err(io::ErrorKind::WouldBlock.into()),
            2 => Err(io::ErrorKind::Interrupted.into()),
            _ => self.1.write(&bytes[..1]),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reluctant_reader_gets_every_byte() {
    let sink = Sink::default();
    let mut reluctant = Reluctant(0, sink.clone());
    write_all(&mut reluctant, b"line\n").unwrap();
    assert_eq!(sink.text(), "line\n");
}

/// Fails once, then is a sink.
struct Broken(bool, Sink);

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.0) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failed_write_ends_nothing_and_is_reported() {
    let sink = Sink::default();
    let (subscriber, log) = build(
        &config(LogFormat::Text),
        Broken(true, sink.clone()),
        4,
        None,
    )
    .unwrap();
    with_default(subscriber, || info!("into the void"));
    assert!(log.flush(WAIT));
    let text = sink.text();
    assert!(
        text.ends_with("lines=1\n") && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn a_clock_beyond_the_calendar_is_logged_with_its_last_moment() {
    let year = Duration::from_secs(366 * 86_400);
    let far = std::time::SystemTime::UNIX_EPOCH + 9_000 * year;
    assert_eq!(super::timestamp(far), jiff::Timestamp::MAX);
    let before = std::time::SystemTime::UNIX_EPOCH - 12_000 * year;
    assert_eq!(super::timestamp(before), jiff::Timestamp::MIN);
    assert_eq!(
        super::timestamp(std::time::SystemTime::UNIX_EPOCH),
        jiff::Timestamp::UNIX_EPOCH
    );
}
