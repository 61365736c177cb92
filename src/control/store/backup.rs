//! A backup: all rows of the store as they are kept, secrets sealed, as lines of JSON.
//!
//! The first line says what it is, the last one is the manifest: how many rows of each table there
//! are, a SHA-256 of each table's lines, and one of everything before the manifest. A copy that
//! was cut off has no manifest, and one of which any byte has changed does not fit it.

use std::fmt::Write;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableHandle};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::tables::{APPS, KEYS, META, USAGE};

/// How a backup begins, whichever version wrote it.
pub(super) const BEGINNING: &str = "{\"ringmeshBackup\":";
/// Version of this format.
pub(super) const VERSION: u64 = 1;
/// Bytes that are collected before they are handed on.
const CHUNK_BYTES: usize = 64 * 1_024;

/// A table of the store, in the order of a backup.
pub(super) type Table = TableDefinition<'static, &'static str, &'static [u8]>;
pub(super) const TABLES: [Table; 4] = [META, APPS, KEYS, USAGE];

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Head {
    pub ringmesh_backup: u64,
    /// When it was made, in milliseconds since 1970.
    pub made_at_ms: u64,
    /// The version of the server that made it.
    pub server: String,
}

/// One row of a table, as it stands in the store.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub table: String,
    pub key: String,
    pub value: Box<RawValue>,
}

/// What the manifest says of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableSum {
    pub table: String,
    pub rows: u64,
    pub sha256: String,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub manifest: Vec<TableSum>,
    pub sha256: String,
}

/// The store as it was at one moment; commits go on meanwhile.
pub(crate) struct Snapshot(pub(super) ReadTransaction);

/// Why a backup is not whole.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// Nobody takes it any more.
    Gone,
    /// The store cannot be read.
    Store(String),
}

/// Sums of what is written or read, table by table.
pub(super) struct Sums {
    all: Context,
    tables: Vec<(TableSum, Context)>,
}

impl Sums {
    pub(super) fn new() -> Self {
        let table = |table: &Table| {
            let sum = TableSum {
                table: table.name().to_owned(),
                rows: 0,
                sha256: String::new(),
            };
            (sum, Context::new(&SHA256))
        };
        Self {
            all: Context::new(&SHA256),
            tables: TABLES.iter().map(table).collect(),
        }
    }

    /// Adds a line, with its end, that belongs to a table or to none.
    pub(super) fn add(&mut self, table: Option<&str>, line: &[u8]) {
        self.all.update(line);
        let mut tables = self.tables.iter_mut();
        let it = table.and_then(|table| tables.find(|(sum, _)| sum.table == table));
        if let Some((sum, context)) = it {
            sum.rows += 1;
            context.update(line);
        }
    }

    pub(super) fn manifest(self) -> Manifest {
        let finished = |(sum, context): (TableSum, Context)| TableSum {
            sha256: hexadecimal(&context.finish()),
            ..sum
        };
        Manifest {
            manifest: self.tables.into_iter().map(finished).collect(),
            sha256: hexadecimal(&self.all.finish()),
        }
    }
}

fn hexadecimal(digest: &Digest) -> String {
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // A string takes everything.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

impl Snapshot {
    /// Writes the backup, a chunk at a time. `take` returns whether it wants more.
    ///
    /// # Errors
    /// Nobody wants more, or the store cannot be read.
    pub(crate) fn write(
        &self,
        made_at_ms: u64,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Unfinished> {
        let fault = |error: &dyn std::fmt::Display| Unfinished::Store(error.to_string());
        let head = Head {
            ringmesh_backup: VERSION,
            made_at_ms,
            server: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut sums = Sums::new();
        let mut chunk = line(&head).map_err(|error| fault(&error))?;
        sums.add(None, &chunk);
        for definition in TABLES {
            let name = definition.name();
            let table = self
                .0
                .open_table(definition)
                .map_err(|error| fault(&error))?;
            for row in table.iter().map_err(|error| fault(&error))? {
                let (key, value) = row.map_err(|error| fault(&error))?;
                let value = serde_json::from_slice(value.value()).map_err(|error| fault(&error))?;
                let row = Line {
                    table: name.to_owned(),
                    key: key.value().to_owned(),
                    value,
                };
                let bytes = line(&row).map_err(|error| fault(&error))?;
                sums.add(Some(name), &bytes);
                chunk.extend_from_slice(&bytes);
                if chunk.len() >= CHUNK_BYTES && !take(std::mem::take(&mut chunk)) {
                    return Err(Unfinished::Gone);
                }
            }
        }
        chunk.extend(line(&sums.manifest()).map_err(|error| fault(&error))?);
        match take(chunk) {
            true => Ok(()),
            false => Err(Unfinished::Gone),
        }
    }
}

/// A value as one line.
pub(super) fn line(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
