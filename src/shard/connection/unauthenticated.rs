//! Connections that have not shown a good credential: how many there may be, and which of them
//! gives way.
//!
//! Anybody can open such connections, so they are bounded by themselves: over the bound the
//! oldest idle one is closed for each that is accepted. Idle is one whose peer has been awaited
//! for a second: its request is not there, or not whole, however it dribbles. One that waits for
//! the server is never closed for that; while there is no idle one, nobody new is to be accepted.

use crate::ids::ConnectionId;
use crate::shard::connection::connections::{Awaited, Connection, Connections, Held, Phase};
use crate::shard::context::Context;

/// How long a peer must have been awaited before its connection gives way: longer than a round
/// trip around the world.
const IDLE_MS: u64 = 1_000;
/// Connections that are looked at for one that gives way.
const LOOKS_MAX: usize = 32;

impl Connections {
    /// Puts those that were taken over into the order in which they were last waited for.
    pub(in crate::shard) fn sort_strangers(&mut self) {
        let mut oldest: Vec<ConnectionId> = self.unauthenticated.oldest.drain(..).collect();
        oldest.sort_by_key(|id| self.get(*id).map(|it| it.received_ms));
        self.unauthenticated.oldest = oldest.into();
    }

    /// A connection has shown a good credential.
    pub(in crate::shard) fn show_credential(&mut self, id: ConnectionId) {
        if !std::mem::replace(&mut self[id].has_shown_credential, true) {
            self.unauthenticated.count -= 1;
        }
    }

    /// A connection is gone.
    pub(in crate::shard) fn forget_stranger(&mut self, connection: &Connection) {
        if is_stranger(connection) {
            self.unauthenticated.count -= 1;
        }
    }

    /// Closes the oldest idle connection without a credential, if there is one.
    pub(in crate::shard) fn make_room(&mut self, context: &mut Context) {
        let now_ms = self.peer_ms(context);
        if context.is_frozen {
            return; // Nobody is let in.
        }
        for _ in 0..LOOKS_MAX.min(self.unauthenticated.oldest.len()) {
            let Some(id) = self.unauthenticated.oldest.pop_front() else {
                return;
            };
            let Some(connection) = self.get(id).filter(|it| is_stranger(it)) else {
                continue;
            };
            if is_idle(connection, now_ms) {
                tracing::debug!(remote = %connection.remote, "idle without a credential: closed");
                context.gave_way();
                // It counts no longer, although its socket is only about to be closed.
                self.show_credential(id);
                context.effects.abort.push(id);
                return;
            }
            self.unauthenticated.oldest.push_back(id);
        }
    }
}

pub(in crate::shard) fn is_stranger(connection: &Connection) -> bool {
    !connection.has_shown_credential
}

fn is_idle(connection: &Connection, now_ms: u64) -> bool {
    let Awaited::Since(since_ms) = connection.awaited else {
        return false;
    };
    let is_being_answered = match connection.phase {
        Phase::Http(_) => connection.held.has(Held::REQUEST),
        Phase::Registering(_) => true,
        Phase::Open(_) | Phase::Closing { .. } | Phase::Lingering { .. } => false,
    };
    !is_being_answered && since_ms + IDLE_MS <= now_ms
}
