//! Peers: direct messages to them.

pub(in crate::shard) mod direct;
