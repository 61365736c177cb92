//! Shards in memory for tests: bytes in, bytes out, and a mesh that delivers at once.

use std::collections::{HashMap, HashSet};
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ahash::RandomState;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use crate::domain::connect_rate::ConnectRates;
use crate::domain::request_rate::{RequestLimits, RequestRates};
use crate::domain::rights::{App, Feed, Key, KeyKind, Rights, SigningMaterial};
use crate::domain::time::Now;
use crate::domain::token_bucket::BucketLimits;
use crate::domain::usage::{PlanView, UsageDelta};
use crate::ids::{AppIndex, ConnectionId, KeyIndex, ShardId};
use crate::limits::READ_BYTES_MAX;
use crate::proto::actions::Actions;
use crate::proto::claims::Secret;
use crate::proto::forwarded::TrustedProxies;
use crate::proto::pattern::Pattern;
use crate::proto::ws::frame::{Header, Opcode};
use crate::shard::config::{Entropy, ShardConfig, ShardLimits};
use crate::shard::effect::{Effects, Urgency};
use crate::shard::flush::{Flushed, Wrote};
use crate::shard::input::Input;
use crate::shard::state::Shard;

mod tokens;

pub(in crate::shard) use tokens::{token, token_without_presence};

pub(in crate::shard) const UNLIMITED: BucketLimits = BucketLimits {
    rate_per_sec: 0,
    burst: 0,
};

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::shard) struct Client {
    pub shard: usize,
    pub id: ConnectionId,
}

/// An answer, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::shard) struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    /// The body as JSON.
    pub(in crate::shard) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Shards and the clients' side of their connections.
pub(in crate::shard) struct Cluster {
    pub shards: Vec<Shard>,
    pub now: Now,
    pub usage: Vec<UsageDelta>,
    received: HashMap<Client, Vec<u8>>,
    finished: HashMap<Client, Flushed>,
    /// What clients have sent and shards have not read.
    unread: HashMap<Client, Vec<u8>>,
    /// Clients that do not read.
    deaf: HashSet<Client>,
    /// How much the sockets of clients that do not read at once have room for.
    rooms: HashMap<Client, usize>,
    next_slot: u32,
    /// Shards that do nothing any more.
    lost: HashSet<usize>,
}

struct Counter(u8);

impl Entropy for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(5).wrapping_add(3);
            *byte = self.0;
        }
    }
}

impl Cluster {
    pub(in crate::shard) fn new(shard_count: u16, rights: Rights) -> Self {
        Self::with(shard_count, rights, |_| {})
    }

    /// With changes to what the shards are told once.
    pub(in crate::shard) fn with(
        shard_count: u16,
        rights: Rights,
        change: impl FnOnce(&mut ShardConfig),
    ) -> Self {
        let now = Now {
            mono_ms: 1_000,
            unix_ms: 1_700_000_000_000,
        };
        let mut config = ShardConfig {
            shard: ShardId(0),
            shard_count,
            hasher: RandomState::with_seeds(1, 2, 3, 4),
            reject_with_close: false,
            trusted_proxies: TrustedProxies::default(),
            explain: false,
            accept_bare_key_id: false,
            request_rates: Arc::new(RequestRates::new(
                &RequestLimits::NONE,
                &RandomState::with_seeds(1, 2, 3, 4),
            )),
            limits: ShardLimits {
                message_rate: UNLIMITED,
                ..ShardLimits::default()
            },
            start_page: "".into(),
            handler: None,
        };
        change(&mut config);
        let (rights, rates) = (
            Arc::new(rights),
            Arc::new(ConnectRates::new(
                0,
                1,
                &RandomState::with_seeds(1, 2, 3, 4),
            )),
        );
        let shard = |number| {
            let config = ShardConfig {
                shard: ShardId(number),
                ..config.clone()
            };
            let entropy = Box::new(Counter(number as u8));
            Shard::new(config, rights.clone(), rates.clone(), entropy, now)
        };
        Self {
            shards: (0..shard_count).map(shard).collect(),
            now,
            usage: Vec::new(),
            received: HashMap::new(),
            finished: HashMap::new(),
            unread: HashMap::new(),
            deaf: HashSet::new(),
            rooms: HashMap::new(),
            next_slot: 0,
            lost: HashSet::new(),
        }
    }

    pub(in crate::shard) fn accept(&mut self, shard: usize) -> Client {
        self.next_slot += 1;
        let id = ConnectionId {
            slot: self.next_slot,
            generation: 0,
        };
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.input(
            shard,
            Input::Accepted {
                connection: id,
                remote,
            },
        );
        Client { shard, id }
    }

    /// What a shard has asked for.
    pub(in crate::shard) fn effects(&mut self, shard: usize) -> &mut Effects {
        self.shards[shard].effects_mut()
    }

    /// Hands one input to one shard, without letting anything follow from it.
    pub(in crate::shard) fn input(&mut self, shard: usize, input: Input<'_>) {
        self.shards[shard].handle(input, self.now);
    }

    /// Bytes from a client, and everything that follows from them.
    pub(in crate::shard) fn send(&mut self, client: Client, bytes: &[u8]) {
        self.feed(client, bytes);
        self.run();
    }

    /// Bytes from a client; other shards do not hear of them yet.
    pub(in crate::shard) fn feed(&mut self, client: Client, bytes: &[u8]) {
        let unread = self.unread.entry(client).or_default();
        unread.extend_from_slice(bytes);
        self.read_socket(client);
    }

    /// Reads what a client has sent, a buffer at a time, as far as the shard wants it.
    fn read_socket(&mut self, client: Client) {
        let connection = client.id;
        while self.is_readable(client) {
            let Some(unread) = self.unread.get_mut(&client) else {
                return;
            };
            let count = unread.len().min(READ_BYTES_MAX);
            let mut bytes: Vec<u8> = unread.drain(..count).collect();
            let bytes = &mut bytes[..];
            self.input(client.shard, Input::Received { connection, bytes });
        }
    }

    fn is_readable(&self, client: Client) -> bool {
        self.unread.get(&client).is_some_and(|it| !it.is_empty())
            && self.shards[client.shard].wants_input(client.id)
    }

    /// The client ends its side of the stream.
    pub(in crate::shard) fn end(&mut self, client: Client) {
        let connection = client.id;
        self.input(client.shard, Input::Ended { connection });
    }

    /// The client reads nothing from now on.
    pub(in crate::shard) fn deafen(&mut self, client: Client) {
        self.deaf.insert(client);
    }

    /// The client reads again, all that has come.
    pub(in crate::shard) fn hear(&mut self, client: Client) {
        self.deaf.remove(&client);
        self.shards[client.shard]
            .effects_mut()
            .dirty
            .push(client.id, Urgency::Reply);
        self.run();
    }

    /// The client's socket is gone.
    pub(in crate::shard) fn close(&mut self, client: Client) {
        let connection = client.id;
        self.input(client.shard, Input::Closed { connection });
        self.run();
    }

    /// From now on a shard says nothing and is told nothing. The others are not told of that.
    pub(in crate::shard) fn silence(&mut self, shard: usize) {
        self.lost.insert(shard);
    }

    /// The other shards hear that a silent one is gone.
    pub(in crate::shard) fn lose(&mut self, lost: usize) {
        self.silence(lost);
        for at in (0..self.shards.len()).filter(|at| *at != lost) {
            let shard = ShardId(lost as u16);
            self.input(at, Input::Lost { shard });
        }
        self.run();
    }

    /// Turns, until nothing is left to do.
    pub(in crate::shard) fn run(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..self.shards.len() {
                quiet &= self.lost.contains(&at) || self.turn(at);
            }
            if quiet {
                return;
            }
        }
    }

    /// The end of one shard's turn: what it writes and tells others arrives. Returns whether
    /// there was nothing of that.
    pub(in crate::shard) fn turn(&mut self, at: usize) -> bool {
        let clients: Vec<Client> = self.unread.keys().copied().collect();
        for client in clients.iter().filter(|it| it.shard == at) {
            self.read_socket(*client);
        }
        self.input(at, Input::EndOfTurn);
        self.flush(at);
        self.offered(at, self.shards[at].turn());
        let from = ShardId(at as u16);
        let mut quiet = true;
        for to in 0..self.shards.len() {
            for message in std::mem::take(&mut self.shards[at].effects_mut().mesh[to]) {
                if self.lost.contains(&to) {
                    continue;
                }
                quiet = false;
                self.input(to, Input::Mesh { from, message });
            }
        }
        self.shards[at].effects_mut().readable.clear();
        self.shards[at].effects_mut().ended.clear();
        self.shards[at].effects_mut().published.clear();
        self.shards[at].effects_mut().writes.clear();
        self.usage.append(&mut self.shards[at].effects_mut().usage);
        quiet
            && self.shards[at].effects().dirty.is_empty()
            && !self.shards[at].has_work()
            && !clients.iter().any(|it| self.is_readable(*it))
    }

    /// All that was queued before that turn of a shard has been offered.
    pub(in crate::shard) fn offered(&mut self, shard: usize, turn: u32) {
        self.shards[shard].offered(turn, self.now);
    }

    fn flush(&mut self, shard: usize) {
        for id in std::mem::take(&mut self.shards[shard].effects_mut().dirty).drain() {
            let client = Client { shard, id };
            if !self.deaf.contains(&client) {
                self.flush_client(client);
            }
        }
        for id in std::mem::take(&mut self.shards[shard].effects_mut().abort) {
            self.input(shard, Input::Closed { connection: id });
            self.finished.insert(Client { shard, id }, Flushed::Close);
        }
    }

    /// Writes to a client what there is room for.
    pub(in crate::shard) fn flush_client(&mut self, client: Client) {
        let mut room = self.rooms.get_mut(&client);
        let received = &mut self.received;
        let mut sink = |bytes: &[IoSlice<'_>]| {
            let before = received.get(&client).map_or(0, Vec::len);
            for bytes in bytes {
                let most = room
                    .as_deref()
                    .map_or(bytes.len(), |it| bytes.len().min(*it));
                if most > 0 {
                    let received = received.entry(client).or_default();
                    received.extend_from_slice(&bytes[..most]);
                }
                if let Some(room) = room.as_deref_mut() {
                    *room -= most;
                }
            }
            match received.get(&client).map_or(0, Vec::len) - before {
                0 => Wrote::NoRoom,
                count => Wrote::Taken(count),
            }
        };
        let flushed = self.shards[client.shard].flush(client.id, self.now, &mut sink);
        if flushed != Flushed::Blocked {
            self.finished.insert(client, flushed);
        }
    }

    /// Offers a client what waits for it, and lets its socket have no room. Returns how many bytes
    /// would leave in the next write.
    pub(in crate::shard) fn offer(&mut self, client: Client) -> usize {
        let mut offered = 0;
        let mut sink = |bytes: &[IoSlice<'_>]| {
            offered = bytes.iter().map(|it| it.len()).sum();
            Wrote::NoRoom
        };
        let _ = self.shards[client.shard].flush(client.id, self.now, &mut sink);
        offered
    }

    /// From now on the client's socket takes only what [`read`](Self::read) makes room for.
    pub(in crate::shard) fn stall(&mut self, client: Client) {
        self.rooms.insert(client, 0);
    }

    /// A client that had stalled reads so many bytes.
    pub(in crate::shard) fn read(&mut self, client: Client, count: usize) {
        self.make_room(client, count);
        self.run();
    }

    /// A client that had stalled reads so many bytes; its socket is written in the next turn.
    pub(in crate::shard) fn make_room(&mut self, client: Client, count: usize) {
        *self.rooms.get_mut(&client).unwrap() += count;
        self.shards[client.shard]
            .effects_mut()
            .dirty
            .push(client.id, Urgency::Reply);
    }

    /// The client takes what waits, and all that comes from then on.
    pub(in crate::shard) fn unstall(&mut self, client: Client) {
        self.rooms.remove(&client);
        let dirty = &mut self.shards[client.shard].effects_mut().dirty;
        dirty.push(client.id, Urgency::Reply);
        self.run();
    }

    /// Lets time pass.
    pub(in crate::shard) fn wait(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
        for shard in 0..self.shards.len() {
            self.input(shard, Input::Time);
        }
        self.run();
    }

    /// What the client has received since the last look.
    pub(in crate::shard) fn take(&mut self, client: Client) -> Vec<u8> {
        self.received.remove(&client).unwrap_or_default()
    }

    /// Whether something has come since then.
    pub(in crate::shard) fn has_received(&self, client: Client) -> bool {
        self.received.contains_key(&client)
    }

    /// Whether the server keeps its side of the connection open.
    pub(in crate::shard) fn is_open(&self, client: Client) -> bool {
        self.finished
            .get(&client)
            .is_none_or(|flushed| *flushed == Flushed::Open)
    }

    /// The answers that have come since the last look.
    pub(in crate::shard) fn responses(&mut self, client: Client) -> Vec<Response> {
        let bytes = self.take(client);
        let mut rest = str::from_utf8(&bytes).unwrap();
        let mut responses = Vec::new();
        while let Some((head, behind)) = rest.split_once("\r\n\r\n") {
            let length = head.split_once("Content-Length: ").map_or("0", |it| it.1);
            let length = length.lines().next().unwrap().parse().unwrap();
            let (body, next) = behind.split_at(length);
            responses.push(Response {
                status: head[9..12].parse().unwrap(),
                head: head.into(),
                body: body.into(),
            });
            rest = next;
        }
        assert_eq!(rest, "");
        responses
    }

    /// The one answer to a request on a connection of its own.
    #[track_caller]
    pub(in crate::shard) fn request(&mut self, shard: usize, request: &[u8]) -> Response {
        let client = self.accept(shard);
        self.send(client, request);
        let mut responses = self.responses(client);
        assert_eq!(responses.len(), 1, "{responses:?}");
        responses.remove(0)
    }

    /// A WebSocket connection with that credential, welcomed.
    pub(in crate::shard) fn connect(&mut self, shard: usize, credential: &str) -> (Client, String) {
        let client = self.accept(shard);
        let request = format!(
            "GET /v1?{credential} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.send(client, request.as_bytes());
        let bytes = self.take(client);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("HTTP/1.1 101"), "{text}");
        let end = text.find("\r\n\r\n").unwrap() + 4;
        let mut messages = messages(&bytes[end..]);
        assert_eq!(messages.len(), 1, "{messages:?}");
        (client, messages.remove(0))
    }

    /// A text message from a client.
    pub(in crate::shard) fn message(&mut self, client: Client, text: &str) {
        self.send(client, &Self::frame(text));
    }

    /// A text message as a client frames it.
    pub(in crate::shard) fn frame(text: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        let header = Header {
            fin: true,
            opcode: Opcode::Text,
            mask: Some([0; 4]),
            payload_len: text.len() as u64,
        };
        header.encode(&mut frame);
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    /// The text messages that a client has received; a close frame as `close` and its code.
    pub(in crate::shard) fn messages(&mut self, client: Client) -> Vec<String> {
        messages(&self.take(client))
    }
}

/// The text messages in a client's stream; a close frame as `close` and its code.
pub(in crate::shard) fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    while let Ok(Some((header, head_bytes))) = Header::decode(bytes) {
        let end = head_bytes + header.payload_len as usize;
        let payload = &bytes[head_bytes..end];
        match header.opcode {
            Opcode::Close => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                messages.push(format!("close {code}"));
            }
            _ => messages.push(String::from_utf8(payload.to_vec()).unwrap()),
        }
        bytes = &bytes[end..];
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    messages
}

/// An app without limits.
pub(in crate::shard) fn app() -> App {
    App {
        index: AppIndex(0),
        id: "app_test".into(),
        suspended: false,
        connections_max: None,
        messages_max: None,
        overages: false,
        plan: PlanView::default(),
        direct_needs_shared_channel: false,
        turn: None,
        message_limits: None,
        feed: Feed::default(),
        history: Arc::default(),
        gauges: Arc::default(),
        quota: Arc::default(),
    }
}

/// The keys of the tests, of one app:
///
/// | key id | API secret | signing secret | may |
/// |---|---|---|---|
/// | `sk_id_full` | `sk_live_full` | `sk_secret_full`, `sk_secret_old` for 10 s more | all |
/// | `sk_id_narrow` | `sk_live_narrow` | `sk_secret_narrow` | subscribe to `room/*` |
/// | `sk_id_rooms` | `sk_live_rooms` | `sk_secret_rooms` | all actions on `room/*` |
/// | `sk_id_sealed` | `sk_live_sealed` | cannot be read | all |
/// | `pk_live_test` | | | all |
pub(in crate::shard) fn rights(app: App) -> Rights {
    let app = Arc::new(app);
    let mut rights = Rights::new(1);
    rights.insert_app(app.clone());
    let ready = |name: &str, previous| {
        KeyKind::Secret(SigningMaterial::Ready {
            current: Arc::new(Secret::new(format!("sk_secret_{name}").as_bytes())),
            previous,
        })
    };
    let old = Some((Arc::new(Secret::new(b"sk_secret_old")), 1_700_000_010_000));
    let subscribe = Actions::parse(["subscribe"]).unwrap();
    let publishable = KeyKind::Publishable {
        allowed_origins: Box::default(),
    };
    let sealed = KeyKind::Secret(SigningMaterial::Unreadable);
    for (id, pattern, actions, kind) in [
        ("sk_id_full", "**", Actions::ALL, ready("full", old)),
        ("sk_id_narrow", "room/*", subscribe, ready("narrow", None)),
        ("sk_id_rooms", "room/*", Actions::ALL, ready("rooms", None)),
        ("sk_id_sealed", "**", Actions::ALL, sealed),
        ("pk_live_test", "**", Actions::ALL, publishable),
    ] {
        let key = Arc::new(Key {
            index: KeyIndex(0),
            id: id.into(),
            app: app.clone(),
            patterns: Pattern::parse(pattern).into_iter().collect(),
            actions,
            auto_inject_turn: id != "sk_id_narrow",
            kind,
        });
        rights.insert_key(key.clone());
        if let Some(name) = id.strip_prefix("sk_id_") {
            let secret = format!("sk_live_{name}");
            let hash = digest(&SHA256, secret.as_bytes());
            rights.insert_api_secret(hash.as_ref().try_into().unwrap(), key, None);
        }
    }
    rights
}

/// A connection of that peer, whose metadata says its id.
pub(in crate::shard) fn peer(cluster: &mut Cluster, shard: usize, sub: &str) -> Client {
    let metadata = json!({ "n": sub }).to_string();
    cluster.connect(shard, &token(sub, 3_600, &metadata)).0
}
