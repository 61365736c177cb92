//! Questions of connections to other shards.

use crate::ids::{ConnectionId, ShardId, Ticket};
use crate::proto::wire::error::ErrorCode;
use crate::shard::connection::connections::{Connections, Held};
use crate::shard::context::Context;
use crate::shard::mesh_message::{MeshMessage, RestResult, RestValue};
use crate::shard::questions::{
    Asked, Caller, PendingAnswer, PendingCommand, Question, ReplyTo, WaitingRequest,
};

/// How long others may take to answer, in milliseconds of the peers' clock: far more than any
/// answer takes, and less than clients wait.
const ANSWER_MS_MAX: u64 = 30_000;

impl Connections {
    /// Keeps a question that those shards are asked.
    pub(in crate::shard) fn ask(
        &mut self,
        question: Question,
        of: impl IntoIterator<Item = ShardId>,
        context: &mut Context,
    ) -> Ticket {
        let until_ms = self.peer_ms(context) + ANSWER_MS_MAX;
        context.questions.ask(question, of, until_ms)
    }

    /// The present command of a connection is answered later.
    pub(in crate::shard) fn await_command(
        &mut self,
        connection: ConnectionId,
        asked: Asked,
        request_id: Option<&str>,
        context: &mut Context,
    ) -> PendingCommand {
        self.await_reply(connection, asked, request_id);
        PendingCommand {
            connection,
            asked,
            reply_to: ReplyTo {
                request_id: request_id.map(Box::from),
                read_ns: context.stamp_ns,
            },
        }
    }

    /// Answers a command that had to wait.
    pub(in crate::shard) fn answer_command(
        &mut self,
        command: &PendingCommand,
        answer: Result<(), ErrorCode>,
        context: &mut Context,
    ) {
        let PendingCommand {
            connection,
            asked,
            reply_to,
        } = command;
        self.awaited_reply(*connection, *asked, reply_to.id());
        match answer {
            Ok(()) => self.ack(*connection, reply_to, context),
            Err(code) => {
                let reply_to = (reply_to.id(), reply_to.read_ns);
                self.error(*connection, reply_to, code, None, context);
            }
        }
    }

    /// When the time of a question is over next, on the clock.
    pub(in crate::shard) fn next_question_ms(&self, context: &Context) -> Option<u64> {
        let end_ms = context.questions.next_end_ms()?;
        Some(end_ms.saturating_add(self.forgiven_ms))
    }

    /// Holds the input of a request's connection until that shard has answered.
    pub(in crate::shard) fn wait(
        &mut self,
        caller: &Caller,
        answer: PendingAnswer,
        owner: ShardId,
        context: &mut Context,
    ) -> Ticket {
        if let Some(connection) = self.get_mut(caller.connection) {
            connection.held.add(Held::REQUEST);
            connection.await_answer();
        }
        let caller = caller.clone();
        self.ask(
            Question::Rest(Box::new(WaitingRequest { caller, answer })),
            [owner],
            context,
        )
    }
}

impl Context {
    /// Tells the home of a request what it waits for.
    pub(in crate::shard) fn rest_result(
        &mut self,
        home: ShardId,
        request: Ticket,
        value: RestValue,
    ) {
        let result = Box::new(RestResult { request, value });
        self.send(home, MeshMessage::RestResult(result));
    }
}
