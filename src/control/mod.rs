//! The control plane: apps, keys and usage, kept on disk, changed through the admin API.
//!
//! It runs on one thread of its own, beside the shards, and stands between operators and the
//! shards' read-only [`Rights`](crate::domain::rights::Rights). [`ControlPlane::open`] makes the
//! first snapshot before any shard exists; [`ControlPlane::start`] takes the shards and begins
//! to serve. The shards are known here only as the [`Shards`] trait, and nothing on a message's
//! way ever waits for this thread.

mod admin;
mod apps;
mod change;
mod compile;
mod engine;
mod error;
mod input;
mod keys;
mod ledger;
mod merge;
mod outcome;
mod period;
mod plane;
mod registry;
mod secret;
mod shards;
pub mod store;
#[cfg(test)]
mod testing;
mod wall_clock;
mod writer;

pub use admin::pages::{Page, Site};
pub use change::Change;
pub use error::ControlError;
pub use merge::Object;
pub use outcome::Outcome;
pub use plane::{AdminOptions, ControlHandle, ControlOptions, ControlPlane, RunningControlPlane};
pub use shards::{Later, Shards};
