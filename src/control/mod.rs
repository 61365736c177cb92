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
mod credential;
mod engine;
mod error;
pub(crate) mod events;
pub(crate) mod fuzzing;
mod handover;
mod input;
mod keys;
mod ledger;
mod merge;
mod offline;
mod outcome;
mod period;
mod plane;
mod registry;
mod sampler;
mod saves;
mod secret;
mod shards;
pub(crate) mod store;
#[cfg(test)]
mod testing;
mod wall_clock;
mod writer;

pub(crate) use admin::openapi::document as admin_document;
pub(crate) use admin::pages::{Page, Site};
pub(crate) use change::Change;
pub(crate) use error::ControlError;
pub(crate) use handover::{HeldStore, InheritedControl};
pub(crate) use merge::Object;
pub(crate) use offline::{
    OfflineStore, backup as read_backup, content as store_content, file as store_file,
    master_key_fault,
};
pub(crate) use outcome::Outcome;
pub(crate) use plane::{
    AdminOptions, ControlHandle, ControlOptions, ControlPlane, OpenError, RunningControlPlane,
};
pub(crate) use shards::{Kick, Later, Shards};
pub(crate) use store::{Backup, write_new};
