//! The store: apps, keys and usage in a redb file of `data_dir`.
//!
//! One [`commit`](Store::commit) is one transaction, durable when it returns: after a crash at
//! any moment a change is there whole or not at all, and every acknowledged one is there.
//! One process has it open at a time. A file that is damaged or from a newer version is
//! refused, never repaired by guessing and never made anew.
//!
//! Nothing here decides what a change means, and nothing is read after the start: the
//! registry holds everything in memory.

mod backup;
mod commit;
mod crash_only;
mod error;
pub(crate) mod files;
mod guard;
mod inherited;
pub(crate) mod master_key;
mod open;
mod read;
mod restore;
pub(crate) mod row;
pub(crate) mod seal;
mod tables;
#[cfg(test)]
mod tests;

pub(crate) use backup::{Snapshot, Unfinished};
pub(crate) use commit::{Edit, Store};
pub(crate) use crash_only::{SYNCS, WriteGate};
pub(crate) use error::StoreError;
pub(crate) use inherited::{SourceOpened, StoreSource, open_copy};
pub(crate) use open::open;
pub(crate) use read::Rows;
pub(crate) use restore::{Backup, BackupFault, write_new};
pub(crate) use tables::FILE_NAME;
