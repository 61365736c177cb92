//! What a shard traces, and how much of it it has recorded in the present second.

use std::sync::Arc;

use crate::domain::trace::Trace;

/// Records of a second, on one shard; the next one stands for those beyond.
pub(in crate::shard) const RECORDS_PER_SECOND_MAX: u32 = 100;
pub(in crate::shard) const SECOND_MS: u64 = 1_000;

/// What this shard traces.
#[derive(Debug)]
pub(in crate::shard) struct Tracing {
    pub(in crate::shard) trace: Arc<Trace>,
    pub(in crate::shard) until_ms: u64,
    /// When the present second began, and what is left of its records.
    pub(in crate::shard) second_ms: u64,
    pub(in crate::shard) left: u32,
    /// Messages that were not recorded since the last one that was.
    pub(in crate::shard) skipped: u32,
}
