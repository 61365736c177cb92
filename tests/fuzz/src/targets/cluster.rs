//! Two shards in memory, with clients whose bytes a target decides.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ahash::RandomState;
use ringmesh::domain::connect_rate::ConnectRates;
use ringmesh::domain::history::{HistoryRule, HistoryRules};
use ringmesh::domain::request_rate::{RequestLimits, RequestRates};
use ringmesh::domain::rights::{App, Feed, Key, KeyKind, Rights, SigningMaterial};
use ringmesh::domain::time::Now;
use ringmesh::domain::token_bucket::BucketLimits;
use ringmesh::domain::usage::PlanView;
use ringmesh::ids::{AppIndex, ConnectionId, ConnectionRef, KeyIndex, ShardId};
use ringmesh::limits::READ_BYTES_MAX;
use ringmesh::proto::actions::Actions;
use ringmesh::proto::claims::Secret;
use ringmesh::proto::forwarded::TrustedProxies;
use ringmesh::proto::pattern::Pattern;
use ringmesh::shard::config::{Entropy, ShardConfig, ShardLimits};
use ringmesh::shard::flush::{Flushed, Wrote};
use ringmesh::shard::handover::{Handed, ImportError};
use ringmesh::shard::input::Input;
use ringmesh::shard::state::Shard;

/// Signs tokens, and opens the REST API: `Bearer sk_id_f:` and this.
pub(super) const SECRET: &str = "a-signing-secret-of-32-bytes....";
/// What connects without a token.
pub(super) const PUBLISHABLE_KEY: &str = "pk_live_f";
const SHARDS: u16 = 2;
/// More turns than anything takes that is at rest in the end.
const TURNS_MAX: usize = 1_000;

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Client {
    shard: usize,
    slot: u32,
}

#[derive(Default)]
struct Socket {
    /// Sent, and not read by the shard.
    unread: Vec<u8>,
    received: Vec<u8>,
    /// The client sends no more.
    is_ended: bool,
    is_told: bool,
    /// How much it takes before it has no room; `None`: everything.
    room: Option<usize>,
}

/// See the top of this file.
pub(super) struct Cluster {
    shards: Vec<Shard>,
    sockets: BTreeMap<Client, Socket>,
    now: Now,
    next_slot: u32,
}

/// Counts instead of drawing.
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

impl Cluster {
    pub(super) fn new() -> Self {
        Self::of(SHARDS, 1, rights(Arc::default()))
    }

    /// So many shards with hash keys of that number, whose channels keep four publications. The
    /// higher the number, the later they are made.
    pub(super) fn with_history(shard_count: u16, hash: u64) -> Self {
        let rule = HistoryRule {
            messages: 4,
            ..HistoryRule::new("hall")
        };
        let rules = HistoryRules::new(&[rule]).unwrap();
        Self::of(shard_count, hash, rights(Arc::new(rules)))
    }

    fn of(shard_count: u16, hash: u64, rights: Rights) -> Self {
        let hasher = RandomState::with_seeds(hash, 2, 3, 4);
        let now = Now {
            mono_ms: 1_000 * hash,
            unix_ms: 1_800_000_000_000,
        };
        let rights = Arc::new(rights);
        let connect_rates = Arc::new(ConnectRates::new(0, 60_000, &hasher));
        let request_rates = Arc::new(RequestRates::new(&RequestLimits::NONE, &hasher));
        let shard = |number| {
            let config = ShardConfig {
                shard: ShardId(number),
                shard_count,
                hasher: hasher.clone(),
                reject_with_close: true,
                trusted_proxies: TrustedProxies::default(),
                explain: false,
                accept_bare_key_id: false,
                request_rates: request_rates.clone(),
                limits: ShardLimits {
                    message_bytes_max: 2_048,
                    channels_per_connection: 4,
                    outbound_queue_bytes: 8_192,
                    ..ShardLimits::default()
                },
                start_page: "".into(),
                handler: None,
            };
            let entropy = Box::new(Counter(u64::from(number)));
            Shard::new(config, rights.clone(), connect_rates.clone(), entropy, now)
        };
        Self {
            shards: (0..shard_count).map(shard).collect(),
            sockets: BTreeMap::new(),
            now,
            next_slot: 0,
        }
    }

    /// What all shards hand over when nothing is on its way any more.
    #[cfg(test)]
    pub(super) fn hand_over(&mut self) -> Vec<Vec<u8>> {
        for at in 0..self.shards.len() {
            self.handle(at, Input::Freeze);
        }
        self.run();
        let shards = self.shards.iter_mut();
        shards.map(|shard| shard.export().state).collect()
    }

    /// Goes on with what others have handed over, whose connections are dealt out. Returns these.
    pub(super) fn take_over(&mut self, handed: &Handed) -> Result<Vec<Client>, ImportError> {
        let shard_count = self.shards.len();
        let clients = (0..handed.connections().count()).map(|number| Client {
            shard: number % shard_count,
            slot: (number / shard_count) as u32,
        });
        let clients: Vec<Client> = clients.collect();
        let place = |client: &Client| ConnectionRef {
            home: ShardId(client.shard as u16).into(),
            connection: id(*client),
        };
        let places: Vec<ConnectionRef> = clients.iter().map(place).collect();
        for shard in &mut self.shards {
            shard.import(handed, &places, self.now)?;
        }
        let sockets = clients.iter().map(|it| (*it, Socket::default()));
        self.sockets.extend(sockets);
        self.next_slot = clients.len() as u32;
        Ok(clients)
    }

    pub(super) fn accept(&mut self, shard: usize) -> Client {
        let client = Client {
            shard: shard % self.shards.len(),
            slot: self.next_slot,
        };
        self.next_slot += 1;
        self.sockets.insert(client, Socket::default());
        let connection = id(client);
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.handle(client.shard, Input::Accepted { connection, remote });
        client
    }

    /// Whether the server has not closed it.
    pub(super) fn is_open(&self, client: Client) -> bool {
        self.sockets.contains_key(&client)
    }

    /// A client sends bytes. Nothing is written yet, and other shards do not hear of it.
    pub(super) fn send(&mut self, client: Client, bytes: &[u8]) {
        if let Some(socket) = self.sockets.get_mut(&client)
            && !socket.is_ended
        {
            socket.unread.extend_from_slice(bytes);
            self.read(client);
        }
    }

    /// A client ends its side of the stream.
    pub(super) fn end(&mut self, client: Client) {
        if let Some(socket) = self.sockets.get_mut(&client) {
            socket.is_ended = true;
            self.read(client);
        }
    }

    /// From now on a client takes so many bytes, or all.
    pub(super) fn make_room(&mut self, client: Client, room: Option<usize>) {
        if let Some(socket) = self.sockets.get_mut(&client) {
            socket.room = room;
            self.flush(client);
        }
    }

    /// A client's socket is gone.
    pub(super) fn close(&mut self, client: Client) {
        if self.sockets.remove(&client).is_some() {
            let connection = id(client);
            self.handle(client.shard, Input::Closed { connection });
        }
    }

    /// Lets time pass; what falls due is done.
    pub(super) fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
        for at in 0..self.shards.len() {
            let due = self.shards[at].next_deadline_ms();
            if due.is_some_and(|at| at <= self.now.mono_ms) {
                self.handle(at, Input::Time);
            }
        }
    }

    pub(super) fn drain(&mut self) {
        for at in 0..self.shards.len() {
            let drain = Input::Drain {
                window_ms: 1_000,
                retry_after_ms: 500,
            };
            self.handle(at, drain);
        }
    }

    /// What a client has received since it was last asked.
    pub(super) fn received(&mut self, client: Client) -> Vec<u8> {
        let socket = self.sockets.get_mut(&client);
        socket.map_or_else(Vec::new, |it| std::mem::take(&mut it.received))
    }

    /// Turns until nothing is left to do.
    pub(super) fn run(&mut self) {
        for _ in 0..TURNS_MAX {
            let turns: Vec<bool> = (0..self.shards.len()).map(|at| self.turn(at)).collect();
            if !turns.contains(&true) {
                return;
            }
        }
        panic!("there is always something left to do");
    }

    /// What always holds.
    pub(super) fn check(&self) {
        self.shards.iter().for_each(Shard::check_invariants);
    }

    /// One shard's turn. Returns whether anything happened.
    pub(super) fn turn(&mut self, at: usize) -> bool {
        let clients: Vec<Client> = self.sockets.keys().copied().collect();
        let mut any = false;
        for client in clients.into_iter().filter(|it| it.shard == at) {
            any |= self.read(client);
        }
        self.handle(at, Input::EndOfTurn);
        let dirty: Vec<_> = self.shards[at].effects_mut().dirty.drain().collect();
        for connection in dirty {
            any = true;
            self.flush(Client {
                shard: at,
                slot: connection.slot,
            });
        }
        let turn = self.shards[at].turn();
        self.shards[at].offered(turn, self.now);
        for connection in std::mem::take(&mut self.shards[at].effects_mut().abort) {
            any = true;
            self.close(Client {
                shard: at,
                slot: connection.slot,
            });
        }
        let from = ShardId(at as u16);
        for to in 0..self.shards.len() {
            for message in std::mem::take(&mut self.shards[at].effects_mut().mesh[to]) {
                any = true;
                self.handle(to, Input::Mesh { from, message });
            }
        }
        let effects = self.shards[at].effects_mut();
        effects.readable.clear();
        effects.usage.clear();
        effects.ended.clear();
        effects.published.clear();
        effects.writes.clear();
        any || self.shards[at].has_work()
    }

    /// Reads what a client has sent, as far as the shard wants it. Returns whether it took any.
    fn read(&mut self, client: Client) -> bool {
        let connection = id(client);
        let mut any = false;
        while self.shards[client.shard].wants_input(connection)
            && let Some(socket) = self.sockets.get_mut(&client)
        {
            let count = socket.unread.len().min(READ_BYTES_MAX);
            let mut bytes: Vec<u8> = socket.unread.drain(..count).collect();
            let input = match bytes.is_empty() {
                false => Input::Received {
                    connection,
                    bytes: &mut bytes,
                },
                true if socket.is_ended && !socket.is_told => {
                    socket.is_told = true;
                    Input::Ended { connection }
                }
                true => break,
            };
            any = true;
            self.handle(client.shard, input);
        }
        any
    }

    fn flush(&mut self, client: Client) {
        let Some(Socket { received, room, .. }) = self.sockets.get_mut(&client) else {
            return;
        };
        let mut sink = |bytes: &[IoSlice<'_>]| {
            let mut count = 0;
            for bytes in bytes {
                let taken = room.map_or(bytes.len(), |room| room.min(bytes.len()));
                received.extend_from_slice(&bytes[..taken]);
                *room = room.map(|room| room - taken);
                count += taken;
            }
            match count {
                0 => Wrote::NoRoom,
                count => Wrote::Taken(count),
            }
        };
        let flushed = self.shards[client.shard].flush(id(client), self.now, &mut sink);
        if flushed == Flushed::Close {
            self.close(client);
        }
    }

    fn handle(&mut self, at: usize, input: Input<'_>) {
        self.shards[at].handle(input, self.now);
    }
}

fn id(client: Client) -> ConnectionId {
    ConnectionId {
        slot: client.slot,
        generation: 1,
    }
}

fn rights(history: Arc<HistoryRules>) -> Rights {
    let mut rights = Rights::new(1);
    let app = Arc::new(App {
        index: AppIndex(0),
        id: "app_f".into(),
        suspended: false,
        connections_max: None,
        messages_max: None,
        overages: true,
        plan: PlanView::default(),
        direct_needs_shared_channel: true,
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
    let secret = SigningMaterial::Ready {
        current: Arc::new(Secret::new(SECRET.as_bytes())),
        previous: None,
    };
    let publishable = KeyKind::Publishable {
        allowed_origins: Box::default(),
    };
    for (id, kind) in [
        ("sk_id_f", KeyKind::Secret(secret)),
        (PUBLISHABLE_KEY, publishable),
    ] {
        let actions = ["publish", "subscribe", "send", "presence"];
        rights.insert_key(Arc::new(Key {
            index: KeyIndex(0),
            id: id.into(),
            app: app.clone(),
            patterns: Pattern::parse("**").into_iter().collect(),
            actions: Actions::parse(actions).unwrap_or_default(),
            auto_inject_turn: false,
            kind,
        }));
    }
    rights
}
