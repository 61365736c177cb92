//! What a shard asks others, and how that ends: with their answer, when one of them is lost, or
//! when its time is over.

use std::sync::Arc;

use crate::domain::peer::SharedChannel;
use crate::domain::rights::Key;
use crate::ids::{ConnectionId, ShardId, Ticket};
use crate::proto::http::response::ResponseContext;
use crate::shard::mesh_message::{Kicked, Send};

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
    pub command: PendingCommand,
    /// Into which channel.
    pub channel: SharedChannel,
    /// It is a member already, and only the snapshot is asked for.
    pub is_again: bool,
}

/// A command that is answered when others have answered.
#[derive(Debug)]
pub(in crate::shard) struct PendingCommand {
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

/// A kick on the shard that owns the peer.
#[derive(Debug)]
pub(in crate::shard) struct KickAtOwner {
    /// The request that asked, on its home shard.
    pub(in crate::shard) request: (ShardId, Ticket),
    pub(in crate::shard) closed: u64,
}

/// A kick on a shard that had connections of the peer, while channel owners are being told.
#[derive(Debug)]
pub(in crate::shard) struct KickAtHome {
    pub(in crate::shard) peer_owner: ShardId,
    pub(in crate::shard) kicked: Kicked,
}

/// What an answer is awaited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Asked {
    /// A publication or a direct message. Whoever ends has this answered first.
    Message,
    /// To join a channel or to leave it: of no use to whoever ends, and in a large channel the
    /// answer takes as long as the changes in it are kept together.
    Membership,
}
