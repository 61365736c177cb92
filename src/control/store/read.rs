//! What is in the store's file: every row, and the checks before one is believed.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;

use super::crash_only::{CrashOnlyDatabase, WriteGate};
use super::error::StoreError;
use super::files;
use super::guard::guarded;
use super::row::{AppRow, KeyRow, UsageRow};
use super::seal::Sealed;
use super::tables::{APPS, FORMAT, KEYS, META, META_FORMAT, META_KEY_CHECK, USAGE};

/// Every row of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// In order of their ids.
    pub apps: Vec<AppRow>,
    /// In order of their ids.
    pub keys: Vec<KeyRow>,
    /// In order of their apps' ids.
    pub usage: Vec<UsageRow>,
}

/// Opens the file at `path` and reads all that is in it.
pub(super) fn existing(
    path: &Path,
    gate: Option<Arc<dyn WriteGate>>,
) -> Result<(CrashOnlyDatabase, Rows, Sealed), StoreError> {
    // redb asserts what a damaged file may break.
    guarded(path, || unguarded(path, gate))
}

fn unguarded(
    path: &Path,
    gate: Option<Arc<dyn WriteGate>>,
) -> Result<(CrashOnlyDatabase, Rows, Sealed), StoreError> {
    files::narrow(path).map_err(|error| StoreError::File(path.into(), error))?;
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|error| StoreError::File(path.into(), error))?;
    opened(path, file, gate)
}

/// Reads all that is in the file, which is a copy of the one at `path`.
pub(super) fn copy(path: &Path, file: File) -> Result<(Rows, Sealed), StoreError> {
    let read = guarded(path, || opened(path, file, None));
    read.map(|(_, rows, key_check)| (rows, key_check))
}

fn opened(
    path: &Path,
    file: File,
    gate: Option<Arc<dyn WriteGate>>,
) -> Result<(CrashOnlyDatabase, Rows, Sealed), StoreError> {
    let fault = |error| fault_of(path, error);
    let database = CrashOnlyDatabase::open(file, gate).map_err(|error| fault(error.into()))?;
    let (rows, key_check) = Reader {
        path,
        database: &database,
    }
    .read()?;
    Ok((database, rows, key_check))
}

fn fault_of(path: &Path, error: redb::Error) -> StoreError {
    let path = PathBuf::from(path);
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse(path),
        redb::Error::UpgradeRequired(version) => {
            StoreError::Damaged(path, format!("redb file format {version}"))
        }
        // redb reports an unknown header and a read past the end as I/O errors of these kinds.
        redb::Error::Io(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            StoreError::File(path, error)
        }
        error => StoreError::Damaged(path, error.to_string()),
    }
}

struct Reader<'a> {
    path: &'a Path,
    database: &'a Database,
}

impl Reader<'_> {
    fn read(&self) -> Result<(Rows, Sealed), StoreError> {
        let format: u64 = self.meta(META_FORMAT)?;
        if format != FORMAT {
            return Err(StoreError::Newer(self.path.into(), format.to_string()));
        }
        let key_check = self.meta(META_KEY_CHECK)?;
        let rows = Rows {
            apps: self.rows(APPS)?,
            keys: self.rows(KEYS)?,
            usage: self.rows(USAGE)?,
        };
        Ok((rows, key_check))
    }

    fn meta<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        let value = self
            .value(name)
            .map_err(|error| fault_of(self.path, error))?;
        let value = value.ok_or_else(|| self.damaged("meta", name, "missing"))?;
        serde_json::from_slice(&value).map_err(|error| self.damaged("meta", name, error))
    }

    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
        let table = self.database.begin_read()?.open_table(META)?;
        Ok(table.get(name)?.map(|value| value.value().to_vec()))
    }

    fn rows<T: DeserializeOwned>(
        &self,
        table: TableDefinition<'static, &str, &[u8]>,
    ) -> Result<Vec<T>, StoreError> {
        let fault = |error| fault_of(self.path, error);
        let transaction = self
            .database
            .begin_read()
            .map_err(|error| fault(error.into()))?;
        let name = redb::TableHandle::name(&table).to_owned();
        let table = transaction
            .open_table(table)
            .map_err(|error| fault(error.into()))?;
        let mut rows = Vec::new();
        for entry in table.iter().map_err(|error| fault(error.into()))? {
            let (key, value) = entry.map_err(|error| fault(error.into()))?;
            let row = serde_json::from_slice(value.value())
                .map_err(|error| self.damaged(&name, key.value(), error))?;
            rows.push(row);
        }
        Ok(rows)
    }

    fn damaged(&self, table: &str, key: &str, fault: impl std::fmt::Display) -> StoreError {
        StoreError::Damaged(self.path.into(), format!("{table} {key}: {fault}"))
    }
}
