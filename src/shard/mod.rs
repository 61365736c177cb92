//! The shard as a value.
