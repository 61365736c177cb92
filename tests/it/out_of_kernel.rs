//! A kernel that has run out of descriptors, buffers or memory: accepting pauses and goes on, the
//! log says so, and nobody who is there is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use serde_json::json;

use crate::support::raw::handshake;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::syscalls::{Syscalls, Verdict};
use crate::support::until;

fn start(shards: u16, numbers: &[i64]) -> (Server, Syscalls) {
    let setup = Setup::new(shards);
    let mut command = ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    let syscalls = Syscalls::of(&mut command, numbers);
    (Server::start(command, setup), syscalls)
}

/// Lets every call fail. Returns how many have.
fn fail(syscalls: &Syscalls, number: i64, error: Errno) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let failed = Arc::clone(&count);
    syscalls.judge(move |call| {
        if call.number != number {
            return Verdict::Pass;
        }
        failed.fetch_add(1, Ordering::SeqCst);
        Verdict::Fail(error)
    });
    count
}

#[test]
fn who_cannot_be_accepted_waits_and_who_is_there_stays() {
    // The admin listener accepts with the same call, by itself.
    let (server, syscalls) = start(2, &[libc::SYS_accept4]);
    let (mut sender, mut member) = (server.quiet_peer("a"), server.quiet_peer("b"));
    member.subscribe("room");
    for error in [Errno::NFILE, Errno::MFILE, Errno::NOBUFS, Errno::NOMEM] {
        let failed = fail(&syscalls, libc::SYS_accept4, error);
        let mut waiting: Vec<_> = (0..8)
            .map(|_| {
                let mut client = server.raw();
                client.write(handshake("/v1?key=pk_live_a", ""));
                client
            })
            .collect();
        until("it is tried again and again", || {
            failed.load(Ordering::SeqCst) > 6
        });
        sender.publish("room", json!(1));
        assert!(member.next().contains(r#""data":1"#));
        syscalls.pass();
        for client in &mut waiting {
            assert_eq!(client.response().status, 101, "{error:?}");
        }
        member.expect_nothing_queued();
    }
    let page = server.admin().call("GET", "/metrics", None).body;
    let pauses = page
        .lines()
        .filter(|line| line.starts_with("ringmesh_accept_pauses_total{"))
        .filter(|line| line.contains(r#"cause="error""#))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap());
    assert!(pauses.sum::<u32>() > 6, "{page}");
    let told = server.log.find("the warning", |line| {
        line.contains("cannot accept connections")
            .then(|| line.to_owned())
    });
    assert!(told.contains("WARN"), "{told}");
}

#[test]
fn a_ring_that_the_kernel_has_no_memory_for_is_asked_again() {
    let (server, syscalls) = start(2, &[libc::SYS_io_uring_enter]);
    let mut sender = server.quiet_peer("sender");
    let mut members: Vec<_> = (0..40)
        .map(|at| server.quiet_peer(&format!("{at}")))
        .collect();
    for member in &mut members {
        member.subscribe("room");
    }
    for error in [Errno::NOMEM, Errno::AGAIN, Errno::BUSY, Errno::INTR] {
        let failed = fail(&syscalls, libc::SYS_io_uring_enter, error);
        let asked = sender.request(json!({"type": "publish", "channel": "room", "data": 1}));
        let mut new = server.raw();
        new.write(handshake("/v1?key=pk_live_a", ""));
        until("it is tried again and again", || {
            failed.load(Ordering::SeqCst) > 50
        });
        syscalls.pass();
        sender.expect(&format!(r#"{{"type":"ack","requestId":"{asked}"}}"#));
        for member in &mut members {
            assert!(member.next().contains(r#""data":1"#), "{error:?}");
            member.expect_nothing_queued();
        }
        assert_eq!(new.response().status, 101, "{error:?}");
    }
    server.log.find("the warning", |line| {
        line.contains("the kernel has no memory").then_some(())
    });
}

#[test]
fn a_start_without_memory_for_the_rings_is_one_line() {
    let setup = Setup::new(1);
    let mut command = ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    let syscalls = Syscalls::of(&mut command, &[libc::SYS_io_uring_setup]);
    syscalls.judge(|_| Verdict::Fail(Errno::NOMEM));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    for part in ["no memory for io_uring", "LimitMEMLOCK"] {
        assert!(said.contains(part), "{said}");
    }
}
