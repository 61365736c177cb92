//! What a shard asks others, and how that ends: with their answer, when one of them is lost, or
//! when its time is over.

use crate::domain::peer::SharedChannel;
use crate::ids::{ConnectionId, ShardId, Ticket};
use crate::proto::wire::error::ErrorCode;
use crate::proto::ws::close::CloseCode;
use crate::shard::bounds::Asked;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::connection::connections::Phase;
use crate::shard::context::Context;
use crate::shard::mesh_message::RestValue;
use crate::shard::peer::direct::PendingSend;
use crate::shard::rest::Waiting;
use crate::shard::rest::kick::{KickAtHome, KickAtOwner};
use crate::shard::state::Shard;

/// How long others may take to answer, in milliseconds of the peers' clock: far more than any
/// answer takes, and less than clients wait.
const ANSWER_MS_MAX: u64 = 30_000;
/// Questions that end in one turn because their time is over.
const ENDS_PER_TURN_MAX: usize = 256;

/// A question that others have been asked, and what is needed to go on with their answer.
#[derive(Debug)]
pub(in crate::shard) enum Question {
    /// The owner of a peer: to register a connection of it.
    Register(PendingRegister),
    /// The owner of a channel: to make a member of a connection.
    Join(PendingJoin),
    /// The owner of a channel: to take a connection out.
    Leave(Command),
    /// The owner of a channel: the place of a publication in its order.
    Publish(Command),
    /// Owners of channels for the scope, then the owner of a peer, then that peer's homes: to
    /// deliver a direct message.
    Send(PendingSend),
    /// The owner of a channel or peer: what a REST request asks for.
    Rest(Waiting),
    /// The homes of a peer: to close its connections.
    Kick(KickAtOwner),
    /// Owners of channels: whether they know that kicked connections are gone.
    Reach(KickAtHome),
}

/// A connection that is being registered.
#[derive(Debug)]
pub(in crate::shard) struct PendingRegister {
    /// Which.
    pub connection: ConnectionId,
    /// When its handshake began, in nanoseconds on the monotonic clock.
    pub began_ns: u64,
}

/// A connection that is joining a channel.
#[derive(Debug)]
pub(in crate::shard) struct PendingJoin {
    /// What is to be answered.
    pub command: Command,
    /// Into which channel.
    pub channel: SharedChannel,
    /// It is a member already, and only the snapshot is asked for.
    pub is_again: bool,
}

/// A command that is answered when others have answered.
#[derive(Debug)]
pub(in crate::shard) struct Command {
    /// Whose.
    pub connection: ConnectionId,
    /// What it asks for.
    pub asked: Asked,
    /// What the answer needs of it.
    pub reply_to: ReplyTo,
}

/// What the answer to a command needs of it.
#[derive(Debug)]
pub(in crate::shard) struct ReplyTo {
    /// The raw JSON string of its `requestId`, to be echoed. Without one there is no `ack`.
    pub request_id: Option<Box<str>>,
    /// When it was read, in nanoseconds on the monotonic clock.
    pub read_ns: u64,
}

impl ReplyTo {
    /// Its `requestId`.
    pub(in crate::shard) fn id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
}

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
        for (ticket, question) in self.context.questions.take_lost(shard) {
            self.end_unanswered(ticket, question);
        }
        self.channels
            .lose_home(shard, &mut self.connections, &mut self.context);
    }

    /// Whoever waits for an answer that will not come is told so.
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
            Question::Kick(kick) => self.context.kick_unanswered(&kick),
            Question::Reach(kick) => self.context.reach_unanswered(&kick),
        }
    }
}

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
    ) -> Command {
        self.await_reply(connection, asked, request_id);
        Command {
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
        command: &Command,
        answer: Result<(), ErrorCode>,
        context: &mut Context,
    ) {
        let Command {
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
            let reason = "the peer could not be registered in time";
            self.close(id, CloseCode::TRY_AGAIN_LATER, reason, connections, context);
        }
    }
}
