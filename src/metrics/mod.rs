//! What a shard counts and measures, and how that is told.
//!
//! Each shard has one [`ShardMetrics`] of its own: plain numbers, to which nothing else has
//! access. For a scrape the shard hands out a copy, and the rest is done elsewhere: [`text`] for
//! Prometheus, [`report`] for people and their programs. So recording needs no lock, no atomic
//! operation and no allocation, and a scrape costs a shard one copy.

pub(crate) mod counters;
pub(crate) mod label;
pub(crate) mod latency;
pub(crate) mod report;
pub(crate) mod snapshot;
pub(crate) mod text;

pub(crate) use latency::Stage;
pub(crate) use snapshot::{Gauges, HistoryDisk, ShardMetrics, ShardSnapshot};
