//! Channels: their owner, which gives the order, and their members on this shard.

pub mod back_pressure;
pub mod channels;
pub(in crate::shard) mod commands;
pub(in crate::shard) mod ends;
pub mod fan_out;
pub(in crate::shard) mod fan_out_buffer;
pub(in crate::shard) mod frozen;
pub(in crate::shard) mod home;
pub mod joins;
pub(in crate::shard) mod owner;
pub(in crate::shard) mod pressure;
pub mod publish;
