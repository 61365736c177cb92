//! A well-behaved client: it answers pings and closes, waits for what it is told, and remembers
//! what it has asked for and what it knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmesh::proto::actions::{Action, Actions};
use ringmesh::proto::ws::message::{Client as ClientRole, Decoded, Decoder, Item, MessageLimits};

use crate::tenants::Credential;

/// A request that awaits its answer.
#[derive(Clone, Debug)]
pub enum Request {
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
    /// Something that must be refused, and with which code.
    Bad(&'static str),
}

/// Where a client is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
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
pub struct Subscription {
    pub open: bool,
    pub subscribes_out: usize,
    pub unsubscribes_out: usize,
    /// As asked for by the subscribe acked last.
    pub metadata: bool,
    /// The unbroken membership, by its number in the ledger.
    pub epoch: Option<usize>,
    /// Peers and their metadata, once the snapshot has come.
    pub roster: Option<BTreeMap<String, Option<String>>>,
}

/// By when a client must have been told of a peer.
#[derive(Debug)]
pub struct Obligation {
    /// Bytes of data frames that were queued when the peer was acked.
    pub data_bytes: usize,
    pub channel: usize,
    pub peer: String,
    pub peer_epoch: usize,
    pub epoch: usize,
}

/// What came, with the times at which its first and its last byte were written.
#[derive(Debug)]
pub enum Arrival {
    Http(String),
    Text {
        text: String,
        first_ms: u64,
        last_ms: u64,
    },
    Ping(Vec<u8>),
    Close(Option<u16>),
}

pub struct Client {
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
    pub going_away: bool,
    pub ever_stalled: bool,
    pub data_bytes: usize,
    received: Vec<u8>,
    /// Ends of what was written together, counted in `received`, and the times.
    marks: VecDeque<(usize, u64)>,
    decoder: Decoder<ClientRole>,
}

impl Client {
    pub fn new(socket: usize, credential: Credential, actions: Actions) -> Self {
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
            going_away: false,
            ever_stalled: false,
            data_bytes: 0,
            received: Vec::new(),
            marks: VecDeque::new(),
            decoder: Decoder::client(),
        }
    }

    /// The request that opens the connection.
    pub fn hello(&self) -> String {
        format!(
            "GET /v1?{} HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.credential.query.replace(' ', "%20")
        )
    }

    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether it is, or would have become, a connection of that peer.
    pub fn is_peer(&self, id: &str) -> bool {
        self.peer == id || self.credential.sub.as_deref() == Some(id)
    }

    /// A member of that channel with nothing under way that would change it.
    pub fn settled(&self, channel: usize) -> Option<usize> {
        let subscription = self.channels.get(&channel)?;
        subscription.epoch.filter(|_| self.is_open())
    }

    /// Whether no request is under way that ends the presence frames of that channel.
    pub fn keeps_presence(&self, channel: usize) -> bool {
        let subscription = self.channels.get(&channel);
        subscription.is_none_or(|it| it.subscribes_out == 0)
            || self.actions.contains(Action::Presence)
    }

    /// Takes bytes written at a time.
    pub fn feed(&mut self, ms: u64, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        self.marks.push_back((self.received.len(), ms));
    }

    /// The next whole thing that came.
    pub fn next_arrival(&mut self) -> Option<Arrival> {
        if self.is_over() {
            self.received.clear();
            self.marks.clear();
            return None;
        }
        if self.phase == Phase::Upgrading {
            let head = self.received.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
            let text = String::from_utf8(self.received[..head].to_vec()).unwrap();
            self.data_bytes += head;
            self.consume(head);
            return Some(Arrival::Http(text));
        }
        let limits = MessageLimits {
            message_bytes_max: 1_000_000,
        };
        let decoded = self.decoder.decode(&mut self.received, &limits);
        let (consumed, arrival) = match decoded.expect("the server speaks RFC 6455") {
            Decoded::Incomplete { .. } => return None,
            Decoded::Item { consumed, item } => match item {
                Item::Text(text) => {
                    let ms_at = |at: usize| {
                        let mark = self.marks.iter().find(|(end, _)| *end > at);
                        mark.expect("every byte has a time").1
                    };
                    let (first_ms, last_ms) = (ms_at(0), ms_at(consumed - 1));
                    let text = text.into_owned();
                    (
                        consumed,
                        Arrival::Text {
                            text,
                            first_ms,
                            last_ms,
                        },
                    )
                }
                Item::Ping(payload) => (consumed, Arrival::Ping(payload.to_vec())),
                Item::Close(close) => (
                    consumed,
                    Arrival::Close(close.map(|close| close.code.get())),
                ),
                other => panic!("a server sends no {other:?}"),
            },
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
