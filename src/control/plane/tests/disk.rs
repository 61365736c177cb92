//! Disks that fail, hang or forget: what is acknowledged holds, and all else passes by itself.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::create;
use crate::control::saves::{SAVE_EVERY, SAVE_EVERY_MAX, save_pause};
use crate::control::testing::{Server, exchange, scratch};

const APPS: &str = "/api/internal/v1/apps";
/// An upper bound only, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: still not");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn apps_of(server: &Server) -> Vec<String> {
    let mut apps: Vec<_> = server.first.apps().map(|app| app.id.to_string()).collect();
    apps.sort();
    apps
}

#[test]
fn a_full_disk_is_named_and_passes_by_itself() {
    let dir = scratch();
    let (server, disk) = Server::on_disk(dir.path());
    server.expect(201, "POST", APPS, Some(json!({"appId": "a"})));
    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = server.expect(503, "POST", APPS, Some(json!({"appId": "b"})));
        let text = error["message"].as_str().unwrap();
        for part in ["store.redb", "No space left", "free space", "no restart"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("re-open"), "{text}");
    }
    let unready = server.expect(503, "GET", "/readyz", None);
    assert!(unready["message"].as_str().unwrap().contains("free space"));
    assert!(metric(&server, "ringmesh_store_failed") > 0.0);
    server.expect(200, "GET", "/healthz", None);
    server.expect(404, "GET", &format!("{APPS}/b"), None);

    disk.full.store(false, Ordering::SeqCst);
    until("ready without being asked for anything", || {
        server.call("GET", "/readyz", None).0 == 200
    });
    server.expect(201, "POST", APPS, Some(json!({"appId": "c"})));
    server.expect(200, "DELETE", &format!("{APPS}/a"), None);
    server.running.shutdown();
    let server = Server::start(dir.path());
    assert_eq!(apps_of(&server), ["c"]);
    server.running.shutdown();
}

#[test]
fn a_change_that_failed_is_taken_back_wherever_it_failed() {
    // The first sync of a commit makes its data durable, the second makes it count.
    for syncs in [1, 2] {
        let dir = scratch();
        let (server, disk) = Server::on_disk(dir.path());
        server.handle.change(create("kept")).wait().unwrap();
        disk.syncs_until_failure.store(syncs, Ordering::SeqCst);
        let error = server.handle.change(create("lost")).wait().unwrap_err();
        assert_eq!(error.status(), 503, "{error}");
        server.handle.change(create("after")).wait().unwrap();
        server.running.shutdown();
        let server = Server::start(dir.path());
        assert_eq!(apps_of(&server), ["after", "kept"], "sync {syncs}");
        server.running.shutdown();
    }
}

#[test]
fn while_the_disk_hangs_everything_is_answered_that_needs_no_write() {
    let dir = scratch();
    let (server, disk) = Server::on_disk(dir.path());
    server.handle.change(create("a")).wait().unwrap();
    disk.hang(true);
    let pending = server.handle.change(create("b"));
    until("told by /readyz", || {
        let (status, body) = server.call("GET", "/readyz", None);
        assert_eq!(status, 200, "{body}");
        body["store"]
            .as_str()
            .is_some_and(|text| text.contains("the store has been writing for"))
    });
    assert!(metric(&server, "ringmesh_store_writing_seconds") >= 1.0);
    server.expect(200, "GET", "/healthz", None);
    server.expect(200, "GET", &format!("{APPS}/a"), None);
    server.expect(404, "GET", &format!("{APPS}/b"), None);
    disk.hang(false);
    pending.wait().unwrap();
    server.expect(200, "GET", &format!("{APPS}/b"), None);
    server.running.shutdown();
}

#[test]
fn changes_that_wait_for_a_hanging_disk_have_a_bound() {
    let dir = scratch();
    let (server, disk) = Server::on_disk(dir.path());
    disk.hang(true);
    let asked: Vec<_> = (0..200)
        .map(|number| server.handle.change(create(&format!("a{number}"))))
        .collect();
    let mut refused = 0;
    let mut waiting = Vec::new();
    for (number, mut answer) in asked.into_iter().enumerate() {
        if number < 128 {
            waiting.push(answer);
            continue;
        }
        until("refused", || match answer.0.try_recv() {
            Ok(outcome) => {
                assert_eq!(outcome.unwrap_err().status(), 503);
                true
            }
            Err(_) => false,
        });
        refused += 1;
    }
    disk.hang(false);
    for answer in waiting {
        answer.wait().unwrap();
    }
    assert_eq!(refused, 72);
    server.running.shutdown();
}

#[test]
fn the_longer_a_save_takes_the_more_seldom_it_is() {
    for (took_ms, failed, pause) in [
        (2, false, SAVE_EVERY),
        (2, true, Duration::from_secs(1)),
        (6_000, false, Duration::from_secs(60)),
        (60_000, true, SAVE_EVERY_MAX),
    ] {
        assert_eq!(save_pause(Duration::from_millis(took_ms), failed), pause);
    }
}

fn metric(server: &Server, name: &str) -> f64 {
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let page = exchange(server.admin, request.as_bytes()).body;
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {page}"))
        .trim()
        .parse()
        .unwrap()
}
