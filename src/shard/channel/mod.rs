//! Channels: their owner, which gives the order, and their members on this shard.

pub mod back_pressure;
pub mod channels;
pub mod fan_out;
pub(in crate::shard) mod home;
pub mod joins;
pub(in crate::shard) mod owner;
pub mod publish;
pub(in crate::shard) mod scope;
pub mod snapshot;
