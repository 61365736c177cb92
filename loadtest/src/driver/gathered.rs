//! Intervals of all load cores, merged as they come in.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::{MS, now_ns};
use crate::driver::phase::Phase;
use crate::failure::Failure;
use crate::measure::recorder::{Counters, Part, Window, histogram};

/// One interval, all load cores together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interval {
    /// Its place in the window; negative during warm-up.
    pub index: i64,
    /// What was counted.
    pub counters: Counters,
    /// One entry per series.
    pub latencies: Vec<Quantiles>,
}

/// The latencies of one series in one interval, ns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Quantiles {
    /// Samples.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Quantiles {
        let quantile = |q| histogram.value_at_quantile(q);
        Quantiles {
            count: histogram.len(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            max: histogram.max(),
        }
    }
}

/// Parts of all cores, merged.
pub(crate) struct Gathered {
    core_count: usize,
    pending: BTreeMap<i64, Vec<Part>>,
    /// In order of time.
    pub intervals: Vec<Interval>,
    /// Per series, over the window, ns.
    pub series: Vec<Histogram<u64>>,
    /// How late this harness sent, ns.
    pub lag: Histogram<u64>,
    /// Counted in the window, once finished.
    pub counters: Counters,
    /// All cores have ended.
    pub is_over: bool,
}

impl Gathered {
    /// Nothing yet, of `core_count` cores.
    pub(crate) fn new(series_count: usize, core_count: usize) -> Gathered {
        Gathered {
            core_count,
            pending: BTreeMap::new(),
            intervals: Vec::new(),
            series: (0..series_count).map(|_| histogram()).collect(),
            lag: histogram(),
            counters: Counters::default(),
            is_over: false,
        }
    }

    /// Takes parts until `deadline_ns`, or until all cores have ended; shows each interval, and its
    /// latencies by series, once all cores have handed it over.
    ///
    /// # Errors
    /// The run's failure, as soon as there is one.
    pub(crate) fn until(
        &mut self,
        parts: &Receiver<Part>,
        deadline_ns: u64,
        phase: &Phase,
        mut show: impl FnMut(&Interval, &[Histogram<u64>]),
    ) -> Result<(), Failure> {
        loop {
            let wait_ns = deadline_ns.saturating_sub(now_ns());
            if wait_ns == 0 {
                return Ok(());
            }
            match parts.recv_timeout(Duration::from_nanos(wait_ns.min(50 * MS))) {
                Ok(part) => {
                    let index = part.index;
                    self.pending.entry(index).or_default().push(part);
                    if self.pending[&index].len() == self.core_count {
                        let (at, latencies) = self.merge(index);
                        show(&self.intervals[at], &latencies);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.is_over = true;
                    return phase.failure().map_or(Ok(()), Err);
                }
            }
            if phase.is_aborted() {
                return Err(phase
                    .failure()
                    .unwrap_or(Failure::Timeout("aborted".into())));
            }
        }
    }

    /// Enters an interval; returns its place and its latencies.
    fn merge(&mut self, index: i64) -> (usize, Vec<Histogram<u64>>) {
        let mut interval = Interval {
            index,
            ..Interval::default()
        };
        let mut merged: Vec<Histogram<u64>> = self.series.iter().map(|_| histogram()).collect();
        for part in self.pending.remove(&index).unwrap_or_default() {
            interval.counters.add(&part.counters);
            for (sum, one) in merged.iter_mut().zip(&part.series) {
                add(sum, one);
            }
            add(&mut self.lag, &part.lag);
        }
        for (total, one) in self.series.iter_mut().zip(&merged) {
            add(total, one);
            interval.latencies.push(Quantiles::of(one));
        }
        // A core whose loop was held up may hand an interval over after a later one.
        let at = self.intervals.partition_point(|other| other.index <= index);
        self.intervals.insert(at, interval);
        (at, merged)
    }

    /// Merges what is left and sums the window up.
    pub(crate) fn finish(&mut self, window: &Window) {
        while let Some(index) = self.pending.keys().next().copied() {
            self.merge(index);
        }
        let last = window.interval_index(window.to_ns - 1);
        for interval in &self.intervals {
            if (0..=last).contains(&interval.index) {
                self.counters.add(&interval.counters);
            }
        }
        self.intervals.retain(|interval| interval.index <= last);
    }
}

/// Adds `one` to `sum`.
pub(crate) fn add(sum: &mut Histogram<u64>, one: &Histogram<u64>) {
    // All histograms of this program have the same bounds, the only condition of `add`.
    let _same_bounds = sum.add(one);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn part(index: i64, received: u64, latency_ns: u64) -> Part {
        let mut series = histogram();
        series.saturating_record(latency_ns);
        let counters = Counters {
            received,
            ..Counters::default()
        };
        Part {
            index,
            counters,
            series: vec![series],
            lag: histogram(),
        }
    }

    #[test]
    fn parts_of_two_cores_become_intervals_of_the_window() {
        let phase = Phase::new(2).expect("eventfds");
        let (sender, parts) = channel();
        for (index, received, latency_ns) in [
            (-1, 100, 1_000),
            (-1, 100, 1_000),
            (0, 5, 2_000),
            (1, 7, 8_000),
            (0, 6, 4_000),
            (1, 1, 9_000),
            (2, 50, 10_000),
        ] {
            sender
                .send(part(index, received, latency_ns))
                .expect("receiver lives");
        }
        drop(sender);
        let mut gathered = Gathered::new(1, 2);
        let mut shown = Vec::new();
        gathered
            .until(&parts, u64::MAX, &phase, |interval, latencies| {
                shown.push((interval.index, latencies[0].len()));
            })
            .expect("no failure");
        assert!(gathered.is_over);
        assert_eq!(shown, [(-1, 2), (0, 2), (1, 2)]);
        let window = Window {
            go_ns: 0,
            from_ns: 1_000,
            to_ns: 3_000,
            interval_ns: 1_000,
        };
        gathered.finish(&window);
        assert_eq!(gathered.counters.received, 5 + 7 + 6 + 1);
        assert_eq!(
            gathered.series[0].len(),
            7,
            "latencies are filtered by the recorders"
        );
        let indexes: Vec<i64> = gathered.intervals.iter().map(|i| i.index).collect();
        assert_eq!(indexes, [-1, 0, 1]);
    }
}
