//! What happens to shards beside sockets and links: settings, memory, cores that are taken away,
//! shards that are lost; and what a connection may make the server keep.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ahash::RandomState;
use ringmesh::domain::connect_rate::ConnectRates;
use ringmesh::domain::request_rate::{RequestLimits, RequestRates};
use ringmesh::domain::token_bucket::BucketLimits;
use ringmesh::ids::{ConnectionId, ShardId};
use ringmesh::proto::forwarded::TrustedProxies;
use ringmesh::shard::config::ShardLimits;
use ringmesh::shard::input::{HandshakeStep, Input, MemoryLevel};
use ringmesh::shard::settings::Settings;
use ringmesh::shard::state::Shard;

use crate::looks::PORTIONS;
use crate::random::Random;
use crate::wire::Response;
use crate::world::{OUTBOUND_BYTES_MAX, World};

/// The longest message with its envelope and header, or the longest head with a body.
const INPUT_BYTES_MAX: usize = 4 * 1_024 + 1_024 + 14;
/// What one read may bring.
const READ_BYTES_MAX: usize = 64 * 1_024;
/// Pongs that wait until nothing more is read, and what one read step may add to them.
const CONTROL_BYTES_MAX: usize = 4 * 1_024 + 2 * 127;
/// Connections of a shard without a credential.
const STRANGERS_MAX: usize = 12;
/// Small ones, so that what is too much, or read too early, is found out.
fn limits(channels_per_connection: usize) -> ShardLimits {
    ShardLimits {
        message_bytes_max: 4 * 1_024,
        channels_per_connection,
        message_rate: BucketLimits {
            rate_per_sec: 1_000_000,
            burst: 1_000_000,
        },
        outbound_queue_bytes: OUTBOUND_BYTES_MAX,
        head_bytes_max: 2 * 1_024,
        rest_body_bytes_max: 2 * 1_024,
        head_timeout_ms: 60_000,
        unauthenticated_connections_max: STRANGERS_MAX,
        ..ShardLimits::default()
    }
}

/// What a server is told that operators may change.
pub(crate) fn settings(
    seed: u64,
    channels_per_connection: usize,
    hasher: &RandomState,
    random: &mut Random,
) -> (Settings, bool, bool) {
    let limits_connects = random.percent(20);
    let limits_keys = random.percent(20);
    let (connect_rates, request_rates) = rates(limits_connects, limits_keys, hasher);
    let settings = Settings {
        reject_with_close: seed.is_multiple_of(2),
        explain: false,
        accept_bare_key_id: false,
        trusted_proxies: TrustedProxies::default(),
        request_rates,
        connect_rates,
        limits: limits(channels_per_connection),
    };
    (settings, limits_connects, limits_keys)
}

/// How often may be connected, and how often requests may be made, before anybody has.
fn rates(
    limits_connects: bool,
    limits_keys: bool,
    hasher: &RandomState,
) -> (Arc<ConnectRates>, Arc<RequestRates>) {
    let connects_max = if limits_connects { 60 } else { 1_000_000 };
    let mut rates = RequestLimits::NONE;
    if limits_keys {
        rates.per_key = BucketLimits {
            rate_per_sec: 5,
            burst: 20,
        };
    }
    (
        Arc::new(ConnectRates::new(connects_max, 60_000, hasher)),
        Arc::new(RequestRates::new(&rates, hasher)),
    )
}

/// Whatever a client does, the server keeps no more for it than this, in bytes.
pub(crate) fn check_held(shard: &Shard, id: ConnectionId) {
    let Some(held) = shard.bytes_held(id) else {
        return;
    };
    let (input, control) = (held.input, held.control);
    let input_max = INPUT_BYTES_MAX + READ_BYTES_MAX;
    assert!(input <= input_max, "{input} bytes of input are kept");
    let control_max = CONTROL_BYTES_MAX;
    assert!(control <= control_max, "{control} bytes of pongs are kept");
    let deliveries = held.deliveries + held.directs;
    let is_bounded = deliveries <= shard.delivery_bytes_max(id);
    assert!(is_bounded, "{deliveries} bytes of deliveries are kept");
}

impl World {
    /// Another process knows only what it is told of connects and requests before it.
    pub(crate) fn begin_to_count_rates(&mut self, hasher: &RandomState) {
        let (connects, keys) = (self.has_limited_connects, self.has_limited_keys);
        let (connect_rates, request_rates) = rates(connects, keys, hasher);
        self.settings.connect_rates = connect_rates;
        self.settings.request_rates = request_rates;
    }

    /// A shard's core is taken away.
    pub(crate) fn silence(&mut self, at: usize) {
        let now_ms = self.now().mono_ms;
        self.nodes[at].silent_since_ms.get_or_insert(now_ms);
    }

    /// All shards go on; who was late forgives as much.
    pub(crate) fn wake_all(&mut self) {
        let now = self.now();
        for node in &mut self.nodes {
            if let Some(since_ms) = node.silent_since_ms.take() {
                node.shard.forgive(now.mono_ms - since_ms, now);
            }
        }
    }

    /// A shard is gone, with its sockets and all that was on its way to it or from it.
    pub(crate) fn lose(&mut self, lost: usize) {
        self.nodes[lost].is_lost = true;
        for other in 0..self.shard_count() {
            self.forget_link(lost, other);
            self.forget_link(other, lost);
        }
        for socket in self.sockets.iter_mut().filter(|it| it.shard == lost) {
            socket.server_ended = true;
            socket.closed = true;
        }
    }

    /// Another shard hears of it.
    pub(crate) fn tell_lost(&mut self, at: usize, lost: usize) {
        let shard = ShardId(lost as u16);
        self.handle(at, Input::Lost { shard });
    }

    /// The process's memory is so tight.
    pub(crate) fn memory(&mut self, level: MemoryLevel) {
        self.seen.pressed |= level == MemoryLevel::AtCeiling;
        for at in 0..self.shard_count() {
            let excess_bytes = usize::from(level == MemoryLevel::AtCeiling);
            self.handle(
                at,
                Input::Memory {
                    level,
                    excess_bytes,
                },
            );
        }
    }

    /// Other settings hold: bad credentials are refused in the other way.
    pub(crate) fn switch_settings(&mut self) {
        self.settings.reject_with_close ^= true;
        for at in 0..self.shard_count() {
            self.handle(at, Input::Settings(Arc::new(self.settings.clone())));
        }
    }

    /// What has been counted is reported.
    pub(crate) fn report_usage(&mut self) {
        for at in 0..self.shard_count() {
            self.handle(at, Input::Usage);
            let effects = self.nodes[at].shard.effects_mut();
            let usage: Vec<_> = effects.usage.drain(..).collect();
            for delta in usage {
                self.used[delta.app.0 as usize] += delta.messages;
            }
        }
    }

    /// A proxy or TLS stands before a connection's first request.
    pub(crate) fn stand_before(&mut self, socket: usize, random: &mut Random) {
        let (at, connection) = (self.sockets[socket].shard, self.sockets[socket].id);
        let client = IpAddr::V4(Ipv4Addr::new(10, 0, 0, random.below(4) as u8));
        self.handle(at, Input::Proxied { connection, client });
        let answered = random.percent(50);
        for step in [HandshakeStep::Due, HandshakeStep::Taken { answered }] {
            self.handle(at, Input::Handshake { connection, step });
        }
    }

    /// A client's socket is reset: nothing more comes or goes.
    pub(crate) fn reset(&mut self, socket: usize) {
        let it = &mut self.sockets[socket];
        it.to_server.clear();
        it.client_ended = true;
        it.client_reads = false;
        if !it.closed {
            let (at, id) = (it.shard, it.id);
            self.close(at, id);
        }
    }

    /// Somebody was closed with that code.
    pub(crate) fn note_close(&mut self, code: Option<u16>) {
        let code = code.map_or("none".to_owned(), |code| code.to_string());
        self.meter.note("close", &code);
    }

    /// Somebody was answered so.
    pub(crate) fn note_response(&mut self, response: &Response) {
        self.meter.note("status", &response.status.to_string());
        let error = response.body.split_once(r#""error":""#);
        if let Some((code, _)) = error.and_then(|(_, rest)| rest.split_once('"')) {
            self.meter.note("rest", code);
        }
    }

    /// Why deadlines came, over all shards, goes into the meter.
    pub(crate) fn note_deadlines(&mut self) {
        for node in &self.nodes {
            for (name, count) in node.shard.deadlines_met() {
                self.meter.add("deadline", &name, count);
            }
        }
    }
}

/// Bounds what a shard does at a time, down to one connection a turn and one slot of a walk.
pub(crate) fn limit(shard: &mut Shard, seed: u64) {
    shard.limit_portions([1, 10, 40, 1_024][seed as usize % 4]);
    shard.limit_walks(PORTIONS[seed as usize / 4 % 4]);
}
