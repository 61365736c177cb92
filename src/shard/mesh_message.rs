//! Everything that may cross from one shard to another.
//!
//! Payloads are behind one pointer: a message has three words at most, and a turn's batch of them
//! moves cheaply. Frames and names are shared, never copied. Links are FIFO: what one shard sends
//! to another arrives in that order. The roles in the names below: *home* is the shard that holds
//! a connection, *owner* the one that the hash of a channel or peer chooses.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::domain::app_id::AppTag;
use crate::domain::channel::Channel;
use crate::domain::history_page::{Forgotten, Page};
use crate::domain::peer::{SharedChannel, SharedPeer};
use crate::domain::roster::Interest;
use crate::ids::{ConnectionId, ConnectionRef, Seat, Ticket};
use crate::proto::wire::position::{Position, Since};
use crate::shard::frame::Frame;
use crate::shard::history::replay::Resumed;
use crate::shard::outbound::snapshot::Snapshot;

/// What one shard tells another.
#[derive(Debug)]
pub enum MeshMessage {
    /// Home to channel owner.
    Join(Box<Join>),
    /// Home to channel owner.
    Leave(Box<Leave>),
    /// Home to channel owner.
    Publish(Box<Publish>),
    /// Channel owner to home: a join is complete.
    Joined(Box<Joined>),
    /// Channel owner to home: a connection is out, at its own request.
    Left(Box<Left>),
    /// Channel owner to the publisher's home: a publication is in the channel's order.
    Published(Published),
    /// The same, with its position.
    Placed(Box<Placed>),
    /// Channel owner to the publisher's home: a publication is in the channel's order, but cannot
    /// be stored as it was to be.
    Unstored {
        /// From `Publish`.
        waiter: Ticket,
    },
    /// Channel owner to each home with members.
    Deliver(Box<Deliver>),
    /// Channel owner to each home with members that want presence.
    Announce(Box<Announce>),
    /// Home to channel owner: an announcement is in the outboxes.
    Announced(Box<Announced>),
    /// Home to peer owner: a connection of this peer exists.
    Register(Box<Register>),
    /// Peer owner to home: direct messages reach the connection from now on. The ticket is that
    /// of `Register`.
    Registered {
        /// The question that this answers.
        ticket: Ticket,
    },
    /// Home to peer owner: the connection is gone.
    Unregister(Box<Unregister>),
    /// Home to peer owner.
    Send(Box<Send>),
    /// Peer owner to each home where the peer has connections.
    Direct(Box<Direct>),
    /// Home or peer owner to the sender's home: what became of a part of a `send`.
    DirectResult(DirectResult),
    /// Sender's home to channel owner: is the receiver in one of the sender's channels?
    Scope(Box<Scope>),
    /// The answer to `Scope`.
    ScopeResult(ScopeResult),
    /// Home of a REST request to channel owner: who is there?
    ListPeers(Box<ListPeers>),
    /// Home of a REST request to channel owner: what was published?
    HistoryPage(Box<HistoryPage>),
    /// Home of a REST request to channel owner: forget what was published.
    ForgetHistory(Box<ForgetHistory>),
    /// Home of a REST request to peer owner: close all connections of a peer.
    Kick(Box<Kick>),
    /// Peer owner to each home where the peer has connections: close these.
    KickHere(Box<KickHere>),
    /// The answer to `KickHere`, once every owner knows that the connections are gone.
    Kicked(Kicked),
    /// To be answered with `Reached`: all that was sent on this link before has been handled.
    Reach {
        /// To be named in the answer.
        ticket: Ticket,
    },
    /// The answer to `Reach`, with its ticket.
    Reached {
        /// The question that this answers.
        ticket: Ticket,
    },
    /// Owner to the home of a REST request: what was awaited.
    RestResult(Box<RestResult>),
    /// Home to channel owner: how many members there take what is published too slowly.
    Lag(Box<Lag>),
    /// Channel owner to every shard: hold back who publishes to it, or no longer.
    Hold(Box<Hold>),
    /// The sender's outgoing links are over their limit, or no longer: hold back what feeds it.
    Throttle {
        /// Whether to hold back, from now on.
        throttled: bool,
    },
}

const _: () = assert!(
    size_of::<MeshMessage>() <= 24,
    "a mesh message stays within three words"
);

impl MeshMessage {
    /// About how many bytes the message keeps alive: what a link's backlog is bounded by. A
    /// frame that several messages share counts for each of them.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// Room of a message's own: its box and the names in it.
        const OWN_BYTES: usize = 128;
        let frame = match self {
            Self::Publish(publish) => publish.frame.len(),
            Self::Deliver(deliver) => {
                deliver.plain.len() + deliver.with_metadata.as_ref().map_or(0, |it| it.len())
            }
            Self::Announce(announce) => announce.frames.len(),
            Self::Joined(joined) => joined.bytes(),
            Self::Send(send) => send.frame.len(),
            Self::Direct(direct) => direct.frame.len(),
            Self::RestResult(result) => match &result.value {
                RestValue::Peers(body) | RestValue::History(Some(body)) => body.len(),
                _ => 0,
            },
            _ => 0,
        };
        OWN_BYTES + frame
    }
}

/// A connection subscribes.
#[derive(Debug)]
pub struct Join {
    /// The channel.
    pub channel: SharedChannel,
    /// The subscriber.
    pub connection: ConnectionRef,
    /// Its peer.
    pub peer: SharedPeer,
    /// What it wants.
    pub interest: Interest,
    /// What it wants of the publications before.
    pub since: Option<Since>,
    /// To be given back in `Joined`.
    pub ticket: Ticket,
}

/// A connection unsubscribes, or ended while it was subscribed.
#[derive(Debug)]
pub struct Leave {
    /// The channel.
    pub channel: SharedChannel,
    /// The subscriber.
    pub connection: ConnectionRef,
    /// Its peer.
    pub peer: SharedPeer,
    /// Why it leaves.
    pub cause: LeaveCause,
}

/// Why a connection leaves a channel.
#[derive(Debug)]
pub enum LeaveCause {
    /// It asked: it is answered with `Left`, which gives the ticket back.
    Request(Ticket),
    /// It ended.
    Ended,
    /// The drain has closed it: nobody is told that its peer left.
    Drained,
}

/// A publication on its way to the channel's owner.
#[derive(Debug)]
pub struct Publish {
    /// The channel.
    pub channel: SharedChannel,
    /// The `message` frame without `fromMetadata`.
    pub frame: Frame,
    /// Who published.
    pub from: Publisher,
    /// By what its sender tells it from others.
    pub id: Option<Box<str>>,
    /// To be given back in `Published` or `Placed`, if somebody waits for that.
    pub waiter: Option<Ticket>,
    /// Whether the waiter is told the position.
    pub wants_position: bool,
    /// When it was read, in nanoseconds on the monotonic clock.
    pub read_ns: u64,
}

/// A join is complete: the connection is a member from here on in the link's order.
#[derive(Debug)]
pub struct Joined {
    /// The channel.
    pub channel: SharedChannel,
    /// The subscriber, on the receiving shard.
    pub connection: ConnectionId,
    /// What it wants.
    pub interest: Interest,
    /// From `Join`.
    pub ticket: Ticket,
    /// The roster, for connections with the `presence` action.
    pub snapshot: Option<Snapshot>,
    /// How it goes on from what it has, if it has asked that.
    pub resumed: Option<Box<Resumed>>,
}

impl Joined {
    /// Bytes of frames that it keeps alive.
    pub(in crate::shard) fn bytes(&self) -> usize {
        let snapshot = self.snapshot.as_ref().map_or(0, Snapshot::bytes);
        snapshot + self.resumed.as_ref().map_or(0, |it| it.replay.bytes())
    }
}

/// A leave that a connection asked for is complete.
#[derive(Debug)]
pub struct Left {
    /// The channel.
    pub channel: SharedChannel,
    /// The connection, on the receiving shard.
    pub connection: ConnectionId,
    /// From `Leave`.
    pub ticket: Ticket,
}

/// A publication has its place.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// From `Publish`.
    pub waiter: Ticket,
    /// How many members the channel has.
    pub delivered: u64,
}

/// What has become of a publication at the channel's owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequenced {
    /// How many members the channel has.
    pub delivered: u64,
    /// Its position; `None` where the channel has no history.
    pub position: Option<Position>,
    /// It was published before, at that position, and was not published again.
    pub is_duplicate: bool,
    /// Whoever waits for it is told when it is stored, or that it cannot be.
    pub awaits_store: bool,
}

impl Sequenced {
    /// It was published before.
    pub(in crate::shard) fn again(position: Position, awaits_store: bool) -> Self {
        Self {
            delivered: 0,
            position: Some(position),
            is_duplicate: true,
            awaits_store,
        }
    }

    /// It is in the order of a channel with that many members, and its position is not told.
    pub(in crate::shard) fn delivered(delivered: u64) -> Self {
        Self {
            delivered,
            ..Self::default()
        }
    }
}

/// A publication has its place, and somebody wants to know which.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// From `Publish`.
    pub waiter: Ticket,
    /// What has become of it.
    pub sequenced: Sequenced,
}

/// A publication for the members of one home shard.
#[derive(Debug)]
pub struct Deliver {
    /// The channel.
    pub channel: SharedChannel,
    /// The frame for everybody.
    pub plain: Frame,
    /// The frame for those who want `fromMetadata`, where it differs.
    pub with_metadata: Option<Frame>,
    /// A connection of the receiving shard that gets no copy.
    pub except: Option<ConnectionId>,
    /// When it was read, and when it got its place.
    pub times: PublishedAt,
}

/// Presence changes for the members of one home shard.
#[derive(Debug)]
pub struct Announce {
    /// The channel.
    pub channel: SharedChannel,
    /// One or more `presence` frames.
    pub frames: Frame,
    /// To be given back in `Announced`.
    pub token: u64,
}

/// See [`MeshMessage::Announced`].
#[derive(Debug)]
pub struct Announced {
    /// The channel.
    pub channel: SharedChannel,
    /// From `Announce`.
    pub token: u64,
}

/// See [`MeshMessage::Lag`]. With the default, the channel lags there no longer.
#[derive(Debug)]
pub struct Lag {
    /// The channel.
    pub channel: SharedChannel,
    /// Of its members there.
    pub lateness: Lateness,
}

/// Why a channel lags on one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// How many members are late, although they take what they can.
    pub late: u32,
    /// How many are late and take nothing.
    pub stuck: u32,
    /// Much is held for a member that waits for its snapshot.
    pub full_join: bool,
}

impl Lateness {
    /// Whether publishers may have to wait for it.
    #[must_use]
    pub(in crate::shard) fn is_reason(self) -> bool {
        self.late > 0 || self.full_join
    }
}

/// See [`MeshMessage::Hold`].
#[derive(Debug)]
pub struct Hold {
    /// The channel.
    pub channel: SharedChannel,
    /// Whether its publishers are held back.
    pub is_held: bool,
}

/// A connection of a peer.
#[derive(Debug)]
pub struct Register {
    /// The peer's app.
    pub app: AppTag,
    /// The peer.
    pub peer: SharedPeer,
    /// The connection.
    pub connection: ConnectionRef,
    /// To be given back in `Registered`.
    pub ticket: Ticket,
}

/// A connection of a peer is gone.
#[derive(Debug)]
pub struct Unregister {
    /// The peer's app.
    pub app: AppTag,
    /// The peer.
    pub peer: SharedPeer,
    /// The connection.
    pub connection: ConnectionRef,
}

/// A direct message on its way to the peer's owner.
#[derive(Debug)]
pub struct Send {
    /// The app.
    pub app: AppTag,
    /// The peer it is for.
    pub to: Box<str>,
    /// The `direct` frame.
    pub frame: Frame,
    /// The sending connection: gets no copy, and hears the result.
    pub sender: ConnectionRef,
    /// Names the `send` on the sender's home shard.
    pub send: Ticket,
    /// When it was read, in nanoseconds on the monotonic clock.
    pub read_ns: u64,
}

/// A direct message for some connections of one home shard.
#[derive(Debug)]
pub struct Direct {
    /// The connections.
    pub connections: SmallVec<[ConnectionId; 1]>,
    /// The `direct` frame.
    pub frame: Frame,
    /// Whose `send` it is.
    pub sender: ConnectionRef,
    /// Names the `send` on the sender's home shard.
    pub send: Ticket,
    /// See [`DirectResult::homes`].
    pub homes: Option<Arc<Homes>>,
    /// When it was read, in nanoseconds on the monotonic clock.
    pub read_ns: u64,
}

/// The seats at which a peer has connections.
pub type Homes = SmallVec<[Seat; 8]>;

/// What became of one part of a `send`.
#[derive(Clone, Debug)]
pub struct DirectResult {
    /// Names the `send` on the receiving shard.
    pub send: Ticket,
    /// All seats that send such a result; `None` if this is the only one.
    pub homes: Option<Arc<Homes>>,
    /// Whether it was put into at least one connection's outbox.
    pub delivered: bool,
}

/// Asks the owner of some channels whether a peer is in one of them.
#[derive(Debug)]
pub struct Scope {
    /// The sender of the direct message: the answer goes to its home, and it does not count
    /// itself, should it be of the same peer.
    pub sender: ConnectionRef,
    /// Names the message there.
    pub send: Ticket,
    /// The peer.
    pub to: Box<str>,
    /// Those of the sender's channels that the receiving shard owns.
    pub channels: Vec<SharedChannel>,
}

/// See [`MeshMessage::ScopeResult`].
#[derive(Clone, Copy, Debug)]
pub struct ScopeResult {
    /// From `Scope`.
    pub send: Ticket,
    /// Whether there is a common channel.
    pub shared: bool,
}

/// Asks for the peers of a channel.
#[derive(Debug)]
pub struct ListPeers {
    /// The channel.
    pub channel: SharedChannel,
    /// Which of them.
    pub page: PeersPage,
    /// The request that asks.
    pub request: Ticket,
}

/// A part of a channel's peers, in the order of their ids.
#[derive(Debug)]
pub struct PeersPage {
    /// At most as many.
    pub limit: usize,
    /// Only those after this id.
    pub after: Option<Box<str>>,
}

/// Asks for a page of a channel's history.
#[derive(Debug)]
pub struct HistoryPage {
    /// The channel.
    pub channel: SharedChannel,
    /// Which part of it.
    pub page: Page,
    /// The request that asks.
    pub request: Ticket,
}

/// Asks to forget a channel's history.
#[derive(Debug)]
pub struct ForgetHistory {
    /// The channel.
    pub channel: SharedChannel,
    /// The request that asks.
    pub request: Ticket,
}

/// Asks for the end of all connections of a peer.
#[derive(Debug)]
pub struct Kick {
    /// The app.
    pub app: AppTag,
    /// The peer.
    pub peer: Box<str>,
    /// The request that asks.
    pub request: Ticket,
}

/// Asks a home shard to close connections of a peer.
#[derive(Debug)]
pub struct KickHere {
    /// Names the kick at the sender, the peer's owner.
    pub kick: Ticket,
    /// Connections on the receiving shard.
    pub connections: SmallVec<[ConnectionId; 1]>,
}

/// See [`MeshMessage::Kicked`].
#[derive(Clone, Copy, Debug)]
pub struct Kicked {
    /// From `KickHere`.
    pub kick: Ticket,
    /// How many connections were closed; `None` if an owner of their channels did not answer.
    pub closed: Option<u32>,
}

/// What a REST request was waiting for.
#[derive(Debug)]
pub struct RestResult {
    /// The request, on the receiving shard.
    pub request: Ticket,
    /// What it waited for.
    pub value: RestValue,
}

/// See [`RestResult`].
#[derive(Debug)]
pub enum RestValue {
    /// What has become of a publication.
    Published(Sequenced),
    /// The whole body of an answer with peers.
    Peers(Frame),
    /// The whole body of an answer with publications; `None` where what was asked for is not kept
    /// any more.
    History(Option<Frame>),
    /// What was forgotten of a channel.
    Forgotten(Forgotten),
    /// How many connections of a peer were closed.
    Kicked(u64),
    /// Nothing: somebody who was to be asked did not answer.
    Unanswered,
}

/// Who has made a publication.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// What subscribers see.
    pub peer: SharedPeer,
    /// The connection that published and gets no copy; `None` for a backend.
    pub connection: Option<ConnectionRef>,
}

impl Publisher {
    /// The publishing connection, if it is at that seat.
    pub(in crate::shard) fn connection_at(&self, seat: Seat) -> Option<ConnectionId> {
        let connection = self.connection.filter(|it| it.home == seat)?;
        Some(connection.connection)
    }

    /// Whether others in the channel have not been told yet that the publishing peer came or left.
    /// A backend is in no channel, whatever it calls itself.
    pub(in crate::shard) fn is_withheld(&self, channel: &Channel) -> bool {
        self.connection.is_some() && channel.withholds(self.peer.id.as_str())
    }
}

/// A publication on its way to members of this shard. Times in nanoseconds on the monotonic
/// clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishedAt {
    /// When it was read from its publisher.
    pub read_ns: u64,
    /// When it got its place in the channel's order.
    pub ordered_ns: u64,
}
