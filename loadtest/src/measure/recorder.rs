//! Latency histograms and counters of one load core, handed over once per interval.
//!
//! A latency counts from the time at which its message *should* have been sent, so that a server
//! that stalls is charged for every message that was due meanwhile (coordinated omission). It is
//! recorded where that time lies in the measured window; counts go by the time of arrival.

use std::sync::mpsc::Sender;

use hdrhistogram::Histogram;

use crate::clock::{SECOND, thread_cpu_ns};

/// Nanoseconds below which latencies are not told apart.
const LATENCY_NS_MIN: u64 = 100;
/// Longest latency recorded: two minutes. Longer ones count as this.
const LATENCY_NS_MAX: u64 = 120 * SECOND;
/// Decimal digits kept of a latency.
const DIGITS: u8 = 3;

/// Things counted per interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Measured messages or requests sent.
    pub sent: u64,
    /// Measured messages or answers received: the unit of "per delivery".
    pub received: u64,
    /// WebSocket messages of every kind received.
    pub frames: u64,
    /// Bytes received, as plaintext.
    pub bytes: u64,
    /// Connections that got their `welcome`.
    pub connected: u64,
    /// Deliveries found to be wrong.
    pub faults: u64,
    /// CPU time of the load thread, ns.
    pub cpu_ns: u64,
}

impl Counters {
    /// Adds `other` field by field.
    pub(crate) fn add(&mut self, other: &Counters) {
        self.sent += other.sent;
        self.received += other.received;
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.connected += other.connected;
        self.faults += other.faults;
        self.cpu_ns += other.cpu_ns;
    }
}

/// The measured window, the same on all load cores, in `CLOCK_MONOTONIC` ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Load begins; latencies are not recorded yet.
    pub go_ns: u64,
    /// Measurement begins.
    pub from_ns: u64,
    /// Measurement ends; `u64::MAX` while a counted workload runs.
    pub to_ns: u64,
    /// Length of an interval.
    pub interval_ns: u64,
}

impl Window {
    /// Whether `at_ns` is measured.
    pub(crate) fn contains(&self, at_ns: u64) -> bool {
        self.from_ns <= at_ns && at_ns < self.to_ns
    }

    /// Which interval `at_ns` lies in; negative during warm-up.
    pub(crate) fn interval_index(&self, at_ns: u64) -> i64 {
        (at_ns as i64 - self.from_ns as i64).div_euclid(self.interval_ns as i64)
    }
}

/// One interval of one load core.
pub(crate) struct Part {
    /// See [`Window::interval_index`].
    pub index: i64,
    /// What was counted in it.
    pub counters: Counters,
    /// One histogram per series, in ns.
    pub series: Vec<Histogram<u64>>,
    /// How late this harness itself sent, in ns.
    pub lag: Histogram<u64>,
}

/// Records on one load core.
pub(crate) struct Recorder {
    /// Public to the workloads, which count what they know.
    pub counters: Counters,
    window: Window,
    series: Vec<Histogram<u64>>,
    lag: Histogram<u64>,
    index: i64,
    roll_at_ns: u64,
    cpu_before_ns: u64,
    faults_before: u64,
    parts: Sender<Part>,
}

/// An empty histogram over the range of latencies.
pub(crate) fn histogram() -> Histogram<u64> {
    // The bounds are constants that satisfy the only conditions `new_with_bounds` checks
    // (1 <= low, 2 * low <= high, digits <= 5); a test makes one.
    #[expect(clippy::expect_used, reason = "constant bounds, made in a test")]
    let mut histogram = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, DIGITS)
        .expect("constant bounds");
    histogram.auto(false);
    histogram
}

impl Recorder {
    /// Records nothing until [`Recorder::begin`].
    pub(crate) fn new(series_count: usize, parts: Sender<Part>) -> Recorder {
        let never = u64::MAX / 4;
        Recorder {
            counters: Counters::default(),
            window: Window {
                go_ns: never,
                from_ns: never,
                to_ns: never,
                interval_ns: SECOND,
            },
            series: (0..series_count).map(|_| histogram()).collect(),
            lag: histogram(),
            index: i64::MIN,
            roll_at_ns: u64::MAX,
            cpu_before_ns: 0,
            faults_before: 0,
            parts,
        }
    }

    /// Sets the window; what was counted before is forgotten.
    pub(crate) fn begin(&mut self, window: Window, now_ns: u64) {
        self.window = window;
        self.counters = Counters::default();
        self.cpu_before_ns = thread_cpu_ns();
        self.set_index(window.interval_index(now_ns));
    }

    /// The window of this run.
    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    /// Ends the window of a counted workload.
    pub(crate) fn end(&mut self, to_ns: u64) {
        self.window.to_ns = to_ns;
    }

    /// Records one latency of a series.
    pub(crate) fn latency(&mut self, series: usize, intended_ns: u64, now_ns: u64) {
        if self.window.contains(intended_ns) {
            self.series[series].saturating_record(now_ns.saturating_sub(intended_ns));
        }
    }

    /// Records how late this harness sent what was due at `intended_ns`.
    pub(crate) fn sent_at(&mut self, intended_ns: u64, now_ns: u64) {
        self.counters.sent += 1;
        if self.window.contains(intended_ns) {
            self.lag
                .saturating_record(now_ns.saturating_sub(intended_ns));
        }
    }

    /// Hands the interval over when `now_ns` lies beyond it. Returns whether it did. `faults` tells
    /// how many there have been so far.
    pub(crate) fn roll(&mut self, now_ns: u64, faults: impl FnOnce() -> u64) -> bool {
        if now_ns < self.roll_at_ns {
            return false;
        }
        self.hand_over(faults());
        self.set_index(self.window.interval_index(now_ns));
        true
    }

    /// Hands over what there is; `faults` are those so far.
    pub(crate) fn hand_over(&mut self, faults: u64) {
        self.counters.faults = faults.saturating_sub(self.faults_before);
        self.faults_before = faults;
        let cpu_ns = thread_cpu_ns();
        self.counters.cpu_ns = cpu_ns - self.cpu_before_ns;
        self.cpu_before_ns = cpu_ns;
        let fresh = self.series.iter().map(|_| histogram()).collect();
        let part = Part {
            index: self.index,
            counters: std::mem::take(&mut self.counters),
            series: std::mem::replace(&mut self.series, fresh),
            lag: std::mem::replace(&mut self.lag, histogram()),
        };
        // The receiver is gone only when the run has failed elsewhere.
        let _run_over = self.parts.send(part);
    }

    fn set_index(&mut self, index: i64) {
        self.index = index;
        let next = self.window.from_ns as i64 + (index + 1) * self.window.interval_ns as i64;
        self.roll_at_ns = next.max(0) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const WINDOW: Window = Window {
        go_ns: 1_000,
        from_ns: 2_000,
        to_ns: 4_000,
        interval_ns: 1_000,
    };

    #[test]
    fn intervals_before_in_and_after_the_window() {
        assert_eq!(WINDOW.interval_index(1_999), -1);
        assert_eq!(WINDOW.interval_index(2_000), 0);
        assert_eq!(WINDOW.interval_index(3_999), 1);
        assert!(WINDOW.contains(2_000) && !WINDOW.contains(4_000) && !WINDOW.contains(1_999));
    }

    #[test]
    fn latencies_count_by_intended_time_and_messages_by_arrival() {
        let (parts, received) = channel();
        let mut recorder = Recorder::new(1, parts);
        recorder.begin(WINDOW, 1_500);
        recorder.latency(0, 1_900, 2_500);
        recorder.counters.received += 1;
        assert!(recorder.roll(2_500, || 1));
        recorder.latency(0, 3_900, 9_900);
        recorder.counters.received += 2;
        assert!(!recorder.roll(2_999, || 3));
        assert!(recorder.roll(4_200, || 3));
        let warm_up = received.try_recv().expect("rolled");
        assert_eq!((warm_up.index, warm_up.counters.received), (-1, 1));
        assert_eq!(warm_up.series[0].len(), 0, "intended before the window");
        let measured = received.try_recv().expect("rolled");
        assert_eq!((measured.index, measured.counters.received), (0, 2));
        assert_eq!((warm_up.counters.faults, measured.counters.faults), (1, 2));
        assert_eq!(measured.series[0].len(), 1);
        let error = measured.series[0].max().abs_diff(6_000);
        assert!(error < 64, "charged from the intended time: {error}");
    }

    #[test]
    fn a_stall_is_charged_to_every_message_that_was_due() {
        let (parts, received) = channel();
        let mut recorder = Recorder::new(1, parts);
        let window = Window {
            go_ns: 0,
            from_ns: 0,
            to_ns: SECOND,
            interval_ns: SECOND,
        };
        recorder.begin(window, 0);
        // Due every 10 ms, all answered only when a stall of one second ends.
        for due in 0..100 {
            recorder.latency(0, due * 10_000_000, SECOND);
        }
        recorder.hand_over(0);
        let part = received.try_recv().expect("handed over");
        let median = part.series[0].value_at_quantile(0.5);
        assert!(median.abs_diff(SECOND / 2) < SECOND / 50, "{median}");
    }
}
