//! A shard that is silent: its thread waits in a call of the kernel, as on a machine that has
//! stopped it. The others go on, and say what they waited for.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::{Value, json};

use crate::causes::{Caused, check_found, found};
use crate::support::admin::Api;
use crate::support::raw::{Raw, handshake, text_frame};
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::syscalls::{Syscalls, Verdict};
use crate::support::token::token;
use crate::support::until;

const A: &str = "/api/internal/v1";

/// What is provoked here.
pub(crate) const CAUSES: &[Caused] = &[
    ("held", "joins"),
    ("refused", "gone"),
    ("error", "backend_error"),
];

/// Time for an answer of another shard, and more.
const SILENCE_MAX: Duration = Duration::from_secs(60);

struct Scene {
    server: Server,
    syscalls: Syscalls,
    /// Connections of the shard that goes on.
    live: Vec<Raw>,
    /// One of the other.
    other: Raw,
    /// The thread of the other shard.
    thread: u32,
}

/// The thread of a shard.
fn thread_of(pid: Pid, name: &str) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let found = tasks.find(|task| {
        let comm = fs::read_to_string(task.join("comm")).unwrap_or_default();
        comm.trim() == name
    });
    let found = found.unwrap_or_else(|| panic!("no thread {name}"));
    found
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// The shard of a connection.
fn shard_of(api: &Api, peer: &str) -> u64 {
    let mut shard = None;
    until("its opening", || {
        let found = api.get(&format!("{A}/events?kind=opened&peer={peer}"));
        shard = found["events"][0]["shard"].as_u64();
        shard.is_some()
    });
    shard.unwrap()
}

impl Scene {
    fn start() -> Self {
        let setup = Setup::new(2).set("limits.message_bytes", 65_536);
        let mut command = ringmesh();
        command.arg("serve").arg("--config").arg(setup.config());
        let syscalls = Syscalls::of(&mut command, &[libc::SYS_io_uring_enter]);
        let server = Server::start(command, setup);
        let thread = thread_of(server.pid(), "shard-1");
        let api = server.admin();
        let (mut live, mut others) = (Vec::new(), Vec::new());
        let mut number = 0;
        while live.len() < 6 || others.is_empty() {
            let peer = format!("p{number}");
            number += 1;
            let mut raw = server.raw();
            let token = token("sk_id_a", json!({"sub": peer}));
            raw.write(handshake(&format!("/v1?token={token}"), ""));
            assert_eq!(raw.response().status, 101);
            assert_eq!(raw.frame().0, 1);
            match shard_of(&api, &peer) {
                0 => live.push(raw),
                _ => others.push(raw),
            }
        }
        let other = others.remove(0);
        Self {
            server,
            syscalls,
            live,
            other,
            thread,
        }
    }

    /// From now on the other shard is silent.
    fn silence(&mut self) {
        let silent = self.thread;
        self.syscalls
            .judge(move |call| match call.thread == silent {
                true => Verdict::Hold,
                false => Verdict::Pass,
            });
        // It sleeps in a call that was judged before: that has to come to its end.
        self.other.write(text_frame(r#"{"type":"ping"}"#));
        until("the shard is held", || self.syscalls.held() > 0);
    }
}

#[test]
fn a_shard_that_is_silent_for_a_while_holds_others_back_and_they_go_on() {
    let mut scene = Scene::start();
    let api = scene.server.admin();
    scene.silence();
    for (at, raw) in scene.live.iter_mut().enumerate() {
        for number in 0..6 {
            // About half are owned by the other shard; the second waits for the first.
            let channel = format!("c{at}-{number}");
            let subscribe = json!({"type": "subscribe", "channel": channel, "requestId": "1"});
            raw.write(text_frame(&subscribe.to_string()).repeat(2));
        }
    }
    // What is held back for longer than 100 ms is told of.
    std::thread::sleep(Duration::from_millis(500));
    scene.syscalls.let_go();
    check_found(&api, CAUSES[0]);
    let held = found(&api, CAUSES[0]);
    assert!(held["heldMs"].as_u64() > Some(100), "{held}");
}

#[test]
fn what_a_silent_shard_does_not_answer_ends_with_its_cause() {
    let mut scene = Scene::start();
    let api = scene.server.admin();
    scene.silence();
    let publishers = std::mem::take(&mut scene.live);
    for (at, mut raw) in publishers.into_iter().enumerate() {
        for number in 0..4 {
            let channel = format!("d{at}-{number}");
            let publish = json!({"type": "publish", "channel": channel, "data": 1,
                "requestId": "1"});
            raw.write(text_frame(&publish.to_string()));
        }
        scene.live.push(raw);
    }
    // Of these some come to the shard that goes on, and their peers are the other's.
    let strangers: Vec<_> = (0..24)
        .map(|number| {
            let mut raw = scene.server.raw();
            let token = token("sk_id_a", json!({"sub": format!("new{number}")}));
            raw.write(handshake(&format!("/v1?token={token}"), ""));
            raw
        })
        .collect();
    let start = Instant::now();
    let is_missing = |(kind, cause): &Caused| {
        let name = if *kind == "error" { "code" } else { "cause" };
        let found = api.get(&format!("{A}/events?kind={kind}&{name}={cause}"));
        found["events"] == json!([] as [Value; 0])
    };
    let mut missing = CAUSES[1..].to_vec();
    while !missing.is_empty() {
        missing.retain(is_missing);
        assert!(start.elapsed() < SILENCE_MAX, "not {missing:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    for caused in &CAUSES[1..] {
        check_found(&api, *caused);
    }
    drop(strangers);
}
