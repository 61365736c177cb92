//! The shard as a value: inputs in, effects out; no `await`, no clock, no randomness of its own.
//!
//! Start with [`input`], [`effect`] and [`mesh_message`]: they list everything a shard does, and
//! with [`flush`] for how it is driven. Inside there are rooms, from below: `outbound` (what waits
//! to be written), `connection`, `channel`, `peer` and `rest`. A room knows those below it, and
//! what stands beside them (`context`, `questions`, `placement` and so on); none knows the shard.
//! What touches several rooms is a step: [`state`] hands each input to one of `steps`.
//!
//! `pub` is what drivers, the benchmarks and the simulation need, and nothing else.

pub mod channel;
pub mod config;
mod connection;
mod context;
pub mod effect;
mod feed;
pub mod flush;
mod frame;
pub mod handler;
pub mod handover;
pub mod history;
mod http_date;
pub mod input;
mod invariants;
mod links;
pub mod mesh_message;
pub mod outbound;
mod peer;
mod pending;
pub mod placement;
mod portions;
pub mod query;
mod questions;
mod recording;
pub(crate) mod rest;
pub mod settings;
pub mod state;
pub mod steps;
mod stores;
mod storing;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod trace;
mod tracing;
pub mod tuning;
mod usage;
mod walks;
