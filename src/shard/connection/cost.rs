//! What it costs to end a session, in the unit of the portions of a turn.

use crate::ids::ConnectionId;
use crate::shard::connection::connections::{Connections, Phase};

impl Connections {
    /// What it would cost to end a connection's session; `None` if it has none.
    pub(in crate::shard) fn cost_of_end(&self, id: ConnectionId) -> Option<usize> {
        match &self.get(id)?.phase {
            Phase::Open(session) | Phase::Registering(session) => {
                let joining = session.joining.as_ref();
                let joining = joining.map_or(0, |joining| joining.asked.len());
                Some(END + session.memberships.len() + joining)
            }
            _ => None,
        }
    }
}

/// What it costs to look at a connection, the unit of the others: about 0.1 µs when it is not in
/// the cache.
pub(in crate::shard) const LOOK: usize = 1;

/// To queue a frame to a connection and set its timer.
pub(in crate::shard) const WRITE: usize = 4;

/// To end a session and say goodbye, channels apart: each of these is one more.
pub(in crate::shard) const END: usize = 8;
