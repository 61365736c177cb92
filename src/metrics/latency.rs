//! How long things take: one HDR histogram for each stage.
//!
//! Count and sum are those since the start; the distribution is that of the last one to two
//! windows, so that it says what is, not what was hours ago.

use hdrhistogram::Histogram;

/// How long a histogram is filled before it is put aside, in milliseconds. What was put aside
/// before is forgotten then: a distribution covers the last 30 to 60 seconds.
pub(crate) const WINDOW_MS: u64 = 30_000;
/// Shorter times are counted as nothing, in nanoseconds: reading the clock takes about as long.
const SHORTEST_NS: u64 = 64;
/// Longer times are counted as this, in nanoseconds: 100 s.
const LONGEST_NS: u64 = 100_000_000_000;
/// Two significant digits: a value is off by 1% at most, and a histogram has 13 KiB.
const DIGITS: u8 = 2;

/// A part of what happens to a message or request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the accept of a connection, or the first bytes of a request on one that was used
    /// before, to its `welcome` being queued.
    Handshake,
    /// From a socket being known to be readable to its bytes being read.
    ReadToCommand,
    /// From a publication being read to its place in the channel's order, where that is kept on
    /// another shard, or it had to wait: on the same shard both are one moment.
    CommandToOrder,
    /// From a batch of messages being sent to another shard to its being handled there.
    MeshHop,
    /// From a publication's place in the order to the last write of it on this shard.
    OrderToLastWrite,
    /// From a publication being read to the last write of it on this shard.
    FanOut,
    /// From a direct message being read to its write.
    Direct,
    /// From a command being read to the write of its answer.
    Reply,
    /// From a `subscribe` being read to the write of the channel's roster.
    Snapshot,
    /// A turn of the loop: what comes meanwhile waits that long at most.
    LoopLag,
    /// From a REST request's head being complete to its answer being queued.
    Rest,
}

impl Stage {
    /// Every stage, in the order in which they are shown.
    pub const ALL: [Self; 11] = [
        Self::Handshake,
        Self::ReadToCommand,
        Self::CommandToOrder,
        Self::MeshHop,
        Self::OrderToLastWrite,
        Self::FanOut,
        Self::Direct,
        Self::Reply,
        Self::Snapshot,
        Self::LoopLag,
        Self::Rest,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::ReadToCommand => "read_to_command",
            Self::CommandToOrder => "command_to_order",
            Self::MeshHop => "mesh_hop",
            Self::OrderToLastWrite => "order_to_last_write",
            Self::FanOut => "fan_out",
            Self::Direct => "direct",
            Self::Reply => "reply",
            Self::Snapshot => "snapshot",
            Self::LoopLag => "loop_lag",
            Self::Rest => "rest",
        }
    }

    /// What it is, for those who read the metrics.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Handshake => "Accept of a connection to its welcome being queued.",
            Self::ReadToCommand => "Socket known to be readable to its bytes being read.",
            Self::CommandToOrder => "Publication read to its place in another shard's order.",
            Self::MeshHop => "Batch sent to another shard to its being handled there.",
            Self::OrderToLastWrite => "Place in the order to the last write on the shard.",
            Self::FanOut => "Publication read to the last write of it on the shard.",
            Self::Direct => "Direct message read to its write to the receiver.",
            Self::Reply => "Command read to the write of its answer.",
            Self::Snapshot => "Subscribe read to the write of the channel's roster.",
            Self::LoopLag => "Turn of the loop: what comes meanwhile waits that long at most.",
            Self::Rest => "REST request's head to its answer being queued.",
        }
    }
}

/// What a histogram says. Times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Values at [`QUANTILES`], of the last windows; `None` where nothing happened in them.
    pub quantiles: Option<[u64; QUANTILES.len()]>,
    /// How many, since the start.
    pub count: u64,
    /// All of them together, since the start.
    pub sum_ns: u64,
}

/// The quantiles that are told; 1 is the maximum.
pub(crate) const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

/// Times of one stage.
#[derive(Clone, Debug)]
struct Latency {
    recent: Histogram<u32>,
    aside: Histogram<u32>,
    count: u64,
    sum_ns: u64,
}

impl Latency {
    fn new() -> Self {
        Self {
            recent: histogram(),
            aside: histogram(),
            count: 0,
            sum_ns: 0,
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "the bounds are constants, and a test makes one"
)]
fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, DIGITS).expect("bounds that are allowed")
}

/// Times of all stages.
#[derive(Clone, Debug)]
pub struct Latencies {
    stages: [Latency; Stage::ALL.len()],
    /// When to put the histograms aside; 0: the windows have not begun.
    window_ends_ms: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            stages: std::array::from_fn(|_| Latency::new()),
            window_ends_ms: 0,
        }
    }
}

impl Latencies {
    /// Records that a stage took this long, in nanoseconds.
    #[inline]
    pub fn record(&mut self, stage: Stage, ns: u64) {
        self.record_n(stage, ns, 1);
    }

    /// Records a time that several had.
    #[inline]
    pub fn record_n(&mut self, stage: Stage, ns: u64, count: u32) {
        let latency = &mut self.stages[stage as usize];
        latency.recent.saturating_record_n(ns, count);
        latency.count += u64::from(count);
        latency.sum_ns += ns * u64::from(count);
    }

    /// Begins another window, if the present one is over. `now_ms` is monotonic.
    #[inline]
    pub fn turn_windows(&mut self, now_ms: u64) {
        if now_ms >= self.window_ends_ms {
            self.begin_window(now_ms);
        }
    }

    #[cold]
    fn begin_window(&mut self, now_ms: u64) {
        let both_are_over = now_ms >= self.window_ends_ms + WINDOW_MS;
        if self.window_ends_ms > 0 {
            for latency in &mut self.stages {
                std::mem::swap(&mut latency.recent, &mut latency.aside);
                latency.recent.reset();
                if both_are_over {
                    latency.aside.reset();
                }
            }
        }
        self.window_ends_ms = now_ms + WINDOW_MS;
    }

    /// What one stage took.
    #[must_use]
    pub fn distribution(&self, stage: Stage) -> Distribution {
        Self::merged([self], stage)
    }

    /// What one stage took on several shards.
    #[must_use]
    pub fn merged<'a>(all: impl IntoIterator<Item = &'a Self>, stage: Stage) -> Distribution {
        let mut values = histogram();
        let mut merged = Distribution::default();
        for latencies in all {
            let latency = &latencies.stages[stage as usize];
            for part in [&latency.recent, &latency.aside] {
                // Same bounds: adding cannot fail.
                let _ = values.add(part);
            }
            merged.count += latency.count;
            merged.sum_ns += latency.sum_ns;
        }
        if !values.is_empty() {
            merged.quantiles = Some(QUANTILES.map(|quantile| values.value_at_quantile(quantile)));
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(latencies: &Latencies) -> Distribution {
        latencies.distribution(Stage::FanOut)
    }

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut latencies = Latencies::default();
        assert_eq!(of(&latencies), Distribution::default());
        for us in 1..=1_000 {
            latencies.record(Stage::FanOut, us * 1_000);
        }
        let distribution = of(&latencies);
        assert_eq!(
            (distribution.count, distribution.sum_ns),
            (1_000, 500_500_000)
        );
        let expected = [500_000.0, 900_000.0, 990_000.0, 999_000.0, 1_000_000.0];
        for (value, expected) in distribution.quantiles.unwrap().iter().zip(expected) {
            assert!(
                (*value as f64 / expected - 1.0).abs() < 0.01,
                "{value} {expected}"
            );
        }
        assert_eq!(latencies.distribution(Stage::Rest).count, 0);
    }

    #[test]
    fn what_is_beyond_the_bounds_is_counted_all_the_same() {
        let mut latencies = Latencies::default();
        latencies.record(Stage::FanOut, 0);
        latencies.record_n(Stage::FanOut, LONGEST_NS * 3, 2);
        let distribution = of(&latencies);
        assert_eq!(distribution.count, 3);
        let [.., max] = distribution.quantiles.unwrap();
        assert!((LONGEST_NS..LONGEST_NS * 11 / 10).contains(&max), "{max}");
    }

    #[test]
    fn a_distribution_forgets_what_was_two_windows_ago() {
        let mut latencies = Latencies::default();
        latencies.turn_windows(500);
        latencies.record(Stage::FanOut, 1_000_000);
        latencies.turn_windows(500 + WINDOW_MS - 1);
        latencies.turn_windows(500 + WINDOW_MS);
        assert!(of(&latencies).quantiles.is_some());
        latencies.record(Stage::FanOut, 1_000);
        latencies.turn_windows(500 + 2 * WINDOW_MS);
        assert!(of(&latencies).quantiles.unwrap()[4] < 1_100);
        latencies.turn_windows(500 + 3 * WINDOW_MS);
        assert_eq!(of(&latencies).quantiles, None);
        assert_eq!(
            (of(&latencies).count, of(&latencies).sum_ns),
            (2, 1_001_000)
        );
    }

    #[test]
    fn a_shard_that_slept_through_both_windows_forgets_both() {
        let mut latencies = Latencies::default();
        latencies.turn_windows(1);
        latencies.record(Stage::FanOut, 1_000);
        latencies.turn_windows(10 * WINDOW_MS);
        assert_eq!(of(&latencies).quantiles, None);
    }

    #[test]
    fn shards_are_merged_as_if_they_were_one() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        one.record_n(Stage::FanOut, 1_000, 99);
        other.record(Stage::FanOut, 1_000_000);
        let merged = Latencies::merged([&one, &other], Stage::FanOut);
        let [median, .., max] = merged.quantiles.unwrap();
        assert_eq!(merged.count, 100);
        assert!(median < 1_100 && max > 990_000);
    }
}
