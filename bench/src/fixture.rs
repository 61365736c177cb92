//! A shard value with clients, and nothing around it: bytes in, effects out.
//!
//! The fixture does what the runtime's loop does, in the same order, but a "socket" is a
//! counter of the bytes that would have been written. Hash keys and peer ids are fixed, so that
//! two runs execute the same instructions.

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ahash::RandomState;
use ringmesh::domain::connect_rate::ConnectRates;
use ringmesh::domain::history::{HistoryRule, HistoryRules, HistoryStore};
use ringmesh::domain::request_rate::{RequestLimits, RequestRates};
use ringmesh::domain::rights::{App, Feed, Key, KeyKind, Rights, SigningMaterial};
use ringmesh::domain::time::Now;
use ringmesh::domain::token_bucket::BucketLimits;
use ringmesh::domain::usage::PlanView;
use ringmesh::events::recorder::{Privacy, Recorder, Rings};
use ringmesh::ids::{AppIndex, ConnectionId, KeyIndex, ShardId};
use ringmesh::proto::actions::Actions;
use ringmesh::proto::claims::{MintRequest, Secret, mint};
use ringmesh::proto::forwarded::TrustedProxies;
use ringmesh::proto::pattern::Pattern;
use ringmesh::proto::ws::frame::{Opcode, append_masked_frame};
use ringmesh::shard::config::Entropy;
use ringmesh::shard::config::ShardConfig;
use ringmesh::shard::config::ShardLimits;
use ringmesh::shard::flush::Wrote;
use ringmesh::shard::input::Input;
use ringmesh::shard::query::{Answer, Query};
use ringmesh::shard::state::Shard;

/// The app of all benchmarks.
pub const APP_ID: &str = "app_bench";
/// The publishable key of the benchmark's app: `publish`, `subscribe` and `send` everywhere, no
/// presence, so that a thousand joins do not announce each other.
pub const PUBLISHABLE_KEY: &str = "pk_live_bench";
/// The same with presence.
pub const PRESENCE_KEY: &str = "pk_live_bench_presence";
/// Its secret key.
pub const SECRET_KEY: &str = "sk_id_bench";

const SIGNING_SECRET: &[u8] = b"a signing secret of 32 bytes....";
/// The interval at which a channel of a thousand tells who came and went: one ms for 64 peers.
const ANNOUNCE_MS: u64 = 16;
/// Longer than the pause before a snapshot.
const SNAPSHOT_MS: u64 = 20;
/// The default of `events.memory_per_shard`.
const EVENTS_BYTES: usize = 8 << 20;
const UNIX_MS: u64 = 1_800_000_000_000;

/// See the top of this file.
pub struct Fixture {
    shard: Shard,
    /// Who reads them is not here.
    _rings: Option<Rings>,
    now: Now,
    slots_used: u32,
    /// Connections that are being flushed; empty between turns.
    dirty: Vec<ConnectionId>,
    /// Bytes that were handed to sockets.
    pub written_bytes: usize,
}

/// Counts instead of drawing: the ids differ from each other and are the same in every run.
struct Counter(u64);

impl Entropy for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// The app of all benchmarks, without rate limits. Its channels `kept/…` have history, and
/// `disk/…` on disk, where there is one.
///
/// # Panics
/// When its own rule is wrong: the benchmarks cannot run.
#[must_use]
pub fn rights() -> Rights {
    let mut rights = Rights::new(1);
    let kept = HistoryRule::new("kept/**");
    let on_disk = HistoryRule {
        store: HistoryStore::Disk,
        ..HistoryRule::new("disk/**")
    };
    let history = match HistoryRules::new(&[kept, on_disk]) {
        Ok(rules) => Arc::new(rules),
        Err(error) => panic!("{error}"),
    };
    let app = Arc::new(App {
        index: AppIndex(0),
        id: APP_ID.into(),
        suspended: false,
        connections_max: None,
        messages_max: None,
        overages: true,
        plan: PlanView::default(),
        direct_needs_shared_channel: false,
        turn: None,
        feed: Feed::default(),
        history,
        message_limits: Some(BucketLimits {
            rate_per_sec: 0,
            burst: 0,
        }),
        gauges: Arc::default(),
        quota: Arc::default(),
    });
    rights.insert_app(app.clone());
    let publishable = || KeyKind::Publishable {
        allowed_origins: Box::default(),
    };
    let kinds = [
        (PUBLISHABLE_KEY, publishable()),
        (PRESENCE_KEY, publishable()),
        (
            SECRET_KEY,
            KeyKind::Secret(SigningMaterial::Ready {
                current: Arc::new(Secret::new(SIGNING_SECRET)),
                previous: None,
            }),
        ),
    ];
    for (id, kind) in kinds {
        let actions = match id {
            PRESENCE_KEY => &["publish", "subscribe", "send", "presence"][..],
            _ => &["publish", "subscribe", "send"],
        };
        rights.insert_key(Arc::new(Key {
            index: KeyIndex(0),
            id: id.into(),
            app: app.clone(),
            patterns: Pattern::parse("**").into_iter().collect(),
            actions: Actions::parse(actions.iter().copied()).unwrap_or_default(),
            auto_inject_turn: false,
            kind,
        }));
    }
    rights
}

/// No limit on REST requests.
#[must_use]
pub fn unlimited_requests() -> RequestRates {
    RequestRates::new(&RequestLimits::NONE, &RandomState::with_seeds(1, 2, 3, 4))
}

/// A client's masked text frame.
#[must_use]
pub fn text_frame(json: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    append_masked_frame(
        &mut frame,
        Opcode::Text,
        [0x37, 0xfa, 0x21, 0x3d],
        json.as_bytes(),
    );
    frame
}

/// A `publish` whose JSON is `json_bytes` long, as far as its fixed part allows.
#[must_use]
pub fn publish_json(channel: &str, json_bytes: usize) -> String {
    let envelope = format!(r#"{{"type":"publish","channel":"{channel}","data":{{"text":""}}}}"#);
    let text = "x".repeat(json_bytes.saturating_sub(envelope.len()));
    format!(r#"{{"type":"publish","channel":"{channel}","data":{{"text":"{text}"}}}}"#)
}

/// An upgrade request with a credential, given as a query.
#[must_use]
pub fn upgrade_request(query: &str) -> String {
    format!(
        "GET /v1?{query} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A connect token, valid for an hour of the fixture's time.
///
/// # Panics
/// When the server's own minting fails: the benchmarks cannot run.
#[must_use]
pub fn token(sub: &str) -> String {
    token_at(sub, UNIX_MS)
}

/// A connect token, valid for an hour from then on.
///
/// # Panics
/// When the server's own minting fails: the benchmarks cannot run.
#[must_use]
pub fn token_at(sub: &str, unix_ms: u64) -> String {
    let request = MintRequest {
        key_id: SECRET_KEY,
        sub,
        issued_at_unix: unix_ms / 1_000,
        expires_at_unix: unix_ms / 1_000 + 3_600,
        channels: None,
        permissions: None,
        metadata: None,
        peer_metadata: None,
    };
    match mint(&request, &Secret::new(SIGNING_SECRET)) {
        Ok(token) => token,
        Err(error) => panic!("cannot mint a token: {error}"),
    }
}

impl Default for Fixture {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture {
    /// A shard that is alone in its process.
    #[must_use]
    pub fn new() -> Self {
        let config = ShardConfig {
            shard: ShardId(0),
            shard_count: 1,
            hasher: RandomState::with_seeds(1, 2, 3, 4),
            reject_with_close: false,
            trusted_proxies: TrustedProxies::default(),
            explain: false,
            accept_bare_key_id: false,
            request_rates: Arc::new(unlimited_requests()),
            limits: ShardLimits::default(),
            start_page: "".into(),
            handler: None,
        };
        let now = Now {
            mono_ms: 1,
            unix_ms: UNIX_MS,
        };
        let rates = Arc::new(ConnectRates::new(
            0,
            60_000,
            &RandomState::with_seeds(1, 2, 3, 4),
        ));
        let mut shard = Shard::new(config, Arc::new(rights()), rates, Box::new(Counter(7)), now);
        // As a server records by default.
        let (recorder, rings) = Recorder::new(Some(ShardId(0)), EVENTS_BYTES, Privacy::default());
        shard.record_with(recorder);
        Self {
            shard,
            _rings: rings,
            now,
            slots_used: 0,
            dirty: Vec::new(),
            written_bytes: 0,
        }
    }

    /// Bytes of memory that channels take which keep what is published.
    #[must_use]
    pub fn history_bytes(&self) -> usize {
        self.shard.histories().0
    }

    /// Lets a millisecond pass, and the deadlines that fall into it.
    pub fn tick(&mut self) {
        self.pass(1);
    }

    /// An operator asks the shard.
    pub fn ask(&mut self, query: Query, number: u64) {
        self.handle(Input::Ask { query, number });
    }

    /// A millisecond with nothing in it but what is due.
    pub fn millisecond(&mut self) {
        self.pass(1);
        self.end_turn();
    }

    /// What operators have been answered since the last time.
    pub fn answers(&mut self) -> Vec<(u64, Answer)> {
        std::mem::take(&mut self.shard.effects_mut().answers)
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
        let due = self.shard.next_deadline_ms();
        if due.is_some_and(|at| at <= self.now.mono_ms) {
            self.handle(Input::Time);
        }
    }

    /// Accepts a connection in a new slot.
    pub fn accept(&mut self) -> ConnectionId {
        let connection = ConnectionId {
            slot: self.slots_used,
            generation: 1,
        };
        self.slots_used += 1;
        self.accept_as(connection);
        connection
    }

    /// Accepts a connection under a number that is free.
    pub fn accept_as(&mut self, connection: ConnectionId) {
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.handle(Input::Accepted { connection, remote });
    }

    /// Hands bytes of a connection in; they are used up.
    pub fn receive(&mut self, connection: ConnectionId, bytes: &mut [u8]) {
        self.handle(Input::Received { connection, bytes });
    }

    /// Ends the turn: everything pending is written, and what is to be closed is closed.
    pub fn end_turn(&mut self) {
        self.handle(Input::EndOfTurn);
        let mut dirty = std::mem::take(&mut self.dirty);
        for list in self.shard.effects_mut().dirty.by_urgency() {
            dirty.append(list);
        }
        for connection in dirty.drain(..) {
            self.flush(connection);
        }
        self.dirty = dirty;
        let turn = self.shard.turn();
        self.shard.offered(turn, self.now);
        self.shard.effects_mut().readable.clear();
        self.shard.effects_mut().ended.clear();
        self.shard.effects_mut().published.clear();
        self.shard.effects_mut().writes.clear();
    }

    /// Whether another turn has something to write.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.shard.effects().dirty.is_empty()
    }

    fn flush(&mut self, connection: ConnectionId) {
        let written_bytes = &mut self.written_bytes;
        let mut sink = |bytes: &[IoSlice<'_>]| {
            let count = bytes.iter().map(|it| it.len()).sum();
            *written_bytes += count;
            Wrote::Taken(count)
        };
        // A socket that a case wants closed is closed by the case.
        let _ = self.shard.flush(connection, self.now, &mut sink);
    }

    /// Tells the shard that a socket is gone.
    pub fn close(&mut self, connection: ConnectionId) {
        self.handle(Input::Closed { connection });
    }

    /// A connection with the publishable key, `welcome` written.
    pub fn connect(&mut self) -> ConnectionId {
        self.connect_with(PUBLISHABLE_KEY)
    }

    /// A connection with that publishable key, `welcome` written.
    pub fn connect_with(&mut self, key: &str) -> ConnectionId {
        let connection = self.accept();
        let mut request = upgrade_request(&format!("key={key}")).into_bytes();
        self.receive(connection, &mut request);
        self.end_turn();
        connection
    }

    /// A connection of a peer of that id.
    pub fn connect_as(&mut self, peer: &str) -> ConnectionId {
        let connection = self.accept();
        let mut request = upgrade_request(&format!("token={}", token(peer))).into_bytes();
        self.receive(connection, &mut request);
        self.end_turn();
        connection
    }

    /// Sends one message of a client and ends the turn.
    pub fn say(&mut self, connection: ConnectionId, json: &str) {
        self.receive(connection, &mut text_frame(json));
        self.settle();
    }

    /// Ends turns until none has something to write.
    pub fn settle(&mut self) {
        while {
            self.end_turn();
            self.is_dirty()
        } {}
    }

    /// Subscribes a connection, and waits until it is a member: large channels tell their changes
    /// at intervals.
    pub fn subscribe(&mut self, connection: ConnectionId, channel: &str) {
        self.say(
            connection,
            &format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#),
        );
        self.pass(ANNOUNCE_MS);
        self.end_turn();
    }

    /// Lets the snapshots leave whose acks have been written.
    pub fn end_pauses(&mut self) {
        self.pass(SNAPSHOT_MS);
        self.end_turn();
    }

    fn handle(&mut self, input: Input<'_>) {
        self.shard.handle(input, self.now);
    }
}

/// The frame of the `message` that a publication becomes: its publisher's id is a UUID.
#[must_use]
pub fn message_frame_bytes(channel: &str, data: &str) -> usize {
    let id = "0".repeat(36);
    let json = format!(r#"{{"type":"message","channel":"{channel}","from":"{id}","data":{data}}}"#);
    json.len() + if json.len() > 125 { 4 } else { 2 }
}
