//! What operators ask, handed to the parts that know.

use smallvec::smallvec;

use crate::domain::history_page::{HistoryAsked, HistoryTold};
use crate::ids::ConnectionId;
use crate::shard::connection::connections::Connection;
use crate::shard::context::Context;
use crate::shard::mesh_message::{
    ForgetHistory, HistoryPage, Kick, KickHere, MeshMessage, RestResult, RestValue,
};
use crate::shard::query::{Answer, HistoryQuery, Query};
use crate::shard::questions::{AskedKick, KickAtOwner, Question};
use crate::shard::state::Shard;

impl Shard {
    /// An operator asks something, with a number for the answer.
    pub(in crate::shard) fn asked(&mut self, query: Query, number: u64) {
        match query {
            Query::Kick(kick) => match kick.connection {
                None => self.kick_for_operator(AskedKick { number, kick }),
                Some(id) => self.kick_one_for_operator(id, AskedKick { number, kick }),
            },
            Query::History(asked) => self.history_for_operator(&asked, number),
            Query::Look(look) => self.look(look, number),
            Query::Trace(trace) => {
                self.context.set_trace(trace);
                self.context.effects.answers.push((number, Answer::Traces));
            }
        }
    }

    /// Has the owner of a peer disconnect it.
    fn kick_for_operator(&mut self, asked: AskedKick) {
        let context = &mut self.context;
        let (app, peer) = (asked.kick.app.id.tag(), asked.kick.peer.clone());
        let owner = context.placement.peer_owner(app, &peer);
        let question = Question::AskedKick(Box::new(asked));
        let request = self.connections.ask(question, [owner], context);
        let kick = Kick { app, peer, request };
        context.send(owner, MeshMessage::Kick(Box::new(kick)));
    }

    /// Disconnects one connection of this shard, as an owner would have it done.
    fn kick_one_for_operator(&mut self, id: ConnectionId, mut asked: AskedKick) {
        let kick = &mut asked.kick;
        let session = self.connections.get(id).and_then(Connection::session);
        let session = session.filter(|it| it.key.app.id.tag() == kick.app.id.tag());
        let peer = session.map(|it| it.peer.id.as_str());
        let Some(peer) = peer.filter(|it| kick.peer.is_empty() || **it == *kick.peer) else {
            return self
                .context
                .answer_asked_kick(&asked, &RestValue::Kicked(0));
        };
        kick.peer = peer.into();
        let here = self.context.id();
        let context = &mut self.context;
        let question = Question::AskedKick(Box::new(asked));
        let request = self.connections.ask(question, [here], context);
        let at_owner = Question::Kick(KickAtOwner {
            request: (here, request),
            closed: 0,
        });
        let kick = KickHere {
            kick: self.connections.ask(at_owner, [here], context),
            connections: smallvec![id],
        };
        context.send(here, MeshMessage::KickHere(Box::new(kick)));
    }

    /// Has the owner of a channel tell what it keeps, or forget it.
    fn history_for_operator(&mut self, asked: &HistoryQuery, number: u64) {
        let context = &mut self.context;
        let hash = context.placement.channel_hash(asked.app, &asked.channel);
        let channel = self.channels.channel_key(asked.app, hash, &asked.channel);
        let owner = context.placement.owner(hash);
        let question = Question::AskedHistory(number);
        let request = self.connections.ask(question, [owner], context);
        let message = match asked.asked {
            HistoryAsked::Page(page) => MeshMessage::HistoryPage(Box::new(HistoryPage {
                channel,
                page,
                request,
            })),
            HistoryAsked::Forget => {
                MeshMessage::ForgetHistory(Box::new(ForgetHistory { channel, request }))
            }
        };
        context.send(owner, message);
    }

    /// What a request or an operator waited for is there.
    pub(in crate::shard) fn rest_result(&mut self, result: RestResult) {
        match self.context.questions.take(result.request) {
            Some(Question::Rest(waiting)) => self.rest.answer_waiting(
                &waiting,
                &result.value,
                &mut self.connections,
                &mut self.context,
            ),
            Some(Question::AskedKick(kick)) => self.context.answer_asked_kick(&kick, &result.value),
            Some(Question::AskedHistory(number)) => {
                self.context.answer_asked_history(number, result.value);
            }
            _ => {} // It has ended without the answer.
        }
    }
}

impl Context {
    /// Answers what an operator has asked about what a channel keeps.
    pub(in crate::shard) fn answer_asked_history(&mut self, number: u64, value: RestValue) {
        let answer = match value {
            RestValue::History(page) => Answer::History(HistoryTold::Page(page)),
            RestValue::Forgotten(it) => Answer::History(HistoryTold::Forgotten(it)),
            _ => Answer::Unanswered,
        };
        self.effects.answers.push((number, answer));
    }
}
