//! The tables of the store's file, by name, and how a row is written into one.

use redb::TableDefinition;
use serde::Serialize;

/// The store's file in the data directory.
pub(crate) const FILE_NAME: &str = "store.redb";
/// Version of the tables and rows.
pub(super) const FORMAT: u64 = 1;
pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const APPS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("apps");
pub(super) const KEYS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("keys");
pub(super) const USAGE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("usage");
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_KEY_CHECK: &str = "key_check";

/// A row as it is kept.
pub(super) fn json(row: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(row).map_err(|error| redb::Error::Io(error.into()))
}
