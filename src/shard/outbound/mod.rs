//! What waits to be written to connections.

pub(in crate::shard) mod encode;
pub mod outbox;
pub mod snapshot;
