//! A disk in memory that forgets what was not synced, is full, or fails. The simulation of all
//! shards has it too: `tests/sim`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::history::{Files, SegmentFile};

/// See the top of this file.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    pub(super) files: BTreeMap<String, Content>,
    /// Nothing can be appended; of the next append so many bytes are.
    pub(super) full_after: Option<usize>,
    /// No sync goes well.
    pub(super) sync_fails: bool,
    /// Nothing can be changed at all.
    pub(super) read_only: bool,
    /// Whoever writes ends in the middle: of the next append so many bytes are there, and nothing
    /// happens after it.
    pub(super) ends_after: Option<usize>,
}

#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// So many are there after the power was lost.
    synced: usize,
}

impl Disk {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The power is lost: of what was not synced some is there, which `pick` says of each file.
    /// The rest of what the file system had room for may be there as zeros.
    pub(super) fn lose_power(&self, mut pick: impl FnMut(usize) -> usize) {
        let mut state = self.state();
        for content in state.files.values_mut() {
            let unsynced = content.bytes.len() - content.synced;
            let kept = content.synced + pick(unsynced + 1).min(unsynced);
            let zeros = pick(content.bytes.len() - kept + 1);
            content.bytes.truncate(kept);
            if pick(3) == 0 {
                content.bytes.resize(kept + zeros, 0);
            }
            content.synced = content.bytes.len();
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.state().files.keys().cloned().collect()
    }
}

impl State {
    /// Whether nobody writes any more, and nothing may happen.
    fn is_left(&self) -> bool {
        self.ends_after == Some(0)
    }

    /// How much of an append is there; `None`: all of it.
    fn room(&mut self, bytes: usize) -> Option<usize> {
        match self.ends_after.replace(0) {
            Some(room) => Some(room.min(bytes)),
            None => {
                self.ends_after = None;
                self.full_after.map(|room| room.min(bytes))
            }
        }
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl Files for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        let mut state = self.state();
        if state.full_after.is_some() || state.read_only || state.is_left() {
            return Err(full());
        }
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(name.to_owned(), Content::default());
        if state.sync_fails {
            // Its name could not be made durable.
            return Err(io::Error::other("the medium"));
        }
        let (disk, name) = (self.clone(), name.to_owned());
        Ok(Box::new(Handle { disk, name }))
    }

    fn read(&self, name: &str, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        into.extend_from_slice(&self.state().files[name].bytes);
        Ok(())
    }

    fn cut(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let content = state.files.get_mut(name).unwrap();
        content.bytes.truncate(bytes as usize);
        content.synced = content.bytes.len();
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.sync_fails {
            return Err(io::Error::other("the medium"));
        }
        let content = state.files.get_mut(name).unwrap();
        content.synced = content.bytes.len();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.read_only || state.is_left() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        state
            .files
            .remove(name)
            .map(drop)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let content = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), content);
        Ok(())
    }
}

struct Handle {
    disk: Disk,
    name: String,
}

impl SegmentFile for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let room = state.room(bytes.len());
        let content = state
            .files
            .get_mut(&self.name)
            .ok_or(io::ErrorKind::NotFound)?;
        content
            .bytes
            .extend_from_slice(&bytes[..room.unwrap_or(bytes.len())]);
        match room {
            Some(_) => Err(full()),
            None => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.sync_fails || state.is_left() {
            return Err(io::Error::other("the medium"));
        }
        let content = state
            .files
            .get_mut(&self.name)
            .ok_or(io::ErrorKind::NotFound)?;
        content.synced = content.bytes.len();
        Ok(())
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.is_left() {
            return Err(full());
        }
        let content = state
            .files
            .get_mut(&self.name)
            .ok_or(io::ErrorKind::NotFound)?;
        content.bytes.truncate(bytes as usize);
        content.synced = content.synced.min(content.bytes.len());
        Ok(())
    }
}
