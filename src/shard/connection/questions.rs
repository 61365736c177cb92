//! Questions of connections to other shards.

use crate::ids::{ConnectionId, Seat, Ticket};
use crate::proto::wire::error::ErrorCode;
use crate::proto::wire::event::AckTold;
use crate::proto::wire::position::Position;
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
    /// Keeps a question that those seats are asked.
    pub(in crate::shard) fn ask(
        &mut self,
        question: Question,
        of: impl IntoIterator<Item = Seat>,
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

    /// Whether the connection that asked something is there to hear the answer: its socket may
    /// have been closed while others were asked.
    pub(in crate::shard) fn is_still_asking(&self, id: ConnectionId) -> bool {
        self.get(id).is_some()
    }

    /// Answers a command that had to wait.
    pub(in crate::shard) fn answer_command(
        &mut self,
        command: &PendingCommand,
        answer: Result<(), ErrorCode>,
        context: &mut Context,
    ) {
        if !self.awaits_no_longer(command) {
            return;
        }
        let (id, reply_to) = (command.connection, &command.reply_to);
        match answer {
            Ok(()) => self.ack(id, reply_to, context),
            Err(code) => {
                self.record_error(id, code, ("", false), context);
                let reply_to = (reply_to.id(), reply_to.read_ns);
                self.error(id, reply_to, code, None, context);
            }
        }
    }

    /// Acks a command that had to wait, and tells of the history of its channel.
    pub(in crate::shard) fn answer_command_at(
        &mut self,
        command: &PendingCommand,
        position: Option<Position>,
        told: AckTold,
        context: &mut Context,
    ) {
        if self.awaits_no_longer(command) {
            let reply_to = (command.reply_to.id(), command.reply_to.read_ns);
            self.ack_at(command.connection, reply_to, position, told, context);
        }
    }

    /// Notes that a command is answered now. Returns whether anybody is there to hear it.
    fn awaits_no_longer(&mut self, command: &PendingCommand) -> bool {
        let PendingCommand {
            connection,
            asked,
            reply_to,
        } = command;
        let is_there = self.is_still_asking(*connection);
        if is_there {
            self.awaited_reply(*connection, *asked, reply_to.id());
        }
        is_there
    }

    /// When the time of a question is over next, on the clock.
    pub(in crate::shard) fn next_question_ms(&self, context: &Context) -> Option<u64> {
        let end_ms = context.questions.next_end_ms()?;
        Some(end_ms.saturating_add(self.forgiven_ms))
    }

    /// Holds the input of a request's connection until the owner has answered.
    pub(in crate::shard) fn wait(
        &mut self,
        caller: &Caller,
        answer: PendingAnswer,
        owner: Seat,
        context: &mut Context,
    ) -> Ticket {
        let connection = &mut self[caller.connection];
        connection.held.add(Held::REQUEST);
        connection.await_answer();
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
    pub(in crate::shard) fn rest_result(&mut self, home: Seat, request: Ticket, value: RestValue) {
        let result = Box::new(RestResult { request, value });
        self.send(home, MeshMessage::RestResult(result));
    }
}
