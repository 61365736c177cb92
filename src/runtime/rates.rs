//! How fast what a report counts grows: since an earlier report of the same process.

use std::sync::{Mutex, PoisonError};

use crate::metrics::report::{NodeReport, RatesReport};

/// Rates are those of as much time at least, in milliseconds.
const SPAN_MS_MIN: u64 = 1_000;
/// An earlier report is replaced when it is so old, in milliseconds.
const SPAN_MS: u64 = 5_000;

/// What was counted until a moment.
#[derive(Clone, Debug, Default)]
struct Counted {
    uptime_ms: u64,
    shards: Vec<RatesReport>,
}

/// The reports that rates are told against.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<[Counted; 2]>);

impl Rates {
    /// Puts rates into a report.
    pub(super) fn fill(&self, report: &mut NodeReport) {
        let uptime_ms = report.process.uptime_ms;
        let now = Counted {
            uptime_ms,
            shards: report.shards.iter().map(|it| it.totals.counts()).collect(),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |it: &Counted| uptime_ms >= it.uptime_ms + SPAN_MS_MIN;
        let against = kept.iter().rev().find(|it| is_old(it)).cloned();
        if uptime_ms >= kept[1].uptime_ms + SPAN_MS {
            kept.swap(0, 1);
            kept[1] = now.clone();
        }
        drop(kept);
        let Some(against) = against else {
            return;
        };
        let seconds = (uptime_ms - against.uptime_ms) as f64 / 1_000.0;
        let nothing = RatesReport::default();
        for (at, shard) in report.shards.iter_mut().enumerate() {
            let before = against.shards.get(at).unwrap_or(&nothing);
            shard.rates = now.shards[at].since(before, seconds);
            report.rates.add(&shard.rates);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::report::ShardReport;

    fn report(uptime_ms: u64, messages: u64) -> NodeReport {
        let mut shard = ShardReport::default();
        shard.totals.messages_received = messages;
        let mut report = NodeReport {
            shards: vec![shard.clone(), shard],
            ..NodeReport::default()
        };
        report.process.uptime_ms = uptime_ms;
        report
    }

    #[test]
    fn rates_are_of_a_second_at_least_and_of_the_last_ones() {
        let rates = Rates::default();
        for (uptime_ms, messages, expected) in [
            (500, 100, 0.0),
            (2_000, 400, 200.0),
            (6_000, 600, 100.0),
            (6_500, 700, 700.0 / 6.5),
            (8_000, 800, 100.0),
            (11_000, 1_600, 200.0),
            (12_000, 2_600, 1_000.0),
        ] {
            let mut report = report(uptime_ms, messages);
            rates.fill(&mut report);
            let shown = report.shards[1].rates.messages_in;
            assert!((shown - expected).abs() < 1e-6, "{uptime_ms}: {shown}");
            assert!((report.rates.messages_in - 2.0 * expected).abs() < 1e-6);
        }
    }
}
