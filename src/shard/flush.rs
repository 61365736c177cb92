//! The order in which whoever drives a shard writes what waits for its connections.

mod queue;

pub use self::queue::{FlushQueue, LineMark, Mark};
