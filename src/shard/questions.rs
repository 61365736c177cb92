//! What a shard asks others, and how that ends: with their answer, when one of them is lost, or
//! when its time is over.

use crate::domain::channel::ReplyTo;
use crate::ids::{ConnectionId, ShardId, Ticket};
use crate::proto::wire::error::ErrorCode;
use crate::shard::bounds::Asked;
use crate::shard::mesh_message::RestValue;
use crate::shard::rest::Waiting;
use crate::shard::state::Shard;

/// How long others may take to answer, in milliseconds of the peers' clock: far more than any
/// answer takes, and less than clients wait.
const ANSWER_MS_MAX: u64 = 30_000;
/// Questions that end in one turn because their time is over.
const ENDS_PER_TURN_MAX: usize = 256;

/// A question that others have been asked.
#[derive(Debug)]
pub(in crate::shard) enum Question {
    /// The place of a publication in its channel's order.
    Publish(Command),
    /// What a REST request asks for.
    Rest(Waiting),
}

/// A command that is answered when others have.
#[derive(Debug)]
pub(in crate::shard) struct Command {
    connection: ConnectionId,
    asked: Asked,
    reply_to: ReplyTo,
}

impl Shard {
    /// Keeps a question that a shard is asked.
    pub(in crate::shard) fn ask(&mut self, question: Question, of: ShardId) -> Ticket {
        let until_ms = self.peer_ms() + ANSWER_MS_MAX;
        self.questions.ask(question, [of], until_ms)
    }

    /// The present command of a connection is answered later.
    pub(in crate::shard) fn await_command(
        &mut self,
        connection: ConnectionId,
        asked: Asked,
        request_id: Option<&str>,
    ) -> Command {
        self.await_reply(connection, asked, request_id);
        Command {
            connection,
            asked,
            reply_to: ReplyTo {
                request_id: request_id.map(Box::from),
                read_ns: self.context.stamp_ns,
            },
        }
    }

    /// Answers a command that had to wait.
    pub(in crate::shard) fn answer_command(
        &mut self,
        command: &Command,
        answer: Result<(), ErrorCode>,
    ) {
        let Command {
            connection,
            asked,
            reply_to,
        } = command;
        self.awaited_reply(*connection, *asked, reply_to.id());
        match answer {
            Ok(()) => self.ack(*connection, reply_to),
            Err(code) => {
                let reply_to = (reply_to.id(), reply_to.read_ns);
                self.error(*connection, reply_to, code, None);
            }
        }
    }

    /// When the time of a question is over next, on the clock.
    pub(in crate::shard) fn next_question_ms(&self) -> Option<u64> {
        let end_ms = self.questions.next_end_ms()?;
        Some(end_ms.saturating_add(self.forgiven_ms))
    }

    /// Ends questions whose time is over, as many as a turn may.
    pub(in crate::shard) fn end_overdue_questions(&mut self) {
        for _ in 0..ENDS_PER_TURN_MAX {
            let Some(question) = self.questions.take_overdue(self.peer_ms()) else {
                return;
            };
            self.end_unanswered(question);
        }
    }

    /// Another shard is gone.
    pub(in crate::shard) fn lost(&mut self, shard: ShardId) {
        self.context.links.lose(shard);
        self.resume_after_links();
        for question in self.questions.take_lost(shard) {
            self.end_unanswered(question);
        }
    }

    /// Whoever waits for an answer that will not come is told so.
    fn end_unanswered(&mut self, question: Question) {
        match question {
            Question::Publish(command) => {
                self.answer_command(&command, Err(ErrorCode::BackendError));
            }
            Question::Rest(waiting) => self.answer_waiting(&waiting, &RestValue::Unanswered),
        }
    }
}
