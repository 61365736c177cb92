//! What `/metrics` and the stats tell of a server that has done known things.

use std::cell::Cell;
use std::collections::HashSet;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::support::lines::Lines;
use crate::support::raw::{handshake, text_frame};
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::{on_shards, until};

/// A metrics page, taken apart.
struct Page(String);

impl Page {
    fn of(server: &Server) -> Self {
        Self(server.admin().call("GET", "/metrics", None).body)
    }

    /// All samples of a metric whose labels hold that text.
    fn samples(&self, name: &str, labels: &str) -> Vec<f64> {
        let name = format!("ringmesh_{name}");
        let lines = self.0.lines().filter_map(|line| line.rsplit_once(' '));
        let samples: Vec<f64> = lines
            .filter(|(of, _)| of.split('{').next() == Some(&name) && of.contains(labels))
            .map(|(_, value)| value.parse().unwrap())
            .collect();
        assert!(!samples.is_empty(), "no {name} with {labels} in {}", self.0);
        samples
    }

    /// They, added up over the shards.
    fn sum(&self, name: &str, labels: &str) -> f64 {
        self.samples(name, labels).iter().sum()
    }
}

#[test]
fn the_page_tells_exactly_what_has_happened() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut ann = server.quiet_peer("ann");
        let mut members: Vec<_> = (0..9)
            .map(|at| server.quiet_peer(&format!("m{at}")))
            .collect();
        for member in &mut members {
            member.subscribe("hall");
        }
        for number in 0..10 {
            ann.publish("hall", json!(number));
            for member in &mut members {
                assert!(member.next().contains("\"type\":\"message\""));
            }
        }
        server
            .attempt("/v1?key=pk_live_nobody", "")
            .is_error(401, "unauthorized");
        until("all is counted", || {
            Page::of(&server).sum("node_fan_out_seconds_count", "") >= 10.0
        });
        let page = Page::of(&server);
        for (name, labels, expected) in [
            ("connections", "", 10),
            ("peers", "", 10),
            ("channels", "", 1),
            ("handshakes_total", "", 10),
            ("node_handshake_seconds_count", "", 10),
            ("handshakes_refused_total", "cause=\"unknown_key\"", 1),
            ("handshakes_refused_total", "", 1),
            ("messages_received_total", "", 9 + 10),
            ("deliveries_total", "", 90),
            ("rest_requests_total", "", 0),
            ("dropped_total", "", 0),
            ("outbound_queue_bytes", "", 0),
            ("connections_blocked", "", 0),
        ] {
            assert_eq!(
                page.sum(name, labels),
                f64::from(expected),
                "{name} {labels}"
            );
        }
        // Only who publishes on another shard waits for the channel's order.
        let ordered = page.sum("node_command_to_order_seconds_count", "");
        assert!(ordered == 0.0 || ordered == 10.0 && shards > 1, "{ordered}");
        // The handshake's stage ends with the welcome; every other answer has its own.
        assert_eq!(
            page.sum("replies_total", "") - page.sum("handshakes_total", ""),
            page.sum("node_reply_seconds_count", "")
        );
        assert_eq!(page.sum("node_direct_seconds_count", ""), 0.0);
        // Each shard with members measures a publication once.
        let fan_outs = page.sum("fan_out_seconds_count", "");
        assert!(
            (10.0..=10.0 * f64::from(shards)).contains(&fan_outs),
            "{fan_outs}"
        );
        assert_eq!(fan_outs, page.sum("order_to_last_write_seconds_count", ""));
        assert_eq!(page.sum("mesh_messages_total", "") > 0.0, shards > 1);
        assert_eq!(
            page.sum("node_mesh_hop_seconds_count", "") > 0.0,
            shards > 1
        );
        assert!(page.sum("sent_bytes_total", "") > 90.0 * 50.0);
        assert!(page.sum("received_bytes_total", "") > 10.0 * 200.0);
        for stage in ["handshake", "read_to_command", "fan_out", "loop_lag"] {
            let quantiles = page.samples(&format!("node_{stage}_seconds"), "quantile");
            assert_eq!(quantiles.len(), 5);
            assert!(quantiles.is_sorted(), "{stage}: {quantiles:?}");
            assert!(
                quantiles[4] > 0.0 && quantiles[4] < 60.0,
                "{stage}: {quantiles:?}"
            );
        }
    });
}

#[test]
fn direct_messages_answers_and_rosters_have_stages() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut peers: Vec<_> = (0..4).map(|at| server.peer(&format!("p{at}"))).collect();
        for peer in &mut peers {
            peer.ask(json!({"type": "subscribe", "channel": "hall"}));
        }
        let mut quiet = server.quiet_peer("quiet");
        for (to, count) in [(0, 3), (1, 4), (2, 0), (3, 0)] {
            for number in 0..count {
                quiet.ask(json!({"type": "send", "to": format!("p{to}"), "data": number}));
            }
        }
        quiet.ask_refused(
            json!({"type": "send", "to": "nobody", "data": 0}),
            "peer_not_found",
        );
        until("all is written", || {
            Page::of(&server).sum("node_snapshot_seconds_count", "") == 4.0
        });
        let page = Page::of(&server);
        assert_eq!(page.sum("node_direct_seconds_count", ""), 7.0);
        assert_eq!(page.sum("direct_seconds_count", ""), 7.0);
        // Four of those who subscribe, eight of the one who sends.
        assert_eq!(page.sum("node_reply_seconds_count", ""), 12.0);
        for stage in ["direct", "reply", "snapshot"] {
            let quantiles = page.samples(&format!("node_{stage}_seconds"), "quantile");
            assert!(quantiles.is_sorted(), "{stage}: {quantiles:?}");
            assert!(quantiles[0] > 0.0, "{stage}: {quantiles:?}");
        }
        // A roster follows its ack after a pause.
        let snapshots = page.samples("node_snapshot_seconds", "quantile");
        assert!(snapshots[0] >= 0.0148, "{snapshots:?}");
    });
}

/// The names in the tables of the manual, without those of which only the beginning is told.
fn documented() -> HashSet<String> {
    let manual = include_str!("../../tuning/metrics.md");
    let rows = manual.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect()
}

#[test]
fn proxies_that_are_not_trusted_and_waits_for_the_disk_are_counted() {
    let server = Setup::new(1).start();
    server.attempt("/healthz", "Connection: close\r\n");
    for _ in 0..2 {
        let lines = "X-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n";
        server.attempt("/v1?key=pk_live_nobody", lines);
    }
    let app = json!({"appId": "app_x"});
    server.admin().create("/api/internal/v1/apps", &app);
    let page = Page::of(&server);
    assert_eq!(page.sum("forwarded_untrusted_total", ""), 2.0);
    assert!(page.sum("store_syncs_total", "") >= 2.0);
    assert!(page.sum("store_sync_seconds_total", "") > 0.0);
    assert!(page.sum("store_sync_last_seconds", "") > 0.0);
    assert_eq!(page.sum("certificate_not_after_seconds", ""), 0.0);
}

#[test]
fn the_manual_and_the_page_tell_of_the_same_metrics() {
    let server = Setup::new(1).start();
    let page = Page::of(&server).0;
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let shown: HashSet<_> = types
        .map(|line| line.split(' ').next().unwrap())
        .map(|name| name.strip_prefix("ringmesh_").unwrap())
        .map(|name| name.strip_prefix("node_").unwrap_or(name).to_owned())
        .collect();
    assert_eq!(shown, documented());
}

#[test]
fn connections_and_requests_are_told_by_how_they_ended() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        server.anonymous().close(Some(1_001));
        server.anonymous().close(Some(4_321));
        drop(server.anonymous());
        for _ in 0..3 {
            let answer = server.attempt("/healthz", "Connection: close\r\n");
            assert_eq!(answer.status, 200);
        }
        until("all have ended", || {
            Page::of(&server).sum("connections", "") == 0.0
        });
        let page = Page::of(&server);
        for (labels, expected) in [
            ("code=\"1001\"", 1),
            ("code=\"other\"", 1),
            ("code=\"1006\"", 1),
            ("code=\"http\"", 3),
            ("", 6),
        ] {
            let closed = page.sum("connections_closed_total", labels);
            assert_eq!(closed, f64::from(expected), "{labels}");
        }
        assert_eq!(page.sum("connections_opened_total", ""), 6.0);
        let health = "route=\"/healthz\",status=\"200\"";
        assert_eq!(page.sum("rest_requests_total", health), 3.0);
        assert_eq!(page.sum("node_rest_seconds_count", ""), 3.0);
    });
}

#[test]
fn what_a_reader_leaves_behind_is_shown_while_it_waits() {
    let server = Setup::new(1)
        .set("limits.outbound_queue_bytes", 50_000_000)
        .start();
    let mut deaf = server.raw();
    deaf.write(handshake("/v1?key=pk_live_a", ""));
    assert_eq!(deaf.response().status, 101);
    deaf.write(text_frame(
        r#"{"type":"subscribe","channel":"a","requestId":"1"}"#,
    ));
    while deaf.frame().1 != br#"{"type":"ack","requestId":"1"}"# {}
    let mut publisher = server.quiet_peer("pub");
    let data = "x".repeat(60_000);
    until("its socket is full", || {
        publisher.publish("a", json!(data));
        Page::of(&server).sum("connections_blocked", "") == 1.0
    });
    publisher.publish("a", json!(data));
    let waiting = Page::of(&server).sum("outbound_queue_bytes", "");
    assert!(waiting > 60_000.0, "{waiting}");
    drop(deaf);
    until("it is gone", || {
        let page = Page::of(&server);
        page.sum("connections_blocked", "") == 0.0 && page.sum("outbound_queue_bytes", "") == 0.0
    });
}

#[test]
fn the_stats_tell_the_same_as_the_page() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let mut ann = server.quiet_peer("ann");
        ann.subscribe("a");
        let mut ben = server.quiet_peer("ben");
        ben.publish("a", json!(1));
        ann.next();
        let stats = server.admin().get("/api/internal/v1/stats");
        assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
        let shards = stats["shards"].as_array().unwrap();
        let sum = |name: &str| -> u64 {
            let values = shards.iter().map(|shard| shard["totals"][name].as_u64());
            values.map(Option::unwrap).sum()
        };
        assert_eq!(
            (
                sum("handshakes"),
                sum("messagesReceived"),
                sum("deliveries")
            ),
            (2, 2, 1)
        );
        assert_eq!(stats["latencies"]["handshake"]["count"], 2);
        assert!(stats["latencies"]["handshake"]["maxUs"].as_f64().unwrap() > 0.0);
        assert_eq!(stats["latencies"]["rest"]["p50Us"], serde_json::Value::Null);
        for (at, shard) in shards.iter().enumerate() {
            assert_eq!(shard["shard"], at);
            assert_eq!(shard["rightsVersion"], shards[0]["rightsVersion"]);
            assert!(shard["totals"]["turns"].as_u64().unwrap() > 0);
        }
    });
}

#[test]
fn dashboard_and_alerts_name_what_is_there() {
    let server = Setup::new(2).start();
    let page = Page::of(&server).0;
    let samples: HashSet<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    for (name, text) in [
        (
            "dashboard",
            include_str!("../../tuning/grafana-dashboard.json"),
        ),
        ("alerts", include_str!("../../tuning/prometheus-alerts.yml")),
    ] {
        let mut found = 0;
        for (at, _) in text.match_indices("ringmesh_") {
            let is_of_name = |char: char| char == '_' || char.is_ascii_alphanumeric();
            let metric = text[at..].split(|char| !is_of_name(char)).next().unwrap();
            assert!(samples.contains(metric), "{name}: there is no {metric}");
            found += 1;
        }
        assert!(found > 10, "{name}: {found}");
    }
}

#[test]
fn the_start_of_the_process_does_not_move() {
    let server = Setup::new(1).start();
    let started = || Page::of(&server).sum("process_start_time_seconds", "");
    let first = started();
    for _ in 0..20 {
        assert_eq!(started(), first);
    }
}

/// `ringmesh stats` with those arguments, asking that server.
fn stats_command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = ringmesh();
    command
        .arg("stats")
        .arg("--admin-url")
        .arg(format!("http://{}", server.admin_address()))
        .args(arguments)
        .env("RINGMESH_ADMIN_TOKEN", server.admin().bearer)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn the_stats_command_shows_node_shards_and_stages() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let _clients: Vec<_> = (0..5).map(|_| server.anonymous()).collect();
        let output = stats_command(&server, &[]).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let tables: Vec<Vec<&str>> = text.split("\n\n").map(|it| it.lines().collect()).collect();
        assert_eq!(tables.len(), 3, "{text}");
        assert!(tables[0][0].starts_with(concat!("ringmesh ", env!("CARGO_PKG_VERSION"), ", up ")));
        assert_eq!(tables[1].len(), 1 + usize::from(shards));
        let connections = tables[1][1..].iter().map(|row| {
            let cell = row.split_whitespace().nth(2).unwrap();
            cell.parse::<u32>().unwrap()
        });
        assert_eq!(connections.sum::<u32>(), 5, "{text}");
        let handshakes = tables[2].iter().find_map(|it| it.strip_prefix("handshake"));
        assert_eq!(handshakes.unwrap().split_whitespace().next(), Some("5"));

        let output = stats_command(&server, &["--json"]).output().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            answer["shards"].as_array().unwrap().len(),
            usize::from(shards)
        );
    });
}

#[test]
fn the_stats_command_says_what_somebody_should_look_at() {
    let server = Setup::new(1).set("auth.explain", true).start();
    let explained = |arguments: &[&str]| {
        let output = stats_command(&server, arguments).output().unwrap();
        let notes = String::from_utf8(output.stderr).unwrap();
        notes
            .lines()
            .any(|line| line.starts_with("warn: ") && line.contains("auth.explain"))
    };
    assert!(explained(&[]));
    assert!(!explained(&["--quiet"]), "notes are left out");
}

#[test]
fn who_watches_sees_rates_and_sees_the_server_go_and_come() {
    let mut server = Setup::new(1).start();
    let mut watch = stats_command(&server, &["--watch"]).spawn().unwrap();
    let lines = Lines::of(watch.stdout.take().unwrap());
    lines.find("rates", |line| line.contains("IN/S").then_some(()));
    server.signal(Signal::TERM);
    server.exit_status();
    lines.find("its end", |line| {
        line.starts_with("no answer from").then_some(())
    });
    server.kill_and_restart();
    let gone = Cell::new(false);
    lines.find("its return", |line| {
        gone.set(gone.get() || line.starts_with("no answer from"));
        (gone.get() && line.starts_with("ringmesh ")).then_some(())
    });
    watch.kill().unwrap();
    watch.wait().unwrap();

    // Who is not there to begin with is an error.
    server.signal(Signal::TERM);
    server.exit_status();
    let output = stats_command(&server, &["--watch"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("no answer from") && text.lines().count() == 1,
        "{text}"
    );
}
