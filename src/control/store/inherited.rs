//! A store that another process has open, until that hands it over: read out of a copy of its
//! file, and opened later.
//!
//! Every end of a store is a crash, so a copy that was taken between two transactions is what the
//! file will be. What is wrong with it is found before anything is handed over, and nobody but its
//! owner touches the file until then.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use super::commit::Store;
use super::crash_only::WriteGate;
use super::error::StoreError;
use super::master_key::{self, MasterKeyError};
use super::open::{self, Opened};
use super::read::{self, Rows};
use super::seal::Sealer;
use super::tables::FILE_NAME;

/// Where the thread of the store gets it from.
pub(crate) enum StoreSource {
    /// It is open.
    Open(Store),
    /// Another process has it.
    Later(LaterStore),
}

/// A store that is opened when another process has let go of it.
pub(crate) struct LaterStore {
    data_dir: PathBuf,
    master_key_file: PathBuf,
    gate: Option<Arc<dyn WriteGate>>,
    released: flume::Receiver<()>,
}

/// What was in a store, and where that comes from.
pub(crate) struct SourceOpened {
    pub source: StoreSource,
    pub rows: Rows,
    /// See [`Opened::sealer`].
    pub sealer: Result<Sealer, MasterKeyError>,
}

impl From<Opened> for SourceOpened {
    fn from(opened: Opened) -> Self {
        let Opened {
            store,
            rows,
            sealer,
        } = opened;
        Self {
            source: StoreSource::Open(store),
            rows,
            sealer,
        }
    }
}

impl StoreSource {
    /// The store, if it is open.
    ///
    /// # Errors
    /// `InUse`.
    pub(crate) fn open_store(&mut self) -> Result<&mut Store, StoreError> {
        match self {
            Self::Open(store) => Ok(store),
            Self::Later(later) => Err(StoreError::InUse(later.data_dir.clone())),
        }
    }
}

impl LaterStore {
    /// Waits until the other process has let go of it, or has ended.
    pub(crate) fn wait(&self) {
        // Who cannot say it any more has ended.
        let _ = self.released.recv();
    }

    /// Opens it.
    ///
    /// # Errors
    /// As [`open`](super::open::open).
    pub(crate) fn open(&self) -> Result<Store, StoreError> {
        let gate = self.gate.clone();
        open::open(&self.data_dir, &self.master_key_file, gate).map(|opened| opened.store)
    }
}

/// Reads what is in a copy of the store in `data_dir`, which is opened when that is said.
///
/// # Errors
/// As [`open`](super::open::open), of the copy.
pub(crate) fn open_copy(
    data_dir: &Path,
    master_key_file: &Path,
    gate: Option<Arc<dyn WriteGate>>,
    (copy, released): (Vec<u8>, flume::Receiver<()>),
) -> Result<SourceOpened, StoreError> {
    let path = data_dir.join(FILE_NAME);
    let no_file = |error| StoreError::File(path.clone(), error);
    // Opening a store writes to it.
    let file = memfd_create("store", MemfdFlags::CLOEXEC);
    let mut file = File::from(file.map_err(|error| no_file(error.into()))?);
    file.write_all(&copy).map_err(no_file)?;
    let (rows, key_check) = read::copy(&path, file)?;
    let sealer = master_key::load(master_key_file);
    let sealer = sealer.and_then(|sealer| match open::is_key_of(&sealer, &key_check) {
        true => Ok(sealer),
        false => Err(MasterKeyError::Wrong(master_key_file.into())),
    });
    Ok(SourceOpened {
        source: StoreSource::Later(LaterStore {
            data_dir: data_dir.to_owned(),
            master_key_file: master_key_file.to_owned(),
            gate,
            released,
        }),
        rows,
        sealer,
    })
}
