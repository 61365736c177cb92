//! Channels whose history is on disk: a restart goes on with what was published, and what was
//! acked when it was stored survives a kill.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::client::Client;
use crate::support::command::check_failure;
use crate::support::raw::Response;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::{ALL_ACTIONS, Setup, key, signer};
use crate::support::syscalls::{Syscalls, Verdict};
use crate::support::token::SECRET;
use crate::support::until;

const RULE: &str = r#"history = [{ pattern = "d/**", messages = 5000, store = "disk" }]"#;

fn setup(rule: &str) -> Setup {
    let signer = signer("sk_id_a") + "api_secret_file = \"api.secret\"\n";
    let keys = [key("pk_live_a", &["**"], ALL_ACTIONS), signer];
    Setup::new(2)
        .no_apps()
        .set("history.ack", r#""stored""#)
        .set("history.replay_messages", 5_000)
        .app(&format!("app_a\n{rule}"), &keys)
}

/// Sends a command and returns the answer to it; `None` if the server is gone.
fn attempt(client: &mut Client, mut command: Value) -> Option<Value> {
    command["requestId"] = json!("1");
    client.try_send(command.to_string())?;
    loop {
        let message: Value = serde_json::from_str(&client.try_next()?).unwrap();
        if message["requestId"] == "1" {
            return Some(message);
        }
    }
}

#[track_caller]
fn ask(client: &mut Client, command: Value) -> Value {
    attempt(client, command).unwrap()
}

fn publication(channel: &str, data: u64) -> Value {
    json!({
        "type": "publish", "channel": channel, "data": data, "id": format!("m-{data}"),
        "position": true,
    })
}

/// All that a channel keeps, and how the ack of the subscription told of it.
#[track_caller]
fn kept(server: &Server, channel: &str, since: &Value) -> (Value, Vec<Value>) {
    let mut reader = server.quiet_peer("reader");
    let ack = ask(
        &mut reader,
        json!({"type": "subscribe", "channel": channel, "since": since}),
    );
    let count = ack["count"].as_u64().unwrap();
    let messages = (0..count).map(|_| serde_json::from_str(&reader.next()).unwrap());
    (ack, messages.collect())
}

fn segments(server: &Server) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(server.dir().join("data/history")) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Ends the server in order and starts it again.
fn restart(mut server: Server) -> Server {
    server.signal(Signal::TERM);
    server.exit_status();
    server.into_setup().start()
}

#[test]
fn a_restart_goes_on_in_the_same_epoch() {
    let server = setup(RULE).start();
    let mut ann = server.quiet_peer("ann");
    let channels: Vec<String> = (0..4).map(|at| format!("d/{at}")).collect();
    let mut acks = Vec::new();
    for channel in &channels {
        for data in 1..=20 {
            acks.push(ask(&mut ann, publication(channel, data)));
        }
    }
    let server = restart(server);
    let mut ann = server.quiet_peer("ann");
    for (channel, acks) in channels.iter().zip(acks.chunks(20)) {
        let epoch = &acks[0]["epoch"];
        let (ack, messages) = kept(&server, channel, &json!({"epoch": epoch, "seq": 5}));
        let told = (&ack["recovered"], &ack["seq"], &ack["epoch"]);
        assert_eq!(told, (&json!(true), &json!(20), epoch));
        for (message, seq) in messages.iter().zip(6..=20) {
            let expected = json!({
                "type": "message", "channel": channel, "from": "ann", "data": seq, "seq": seq,
            });
            assert_eq!(*message, expected);
        }
        assert_eq!(messages.len(), 15);
        let again = ask(&mut ann, publication(channel, 20));
        let told = (&again["seq"], &again["duplicate"]);
        assert_eq!(told, (&json!(20), &json!(true)));
        let next = ask(&mut ann, publication(channel, 21));
        assert_eq!((&next["seq"], &next["epoch"]), (&json!(21), epoch));
    }
}

#[test]
fn what_was_acked_survives_a_kill() {
    let mut server = setup(RULE).start();
    let acked = AtomicU64::new(0);
    let (epoch, last) = thread::scope(|scope| {
        let (server, acked) = (&mut server, &acked);
        let mut ann = server.quiet_peer("ann");
        let writer = scope.spawn(move || {
            let (mut epoch, mut last) = (Value::Null, 0);
            for data in 1..=4_000 {
                let Some(ack) = attempt(&mut ann, publication("d/1", data)) else {
                    break;
                };
                assert_eq!(ack["seq"], data);
                epoch = ack["epoch"].clone();
                last = data;
                acked.store(data, Ordering::Relaxed);
            }
            (epoch, last)
        });
        while acked.load(Ordering::Relaxed) < 200 {
            thread::yield_now();
        }
        server.kill_and_restart();
        writer.join().unwrap()
    });
    // The numbers go on; the epoch is another one, of which the old one is the beginning.
    let (ack, messages) = kept(&server, "d/1", &json!({"epoch": epoch, "seq": 0}));
    assert_eq!(ack["recovered"], true);
    assert_ne!(ack["epoch"], epoch);
    let data: Vec<u64> = messages
        .iter()
        .map(|it| it["data"].as_u64().unwrap())
        .collect();
    let count = data.len() as u64;
    assert_eq!(data, (1..=count).collect::<Vec<_>>());
    assert!(
        (last..=last + 1).contains(&count),
        "{count} after {last} were acked"
    );
    let again = ask(&mut server.quiet_peer("ann"), publication("d/1", last));
    assert_eq!(
        (&again["seq"], &again["duplicate"]),
        (&json!(last), &json!(true))
    );
}

#[test]
fn what_is_forgotten_stays_forgotten() {
    let server = setup(RULE).start();
    let mut ann = server.quiet_peer("ann");
    let first = (1..=5).map(|data| ask(&mut ann, publication("d/1", data)));
    let epoch = first.last().unwrap()["epoch"].clone();
    let api = Api {
        address: server.public,
        bearer: format!("sk_id_a:{SECRET}"),
    };
    let deleted = api.call("DELETE", "/v1/channels/d/1/history", None).json();
    assert_eq!(deleted["deleted"], 5);
    let server = restart(server);
    let (ack, messages) = kept(&server, "d/1", &json!({"epoch": epoch, "seq": 3}));
    assert_eq!((&ack["recovered"], messages.len()), (&json!(false), 0));
    let next = ask(&mut server.quiet_peer("ann"), publication("d/1", 1));
    assert_eq!((&next["seq"], next.get("duplicate")), (&json!(1), None));
    assert_ne!(next["epoch"], epoch);
}

#[test]
fn a_history_is_forgotten_when_the_disk_has_that() {
    let setup = setup(RULE)
        .set("history.fsync", r#""turn""#)
        .set("store.data_dir", r#""ringmesh-data""#);
    let mut command = ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    let syscalls = Syscalls::of(&mut command, &[libc::SYS_fdatasync]);
    let mut server = Server::start(command, setup);
    let mut ann = server.quiet_peer("ann");
    for data in 1..=5 {
        ask(&mut ann, publication("d/1", data));
    }
    let api = Api {
        address: server.public,
        bearer: format!("sk_id_a:{SECRET}"),
    };
    let backend = move || api.call("DELETE", "/v1/channels/d/1/history", None);
    let token = fs::read_to_string(server.dir().join("ringmesh-data/admin.token")).unwrap();
    let admin = Api {
        address: server.admin_address(),
        bearer: token.trim().to_owned(),
    };
    let path = "/api/internal/v1/apps/app_a/channel/history?name=d/1";
    let operator = move || admin.call("DELETE", path, None);
    let forgets: [&dyn Fn() -> Response; 2] = [&backend, &operator];
    syscalls.judge(|_| Verdict::Fail(Errno::IO));
    for forget in forgets {
        let refused = forget();
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.body.contains("delete it again"), "{refused:?}");
    }
    let output = ringmesh()
        .args(["history", "d/1", "--app", "app_a", "--forget", "--yes"])
        .current_dir(server.dir())
        .output()
        .unwrap();
    check_failure(&output, 1, "delete it again");
    syscalls.pass();
    for forget in forgets {
        until("the disk takes it", || forget().status == 200);
    }
    server.kill_and_restart();
    let (ack, messages) = kept(&server, "d/1", &json!({"last": 5}));
    assert_eq!((&ack["seq"], messages.len()), (&json!(0), 0), "{ack}");
}

#[test]
fn damaged_segments_are_cut_and_never_guessed() {
    let mut server = setup(RULE).start();
    let mut ann = server.quiet_peer("ann");
    for data in 1..=50 {
        ask(&mut ann, publication("d/1", data));
    }
    // Some bits of all files, at places that differ from round to round.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..6 {
        server.signal(Signal::TERM);
        server.exit_status();
        for path in segments(&server) {
            flip_a_bit(&path, &mut random);
        }
        server = server.into_setup().start();
        let (ack, messages) = kept(&server, "d/1", &json!({"last": 5_000}));
        let last = ack["seq"].as_u64().unwrap();
        for (message, place) in messages.iter().rev().zip(0..) {
            assert_eq!(message["seq"], last - place, "a gap");
        }
        let next = ask(
            &mut server.quiet_peer("ann"),
            publication("d/1", 1_000 + last),
        );
        assert_eq!(next["seq"], last + 1);
    }
}

fn flip_a_bit(path: &Path, random: &mut u64) {
    /// A damaged header may be one of another version, which is refused.
    const HEADER_BYTES: usize = 64;
    let mut bytes = fs::read(path).unwrap();
    if bytes.len() <= HEADER_BYTES {
        return;
    }
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let at = HEADER_BYTES + (*random >> 8) as usize % (bytes.len() - HEADER_BYTES);
    bytes[at] ^= 1 << (*random & 7);
    fs::write(path, bytes).unwrap();
}

#[test]
fn without_a_rule_there_is_neither_a_directory_nor_a_thread() {
    let server = setup(r#"history = [{ pattern = "d/**" }]"#).start();
    let mut ann = server.quiet_peer("ann");
    ask(&mut ann, publication("d/1", 1));
    assert!(!server.dir().join("data/history").exists());
    assert!(!threads(&server).contains(&"history".to_owned()));
    // The first rule that needs them has them made.
    let rule = json!([{"pattern": "d/**", "store": "disk"}]);
    server.admin().create(
        "/api/internal/v1/apps",
        &json!({"appId": "app_m", "history": rule}),
    );
    until("a thread writes", || {
        threads(&server).contains(&"history".to_owned())
    });
    assert!(!segments(&server).is_empty());
}

fn threads(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid().as_raw_nonzero())).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}
