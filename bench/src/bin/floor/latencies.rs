//! Latencies of one run, in an HDR histogram.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Significant digits that are kept.
const DIGITS: u8 = 3;
/// What is longer counts as this long, in nanoseconds: a minute.
const LONGEST_NS: u64 = 60_000_000_000;

/// See the top of this file.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> io::Result<Self> {
        let histogram = Histogram::new_with_max(LONGEST_NS, DIGITS).map_err(io::Error::other)?;
        Ok(Self(histogram))
    }

    /// Adds one, to the nanosecond.
    pub(crate) fn add(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NS);
        self.0.saturating_record(nanoseconds);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this part of all does not exceed, in microseconds.
    pub(crate) fn quantile_us(&self, part: f64) -> f64 {
        self.0.value_at_quantile(part) as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut latencies = Latencies::new().unwrap();
        (1..=1_000).for_each(|us| latencies.add(Duration::from_micros(us)));
        latencies.add(Duration::from_secs(3_600));
        assert_eq!(latencies.count(), 1_001);
        for (part, us) in [(0.5, 501.0), (0.99, 991.0), (1.0, 6e7)] {
            let measured = latencies.quantile_us(part);
            assert!((measured / us - 1.0).abs() < 0.002, "{part}: {measured}");
        }
    }
}
