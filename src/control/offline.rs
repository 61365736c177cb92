//! A store without a server: the first app and keys of a new one, and a look at an old one.

use std::fs;
use std::path::{Path, PathBuf};

use super::change::{Change, decide};
use super::compile::Compiler;
use super::error::ControlError;
use super::outcome::Outcome;
use super::registry::Registry;
use super::store::{self, Backup, BackupFault, FILE_NAME, Rows, Store, StoreError, files};

/// A store that no server has open.
pub(crate) struct OfflineStore {
    store: Store,
    registry: Registry,
}

/// What is in a store.
pub(crate) struct StoreContent {
    /// Ids of the apps.
    pub apps: Vec<String>,
    /// Number of keys.
    pub keys: usize,
    /// Why the master key is not the store's, if it is not.
    pub master_key_fault: Option<String>,
}

impl OfflineStore {
    /// Opens the store in `data_dir`, or makes one. Nobody else can open it meanwhile.
    ///
    /// # Errors
    /// It cannot be opened or made, or the master key is not its own.
    pub(crate) fn open(data_dir: &Path, master_key_file: &Path) -> Result<Self, ControlError> {
        let opened = store::open(data_dir, master_key_file, None)?;
        let sealer = opened
            .sealer
            .map_err(|error| ControlError::Unavailable(error.to_string()))?;
        let Rows { apps, keys, .. } = opened.rows;
        let rows = Rows {
            apps,
            keys,
            usage: Vec::new(),
        };
        Ok(Self {
            store: opened.store,
            registry: Registry::load(Compiler::new(Some(sealer)), rows)?,
        })
    }

    /// Makes a change, durably.
    ///
    /// # Errors
    /// The change is not possible, or the store cannot be written; nothing has changed then.
    pub(crate) fn change(
        &mut self,
        change: Change,
        now_unix_ms: u64,
    ) -> Result<Outcome, ControlError> {
        let decision = decide(&self.registry, change, now_unix_ms)?;
        let next = self.registry.edited(&decision.edits)?;
        self.store.commit(&decision.edits)?;
        self.registry = next;
        Ok(decision.outcome)
    }
}

/// Reads a backup, and checks that a server starts with what is in it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn backup(bytes: &[u8]) -> Result<Backup, BackupFault> {
    let backup = Backup::read(bytes)?;
    // Without the master key no secret is opened, and the rest is judged all the same.
    match Registry::load(Compiler::new(None), backup.parsed().clone()) {
        Ok(_) => Ok(backup),
        Err(error) => Err(BackupFault::Contradictory(error.to_string())),
    }
}

/// Returns why a file is no master key, if it is none; it is left as it is.
pub(crate) fn master_key_fault(path: &Path) -> Option<String> {
    store::master_key::read(path)
        .err()
        .map(|error| error.to_string())
}

/// Returns the file of the store in a data directory.
pub(crate) fn file(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// Reads a copy of the store, so that nothing of it is changed; `None` where there is no store.
/// The copy is in `scratch`, a directory of the caller's own.
///
/// # Errors
/// It cannot be read, or is damaged.
pub(crate) fn content(
    data_dir: &Path,
    master_key_file: &Path,
    scratch: &Path,
) -> Result<Option<StoreContent>, StoreError> {
    let path = data_dir.join(FILE_NAME);
    let in_file = |error| StoreError::File(PathBuf::from(&path), error);
    if !path.try_exists().map_err(in_file)? {
        return Ok(None);
    }
    files::private_directory(scratch, FILE_NAME)
        .and_then(|()| fs::copy(&path, scratch.join(FILE_NAME)))
        .map_err(in_file)?;
    let opened = store::open(scratch, master_key_file, None)?;
    Ok(Some(StoreContent {
        apps: opened
            .rows
            .apps
            .iter()
            .map(|row| row.record.app_id.clone())
            .collect(),
        keys: opened.rows.keys.len(),
        master_key_fault: opened.sealer.err().map(|error| error.to_string()),
    }))
}
