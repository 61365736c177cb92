//! Peers: direct messages to them.

pub(in crate::shard) mod direct;
pub(in crate::shard) mod kick;
pub(in crate::shard) mod peers;
pub(in crate::shard) mod scope;
