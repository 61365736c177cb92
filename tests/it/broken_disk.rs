//! Disks that are full, read-only, broken or slow: changes of apps and keys wait or are refused,
//! messages go on, and all is well again by itself.

use std::sync::mpsc;
use std::thread;

use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::json;

use crate::support::disk::WRITES;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::syscalls::{Syscalls, Verdict};
use crate::support::until;
use crate::warnings::awaited;

const APPS: &str = "/api/internal/v1/apps";
const READY: &str = "/readyz";

fn start() -> (Server, Syscalls) {
    let setup = Setup::new(2);
    let mut command = ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    let syscalls = Syscalls::of(&mut command, &WRITES);
    (Server::start(command, setup), syscalls)
}

fn logged(server: &Server, text: &str) {
    let said = |line: &str| line.contains(text).then_some(());
    server.log.find(text, said);
}

#[test]
fn a_disk_that_fails_is_named_with_its_remedy_and_messages_go_on() {
    let (server, syscalls) = start();
    let admin = server.admin();
    let (mut sender, mut member) = (server.quiet_peer("a"), server.quiet_peer("b"));
    member.subscribe("room");
    let (pwrite, sync) = (libc::SYS_pwrite64, libc::SYS_fdatasync);
    let faults = [
        (pwrite, Errno::NOSPC, "No space left", "free space there"),
        // What a disk that was full says whose blocks are given out late.
        (sync, Errno::NOSPC, "No space left", "free space there"),
        (pwrite, Errno::ROFS, "Read-only", "mount the disk"),
        (pwrite, Errno::DQUOT, "quota", "raise it"),
        (sync, Errno::IO, "Input/output", "check the disk"),
    ];
    for (at, (number, error, cause, remedy)) in faults.into_iter().enumerate() {
        syscalls.judge(move |call| match call.number == number {
            true => Verdict::Fail(error),
            false => Verdict::Pass,
        });
        let refused = admin.call("POST", APPS, Some(&json!({"appId": format!("no_{at}")})));
        assert_eq!(refused.status, 503, "{refused:?}");
        for part in ["store.redb", cause, remedy, "no restart is needed"] {
            assert!(refused.body.contains(part), "{part}: {}", refused.body);
        }
        let unready = admin.call("GET", READY, None);
        assert_eq!(unready.status, 503, "{unready:?}");
        assert!(unready.body.contains(remedy), "{}", unready.body);
        assert_eq!(admin.call("GET", "/healthz", None).status, 200);
        sender.publish("room", json!(at));
        assert!(member.next().contains(&format!(r#""data":{at}"#)));
        server.peer("new").expect_nothing_queued();
        let warning = awaited(&admin, "store_failed");
        assert_eq!(warning["severity"], "critical", "{warning}");

        syscalls.pass();
        until("ready again by itself", || {
            admin.call("GET", READY, None).status == 200
        });
        admin.create(APPS, &json!({"appId": format!("yes_{at}")}));
    }
    logged(&server, "could not be written");
    logged(&server, "the store can be written again");
    let server = server.into_setup().start();
    let listed = server.admin().get(APPS)["apps"].to_string();
    for at in 0..faults.len() {
        assert!(listed.contains(&format!("yes_{at}")), "{listed}");
        assert!(!listed.contains(&format!("no_{at}")), "{listed}");
    }
}

#[test]
fn a_disk_that_hangs_does_not_keep_the_server_from_its_end() {
    let (mut server, syscalls) = start();
    let admin = server.admin();
    admin.create(APPS, &json!({"appId": "app_x"}));
    let mut client = server.anonymous();
    client.publish("room", json!("it counts"));
    let (_never, over) = mpsc::channel::<()>();
    syscalls.judge(move |_| {
        let _ = over.recv();
        Verdict::Pass
    });
    let asking = admin.clone();
    let body = json!({"appId": "app_y"});
    let asked = thread::spawn(move || asking.attempt("POST", APPS, Some(&body)));
    until("the disk hangs", || {
        admin
            .call("GET", READY, None)
            .body
            .contains("the disk is slow")
    });
    server.signal(Signal::TERM);
    client.expect(r#"{"type":"going_away","retryAfterMs":1000}"#);
    client.expect_close(1001);
    assert!(server.exit_status().success());
    assert!(asked.join().unwrap().is_none_or(|it| it.status == 503));
    logged(&server, "the disk hangs");
    let server = server.into_setup().start();
    server.admin().get(&format!("{APPS}/app_x"));
    assert_eq!(
        server
            .admin()
            .call("GET", &format!("{APPS}/app_y"), None)
            .status,
        404
    );
}

#[test]
fn a_slow_disk_makes_its_changes_wait_and_nothing_else() {
    let (server, syscalls) = start();
    let admin = server.admin();
    let (mut sender, mut member) = (server.quiet_peer("a"), server.quiet_peer("b"));
    member.subscribe("room");
    let (is_over, over) = mpsc::channel::<()>();
    syscalls.judge(move |_| {
        // Returns when the other end is gone.
        let _ = over.recv();
        Verdict::Pass
    });
    let asking = admin.clone();
    let asked = thread::spawn(move || asking.create(APPS, &json!({"appId": "app_x"})));
    until("told by /readyz, which stays good", || {
        let ready = admin.call("GET", READY, None);
        assert_eq!(ready.status, 200, "{ready:?}");
        ready.body.contains("the disk is slow")
    });
    for number in 0..100 {
        sender.publish("room", json!(number));
        assert!(member.next().contains(&format!(r#""data":{number}"#)));
    }
    server.peer("new").expect_nothing_queued();
    assert_eq!(admin.get(APPS)["apps"].as_array().unwrap().len(), 2);
    let page = admin.call("GET", "/metrics", None).body;
    let writing = page
        .lines()
        .find_map(|line| line.strip_prefix("ringmesh_store_writing_seconds "));
    assert!(writing.unwrap().parse::<f64>().unwrap() >= 1.0);
    assert!(!asked.is_finished());
    drop(is_over);
    assert_eq!(asked.join().unwrap()["appId"], "app_x");
    logged(&server, "the disk is slow");
    admin.get(&format!("{APPS}/app_x"));
}
