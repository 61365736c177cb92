//! What a shard asks others, and how that ends: with their answer, when one of them is lost, or
//! when its time is over.

use std::sync::Arc;

use crate::domain::peer::SharedChannel;
use crate::domain::rights::Key;
use crate::ids::{ConnectionId, Seat, Ticket};
use crate::proto::http::response::ResponseContext;
use crate::shard::mesh_message::{Kicked, Send};
use crate::shard::query::KickQuery;

/// A question that others have been asked, and what is needed to go on with their answer.
#[derive(Debug)]
pub(in crate::shard) enum Question {
    /// The owner of a peer: to register a connection of it.
    Register(PendingRegister),
    /// The owner of a channel: to make a member of a connection.
    Join(PendingJoin),
    /// The owner of a channel: to take a connection out.
    Leave(PendingCommand),
    /// The owner of a channel: the place of a publication in its order.
    Publish(PendingCommand),
    /// Owners of channels for the scope, then the owner of a peer, then that peer's homes: to
    /// deliver a direct message.
    Send(PendingSend),
    /// The owner of a channel or peer: what a REST request asks for.
    Rest(Box<WaitingRequest>),
    /// The owner of a peer: to close its connections, for an operator.
    AskedKick(Box<AskedKick>),
    /// The owner of a channel: about what it keeps, for an operator; the number of what was asked.
    AskedHistory(u64),
    /// The homes of a peer: to close its connections.
    Kick(KickAtOwner),
    /// Owners of channels: whether they know that kicked connections are gone.
    Reach(KickAtHome),
}

/// A connection that is being registered.
#[derive(Debug)]
pub(in crate::shard) struct PendingRegister {
    pub connection: ConnectionId,
    /// When its handshake began, in nanoseconds on the monotonic clock.
    pub began_ns: u64,
}

/// A connection that is joining a channel.
#[derive(Debug)]
pub(in crate::shard) struct PendingJoin {
    /// What is to be answered.
    pub command: PendingCommand,
    pub channel: SharedChannel,
    /// The connection is a member already: only the snapshot is asked for.
    pub is_again: bool,
}

/// A command that is answered when others have answered.
#[derive(Debug)]
pub(in crate::shard) struct PendingCommand {
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

/// A request of the holder of a key, on its connection.
#[derive(Clone, Debug)]
pub(in crate::shard) struct Caller {
    pub(in crate::shard) connection: ConnectionId,
    pub(in crate::shard) response_context: ResponseContext<'static>,
    pub(in crate::shard) key: Arc<Key>,
}

/// A request whose answer is awaited from an owner.
#[derive(Debug)]
pub(in crate::shard) struct WaitingRequest {
    pub(in crate::shard) caller: Caller,
    pub(in crate::shard) answer: PendingAnswer,
}

/// What will be answered, and what of it is known while it waits.
#[derive(Debug)]
pub(in crate::shard) enum PendingAnswer {
    /// How many members of the channel a publication reached.
    Published { channel: Box<str> },
    /// A page of the peers of a channel.
    Peers,
    /// A page of what a channel keeps.
    History,
    /// How many publications of the channel were forgotten.
    Forgotten { channel: Box<str> },
    /// How many connections of the peer were closed.
    Kicked { peer_id: Box<str> },
}

/// A `send` whose results are awaited, on the sender's home shard.
#[derive(Debug)]
pub(in crate::shard) struct PendingSend {
    /// What is to be answered.
    pub command: PendingCommand,
    /// The message, while its scope is asked for.
    pub scoped: Option<Box<Scoped>>,
    /// Whether the receiver's owner has handed it to the receiver's homes, and these have to
    /// answer.
    pub has_left_owner: bool,
}

/// A `send` on the sender's home shard whose scope is being asked for, or that waits for an
/// earlier one of the same sender.
#[derive(Debug)]
pub(in crate::shard) struct Scoped {
    pub(in crate::shard) send: Send,
    /// Whether a common channel has been found.
    pub(in crate::shard) shared: bool,
}

/// A kick that an operator waits for.
#[derive(Debug)]
pub(in crate::shard) struct AskedKick {
    /// The number of what was asked.
    pub(in crate::shard) number: u64,
    pub(in crate::shard) kick: KickQuery,
}

/// A kick on the shard that owns the peer.
#[derive(Debug)]
pub(in crate::shard) struct KickAtOwner {
    /// The request that asked, and where it is at home.
    pub(in crate::shard) request: (Seat, Ticket),
    pub(in crate::shard) closed: u64,
}

/// A kick on a shard that had connections of the peer, while channel owners are being told.
#[derive(Debug)]
pub(in crate::shard) struct KickAtHome {
    pub(in crate::shard) peer_owner: Seat,
    pub(in crate::shard) kicked: Kicked,
}

/// What an answer is awaited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Asked {
    /// A publication or a direct message. A peer that ends has it answered first.
    Message,
    /// To join a channel or to leave it. A peer that ends has no use for the answer, which in a
    /// large channel takes as long as the changes in it are kept together.
    Membership,
}
