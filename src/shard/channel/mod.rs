//! Channels: their owner, which gives the order, and their members on this shard.

pub(in crate::shard) mod back_pressure;
pub mod channels;
pub(in crate::shard) mod commands;
pub(in crate::shard) mod ends;
pub(in crate::shard) mod eviction;
pub(in crate::shard) mod fan_out;
pub(in crate::shard) mod fan_out_buffer;
pub(in crate::shard) mod frozen;
pub(in crate::shard) mod home;
pub(in crate::shard) mod joins;
pub(in crate::shard) mod numbers;
pub(in crate::shard) mod owner;
pub(in crate::shard) mod pressure;
pub(in crate::shard) mod publish;
pub mod refill;
pub(in crate::shard) mod refresh;
pub(in crate::shard) mod resume;
