//! How questions to other shards end without an answer.

use crate::events::kind::Cause;
use crate::ids::{ConnectionId, ShardId, Ticket};
use crate::planted::{Bug, planted};
use crate::proto::wire::error::ErrorCode;
use crate::proto::ws::close::CloseCode;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Phase};
use crate::shard::connection::ending::Goodbye;
use crate::shard::context::Context;
use crate::shard::mesh_message::RestValue;
use crate::shard::questions::Question;
use crate::shard::state::Shard;

/// How many questions may end in one turn because their time is over.
const ENDS_PER_TURN_MAX: usize = 256;

impl Shard {
    /// Ends questions whose time is over, as many as a turn may.
    pub(in crate::shard) fn end_overdue_questions(&mut self) {
        for _ in 0..ENDS_PER_TURN_MAX {
            let Some((ticket, question)) = self
                .context
                .questions
                .take_overdue(self.connections.peer_ms(&self.context))
            else {
                return;
            };
            self.end_unanswered(ticket, question);
        }
    }

    /// Another shard is gone.
    pub(in crate::shard) fn lost(&mut self, shard: ShardId) {
        self.context.links.lose(shard);
        self.connections.resume_after_links(&mut self.context);
        for (ticket, question) in self.context.questions.take_lost(shard.into()) {
            if planted(Bug::LostQuestionWithoutEnd) && matches!(question, Question::Publish(_)) {
                continue;
            }
            self.end_unanswered(ticket, question);
        }
        let lost = shard.into();
        self.channels
            .lose_home(lost, &mut self.connections, &mut self.context);
        self.channels
            .lose_holds(lost, &mut self.connections, &mut self.context);
    }

    /// A publication is in the order of its channel, but could not be stored as it was to be.
    pub(in crate::shard) fn unstored(&mut self, waiter: Ticket) {
        if let Some(question) = self.context.questions.take(waiter) {
            self.end_unanswered(waiter, question);
        }
    }

    /// Tells whoever waits for the answer to a question that it will not come.
    fn end_unanswered(&mut self, ticket: Ticket, question: Question) {
        let unanswered = Err(ErrorCode::BackendError);
        match question {
            Question::Register(register) => self.channels.register_unanswered(
                register.connection,
                &mut self.connections,
                &mut self.context,
            ),
            Question::Join(join) => self.channels.join_unanswered(
                &join,
                ticket,
                &mut self.connections,
                &mut self.context,
            ),
            Question::Leave(command) | Question::Publish(command) => {
                self.connections
                    .answer_command(&command, unanswered, &mut self.context);
            }
            Question::Send(send) => {
                self.connections
                    .answer_command(&send.command, unanswered, &mut self.context);
                // What was sent after it waits for nothing else.
                self.peers
                    .release_scoped(send.command.connection, &mut self.context);
            }
            Question::Rest(waiting) => self.rest.answer_waiting(
                &waiting,
                &RestValue::Unanswered,
                &mut self.connections,
                &mut self.context,
            ),
            Question::AskedKick(kick) => {
                self.context
                    .answer_asked_kick(&kick, &RestValue::Unanswered);
            }
            Question::AskedHistory(number) => {
                self.context
                    .answer_asked_history(number, RestValue::Unanswered);
            }
            Question::Kick(kick) => self.context.kick_unanswered(&kick),
            Question::Reach(kick) => self.context.reach_unanswered(&kick),
        }
    }
}

impl Channels {
    /// A connection without a registered peer cannot be opened.
    fn register_unanswered(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let connection = connections.get(id);
        if connection.is_some_and(|it| matches!(it.phase, Phase::Registering(_))) {
            let goodbye = Goodbye {
                reason: "the peer could not be registered in time",
                ..Goodbye::of(Cause::ShardSilent, CloseCode::TRY_AGAIN_LATER)
            };
            self.close(id, &goodbye, connections, context);
        }
    }
}
