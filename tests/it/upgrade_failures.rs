//! Upgrades that fail, at each stage and in either process: the one that was there serves on, says
//! why, and the next upgrade comes to its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, test_kill_process};
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::command::check_failure;
use crate::support::raw::Raw;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::until;
use crate::upgrade::patient;

const UPGRADE: &str = "/api/internal/v1/upgrade";
const FAULT: &str = "fault";

/// A server that looks for faults in a file of its directory.
fn faulty(setup: Setup) -> Server {
    let mut command = ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    command.env("RINGMESH_FAULT_FILE", setup.dir().join(FAULT));
    Server::start(command, setup)
}

/// An upgrade fails with that cause, which is told and logged, and everybody is served on.
#[track_caller]
fn fails(server: &Server, clients: &mut [Client; 2], part: &str) {
    let seen = server.log.so_far().len();
    let admin = server.admin();
    let mut raw = Raw::open(admin.address);
    raw.wait_longer();
    raw.write(admin.request("POST", UPGRADE, None));
    let refused = raw.response();
    assert_eq!(refused.status, 409, "{part}: {refused:?}");
    assert!(
        refused.body.contains(part),
        "{part:?} is not in {}",
        refused.body
    );
    until("the log says why", || {
        let lines = server.log.so_far();
        lines[seen..]
            .iter()
            .any(|line| line.contains("upgrade failed: "))
    });
    goes_on(clients);
}

/// A publication reaches the other one.
#[track_caller]
fn goes_on([from, to]: &mut [Client; 2]) {
    from.publish("room", json!("on"));
    let heard = to.next();
    assert!(heard.contains(r#""data":"on""#), "{heard}");
}

fn two(server: &Server) -> [Client; 2] {
    let mut clients = ["a", "b"].map(|id| server.quiet_peer(id));
    clients[1].subscribe("room");
    clients
}

/// Gives upgrades so many milliseconds, from now on.
fn set_times(server: &mut Server, ms: u64) {
    server.reconfigure(|setup| {
        let setup = setup.set("handover.prepare_ms", ms);
        setup.set("handover.pause_max_ms", ms)
    });
    let reloads = |server: &Server| {
        let lines = server.log.so_far();
        lines
            .iter()
            .filter(|it| it.contains(r#""message":"reloaded""#))
            .count()
    };
    let before = reloads(server);
    server.signal(Signal::HUP);
    until("it was reloaded", || reloads(server) > before);
}

#[test]
fn each_fault_of_the_new_process_leaves_the_old_one_serving() {
    let mut server = faulty(patient(2));
    let fault = server.dir().join(FAULT);
    let mut clients = two(&server);
    for stage in ["A3", "A4", "A5", "B4", "B5"] {
        for (what, part) in [
            ("exit", "exit status: 7"),
            ("garble", "sent what is no message"),
        ] {
            fs::write(&fault, format!("new {stage} {what}")).unwrap();
            fails(&server, &mut clients, part);
        }
    }
    for (line, part) in [
        ("new A3 panic", "exit status: 101"),
        ("new B6 exit", "exit status: 7"),
        ("new B5 kill", "signal: 9"),
        ("new B6 panic", "exit status: 101"),
    ] {
        fs::write(&fault, line).unwrap();
        fails(&server, &mut clients, part);
    }
    // Whoever does nothing is given up in time, however far it has come by then.
    set_times(&mut server, 4_000);
    for line in ["new A3 hang", "new B5 hang", "new B6 stop"] {
        fs::write(&fault, line).unwrap();
        fails(&server, &mut clients, "in time");
    }
    fs::remove_file(&fault).unwrap();
    set_times(&mut server, 60_000);
    server.upgrade();
    goes_on(&mut clients);
}

#[test]
fn what_the_old_process_garbles_ends_the_new_one() {
    let mut server = faulty(patient(1));
    let fault = server.dir().join(FAULT);
    let mut clients = two(&server);
    for stage in ["A4", "B3", "B6"] {
        fs::write(&fault, format!("old {stage} garble")).unwrap();
        fails(&server, &mut clients, "sent what is no message");
    }
    fs::remove_file(&fault).unwrap();
    server.upgrade();
    goes_on(&mut clients);
}

/// Who has everything and is alone with it serves.
#[test]
fn if_the_old_process_dies_when_all_was_handed_over_the_new_one_serves() {
    let mut server = faulty(patient(1));
    let mut clients = two(&server);
    fs::write(server.dir().join(FAULT), "old B6 kill").unwrap();
    let asked = server.admin().attempt("POST", UPGRADE, None);
    assert!(asked.is_none(), "{asked:?}");
    let pid = server.log.find("a process took over", |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["message"] == "upgrade: started").then(|| event["pid"].clone())
    });
    server.upgraded(&json!({"pid": pid}));
    goes_on(&mut clients);
    let apps = "/api/internal/v1/apps";
    server.admin().create(apps, &json!({"appId": "after"}));
}

/// Puts a program where the server was started from.
fn install(at: &Path, from: &Path) {
    let new = at.with_extension("new");
    fs::copy(from, &new).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, at).unwrap();
}

#[test]
fn another_program_or_a_bad_configuration_is_refused_and_a_good_one_is_taken() {
    let setup = patient(1).set("handover.prepare_ms", 15_000);
    let program = setup.dir().join("server");
    let ringmesh_program = Path::new(env!("CARGO_BIN_EXE_ringmesh"));
    install(&program, ringmesh_program);
    let mut command = Command::new(&program);
    command.arg("serve").arg("--config").arg(setup.config());
    let mut server = Server::start(command, setup);
    let mut clients = two(&server);

    for (text, part) in [
        ("#!/bin/sh\nexit 3\n", "exit status: 3"),
        ("#!/bin/sh\nexec sleep 600\n", "did not answer in time"),
        ("no program", "A2"),
    ] {
        let script = server.dir().join("script");
        fs::write(&script, text).unwrap();
        install(&program, &script);
        let part = if part == "A2" { "start: " } else { part };
        fails(&server, &mut clients, part);
    }
    fs::remove_file(&program).unwrap();
    fails(&server, &mut clients, "No such file");
    install(&program, ringmesh_program);

    server.reconfigure(|setup| setup.set("limits.message_bytes", 1));
    fails(&server, &mut clients, "limits.message_bytes");
    server.reconfigure(|setup| setup.set("limits.message_bytes", 4_000));
    server.upgrade();
    goes_on(&mut clients);
    let welcome: Value = serde_json::from_str(&server.anonymous().welcome).unwrap();
    assert_eq!(welcome["maxMessageSize"], 4_000);
}

#[test]
fn a_second_upgrade_and_an_end_meanwhile_are_in_order() {
    let mut server = faulty(patient(1));
    let mut clients = two(&server);
    let fault = server.dir().join(FAULT);
    fs::write(&fault, "new A3 hang").unwrap();
    let admin = server.admin();
    let first = std::thread::spawn(move || admin.attempt("POST", UPGRADE, None));
    server.log.find("it is under way", |line| {
        line.contains("upgrade: started").then_some(())
    });
    let second = server.admin().call("POST", UPGRADE, None);
    assert_eq!(second.status, 409);
    assert!(
        second.body.contains("another upgrade is under way"),
        "{second:?}"
    );
    goes_on(&mut clients);
    server.signal(Signal::USR2);
    server.log.find("the signal is refused", |line| {
        line.contains("an upgrade is under way").then_some(())
    });
    server.signal(Signal::TERM);
    let first = first.join().unwrap().unwrap();
    assert_eq!(first.status, 409);
    assert!(
        first.body.contains("the server was told to end"),
        "{first:?}"
    );
    assert!(server.exit_status().success(), "it drains");
}

/// What cannot be handed over is said before anything is begun.
#[test]
fn an_upgrade_that_cannot_be_is_refused_with_its_cause() {
    let server = patient(1).set("handover.state_max_bytes", 1 << 20).start();
    let mut clients = two(&server);
    for at in 0..3 {
        let mut client = server.quiet_peer(&format!("large {at}"));
        client.subscribe("large");
    }
    goes_on(&mut clients);
    let refused = ringmesh()
        .args(["upgrade", "--admin-url", "http://127.0.0.1:1"])
        .env("RINGMESH_ADMIN_TOKEN", "t")
        .output();
    check_failure(&refused.unwrap(), 3, "127.0.0.1:1");
    let read_only = server.admin().call("GET", UPGRADE, None);
    assert_eq!(read_only.status, 405);

    let server = Server::dev();
    let api = crate::support::admin::Api {
        address: server.admin_address(),
        bearer: fs::read_to_string(server.dir().join("ringmesh-data/admin.token"))
            .unwrap()
            .trim()
            .to_owned(),
    };
    let refused = api.call("POST", UPGRADE, None);
    assert_eq!(refused.status, 409);
    assert!(refused.body.contains("ringmesh dev"), "{refused:?}");
    assert!(test_kill_process(server.pid()).is_ok());
}
