//! Direct messages in apps where sender and receiver must be in a common channel.
//!
//! The sender's home knows the sender's channels, and their owners know who is in them. So the
//! home looks the receiver up in the rosters that it owns and asks the other owners about theirs:
//! one look-up for each of the sender's channels, however many connections the receiver has and
//! wherever they are. Only then does the message go to the receiver's owner. Messages of one
//! sender leave in the order in which they came, whichever owners had to be asked.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::domain::peer::SharedChannel;
use crate::ids::{ConnectionId, ConnectionRef, ShardId};
use crate::shard::mesh_message::{MeshMessage, Scope, ScopeResult, Send};
use crate::shard::state::Shard;

/// A `send` on the sender's home shard whose scope is being asked for, or that waits for an
/// earlier one of the same sender.
#[derive(Debug)]
pub(in crate::shard) struct PendingScope {
    question: u64,
    send: Send,
    owners_missing: u16,
    shared: bool,
}

/// Channels by the other shards that own them.
type ByOwner = SmallVec<[(ShardId, Vec<SharedChannel>); 4]>;

impl Shard {
    /// A `send` on the sender's home shard, in an app that asks for a common channel.
    pub(in crate::shard) fn scoped_send(&mut self, send: Send) {
        let sender = send.sender;
        let (shared, owners) = self.look_for_common_channel(&send);
        let question = self.context.operation();
        let pending = PendingScope {
            question,
            // There are no more owners than shards.
            owners_missing: owners.len() as u16,
            shared,
            send,
        };
        for (owner, channels) in owners {
            let scope = Scope {
                sender,
                question,
                to: pending.send.to.clone(),
                channels,
            };
            self.context
                .send(owner, MeshMessage::Scope(Box::new(scope)));
        }
        let queue = self.scopes.entry(sender.connection).or_default();
        queue.push_back(pending);
        self.release_scoped(sender.connection);
    }

    /// Whether the receiver is in one of the sender's channels that this shard owns; if not, the
    /// sender's other channels, by owner.
    fn look_for_common_channel(&self, send: &Send) -> (bool, ByOwner) {
        let session = self.connections.session(send.sender.connection);
        let memberships = session.into_iter().flat_map(|session| &session.memberships);
        let mut owners = ByOwner::new();
        for channel in memberships.filter_map(|it| self.channels.get(it.channel)) {
            let owner = self.context.placement.owner(channel.key.hash);
            if owner == self.context.id() {
                if self.has_joined(&channel.key, &send.to, send.sender) {
                    return (true, ByOwner::new());
                }
                continue;
            }
            match owners.iter_mut().find(|(known, _)| *known == owner) {
                Some((_, channels)) => channels.push(channel.key.clone()),
                None => owners.push((owner, vec![channel.key.clone()])),
            }
        }
        (false, owners)
    }

    pub(in crate::shard) fn owner_scope(&mut self, scope: &Scope) {
        let mut channels = scope.channels.iter();
        let shared = channels.any(|channel| self.has_joined(channel, &scope.to, scope.sender));
        let result = ScopeResult {
            sender: scope.sender.connection,
            question: scope.question,
            shared,
        };
        let home = scope.sender.shard;
        self.context.send(home, MeshMessage::ScopeResult(result));
    }

    /// Whether a peer is in a channel that this shard owns, with another connection than that.
    fn has_joined(&self, channel: &SharedChannel, peer_id: &str, except: ConnectionRef) -> bool {
        #[cfg(test)]
        LOOK_UPS.with(|count| count.set(count.get() + 1));
        let slot = self.channels.find_key(channel);
        let local = slot.and_then(|slot| self.channels.get(slot));
        local
            .and_then(|local| local.owned.as_ref())
            .is_some_and(|owned| owned.roster().has_joined(peer_id, except))
    }

    pub(in crate::shard) fn scope_result(&mut self, result: ScopeResult) {
        let Some(queue) = self.scopes.get_mut(&result.sender) else {
            return;
        };
        // Questions are numbered as they come.
        if let Ok(at) = queue.binary_search_by_key(&result.question, |it| it.question) {
            queue[at].shared |= result.shared;
            queue[at].owners_missing -= 1;
        }
        self.release_scoped(result.sender);
    }

    /// Lets those of a sender's messages go whose scope is known, up to the first one of which
    /// it is not.
    fn release_scoped(&mut self, sender: ConnectionId) {
        let Some(queue) = self.scopes.get_mut(&sender) else {
            return;
        };
        let known = queue.iter().take_while(|it| it.owners_missing == 0).count();
        let known: VecDeque<PendingScope> = queue.drain(..known).collect();
        if queue.is_empty() {
            self.scopes.remove(&sender);
        }
        for PendingScope { send, shared, .. } in known {
            if shared {
                self.send_to_peer(send);
            } else {
                self.send_failed(&send);
            }
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Look-ups in rosters on this thread, for tests of cost without a clock.
    static LOOK_UPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests;
