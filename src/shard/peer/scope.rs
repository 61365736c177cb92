//! Direct messages in apps where sender and receiver must be in a common channel.
//!
//! The sender's home knows the sender's channels, and their owners know who is in them. So the
//! home looks the receiver up in the rosters that it owns and asks the other owners about theirs:
//! one look-up for each of the sender's channels, however many connections the receiver has and
//! wherever they are. Only then does the message go to the receiver's owner. Messages of one
//! sender leave in the order in which they came, whichever owners had to be asked.

use smallvec::SmallVec;

use crate::domain::peer::SharedChannel;
use crate::ids::{ConnectionId, ConnectionRef, Seat, Ticket};
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use crate::shard::mesh_message::{MeshMessage, Scope, ScopeResult, Send};
use crate::shard::peer::peers::Peers;
use crate::shard::questions::{Question, Scoped};

/// Channels by the others who own them.
type ByOwner = SmallVec<[(Seat, Vec<SharedChannel>); 4]>;

impl Peers {
    /// A `send` on the sender's home shard, in an app that asks for a common channel.
    pub(in crate::shard) fn scoped_send(
        &mut self,
        send: Send,
        channels: &mut Channels,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let (sender, ticket) = (send.sender, send.send);
        let (shared, owners) = channels.look_for_common_channel(&send, connections, context);
        let asked = owners.iter().map(|(owner, _)| *owner);
        context.questions.wait_for(ticket, asked);
        for (owner, channels) in owners {
            let scope = Scope {
                sender,
                send: ticket,
                to: send.to.clone(),
                channels,
            };
            context.send(owner, MeshMessage::Scope(Box::new(scope)));
        }
        if let Some(Question::Send(pending)) = context.questions.get_mut(ticket) {
            pending.scoped = Some(Box::new(Scoped { send, shared }));
        }
        let queue = self.scopes.entry(sender.connection).or_default();
        queue.push_back(ticket);
        self.release_scoped(sender.connection, context);
    }

    pub(in crate::shard) fn scope_result(
        &mut self,
        from: Seat,
        result: ScopeResult,
        context: &mut Context,
    ) {
        if let Some(Question::Send(pending)) = context.questions.get_mut(result.send)
            && let Some(scoped) = &mut pending.scoped
        {
            scoped.shared |= result.shared;
            let sender = pending.command.connection;
            context.questions.answered(result.send, from);
            self.release_scoped(sender, context);
        }
    }

    /// Sends a sender's messages on, in order, up to the first one whose scope is not known.
    pub(in crate::shard) fn release_scoped(&mut self, sender: ConnectionId, context: &mut Context) {
        while let Some(ticket) = self.first_scoped(sender, context) {
            let scoped = match context.questions.get_mut(ticket) {
                Some(Question::Send(pending)) => pending.scoped.take(),
                _ => None,
            };
            match scoped.map(|scoped| *scoped) {
                Some(Scoped { send, shared: true }) => context.send_to_peer(send),
                Some(Scoped { send, .. }) => context.send_failed(&send),
                // It has ended unanswered.
                None => {}
            }
        }
    }

    /// Takes the first of a sender's messages out if nobody has to be asked about it any more.
    fn first_scoped(&mut self, sender: ConnectionId, context: &mut Context) -> Option<Ticket> {
        let queue = self.scopes.get_mut(&sender)?;
        let questions = &context.questions;
        let is_known = |ticket: &mut Ticket| {
            let question = questions.get(*ticket);
            question.is_none_or(|(_, missing)| missing.is_empty())
        };
        let first = queue.pop_front_if(is_known);
        if queue.is_empty() {
            self.scopes.remove(&sender);
        }
        first
    }
}

impl Channels {
    /// Whether the receiver is in one of the sender's channels that this shard owns; if not, the
    /// sender's other channels, by owner.
    fn look_for_common_channel(
        &self,
        send: &Send,
        connections: &Connections,
        context: &Context,
    ) -> (bool, ByOwner) {
        let session = connections[send.sender.connection].session();
        let memberships = session.into_iter().flat_map(|session| &session.memberships);
        let mut owners = ByOwner::new();
        for channel in memberships.filter_map(|it| self.get(it.channel)) {
            let owner = context.placement.owner(channel.key.hash);
            if owner == context.id() {
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

    pub(in crate::shard) fn owner_scope(&mut self, scope: &Scope, context: &mut Context) {
        let mut channels = scope.channels.iter();
        let shared = channels.any(|channel| self.has_joined(channel, &scope.to, scope.sender));
        let result = ScopeResult {
            send: scope.send,
            shared,
        };
        let home = scope.sender.home;
        context.send(home, MeshMessage::ScopeResult(result));
    }

    /// Whether a peer is in a channel that this shard owns, with another connection than that.
    pub(in crate::shard) fn has_joined(
        &self,
        channel: &SharedChannel,
        peer_id: &str,
        except: ConnectionRef,
    ) -> bool {
        #[cfg(test)]
        LOOK_UPS.with(|count| count.set(count.get() + 1));
        let slot = self.find_key(channel);
        let local = slot.and_then(|slot| self.get(slot));
        local
            .and_then(|local| local.owned.as_ref())
            .is_some_and(|owned| owned.roster().has_joined(peer_id, except))
    }
}

#[cfg(test)]
thread_local! {
    /// Look-ups in rosters on this thread, for tests of cost without a clock.
    static LOOK_UPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests;
