//! What is shown while a run goes on: a few lines that refresh on a terminal, one line now and then
//! elsewhere.

use std::io::{IsTerminal, Write};

use hdrhistogram::Histogram;

use crate::clock::{SECOND, now_ns};
use crate::driver::gathered::{Interval, add};
use crate::measure::process::ProcessSample;
use crate::measure::recorder::{Counters, Window, histogram};
use crate::report::units::{bytes, count, duration, percentile};

/// Between two refreshes, ns: on a terminal, and elsewhere.
const REFRESH_NS: [u64; 2] = [SECOND / 2, 5 * SECOND];
/// Columns of a terminal that does not tell.
const COLUMNS_UNKNOWN: usize = 80;
/// Percentiles shown, with their names.
const PERCENTILES: [(&str, f64); 4] = [
    ("p50", 50.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
];

/// Writes to standard error.
pub(crate) struct Live {
    is_terminal: bool,
    is_quiet: bool,
    name: String,
    series: Vec<&'static str>,
    window: Option<Window>,
    /// Lines on the terminal that the next refresh replaces.
    shown_lines: usize,
    shown_ns: u64,
    since: Since,
}

/// What has come together: latencies in the window so far, all else since the last refresh.
struct Since {
    at_ns: u64,
    counters: Counters,
    latencies: Vec<Histogram<u64>>,
    longest_ns: Vec<u64>,
    server: Option<ProcessSample>,
}

impl Since {
    fn begin(series_count: usize) -> Since {
        Since {
            at_ns: now_ns(),
            counters: Counters::default(),
            latencies: (0..series_count).map(|_| histogram()).collect(),
            longest_ns: vec![0; series_count],
            server: None,
        }
    }

    fn add(&mut self, interval: &Interval, latencies: &[Histogram<u64>]) {
        self.counters.add(&interval.counters);
        for ((sum, longest_ns), one) in self
            .latencies
            .iter_mut()
            .zip(&mut self.longest_ns)
            .zip(latencies)
        {
            add(sum, one);
            *longest_ns = one.max().max(*longest_ns);
        }
    }

    fn shown(&mut self, server: Option<&ProcessSample>) {
        self.at_ns = now_ns();
        self.counters = Counters::default();
        self.longest_ns.fill(0);
        self.server = server.copied();
    }
}

impl Live {
    /// For the run called `name`, with latencies of these series.
    pub(crate) fn new(name: &str, series: Vec<&'static str>, is_quiet: bool) -> Live {
        Live {
            is_terminal: std::io::stderr().is_terminal(),
            is_quiet,
            name: name.to_owned(),
            series,
            window: None,
            shown_lines: 0,
            shown_ns: now_ns(),
            since: Since::begin(0),
        }
    }

    /// During set-up.
    pub(crate) fn setup(&mut self, open: u32, total: u64) {
        if self.is_due() {
            let (open, total) = (count(f64::from(open)), count(total as f64));
            self.show(&[format!("connecting {open} of {total}")]);
        }
    }

    /// The load begins, to be measured in this window.
    pub(crate) fn begin(&mut self, window: &Window) {
        self.window = Some(*window);
        self.since = Since::begin(self.series.len());
    }

    /// An interval is complete; `server` is the latest reading.
    pub(crate) fn interval(
        &mut self,
        interval: &Interval,
        latencies: &[Histogram<u64>],
        server: Option<&ProcessSample>,
    ) {
        if self.is_quiet {
            return;
        }
        self.since.add(interval, latencies);
        if self.is_due() {
            let now_ns = now_ns();
            let mut lines = vec![progress(self.window.as_ref(), now_ns)];
            lines.extend(figures(&self.since, &self.series, server, now_ns));
            self.show(&lines);
            self.since.shown(server);
        }
    }

    /// Takes the refreshed lines away.
    pub(crate) fn end(&mut self) {
        if self.shown_lines > 0 {
            write_stderr(&back(self.shown_lines));
            self.shown_lines = 0;
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

    fn show(&mut self, lines: &[String]) {
        let named = format!("{}: {}", self.name, lines.join("; "));
        if !self.is_terminal {
            write_stderr(&format!("{named}\n"));
            return;
        }
        let columns = rustix::termios::tcgetwinsize(std::io::stderr())
            .map_or(0, |size| usize::from(size.ws_col));
        let first = format!("{}: {}", self.name, lines.first().map_or("", |line| line));
        let rest = lines.iter().skip(1).map(|line| format!("  {line}"));
        let mut text = back(self.shown_lines);
        for line in std::iter::once(first).chain(rest) {
            text.push_str(&cut(&line, columns));
            text.push('\n');
        }
        self.shown_lines = lines.len();
        write_stderr(&text);
    }
}

/// Goes up over this many lines and clears them.
fn back(lines: usize) -> String {
    match lines {
        0 => String::new(),
        lines => format!("\x1b[{lines}A\r\x1b[J"),
    }
}

/// As much of `line` as fits without a break, which would spoil the count of lines.
fn cut(line: &str, columns: usize) -> String {
    let columns = if columns == 0 {
        COLUMNS_UNKNOWN
    } else {
        columns
    };
    let visible = line.chars().filter(|c| !c.is_control());
    visible.take(columns - 1).collect()
}

fn progress(window: Option<&Window>, now_ns: u64) -> String {
    let seconds = |ns: u64| ns / SECOND;
    match window {
        Some(window) if now_ns < window.from_ns => "warming up".into(),
        Some(window) if window.to_ns == u64::MAX => {
            format!("measuring, {} s", seconds(now_ns - window.from_ns))
        }
        Some(window) if now_ns < window.to_ns => format!(
            "measuring, {} of {} s",
            seconds(now_ns - window.from_ns),
            seconds(window.to_ns - window.from_ns)
        ),
        _ => "waiting for what is under way".into(),
    }
}

/// Rates and errors, a line per series with samples, CPU and memory. Percentiles are those of the
/// measurement so far, "now" and all else since the last refresh.
fn figures(
    since: &Since,
    series: &[&str],
    server: Option<&ProcessSample>,
    now_ns: u64,
) -> Vec<String> {
    let seconds = (now_ns - since.at_ns).max(1) as f64 / SECOND as f64;
    let rate = |n: u64| count(n as f64 / seconds);
    let counters = &since.counters;
    let mut lines = vec![format!(
        "sent {}/s  received {}/s  connected {}/s  errors {}",
        rate(counters.sent),
        rate(counters.received),
        rate(counters.connected),
        counters.faults
    )];
    let longest = since.latencies.iter().zip(&since.longest_ns);
    for (name, (latencies, longest_ns)) in series.iter().zip(longest) {
        if latencies.is_empty() {
            continue;
        }
        let mut line = (*name).to_owned();
        for (label, p) in PERCENTILES {
            let value = percentile(latencies.len(), p, latencies.value_at_quantile(p / 100.0));
            line.push_str(&format!("  {label} {value}"));
        }
        line.push_str(&format!("  now max {}", duration(*longest_ns)));
        lines.push(line);
    }
    let cpu = counters.cpu_ns as f64 / SECOND as f64 / seconds;
    let mut line = format!("CPU: harness {:.0}%", cpu * 100.0);
    if let (Some(now), Some(then)) = (server, &since.server) {
        let wall_ns = (now.at_ns - then.at_ns).max(1) as f64;
        let cpu = now.cpu_ns.saturating_sub(then.cpu_ns) as f64 / wall_ns;
        line.push_str(&format!("  server {:.0}%", cpu * 100.0));
    }
    if let Some(server) = server {
        line.push_str(&format!(
            "  server memory {}",
            bytes(server.rss_bytes as f64)
        ));
    }
    lines.push(line);
    lines
}

/// Writes to standard error; where that is closed there is nobody to tell.
pub(crate) fn write_stderr(text: &str) {
    let _closed = std::io::stderr().write_all(text.as_bytes());
}

/// Writes to standard output; a closed pipe is no error of the run.
pub(crate) fn write_stdout(text: &str) {
    let _closed = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_latencies_errors_cpu_and_memory_are_shown() {
        let mut latencies = histogram();
        for ns in 1..=1_000 {
            latencies.saturating_record(ns * 1_000);
        }
        let sample = |at_ns: u64, cpu_ns: u64| ProcessSample {
            at_ns,
            cpu_ns,
            rss_bytes: 64 << 20,
            ..ProcessSample::default()
        };
        let since = Since {
            at_ns: 0,
            counters: Counters {
                sent: 160,
                received: 160_000,
                faults: 3,
                cpu_ns: SECOND / 2,
                ..Counters::default()
            },
            latencies: vec![latencies, histogram()],
            longest_ns: vec![7_000, 0],
            server: Some(sample(0, 0)),
        };
        let now = sample(2 * SECOND, SECOND);
        let lines = figures(&since, &["delivery", "ack"], Some(&now), 2 * SECOND);
        assert_eq!(
            lines,
            [
                "sent 80/s  received 80,000/s  connected 0/s  errors 3",
                "delivery  p50 500 µs  p99 990 µs  p99.9 1.00 ms  p99.99 –  now max 7.00 µs",
                "CPU: harness 25%  server 50%  server memory 64.0 MiB",
            ]
        );
    }

    #[test]
    fn the_phase_of_the_run_is_named() {
        let window = Window {
            go_ns: 0,
            from_ns: 2 * SECOND,
            to_ns: 12 * SECOND,
            interval_ns: SECOND,
        };
        let at = |ns| progress(Some(&window), ns);
        assert_eq!(at(SECOND), "warming up");
        assert_eq!(at(5 * SECOND), "measuring, 3 of 10 s");
        assert_eq!(at(12 * SECOND), "waiting for what is under way");
        let counted = Window {
            to_ns: u64::MAX,
            ..window
        };
        assert_eq!(progress(Some(&counted), 5 * SECOND), "measuring, 3 s");
    }

    #[test]
    fn lines_fit_the_terminal_and_carry_no_escape() {
        assert_eq!(cut("\x1b[31mabcdef", 6), "[31ma");
        assert_eq!(cut("µµµ", 3), "µµ");
        assert_eq!(cut(&"x".repeat(200), 0).len(), COLUMNS_UNKNOWN - 1);
        assert_eq!(back(0), "");
    }
}
