//! The store: apps, keys and usage in a redb file of `data_dir`.
//!
//! One [`commit`](Store::commit) is one transaction, durable when it returns: after a crash at
//! any moment a change is there whole or not at all, and every acknowledged one is there.
//! One process has it open at a time. A file that is damaged or from a newer version is
//! refused, never repaired by guessing and never made anew.
//!
//! Nothing here decides what a change means, and nothing is read after the start: the
//! registry holds everything in memory.

mod commit;
mod crash_only;
mod error;
pub mod files;
mod guard;
pub mod master_key;
mod open;
mod read;
pub mod row;
pub mod seal;
mod tables;
#[cfg(test)]
mod tests;

pub use commit::{Edit, Store};
pub use crash_only::WriteGate;
pub use error::StoreError;
pub use open::open;
pub use read::Rows;
pub use tables::FILE_NAME;
