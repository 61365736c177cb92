//! The connections of one shard: protocol state, but no socket.
//!
//! The runtime numbers connections when it accepts them and keeps the sockets under the same
//! numbers; a generation tells an ended connection from the next user of its slot.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::domain::peer::SharedPeer;
use crate::domain::rights::Key;
use crate::domain::timer_wheel::TimerWheel;
use crate::domain::token_bucket::{BucketLimits, TokenBucket};
use crate::ids::ConnectionId;
use crate::metrics::label::{EndedBy, Route};
use crate::proto::http::body::BodyDecoder;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::message::{Decoder, Server};
use crate::shard::config::ShardLimits;
use crate::shard::connection::input_buffer::InputBuffer;
use crate::shard::connection::joining::Joining;
use crate::shard::connection::permissions::{Grant, Permissions};
use crate::shard::connection::progress::{Blocked, NEVER_MS, Stalled};
use crate::shard::connection::refusal::Refusal;
use crate::shard::effect::{ChannelSlot, Urgency};
use crate::shard::outbound::outbox::{Finish, Outbox};

/// One connection, from accept to the end of its socket.
#[derive(Debug)]
pub struct Connection {
    /// Its number.
    pub id: ConnectionId,
    /// The client's address (the proxy's word, if that proxy is trusted).
    pub remote: IpAddr,
    /// Bytes that could not be used yet: an incomplete head, body or frame, or everything that
    /// came while input is held back.
    pub input: InputBuffer,
    /// The peer has sent a close frame, which is answered with that code when what it asked for
    /// before has been.
    pub leaves_with: Option<CloseCode>,
    /// The peer has ended its side of the stream; that is dealt with when what came before it
    /// has been.
    pub stream_ended: bool,
    /// What waits to be written.
    pub outbox: Outbox,
    /// Where in its life it is.
    pub phase: Phase,
    /// When bytes last came, or were waited for again: as the peer's deadlines count, see
    /// `shard/connection/deadlines.rs`.
    pub received_ms: u64,
    /// Answers that other shards have been asked for, by what they will weigh in bytes.
    pub awaited_bytes: u32,
    /// How many of them are to messages: the end of the connection waits for these.
    pub awaited_messages: u32,
    /// Whether it has been asked for a sign of life since then.
    pub ping: Ping,
    /// How it takes what its socket has no room for.
    pub blocked: Blocked,
    /// Since when its peer has been awaited.
    pub awaited: Awaited,
    /// Whether it has shown a credential that was found good.
    pub has_shown_credential: bool,
    /// The earliest timer entry that still means this connection; later ones are stale.
    pub timer_ms: u64,
    /// Why its input is held back, if it is.
    pub held: Held,
    /// Whether the runtime has been told that the outbox wants to be written, and how soon.
    pub dirty: Option<Urgency>,
    /// The channel from whose fan-out buffer the socket is written next, while the outbox is
    /// empty.
    pub borrows: Option<ChannelSlot>,
    /// While it borrows: how many bytes it was lent.
    pub lent_bytes: u32,
    /// How it ends, as far as that is known.
    pub ended_by: EndedBy,
}

/// A ping that the server asks for a sign of life with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ping {
    /// None since bytes last came.
    #[default]
    None,
    /// It waits to be written.
    Queued,
    /// It has been written.
    Written {
        /// When.
        at_ms: u64,
    },
}

/// Whose turn it is, on a connection that has not shown a credential yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The peer's, since then, as its deadlines count.
    Since(u64),
    /// The server's, to go on with a handshake; the peer has that many milliseconds left.
    NotNow(u64),
}

/// Where in its life a connection is.
#[derive(Debug)]
pub enum Phase {
    /// HTTP: a request is awaited, being read, or being answered.
    Http(Http),
    /// Upgraded; the peer's owner is being told, `welcome` follows when it knows.
    Registering(Box<Session>),
    /// WebSocket, authenticated.
    Open(Box<Session>),
    /// A close frame was sent; the peer's is awaited until the deadline.
    Closing {
        /// Looks for the peer's close frame.
        decoder: Decoder<Server>,
        /// When to stop waiting, once the close frame has been written.
        until_ms: u64,
    },
    /// Nothing more is read but the end of the stream, until the deadline.
    Lingering {
        /// When to stop waiting, once everything has been written.
        until_ms: u64,
    },
}

/// A connection before (or without) an upgrade.
#[derive(Debug)]
pub struct Http {
    /// How many bytes of the input are known not to hold the end of the head.
    pub scanned: u32,
    /// When the head or body must be complete, or the idle connection is closed; never while
    /// an answer is awaited or has not been written.
    pub deadline_ms: u64,
    /// Whether a request has been answered on this connection.
    pub reused: bool,
    /// The request whose body is being read.
    pub body: Option<Box<PartialRequest>>,
    /// When the connection was accepted, or the first bytes of a later request came, or its
    /// head was complete: in nanoseconds on the monotonic clock.
    pub began_ns: u64,
    /// What is asked for, once that is known and it is no upgrade.
    pub route: Option<Route>,
}

/// A request whose body is still being read.
#[derive(Debug)]
pub struct PartialRequest {
    /// The head as it was sent, then as much of the body's content as has come.
    pub bytes: Vec<u8>,
    /// Where the content begins.
    pub head_bytes: usize,
    /// Finds the end of the body.
    pub decoder: BodyDecoder,
    /// Whether the head was found good; content of a refused request is not kept.
    pub(in crate::shard) verdict: Result<(), Refusal>,
}

impl Http {
    /// A connection that awaits a request until the deadline: its first, or another.
    #[must_use]
    pub fn awaiting_request(deadline_ms: u64, began_ns: u64, reused: bool) -> Self {
        Self {
            scanned: 0,
            deadline_ms,
            reused,
            body: None,
            began_ns,
            route: None,
        }
    }

    /// Whether no byte of a request has come since the last one was answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.scanned == 0 && self.body.is_none()
    }
}

/// Why input is held back: it stays in `input` and the socket is not read.
///
/// Always true: `RESUMING` is there exactly while the connection is on the shard's list of those
/// whose input goes on at the end of the turn. Without it the socket would be read again before
/// what was held has been used, each time that another reason comes and goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held(u8);

impl Held {
    /// Answers wait for the peer to read them, or for other shards to give them.
    pub const REPLIES: Held = Held(1);
    /// A mesh link that it feeds is over its limit.
    pub const LINK: Held = Held(2);
    /// A request is being answered (HTTP), or the upgrade is.
    pub const REQUEST: Held = Held(4);
    /// A repeated `subscribe` waits for the snapshot of the one before it.
    pub const JOINS: Held = Held(8);
    /// The peer has said that it ends, and not all of its messages have been answered.
    pub const ANSWERS: Held = Held(16);
    /// All of these: for a connection that is closed, whose peer's answer must be read.
    pub const ALL: Held = Held(31 + 64);
    /// No other reason holds any more, and what was held has not been used yet.
    pub const RESUMING: Held = Held(32);

    /// What it published has not been offered to all members yet. One of [`ALL`](Self::ALL).
    pub const FAN_OUT: Held = Held(64);

    /// Adds a reason.
    pub fn add(&mut self, reason: Held) {
        self.0 |= reason.0;
    }

    /// Removes a reason.
    pub fn remove(&mut self, reason: Held) {
        self.0 &= !reason.0;
    }

    /// Whether that reason holds.
    #[must_use]
    pub fn has(self, reason: Held) -> bool {
        self.0 & reason.0 != 0
    }

    /// Whether any reason holds.
    #[must_use]
    pub fn any(self) -> bool {
        self.0 != 0
    }
}

/// An authenticated connection.
#[derive(Debug)]
pub struct Session {
    /// The key it came with or whose token it carried, with the key's present rights.
    pub key: Arc<Key>,
    /// Who it is for others.
    pub peer: SharedPeer,
    /// What its token says; `None` for a publishable key.
    pub grant: Option<Box<Grant>>,
    /// Frames into messages.
    pub decoder: Decoder<Server>,
    /// Its message rate.
    pub bucket: TokenBucket,
    /// The channels it is in.
    pub memberships: SmallVec<[Membership; 2]>,
    /// Joins under way, and what waits for them.
    pub joining: Option<Box<Joining>>,
    /// When the drain closes it.
    pub drain_ms: Option<u64>,
}

/// A channel that the connection is in.
#[derive(Clone, Copy, Debug)]
pub struct Membership {
    /// The channel.
    pub channel: ChannelSlot,
    /// Its place among the channel's members on this shard.
    pub index: u32,
}

impl Connection {
    /// What the socket should do when it has taken what it was offered.
    #[inline]
    pub(in crate::shard) fn finish(&self) -> Finish {
        match self.outbox.is_empty() && self.borrows.is_none() {
            true => self.outbox.finish_when_empty(),
            false => Finish::Open,
        }
    }

    /// The present request waits for other shards: no deadline counts until it is answered.
    pub(in crate::shard) fn await_answer(&mut self) {
        if let Phase::Http(http) = &mut self.phase {
            http.deadline_ms = NEVER_MS;
        }
    }

    /// A member took another's place in a channel's array.
    pub(in crate::shard) fn move_membership(&mut self, channel: ChannelSlot, index: u32) {
        if let Phase::Open(session) = &mut self.phase
            && let Some(membership) = session
                .memberships
                .iter_mut()
                .find(|membership| membership.channel == channel)
        {
            membership.index = index;
        }
    }
}

impl Session {
    /// How many messages it may send: its app's limit, or the server's.
    #[inline]
    #[must_use]
    pub fn message_rate(&self, limits: &ShardLimits) -> BucketLimits {
        self.key.app.message_limits.unwrap_or(limits.message_rate)
    }

    /// What key and token together allow.
    #[inline]
    pub(in crate::shard) fn permissions(&self) -> Permissions<'_> {
        Permissions {
            key: &self.key,
            grant: self.grant.as_deref(),
        }
    }
}

/// The connections of one shard.
#[derive(Debug)]
pub struct Connections {
    slots: Vec<Option<Box<Connection>>>,
    count: usize,
    /// Slots of connections, from the first, whose timers were set for longer times than hold now.
    pub(in crate::shard) to_rearm: u32,
    pub(in crate::shard) timers: TimerWheel<ConnectionId>,
    /// Connections whose held input may go on.
    pub(in crate::shard) resumable: VecDeque<ConnectionId>,
    pub(in crate::shard) unauthenticated: Unauthenticated,
    /// See [`Shard::forgive`](crate::shard::state::Shard::forgive).
    pub(in crate::shard) forgiven_ms: u64,
    pub(in crate::shard) stalled: Stalled,
    /// See [`Shard::judge_until`](crate::shard::state::Shard::judge_until).
    pub(in crate::shard) heard_ms: u64,
}

impl Connections {
    /// No connections; the time is that of the monotonic clock, in milliseconds.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            slots: Vec::new(),
            count: 0,
            timers: TimerWheel::new(now_ms),
            to_rearm: 0,
            resumable: VecDeque::new(),
            unauthenticated: Unauthenticated::default(),
            forgiven_ms: 0,
            stalled: Stalled::default(),
            heard_ms: u64::MAX,
        }
    }

    /// Adds a connection under the runtime's number.
    pub fn insert(&mut self, connection: Connection) {
        let slot = connection.id.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        if self.slots[slot].replace(Box::new(connection)).is_none() {
            self.count += 1;
        }
    }

    /// Removes a connection.
    pub fn remove(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        self.get(id)?;
        self.count -= 1;
        self.slots.get_mut(id.slot as usize)?.take()
    }

    /// A connection, unless it has ended.
    #[inline]
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.slots
            .get(id.slot as usize)?
            .as_deref()
            .filter(|connection| connection.id == id)
    }

    /// A connection, unless it has ended.
    #[inline]
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.as_deref_mut().filter(|connection| connection.id == id)
    }

    /// The connection that uses a slot now.
    #[inline]
    pub fn at_slot_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The connection that uses a slot now.
    #[inline]
    #[must_use]
    pub fn at_slot(&self, slot: u32) -> Option<&Connection> {
        self.slots.get(slot as usize)?.as_deref()
    }

    /// The session of a connection, if it is open.
    #[inline]
    #[must_use]
    pub fn session(&self, id: ConnectionId) -> Option<&Session> {
        match &self.get(id)?.phase {
            Phase::Open(session) => Some(session),
            _ => None,
        }
    }

    /// The session of a connection, if it is open.
    #[inline]
    pub fn session_mut(&mut self, id: ConnectionId) -> Option<&mut Session> {
        match &mut self.get_mut(id)?.phase {
            Phase::Open(session) => Some(session),
            _ => None,
        }
    }

    /// All connections.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().flatten().map(|connection| &**connection)
    }

    /// How many slots there are, used or not: for walks that change what they find.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The connection that uses a slot now.
    #[must_use]
    pub fn id_at(&self, slot: u32) -> Option<ConnectionId> {
        let connection = self.slots.get(slot as usize)?.as_deref();
        connection.map(|connection| connection.id)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// See the top of this file.
#[derive(Debug, Default)]
pub(in crate::shard) struct Unauthenticated {
    /// How many there are.
    pub(in crate::shard) count: usize,
    /// They, the oldest first, among others that have ended or shown a credential since.
    pub(in crate::shard) oldest: VecDeque<ConnectionId>,
}
