//! History on disk, for the whole process: opened when an app first has a channel that is kept
//! there, at the start or with a change of the rights, and shared out among the shards.
//!
//! A server without such a channel makes no directory and starts no thread.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use ahash::RandomState;

use crate::domain::history::{HistoryAck, HistorySettings};
use crate::domain::rights::Rights;
use crate::history::{self, Counters, Directory, Log};
use crate::runtime::clock::unix_ms;
use crate::runtime::found::{Read, Reading};
use crate::runtime::wake::Wake;
use crate::shard::config::Entropy;
use crate::shard::history::restored::Found;

/// A segment is appended to until it has so many bytes. What is over is given back to the disk in
/// pieces of that size.
const SEGMENT_BYTES: u64 = 16 << 20;

/// What one shard gets.
pub(super) struct Share {
    /// Where it hands its records over; `None` if the disk cannot be used.
    pub(super) log: Option<(Log, Arc<Counters>)>,
    /// The channels that it owns.
    pub(super) found: Vec<Found>,
    /// Whether acks wait until a publication is stored.
    pub(super) ack: HistoryAck,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.len();
        f.debug_struct("Share")
            .field("found", &found)
            .finish_non_exhaustive()
    }
}

/// See the top of this file.
pub(super) struct Histories {
    /// Where the segments are; `None`: nothing is kept on disk.
    directory: Option<PathBuf>,
    settings: HistorySettings,
    hasher: RandomState,
    wakes: Vec<Arc<Wake>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_open: bool,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Histories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = &self.directory;
        f.debug_struct("Histories")
            .field("directory", directory)
            .finish_non_exhaustive()
    }
}

impl Histories {
    /// Nothing is opened yet.
    pub(super) fn new(
        directory: Option<PathBuf>,
        settings: HistorySettings,
        hasher: RandomState,
        wakes: Vec<Arc<Wake>>,
    ) -> Self {
        Self {
            directory,
            settings,
            hasher,
            wakes,
            state: Mutex::default(),
        }
    }

    /// Whether something is kept on disk.
    pub(super) fn is_open(&self) -> bool {
        let state = self.state.lock();
        state.unwrap_or_else(PoisonError::into_inner).is_open
    }

    /// Opens what is on disk, if these rights are the first with a channel that is kept there.
    /// Returns a share for each shard then.
    ///
    /// # Errors
    /// The disk cannot be read or written; the text says what to do.
    pub(super) fn open(&self, rights: &Rights) -> Result<Option<Vec<Share>>, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(directory) = self.directory.as_ref().filter(|_| rights.keep_on_disk()) else {
            return Ok(None);
        };
        if state.is_open {
            return Ok(None);
        }
        let files = Directory::open(directory).map_err(|error| unopened(directory, &error))?;
        let began = Instant::now();
        let opened = self.read(Arc::new(files), rights)?;
        let channels: usize = opened.shards.iter().map(|(_, found)| found.len()).sum();
        tracing::info!(
            channels,
            bytes = opened.bytes,
            damaged = opened.damaged,
            ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "history was read"
        );
        let mut shares = Vec::with_capacity(opened.shards.len());
        for ((writer, found), wake) in opened.shards.into_iter().zip(&self.wakes) {
            let counters = writer.counters();
            let tell: Option<Box<dyn Fn() + Send>> = match self.settings.ack {
                HistoryAck::Ordered => None,
                HistoryAck::Stored => {
                    let wake = wake.clone();
                    Some(Box::new(move || wake.wake()))
                }
            };
            let writing = history::start(writer, began, self.hasher.clone(), tell)
                .map_err(|error| format!("history: no thread can be started: {error}"))?;
            state.threads.push(writing.thread);
            shares.push(Share {
                log: Some((writing.log, counters)),
                found,
                ack: self.settings.ack,
            });
        }
        state.is_open = true;
        Ok(Some(shares))
    }

    /// A share for each shard that says that the disk cannot be used.
    pub(super) fn without_disk(&self) -> impl Iterator<Item = Share> {
        let ack = self.settings.ack;
        self.wakes.iter().map(move |_| Share {
            log: None,
            found: Vec::new(),
            ack,
        })
    }

    fn read(&self, files: Arc<Directory>, rights: &Rights) -> Result<Read, String> {
        let reading = Reading {
            files,
            // Shards are counted with 16 bits.
            shards: self.wakes.len() as u16,
            fsync: self.settings.fsync,
            segment_bytes: SEGMENT_BYTES,
            hasher: &self.hasher,
            rights,
            unix_ms: unix_ms(),
            ids_ms: u64::from(self.settings.dedupe_sec) * 1_000,
            fill: &|bytes| super::boot::SystemEntropy.fill(bytes),
        };
        reading.read().map_err(|error| error.to_string())
    }

    /// Waits for the threads to write what shards that have ended handed over.
    pub(super) fn join(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in state.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that writes history has panicked");
            }
        }
    }
}

/// Why a directory cannot be opened, and what to do.
fn unopened(directory: &Path, error: &io::Error) -> String {
    let directory = directory.display();
    match error.kind() {
        io::ErrorKind::ResourceBusy => format!(
            "history: {directory} is {error}: stop it, or give each server a directory of its own"
        ),
        _ => format!("history: {directory}: {error}"),
    }
}
