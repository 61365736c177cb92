//! The shard as a value: inputs in, effects out; no `await`, no clock, no randomness of its own.
//!
//! Start with [`input`], [`effect`] and [`mesh_message`]: they list everything a shard does.

pub mod bounds;
pub mod channel;
pub mod connection;
mod context;
mod credential;
pub mod deadlines;
mod drain;
pub mod effect;
pub mod flush;
pub mod input;
mod invariants;
mod links;
mod memory;
pub mod mesh_message;
pub mod outbound;
pub mod peer;
mod pending;
mod permissions;
pub mod placement;
mod portions;
mod questions;
pub mod rest;
mod rights_walk;
pub mod settings;
pub mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timers;
pub mod tuning;
mod usage;
