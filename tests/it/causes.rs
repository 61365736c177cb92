//! Causes that need a state of the server: it drains, or has no memory left, or cannot read a key.
//! Each is provoked from outside, and found by `events` and `why` with its remedy; and every cause
//! of the manual is provoked somewhere.

use std::collections::BTreeSet;

use redb::ReadableTable as _;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::events::{CLOSES, refused_credentials, refused_tokens};
use crate::silent;
use crate::support::admin::Api;
use crate::support::raw::{Raw, handshake, text_frame};
use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup, signer};
use crate::support::token::{now_sec, sign, token};
use crate::support::until;

const A: &str = "/api/internal/v1";

/// A kind and a cause of it.
pub(crate) type Caused = (&'static str, &'static str);

/// A state of a server in which these can be found.
struct Case {
    causes: &'static [Caused],
    provoke: fn() -> Provoked,
}

/// The server, and what is to live as long.
struct Provoked(Server, Vec<Raw>);

const CASES: &[Case] = &[
    Case {
        causes: &[("refused", "draining"), ("closed", "drain")],
        provoke: a_drain,
    },
    Case {
        causes: &[("refused", "token_too_long")],
        provoke: a_long_token,
    },
    Case {
        causes: &[("refused", "key_unreadable")],
        provoke: an_unreadable_key,
    },
    Case {
        causes: &[("refused", "connect_rate")],
        provoke: a_connect_rate,
    },
    Case {
        causes: &[("refused", "proxy_header")],
        provoke: no_proxy_header,
    },
    Case {
        causes: &[("closed", "close_timeout")],
        provoke: no_close_frame,
    },
    Case {
        causes: &[("closed", "ping_timeout")],
        provoke: no_answer,
    },
    Case {
        causes: &[("closed", "write_failed"), ("held", "replies")],
        provoke: nothing_is_read,
    },
    Case {
        causes: &[
            ("error", "malformed_message"),
            ("error", "invalid_peer_id"),
            ("error", "channel_reserved"),
            ("error", "missing_data"),
            ("error", "channel_limit_exceeded"),
            ("error", "over_message_quota"),
            ("error", "invalid_token"),
            ("error", "peer_mismatch"),
        ],
        provoke: wrong_commands,
    },
];

/// Those that other files of the tests provoke, each with what says so there.
const ELSEWHERE: &[(Caused, &str, &str)] = &[
    (("refused", "app_suspended"), EVENTS, "\"app_suspended\""),
    (
        ("refused", "connection_limit"),
        EVENTS,
        "cause=connection_limit",
    ),
    (("refused", "bad_upgrade"), EVENTS, "cause=bad_upgrade"),
    (("refused", "tls"), TLS, "(\"refused\", \"tls\")"),
    (("closed", "tls"), TLS, "(\"closed\", \"tls\")"),
    (
        ("error", "action_not_permitted"),
        EVENTS,
        "\"action_not_permitted\"",
    ),
    (
        ("error", "channel_not_authorized"),
        EVENTS,
        "\"channel_not_authorized\"",
    ),
    (("error", "unknown_type"), EVENTS, "\"unknown_type\""),
    (("error", "invalid_channel"), EVENTS, "\"invalid_channel\""),
    (("error", "peer_not_found"), EVENTS, "\"peer_not_found\""),
];
const EVENTS: &str = include_str!("events.rs");
const TLS: &str = include_str!("../it_tls/causes.rs");

/// Those that no client can provoke at will, and why.
const NOT_FROM_OUTSIDE: &[(Caused, &str)] = &[
    (
        ("error", "internal_error"),
        "a fault of the server itself, of which none is known",
    ),
    (
        ("held", "members"),
        "how much a shard sends before it holds publishers back is a matter of its turns",
    ),
    (
        ("closed", "shard_silent"),
        "the owner has to fall silent between two snapshots; the shard's own test is \
         a_member_whose_snapshot_cannot_be_asked_for_again_is_closed_to_try_again",
    ),
    (
        ("refused", "memory"),
        "when a process is at its ceiling is the allocator's and the kernel's choice; the shard's \
         own test is what_memory_costs_is_recorded",
    ),
    (("closed", "memory"), "the same"),
    (
        ("held", "link"),
        "16 MiB have to wait between two shards, which takes what the machine takes",
    ),
];

fn a_drain() -> Provoked {
    let server = Setup::new(2).set("shutdown.drain_ms", 40_000).start();
    let clients = (0..20).map(|number| {
        let mut raw = server.raw();
        let token = token("sk_id_a", json!({"sub": format!("p{number}")}));
        raw.write(handshake(&format!("/v1?token={token}"), ""));
        assert_eq!(raw.response().status, 101);
        assert_eq!(raw.frame().0, 1);
        raw
    });
    let clients: Vec<_> = clients.collect();
    server.signal(Signal::TERM);
    until("nobody new is taken", || {
        server.attempt("/v1?key=pk_live_a", "").status == 503
    });
    let begun = found(&server.admin(), ("node", "drain_begun"));
    assert!(begun["connections"].as_u64() >= Some(20), "{begun}");
    assert_eq!(begun["version"], env!("CARGO_PKG_VERSION"), "{begun}");
    Provoked(server, clients)
}

fn a_long_token() -> Provoked {
    let server = Setup::new(1).set("limits.head_bytes", 80_000).start();
    let long = "x".repeat(70_000);
    let refused = server.attempt(&format!("/v1?token={long}"), "");
    assert_eq!(refused.status, 401, "{refused:?}");
    Provoked(server, Vec::new())
}

/// The store's file was changed beside the server: one secret in it does not open any more.
fn an_unreadable_key() -> Provoked {
    const KEYS: redb::TableDefinition<'static, &str, &[u8]> = redb::TableDefinition::new("keys");
    let mut server = Setup::new(1).start();
    let api = server.admin();
    api.create(&format!("{A}/apps"), &json!({"appId": "app_x"}));
    let body = json!({"type": "secret", "channelPatterns": ["**"], "actions": ALL_ACTIONS});
    let key = api.create(&format!("{A}/apps/app_x/keys"), &body);
    let key_id = key["keyId"].as_str().unwrap();
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
    {
        let store = redb::Database::open(server.dir().join("data/store.redb")).unwrap();
        let change = store.begin_write().unwrap();
        {
            let mut keys = change.open_table(KEYS).unwrap();
            let row = keys.get(key_id).unwrap().unwrap().value().to_owned();
            let mut row: Value = serde_json::from_slice(&row).unwrap();
            let sealed = row["secrets"]["current"]["signing"].as_str().unwrap();
            let first = if sealed.starts_with('A') { "B" } else { "A" };
            row["secrets"]["current"]["signing"] = format!("{first}{}", &sealed[1..]).into();
            keys.insert(key_id, row.to_string().as_bytes()).unwrap();
        }
        change.commit().unwrap();
    }
    let server = server.into_setup().start();
    let header = json!({"alg": "HS256", "kid": key_id}).to_string();
    let claims = json!({"sub": "alice", "exp": now_sec() + 600}).to_string();
    let token = sign(&header, &claims, key["signingSecret"].as_str().unwrap());
    let refused = server.attempt(&format!("/v1?token={token}"), "");
    assert_eq!(refused.status, 503, "{refused:?}");
    Provoked(server, Vec::new())
}

fn a_connect_rate() -> Provoked {
    let server = Setup::new(1).set("limits.connects_per_address", 1).start();
    until("one connect too many", || {
        server.attempt("/v1?key=pk_live_a", "").status == 429
    });
    Provoked(server, Vec::new())
}

fn no_proxy_header() -> Provoked {
    let server = Setup::new(1)
        .set("server.proxy_protocol", true)
        .set("server.trusted_proxies", "[\"127.0.0.1\"]")
        .start();
    let mut raw = server.raw();
    raw.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    raw.ends_somehow();
    Provoked(server, Vec::new())
}

/// A connection of `app_a` behind its `welcome`.
fn welcomed(server: &Server, peer: &str) -> Raw {
    let mut raw = server.raw();
    let token = token("sk_id_a", json!({"sub": peer}));
    raw.write(handshake(&format!("/v1?token={token}"), ""));
    assert_eq!(raw.response().status, 101);
    assert_eq!(raw.frame().0, 1);
    raw
}

fn no_close_frame() -> Provoked {
    let server = Setup::new(1).start();
    let raw = welcomed(&server, "mute");
    let kicked = server
        .admin()
        .delete(&format!("{A}/apps/app_a/peer?id=mute"));
    assert_eq!(kicked["closed"], 1);
    Provoked(server, vec![raw])
}

fn no_answer() -> Provoked {
    let server = Setup::new(1)
        .set("limits.ping_after_ms", 1_000)
        .set("limits.drop_after_ms", 2_000)
        .start();
    let raw = welcomed(&server, "mute");
    Provoked(server, vec![raw])
}

/// Asks for so many answers that the server reads no more, as none is read.
fn hold_back(server: &Server, raw: &mut Raw, peer: &str) {
    use std::io::Write;
    let ping = text_frame(r#"{"type":"ping"}"#).repeat(1_000);
    raw.stream.set_nonblocking(true).unwrap();
    until("its input is held back", || {
        // A part of a frame is the beginning of the next: that is no matter where nothing is read.
        let mut rest = &ping[..];
        while let Ok(written) = raw.stream.write(rest) {
            rest = &rest[written..];
            if rest.is_empty() {
                return false;
            }
        }
        let seen = server
            .admin()
            .get(&format!("{A}/apps/app_a/peer?id={peer}"));
        seen["connections"][0]["held"] == "replies"
    });
    raw.stream.set_nonblocking(false).unwrap();
}

fn nothing_is_read() -> Provoked {
    let server = Setup::new(1).start();
    let mut late = welcomed(&server, "late");
    hold_back(&server, &mut late, "late");
    // It is told of what was held for longer than 100 ms.
    std::thread::sleep(std::time::Duration::from_millis(150));
    late.stream.shutdown(std::net::Shutdown::Write).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| late.ends_somehow());
        found(&server.admin(), ("held", "replies"));
    });
    let mut gone = welcomed(&server, "gone");
    hold_back(&server, &mut gone, "gone");
    set_socket_linger(&gone.stream, Some(std::time::Duration::ZERO)).unwrap();
    drop(gone);
    Provoked(server, Vec::new())
}

fn wrong_commands() -> Provoked {
    let plan = "[apps.plan]\nmax_messages_per_period = 1\n";
    let server = Setup::new(1)
        .set("limits.channels_per_connection", 1)
        .app("app_plan", &[signer("sk_id_plan") + plan])
        .start();
    let mut alice = server.quiet_peer("alice");
    alice.subscribe("room");
    for (command, code) in [
        (json!({"type": 1}), "malformed_message"),
        (
            json!({"type": "send", "to": "", "data": 1}),
            "invalid_peer_id",
        ),
        (
            json!({"type": "subscribe", "channel": "_system/x"}),
            "channel_reserved",
        ),
        (
            json!({"type": "publish", "channel": "room"}),
            "missing_data",
        ),
        (
            json!({"type": "subscribe", "channel": "hall"}),
            "channel_limit_exceeded",
        ),
        (json!({"type": "refresh"}), "invalid_token"),
        (
            json!({"type": "refresh", "token": token("sk_id_a", json!({"sub": "bob"}))}),
            "peer_mismatch",
        ),
    ] {
        alice.ask_refused(command, code);
    }
    let token = token("sk_id_plan", json!({"sub": "bob"}));
    let mut bob = server.connect(&format!("?token={token}"));
    bob.publish("room", json!(1));
    until("the quota", || {
        bob.send(r#"{"type":"publish","channel":"room","data":2,"requestId":"x"}"#);
        bob.next().contains("over_message_quota")
    });
    Provoked(server, Vec::new())
}

/// An event of that kind and cause, as soon as there is one.
pub(crate) fn found(api: &Api, (kind, cause): Caused) -> Value {
    let name = if kind == "error" { "code" } else { "cause" };
    let mut event = Value::Null;
    until(&format!("{kind} {cause}"), || {
        let path = format!("{A}/events?kind={kind}&{name}={cause}&since=1d&limit=1");
        event = api.get(&path)["events"][0].clone();
        event.is_object()
    });
    event
}

/// An event is found, has a remedy, and stands in the story of whoever it is about.
#[track_caller]
pub(crate) fn check_found(api: &Api, caused: Caused) {
    let event = found(api, caused);
    let remedy = event["remedy"].as_str().unwrap_or_default();
    assert!(!remedy.is_empty(), "{event}");
    let ends = matches!(caused.0, "refused" | "closed");
    if let Some(peer) = event["peer"].as_str().filter(|_| ends) {
        let why = api.get(&format!("{A}/why?peer={peer}"));
        let stories = why["stories"].as_array().unwrap();
        let is_told = stories.iter().any(|it| it["end"]["id"] == event["id"]);
        assert!(is_told, "{event}: {why}");
    }
}

#[test]
fn each_cause_that_needs_a_state_is_found_with_its_remedy() {
    for case in CASES {
        let Provoked(server, _raws) = (case.provoke)();
        for caused in case.causes {
            check_found(&server.admin(), *caused);
        }
    }
}

/// Who is connected when a second signal cuts the drain short: nobody can ask any more, and the
/// log has it.
#[test]
fn those_who_are_there_at_the_end_are_told_of_in_the_log() {
    let mut server = Setup::new(2)
        .set("shutdown.drain_ms", 60_000)
        .set("log.events", "\"all\"")
        .start();
    let mut clients: Vec<_> = (0..3).map(|at| server.peer(&format!("p{at}"))).collect();
    server.signal(Signal::TERM);
    for client in &mut clients {
        assert!(client.next().contains("going_away"));
    }
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
    let log = server.log.all();
    let events = log.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        serde_json::from_str(line["event"].as_str()?).ok()
    });
    let events: Vec<Value> = events.collect();
    let of = |(kind, cause): Caused| {
        let mut events = events.iter();
        let event = events.find(|it| it["kind"] == kind && it["cause"] == cause);
        event.unwrap_or_else(|| panic!("{kind} {cause}: {log}"))
    };
    for caused in AT_THE_END {
        let event = of(*caused);
        assert!(!event["remedy"].as_str().unwrap().is_empty(), "{event}");
    }
    assert_eq!(of(("node", "drain_begun"))["connections"], 3);
    assert_eq!(of(("node", "drain_ended"))["connections"], 3);
}

const AT_THE_END: &[Caused] = &[("closed", "shutdown")];

/// The causes of a kind in the manual, which a test of the server compares with its own.
fn causes_in_the_manual(kind: &str) -> BTreeSet<&'static str> {
    let manual = include_str!("../../src/docs/admin-api.md");
    let (_, section) = manual.split_once("| kind | causes |").unwrap();
    let mut rows = section.lines();
    let row = rows.find_map(|line| line.strip_prefix(&format!("| `{kind}` | ")));
    let row = row.unwrap_or_else(|| panic!("no causes of {kind}"));
    row.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_cause_is_provoked_or_has_a_reason_why_not() {
    let mut provoked = BTreeSet::new();
    for refusal in refused_credentials().into_iter().chain(refused_tokens()) {
        provoked.insert(("refused", refusal.cause));
    }
    provoked.extend(CLOSES.iter().map(|(cause, ..)| ("closed", *cause)));
    provoked.extend(CASES.iter().flat_map(|case| case.causes));
    provoked.extend(silent::CAUSES);
    provoked.extend(AT_THE_END);
    for (caused, text, part) in ELSEWHERE {
        assert!(text.contains(part), "{caused:?}: {part}");
        provoked.insert(*caused);
    }
    for (caused, reason) in NOT_FROM_OUTSIDE {
        assert!(!reason.is_empty());
        assert!(provoked.insert(*caused), "{caused:?} is provoked");
    }
    for kind in ["refused", "closed", "error", "held"] {
        let all = causes_in_the_manual(kind);
        let of_kind = provoked.iter().filter(|(it, _)| *it == kind);
        let of_kind: BTreeSet<_> = of_kind.map(|(_, cause)| *cause).collect();
        assert_eq!(of_kind, all, "{kind}");
    }
}
