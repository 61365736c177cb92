//! What the process bounds as a whole: time that it was stopped, descriptors, strangers.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::client::Client;
use crate::support::raw::{Raw, handshake, text_frame};
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::until;

/// Silence of a WebSocket after which it is asked for a sign of life, in milliseconds.
const PING_MS: u64 = 1_000;
/// A stranger's time for a request, and silence after which a WebSocket is dropped.
const HEAD_MS: u64 = 3_000;
const DROP_MS: u64 = 3_500;
/// Longer than each of these, by more than a stall is noticed after.
const STALL_MS: u64 = 3_700;

#[test]
fn whatever_arrived_while_the_process_stood_still_is_served() {
    // Whoever is late before the process stands still is late: everybody must be there in less
    // time than a deadline takes, so that a busy machine needs longer ones.
    let mut factors = [1, 2, 4, 8].into_iter();
    assert!(factors.any(stands_still), "too busy a machine");
}

/// Stops a server whose deadlines are so many times as long. Returns `false`, before that, if too
/// much time had passed by then.
fn stands_still(factor: u64) -> bool {
    let setup = Setup::new(2).set("limits.head_timeout_ms", HEAD_MS * factor);
    let setup = setup.set("limits.ping_after_ms", PING_MS * factor);
    let server = setup.set("limits.drop_after_ms", DROP_MS * factor).start();
    let began = Instant::now();
    let mut members: Vec<_> = (0..100)
        .map(|at| server.quiet_peer(&format!("{at}")))
        .collect();
    let mut strangers: Vec<_> = (0..500).map(|_| server.raw()).collect();
    until("all are accepted", || {
        let page = server.admin().call("GET", "/metrics", None).body;
        let lines = page
            .lines()
            .filter(|line| line.starts_with("ringmesh_connections{"));
        let counts = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap());
        counts.sum::<u32>() == 600
    });
    server.signal(Signal::STOP);
    if began.elapsed() >= Duration::from_millis(PING_MS * factor) {
        return false;
    }
    for stranger in &mut strangers {
        stranger.write("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    sleep(Duration::from_millis(STALL_MS * factor));
    server.signal(Signal::CONT);
    // Whoever was silent for longer than a silent connection lives was never asked.
    let subscribe = json!({"type": "subscribe", "channel": "a"});
    let ask = |member: &mut Client| member.request(subscribe.clone());
    let asked: Vec<_> = members.iter_mut().map(ask).collect();
    for stranger in &mut strangers {
        assert_eq!(stranger.response().status, 200);
    }
    for (member, id) in members.iter_mut().zip(asked) {
        member.expect(&format!(r#"{{"type":"ack","requestId":"{id}"}}"#));
    }
    true
}

/// A server that may open so many files.
pub(crate) fn with_files(setup: Setup, count: u32) -> Server {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {count} && exec \"$0\" serve --config \"$1\"");
    let program = ringmesh();
    command
        .args(["-c", &script])
        .arg(program.get_program())
        .arg(setup.config());
    Server::start(command, setup)
}

fn metric(server: &Server, line: &str) -> u64 {
    let page = server.admin().call("GET", "/metrics", None).body;
    let value = page.lines().find_map(|it| it.strip_prefix(line));
    value.unwrap().trim().parse().unwrap()
}

#[test]
fn connections_leave_descriptors_for_those_who_look_after_the_server() {
    let mut server = with_files(Setup::new(1), 256);
    let pauses = "ringmesh_accept_pauses_total{shard=\"0\",cause=\"descriptors\"}";
    let mut clients: Vec<_> = (0..240)
        .map(|_| {
            let mut client = server.raw();
            client.write(handshake("/v1?key=pk_live_a", ""));
            client
        })
        .collect();
    until("accepting pauses", || metric(&server, pauses) > 2);
    let open = metric(&server, "ringmesh_process_open_fds");
    assert!(open < 256 - 32, "{open} of 256 descriptors are open");
    let admins: Vec<_> = (0..16).map(|_| Raw::open(server.admin_address())).collect();
    assert_eq!(server.admin().call("GET", "/readyz", None).status, 200);
    drop(admins);
    // Those who wait get in when others leave.
    let others = clients.split_off(100);
    for mut client in clients {
        assert_eq!(client.response().status, 101);
    }
    for mut client in others {
        assert_eq!(client.response().status, 101);
    }
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
    let log = server.log.all();
    let warnings = log
        .lines()
        .filter(|it| it.contains("nobody is accepted until one ends"));
    assert_eq!(warnings.count(), 1, "one in a minute: {log}");
}

#[test]
fn idle_strangers_give_way_to_those_who_come() {
    // A quarter of the descriptors.
    let server = with_files(Setup::new(1), 400);
    let mut idle: Vec<_> = (0..100).map(|_| server.raw()).collect();
    let member = server.quiet_peer("a");
    let mut next: Vec<_> = (0..20).map(|_| server.raw()).collect();
    for client in &mut next {
        client.write("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    let closed = metric(
        &server,
        "ringmesh_unauthenticated_closed_total{shard=\"0\"}",
    );
    assert!((20..=22).contains(&closed), "{closed}");
    for client in &mut idle[..20] {
        client.ends_somehow();
    }
    assert_eq!(
        metric(&server, "ringmesh_connections_unauthenticated{shard=\"0\"}"),
        100
    );
    drop(member);
}

#[test]
fn memory_comes_back_after_a_storm() {
    const MEMBERS: usize = 300;
    const CLOSE_TO_START: u64 = 50 << 20;
    let server = Setup::new(2).start();
    let start = server.memory_bytes();
    for _ in 0..2 {
        let mut members: Vec<_> = (0..MEMBERS)
            .map(|_| {
                let mut client = server.raw();
                client.write(handshake("/v1?key=pk_live_a", ""));
                client
            })
            .collect();
        // They do not read what they cause.
        for member in &mut members {
            for _ in 0..4 {
                member.write(text_frame(
                    r#"{"type":"subscribe","channel":"a","presence":true}"#,
                ));
                member.write(text_frame(r#"{"type":"unsubscribe","channel":"a"}"#));
            }
        }
        drop(members);
    }
    until("memory is back", || {
        server.memory_bytes() < start + CLOSE_TO_START
    });
}
