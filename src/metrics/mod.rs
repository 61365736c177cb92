//! What a shard counts and measures, and how that is told.
//!
//! Each shard has one [`ShardMetrics`] of its own: plain numbers, to which nothing else has
//! access. For a scrape the shard hands out a copy, and the rest is done elsewhere: [`text`] for
//! Prometheus, [`report`] for people and their programs. So recording needs no lock, no atomic
//! operation and no allocation, and a scrape costs a shard one copy.

pub mod counters;
pub mod label;
pub mod latency;
pub mod report;
pub mod snapshot;
pub mod text;

pub use latency::Stage;
pub use snapshot::{Gauges, ShardMetrics, ShardSnapshot};
