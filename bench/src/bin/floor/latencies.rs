//! Latencies of one run, in an HDR histogram.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Significant digits that are kept.
const DIGITS: u8 = 3;

/// See the top of this file.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        let histogram = Histogram::new(DIGITS).map_err(io::Error::other)?;
        Ok(Self(histogram))
    }

    /// Adds one, to the nanosecond.
    pub fn add(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanoseconds);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this part of all does not exceed, in microseconds.
    pub fn quantile_us(&self, part: f64) -> f64 {
        self.0.value_at_quantile(part) as f64 / 1_000.0
    }
}
