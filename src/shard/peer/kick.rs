//! `DELETE /v1/peers/:id`: every connection of a peer, wherever it is, and nothing of it left.
//!
//! The peer's owner asks every home where the peer has connections to close them. A home tells the
//! owners of their channels by the ordinary messages and then asks each of these owners whether it
//! got there; links are FIFO, so when all have said yes the peer is out of every roster. Of a
//! connection that waits for an answer it asks every shard: an unsubscription is on its way to an
//! owner that the connection no longer names. A home closes a bounded number of connections a turn,
//! and asks after the last one. What the home then tells the peer's owner arrives after the news
//! that the connections are gone, so the peer is out of the registry too before the request is
//! answered.

use crate::events::kind::{Cause, Kind};
use crate::events::record::Record;
use crate::ids::{ConnectionId, Seat, Ticket};
use crate::planted::{Bug, planted};
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Phase, Session};
use crate::shard::context::Context;
use crate::shard::mesh_message::{Kick, KickHere, Kicked, MeshMessage, RestValue};
use crate::shard::peer::peers::Peers;
use crate::shard::portions::{KickWalk, Seats};
use crate::shard::query::Answer;
use crate::shard::questions::{AskedKick, KickAtHome, KickAtOwner, Question};

impl Peers {
    pub(in crate::shard) fn owner_kick(
        &mut self,
        home: Seat,
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
        owners: &mut Seats,
        connections: &Connections,
        context: &Context,
    ) -> bool {
        let is_missed = |it: &Session| planted(Bug::KickMissesJoining) && it.joining.is_some();
        let session = connections.get(id).and_then(|it| match &it.phase {
            Phase::Open(session) if is_missed(session) => None,
            Phase::Open(session) | Phase::Registering(session) => Some(session),
            _ => None,
        });
        let Some(session) = session else {
            return false;
        };
        // It may be leaving a channel that is none of its own any more.
        if connections[id].awaited_bytes > 0 {
            let others = context.placement.others().map(Seat::from);
            *owners = others.chain([context.id()]).collect();
            return true;
        }
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

    /// Everything that came before this on the link has been handled. What it changed for others is
    /// sent before the answer, except in large channels, whose changes are told at intervals.
    pub(in crate::shard) fn reach(
        &mut self,
        from: Seat,
        ticket: Ticket,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.announce_batches(connections, context);
        context.send(from, MeshMessage::Reached { ticket });
    }
}

impl Context {
    pub(in crate::shard) fn home_reached(&mut self, from: Seat, ticket: Ticket) {
        if self.questions.answered(ticket, from) == Some(0)
            && let Some(Question::Reach(done)) = self.questions.take(ticket)
        {
            self.send(done.peer_owner, MeshMessage::Kicked(done.kicked));
        }
    }

    pub(in crate::shard) fn owner_kicked(&mut self, from: Seat, kicked: Kicked) {
        let Kicked { kick, closed } = kicked;
        let Some(Question::Kick(at_owner)) = self.questions.get_mut(kick) else {
            return; // The request has been answered without this home.
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

    /// Answers a kick that an operator has asked for.
    pub(in crate::shard) fn answer_asked_kick(&mut self, asked: &AskedKick, value: &RestValue) {
        let kick = &asked.kick;
        let answer = match value {
            RestValue::Kicked(closed) => {
                let kicked = Record {
                    app: Some(kick.app.index),
                    connection: kick.connection,
                    first: &kick.peer,
                    ..Record::new(Kind::Kicked, Cause::None)
                };
                self.record_kicked(kicked, &kick.by, *closed);
                Answer::Kicked(*closed)
            }
            _ => Answer::Unanswered,
        };
        self.effects.answers.push((asked.number, answer));
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
