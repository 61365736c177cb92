//! Peers: direct messages to them.

pub(in crate::shard) mod direct;
pub(in crate::shard) mod peers;
