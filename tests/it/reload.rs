//! SIGHUP: what can change does, what cannot is named, and what fails is not called reloaded.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::raw::Raw;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::until;

/// The next line that tells how a reload went, behind `seen` of them.
fn outcome(server: &Server, seen: &mut usize) -> Value {
    let mut told = Value::Null;
    until("an outcome", || {
        let outcomes = outcomes(server);
        told = outcomes.get(*seen).cloned().unwrap_or_default();
        !told.is_null()
    });
    *seen += 1;
    told
}

fn events(server: &Server) -> Vec<Value> {
    let lines = server.log.so_far();
    lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn outcomes(server: &Server) -> Vec<Value> {
    let is_outcome = |event: &Value| {
        let message = event["message"].as_str().unwrap_or_default();
        message == "reloaded"
            || message.contains("not reloaded")
            || message.contains("nothing was reloaded")
    };
    events(server).into_iter().filter(is_outcome).collect()
}

fn reload(server: &mut Server, seen: &mut usize, change: impl FnOnce(Setup) -> Setup) -> Value {
    server.reconfigure(change);
    server.signal(Signal::HUP);
    outcome(server, seen)
}

fn welcome_size(server: &Server) -> u64 {
    let welcome: Value = serde_json::from_str(&server.anonymous().welcome).unwrap();
    welcome["maxMessageSize"].as_u64().unwrap()
}

#[test]
fn limits_and_rates_change_for_live_connections_too() {
    let mut server = Setup::new(2).start();
    let mut seen = 0;
    let mut live = server.anonymous();
    live.subscribe_for_presence("before");
    let told = reload(&mut server, &mut seen, |setup| {
        setup
            .set("limits.message_bytes", 1_000)
            .set("limits.channels_per_connection", 1)
            .set("auth.reject_with", r#""close""#)
            .set("rest.rate_per_key", 1)
            .set("rest.burst_per_key", 1)
    });
    assert_eq!(
        (&told["message"], &told["level"]),
        (&"reloaded".into(), &"INFO".into())
    );
    assert_eq!(
        told["changed"],
        "auth.reject_with,rest.rate_per_key,rest.burst_per_key,limits.message_bytes,\
         limits.channels_per_connection"
    );
    assert_eq!(welcome_size(&server), 1_000);
    live.ask_refused(
        serde_json::json!({"type": "subscribe", "channel": "one too many"}),
        "channel_limit_exceeded",
    );
    assert_eq!(server.attempt("/v1?key=wrong", "").status, 101);
    let rest = crate::support::admin::Api {
        address: server.public,
        bearer: "sk_id_a:".to_owned() + crate::support::token::SECRET,
    };
    let status = |_| rest.call("GET", "/v1/usage", None).status;
    assert_eq!(
        (0..3).map(status).filter(|status| *status == 429).count(),
        2
    );
    // The live connection is measured by the new rate.
    reload(&mut server, &mut seen, |setup| {
        setup
            .set("limits.message_rate", 1)
            .set("limits.message_burst", 2)
    });
    for _ in 0..4 {
        live.send(r#"{"type":"publish","channel":"before","data":1}"#);
    }
    live.read_until_close(4011);
}

#[test]
fn shorter_times_hold_for_connections_that_are_silent_already() {
    let mut server = Setup::new(2).start();
    let mut silent: Vec<Raw> = (0..4)
        .map(|_| {
            let mut raw = server.raw();
            raw.write(crate::support::raw::handshake("/v1?key=pk_live_a", ""));
            assert_eq!(raw.response().status, 101);
            raw.frame();
            raw
        })
        .collect();
    reload(&mut server, &mut 0, |setup| {
        setup
            .set("limits.ping_after_ms", 100)
            .set("limits.drop_after_ms", 1_100)
    });
    for raw in &mut silent {
        assert_eq!(raw.frame().0, 9, "a ping, within the patience of a test");
        raw.ends();
    }
}

#[test]
fn what_needs_a_restart_is_named_each_time() {
    let mut server = Setup::new(2).start();
    let mut seen = 0;
    let public = server.public;
    reload(&mut server, &mut seen, |setup| {
        setup
            .set("server.listen", r#"["127.0.0.1:1"]"#)
            .set("server.shards", 3)
            .set("store.data_dir", r#""elsewhere""#)
            .set("limits.message_bytes", 2_000)
    });
    let warned = |server: &Server| {
        let events = events(server);
        let keys = events.iter().filter(|event| {
            event["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("these settings need a restart"))
        });
        keys.map(|event| event["keys"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let all = "server.listen,server.shards,store.data_dir";
    assert_eq!(warned(&server), [all]);
    assert_eq!(server.public, public);
    assert_eq!(welcome_size(&server), 2_000);
    // They are told again as long as they differ from what holds, and not when they no longer do.
    let told = reload(&mut server, &mut seen, |setup| {
        setup.set("server.shards", 2)
    });
    assert_eq!(told["changed"], "");
    assert_eq!(warned(&server), [all, "server.listen,store.data_dir"]);
}

#[test]
fn a_bad_file_changes_nothing() {
    let mut server = Setup::new(1).start();
    let mut seen = 0;
    let told = reload(&mut server, &mut seen, |setup| {
        setup
            .set("limits.message_bytes", 3_000)
            .set("limits.ping_after_ms", 75_000)
    });
    assert_eq!(told["level"], "ERROR");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("limits.ping_after_ms"), "{message}");
    assert_eq!(welcome_size(&server), 65_536);
    let told = reload(&mut server, &mut seen, |setup| {
        setup.set("limits.ping_after_ms", 20_000)
    });
    assert_eq!(told["changed"], "limits.message_bytes,limits.ping_after_ms");
    assert_eq!(welcome_size(&server), 3_000);
}

#[test]
fn a_variable_goes_before_the_file_again() {
    let setup = Setup::new(1);
    let mut command = ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    command.env("RINGMESH_LIMITS__MESSAGE_BYTES", "4000");
    let mut server = Server::start(command, setup);
    assert_eq!(welcome_size(&server), 4_000);
    let told = reload(&mut server, &mut 0, |setup| {
        setup
            .set("limits.message_bytes", 5_000)
            .set("limits.message_rate", 9)
    });
    assert_eq!(told["changed"], "limits.message_rate");
    assert_eq!(welcome_size(&server), 4_000);
}

#[test]
fn the_log_and_trusted_proxies_change() {
    let mut server = Setup::new(1).set("limits.connects_per_address", 1).start();
    let from = |server: &Server, client: &str| {
        let header = format!("X-Forwarded-For: {client}\r\n");
        server.attempt("/v1?key=wrong", &header).status
    };
    assert_eq!(from(&server, "203.0.113.1"), 401);
    assert_eq!(from(&server, "203.0.113.2"), 429);
    reload(&mut server, &mut 0, |setup| {
        setup
            .set("server.trusted_proxies", r#"["127.0.0.1/32"]"#)
            .set("server.proxy_protocol", false)
    });
    assert_eq!(from(&server, "203.0.113.2"), 401);
    assert_eq!(from(&server, "203.0.113.3"), 401);
    server.reconfigure(|setup| {
        let setup = setup
            .set("log.format", r#""text""#)
            .set("log.level", r#""info""#);
        setup.set("server.proxy_protocol", true)
    });
    server.signal(Signal::HUP);
    server.log.find("a line of text", |line| {
        line.contains(" INFO reloaded changed=server.proxy_protocol,log.level,log.format")
            .then_some(())
    });
    let mut raw = server.raw();
    raw.write("PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(raw.response().status, 200);
}

#[test]
fn a_developer_stops_it_at_once() {
    let setup = Setup::new(1);
    let mut command = ringmesh();
    command.current_dir(setup.dir());
    command.args([
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--shards",
        "2",
    ]);
    command.env("RINGMESH_LOG__FORMAT", "json");
    let mut server = Server::start(command, setup);
    let key = server.output.find("a key", |line| {
        line.split_whitespace()
            .find(|word| word.starts_with("pk_live_"))
            .map(str::to_owned)
    });
    // Browsers cannot read a 401, but the code of a close.
    let mut refused = server.raw();
    refused.write(crate::support::raw::handshake("/v1?key=pk_live_wrong", ""));
    assert_eq!(refused.response().status, 101);
    let (opcode, payload) = refused.frame();
    assert_eq!((opcode, &payload[..2]), (8, &4_001_u16.to_be_bytes()[..]));
    // Neither idle requests nor WebSockets that do not answer hold it up. In production they are
    // waited for: such a server is told first, and is there when this one has ended.
    let mut patient = Setup::new(2).set("shutdown.drain_ms", 0).start();
    let silent = [silent(&patient, "pk_live_a"), silent(&server, &key)];
    let idle = Raw::open(server.admin_address());
    patient.signal(Signal::INT);
    server.signal(Signal::INT);
    assert!(server.exit_status().success());
    assert!(patient.is_running(), "the close handshakes were waited for");
    drop((silent, idle));
}

/// WebSockets that answer nothing.
fn silent(server: &Server, key: &str) -> Vec<Raw> {
    let open = |_| {
        let mut raw = server.raw();
        let head = crate::support::raw::handshake(&format!("/v1?key={key}"), "");
        raw.write(head);
        assert_eq!(raw.response().status, 101);
        raw
    };
    (0..20).map(open).collect()
}
