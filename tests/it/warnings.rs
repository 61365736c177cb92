//! What somebody should look at, as an operator finds it: provoked from outside, each with its
//! remedy, and gone again where that can be.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bounds::with_files;
use crate::support::admin::Api;
use crate::support::raw::handshake;
use crate::support::setup::{Setup, signer};
use crate::support::token::token;
use crate::support::until;

const A: &str = "/api/internal/v1";

/// Each warning of the manual, and what provokes it: a test of this file, or a part of another.
const PROVOKED: &[(&str, &str, &str)] = &[
    (
        "forwarded_for_untrusted",
        HERE,
        "awaited(&api, \"forwarded_for_untrusted\")",
    ),
    (
        "proxy_header_missing",
        HERE,
        "awaited(&api, \"proxy_header_missing\")",
    ),
    (
        "certificate_expires",
        CERTIFICATES,
        "\\\"code\\\":\\\"certificate_expires\\\"",
    ),
    (
        "certificate_refused",
        CERTIFICATES,
        "\\\"code\\\":\\\"certificate_refused\\\"",
    ),
    ("admin_exposed", HERE, "awaited(&api, \"admin_exposed\")"),
    (
        "descriptors_low",
        HERE,
        "awaited(&api, \"descriptors_low\")",
    ),
    ("accept_paused", HERE, "awaited(&api, \"accept_paused\")"),
    (
        "link_over_limit",
        WATCH,
        "fn links_over_their_limits_are_counted",
    ),
    ("shard_lag", WATCH, "fn a_shard_with_long_turns_lags"),
    ("slow_consumers", HERE, "awaited(&api, \"slow_consumers\")"),
    ("quota_near", HERE, "awaited(&api, \"quota_near\")"),
    (
        "events_short",
        WATCH,
        "fn ends_that_reach_back_less_than_a_minute_are_short",
    ),
    (
        "clock_stepped",
        WATCH,
        "fn a_wall_clock_that_jumps_has_stepped",
    ),
    (
        "reload_needs_restart",
        HERE,
        "awaited(&api, \"reload_needs_restart\")",
    ),
    ("token_short", HERE, "\"token_short\"] {"),
    ("store_failed", DISK, "awaited(&admin, \"store_failed\")"),
    ("bare_key_id_accepted", HERE, "\"bare_key_id_accepted\","),
    ("explain_on", HERE, "for code in [\"explain_on\","),
];
const HERE: &str = include_str!("warnings.rs");
const DISK: &str = include_str!("broken_disk.rs");
const CERTIFICATES: &str = include_str!("../it_tls/certificates.rs");
/// What needs an hour, a clock that jumps, or a machine that lags: with readings of a test's own.
const WATCH: &str = include_str!("../../src/control/events/watch.rs");

#[test]
fn every_warning_of_the_manual_is_provoked() {
    let manual = include_str!("../../src/docs/admin-api.md");
    let (_, section) = manual.split_once("| `code` | when |").unwrap();
    let rows = section
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let codes: BTreeSet<_> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(codes, PROVOKED.iter().map(|(code, ..)| *code).collect());
    for (code, text, part) in PROVOKED {
        // The list itself has it once, escaped.
        assert!(text.contains(part), "{code}: {part}");
    }
}

fn warnings(api: &Api) -> Vec<Value> {
    let answer = api.get(&format!("{A}/warnings"));
    answer["warnings"].as_array().unwrap().clone()
}

fn find(api: &Api, code: &str) -> Option<Value> {
    warnings(api).into_iter().find(|it| it["code"] == code)
}

/// The warning of that code, as soon as there is one.
#[track_caller]
pub(crate) fn awaited(api: &Api, code: &str) -> Value {
    let mut found = None;
    until(&format!("the warning {code}"), || {
        found = find(api, code);
        found.is_some()
    });
    let warning = found.unwrap();
    for field in ["severity", "since", "last", "text", "remedy"] {
        let text = warning[field].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{field}: {warning}");
    }
    assert!(warning["count"].as_u64().unwrap() > 0, "{warning}");
    warning
}

#[test]
fn a_server_without_faults_has_none() {
    let server = Setup::new(1).start();
    let api = server.admin();
    let _client = server.peer("ann");
    // What happens a second later is found, too.
    until("two looks", || {
        api.get(&format!("{A}/stats"))["process"]["uptimeMs"].as_u64() > Some(2_500)
    });
    // Turns are long where other programs have the cores.
    let mut warnings = warnings(&api);
    warnings.retain(|it| it["code"] != "shard_lag");
    assert_eq!(warnings, [] as [Value; 0]);
}

#[test]
fn settings_that_are_for_development_are_warned_about() {
    let setup = Setup::new(1);
    std::fs::create_dir(setup.dir().join("data")).unwrap();
    let mut server = setup
        .set("auth.explain", true)
        .set("rest.accept_bare_key_id", true)
        .write("data/admin.token", "short")
        .start();
    let api = server.admin();
    for code in ["explain_on", "bare_key_id_accepted", "token_short"] {
        awaited(&api, code);
    }
    server.log.find("a line of the log", |line| {
        line.contains("\"warning\":\"explain_on\"").then_some(())
    });
    let events = api.get(&format!("{A}/events?kind=warning&cause=explain_on"));
    assert_eq!(events["events"].as_array().unwrap().len(), 1, "{events}");
    // What needs a restart is one, and what was changed is none any more.
    server.reconfigure(|setup| {
        setup
            .set("auth.explain", false)
            .set("events.memory_per_shard", 2_000_000)
    });
    server.signal(Signal::HUP);
    let warning = awaited(&api, "reload_needs_restart");
    assert_eq!(warning["detail"], "events.memory_per_shard");
    assert_eq!(find(&api, "explain_on"), None);
}

#[test]
fn proxies_that_are_not_named_are_warned_about() {
    let server = Setup::new(1).start();
    let api = server.admin();
    let headers = "X-Forwarded-For: 203.0.113.9\r\n";
    assert_eq!(server.attempt("/v1?key=pk_live_a", headers).status, 101);
    let warning = awaited(&api, "forwarded_for_untrusted");
    assert_eq!(warning["detail"], "127.0.0.1");

    let server = Setup::new(1)
        .set("server.proxy_protocol", true)
        .set("server.trusted_proxies", "[\"127.0.0.1\"]")
        .start();
    let api = server.admin();
    let mut raw = server.raw();
    raw.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    raw.ends_somehow();
    let warning = awaited(&api, "proxy_header_missing");
    assert_eq!(warning["detail"], "127.0.0.1");
}

#[test]
fn a_server_without_descriptors_is_warned_about_and_says_when_it_goes_on() {
    let server = with_files(Setup::new(1), 256);
    let api = server.admin();
    let clients: Vec<_> = (0..240)
        .map(|_| {
            let mut client = server.raw();
            client.write(handshake("/v1?key=pk_live_a", ""));
            client
        })
        .collect();
    awaited(&api, "descriptors_low");
    let warning = awaited(&api, "accept_paused");
    assert_eq!(warning["detail"], "descriptors");
    drop(clients);
    let mut resumed = Value::Null;
    until("accepting goes on", || {
        let found = api.get(&format!("{A}/events?kind=accept&cause=resumed"));
        resumed = found["events"][0].clone();
        resumed.is_object()
    });
    assert!(resumed["pausedMs"].as_u64() >= Some(100), "{resumed}");
}

#[test]
fn an_admin_listener_that_others_can_reach_is_warned_about() {
    let server = Setup::new(1).set("admin.listen", "\"0.0.0.0:0\"").start();
    let api = server.admin();
    let warning = awaited(&api, "admin_exposed");
    assert_eq!(warning["detail"], "0.0.0.0:0");
}

#[test]
fn slow_consumers_and_quotas_are_warned_about() {
    let secret = "api_secret_file = \"api.secret\"\n";
    let plan = "[apps.plan]\nmax_messages_per_period = 10\n";
    let server = Setup::new(1)
        .set("limits.outbound_queue_bytes", 200_000)
        .app("app_plan", &[signer("sk_id_plan") + plan])
        .app("app_rest", &[signer("sk_id_rest") + secret])
        .start();
    let api = server.admin();
    let query = token("sk_id_plan", json!({"sub": "ann"}));
    let mut ann = server.connect(&format!("?token={query}"));
    for _ in 0..10 {
        ann.publish("room", json!(1));
    }
    let mut reached = Value::Null;
    until("the quota of messages", || {
        let answer = api.get(&format!("{A}/events?kind=quota&cause=quota_reached"));
        reached = answer["events"][0].clone();
        reached.is_object()
    });
    assert_eq!(
        (&reached["limit"], &reached["used"], &reached["allowed"]),
        (&json!("messages"), &json!(10), &json!(10))
    );
    assert_eq!(reached["app"], "app_plan");
    let warning = awaited(&api, "quota_near");
    assert_eq!(warning["detail"], "app_plan: 10 of 10 messages");

    let query = token("sk_id_rest", json!({"sub": "slow"}));
    let mut slow = server.connect(&format!("?token={query}"));
    slow.subscribe("wide");
    let rest = Api {
        address: server.public,
        bearer: "sk_live_declared_0123456789".into(),
    };
    // More than the kernel's buffers and the limit take.
    let body = json!({"data": "x".repeat(30_000)});
    for _ in 0..400 {
        rest.done(200, "POST", "/v1/channels/wide/publish", Some(&body));
    }
    awaited(&api, "slow_consumers");
}

#[test]
fn the_node_says_what_it_is_and_how_it_goes() {
    let server = Setup::new(2).start();
    let api = server.admin();
    let node = api.get(&format!("{A}/node"));
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&node["mode"], &node["shards"], &node["certificate"]),
        (&json!("serve"), &json!(2), &Value::Null)
    );
    let public = json!({"role": "public", "address": server.public.to_string(), "tls": false});
    assert_eq!(node["listeners"][0], public);
    assert_eq!(node["listeners"][1]["role"], "admin");
    assert_eq!(node["publicUrl"], format!("ws://{}", server.public));
    let file = node["configFile"].as_str().unwrap();
    assert!(file.ends_with(".toml") && file.starts_with('/'), "{node}");
    assert!(node["dataDir"].as_str().unwrap().starts_with('/'), "{node}");

    let mut clients: Vec<_> = (0..6).map(|at| server.peer(&format!("p{at}"))).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.subscribe(&format!("a{at}"));
        client.subscribe(&format!("b{at}"));
    }
    let stats = api.get(&format!("{A}/stats"));
    assert_eq!(stats["subscriptions"], 12, "{stats}");
    let sum = |of: &str| -> u64 {
        let shards = stats["shards"].as_array().unwrap().iter();
        shards.map(|it| it[of].as_u64().unwrap()).sum()
    };
    assert_eq!(sum("subscriptions"), 12);
    assert!(stats["at"].as_u64() >= node["startedAt"].as_u64());
    let memory = &stats["memory"];
    assert!(memory["resident"].as_u64().unwrap() > 1 << 20, "{memory}");
    assert!(memory["events"].as_u64().unwrap() > 100, "{memory}");
    clients.truncate(2);
    until("those who have left", || {
        api.get(&format!("{A}/stats"))["subscriptions"] == 4
    });
    until("rates", || {
        let rates = &api.get(&format!("{A}/stats"))["rates"];
        rates["messagesIn"].as_f64() > Some(0.0)
            && rates["opened"].as_f64() > Some(0.0)
            && rates["closed"].as_f64() > Some(0.0)
    });
}
