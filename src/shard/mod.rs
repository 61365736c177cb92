//! The shard as a value: inputs in, effects out; no `await`, no clock, no randomness of its own.
//!
//! Start with [`input`], [`effect`] and [`mesh_message`]: they list everything a shard does.

pub mod back_pressure;
pub mod bounds;
pub mod channels;
mod commands;
mod connect;
pub mod connections;
mod context;
pub mod deadlines;
mod direct;
mod drain;
pub mod effect;
mod encode;
pub mod fan_out;
mod handshake;
mod home;
mod http;
mod http_date;
pub mod input;
pub mod input_buffer;
mod invariants;
pub mod joins;
mod lifecycle;
mod links;
mod memory;
pub mod mesh_message;
pub mod outbox;
mod owner;
pub mod placement;
mod portions;
mod proxies;
mod receive;
pub mod rest;
mod rights_walk;
mod scope;
pub mod settings;
pub mod snapshot;
pub mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tuning;
mod turn;
mod unauthenticated;
mod usage;
