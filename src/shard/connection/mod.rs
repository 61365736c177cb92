//! Connections: what comes from their sockets, the handshake, commands, and how they end.

pub(in crate::shard) mod commands;
pub(in crate::shard) mod connect;
pub mod connections;
pub(in crate::shard) mod handshake;
pub(in crate::shard) mod http;
pub(in crate::shard) mod http_date;
pub mod ice_servers;
mod input_buffer;
pub(in crate::shard) mod lifecycle;
pub(in crate::shard) mod proxies;
pub(in crate::shard) mod receive;
pub(in crate::shard) mod unauthenticated;
