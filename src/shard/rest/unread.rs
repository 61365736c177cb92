//! Bytes of answers that have not been read, by the key that asked for them.
//!
//! One connection waits for its answers to be read before it is answered again, but a key may
//! have any number of connections. This file does not decide what becomes of a request.

use std::sync::Arc;

use ahash::{AHashMap, RandomState};

use crate::domain::rights::Key;
use crate::ids::ConnectionId;

/// See the top of this file.
///
/// Invariant: `by_key` has the sums of `by_connection`, and no zeroes.
#[derive(Debug)]
pub(in crate::shard) struct Unread {
    by_connection: AHashMap<ConnectionId, (Arc<Key>, usize)>,
    by_key: AHashMap<Box<str>, usize>,
}

impl Unread {
    /// Nothing waits.
    pub(in crate::shard) fn new(hasher: &RandomState) -> Self {
        Self {
            by_connection: AHashMap::with_hasher(hasher.clone()),
            by_key: AHashMap::with_hasher(hasher.clone()),
        }
    }

    /// Whether everything was read.
    #[inline]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.by_connection.is_empty()
    }

    /// What waits on all connections for that key.
    pub(super) fn of_key(&self, key: &Key) -> usize {
        self.by_key.get(&key.id).copied().unwrap_or_default()
    }

    /// What waits on a connection, and for which key, if anything does.
    pub(in crate::shard) fn of_connection(&self, id: ConnectionId) -> Option<(&Key, usize)> {
        let (key, bytes) = self.by_connection.get(&id)?;
        Some((key, *bytes))
    }

    /// That many bytes of answers to the key wait on a connection now.
    pub(in crate::shard) fn set(&mut self, connection: ConnectionId, key: &Arc<Key>, bytes: usize) {
        self.forget(connection);
        if bytes > 0 {
            self.by_connection.insert(connection, (key.clone(), bytes));
            *self.by_key.entry(key.id.clone()).or_default() += bytes;
        }
    }

    /// At most that many bytes wait on a connection by now.
    pub(in crate::shard) fn lower(&mut self, connection: ConnectionId, bytes: usize) {
        if let Some((key, before)) = self.by_connection.get(&connection)
            && *before > bytes
        {
            let key = key.clone();
            self.set(connection, &key, bytes);
        }
    }

    /// A connection is gone.
    pub(in crate::shard) fn forget(&mut self, connection: ConnectionId) {
        let Some((key, bytes)) = self.by_connection.remove(&connection) else {
            return;
        };
        if let Some(sum) = self.by_key.get_mut(&key.id) {
            *sum -= bytes;
            if *sum == 0 {
                self.by_key.remove(&key.id);
            }
        }
    }
}
