//! What is shown while a run goes on: one refreshed line on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};

use crate::clock::{SECOND, now_ns};
use crate::driver::gathered::Interval;
use crate::measure::process::ProcessSample;
use crate::report::units::{bytes, count, duration};

/// Between two lines, ns: on a terminal, and elsewhere.
const REFRESH_NS: [u64; 2] = [SECOND / 4, 5 * SECOND];

/// Writes to standard error.
pub struct Live {
    is_terminal: bool,
    is_quiet: bool,
    name: String,
    shown_ns: u64,
    previous: Option<ProcessSample>,
    summed: Interval,
    summed_since_ns: u64,
}

impl Live {
    /// For the run called `name`.
    pub fn new(name: &str, is_quiet: bool) -> Live {
        Live {
            is_terminal: std::io::stderr().is_terminal(),
            is_quiet,
            name: name.to_owned(),
            shown_ns: now_ns(),
            previous: None,
            summed: Interval::default(),
            summed_since_ns: now_ns(),
        }
    }

    /// During set-up.
    pub fn setup(&mut self, open: u32, total: u64) {
        if self.is_due() {
            self.show(&format!("connecting {open}/{total}"));
        }
    }

    /// An interval is complete; `server` is the latest reading.
    pub fn interval(&mut self, interval: &Interval, server: Option<&ProcessSample>) {
        self.summed.counters.add(&interval.counters);
        self.summed.latencies.clone_from(&interval.latencies);
        if !self.is_due() {
            return;
        }
        let now_ns = now_ns();
        let seconds = (now_ns - self.summed_since_ns) as f64 / SECOND as f64;
        let rate = |n: u64| count(n as f64 / seconds);
        let counters = self.summed.counters;
        let mut line = format!(
            "sent {}/s  received {}/s",
            rate(counters.sent),
            rate(counters.received)
        );
        if let Some(latency) = self
            .summed
            .latencies
            .iter()
            .find(|latency| latency.count > 0)
        {
            let columns = [
                ("p50", latency.p50),
                ("p99", latency.p99),
                ("p99.9", latency.p999),
                ("p99.99", latency.p9999),
                ("max", latency.max),
            ];
            for (name, ns) in columns {
                line.push_str(&format!("  {name} {}", duration(ns)));
            }
        }
        let load_cpu = counters.cpu_ns as f64 / SECOND as f64 / seconds;
        line.push_str(&format!("  load cpu {:.0}%", load_cpu * 100.0));
        if let (Some(now), Some(then)) = (server, &self.previous) {
            let wall_ns = (now.at_ns - then.at_ns).max(1) as f64;
            let cpu = (now.cpu_ns.saturating_sub(then.cpu_ns)) as f64 / wall_ns;
            let rss = bytes(now.rss_bytes as f64);
            line.push_str(&format!("  server cpu {:.0}% rss {rss}", cpu * 100.0));
        }
        self.previous = server.copied();
        if interval.index < 0 {
            line.insert_str(0, "warming up: ");
        }
        self.summed = Interval::default();
        self.summed_since_ns = now_ns;
        self.show(&line);
    }

    /// Leaves the refreshed line.
    pub fn end(&self) {
        if self.is_terminal && !self.is_quiet {
            write_stderr("\r\x1b[K");
        }
    }

    fn is_due(&mut self) -> bool {
        let now_ns = now_ns();
        let is_due = now_ns >= self.shown_ns + REFRESH_NS[usize::from(!self.is_terminal)];
        if is_due {
            self.shown_ns = now_ns;
        }
        is_due && !self.is_quiet
    }

    fn show(&self, line: &str) {
        if self.is_terminal {
            write_stderr(&format!("\r\x1b[K{}: {line}", self.name));
        } else {
            write_stderr(&format!("{}: {line}\n", self.name));
        }
    }
}

/// Writes to standard error; where that is closed there is nobody to tell.
pub fn write_stderr(text: &str) {
    let _closed = std::io::stderr().write_all(text.as_bytes());
}

/// Writes to standard output; a closed pipe is no error of the run.
pub fn write_stdout(text: &str) {
    let _closed = std::io::stdout().write_all(text.as_bytes());
}
