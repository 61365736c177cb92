//! What happens to whom, as lines on the terminal of `ringmesh dev`.
//!
//! A thread of its own reads the events and prints them, so that a terminal that is stopped stops
//! nothing else. In a flood it prints some and says how many it did not.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::control::events::{Events, Position, Query};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// Lines that are printed in a second.
const LINES_PER_SECOND_MAX: usize = 20;
/// Events that are read at a time.
const PAGE: usize = 1_000;
/// How long the end waits for a terminal that is stopped.
const END_TIME_MAX: Duration = Duration::from_secs(1);
/// What the development app's own beginning is, and what the log tells.
const NOT_SHOWN_AT_FIRST: &str = "-node,-rights,-admin";
const NOT_SHOWN: &str = "-node";

/// The thread that prints. See the top of this file.
pub(crate) struct EventLines {
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl EventLines {
    /// Begins with those who have come since the start. `shown` makes an event, as the admin API
    /// has it, lines, each with its end.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(
        events: Arc<Events>,
        shown: impl Fn(&Value) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let (end, ended) = channel();
        let begun = events.end();
        thread::Builder::new()
            .name("dev-events".to_owned())
            .spawn(move || {
                let mut printer = Printer::new(Box::new(shown));
                // A terminal that is gone wants no more.
                let _ = run(&events, &begun, &stopped, &mut printer, &mut io::stdout());
                let _ = end.send(());
            })?;
        Ok(Self { stop, ended })
    }

    /// Prints what has happened until now, and ends.
    pub(crate) fn end(self) {
        // Without a receiver the thread has ended already.
        let _ = self.stop.send(());
        let _ = self.ended.recv_timeout(END_TIME_MAX);
    }
}

fn run(
    events: &Events,
    begun: &Position,
    stopped: &Receiver<()>,
    printer: &mut Printer,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut query = asked(NOT_SHOWN_AT_FIRST, events);
    query.until(begun, events);
    print_found(events, &query, printer, out)?;
    query = asked(NOT_SHOWN, events);
    let mut position = begun.clone();
    loop {
        let is_last = match stopped.recv_timeout(LOOK_EVERY) {
            Err(RecvTimeoutError::Timeout) => false,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
        };
        loop {
            query.go_on_from(&position, events);
            query.follow_on(PAGE);
            let more = print_found(events, &query, printer, out)?;
            match more {
                Some(next) => position = next,
                None => break,
            }
        }
        if is_last {
            return out.write_all(printer.rest().as_bytes());
        }
    }
}

fn asked(kinds: &str, events: &Events) -> Query {
    let query = Query::parse([("kind", kinds)].into_iter(), events);
    query.unwrap_or_default()
}

/// Prints what is found. Returns from where to go on, if there was anything.
fn print_found(
    events: &Events,
    query: &Query,
    printer: &mut Printer,
    out: &mut impl Write,
) -> io::Result<Option<Position>> {
    let found = events.find(query);
    let mut text = printer.tick(Instant::now());
    printer.lost(found.lost);
    for event in &found.events {
        // An event is JSON by its type.
        let event = serde_json::to_value(event).unwrap_or_default();
        text += &printer.line(&event);
    }
    out.write_all(text.as_bytes())?;
    out.flush()?;
    let position = Position::parse(&found.cursor);
    Ok(position.filter(|_| !found.events.is_empty()))
}

/// Decides what is printed: so many lines in a second, and then how many more there were.
struct Printer {
    shown: Box<dyn Fn(&Value) -> String>,
    /// When the present second has begun.
    since: Option<Instant>,
    lines: usize,
    /// Events of this second that were not printed.
    more: u64,
}

impl Printer {
    fn new(shown: Box<dyn Fn(&Value) -> String>) -> Self {
        Self {
            shown,
            since: None,
            lines: 0,
            more: 0,
        }
    }

    /// Begins another second when it is time. Returns what there is to say about the one before.
    fn tick(&mut self, now: Instant) -> String {
        if self.since.is_some_and(|since| now - since < SECOND) {
            return String::new();
        }
        self.since = Some(now);
        self.lines = 0;
        self.rest()
    }

    /// Says how many events were not printed.
    fn rest(&mut self) -> String {
        match std::mem::take(&mut self.more) {
            0 => String::new(),
            more => format!("         … {more} more (ringmesh events)\n"),
        }
    }

    fn line(&mut self, event: &Value) -> String {
        // What a summary stands for is printed one by one.
        if event["summary"] == true {
            return String::new();
        }
        if self.more > 0 || self.lines >= LINES_PER_SECOND_MAX {
            self.more += 1;
            return String::new();
        }
        let text = (self.shown)(event);
        self.lines += text.lines().count();
        text
    }

    /// So many events were overwritten before they could be read.
    fn lost(&mut self, lost: u64) {
        self.more += lost;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flood_is_twenty_lines_a_second_and_a_number() {
        let mut printer = Printer::new(Box::new(|_| "a line\n".to_owned()));
        let begun = Instant::now();
        let event = json!({"kind": "opened"});
        let second = |printer: &mut Printer, count: usize| {
            let lines = (0..count).map(|_| printer.line(&event));
            lines.collect::<String>().lines().count()
        };
        assert_eq!(printer.tick(begun), "");
        assert_eq!(second(&mut printer, 451), 20);
        assert_eq!(printer.tick(begun + SECOND / 2), "");
        assert_eq!(second(&mut printer, 5), 0);
        let told = printer.tick(begun + SECOND);
        assert_eq!(told, "         … 436 more (ringmesh events)\n");
        assert_eq!(second(&mut printer, 3), 3);
        printer.lost(7);
        let told = printer.tick(begun + 2 * SECOND);
        assert_eq!(told, "         … 7 more (ringmesh events)\n");
        assert_eq!(printer.tick(begun + 3 * SECOND), "");
        assert_eq!(printer.rest(), "");
    }
}
