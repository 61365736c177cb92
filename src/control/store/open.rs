//! Opening the store: the checks before anything is believed, and the making of a new one.
//!
//! A new store gets its name only when it is complete, so that an empty or half-written file
//! under that name is damage and nothing else.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::Database;

use super::commit::Store;
use super::crash_only::{CrashOnlyDatabase, WriteGate};
use super::error::StoreError;
use super::files;
use super::master_key::{self, MasterKeyError};
use super::read::{self, Rows};
use super::seal::{Sealed, Sealer};
use super::tables::{
    APPS, FILE_NAME, FORMAT, KEYS, META, META_FORMAT, META_KEY_CHECK, USAGE, json,
};
use crate::directory_lock;

/// What the key-check record contains, sealed: opens with the store's own master key only, and
/// so tells a wrong key from a damaged secret.
const KEY_CHECK: &[u8] = b"ringmesh master key";

/// The store with what was in it.
pub(crate) struct Opened {
    /// The open store, for writing.
    pub store: Store,
    /// Every row that was in it.
    pub rows: Rows,
    /// The master key, or why there is none. The server runs without it; requests that need it get
    /// 503.
    pub sealer: Result<Sealer, MasterKeyError>,
}

/// Opens the store in `data_dir`, or makes one where there is none.
///
/// # Errors
/// One line for each cause, see [`StoreError`].
pub(crate) fn open(
    data_dir: &Path,
    master_key_file: &Path,
    gate: Option<Arc<dyn WriteGate>>,
) -> Result<Opened, StoreError> {
    let in_directory = |error| StoreError::Directory(data_dir.into(), error);
    files::private_directory(data_dir, FILE_NAME).map_err(in_directory)?;
    let directory = File::open(data_dir).map_err(in_directory)?;
    lock(&directory, data_dir)?;
    let path = data_dir.join(FILE_NAME);
    let new_gate = gate.clone();
    let store = |database| Store::new(database, gate, path.clone(), directory);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() == 0 => Err(StoreError::Damaged(path, "empty".into())),
        Ok(_) => {
            let (database, rows, key_check) = read::existing(&path, new_gate)?;
            let sealer = master_key::load(master_key_file).and_then(|sealer| {
                match is_key_of(&sealer, &key_check) {
                    true => Ok(sealer),
                    false => Err(MasterKeyError::Wrong(master_key_file.into())),
                }
            });
            Ok(Opened {
                store: store(database),
                rows,
                sealer,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let sealer =
                master_key::load_or_create(master_key_file).map_err(StoreError::MasterKey)?;
            let database = create(&path, &sealer, new_gate)?;
            tracing::info!(path = %path.display(), "new store made");
            Ok(Opened {
                store: store(database),
                rows: Rows::default(),
                sealer: Ok(sealer),
            })
        }
        Err(error) => Err(StoreError::File(path, error)),
    }
}

/// Whether this is the master key of the store that has this record.
pub(super) fn is_key_of(sealer: &Sealer, key_check: &Sealed) -> bool {
    let content = sealer.open(META_KEY_CHECK, key_check);
    content.is_some_and(|content| *content == KEY_CHECK)
}

/// Locks the data directory for as long as it is open.
pub(super) fn lock(directory: &File, data_dir: &Path) -> Result<(), StoreError> {
    match directory_lock::lock(directory) {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::InUse(data_dir.into())),
        Err(error) => Err(StoreError::Directory(data_dir.into(), error)),
    }
}

fn create(
    path: &Path,
    sealer: &Sealer,
    gate: Option<Arc<dyn WriteGate>>,
) -> Result<CrashOnlyDatabase, StoreError> {
    let in_file = |error| StoreError::File(path.into(), error);
    let unmade = |error| StoreError::unmade(path.into(), error);
    let unfinished = files::unfinished(path);
    let file = files::create_private(&unfinished).map_err(in_file)?;
    let database = CrashOnlyDatabase::open(file, gate).map_err(|error| unmade(error.into()))?;
    initialize(&database, sealer).map_err(unmade)?;
    files::publish(&unfinished, path).map_err(in_file)?;
    Ok(database)
}

fn initialize(database: &Database, sealer: &Sealer) -> Result<(), redb::Error> {
    let key_check = sealer
        .seal(META_KEY_CHECK, KEY_CHECK)
        .map_err(|_| redb::Error::Io(io::Error::other("the system has no random bytes")))?;
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT.to_string().as_bytes())?;
        meta.insert(META_KEY_CHECK, json(&key_check)?.as_slice())?;
        transaction.open_table(APPS)?;
        transaction.open_table(KEYS)?;
        transaction.open_table(USAGE)?;
    }
    transaction.commit()?;
    Ok(())
}
