//! `DELETE /v1/peers/:id`: every connection of a peer, wherever it is, and nothing of it left.
//!
//! The peer's owner asks every home where the peer has connections to close them. A home tells
//! the owners of their channels by the ordinary messages and then asks each of these owners
//! whether it got there; links are FIFO, so when all have said yes the peer is out of every
//! roster. A home closes so many connections a turn and asks when the last one is closed. What
//! the home then tells the peer's owner arrives behind the news that the
//! connections are gone, so the peer is out of the registry too before the request is answered.

use crate::ids::{ConnectionId, ShardId, Ticket};
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Phase};
use crate::shard::context::Context;
use crate::shard::mesh_message::{Kick, KickHere, Kicked, MeshMessage, RestValue};
use crate::shard::peer::peers::Peers;
use crate::shard::portions::{KickWalk, Shards};
use crate::shard::questions::{KickAtHome, KickAtOwner, Question};

impl Peers {
    pub(in crate::shard) fn owner_kick(
        &mut self,
        home: ShardId,
        kick: &Kick,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let homes = self.registry.by_home(kick.app, &kick.peer, None);
        if homes.is_empty() {
            return context.rest_result(home, kick.request, RestValue::Kicked(0));
        }
        let at_owner = KickAtOwner {
            request: (home, kick.request),
            closed: 0,
        };
        let asked = homes.iter().map(|(home, _)| *home);
        let ticket = connections.ask(Question::Kick(at_owner), asked, context);
        for (home, connections) in homes {
            let here = KickHere {
                kick: ticket,
                connections,
            };
            context.send(home, MeshMessage::KickHere(Box::new(here)));
        }
    }
}

impl Connections {
    pub(in crate::shard) fn finish_kick(&mut self, walk: KickWalk, context: &mut Context) {
        let KickWalk {
            peer_owner, owners, ..
        } = walk;
        let kicked = Kicked {
            kick: walk.kick.kick,
            closed: Some(walk.closed),
        };
        if owners.is_empty() {
            return context.send(peer_owner, MeshMessage::Kicked(kicked));
        }
        let at_home = KickAtHome { peer_owner, kicked };
        let ticket = self.ask(Question::Reach(at_home), owners.iter().copied(), context);
        for owner in owners {
            context.send(owner, MeshMessage::Reach { ticket });
        }
    }
}

impl Channels {
    /// Adds the owners of a connection's channels. `false` if its session has ended.
    pub(in crate::shard) fn collect_channel_owners(
        &self,
        id: ConnectionId,
        owners: &mut Shards,
        connections: &Connections,
        context: &Context,
    ) -> bool {
        let session = connections.get(id).and_then(|it| match &it.phase {
            Phase::Open(session) | Phase::Registering(session) => Some(session),
            _ => None,
        });
        let Some(session) = session else {
            return false;
        };
        let joined = session
            .memberships
            .iter()
            .filter_map(|membership| self.get(membership.channel))
            .map(|channel| channel.key.hash);
        let joining = session
            .joining
            .iter()
            .flat_map(|joining| &joining.asked)
            .map(|asked| asked.channel.hash);
        for hash in joined.chain(joining) {
            let owner = context.placement.owner(hash);
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        true
    }

    /// Everything that came before this on the link has been handled; what it changed for
    /// others is on its way to them, too, before the answer, but in large channels, where
    /// changes are told at intervals.
    pub(in crate::shard) fn reach(
        &mut self,
        from: ShardId,
        ticket: Ticket,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.announce_batches(connections, context);
        context.send(from, MeshMessage::Reached { ticket });
    }
}

impl Context {
    pub(in crate::shard) fn home_reached(&mut self, from: ShardId, ticket: Ticket) {
        if self.questions.answered(ticket, from) == Some(0)
            && let Some(Question::Reach(done)) = self.questions.take(ticket)
        {
            self.send(done.peer_owner, MeshMessage::Kicked(done.kicked));
        }
    }

    pub(in crate::shard) fn owner_kicked(&mut self, from: ShardId, kicked: Kicked) {
        let Kicked { kick, closed } = kicked;
        let Some(Question::Kick(at_owner)) = self.questions.get_mut(kick) else {
            return;
        };
        at_owner.closed += u64::from(closed.unwrap_or_default());
        let is_last = self.questions.answered(kick, from) == Some(0);
        if (is_last || closed.is_none())
            && let Some(Question::Kick(done)) = self.questions.take(kick)
        {
            let (home, request) = done.request;
            let value = match closed {
                Some(_) => RestValue::Kicked(done.closed),
                None => RestValue::Unanswered,
            };
            self.rest_result(home, request, value);
        }
    }

    /// A home of the peer has not said that its connections are closed.
    pub(in crate::shard) fn kick_unanswered(&mut self, kick: &KickAtOwner) {
        let (home, request) = kick.request;
        self.rest_result(home, request, RestValue::Unanswered);
    }

    /// An owner of channels has not said that it knows of closed connections.
    pub(in crate::shard) fn reach_unanswered(&mut self, kick: &KickAtHome) {
        let kicked = Kicked {
            closed: None,
            ..kick.kicked
        };
        self.send(kick.peer_owner, MeshMessage::Kicked(kicked));
    }
}
