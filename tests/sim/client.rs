//! A well-behaved client: it answers pings and closes, waits for what it is told, and remembers
//! what it has asked for and what it knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::permit::{Action, Actions};
use crate::tenants::Credential;
use crate::wire::{Frame, Response, frame, response};

/// A request that awaits its answer.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Subscribe {
        channel: usize,
        metadata: bool,
        step: u64,
    },
    Unsubscribe {
        channel: usize,
    },
    Publish(u64),
    Send(u64),
    Ping,
    /// Another token, which is good unless it expires on the way.
    Refresh,
    /// Something that must be refused, and with which code.
    Bad(&'static str),
}

impl Request {
    /// Whether it may have been counted as a message of the app.
    pub(crate) fn is_counted(&self) -> bool {
        matches!(self, Self::Publish(_) | Self::Send(_))
    }
}

/// Where a client is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Upgrading,
    /// Upgraded, `welcome` awaited.
    Greeting,
    Open,
    /// It has sent a close frame of its own.
    Leaving,
    /// Over: with the close code, if there was one.
    Closed(Option<u16>),
}

/// What a client knows of a channel.
#[derive(Default, Debug)]
pub(crate) struct Subscription {
    pub open: bool,
    pub subscribes_out: usize,
    pub unsubscribes_out: usize,
    /// As asked for by the subscribe acked last.
    pub metadata: bool,
    /// When the ack came.
    pub acked_step: u64,
    /// The unbroken membership, by its number in the ledger.
    pub epoch: Option<usize>,
    /// Peers and their metadata, once the snapshot has come.
    pub roster: Option<BTreeMap<String, Option<String>>>,
    /// When that came last.
    pub roster_step: u64,
    /// The token allows no presence any more: nothing more of it comes until another one does, and
    /// shows the channel anew, or it is subscribed again.
    pub is_muted: bool,
}

/// A token that is shown and not judged.
#[derive(Debug)]
pub(crate) struct Refresh {
    pub credential: Credential,
}

/// By when a client must have been told of a peer.
#[derive(Debug)]
pub(crate) struct Obligation {
    /// Bytes of data frames that were queued when the peer was acked.
    pub data_bytes: usize,
    pub channel: usize,
    pub peer: String,
    pub peer_epoch: usize,
    pub epoch: usize,
}

/// What came, with the times at which its first and its last byte were written.
#[derive(Debug)]
pub(crate) enum Arrival {
    Http(Response),
    Text {
        text: String,
        first_ms: u64,
        last_ms: u64,
    },
    Ping(Vec<u8>),
    Close(Option<u16>),
}

pub(crate) struct Client {
    pub socket: usize,
    pub credential: Credential,
    /// What token and key allow together.
    pub actions: Actions,
    pub peer: String,
    pub phase: Phase,
    pub welcome_step: u64,
    pub next_request: u64,
    pub requests: BTreeMap<u64, Request>,
    pub channels: BTreeMap<usize, Subscription>,
    /// Channels ever asked for.
    pub ever_asked: BTreeSet<usize>,
    pub obligations: Vec<Obligation>,
    /// Publications and direct messages that came, by number.
    pub seen: BTreeSet<u64>,
    /// The last publication of each publisher in each channel.
    pub last_of: BTreeMap<(usize, usize), u64>,
    /// Channels whose snapshots must come before anything else of them, and when the ack came.
    pub snapshots_due: BTreeMap<usize, u64>,
    pub refresh: Option<Refresh>,
    /// Channels that the token does not allow any more, and of which the end has not been told; for
    /// some of them it need not be, because the client is leaving them.
    pub ends: BTreeMap<usize, bool>,
    pub going_away: bool,
    /// Whether it is in a channel nobody has told it: a shard did not answer in time.
    pub is_uncertain: bool,
    pub ever_stalled: bool,
    pub data_bytes: usize,
    received: Vec<u8>,
    /// Ends of what was written together, counted in `received`, and the times.
    marks: VecDeque<(usize, u64)>,
}

impl Client {
    pub(crate) fn new(socket: usize, credential: Credential, actions: Actions) -> Self {
        Self {
            socket,
            credential,
            actions,
            peer: String::new(),
            phase: Phase::Upgrading,
            welcome_step: 0,
            next_request: 0,
            requests: BTreeMap::new(),
            channels: BTreeMap::new(),
            ever_asked: BTreeSet::new(),
            obligations: Vec::new(),
            seen: BTreeSet::new(),
            last_of: BTreeMap::new(),
            snapshots_due: BTreeMap::new(),
            refresh: None,
            ends: BTreeMap::new(),
            going_away: false,
            is_uncertain: false,
            ever_stalled: false,
            data_bytes: 0,
            received: Vec::new(),
            marks: VecDeque::new(),
        }
    }

    /// The request that opens the connection.
    pub(crate) fn hello(&self) -> String {
        format!(
            "GET /v1?{} HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.credential.query.replace(' ', "%20")
        )
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether it is, or would have become, a connection of that peer.
    pub(crate) fn is_peer(&self, id: &str) -> bool {
        self.peer == id || self.credential.sub.as_deref() == Some(id)
    }

    /// A member of that channel with nothing under way that would change it.
    pub(crate) fn settled(&self, channel: usize) -> Option<usize> {
        let subscription = self.channels.get(&channel)?;
        subscription.epoch.filter(|_| self.is_open())
    }

    /// Whether no request is under way that ends the presence frames of that channel.
    pub(crate) fn keeps_presence(&self, channel: usize) -> bool {
        let subscription = self.channels.get(&channel);
        let is_asked = subscription.is_some_and(|it| it.subscribes_out > 0);
        self.may_keep(Action::Presence) && (!is_asked || self.actions.contains(Action::Presence))
    }

    /// Whether no token has been shown that takes this away, and is not judged.
    pub(crate) fn may_keep(&self, action: Action) -> bool {
        let refresh = self.refresh.as_ref();
        refresh.is_none_or(|it| it.credential.permissions.contains(action))
    }

    /// Takes bytes written at a time.
    pub(crate) fn feed(&mut self, ms: u64, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        self.marks.push_back((self.received.len(), ms));
    }

    /// The next whole thing that came.
    pub(crate) fn next_arrival(&mut self) -> Option<Arrival> {
        if self.is_over() {
            self.received.clear();
            self.marks.clear();
            return None;
        }
        if self.phase == Phase::Upgrading {
            let response = response(&self.received)?;
            self.data_bytes += response.count;
            self.consume(response.count);
            return Some(Arrival::Http(response));
        }
        let (consumed, frame) = frame(&self.received)?;
        let arrival = match frame {
            Frame::Text(text) => {
                let ms_at = |at: usize| {
                    let mark = self.marks.iter().find(|(end, _)| *end > at);
                    mark.expect("every byte has a time").1
                };
                let (first_ms, last_ms) = (ms_at(0), ms_at(consumed - 1));
                Arrival::Text {
                    text,
                    first_ms,
                    last_ms,
                }
            }
            Frame::Ping(payload) => Arrival::Ping(payload),
            Frame::Close(code) => Arrival::Close(code),
            Frame::Pong => panic!("nobody has pinged"),
        };
        if !matches!(arrival, Arrival::Ping(_)) {
            self.data_bytes += consumed;
        }
        self.consume(consumed);
        Some(arrival)
    }

    fn consume(&mut self, count: usize) {
        self.received.drain(..count);
        for mark in &mut self.marks {
            mark.0 = mark.0.saturating_sub(count);
        }
        while self.marks.front().is_some_and(|(end, _)| *end == 0) {
            self.marks.pop_front();
        }
    }
}
