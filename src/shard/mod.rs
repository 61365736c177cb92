//! The shard as a value: inputs in, effects out; no `await`, no clock, no randomness of its own.
//!
//! Start with [`input`], [`effect`] and [`mesh_message`]: they list everything a shard does, and
//! with [`flush`] for how it is driven. Inside there are rooms, from below: `outbound` (what waits
//! to be written), `connection`, `channel`, `peer` and `rest`. A room knows those below it, and
//! what stands beside them (`context`, `questions`, `placement` and so on); none knows the shard.
//! What touches several rooms is a step: [`state`] hands each input to one of `steps`.

pub mod channel;
pub mod config;
pub mod connection;
mod context;
pub mod effect;
pub mod flush;
pub mod frame;
mod http_date;
pub mod input;
mod invariants;
mod links;
pub mod mesh_message;
pub mod outbound;
pub mod peer;
mod pending;
pub mod placement;
mod portions;
mod questions;
pub mod rest;
pub mod settings;
pub mod state;
mod steps;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tuning;
mod usage;
