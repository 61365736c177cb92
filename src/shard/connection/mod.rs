//! Connections: what comes from their sockets, the handshake, commands, and how they end.

pub mod bounds;
pub(in crate::shard) mod commands;
pub(in crate::shard) mod connect;
pub mod connections;
pub(in crate::shard) mod cost;
pub(in crate::shard) mod credential;
pub mod deadlines;
pub(in crate::shard) mod deliver;
pub(in crate::shard) mod handshake;
pub(in crate::shard) mod http;
pub mod ice_servers;
pub(in crate::shard) mod input_buffer;
pub mod joining;
pub(in crate::shard) mod joins;
pub(in crate::shard) mod lifecycle;
pub(in crate::shard) mod permissions;
pub(in crate::shard) mod progress;
pub(in crate::shard) mod proxies;
pub(in crate::shard) mod questions;
pub(in crate::shard) mod receive;
pub(in crate::shard) mod refusal;
pub(in crate::shard) mod settings;
pub(in crate::shard) mod timers;
pub(in crate::shard) mod unauthenticated;
