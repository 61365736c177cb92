//! The open store: one commit after the other, each whole or not at all.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use redb::{Durability, ReadableDatabase};

use super::backup::Snapshot;
use super::crash_only::{CrashOnlyDatabase, WriteGate};
use super::error::StoreError;
use super::read::{self, Rows};
use super::row::{AppRow, KeyRow, UsageRow};
use super::tables::{APPS, KEYS, USAGE, json};

/// The open store, which no other process can open meanwhile.
pub(crate) struct Store {
    /// `None` after a failed [`reopen`](Store::reopen).
    database: Option<CrashOnlyDatabase>,
    gate: Option<Arc<dyn WriteGate>>,
    path: PathBuf,
    /// Holds the lock on the data directory.
    _directory: File,
}

/// One edit of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// Adds or replaces an app.
    PutApp(AppRow),
    /// Removes an app and its usage. Its keys are removed by edits of their own.
    DeleteApp(String),
    /// Adds or replaces a key.
    PutKey(KeyRow),
    /// Removes a key.
    DeleteKey(String),
    /// Adds or replaces an app's usage.
    PutUsage(UsageRow),
}

impl Store {
    /// Takes over the open file at `path`. `directory` holds the lock on the data directory.
    pub(super) fn new(
        database: CrashOnlyDatabase,
        gate: Option<Arc<dyn WriteGate>>,
        path: PathBuf,
        directory: File,
    ) -> Self {
        Self {
            database: Some(database),
            gate,
            path,
            _directory: directory,
        }
    }

    /// Makes all edits durable, or none.
    ///
    /// # Errors
    /// When the disk or the file system fails. Whether the edits are there is open then; they
    /// must not be acknowledged. Every further commit fails until [`reopen`](Self::reopen) has
    /// succeeded.
    pub(crate) fn commit(&mut self, edits: &[Edit]) -> Result<(), StoreError> {
        let written = self.write(edits);
        written.map_err(|error| StoreError::Write(self.path.clone(), error))
    }

    /// Opens the file again after a failed commit, and returns what is in it. The directory
    /// stays locked meanwhile.
    ///
    /// # Errors
    /// As [`open`](super::open::open), and commits fail as before then.
    pub(crate) fn reopen(&mut self) -> Result<Rows, StoreError> {
        // First, because a file is open once.
        self.database = None;
        let again = read::existing(&self.path, self.gate.clone());
        let (database, rows, _) = again.map_err(|error| match error {
            // Recovery writes, and the disk may fail as it did.
            StoreError::File(path, error) => StoreError::Write(path, redb::Error::Io(error)),
            error => error,
        })?;
        self.database = Some(database);
        Ok(rows)
    }

    /// Returns the bytes of its file: what it would be if the process were killed now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn copy(&self) -> Result<Vec<u8>, StoreError> {
        let read = || {
            let file = File::open(&self.path)?;
            let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        read().map_err(|error| StoreError::File(self.path.clone(), error))
    }

    /// Returns the store as it is after the last commit.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let fault = |error| StoreError::Write(self.path.clone(), error);
        let database = self.database.as_ref().ok_or_else(|| {
            let text = "it could not be opened again";
            fault(redb::Error::Io(io::Error::other(text)))
        })?;
        let transaction = database.begin_read().map_err(|error| fault(error.into()))?;
        Ok(Snapshot(transaction))
    }

    fn write(&self, edits: &[Edit]) -> Result<(), redb::Error> {
        let Some(database) = &self.database else {
            let text = "it could not be opened again";
            return Err(redb::Error::Io(io::Error::other(text)));
        };
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // Costs a second fsync, and in return redb never takes a damaged last transaction for
        // an unfinished one, to go back to the one before it.
        transaction.set_two_phase_commit(true);
        {
            let mut apps = transaction.open_table(APPS)?;
            let mut keys = transaction.open_table(KEYS)?;
            let mut usage = transaction.open_table(USAGE)?;
            for edit in edits {
                match edit {
                    Edit::PutApp(row) => {
                        apps.insert(row.record.app_id.as_str(), json(row)?.as_slice())?;
                    }
                    Edit::DeleteApp(app_id) => {
                        apps.remove(app_id.as_str())?;
                        usage.remove(app_id.as_str())?;
                    }
                    Edit::PutKey(row) => {
                        keys.insert(row.record.key_id.as_str(), json(row)?.as_slice())?;
                    }
                    Edit::DeleteKey(key_id) => {
                        keys.remove(key_id.as_str())?;
                    }
                    Edit::PutUsage(row) => {
                        usage.insert(row.app_id.as_str(), json(row)?.as_slice())?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
