//! What a process writes, line by line, kept and awaited.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::PATIENCE;

/// Lines of one stream, read by a thread of its own so that the process never waits.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    shared: Arc<(Mutex<Written>, Condvar)>,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let to = lines.clone();
        std::thread::spawn(move || {
            let (written, changed) = &*to.shared;
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                written.lock().unwrap().lines.push(line);
                changed.notify_all();
            }
            written.lock().unwrap().ended = true;
            changed.notify_all();
        });
        lines
    }

    /// The first thing found in a line, as soon as there is one.
    #[track_caller]
    pub(crate) fn find<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let (written, changed) = &*self.shared;
        let deadline = Instant::now() + PATIENCE;
        let mut written = written.lock().unwrap();
        let mut seen = 0;
        loop {
            if let Some(found) = written.lines[seen..].iter().find_map(|line| find(line)) {
                return found;
            }
            seen = written.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if written.ended || left.is_zero() {
                let all = written.lines.join("\n");
                drop(written);
                panic!("no line with {what}:\n{all}");
            }
            written = changed.wait_timeout(written, left).unwrap().0;
        }
    }

    /// The lines that have come until now.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().lines.clone()
    }

    /// Everything up to the end of the stream.
    pub(crate) fn all(&self) -> String {
        let (written, changed) = &*self.shared;
        let (written, timeout) = changed
            .wait_timeout_while(written.lock().unwrap(), PATIENCE, |it| !it.ended)
            .unwrap();
        assert!(!timeout.timed_out(), "the stream has not ended");
        written.lines.join("\n")
    }
}
