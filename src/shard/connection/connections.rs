//! The connections of one shard: protocol state, but no socket.
//!
//! The runtime numbers connections when it accepts them and keeps the sockets under the same
//! numbers; a generation tells an ended connection from the next user of its slot.
//!
//! A connection is taken out when its socket has been closed, by
//! [`Input::Closed`](crate::shard::input::Input::Closed) and by nothing else. So what one step of
//! an input has found is still there for all steps that follow: they index (`connections[id]`).
//! A number that has waited in a list, in a question to another shard or with the driver may name
//! a connection that is gone: it is looked up with [`Connections::get`], and whoever does so says
//! what follows if there is none.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::ops::{Index, IndexMut};
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
use crate::shard::connection::ending::{Account, Ending, Failed};
use crate::shard::connection::input_buffer::InputBuffer;
use crate::shard::connection::joining::Joining;
use crate::shard::connection::permissions::{Grant, Permissions};
use crate::shard::connection::progress::{Blocked, NEVER_MS, Stalled};
use crate::shard::connection::refusal::Refusal;
use crate::shard::effect::{ChannelSlot, Urgency};
use crate::shard::outbound::outbox::{Finish, Outbox};

/// One connection, from accept to the end of its socket.
#[derive(Debug)]
pub(in crate::shard) struct Connection {
    /// Its number.
    pub id: ConnectionId,
    /// The client's address (the proxy's word, if that proxy is trusted).
    pub remote: IpAddr,
    /// Bytes that could not be used yet: an incomplete head, body or frame, or everything that
    /// came while input is held back.
    pub input: InputBuffer,
    /// The peer has sent a close frame. It is answered with this code when all that it asked for
    /// before has been answered.
    pub leaves_with: Option<CloseCode>,
    /// The peer has ended its side of the stream. That is dealt with when all that came before it
    /// has been.
    pub stream_ended: bool,
    /// Nothing that is sent to the peer arrives any more.
    pub is_unreachable: bool,
    /// What waits to be written.
    pub outbox: Outbox,
    /// Where in its life it is.
    pub phase: Phase,
    /// When bytes last came, or were waited for again: as the peer's deadlines count, see
    /// `shard/connection/deadlines.rs`.
    pub received_ms: u64,
    /// How many bytes the answers that other shards have been asked for will have.
    pub awaited_bytes: u32,
    /// How many of them are to messages: the end of the connection waits for these.
    pub awaited_messages: u32,
    /// Whether its peer has been pinged since bytes last came.
    pub ping: Ping,
    /// How its peer takes what the socket had no room for.
    pub blocked: Blocked,
    /// Since when its peer has been awaited.
    pub awaited: Awaited,
    /// Whether its peer has shown a good credential.
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
    /// Why its input was held back when that ended last.
    pub held_for: Held,
    /// What its socket has failed with.
    pub failed: Failed,
    /// What it has done.
    pub account: Account,
    /// Its session, when that has ended.
    pub ending: Option<Box<Ending>>,
}

/// Bytes of a connection, beside what it points to: 288 and 32 for what is told of it. Whoever
/// needs more measures what an idle connection takes (`bench --bin idle`) and says so here.
const CONNECTION_BYTES_MAX: usize = 320;
const _: () = assert!(size_of::<Connection>() <= CONNECTION_BYTES_MAX);

/// A ping of the server's, by which it asks for a sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) enum Ping {
    /// None since bytes last came.
    #[default]
    None,
    /// It waits to be written.
    Queued,
    /// It has been written.
    Written {
        /// When, as the peer's deadlines count.
        at_ms: u64,
    },
}

/// Whose turn it is, on a connection that has not shown a credential yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Awaited {
    /// The peer's turn, since then, as its deadlines count.
    Since(u64),
    /// The server's turn to go on with a handshake; the peer has that many milliseconds left.
    NotNow(u64),
}

/// Where in its life a connection is.
#[derive(Debug)]
pub(in crate::shard) enum Phase {
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
pub(in crate::shard) struct Http {
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
pub(in crate::shard) struct PartialRequest {
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
    pub(in crate::shard) fn awaiting_request(
        deadline_ms: u64,
        began_ns: u64,
        reused: bool,
    ) -> Self {
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
    pub(in crate::shard) fn is_idle(&self) -> bool {
        self.scanned == 0 && self.body.is_none()
    }
}

/// Why input is held back: it stays in `input` and the socket is not read.
///
/// Always true: `RESUMING` is there exactly while the connection is on the shard's list of those
/// whose input goes on at the end of the turn. Without it the socket would be read again before
/// what was held has been used, each time that another reason comes and goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Held(u8);

impl Held {
    /// Answers wait for the peer to read them, or for other shards to give them.
    pub(in crate::shard) const REPLIES: Held = Held(1);
    /// A mesh link that it feeds is over its limit.
    pub(in crate::shard) const LINK: Held = Held(2);
    /// A request is being answered (HTTP), or the upgrade is.
    pub(in crate::shard) const REQUEST: Held = Held(4);
    /// A repeated `subscribe` waits for the snapshot of the one before it.
    pub(in crate::shard) const JOINS: Held = Held(8);
    /// The peer has said that it ends, and not all of its messages have been answered.
    pub(in crate::shard) const ANSWERS: Held = Held(16);
    /// What it published has not been offered to all members yet.
    pub(in crate::shard) const FAN_OUT: Held = Held(32);
    /// All of these: for a connection that is closed, whose peer's answer must be read.
    pub(in crate::shard) const ALL: Held = Held(63 | 128);
    /// A `refresh` waits for the joins before it.
    pub(in crate::shard) const REFRESH: Held = Held(128);
    /// No other reason holds any more, and what was held has not been used yet.
    pub(in crate::shard) const RESUMING: Held = Held(64);

    /// Adds a reason.
    pub(in crate::shard) fn add(&mut self, reason: Held) {
        self.0 |= reason.0;
    }

    /// Removes a reason.
    pub(in crate::shard) fn remove(&mut self, reason: Held) {
        self.0 &= !reason.0;
    }

    /// Whether that reason holds.
    #[must_use]
    pub(in crate::shard) fn has(self, reason: Held) -> bool {
        self.0 & reason.0 != 0
    }

    /// Whether any reason holds.
    #[must_use]
    pub(in crate::shard) fn any(self) -> bool {
        self.0 != 0
    }
}

/// An authenticated connection.
#[derive(Debug)]
pub(in crate::shard) struct Session {
    /// The key it came with or whose token it carried, with the key's present rights.
    pub key: Arc<Key>,
    /// Who it is for others.
    pub peer: SharedPeer,
    /// What its token says; `None` for a publishable key.
    pub grant: Option<Box<Grant>>,
    /// Makes messages of its frames.
    pub decoder: Decoder<Server>,
    /// How many messages it may still send.
    pub bucket: TokenBucket,
    /// The channels it is in.
    pub memberships: SmallVec<[Membership; 2]>,
    /// Joins under way, and what waits for them.
    pub joining: Option<Box<Joining>>,
    /// When the drain closes it.
    pub drain_ms: Option<u64>,
    /// Whether it counts among the connections of its app.
    pub is_counted: bool,
    /// So many bytes more than the limit may wait for it: see `shard/connection/pardon.rs`.
    pub pardoned_bytes: u32,
}

/// A channel that the connection is in.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Membership {
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

    /// Its session, if it is open.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn session(&self) -> Option<&Session> {
        match &self.phase {
            Phase::Open(session) => Some(session),
            _ => None,
        }
    }

    /// Its session, if it is open.
    #[inline]
    pub(in crate::shard) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Open(session) => Some(session),
            _ => None,
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
        let memberships = self.session_mut().map(|session| &mut session.memberships);
        let mut memberships = memberships.into_iter().flatten();
        if let Some(membership) = memberships.find(|membership| membership.channel == channel) {
            membership.index = index;
        }
    }
}

impl Session {
    /// It counts no longer among the connections of its app.
    pub(in crate::shard) fn give_up_place(&mut self) {
        if std::mem::take(&mut self.is_counted) {
            self.key.app.gauges.disconnect();
        }
    }

    /// How many messages it may send: its app's limit, or the server's.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn message_rate(&self, limits: &ShardLimits) -> BucketLimits {
        self.key.app.message_limits.unwrap_or(limits.message_rate)
    }

    /// Takes its place in a channel from it, if it has one.
    pub(in crate::shard) fn take_membership(&mut self, channel: ChannelSlot) -> Option<Membership> {
        let mut memberships = self.memberships.iter();
        let at = memberships.position(|membership| membership.channel == channel)?;
        let membership = self.memberships.swap_remove(at);
        if self.memberships.is_empty() {
            self.memberships.shrink_to_fit();
        }
        Some(membership)
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

/// How many reasons to wake there are: all of `Deadline`.
pub(in crate::shard) const REASONS_TO_WAKE: usize = 17;

/// The connections of one shard.
#[derive(Debug)]
pub(in crate::shard) struct Connections {
    pub(in crate::shard) slots: Vec<Option<Box<Connection>>>,
    pub(in crate::shard) count: usize,
    /// Connections that were upgraded and whose sockets are not gone.
    pub(in crate::shard) websockets: usize,
    /// Slots of connections, from the first, whose timers were set for longer times than hold now.
    pub(in crate::shard) to_rearm: u32,
    pub(in crate::shard) timers: TimerWheel<ConnectionId>,
    /// Connections whose held input may go on.
    pub(in crate::shard) resumable: VecDeque<ConnectionId>,
    pub(in crate::shard) unauthenticated: Unauthenticated,
    pub(in crate::shard) pardons: Pardons,
    /// See [`Shard::forgive`](crate::shard::state::Shard::forgive).
    pub(in crate::shard) forgiven_ms: u64,
    pub(in crate::shard) stalled: Stalled,
    /// See [`Shard::judge_until`](crate::shard::state::Shard::judge_until).
    pub(in crate::shard) heard_ms: u64,
    /// How often there was something to do for each reason.
    pub(in crate::shard) met: [u64; REASONS_TO_WAKE],
}

impl Connections {
    /// No connections; the time is that of the monotonic clock, in milliseconds.
    #[must_use]
    pub(in crate::shard) fn new(now_ms: u64) -> Self {
        Self {
            slots: Vec::new(),
            count: 0,
            websockets: 0,
            timers: TimerWheel::new(now_ms),
            to_rearm: 0,
            resumable: VecDeque::new(),
            unauthenticated: Unauthenticated::default(),
            pardons: Pardons::default(),
            forgiven_ms: 0,
            stalled: Stalled::default(),
            heard_ms: u64::MAX,
            met: [0; REASONS_TO_WAKE],
        }
    }

    /// Adds a connection under the runtime's number.
    pub(in crate::shard) fn insert(&mut self, connection: Connection) {
        let slot = connection.id.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        if self.slots[slot].replace(Box::new(connection)).is_none() {
            self.count += 1;
        }
    }

    /// Takes a connection out, whose socket has been closed.
    pub(in crate::shard) fn remove(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        self.get(id)?;
        self.count -= 1;
        self.slots.get_mut(id.slot as usize)?.take()
    }

    /// A connection, unless it is gone.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.slots
            .get(id.slot as usize)?
            .as_deref()
            .filter(|connection| connection.id == id)
    }

    /// A connection, unless it is gone.
    #[inline]
    pub(in crate::shard) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.as_deref_mut().filter(|connection| connection.id == id)
    }

    /// The connection of a channel's member, by its slot.
    ///
    /// # Panics
    /// Never: a connection gives its memberships up before it is taken out.
    #[expect(clippy::expect_used, reason = "members are taken out first")]
    #[inline]
    pub(in crate::shard) fn member_mut(&mut self, slot: u32) -> &mut Connection {
        let connection = self.slots.get_mut(slot as usize);
        let connection = connection.and_then(Option::as_deref_mut);
        connection.expect("a member has a connection")
    }

    /// The connection that uses a slot now.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn at_slot(&self, slot: u32) -> Option<&Connection> {
        self.slots.get(slot as usize)?.as_deref()
    }

    /// The session of a connection, if it is there and open.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn session(&self, id: ConnectionId) -> Option<&Session> {
        self.get(id)?.session()
    }

    /// The session of a connection, if it is there and open.
    #[inline]
    pub(in crate::shard) fn session_mut(&mut self, id: ConnectionId) -> Option<&mut Session> {
        self.get_mut(id)?.session_mut()
    }

    /// The session of a connection that is open, as the caller knows: a debug build panics if it
    /// is not, any other goes on without.
    #[inline]
    #[track_caller]
    pub(in crate::shard) fn open_mut(&mut self, id: ConnectionId) -> Option<&mut Session> {
        let session = self[id].session_mut();
        debug_assert!(session.is_some(), "a session that is not open");
        session
    }

    /// Ends the session of a connection, if it has one: it is there, and open or about to be.
    pub(in crate::shard) fn take_session(&mut self, id: ConnectionId) -> Option<Box<Session>> {
        let phase = &mut self.get_mut(id)?.phase;
        let ended = Phase::Lingering { until_ms: NEVER_MS };
        match std::mem::replace(phase, ended) {
            Phase::Open(session) | Phase::Registering(session) => Some(session),
            other => {
                *phase = other;
                None
            }
        }
    }

    /// All connections.
    pub(in crate::shard) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().flatten().map(|connection| &**connection)
    }

    /// How many slots there are, used or not: for walks that change what they find.
    #[must_use]
    pub(in crate::shard) fn slot_count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The connection that uses a slot now.
    #[must_use]
    pub(in crate::shard) fn id_at(&self, slot: u32) -> Option<ConnectionId> {
        let connection = self.slots.get(slot as usize)?.as_deref();
        connection.map(|connection| connection.id)
    }

    /// How many there are.
    #[must_use]
    pub(in crate::shard) fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// A connection that the present input has found, see the top of this file.
impl Index<ConnectionId> for Connections {
    type Output = Connection;

    #[expect(clippy::expect_used, reason = "see the top of this file")]
    #[inline]
    #[track_caller]
    fn index(&self, id: ConnectionId) -> &Connection {
        self.get(id).expect("the connection is there")
    }
}

impl IndexMut<ConnectionId> for Connections {
    #[expect(clippy::expect_used, reason = "see the top of this file")]
    #[inline]
    #[track_caller]
    fn index_mut(&mut self, id: ConnectionId) -> &mut Connection {
        self.get_mut(id).expect("the connection is there")
    }
}

/// Connections that have not shown a good credential: see `shard/connection/unauthenticated.rs`.
#[derive(Debug, Default)]
pub(in crate::shard) struct Unauthenticated {
    /// How many there are.
    pub(in crate::shard) count: usize,
    /// Their numbers, the oldest first, and some of others that have ended or shown a credential
    /// since.
    pub(in crate::shard) oldest: VecDeque<ConnectionId>,
}

/// What pauses have queued: see `shard/connection/pardon.rs`.
#[derive(Debug, Default)]
pub(in crate::shard) struct Pardons {
    /// The queues as they were when the shard was frozen, but for empty ones.
    pub(in crate::shard) before: BTreeMap<ConnectionId, Queue>,
    /// Connections with a pardon, those that were looked at longest ago first.
    pub(in crate::shard) given: VecDeque<ConnectionId>,
}

/// The queue of a connection at the beginning of a pause.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Queue {
    /// Bytes that counted against the limit.
    pub(in crate::shard) counted: usize,
    /// How much its outbox had written.
    pub(in crate::shard) position: u32,
}
