//! Upgrades: another process goes on with everything, and nobody notices.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Signal, test_kill_process};
use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::client::Client;
use crate::support::command::told;
use crate::support::raw::{Raw, handshake, text_frame};
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::token::{SECRET, token};
use crate::support::{on_shards, own_port, until};

/// The test's machine may be busy: how long a pause is, is no part of these tests.
pub(crate) fn patient(shards: u16) -> Setup {
    Setup::new(shards)
        .set("handover.prepare_ms", 60_000)
        .set("handover.pause_max_ms", 60_000)
}

#[test]
fn connections_go_on_in_another_process() {
    on_shards(|shards| {
        let mut server = patient(shards).start();
        let mut alice = server.peer("alice");
        let mut bob = server.quiet_peer("bob");
        alice.subscribe_for_presence("room");
        bob.subscribe("room");
        alice.next();
        let before = server.pid();
        let done = server.upgrade();
        assert_eq!(
            (&done["outcome"], &done["connections"]),
            (&json!("done"), &json!(2))
        );
        assert_ne!(server.pid(), before);
        bob.publish("room", json!({"n": 1}));
        assert_eq!(data(&alice.next())["n"], 1);
        alice.publish("room", json!({"n": 2}));
        assert_eq!(data(&bob.next())["n"], 2);
        let mut carol = server.peer("carol");
        assert_eq!(carol.subscribe_for_presence("room").len(), 2);
        assert!(alice.next().contains("carol"));
        assert!(server.exit_status().success());
    });
}

fn data(text: &str) -> Value {
    let event: Value = serde_json::from_str(text).unwrap();
    assert!(
        event["type"] == "message" || event["type"] == "direct",
        "{text}"
    );
    event["data"].clone()
}

/// How many descriptors the server has open, that of the question included.
fn descriptors(server: &Server) -> u64 {
    let page = server.admin().call("GET", "/metrics", None).body;
    let lines = page.lines();
    let mut counts = lines.filter_map(|line| line.strip_prefix("ringmesh_process_open_fds "));
    counts.next().unwrap().parse().unwrap()
}

/// What goes on while a server is upgraded, until that is over.
struct Load<'l> {
    public: SocketAddr,
    is_over: &'l AtomicBool,
}

impl Load<'_> {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Publishes numbers into a channel, each once the one before was acked. Returns how many.
    fn publish(&self, channel: &str, mut client: Client) -> u64 {
        let mut number = 0;
        while self.goes_on() || number < 20 {
            client.publish(channel, json!(number));
            number += 1;
        }
        client.publish(channel, json!("end"));
        number
    }

    /// Reads the numbers of a channel: all of them, in order, once. Returns how many.
    fn read(&self, mut client: Client) -> u64 {
        for number in 0.. {
            match data(&client.next()) {
                Value::String(end) if end == "end" => return number,
                found => assert_eq!(found, number),
            }
        }
        0
    }

    /// The same by direct messages between two.
    fn send(&self, mut from: Client, mut to: Client) -> u64 {
        let mut number = 0;
        while self.goes_on() || number < 20 {
            from.ask(json!({"type": "send", "to": to.peer_id, "data": number}));
            assert_eq!(data(&to.next()), number);
            number += 1;
        }
        number
    }

    /// Publishes numbers with REST. Returns how many.
    fn publish_by_rest(&self, channel: &str) -> u64 {
        let api = Api {
            address: self.public,
            bearer: format!("sk_id_a:{SECRET}"),
        };
        let path = format!("/v1/channels/{channel}/publish");
        let mut number = 0;
        while self.goes_on() || number < 20 {
            api.done(200, "POST", &path, Some(&json!({"data": number})));
            number += 1;
        }
        api.done(200, "POST", &path, Some(&json!({"data": "end"})));
        number
    }

    /// Connects, joins and leaves, again and again.
    fn come_and_go(&self) -> u64 {
        let mut number = 0;
        while self.goes_on() || number < 20 {
            let claims = json!({"sub": "guest", "permissions": ["subscribe"]});
            let query = format!("?token={}", token("sk_id_a", claims));
            let mut client = Client::connect(self.public, &query, &[]);
            client.subscribe("lobby");
            client.close(Some(1000));
            number += 1;
        }
        number
    }
}

/// Nothing is lost, doubled, reordered or told, whatever the number of shards becomes.
#[test]
fn ten_upgrades_in_a_row_under_load_are_noticed_by_nobody() {
    const UPGRADES: u16 = 10;
    let mut server = patient(1).start();
    let mut watchers: Vec<_> = (0..3)
        .map(|at| server.peer(&format!("watcher {at}")))
        .collect();
    for watcher in &mut watchers {
        watcher.subscribe_for_presence("watched");
    }
    let mut silent = server.peer("silent");
    silent.subscribe_for_presence("watched");
    for (at, watcher) in watchers.iter_mut().enumerate() {
        let others = (at + 1..4).map(|_| watcher.next()).collect::<Vec<_>>();
        assert!(others.iter().all(|it| it.contains("joined")), "{others:?}");
    }
    let is_over = AtomicBool::new(false);
    let first = descriptors(&server);
    let reader = |server: &Server, channel: &str| {
        let mut client = server.quiet_peer(&format!("reader of {channel}"));
        client.subscribe(channel);
        client
    };
    let (one, two) = (reader(&server, "one"), reader(&server, "two"));
    let rest = reader(&server, "rest");
    let publishers = ["a", "b"].map(|id| server.quiet_peer(id));
    let pair = (server.quiet_peer("from"), server.quiet_peer("to"));
    let load = &Load {
        public: server.public,
        is_over: &is_over,
    };
    let counts = thread::scope(|scope| {
        let [first, second] = publishers;
        let tasks: Vec<thread::ScopedJoinHandle<'_, u64>> = vec![
            scope.spawn(move || load.publish("one", first)),
            scope.spawn(move || load.publish("two", second)),
            scope.spawn(move || load.publish_by_rest("rest")),
            scope.spawn(move || load.read(one)),
            scope.spawn(move || load.read(two)),
            scope.spawn(move || load.read(rest)),
            scope.spawn(move || load.send(pair.0, pair.1)),
            scope.spawn(move || load.come_and_go()),
        ];
        let stop = StopAtEnd(&is_over);
        for number in 0..UPGRADES {
            server.reconfigure(|setup| setup.set("server.shards", 1 + (number + 1) % 2));
            server.upgrade();
        }
        drop(stop);
        let counts: Vec<u64> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
        counts
    });
    assert_eq!(counts[..3], counts[3..6]);
    for watcher in &mut watchers {
        watcher.expect_nothing_queued();
    }
    silent.publish("watched", json!("still here"));
    assert_eq!(data(&watchers[0].next()), "still here");
    check_the_rest(&server, &counts, first);
}

/// What was counted, and what the last process has open.
fn check_the_rest(server: &Server, counts: &[u64], first: u64) {
    let messages = counts[..3].iter().sum::<u64>() + 3 + counts[6] + 1;
    let usage = "/api/internal/v1/apps/app_a/usage";
    until("usage is merged", || {
        server.admin().get(usage)["messagesUsed"] == messages
    });
    // The readers and publishers are gone: what is left is as in the first process.
    until(
        "as many descriptors are open as in the first process",
        || descriptors(server) == first,
    );
    let page = server.admin().call("GET", "/metrics", None).body;
    for line in [
        "ringmesh_generation 10",
        "ringmesh_handovers_total{outcome=\"done\"} 10",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

/// Ends the load, however the upgrades go.
struct StopAtEnd<'s>(&'s AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a client has begun goes on in the middle: a frame, a request, a proxy's header.
#[test]
fn what_is_half_said_is_said_to_its_end() {
    let mut server = patient(2).start();
    let mut half = server.raw();
    half.write(handshake("/v1?key=pk_live_a", ""));
    assert_eq!(half.response().status, 101);
    half.frame();
    let frame = text_frame(r#"{"type":"ping","requestId":"a"}"#);
    half.write(&frame[..frame.len() / 2]);
    let head = handshake("/v1?key=pk_live_a", "");
    let mut request = server.raw();
    request.write(&head[..head.len() / 2]);
    server.upgrade();
    half.write(&frame[frame.len() / 2..]);
    let (_, pong) = half.frame();
    assert_eq!(pong, br#"{"type":"pong","requestId":"a"}"#);
    request.write(&head[head.len() / 2..]);
    assert_eq!(request.response().status, 101);
}

#[test]
fn a_proxys_header_may_come_in_two_processes() {
    let mut server = patient(1)
        .set("server.proxy_protocol", true)
        .set("server.trusted_proxies", r#"["127.0.0.0/8"]"#)
        .start();
    let mut raw = Raw::open(server.public);
    raw.write("PROXY TCP4 192.0.2.7 192.0.");
    // It has been read when another one has come through.
    let mut other = Raw::open(server.public);
    other.write("PROXY TCP4 192.0.2.8 192.0.2.1 1 2\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(other.response().status, 200);
    server.upgrade();
    raw.write("2.1 1 2\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.response().status, 200);
}

/// An address that was added is served, and one that was taken out is not any more.
#[test]
fn addresses_come_and_go_with_an_upgrade() {
    let ports = [0; 2].map(|_| own_port());
    let both = format!(r#"["127.0.0.1:{}", "127.0.0.1:{}"]"#, ports[0], ports[1]);
    let one = format!(r#"["127.0.0.1:{}"]"#, ports[0]);
    let mut server = patient(2).set("server.listen", &one).start();
    let mut client = server.anonymous();
    server.reconfigure(|setup| setup.set("server.listen", &both));
    server.upgrade();
    let added = (Ipv4Addr::LOCALHOST, ports[1]).into();
    let mut newcomer = Client::connect(added, "?key=pk_live_a", &[]);
    server.reconfigure(|setup| setup.set("server.listen", &one));
    server.upgrade();
    until("nobody listens there", || Raw::try_open(added).is_none());
    client.expect_nothing_queued();
    newcomer.expect_nothing_queued();
}

#[test]
fn a_signal_and_a_command_do_the_same() {
    let mut server = patient(1)
        .set("server.pid_file", r#""ringmesh.pid""#)
        .start();
    let mut client = server.anonymous();
    let file = server.dir().join("ringmesh.pid");
    let pid = || {
        fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse::<i64>()
            .unwrap()
    };
    assert_eq!(pid(), i64::from(server.pid().as_raw_nonzero().get()));
    server.signal(Signal::USR2);
    let done = server.log.find("it was handed over", |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["message"] == "upgrade: handed over").then_some(event)
    });
    server.upgraded(&done);
    client.expect_nothing_queued();
    until("the file has the new process", || {
        json!(pid()) == done["pid"]
    });
    let mut command = ringmesh();
    let admin = server.admin();
    command.args(["upgrade", "--json", "--admin-url"]);
    command.arg(format!("http://{}", admin.address));
    command.env("RINGMESH_ADMIN_TOKEN", &admin.bearer);
    let done: Value = serde_json::from_str(&told(command)).unwrap();
    server.upgraded(&done);
    client.expect_nothing_queued();
    let fields: BTreeSet<_> = done
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = ["connections", "outcome", "pauseMs", "pid", "version"];
    assert_eq!(fields, BTreeSet::from(expected));
}

/// Changes that are made meanwhile are made before, or after, and kept.
#[test]
fn the_new_process_has_the_store() {
    let mut server = patient(1).start();
    let apps = "/api/internal/v1/apps";
    server.admin().create(apps, &json!({"appId": "before"}));
    server.upgrade();
    let admin = server.admin();
    assert_eq!(admin.get(&format!("{apps}/before"))["appId"], "before");
    admin.create(apps, &json!({"appId": "after"}));
    let last = server.pid();
    server.signal(Signal::TERM);
    until("it ends", || test_kill_process(last).is_err());
    let server = server.into_setup().start();
    for app in ["before", "after"] {
        assert_eq!(server.admin().get(&format!("{apps}/{app}"))["appId"], app);
    }
}
