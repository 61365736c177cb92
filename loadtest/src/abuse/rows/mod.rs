//! The rows: one attack each, small enough for a machine that does other work beside it.

use std::ops::Range;
use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::scene::Scene;
use crate::abuse::server::{Setup, TlsKey};
use crate::client::frame::{self, opcode};
use crate::failure::Failure;

mod admin_listener;
mod backlogs;
mod ceiling;
mod churn;
mod descriptors;
mod exits;
mod fanout;
mod handshakes;
mod joins;
mod last_words;
mod masses;
mod pings;
mod pipelined;
mod reconnects;
mod snapshots;
mod stalls;
mod storms;
mod tabs;
mod uncounted;

/// One attack.
pub(super) struct Row {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// What a server that is not started by `--spawn` has to be like.
    pub needs: &'static str,
    /// How it is started.
    pub setup: fn() -> Setup,
    /// The attack.
    pub run: fn(&mut Scene) -> Result<(), Failure>,
}

/// What nearly every row needs.
const KEY: &str = "--key, limits.connects_per_address = 0";
const TOKENS: &str = "--token-secret, limits.connects_per_address = 0";
const TOKENS_AND_KEY: &str = "--token-secret, --key, limits.connects_per_address = 0";
const KEY_NO_RATE: &str = "--key, limits.connects_per_address = 0, limits.message_rate = 0";
const TOKENS_NO_RATE: &str =
    "--token-secret, limits.connects_per_address = 0, limits.message_rate = 0";
const ADMIN: &str = "--token-secret, --admin, --admin-token, limits.connects_per_address = 0";
const SPAWN: &str = "--spawn";
const STORM: &str = "--token-secret, --server-pid or --admin, limits.connects_per_address = 0";
const REST: &str = "--token-secret, --api-secret, limits.connects_per_address = 0";

/// All of them, in the order in which `all` tries them.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "pipelined-health",
        shows: "requests for /healthz without pause, answers read: memory",
        needs: KEY,
        setup: Setup::new,
        run: pipelined::health,
    },
    Row {
        name: "pipelined-404",
        shows: "the same for a path that is not there",
        needs: KEY,
        setup: Setup::new,
        run: pipelined::not_found,
    },
    Row {
        name: "pipelined-401",
        shows: "the same with a bad credential",
        needs: KEY,
        setup: Setup::new,
        run: pipelined::unauthorized,
    },
    Row {
        name: "empty-pings",
        shows: "empty WebSocket pings without pause, pongs read: memory",
        needs: KEY_NO_RATE,
        setup: no_rates,
        run: pings::empty,
    },
    Row {
        name: "unread-pings",
        shows: "pings of 125 bytes, pongs not read: memory",
        needs: KEY_NO_RATE,
        setup: no_rates,
        run: pings::unread,
    },
    Row {
        name: "slow-pings",
        shows: "pings of 125 bytes, pongs read slowly: memory",
        needs: KEY_NO_RATE,
        setup: no_rates,
        run: pings::slow,
    },
    Row {
        name: "stalled-fanout",
        shows: "60 KB messages within the rate to 2,000 subscribers that do not read",
        needs: TOKENS,
        setup: Setup::new,
        run: fanout::stalled,
    },
    Row {
        name: "reading-fanout",
        shows: "60 KB messages within the rate to 500 subscribers that read: nobody is closed",
        needs: TOKENS,
        setup: Setup::new,
        run: fanout::reading,
    },
    Row {
        name: "slow-fanout",
        shows: "the same to 48 that read 200 KB/s: nobody is closed, who publishes waits",
        needs: TOKENS,
        setup: Setup::new,
        run: fanout::slow,
    },
    Row {
        name: "stuck-reader",
        shows: "the same to 16 that read and one that does not: only that one is closed",
        needs: TOKENS,
        setup: Setup::new,
        run: fanout::one_stuck,
    },
    Row {
        name: "unread-snapshots",
        shows: "eight subscribes each of 100 clients to a roster of 1 MB, unread: memory",
        needs: TOKENS_AND_KEY,
        setup: Setup::new,
        run: snapshots::subscribes,
    },
    Row {
        name: "unread-peers",
        shows: "150 unread answers of GET /v1/channels/:id/peers: memory",
        needs: REST,
        setup: Setup::new,
        run: snapshots::peers,
    },
    Row {
        name: "join-storms",
        shows: "four storms of 1,500 that join and leave: memory comes back",
        needs: TOKENS_NO_RATE,
        setup: no_rates,
        run: storms::memory_returns,
    },
    Row {
        name: "join-storm",
        shows: "5,000 join one channel at once: bytes and CPU time of a join",
        needs: "--token-secret, --server-pid or --admin, limits.connects_per_address = 0",
        setup: Setup::new,
        run: storms::joins,
    },
    Row {
        name: "idle-descriptors",
        shows: "more idle connections without a credential than there are descriptors",
        needs: "--key, --server-pid, --admin, limits.connects_per_address = 0, ulimit -n 1024",
        setup: few_descriptors,
        run: descriptors::idle,
    },
    Row {
        name: "memory-ceiling",
        shows: "0.8 GB of direct messages to peers that do not read, a ceiling of 160 MiB",
        needs: "--token-secret, limits.memory_bytes = 167772160, no rates",
        setup: with_ceiling,
        run: ceiling::direct,
    },
    Row {
        name: "pipelined-joins",
        shows: "99 subscribes at once, a ping behind them, a live channel beside them",
        needs: TOKENS_NO_RATE,
        setup: no_rates,
        run: joins::pipelined,
    },
    Row {
        name: "closes-behind-joins",
        shows: "a kick, a long and a binary message behind 67 subscribes: their close codes",
        needs: REST,
        setup: Setup::new,
        run: joins::closes_behind,
    },
    Row {
        name: "presence-churn",
        shows: "one peer joins and leaves a channel of 4,000 members 95 times a second",
        needs: TOKENS,
        setup: Setup::new,
        run: churn::churner,
    },
    Row {
        name: "many-tabs",
        shows: "one peer with 3,000 connections in 50 channels: CPU time of joins and leaves",
        needs: TOKENS_NO_RATE,
        setup: no_rates,
        run: tabs::joins_and_leaves,
    },
    Row {
        name: "scoped-send",
        shows: "a send to a peer with 1,000 connections, where a channel must be shared",
        needs: "--token-secret of an app with directScope shared-channel, no rates",
        setup: scoped,
        run: tabs::scoped_send,
    },
    Row {
        name: "mass-kick",
        shows: "a kick of 4,000 connections in 20 channels: strangers",
        needs: REST,
        setup: no_rates,
        run: masses::kick,
    },
    Row {
        name: "mass-revoke",
        shows: "a key of 4,000 connections is revoked: strangers",
        needs: ADMIN,
        setup: no_rates,
        run: masses::revoke,
    },
    Row {
        name: "mass-rights",
        shows: "a key of 4,000 connections gets other rights: strangers",
        needs: ADMIN,
        setup: no_rates,
        run: masses::rights,
    },
    Row {
        name: "mass-drain",
        shows: "a server with 4,000 connections is asked to end: close codes, exit code",
        needs: SPAWN,
        setup: drained,
        run: masses::drain,
    },
    Row {
        name: "reconnect-storm",
        shows: "4,000 clients (or --clients) in ten channels each drop and come back",
        needs: STORM,
        setup: Setup::new,
        run: reconnects::storm,
    },
    Row {
        name: "reconnect-storm-tls",
        shows: "the same over TLS, with an ECDSA key",
        needs: STORM,
        setup: fast_tls,
        run: reconnects::storm,
    },
    Row {
        name: "reconnect-storm-resumed",
        shows: "the same, and each client resumes its TLS session, as browsers do",
        needs: STORM,
        setup: fast_tls,
        run: reconnects::storm_resumed,
    },
    Row {
        name: "restart-storm",
        shows: "the same when the server is killed and started again at once",
        needs: SPAWN,
        setup: Setup::new,
        run: reconnects::restart,
    },
    Row {
        name: "mass-exit",
        shows: "1,000 clients ping and end their streams in a busy channel: no connection stays",
        needs: "--token-secret, --admin, limits.connects_per_address = 0",
        setup: no_rates,
        run: exits::mass_exit,
    },
    Row {
        name: "control-frames",
        shows: "pings and empty fragments without pause, at the default rate: 4011",
        needs: KEY,
        setup: Setup::new,
        run: uncounted::control_frames,
    },
    Row {
        name: "unauthorized-rate",
        shows: "requests with a bad credential from one address: 429",
        needs: KEY,
        setup: Setup::new,
        run: uncounted::without_credential,
    },
    Row {
        name: "mint-patterns",
        shows: "tokens with 100 awkward patterns for a key that has 100 of them: CPU time",
        needs: ADMIN,
        setup: no_rates,
        run: uncounted::mint,
    },
    Row {
        name: "admin-idle",
        shows: "140 connections with half a request to the admin listener",
        needs: "--key, --admin, --admin-token, limits.connects_per_address = 0",
        setup: Setup::new,
        run: admin_listener::idle,
    },
    Row {
        name: "tls-storm",
        shows: "1,500 clients shake hands at once and come back when cut off: all get in",
        needs: "wss with RSA-4096, --key, limits.head_timeout_ms = 1000, --server-pid or --admin",
        setup: slow_tls,
        run: handshakes::storm,
    },
    Row {
        name: "stalled-requests",
        shows: "SIGSTOP for 5.4 s while 500 requests arrive: all are answered",
        needs: SPAWN,
        setup: no_rates,
        run: stalls::requests,
    },
    Row {
        name: "stalled-quiet",
        shows: "SIGSTOP for 2.7 s of 3 s that clients may be silent: all live on",
        needs: SPAWN,
        setup: short_pings,
        run: stalls::quiet,
    },
    Row {
        name: "close-backlog",
        shows: "a client closes with 840 KB unread and reads on: all of it, and 1000",
        needs: TOKENS,
        setup: Setup::new,
        run: backlogs::close,
    },
    Row {
        name: "kick-backlog",
        shows: "a kick with 840 KB unread by a slow reader: all of it, and 4020",
        needs: REST,
        setup: Setup::new,
        run: backlogs::kick,
    },
    Row {
        name: "suspend-backlog",
        shows: "a suspended app with 840 KB unread by a slow reader: all of it, and 4012",
        needs: ADMIN,
        setup: Setup::new,
        run: backlogs::suspend,
    },
    Row {
        name: "slow-peers-list",
        shows: "a list of 1 MB read slowly, three ways: Content-Length is kept",
        needs: "--token-secret, --api-secret, rest.keep_alive_ms = 5000, no connect limit",
        setup: short_keep_alive,
        run: backlogs::peers_list,
    },
    Row {
        name: "last-words",
        shows: "subscribes, publishes and a close in one write, then FIN: all delivered",
        needs: "--token-secret, server.shards = 2, limits.connects_per_address = 0",
        setup: two_shards,
        run: last_words::websocket,
    },
    Row {
        name: "last-words-tls",
        shows: "the same over TLS, then close_notify",
        needs: "wss, --token-secret, server.shards = 2, limits.connects_per_address = 0",
        setup: two_shards_tls,
        run: last_words::websocket,
    },
    Row {
        name: "last-requests",
        shows: "16 pipelined publishes over REST, then FIN: all delivered and answered",
        needs: "--token-secret, --api-secret, server.shards = 2, no rates",
        setup: two_shards,
        run: last_words::rest,
    },
    Row {
        name: "last-requests-tls",
        shows: "the same over TLS, then close_notify, with and without FIN",
        needs: "wss, --token-secret, --api-secret, server.shards = 2, no rates",
        setup: two_shards_tls,
        run: last_words::rest,
    },
];

fn no_rates() -> Setup {
    Setup::new().without_rates()
}

fn scoped() -> Setup {
    no_rates().app("direct_scope = \"shared-channel\"")
}

fn drained() -> Setup {
    no_rates().set("shutdown.drain_ms", 1_000)
}

fn fast_tls() -> Setup {
    Setup::new().with_tls(TlsKey::P256)
}

fn slow_tls() -> Setup {
    Setup::new()
        .set("limits.head_timeout_ms", handshakes::HEAD_MS)
        .with_tls(TlsKey::Rsa4096)
}

fn short_pings() -> Setup {
    Setup::new()
        .set("limits.ping_after_ms", 1_000)
        .set("limits.drop_after_ms", 3_000)
}

fn short_keep_alive() -> Setup {
    Setup::new().set("rest.keep_alive_ms", 5_000)
}

fn two_shards() -> Setup {
    no_rates().with_shards(2)
}

fn two_shards_tls() -> Setup {
    two_shards().with_tls(TlsKey::P256)
}

fn few_descriptors() -> Setup {
    Setup::new().with_descriptors(1_024)
}

fn with_ceiling() -> Setup {
    no_rates().wish("limits.memory_bytes", ceiling::CEILING_BYTES)
}

/// `subscribe` with a request id.
pub(super) fn subscribe(channel: &str, id: &str) -> String {
    format!(r#"{{"type":"subscribe","channel":"{channel}","requestId":"{id}"}}"#)
}

/// `publish` of a text of so many bytes.
fn publish_of(channel: &str, bytes: usize) -> String {
    let data = "x".repeat(bytes);
    format!(r#"{{"type":"publish","channel":"{channel}","data":"{data}"}}"#)
}

/// Appends a text frame.
pub(super) fn text_frame(out: &mut Vec<u8>, text: &str) {
    frame::encode(out, opcode::TEXT, &[text.as_bytes()], [1, 2, 3, 4]);
}

/// Each of them subscribes to so many channels, and all are acked.
fn subscribe_all(
    scene: &mut Scene,
    tabs: Range<usize>,
    channels: usize,
    name: &str,
) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    for number in 0..channels {
        text_frame(&mut bytes, &subscribe(&format!("{name}-{number}"), "s"));
    }
    let wanted = scene.swarm.frames(tabs.clone(), Kind::Ack) + (tabs.len() * channels) as u64;
    tabs.clone().for_each(|it| scene.swarm.send(it, &bytes));
    let done = scene.swarm.until(Duration::from_secs(60), |swarm| {
        swarm.frames(tabs.clone(), Kind::Ack) >= wanted
    })?;
    if done {
        return Ok(());
    }
    let endings = scene.swarm.endings(tabs);
    Err(Failure::Timeout(format!(
        "the joins took over a minute: {endings}"
    )))
}

/// The same frame many times.
fn frames(opcode: u8, payload: &[u8], count: usize) -> Vec<u8> {
    let mut one = Vec::new();
    frame::encode(&mut one, opcode, &[payload], [1, 2, 3, 4]);
    one.repeat(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_told_from_the_words_beside_them() {
        let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
        assert!(!names.contains("all") && !names.contains("list"));
    }
}
